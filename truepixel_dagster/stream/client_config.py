"""The settings of a Kafka client: address, security, timeouts."""

from __future__ import annotations

import logging
from typing import Any

from truepixel_dagster.settings import Settings

# The largest record that may travel: above the decoder's bound, so that an oversized one can become a dead letter.
MAX_MESSAGE_BYTES = 48 * 1024 * 1024

_log = logging.getLogger("truepixel.kafka")
_log.addHandler(logging.NullHandler())
_log.propagate = False


def client_config(settings: Settings) -> dict[str, Any]:
    """librdkafka's configuration, without what is not set."""
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
