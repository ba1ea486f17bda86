"""The settings of a Kafka client: address, security, timeouts."""

from __future__ import annotations

import logging
from typing import Any

from confluent_kafka.admin import AdminClient

from truepixel_dagster.identity import mistaken
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.errors import WrongCluster, calling

# The largest record that may travel: above the decoder's bound, so that an oversized one can become a dead letter.
MAX_MESSAGE_BYTES = 48 * 1024 * 1024

#: Clusters and the identities that they have shown to this process.
_PROVEN: set[tuple[str, str | None]] = set()

_log = logging.getLogger("truepixel.kafka")
_log.addHandler(logging.NullHandler())
_log.propagate = False


def client_config(settings: Settings) -> dict[str, Any]:
    """librdkafka's configuration, without what is not set.

    Where the settings say who the servers must be, the cluster is asked first, once in a process.

    Raises:
        KafkaError: It does not answer, or is another one.
    """
    config = _config(settings)
    meant = (settings.kafka_bootstrap, settings.servers_identity)
    if settings.servers_identity and meant not in _PROVEN:
        found = calling(settings, lambda: AdminClient(config).list_topics(timeout=settings.kafka_timeout).cluster_id)
        if reason := mistaken(f"Kafka at {settings.kafka_bootstrap}", found, settings.servers_identity):
            raise WrongCluster(reason)
        _PROVEN.add(meant)
    return config


def _config(settings: Settings) -> dict[str, Any]:
    password, key_password = settings.kafka_sasl_password, settings.kafka_ssl_key_password
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap,
        "client.id": settings.namespace,
        "security.protocol": settings.kafka_security_protocol,
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": password.get_secret_value() if password else None,
        "ssl.ca.location": settings.kafka_ssl_ca_location,
        "ssl.certificate.location": settings.kafka_ssl_certificate_location,
        "ssl.key.location": settings.kafka_ssl_key_location,
        "ssl.key.password": key_password.get_secret_value() if key_password else None,
        "socket.timeout.ms": int(settings.kafka_timeout * 1000),
        "socket.connection.setup.timeout.ms": int(settings.kafka_timeout * 1000),
        "reconnect.backoff.max.ms": 1000,
        "topic.metadata.refresh.interval.ms": 60_000,
        # librdkafka's own lines would go to the console of every tick; what matters is raised.
        "logger": _log,
    }
    return {name: value for name, value in config.items() if value is not None}
