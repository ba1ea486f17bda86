"""Check within seconds that the servers of a command answer: its own calls would be repeated for a minute first."""

from __future__ import annotations

from collections.abc import Sequence

from truepixel_dagster.resources import Stores, missing_servers
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.topics import ping


def check_servers(settings: Settings) -> None:
    """Check Kafka and the stores.

    Raises:
        KafkaError, Unavailable: A server is unreachable or denies access.
    """
    check_kafka(settings)
    check_stores(settings)


def check_kafka(settings: Settings) -> None:
    """Check Kafka.

    Raises:
        KafkaError: It is unreachable or denies access.
    """
    ping(_one_try(settings).kafka())


def check_stores(settings: Settings, names: Sequence[str] = Stores._fields) -> None:
    """Check Elasticsearch, MongoDB and Redis, or some of them.

    Arguments:
        settings: The settings.
        names: The stores that the command needs, by their names in `Stores`.

    Raises:
        Unavailable: A store is unreachable or denies access.
    """
    for error in missing_servers(_one_try(settings), names):
        raise error


def _one_try(settings: Settings) -> Settings:
    return settings.quick_to_give_up().model_copy(update={"retries": 1})
