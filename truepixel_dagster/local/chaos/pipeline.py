"""The pipeline under chaos: servers behind proxies, Dagster's daemon and its workers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, TypeVar

import psutil
import pymongo
import redis
from pydantic import SecretStr

from truepixel_dagster.instance.process import dagster_home, environment
from truepixel_dagster.local.addresses import settings_at
from truepixel_dagster.local.chaos import failpoints
from truepixel_dagster.local.chaos.load import Load
from truepixel_dagster.local.chaos.proxy import Proxy
from truepixel_dagster.local.chaos.report import Verdict, judge
from truepixel_dagster.local.processes import dying_with_parent
from truepixel_dagster.local.programs import end_tree
from truepixel_dagster.local.servers import Address, MongoDB, free_ports
from truepixel_dagster.local.stack import Stack
from truepixel_dagster.local.traffic import Record
from truepixel_dagster.private_files import UMASK, open_private, private_folder
from truepixel_dagster.provision import provision
from truepixel_dagster.resources import open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.leases import holders
from truepixel_dagster.stores.mongodb import MongoStore
from truepixel_dagster.stream.errors import KafkaError
from truepixel_dagster.stream.producer import EventProducer
from truepixel_dagster.stream.topics import PartitionLag, lag

SERVERS = ("kafka", "elasticsearch", "mongodb", "redis")
POLL_SECONDS = 0.2
FIRST_WORK_SECONDS = 120.0
SWITCH_SECONDS = 150.0
# Another run takes a lane over within a minute; a pause after failures may be added.
RECOVERY_SECONDS = 180.0
# A restore of Redis reads the whole history, which grows with the rounds.
COMMAND_SECONDS = 900.0
LOST_RANGE = re.compile(r"([0-9]+)(?:@[0-9]+)?\.\.([0-9]+)$")
# Months before this one that have no events of the load.
FIRST_UNUSED_MONTH, UNUSED_MONTHS = 2, 22

T = TypeVar("T")


class ChaosFailed(Exception):
    """The pipeline under chaos did not do in time what was expected; the message says what, and where to look."""


def until(condition: Callable[[], T | None], seconds: float, what: str) -> T:
    """Wait until a condition returns a true value, and return the value.

    Raises:
        ChaosFailed: It did not in time.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(POLL_SECONDS)
    raise ChaosFailed(f"timed out after {seconds:.0f} s waiting for {what}")


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
        load: The load, which faults may pause.
        verdicts: The results of audits of logs that a fault has ended.
    """

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
        self._daemon: subprocess.Popen[bytes] | None = None
        self._family: dict[int, psutil.Process] = {}
        self._used: dict[str, list[Any]] = {}
        self._months = 0
        self.verdicts: list[Verdict] = []

    def __enter__(self) -> Pipeline:
        try:
            self._stack.up(self._say)
            self.settings = self.settings.model_copy(update={"servers_identity": self._stack.identity})
            self._initiate_replica_set()
            provision(self.settings)
            self.start_daemon()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self.stop_daemon()
        for process in self._family.values():
            with suppress(psutil.NoSuchProcess):
                process.kill()
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

    @property
    def daemon_log(self) -> Path:
        """Return the log of the daemon and the runs."""
        return self.settings.data_dir / "logs" / "daemon.log"

    def start_daemon(self, folder: Path | None = None, *, lanes: int | None = None) -> None:
        """Start Dagster's daemon with definitions that have failpoints.

        Arguments:
            folder: Its working folder; its home by default.
            lanes: The number of lanes; the settings' by default.
        """
        settings = self.settings.model_copy(update={"lanes": lanes}) if lanes else self.settings
        command = [sys.executable, "-m", "dagster._daemon", "run", "-m", "truepixel_dagster.local.chaos.definitions"]
        env = environment(settings)
        private_folder(self.daemon_log.parent)
        with open_private(self.daemon_log, "ab") as output:
            self._daemon = subprocess.Popen(
                command,
                cwd=folder or env["DAGSTER_HOME"],
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=dying_with_parent(),
                umask=UMASK,
            )

    def kill_daemon(self) -> None:
        """Kill only the daemon with SIGKILL; its code server and its workers continue."""
        if self._daemon:
            self._remember_family()
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None

    def stop_daemon(self) -> None:
        """End the daemon and all processes that it started."""
        if self._daemon:
            self._remember_family()
            end_tree(self._daemon)
            self._daemon = None

    def _remember_family(self) -> None:
        assert self._daemon is not None  # noqa: S101 (the callers check it)
        with suppress(psutil.NoSuchProcess):
            self._family |= {one.pid: one for one in psutil.Process(self._daemon.pid).children(recursive=True)}

    def worker(self) -> psutil.Process:
        """Wait for a live worker and return it.

        Raises:
            ChaosFailed: There was none in time.
        """
        return until(self._a_worker, FIRST_WORK_SECONDS, f"a worker; see {self.daemon_log}")

    def _a_worker(self) -> psutil.Process | None:
        for file in failpoints.workers(self.settings.data_dir).glob("*"):
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(file.name))
                if process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= file.stat().st_mtime:
                    return process
            file.unlink(missing_ok=True)
        return None

    def kill_worker(self, rng: Random) -> None:
        """Kill a worker with SIGKILL, up to a second after it was found."""

        def killed() -> bool:
            worker = self.worker()
            time.sleep(rng.uniform(0, 1))
            with suppress(psutil.NoSuchProcess):  # it ended by itself meanwhile
                worker.kill()
                return True
            return False

        until(killed, FIRST_WORK_SECONDS, "a worker to kill")

    def owner(self) -> str | None:
        """Return the run that holds the lane's first partition; None if there is none or Redis does not answer."""
        with open_stores(self.settings) as stores, suppress(Unavailable, redis.RedisError):
            return holders(stores.redis.client, self.settings.namespace, [0]).get(0)
        return None

    def freeze_owner(self) -> tuple[psutil.Process, str]:
        """Stop a worker with SIGSTOP while it holds the lane; return the worker and its run."""

        def frozen() -> tuple[psutil.Process, str] | None:
            worker = self.worker()
            with suppress(psutil.NoSuchProcess):
                worker.suspend()
                # A worker that has just given its lane back does not count.
                if owner := self.owner():
                    return worker, owner
                worker.resume()
            return None

        return until(frozen, FIRST_WORK_SECONDS, "a worker that has the lane")

    def terminate_owner(self) -> str:
        """Terminate the run that holds the lane through Dagster; return the run's id."""
        import dagster as dg

        def terminated() -> str | None:
            owner = self.owner()
            with dg.DagsterInstance.from_config(str(dagster_home(self.settings))) as instance:
                return owner if owner and instance.run_coordinator.cancel_run(owner) else None

        return until(terminated, FIRST_WORK_SECONDS, "a run that has the lane and can be terminated")

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

    def lost_to_retention(self) -> int:
        """Return how many records the pipeline reports as removed by retention before they were read."""
        lost = json.loads(self.operate("lag", "--json")).get("lost", [])
        ranges = [LOST_RANGE.search(line) for line in lost]
        return sum(int(found[2]) - int(found[1]) + 1 for found in ranges if found)

    def count_events(self, shop: str) -> int:
        """Return how many events of a shop are stored."""
        with open_stores(self.settings) as stores:
            stores.elasticsearch.refresh()
            return sum(1 for _ in stores.elasticsearch.scan("events-", {"term": {"shop_id": shop}}, fields=["shop_id"]))

    def unused_month(self) -> datetime:
        """Return a time in the middle of a month that has no index of events yet."""
        months = FIRST_UNUSED_MONTH + self._months % UNUSED_MONTHS
        self._months += 1
        day = datetime.now(timezone.utc).replace(day=15)
        for _ in range(months):
            day = (day.replace(day=1) - timedelta(days=1)).replace(day=15)
        return day

    def kill_at(self, point: str) -> None:
        """Make the next process that reaches a failpoint kill itself there; return when one has.

        Raises:
            ChaosFailed: No process reached it in time.
        """
        file = failpoints.switch(self.settings.data_dir)
        file.write_text(point)
        try:
            until(lambda: not file.exists(), SWITCH_SECONDS, f"a process that reaches {point!r}")
        finally:
            file.unlink(missing_ok=True)

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

    def open_claims(self) -> int:
        """Return the number of claims of flushes that are in progress or were interrupted."""
        with open_stores(self.settings) as stores:
            return sum(len(keys) for keys in stores.redis.counter_keys("claim", 100))

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
            f"the first micro-batch; see {self.daemon_log}",
        )

    def next_of(self, name: str, choices: Sequence[T], rng: Random) -> T:
        """Choose one of the choices at random; each is chosen once before any is chosen again."""
        left = self._used.setdefault(name, [])
        if not left:
            left += rng.sample(choices, len(choices))
        found: T = left.pop()
        return found


def _is_gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
