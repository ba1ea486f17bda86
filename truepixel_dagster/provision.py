"""Create what the pipeline needs in its servers: topics, index templates, indexes. A second run changes nothing."""

from __future__ import annotations

from contextlib import suppress

from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.source_log import remember
from truepixel_dagster.stores.documents import OLDER
from truepixel_dagster.stores.errors import NotSetUp
from truepixel_dagster.stores.index_templates import TEMPLATES
from truepixel_dagster.stream.errors import NoTopic
from truepixel_dagster.stream.topics import create_topics


def older_documents(stores: Stores) -> dict[str, int]:
    """Return the number of documents of the data contract's first edition in Elasticsearch, by their template.

    Raises:
        Unavailable: Elasticsearch does not answer.
    """
    found: dict[str, int] = {}
    for name in TEMPLATES:
        # Ignore a closed index: the commands that use it report it.
        with suppress(NotSetUp):
            if count := stores.elasticsearch.count(name, OLDER):
                found[name] = count
    return found


def provision(settings: Settings) -> list[str]:
    """Create what is missing, and update templates, and indices if their documents can stay.

    Returns:
        The changes, in words; empty if there were none.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    with open_stores(settings) as stores:
        changed = [f"Kafka topic {name}" for name in create_topics(settings.kafka())]
        changed += [
            f"Elasticsearch {'template ' if name in TEMPLATES else ''}{name}" for name in stores.elasticsearch.setup()
        ]
        changed += [f"MongoDB index {name}" for name in stores.mongodb.setup()]
        # If the brokers do not know a new topic yet, the first lane stores its identity.
        with suppress(NoTopic):
            remember(settings.kafka(), stores.mongodb)
    return changed
