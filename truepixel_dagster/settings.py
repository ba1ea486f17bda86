"""Every setting of the pipeline: its default, its unit and its bound.

A setting is read from the environment (`TRUEPIXEL_` + the upper-case field name), else from `.env` in the working
folder, else from a file of that name in the folder that `TRUEPIXEL_SECRETS_DIR` names, as Kubernetes mounts secrets.
Paths are relative to the working folder.

    from truepixel_dagster.settings import load_settings
    settings = load_settings()
    settings.topic        # "truepixel.events"
"""

from __future__ import annotations

import os
from datetime import date, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from truepixel_dagster.access import ElasticsearchAccess, FetchLimits, KafkaAccess, MongoAccess, RedisAccess
from truepixel_dagster.started_with import put_back

MIB = 1024 * 1024
POSTGRES_SCHEMES = ("postgresql+psycopg2", "postgresql", "postgres")
# Seconds for one call of a short command.
_COMMANDS_TIMEOUT = 4.0

SECRETS_DIR = "TRUEPIXEL_SECRETS_DIR"
_FILES = (
    "kafka_ssl_ca_location",
    "kafka_ssl_certificate_location",
    "kafka_ssl_key_location",
    "elasticsearch_ca_certs",
    "mongodb_ca_certs",
    "redis_ca_certs",
    "sources_file",
    "shop_keys_file",
    "collector_app_secrets_file",
    "collector_eventbridge_keys_file",
)


class SettingsError(Exception):
    """A setting that cannot be used. The message is one line that names the variable."""


class Settings(BaseSettings):
    """The pipeline's settings. Times are seconds and sizes bytes unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="TRUEPIXEL_", env_file=".env", extra="ignore", frozen=True)

    namespace: str = Field(
        "truepixel", pattern=r"^[a-z][a-z0-9-]{0,40}$", description="prefix of topic, indices, database and keys"
    )
    data_dir: Path = Field(Path(".truepixel"), description="the local stack's data, logs and Dagster's home")

    lake_url: str | None = Field(
        None, description="folder or bucket of the tables, in fsspec's form; `lake` in TRUEPIXEL_DATA_DIR if unset"
    )
    spend_url: str | None = Field(
        None, description="folder or bucket that is watched for files of spend and rates; none if unset"
    )

    servers_identity: str | None = Field(
        None, description="identity that every server must show, such as a local stack's; not checked if unset"
    )

    kafka_bootstrap: str = Field("127.0.0.1:19092", min_length=3, description="host:port[,host:port…]")
    kafka_partitions: int = Field(3, ge=1, le=1000, description="partitions that setup creates")
    kafka_replication: int = Field(1, ge=1, le=9, description="replicas that setup creates")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_ca_location: str | None = Field(
        None, description="PEM file of the authority that signs the brokers' certificates"
    )
    kafka_ssl_certificate_location: str | None = Field(
        None, description="PEM file of the client certificate, for mutual TLS"
    )
    kafka_ssl_key_location: str | None = Field(None, description="PEM file of its key")
    kafka_ssl_key_password: SecretStr | None = None
    kafka_timeout: float = Field(15.0, ge=1, le=120, description="seconds for one call to a broker")

    elasticsearch_url: str = Field(
        "http://127.0.0.1:19200", pattern=r"^https?://", description="comma-separated addresses"
    )
    elasticsearch_api_key: SecretStr | None = Field(None, description="the encoded form; instead of user and password")
    elasticsearch_username: str | None = None
    elasticsearch_password: SecretStr | None = None
    elasticsearch_ca_certs: str | None = Field(
        None, description="PEM file of the authority that signs the nodes' certificates"
    )
    elasticsearch_replicas: int = Field(0, ge=0, le=5, description="replicas in the index templates that setup writes")
    elasticsearch_timeout: float = Field(30.0, ge=1, le=300, description="seconds for one call")

    mongodb_url: SecretStr = Field(SecretStr("mongodb://127.0.0.1:17017"), description="may hold credentials")
    mongodb_username: str | None = Field(None, description="instead of the one in the URL")
    mongodb_password: SecretStr | None = Field(None, description="instead of the one in the URL")
    mongodb_ca_certs: str | None = Field(
        None, description="PEM file of the authority that signs its certificate; turns TLS on"
    )
    mongodb_timeout: float = Field(15.0, ge=1, le=300, description="seconds for one call")

    redis_url: SecretStr = Field(SecretStr("redis://127.0.0.1:16379/0"), description="may hold credentials")
    redis_username: str | None = Field(None, description="instead of the one in the URL")
    redis_password: SecretStr | None = Field(None, description="instead of the one in the URL")
    redis_ca_certs: str | None = Field(
        None, description="PEM file of the authority that signs its certificate; needs rediss://"
    )
    redis_timeout: float = Field(5.0, ge=0.5, le=60, description="seconds for one call")

    postgres_url: SecretStr | None = Field(
        None,
        description="Dagster's own storage, postgresql+psycopg2://…, may hold credentials; SQLite if unset",
    )

    batch_messages: int = Field(512, ge=1, le=10_000, description="messages in a micro-batch")
    batch_bytes: int = Field(
        32 * MIB, ge=64 * 1024, le=256 * MIB, description="bytes of keys, values and headers in a micro-batch"
    )
    linger: float = Field(0.1, ge=0, le=10, description="seconds that a fetch waits for a fuller micro-batch")
    idle: float = Field(2.0, ge=0.1, le=600, description="seconds without a message after which a run ends")
    slots_per_run: int = Field(512, ge=1, le=1000, description="micro-batches that one run may drain")
    prefetch_bytes: int = Field(
        4 * MIB, ge=1 * MIB, le=256 * MIB, description="bytes that the Kafka client buffers over all partitions"
    )

    lanes: int = Field(1, ge=1, le=1000, description="shares of the topic that are processed in parallel")
    lease: float = Field(8.0, ge=3, le=300, description="seconds after which a silent worker loses its lane")
    pool_workers: int = Field(2, ge=1, le=32, description="threads of the background pool")
    pool_pending: int = Field(2, ge=1, le=64, description="micro-batches that may wait for background stages")
    dead_letter_share: float = Field(
        0.5, gt=0, le=1, description="share of a batch's clients that stops a lane when their messages are rejected"
    )
    dead_letter_bytes: int = Field(
        32 * MIB,
        ge=64 * 1024,
        le=40 * MIB,
        description="bytes of a record above which its dead letter refers to the record instead of containing it",
    )
    retries: int = Field(4, ge=1, le=20, description="tries of one store call after transient errors")

    attribution_window_days: int = Field(30, ge=1, le=365, description="days before an order in which a touch counts")
    attribution_half_life_days: float = Field(
        7.0, gt=0, le=365, description="age at which time decay halves a touch's weight"
    )
    touches_kept: int = Field(50, ge=1, le=1000, description="newest touches kept for a user")
    sightings_kept: int = Field(50, ge=5, le=1000, description="sightings that an order's attribution names")
    products_per_event: int = Field(
        250, ge=1, le=2000, description="products of one event that product statistics count; of more, the first ones"
    )
    lines_per_event: int = Field(
        2000, ge=100, le=10_000, description="lines of one event; an event with more is a dead letter"
    )
    clients_per_order: int = Field(
        50, ge=1, le=500, description="clients that one order keeps; of more, the surest ones"
    )
    ids_per_order: int = Field(
        2000, ge=100, le=20_000, description="ids of one order; a pixel event that adds more is a dead letter"
    )
    customers_per_client: int = Field(
        2,
        ge=1,
        le=1000,
        description="customers of one client beyond which it is shared and connects no persons",
    )
    customers_per_address: int = Field(
        2, ge=1, le=1000, description="customers of one e-mail address beyond which it connects no persons"
    )
    history_start: date = Field(date(2026, 1, 1), description="the first day that Dagster shows as a partition")
    partitions_per_run: int = Field(
        366, ge=1, le=10_000, description="days or weeks that one run of a backfill rebuilds; 1 for a run for each"
    )
    alert_lag: int = Field(100_000, ge=0, description="messages that wait before the check of the lag fails")
    alert_waiting: float = Field(
        900, ge=0, description="seconds that a message waits before the check of the lag fails"
    )
    alert_buffer: float = Field(600, ge=0, description="seconds that a counter waits in Redis before its check fails")
    alert_dead_letter_share: float = Field(
        0.05, ge=0, le=1, description="share of an hour's records that become dead letters before their check fails"
    )
    alert_webhook_url: SecretStr | None = Field(
        None, description="http(s) webhook to which each failed run is posted, such as Slack's; none if unset"
    )
    dagster_url: str | None = Field(
        None, pattern=r"^https?://", description="address of Dagster's UI, for links in these posts"
    )
    webserver_hosts: str = Field(
        "",
        pattern=r"^$|^[A-Za-z0-9._:\[\]-]+(,[A-Za-z0-9._:\[\]-]+)*$",
        description="host names (host or host:port, comma-separated) by which Dagster's webserver may be opened, in"
        " addition to localhost and the host of TRUEPIXEL_DAGSTER_URL",
    )
    event_retention_months: int = Field(
        25, ge=0, le=600, description="months of the event history kept in addition to the current one"
    )
    privacy_dir: Path | None = Field(
        None, description="folder for answers to data requests; `privacy` in TRUEPIXEL_DATA_DIR if unset"
    )
    keep_successful_runs_hours: float = Field(24, ge=0, description="hours for which Dagster keeps runs that succeeded")
    keep_failed_runs_days: float = Field(14, ge=0, description="days for which Dagster keeps runs that failed")
    keep_asset_history_days: float = Field(30, ge=0, description="days for which Dagster keeps the events of assets")
    sources_file: str | None = Field(
        None, description="JSON file with more platforms, hosts and click ids: docs/channels.md"
    )
    count_bots: bool = Field(False, description="count bots like people, and do not mark them")
    touch_repeat: float = Field(
        1800.0, ge=0, le=86_400, description="seconds in which the same ad again is the same touch"
    )

    shop_keys_file: str | None = Field(
        None, description="file of keys by which shops' secrets are encrypted in MongoDB, one a line, the newest first"
    )
    shop_secrets_dir: Path | None = Field(
        None, description="folder of mounted secrets of shops, each a file that `truepixel shops` refers to by its name"
    )
    collector_app_secrets_file: str | None = Field(
        None, description="file of the Shopify app's client secrets, one a line; reloaded when it changes"
    )
    collector_pubsub_audience: str | None = Field(
        None, description="audience of the tokens of Shopify's Pub/Sub push subscription; unset: no /v1/pubsub"
    )
    collector_pubsub_account: str | None = Field(
        None, description="email address of the service account that the push subscription's tokens name"
    )
    collector_google_keys_url: str = Field(
        "https://www.googleapis.com/oauth2/v1/certs",
        pattern=r"^(https://|http://127\.0\.0\.1[:/])",
        description="where Google publishes the certificates of its tokens",
    )
    collector_eventbridge_keys_file: str | None = Field(
        None, description="file of API keys of EventBridge's API destination, one a line; unset: no /v1/eventbridge"
    )
    collector_journal_dir: Path | None = Field(
        None, description="folder of the collector's journal; `collector` in TRUEPIXEL_DATA_DIR if unset"
    )
    collector_journal_bytes: int = Field(
        1024 * MIB, ge=1 * MIB, le=1024 * 1024 * MIB, description="bytes of records that the collector's journal holds"
    )
    collector_queue_bytes: int = Field(
        16 * MIB, ge=12 * MIB, le=1024 * MIB, description="bytes of records that the collector gives to Kafka's client"
    )
    collector_consent: Literal["strip", "drop"] = Field(
        "strip", description="how the collector treats a pixel event whose visitor refuses analytics"
    )
    collector_shop_rate: float = Field(
        2000, ge=1, le=1_000_000, description="pixel events a second of one shop; twenty times as many at once"
    )
    collector_address_rate: float = Field(
        50, ge=1, le=1_000_000, description="pixel requests a second of one address; twenty times as many at once"
    )
    collector_proxies: str = Field(
        "", description="networks of proxies whose X-Forwarded-For is trusted, comma-separated, such as 10.0.0.0/8"
    )
    collector_leave: float = Field(
        0.0, ge=0, le=60, description="seconds for which the collector still answers after SIGTERM, no longer ready"
    )
    collector_grace: float = Field(
        20.0,
        ge=1,
        le=300,
        description="seconds that the collector then has to answer its requests and to flush",
    )

    @field_validator("namespace")
    @classmethod
    def _not_mongodbs_own(cls, value: str) -> str:
        if value in ("admin", "config", "local"):
            raise ValueError("is the name of one of MongoDB's own databases: choose another")
        return value

    @field_validator("data_dir", "privacy_dir", "shop_secrets_dir", "collector_journal_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value and value.expanduser().absolute()

    @field_validator("collector_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        for part in filter(None, (part.strip() for part in value.split(","))):
            try:
                ip_network(part, strict=False)
            except ValueError:
                raise ValueError(f"{part[:50]!r} is not a network, such as 10.0.0.0/8") from None
        return value

    @field_validator("alert_webhook_url")
    @classmethod
    def _over_http(cls, value: SecretStr | None) -> SecretStr | None:
        if not value or not value.get_secret_value():
            return None
        if not value.get_secret_value().startswith(("https://", "http://")):
            raise ValueError("must begin with https:// or http://")
        return value

    @field_validator("postgres_url")
    @classmethod
    def _by_psycopg2(cls, value: SecretStr | None) -> SecretStr | None:
        """SQLAlchemy reads `postgresql://` as another driver than Dagster's."""
        if value is None:
            return None
        scheme, _, place = value.get_secret_value().partition("://")
        if scheme not in POSTGRES_SCHEMES or not place:
            raise ValueError("must be postgresql+psycopg2://user:password@host:port/database")
        return SecretStr(f"{POSTGRES_SCHEMES[0]}://{place}")

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any, info: ValidationInfo) -> Any:
        """Treat an empty variable as unset, which overrides `.env`."""
        return None if value == "" and cls.model_fields[str(info.field_name)].default is None else value

    @field_validator(*_FILES)
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        if value and not (Path(value).is_file() and os.access(value, os.R_OK)):
            raise ValueError("is not a readable file")
        return value and str(Path(value).absolute())

    @field_validator("elasticsearch_url")
    @classmethod
    def _without_password(cls, value: str) -> str:
        """Refuse a password in the URL, because messages show the URL."""
        if "@" in value:
            raise ValueError("must hold no password: set TRUEPIXEL_ELASTICSEARCH_USERNAME and _PASSWORD instead")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Settings:
        """Refuse incomplete credentials here: the clients' errors would not name the setting."""
        wanted: dict[str, tuple[str, ...]] = {}
        if self.kafka_security_protocol.startswith("SASL"):
            wanted["TRUEPIXEL_KAFKA_SECURITY_PROTOCOL"] = (
                "kafka_sasl_mechanism",
                "kafka_sasl_username",
                "kafka_sasl_password",
            )
        for server in ("elasticsearch", "mongodb", "redis"):
            if getattr(self, f"{server}_username"):
                wanted[f"TRUEPIXEL_{server.upper()}_USERNAME"] = (f"{server}_password",)
        if self.collector_pubsub_audience:
            wanted["TRUEPIXEL_COLLECTOR_PUBSUB_AUDIENCE"] = ("collector_pubsub_account",)
        if self.mongodb_password:
            wanted["TRUEPIXEL_MONGODB_PASSWORD"] = ("mongodb_username",)
        if self.elasticsearch_password:
            wanted["TRUEPIXEL_ELASTICSEARCH_PASSWORD"] = ("elasticsearch_username",)
        for variable, names in wanted.items():
            if lacking := [f"TRUEPIXEL_{name.upper()}" for name in names if not getattr(self, name)]:
                raise ValueError(f"{', '.join(lacking)} must be set, because {variable} is")
        if self.elasticsearch_api_key and self.elasticsearch_username:
            raise ValueError("TRUEPIXEL_ELASTICSEARCH_API_KEY and _USERNAME are both set: set only one of them")
        return self

    @model_validator(mode="after")
    def _by_tls(self) -> Settings:
        """Refuse an authority for certificates without TLS, which these clients take from the URL."""
        urls = {
            "elasticsearch": (self.elasticsearch_url, "https"),
            "redis": (self.redis_url.get_secret_value(), "rediss"),
        }
        for server, (url, scheme) in urls.items():
            if getattr(self, f"{server}_ca_certs") and not url.startswith(f"{scheme}://"):
                name = f"TRUEPIXEL_{server.upper()}"
                raise ValueError(f"{name}_URL must begin with {scheme}://, because {name}_CA_CERTS requires TLS")
        return self

    @property
    def topic(self) -> str:
        """Return the Kafka topic of events."""
        return f"{self.namespace}.events"

    @property
    def dead_topic(self) -> str:
        """Return the Kafka topic of dead letters."""
        return f"{self.namespace}.events.dead"

    @property
    def group(self) -> str:
        """Return the Kafka consumer group that commits the offsets."""
        return f"{self.namespace}.process-events"

    @property
    def database(self) -> str:
        """Return the MongoDB database."""
        return self.namespace

    @property
    def window(self) -> timedelta:
        """Return the attribution window."""
        return timedelta(days=self.attribution_window_days)

    def kafka(self) -> KafkaAccess:
        """Return the settings for Kafka's clients."""
        return KafkaAccess(
            bootstrap=self.kafka_bootstrap,
            security_protocol=self.kafka_security_protocol,
            sasl_mechanism=self.kafka_sasl_mechanism,
            sasl_username=self.kafka_sasl_username,
            sasl_password=self.kafka_sasl_password,
            ssl_ca_location=self.kafka_ssl_ca_location,
            ssl_certificate_location=self.kafka_ssl_certificate_location,
            ssl_key_location=self.kafka_ssl_key_location,
            ssl_key_password=self.kafka_ssl_key_password,
            timeout=self.kafka_timeout,
            retries=self.retries,
            identity=self.servers_identity,
            namespace=self.namespace,
            topic=self.topic,
            dead_topic=self.dead_topic,
            group=self.group,
            partitions=self.kafka_partitions,
            replication=self.kafka_replication,
        )

    def quick_to_give_up(self) -> Settings:
        """Return settings for commands: an unreachable server is reported within seconds instead of a minute."""
        timeouts = (f"{server}_timeout" for server in ("kafka", "elasticsearch", "mongodb", "redis"))
        shorter = {name: min(getattr(self, name), _COMMANDS_TIMEOUT) for name in timeouts}
        return self.model_copy(update={"retries": 2, **shorter})

    def fetch_limits(self) -> FetchLimits:
        """Return the limits with which a lane fetches micro-batches."""
        return FetchLimits(
            messages=self.batch_messages,
            bytes=self.batch_bytes,
            linger=self.linger,
            idle=self.idle,
            prefetch_bytes=self.prefetch_bytes,
        )

    def elasticsearch(self) -> ElasticsearchAccess:
        """Return the settings for the adapter of Elasticsearch."""
        return ElasticsearchAccess(
            url=self.elasticsearch_url,
            api_key=self.elasticsearch_api_key,
            username=self.elasticsearch_username,
            password=self.elasticsearch_password,
            ca_certs=self.elasticsearch_ca_certs,
            timeout=self.elasticsearch_timeout,
            retries=self.retries,
            namespace=self.namespace,
            replicas=self.elasticsearch_replicas,
        )

    def mongodb(self) -> MongoAccess:
        """Return the settings for the adapter of MongoDB."""
        return MongoAccess(
            url=self.mongodb_url,
            username=self.mongodb_username,
            password=self.mongodb_password,
            ca_certs=self.mongodb_ca_certs,
            timeout=self.mongodb_timeout,
            retries=self.retries,
            database=self.database,
        )

    def redis(self) -> RedisAccess:
        """Return the settings for the adapter of Redis."""
        return RedisAccess(
            url=self.redis_url,
            username=self.redis_username,
            password=self.redis_password,
            ca_certs=self.redis_ca_certs,
            timeout=self.redis_timeout,
            retries=self.retries,
            namespace=self.namespace,
        )


def load_settings() -> Settings:
    """Read the settings; the environment that this process was started with overrides `.env`.

    Raises:
        SettingsError: A setting is out of its bound or of the wrong type; one line names the first such variable.
    """
    put_back()
    folder = os.environ.get(SECRETS_DIR) or None
    if folder and not Path(folder).is_dir():
        raise SettingsError(f"{SECRETS_DIR}={folder!r}: there is no such folder")
    try:
        return Settings(_secrets_dir=folder)
    except ValidationError as error:
        raise SettingsError(_told(error.errors(include_url=False)[0])) from None


def _told(error: Any) -> str:
    """Return pydantic's error in one line, without the value of a secret."""
    words = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return words
    field, value = str(error["loc"][0]), error["input"]
    secret = _is_secret(field) or "@" in str(value)
    return f"TRUEPIXEL_{field.upper()}{'' if secret else f'={value!r}'}: {words}"


def load_or_default() -> Settings:
    """Return the settings, or their defaults if one cannot be used: for definitions, which must load in any case.

    An invalid setting is reported when something runs and not while definitions are loaded; until then the defaults
    apply.
    """
    try:
        return load_settings()
    except SettingsError:
        return Settings.model_construct()


def _is_secret(field: str) -> bool:
    info = Settings.model_fields.get(field)
    return info is not None and "SecretStr" in str(info.annotation)
