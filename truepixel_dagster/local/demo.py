"""Run the demo: fresh servers, realistic traffic, Dagster, and a summary read from the stores."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from truepixel_dagster.audit.account import Account, account
from truepixel_dagster.chunks import chunks
from truepixel_dagster.instance.process import INSTANCE, ended, environment, execute
from truepixel_dagster.jobs.drain import drain
from truepixel_dagster.local.connected import Connected, connect, start_collector
from truepixel_dagster.local.ephemeral import ephemeral_stack, identified
from truepixel_dagster.local.lock import alone
from truepixel_dagster.local.programs import Program, log_end
from truepixel_dagster.local.servers import free_ports
from truepixel_dagster.local.steps import step
from truepixel_dagster.local.storefront.shop import STOREFRONT
from truepixel_dagster.local.traffic import FULL, Record, busy, loyal, shops_of, traffic, traffic_at
from truepixel_dagster.local.visitors import Sent, Visitors
from truepixel_dagster.provision import provision
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.producer import EventProducer

Say = Callable[[str], None]
# How far the traffic goes back: a pixel's time 30 days before its arrival counts as a wrong clock.
HISTORY = timedelta(days=29)
# The records of the history before the live traffic, which are sent at once.
HISTORY_RECORDS = 4000
# The start of the live traffic, and how much faster than real time it runs until it has caught up.
WATCHED = timedelta(days=3, hours=12)
TIME_LAPSE = 60
# Records that are sent together; those of one visitor in order.
CHUNK = 1000
UI_SECONDS = 240.0
_UI_FILE = "ui-port"


class DemoFailed(Exception):
    """The demo failed; the message says where to look."""


class Summary(msgspec.Struct, frozen=True):
    """Hold the results of a demo: counts from the stores, speed and memory from the runs' reports, and its pages."""

    account: Account
    sent: Sent
    seconds: float
    drain_seconds: float
    latencies: list[float]
    worker_peak_mib: float
    pages: list[Path]

    def figures(self) -> dict[str, Any]:
        """Return the summary as plain figures."""
        counts = {key: value for key, value in msgspec.to_builtins(self.account).items() if key != "lost"}
        return {
            **counts,
            "acknowledged": {"webhooks": self.sent.webhooks, "pixel_events": self.sent.pixel_events},
            "sent_to_kafka": self.sent.to_kafka,
            "seconds": round(self.seconds, 1),
            "messages_per_minute": round(60 * self.account.produced / max(self.drain_seconds, 0.001)),
            "attribution_ms": {"p50": percentile(self.latencies, 50), "p95": percentile(self.latencies, 95)},
            "worker_peak_mib": self.worker_peak_mib,
        }


def percentile(values: list[float], percent: int) -> float:
    """Return the nearest-rank percentile, to a tenth; 0 without values."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 1) if ordered else 0.0


@contextmanager
def fresh_pipeline(settings: Settings, say: Say) -> Iterator[Settings]:
    """Start empty servers on free ports and set them up; they stop with the block."""
    base = settings.data_dir / "demo"
    with alone(base.with_suffix(".lock")):
        shutil.rmtree(base, ignore_errors=True)
        with ephemeral_stack(base, settings, say) as servers:
            own = identified(servers)
            with step(say, "creating topics, templates and indexes"):
                provision(own)
            # A shop's day may begin before the UTC day.
            first = datetime.now(timezone.utc) - HISTORY - timedelta(days=1)
            yield own.model_copy(update={"history_start": first.date()})


def produce(
    settings: Settings, events: int, *, on_sent: Callable[[int], None] = lambda _: None, **options: Any
) -> None:
    """Generate events and send them to the topic.

    Arguments:
        settings: The topic and its servers.
        events: The number of events.
        on_sent: Called with the number sent so far, every 1,000.
        options: As for `traffic`, and `rate` in events per second; without it, as fast as possible.
    """
    rate = options.pop("rate", None)
    started = time.monotonic()
    with EventProducer(settings.kafka()) as producer:
        for sent, record in enumerate(traffic(events, **options), start=1):
            if rate and (ahead := sent / rate - (time.monotonic() - started)) > 0:
                time.sleep(ahead)
            producer.send(record.key, record.value, record.headers)
            if sent % 1000 == 0 or sent == events:
                on_sent(sent)


def flush(settings: Settings) -> None:
    """Run one flush through Dagster.

    Raises:
        DemoFailed: The run failed.
    """
    log = settings.data_dir / "logs" / "flush.log"
    run = execute(settings, "flush", {}, log)
    with ended([run]):
        if run.wait() != 0:
            raise DemoFailed(f"the flush failed: the end of {log} says why")


def headless(settings: Settings, events: int, say: Say, *, seed: int, shops: int) -> Summary:
    """Generate events, send them to a collector, drain, flush, and read back the result."""
    started = time.monotonic()
    with fresh_pipeline(settings, say) as own, collecting(own, free_port(0), seed, shops, say) as connected:
        start = datetime.now(timezone.utc) - HISTORY
        records = traffic(events, seed=seed, shops=shops, profile=loyal(FULL), start=start, span=HISTORY)
        visitors = Visitors(connected, say)
        with step(say, f"sending {events:,} events to the collector", lambda: f"{visitors.sent.total:,} events sent"):
            asyncio.run(send(own, visitors, records))
        say(str(visitors.sent))
        waiting = [events]
        begun = time.monotonic()
        with step(say, "draining through Dagster", lambda: f"{waiting[-1]:,} events wait"):
            drain(own, waiting.append)
        drained = time.monotonic() - begun
        with step(say, "flushing product statistics and weekly visitors"):
            flush(own)
        with step(say, "reading the results from the stores"):
            latencies, peak = reported(own)
            counted = account(own)
        pages = reports(own, seed, shops, say)
        return Summary(counted, visitors.sent, time.monotonic() - started, drained, latencies, peak, pages)


def reports(settings: Settings, seed: int, shops: int, say: Say) -> list[Path]:
    """Make the tables, and write the reports of the shops that buy ads."""
    from truepixel_dagster.local.reports import ADVERTISERS, write_reports  # every command imports this module

    with step(say, f"making the tables, and the reports of {min(shops, ADVERTISERS)} shops"):
        return write_reports(settings, shops_of(seed, shops, FULL)[:ADVERTISERS])


@contextmanager
def collecting(settings: Settings, port: int, seed: int, shops: int, say: Say) -> Iterator[Connected]:
    """Connect the generated shops and the storefront, and run a collector until the block ends."""
    with step(say, f"connecting {shops + 1:,} shops and starting the collector"):
        doors = connect(settings, [*shops_of(seed, shops, FULL), STOREFRONT])
        connected = start_collector(settings, port, doors)
    try:
        yield connected
    finally:
        connected.program.end()


async def send(settings: Settings, visitors: Visitors, records: Iterator[Record]) -> None:
    """Send records as fast as they are acknowledged."""
    with EventProducer(settings.kafka()) as producer:
        async with visitors.connected(producer):
            for chunk in chunks(records, CHUNK):
                await visitors.send(chunk)


def reported(settings: Settings) -> tuple[list[float], float]:
    """Return the attribution latencies (ms) and the peak memory (MiB) that the runs reported to Dagster."""
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


@contextmanager
def dagster_dev(settings: Settings, port: int, *, writable: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """Run Dagster's UI and daemon on loopback; end them with everything that they started.

    Arguments:
        settings: The pipeline's settings.
        port: The UI's port.
        writable: Whether the UI and its API may launch, cancel and change things.
    """
    program = dagster_program(settings, port, writable=writable)
    try:
        yield program.process
    finally:
        program.end()


def dagster_program(settings: Settings, port: int, *, writable: bool = False) -> Program:
    """Start Dagster's UI and daemon on loopback; the arguments are those of `dagster_dev`."""
    variables = environment(settings) | webserver_access(writable=writable)
    log = settings.data_dir / "logs" / "dagster.log"
    return Program("Dagster", dev_command(port), variables, Path(variables["DAGSTER_HOME"]), log)


@contextmanager
def running_dagster(settings: Settings, port: int, say: Say, *, writable: bool) -> Iterator[Program]:
    """Run Dagster's UI and daemon on loopback until the block ends; it begins when the UI answers.

    Arguments:
        settings: The pipeline's settings.
        port: The UI's port.
        say: Prints a line.
        writable: Whether the UI and its API may launch, cancel and change things.

    Raises:
        DemoFailed: The UI does not answer; the message contains the end of its log.
    """
    from truepixel_dagster.local.graphql import GraphQL, GraphQLError  # every command imports this module

    program = dagster_program(settings, port, writable=writable)
    try:
        try:
            with step(say, "starting Dagster's UI and daemon"):
                GraphQL(f"http://127.0.0.1:{port}").wait(UI_SECONDS)
        except GraphQLError as error:
            end = log_end(program.log)
            raise DemoFailed(f"Dagster's UI did not start: {error}; the end of {program.log}:\n{end}") from error
        (settings.data_dir / _UI_FILE).write_text(str(port))
        yield program
    finally:
        with step(say, "ending Dagster's UI and daemon"):
            program.end()


def running_ui(data_dir: Path) -> str | None:
    """Return the address of the UI that `running_dagster` has started for a data folder; None if none answers."""
    try:
        port = int((data_dir / _UI_FILE).read_text())
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except (OSError, ValueError):
        return None
    return f"http://127.0.0.1:{port}"


def dev_command(port: int) -> list[str]:
    """Return the command for Dagster's UI and daemon on loopback, with the UI behind the guard."""
    program = [sys.executable, "-m", "truepixel_dagster.instance.dev", "-w", str(INSTANCE / "workspace.yaml")]
    return [*program, "-h", "127.0.0.1", "-p", str(port)]


def webserver_access(*, writable: bool) -> dict[str, str]:
    """Return the variable that makes Dagster's webserver read-only: `dagster dev` has no option for it."""
    return {"DAGSTER_WEBSERVER_READ_ONLY": "0" if writable else "1"}


@contextmanager
def producing(settings: Settings, records: Iterator[Record], rate: float) -> Iterator[None]:
    """Send records at a rate per second, in real time, from a thread that ends with the block."""
    stop = threading.Event()

    def run() -> None:
        started = time.monotonic()
        with EventProducer(settings.kafka()) as producer:
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


def live(rate: float, seed: int, shops: int, now: datetime, history: int = 0) -> Iterator[Record]:
    """Generate the history, then busy traffic that begins days ago, in time-lapse until it is at the present.

    So orders, their updates, and returning buyers appear within a minute, and no event is in the future.

    Arguments:
        rate: Records per second, after the history.
        seed: The seed of the traffic.
        shops: The number of shops.
        now: The start of sending, with a time zone.
        history: The number of records from the weeks before, which come first.
    """
    starts, watched, first = (int(moment.timestamp() * 1000) for moment in (now, now - WATCHED, now - HISTORY))
    before = (first + (watched - first) * sent // history for sent in range(history))
    elapsed = (int(1000 * sent / rate) for sent in range(int(rate * timedelta(days=1).total_seconds())))
    clock = (min(watched + TIME_LAPSE * passed, starts + passed) for passed in elapsed)
    return traffic_at(chain(before, clock), first if history else watched, seed=seed, shops=shops, profile=busy(FULL))


def free_port(preferred: int) -> int:
    """Return the preferred port if it is free on loopback, else any free one; 0 stands for no preference."""
    if preferred:
        with suppress(OSError), socket.create_server(("127.0.0.1", preferred)):
            return preferred
    return free_ports(1)[0]
