"""The pipeline under chaos: servers behind proxies, Dagster's daemon and its workers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import pymongo
from pydantic import SecretStr

from truepixel_dagster.instance.process import environment
from truepixel_dagster.local.addresses import settings_at
from truepixel_dagster.local.chaos.daemon import Daemon
from truepixel_dagster.local.chaos.load import Load
from truepixel_dagster.local.chaos.proxy import Proxy
from truepixel_dagster.local.chaos.report import Verdict, judge
from truepixel_dagster.local.chaos.unused import Unused
from truepixel_dagster.local.chaos.waiting import FIRST_WORK_SECONDS, RECOVERY_SECONDS, ChaosFailed, until
from truepixel_dagster.local.chaos.workers import Workers
from truepixel_dagster.local.servers import Address, MongoDB, free_ports
from truepixel_dagster.local.stack import Stack
from truepixel_dagster.local.traffic import Record
from truepixel_dagster.provision import provision
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.mongodb import MongoStore
from truepixel_dagster.stream.errors import KafkaError
from truepixel_dagster.stream.producer import EventProducer
from truepixel_dagster.stream.topics import PartitionLag, lag

SERVERS = ("kafka", "elasticsearch", "mongodb", "redis")

# A restore of Redis reads the whole history, which grows with the rounds.
COMMAND_SECONDS = 900.0


class Pipeline:
    """Run a pipeline on its own servers behind proxies, with a daemon whose sensor and schedules work as in production.

    Arguments:
        base: The folder of its data and logs.
        settings: Settings for everything but addresses and folders.
        say: Receives lines about the progress.

    Attributes:
        settings: The pipeline's settings; they address every server through its proxy.
        direct: The settings without proxies, for an operator's work during a fault.
        proxies: The proxies by server name.
        daemon: Dagster's daemon.
        workers: The workers of its runs.
        unused: Chooses values that no earlier round has used.
        load: The load, which faults may pause.
        verdicts: The results of audits of logs that a fault has ended.
    """

    workers: Workers
    load: Load

    def __init__(self, base: Path, settings: Settings, say: Callable[[str], None]) -> None:
        self._say = say
        addresses = dict(zip(SERVERS, (Address("127.0.0.1", port) for port in free_ports(len(SERVERS)))))
        self.proxies = {name: Proxy(address) for name, address in addresses.items()}
        fronts = (self.proxies[name].address for name in SERVERS)
        self.settings = settings_at(settings, *fronts).model_copy(update={"data_dir": base.absolute()})
        self.direct = settings_at(self.settings, *addresses.values())
        self._stack = Stack(
            self.direct, tied_to_parent=True, kafka_advertised=self.proxies["kafka"].address, replica_set=True
        )
        self.daemon = Daemon(self.settings.data_dir)
        self.unused = Unused()
        self.verdicts: list[Verdict] = []

    def __enter__(self) -> Pipeline:
        try:
            self._stack.up(self._say)
            self.settings = self.settings.model_copy(update={"servers_identity": self._stack.identity})
            self._initiate_replica_set()
            provision(self.settings)
            self.workers = Workers(self.settings, self.daemon.log)
            self.daemon.start(self.settings)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self.daemon.end()
        self._stack.down(self._say)
        for proxy in self.proxies.values():
            proxy.close()

    def _initiate_replica_set(self) -> None:
        """Make MongoDB, after it has proved its identity, a replica set of one that clients reach through its proxy."""
        alone = SecretStr(f"{self.direct.mongodb_url.get_secret_value()}/?directConnection=true")
        with closing(MongoStore(self.direct.model_copy(update={"mongodb_url": alone}).mongodb())) as store:
            store.prove(self._stack.identity)
        member = {"_id": 0, "host": str(self.proxies["mongodb"].address)}
        with self.mongodb() as client:
            client.admin.command("replSetInitiate", {"_id": MongoDB.REPLICA_SET, "members": [member]})
            until(lambda: client.admin.command("hello")["isWritablePrimary"], FIRST_WORK_SECONDS, "MongoDB's election")

    def mongodb(self) -> pymongo.MongoClient[dict[str, Any]]:
        """Connect to MongoDB without its proxy, whatever its state in the replica set."""
        return pymongo.MongoClient(self.direct.mongodb_url.get_secret_value(), directConnection=True)

    def operate(self, *arguments: str) -> str:
        """Run a command of `truepixel` as an operator would; return its output.

        Raises:
            ChaosFailed: The command failed.
        """
        env = environment(self.settings)
        done = subprocess.run(
            [sys.executable, "-m", "truepixel_dagster.cli", *arguments],
            cwd=env["DAGSTER_HOME"],
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )
        if done.returncode:
            last = (done.stderr or done.stdout).strip().rpartition("\n")[2]
            raise ChaosFailed(f"`truepixel {' '.join(arguments)}` failed: {last}")
        return done.stdout

    def send(self, records: Iterable[Record], *, partition: int = -1) -> None:
        """Send records in addition to the load; return when Kafka has acknowledged them."""
        with EventProducer(self.settings.kafka()) as producer:
            for record in records:
                producer.send(record.key, record.value, record.headers, partition=partition)

    def close_log(self) -> None:
        """Audit the topic before a fault removes it. The load must be paused.

        Raises:
            ChaosFailed: The pipeline did not process the topic in time.
        """
        if not self.wait_until_processed(self.high(), RECOVERY_SECONDS):
            raise ChaosFailed("the topic was not processed")
        self.verdicts.append(judge(self.settings))

    def kill_server(self, name: str) -> None:
        """Kill a server with SIGKILL; return when it has ended."""
        pid = next(one.pid for one in self._stack.status() if one.name == name)
        if pid:
            process = psutil.Process(pid)
            process.kill()
            until(lambda: _is_gone(process), COMMAND_SECONDS, f"the end of {name}")

    def start_servers(self) -> None:
        """Start every server that is not running."""
        self._stack.up(lambda _: None)

    def high(self) -> dict[int, int]:
        """Return the end of each partition."""
        return {entry.partition: entry.high for entry in self.lag()}

    def lag(self) -> list[PartitionLag]:
        """Return the lag of every partition; wait until Kafka answers."""
        return until(self._lag, FIRST_WORK_SECONDS, "Kafka")

    def _lag(self) -> list[PartitionLag] | None:
        with suppress(KafkaError):
            return lag(self.settings.kafka())
        return None

    def wait_until_processed(self, high: Mapping[int, int], seconds: float) -> bool:
        """Wait until the offsets are committed up to these ends; return whether they were in time."""

        def processed() -> bool:
            found = self._lag()
            return found is not None and all((entry.committed or 0) >= high[entry.partition] for entry in found)

        try:
            return until(processed, seconds, "the committed offsets")
        except ChaosFailed:
            return False

    def wait_for_work(self) -> None:
        """Wait until the first micro-batch is committed.

        Raises:
            ChaosFailed: None was committed in time.
        """
        until(
            lambda: any(entry.committed for entry in self._lag() or ()),
            FIRST_WORK_SECONDS,
            f"the first micro-batch; see {self.daemon.log}",
        )


def _is_gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
