"""Read the addresses of the local stack from the settings, and make settings with other addresses."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from truepixel_dagster.local.servers import Address, Postgres, StackError
from truepixel_dagster.settings import Settings

POSTGRES_HERE = Address("127.0.0.1", 15432)

# Settings of TLS and credentials: the local servers have neither.
ACCESS = (
    *("kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password"),
    *("kafka_ssl_ca_location", "kafka_ssl_certificate_location", "kafka_ssl_key_location", "kafka_ssl_key_password"),
    *("elasticsearch_api_key", "elasticsearch_username", "elasticsearch_password", "elasticsearch_ca_certs"),
    *("mongodb_username", "mongodb_password", "mongodb_ca_certs"),
    *("redis_username", "redis_password", "redis_ca_certs"),
)


def settings_at(
    settings: Settings,
    kafka: Address,
    elasticsearch: Address,
    mongodb: Address,
    redis: Address,
    postgres: Address | None = None,
) -> Settings:
    """Return the settings with other addresses, without TLS and passwords; without PostgreSQL, Dagster uses SQLite.

    They contain only these servers and the data folder: no alert is sent, and no link leads to another UI.
    """
    return settings.model_copy(
        update={
            "kafka_bootstrap": str(kafka),
            "kafka_security_protocol": "PLAINTEXT",
            **dict.fromkeys(ACCESS),
            "elasticsearch_url": f"http://{elasticsearch}",
            "mongodb_url": SecretStr(f"mongodb://{mongodb}"),
            "redis_url": SecretStr(f"redis://{redis}/0"),
            "postgres_url": SecretStr(Postgres(postgres, Path()).url) if postgres else None,
            "alert_webhook_url": None,
            "dagster_url": None,
            "lake_url": None,
            "spend_url": None,
            "privacy_dir": None,
            "collector_app_secrets_file": None,
            "collector_journal_dir": None,
            "shop_keys_file": None,
            "shop_secrets_dir": None,
            "servers_identity": None,
        }
    )


def addresses_of(settings: Settings) -> list[Address]:
    """Return the addresses of Kafka, Elasticsearch, MongoDB and Redis in the settings.

    Raises:
        StackError: The local stack cannot serve one of them.
    """
    if settings.kafka_security_protocol != "PLAINTEXT":
        raise StackError(
            "the local stack has neither TLS nor passwords: TRUEPIXEL_KAFKA_SECURITY_PROTOCOL must be PLAINTEXT"
        )
    urls = {
        "TRUEPIXEL_KAFKA_BOOTSTRAP": ("kafka://" + settings.kafka_bootstrap, "kafka", 9092),
        "TRUEPIXEL_ELASTICSEARCH_URL": (settings.elasticsearch_url, "http", 9200),
        "TRUEPIXEL_MONGODB_URL": (settings.mongodb_url.get_secret_value(), "mongodb", 27017),
        "TRUEPIXEL_REDIS_URL": (settings.redis_url.get_secret_value(), "redis", 6379),
    }
    return [_address(variable, *rest) for variable, rest in urls.items()]


def _address(variable: str, url: str, scheme: str, default_port: int) -> Address:
    parts = urlsplit(url)
    place = _place(variable, url)
    if parts.scheme != scheme or parts.username or parts.password:
        raise StackError(f"the local stack has neither TLS nor passwords: {variable} must be {scheme}://{place}")
    return Address(parts.hostname or "", parts.port or default_port)


def postgres_of(settings: Settings, folder: Path) -> Postgres:
    """Return PostgreSQL at the address in the settings, or at its default address.

    Raises:
        StackError: The local stack cannot serve the address.
    """
    if settings.postgres_url is None:
        return Postgres(POSTGRES_HERE, folder)
    url = settings.postgres_url.get_secret_value()
    _place("TRUEPIXEL_POSTGRES_URL", url)
    parts = urlsplit(url)
    server = Postgres(Address(parts.hostname or "", parts.port or 5432), folder)
    if url != server.url:
        raise StackError(f"the local stack's PostgreSQL has one database: TRUEPIXEL_POSTGRES_URL must be {server.url}")
    return server


def _place(variable: str, url: str) -> str:
    """Return host and port of an address on this machine. Messages omit the rest, which may contain a password."""
    _, _, place = urlsplit(url).netloc.rpartition("@")
    if not _is_loopback(place):
        raise StackError(
            f"the local stack only starts servers on loopback addresses, and {variable} points to {place}: unset it, or"
            " use your own servers without `truepixel stack`"
        )
    return place


def _is_loopback(place: str) -> bool:
    host, _, port = place.partition(":")
    if port and not port.isdigit():  # several addresses, or IPv6
        return False
    try:
        return host == "localhost" or IPv4Address(host).is_loopback
    except ValueError:
        return False
