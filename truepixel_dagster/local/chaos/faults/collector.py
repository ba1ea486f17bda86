"""The collector under load: killed, restarted, or without its Kafka or its disk.

Clients of the round send to it and record its promises; at the end of the round each promise is looked up in the topic.
The pipeline processes their records, and the audit includes them.
"""

from __future__ import annotations

import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from random import Random

from truepixel_dagster.collector.journal_file import NAME
from truepixel_dagster.local.chaos.collector_process import CollectorProcess, connect, running, with_app_secret
from truepixel_dagster.local.chaos.faults.hit import Hit, ended
from truepixel_dagster.local.chaos.pipeline import Pipeline
from truepixel_dagster.local.chaos.promises import Senders, broken, on_topic, verdict
from truepixel_dagster.local.chaos.waiting import RECOVERY_SECONDS, ChaosFailed, until
from truepixel_dagster.local.servers import free_ports
from truepixel_dagster.settings import Settings

# Restarting Kafka may take a minute, and the pipeline has to process all records that are sent until then.
CLIENTS, PAUSE = 8, 0.05
# The number of promises that a round waits for before, during and after its fault.
PROMISES = 100
JOURNAL_BYTES = 1024 * 1024


class Collector:
    """A round's collector, which can be restarted at the same port with the same journal."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.port = free_ports(1)[0]
        self._started = ExitStack()
        self.process: CollectorProcess

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.process = self._started.enter_context(running(self.settings, port=self.port))

    def close(self) -> None:
        """Kill it if it still runs."""
        self._started.close()


Harm = Callable[[Pipeline, Collector, Senders, Random], str]


def _under_load(pipeline: Pipeline, rng: Random, harm: Harm, *, size: int = 500, journal_bytes: int = 0) -> Hit:
    """Harm a collector while clients send to it, let it recover, and check its promises.

    Arguments:
        pipeline: The pipeline to whose topic the collector writes.
        rng: The source of chance for the harm.
        harm: Does harm, undoes it, and returns its description.
        size: Bytes of filler in each body.
        journal_bytes: The capacity of the journal; as in the settings by default.
    """
    since = pipeline.high()
    with closing(Collector(_settings(pipeline, rng, journal_bytes))) as collector:
        collector.start()
        with Senders(collector.port, connections=CLIENTS, size=size, pause=PAUSE) as senders:
            _more_promises(senders)
            what = harm(pipeline, collector, senders, rng)
            hit = ended(what)
            _more_promises(senders)
        until(collector.process.is_drained, RECOVERY_SECONDS, "the journal to be empty")
        if code := collector.process.end():
            raise ChaosFailed(f"the collector exited with code {code}: " + "".join(collector.process.lines[-5:]))
    found = broken(senders.promised, on_topic(pipeline.direct, since))
    pipeline.verdicts.append(verdict(senders.promised, found))
    refused = senders.statuses.total() - senders.statuses[200]
    return Hit(
        f"{what}; {len(senders.promised):,} promises, {refused:,} others, slowest answer {senders.slowest:.1f} s",
        hit.ended_at,
    )


def _settings(pipeline: Pipeline, rng: Random, journal_bytes: int) -> Settings:
    """Connect the shop, and return the settings of a collector with an empty journal."""
    connect(pipeline.settings)
    folder = pipeline.settings.data_dir / f"collector-{rng.getrandbits(40):x}"
    folder.mkdir()
    settings = with_app_secret(pipeline.settings, folder, collector_journal_dir=folder)
    return settings.model_copy(update={"collector_journal_bytes": journal_bytes}) if journal_bytes else settings


def _more_promises(senders: Senders, more: int = PROMISES) -> None:
    enough = len(senders.promised) + more
    until(lambda: len(senders.promised) >= enough, RECOVERY_SECONDS, f"{more} promises of the collector")


@contextmanager
def _kafka_away(pipeline: Pipeline) -> Iterator[None]:
    """SIGKILL to Kafka; start it again at the end of the block."""
    pipeline.kill_server("kafka")
    try:
        yield
    finally:
        pipeline.start_servers()


def killed(pipeline: Pipeline, rng: Random) -> Hit:
    """SIGKILL to the collector under load, started again up to 3 s later"""

    def harm(_pipeline: Pipeline, collector: Collector, _senders: Senders, rng: Random) -> str:
        pause = rng.uniform(0, 3)
        collector.process.kill()
        time.sleep(pause)
        collector.start()
        return f"collector killed, started again after {pause:.1f} s"

    return _under_load(pipeline, rng, harm)


def restarted(pipeline: Pipeline, rng: Random) -> Hit:
    """SIGTERM to the collector under load, three times; it exits with 0 and is started again at once"""

    def harm(_pipeline: Pipeline, collector: Collector, senders: Senders, _rng: Random) -> str:
        for _ in range(3):
            if code := collector.process.end():
                raise ChaosFailed(f"the collector exited with code {code}")
            collector.start()
            _more_promises(senders)
        return "collector restarted three times"

    return _under_load(pipeline, rng, harm)


def without_kafka(pipeline: Pipeline, rng: Random) -> Hit:
    """SIGKILL to Kafka under load, then to the collector, before Kafka starts again"""

    def harm(pipeline: Pipeline, collector: Collector, senders: Senders, _rng: Random) -> str:
        with _kafka_away(pipeline):
            _more_promises(senders)
            collector.process.kill()
            collector.start()
            _more_promises(senders)
        return "kafka killed, then the collector, and both started again"

    return _under_load(pipeline, rng, harm)


def slow_disk(pipeline: Pipeline, rng: Random) -> Hit:
    """Kafka is unreachable and each commit of the journal takes seconds: another process holds its write lock"""

    def harm(pipeline: Pipeline, collector: Collector, senders: Senders, rng: Random) -> str:
        file = (collector.settings.collector_journal_dir or collector.settings.data_dir) / NAME
        waits = [rng.uniform(0.5, 4.5) for _ in range(4)]
        with _kafka_away(pipeline), closing(sqlite3.connect(file, isolation_level=None)) as other:
            for seconds in waits:
                other.execute("BEGIN IMMEDIATE")
                time.sleep(seconds)
                other.execute("ROLLBACK")
                _more_promises(senders, CLIENTS)
        return f"kafka killed, and commits of the journal held up for {', '.join(f'{wait:.1f}' for wait in waits)} s"

    return _under_load(pipeline, rng, harm)


def full_journal(pipeline: Pipeline, rng: Random) -> Hit:
    """Kafka is unreachable until the collector's journal is full and it answers 503"""

    def harm(pipeline: Pipeline, _collector: Collector, senders: Senders, _rng: Random) -> str:
        with _kafka_away(pipeline):
            until(lambda: senders.statuses[503] > PROMISES, RECOVERY_SECONDS, "answers that the journal is full")
        return "kafka killed until the journal was full"

    return _under_load(pipeline, rng, harm, size=5000, journal_bytes=JOURNAL_BYTES)


def full_disk(pipeline: Pipeline, rng: Random) -> Hit:
    """Kafka is unreachable and the disk accepts no byte of the journal (RLIMIT_FSIZE) for 2–5 s"""

    def harm(pipeline: Pipeline, collector: Collector, senders: Senders, rng: Random) -> str:
        seconds, pid = rng.uniform(2, 5), collector.process.process.pid
        with _kafka_away(pipeline):
            before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            try:
                time.sleep(seconds)
            finally:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
            _more_promises(senders)
        return f"kafka killed, and the disk full for {seconds:.1f} s"

    return _under_load(pipeline, rng, harm)
