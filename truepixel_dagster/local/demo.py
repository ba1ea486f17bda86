"""The pipeline as a person sees it: fresh servers, believable traffic, Dagster, and a summary read from the stores."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec

from truepixel_dagster.audit.account import Account, account
from truepixel_dagster.instance.process import INSTANCE, ended, environment, execute
from truepixel_dagster.jobs.drain import drain
from truepixel_dagster.local.lock import alone
from truepixel_dagster.local.servers import free_ports
from truepixel_dagster.local.stack import ephemeral_stack, identified
from truepixel_dagster.local.traffic import FULL, Record, busy, traffic, traffic_at
from truepixel_dagster.private_files import UMASK, open_private, private_folder
from truepixel_dagster.provision import provision
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.producer import EventProducer

Say = Callable[[str], None]
# Where the traffic that is watched begins, and how much faster than real time it runs until it has caught up.
WATCHED = timedelta(days=3, hours=12)
TIME_LAPSE = 60


class DemoFailed(Exception):
    """The demo did not come to its end; the message says where to look."""


class Summary(msgspec.Struct, frozen=True):
    """What a demo did: counts from the stores, speed and memory from what the runs reported."""

    account: Account
    seconds: float
    drain_seconds: float
    latencies: list[float]
    worker_peak_mib: float

    def figures(self) -> dict[str, Any]:
        """The summary as plain figures."""
        counts = {key: value for key, value in msgspec.to_builtins(self.account).items() if key != "lost"}
        return {
            **counts,
            "seconds": round(self.seconds, 1),
            "messages_per_minute": round(60 * self.account.produced / max(self.drain_seconds, 0.001)),
            "attribution_ms": {"p50": percentile(self.latencies, 50), "p95": percentile(self.latencies, 95)},
            "worker_peak_mib": self.worker_peak_mib,
        }


def percentile(values: list[float], percent: int) -> float:
    """The nearest-rank percentile, to a tenth; 0 of nothing."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 1) if ordered else 0.0


@contextmanager
def fresh_pipeline(settings: Settings, say: Say) -> Iterator[Settings]:
    """Servers of the demo's own, on free ports, empty and set up; they end with the block."""
    base = settings.data_dir / "demo"
    with alone(base.with_suffix(".lock")):
        shutil.rmtree(base, ignore_errors=True)
        with ephemeral_stack(base, settings, say) as servers:
            own = identified(servers)
            provision(own)
            # As far back as its traffic goes.
            yield own.model_copy(update={"history_start": (datetime.now(timezone.utc) - timedelta(days=7)).date()})


def produce(
    settings: Settings, events: int, *, on_sent: Callable[[int], None] = lambda _: None, **options: Any
) -> None:
    """Generate events and send them to the topic.

    Arguments:
        settings: Where to.
        events: How many.
        on_sent: Told the number sent so far, every 1,000.
        options: As for `traffic`, and `rate`: events a second, none for as fast as it goes.
    """
    rate = options.pop("rate", None)
    started = time.monotonic()
    with EventProducer(settings) as producer:
        for sent, record in enumerate(traffic(events, **options), start=1):
            if rate and (ahead := sent / rate - (time.monotonic() - started)) > 0:
                time.sleep(ahead)
            producer.send(record.key, record.value, record.headers)
            if sent % 1000 == 0 or sent == events:
                on_sent(sent)


def recent(days: float = 4) -> dict[str, Any]:
    """Traffic options that have events fall in the last days."""
    span = timedelta(days=days)
    return {"start": datetime.now(timezone.utc) - span, "span": span}


def flush(settings: Settings) -> None:
    """One flush through Dagster.

    Raises:
        DemoFailed: The run failed.
    """
    log = settings.data_dir / "logs" / "flush.log"
    run = execute(settings, "flush", {}, log)
    with ended([run]):
        if run.wait() != 0:
            raise DemoFailed(f"the flush failed; its log says why: {log}")


def headless(settings: Settings, events: int, say: Say, *, seed: int, shops: int) -> Summary:
    """Generate events, drain, flush, and read back what came of it."""
    started = time.monotonic()
    with fresh_pipeline(settings, say) as own:
        say(f"generating {events:,} events")
        produce(own, events, seed=seed, shops=shops, profile=FULL, **recent())
        say("draining through Dagster")
        begun = time.monotonic()
        drain(own, lambda _: None)
        drained = time.monotonic() - begun
        say("flushing product statistics and weekly visitors")
        flush(own)
        say("reading back what the stores hold")
        latencies, peak = reported(own)
        return Summary(account(own), time.monotonic() - started, drained, latencies, peak)


def reported(settings: Settings) -> tuple[list[float], float]:
    """The latencies of attribution (ms) and the peak memory (MiB) that the runs of the stream reported to Dagster."""
    import dagster as dg

    from truepixel_dagster.asset_keys import KAFKA_TOPIC
    from truepixel_dagster.instance.process import dagster_home
    from truepixel_dagster.jobs.run_report import LATENCIES

    latencies: list[float] = []
    peak = 0.0
    with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
        for record in instance.fetch_observations(dg.AssetKey(KAFKA_TOPIC), limit=1000).records:
            latencies += _metadata(record, LATENCIES) or []
            peak = max(peak, _metadata(record, "peak memory (MiB)") or 0.0)
    return latencies, peak


def _metadata(record: Any, name: str) -> Any:
    value = record.asset_observation.metadata.get(name)
    return value.value if value else None


def with_ui(
    settings: Settings,
    say: Say,
    show: Callable[[Settings, str], None],
    *,
    rate: float,
    seed: int,
    shops: int,
    writable: bool = False,
) -> None:
    """Keep events coming, with Dagster's UI and daemon, until it is interrupted.

    Arguments:
        settings: The pipeline's settings.
        say: Told in lines what happens.
        show: Called with the demo's settings and the UI's address when all runs; returns at the end.
        rate: Events a second.
        seed: Of the traffic.
        shops: How many shops.
        writable: As of `dagster_dev`.
    """
    with fresh_pipeline(settings, say) as own:
        port = free_port(3000)
        records = live(rate, seed, shops, datetime.now(timezone.utc))
        with dagster_dev(own, port, writable=writable), producing(own, records, rate):
            _wait_for(port)
            show(own, f"http://127.0.0.1:{port}")


@contextmanager
def dagster_dev(settings: Settings, port: int, *, writable: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """Dagster's UI and daemon on loopback, ended with everything that they started.

    Arguments:
        settings: The pipeline's settings.
        port: Of the UI.
        writable: Whether the UI and its API may launch, cancel and change things.
    """
    log = settings.data_dir / "logs" / "dagster.log"
    env = environment(settings) | webserver_access(writable=writable)
    private_folder(log.parent)
    with open_private(log, "wb") as output:
        process = subprocess.Popen(
            dev_command(port),
            cwd=env["DAGSTER_HOME"],
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=UMASK,
        )
    try:
        yield process
    finally:
        end_tree(process)


def dev_command(port: int) -> list[str]:
    """The command of Dagster's UI and daemon on loopback, the UI behind our guard."""
    program = [sys.executable, "-m", "truepixel_dagster.instance.dev", "-w", str(INSTANCE / "workspace.yaml")]
    return [*program, "-h", "127.0.0.1", "-p", str(port)]


def webserver_access(*, writable: bool) -> dict[str, str]:
    """The variable by which Dagster's webserver is read-only or not: `dagster dev` has no option to pass on to it."""
    return {"DAGSTER_WEBSERVER_READ_ONLY": "0" if writable else "1"}


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """End a process and its descendants: SIGINT first, as from a terminal, and SIGKILL for what is left after 20 s."""
    import psutil

    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    for left in alive:
        left.terminate()
    _, alive = psutil.wait_procs(alive, timeout=5)
    for left in alive:
        left.kill()


@contextmanager
def producing(settings: Settings, records: Iterator[Record], rate: float) -> Iterator[None]:
    """Send records at a rate (a second), in real time, from a thread that ends with the block."""
    stop = threading.Event()

    def run() -> None:
        started = time.monotonic()
        with EventProducer(settings) as producer:
            for sent, record in enumerate(records):
                if stop.wait(max(0.0, sent / rate - (time.monotonic() - started))):
                    return
                producer.send(record.key, record.value, record.headers)

    thread = threading.Thread(target=run, name="traffic", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=60)


def live(rate: float, seed: int, shops: int, now: datetime) -> Iterator[Record]:
    """A day of traffic for somebody who watches: a busy time, which begins days ago and runs in time-lapse until now.

    So orders, what becomes of them, and buyers who come back are seen within a minute, and no event is ahead of time.

    Arguments:
        rate: Records a second.
        seed: Of the traffic.
        shops: How many shops.
        now: When it is sent from, with a time zone.
    """
    starts, begin = (int(moment.timestamp() * 1000) for moment in (now, now - WATCHED))
    elapsed = (int(1000 * sent / rate) for sent in range(int(rate * timedelta(days=1).total_seconds())))
    clock = (min(begin + TIME_LAPSE * passed, starts + passed) for passed in elapsed)
    return traffic_at(clock, begin, seed=seed, shops=shops, profile=busy(FULL))


def free_port(preferred: int) -> int:
    """The preferred port if it is free on loopback, else any free one; 0 prefers none."""
    if preferred:
        with suppress(OSError), socket.create_server(("127.0.0.1", preferred)):
            return preferred
    return free_ports(1)[0]


def _wait_for(port: int, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.3)
    raise DemoFailed(f"Dagster's UI did not answer on port {port} within {seconds:.0f} s; see logs/dagster.log")
