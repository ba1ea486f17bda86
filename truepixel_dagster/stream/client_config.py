"""The configuration of Kafka's clients: address, security, timeouts."""

from __future__ import annotations

import logging
from typing import Any

from confluent_kafka.admin import AdminClient

from truepixel_dagster.access import KafkaAccess
from truepixel_dagster.identity import mistaken
from truepixel_dagster.stream.errors import WrongCluster, calling

# The largest record that Kafka accepts: above the decoder's bound, so that an oversized one can become a dead letter.
MAX_MESSAGE_BYTES = 48 * 1024 * 1024

#: Clusters and the identities that they have shown to this process.
_PROVEN: set[tuple[str, str | None]] = set()

_log = logging.getLogger("truepixel.kafka")
_log.addHandler(logging.NullHandler())
_log.propagate = False


def client_config(kafka: KafkaAccess) -> dict[str, Any]:
    """Return librdkafka's configuration, without options that are not set.

    If the cluster must have a certain identity, ask for it first, once in a process.

    Raises:
        KafkaError: The cluster does not answer, or is another one.
    """
    config = _config(kafka)
    meant = (kafka.bootstrap, kafka.identity)
    if kafka.identity and meant not in _PROVEN:
        found = calling(kafka, lambda: AdminClient(config).list_topics(timeout=kafka.timeout).cluster_id)
        if reason := mistaken(f"Kafka at {kafka.bootstrap}", found, kafka.identity):
            raise WrongCluster(reason)
        _PROVEN.add(meant)
    return config


def _config(kafka: KafkaAccess) -> dict[str, Any]:
    password, key_password = kafka.sasl_password, kafka.ssl_key_password
    config: dict[str, Any] = {
        "bootstrap.servers": kafka.bootstrap,
        "client.id": kafka.namespace,
        "security.protocol": kafka.security_protocol,
        "sasl.mechanism": kafka.sasl_mechanism,
        "sasl.username": kafka.sasl_username,
        "sasl.password": password.get_secret_value() if password else None,
        "ssl.ca.location": kafka.ssl_ca_location,
        "ssl.certificate.location": kafka.ssl_certificate_location,
        "ssl.key.location": kafka.ssl_key_location,
        "ssl.key.password": key_password.get_secret_value() if key_password else None,
        "socket.timeout.ms": int(kafka.timeout * 1000),
        "socket.connection.setup.timeout.ms": int(kafka.timeout * 1000),
        "reconnect.backoff.max.ms": 1000,
        "topic.metadata.refresh.interval.ms": 60_000,
        # Otherwise librdkafka logs to the console at every tick; errors that matter are raised.
        "logger": _log,
    }
    return {name: value for name, value in config.items() if value is not None}
