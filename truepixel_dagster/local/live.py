"""Run the demo with the UI: visitors keep coming, and programs that die are reported and restarted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from truepixel_dagster.local.connected import write_environment
from truepixel_dagster.local.demo import (
    HISTORY_RECORDS,
    Say,
    collecting,
    free_port,
    fresh_pipeline,
    live,
    reports,
    running_dagster,
    send,
)
from truepixel_dagster.local.programs import Program
from truepixel_dagster.local.servers import StackError
from truepixel_dagster.local.stack import Stack
from truepixel_dagster.local.steps import step
from truepixel_dagster.local.storefront.pages import serving
from truepixel_dagster.local.storefront.shop import STOREFRONT
from truepixel_dagster.local.traffic import Record
from truepixel_dagster.local.visitors import Sent, Visitors
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.errors import KafkaError
from truepixel_dagster.stream.producer import EventProducer

UI_PORT, COLLECTOR_PORT, SHOP_PORT = 3000, 8080, 8081
# The seconds between two sends, and the most records to send at once after an outage.
TICK_SECONDS, MOST_AT_ONCE = 0.25, 1000


class Links(NamedTuple):
    """Hold the addresses to open; `storefront` and `report` are None without the storefront."""

    dagster: str
    collector: str
    environment: Path
    storefront: str | None
    report: str | None


class LiveDemo:
    """Hold the running demo, and restart its dead servers and programs.

    Arguments:
        settings: The settings of its servers.
        links: The addresses to open.
        sent: The counts of what the visitors have sent so far; they change.
        stack: The demo's servers.
        programs: The programs that run beside the servers.
        reports: Makes the tables, and returns the pages of the shops that buy ads; its argument prints a line.
    """

    def __init__(
        self,
        settings: Settings,
        links: Links,
        sent: Sent,
        stack: Stack,
        programs: Sequence[Program],
        reports: Callable[[Say], list[Path]],
    ) -> None:
        self.settings = settings
        self.links = links
        self.sent = sent
        self.reports = reports
        self._stack = stack
        self._programs = programs

    def restart_dead(self, say: Say) -> None:
        """Restart servers and programs that have died, and report the end of their logs; the next call retries.

        Call it from the main thread.
        """
        try:
            self._stack.revive(say)
        except StackError as error:
            for line in str(error).splitlines():
                say(line)
        for program in self._programs:
            program.restart_if_dead(say)


@contextmanager
def live_demo(
    settings: Settings, say: Say, *, rate: float, seed: int, shops: int, writable: bool, shop_page: bool
) -> Iterator[LiveDemo]:
    """Run the pipeline with Dagster's UI and visitors who keep coming, until the block ends.

    Arguments:
        settings: The pipeline's settings.
        say: Prints a line.
        rate: Events a second.
        seed: The seed of the traffic.
        shops: The number of shops.
        writable: Whether the UI may launch, cancel and change things.
        shop_page: Whether to serve the storefront.

    Raises:
        DemoFailed: Dagster's UI did not start.
    """
    with ExitStack() as stack:
        own = stack.enter_context(fresh_pipeline(settings, say))
        connected = stack.enter_context(collecting(own, free_port(COLLECTOR_PORT), seed, shops, say))
        port = free_port(UI_PORT)
        dagster = stack.enter_context(running_dagster(own, port, say, writable=writable))
        visitors = Visitors(connected, say)
        pages = stack.enter_context(serving(own, connected, free_port(SHOP_PORT))) if shop_page else None
        links = Links(
            dagster=f"http://127.0.0.1:{port}",
            collector=connected.address,
            environment=write_environment(own, connected, STOREFRONT),
            storefront=pages,
            report=pages and f"{pages}/report",
        )
        records = live(rate, seed, shops, datetime.now(timezone.utc), HISTORY_RECORDS)
        with step(say, "sending the visits of the last weeks", lambda: f"{visitors.sent.total:,} events sent"):
            asyncio.run(send(own, visitors, islice(records, HISTORY_RECORDS)))
        stack.enter_context(visiting(own, visitors, records, rate, say))
        servers = Stack(own, tied_to_parent=True)
        yield LiveDemo(
            own, links, visitors.sent, servers, [connected.program, dagster], partial(reports, own, seed, shops)
        )


@contextmanager
def visiting(
    settings: Settings, visitors: Visitors, records: Iterator[Record], rate: float, say: Say
) -> Iterator[None]:
    """Send visitors' records at a rate per second, in real time, from a thread that ends with the block."""
    stop = threading.Event()

    def run() -> None:
        try:
            asyncio.run(_until(stop, _visit(settings, visitors, records, rate, say)))
        except Exception as error:
            say(f"the visitors have stopped: {error}")

    thread = threading.Thread(target=run, name="visitors", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=30)


async def _until(stop: threading.Event, visit: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(visit)
    while not stop.is_set() and not task.done():
        await asyncio.wait({task}, timeout=0.1)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _visit(settings: Settings, visitors: Visitors, records: Iterator[Record], rate: float, say: Say) -> None:
    """Send due records repeatedly; after an outage, send at most a thousand of the missed records at once."""
    began, sent = time.monotonic(), 0
    while True:
        try:
            with EventProducer(settings.kafka()) as producer:
                async with visitors.connected(producer):
                    while True:
                        due = int((time.monotonic() - began) * rate) - sent
                        for_now = list(islice(records, min(due, MOST_AT_ONCE)))
                        await visitors.send(for_now)
                        sent += due
                        await asyncio.sleep(TICK_SECONDS)
        except KafkaError as error:
            # Kafka takes only the broken records directly; the others are safe in the collector's journal.
            say(f"{error}; the visitors wait")
            await asyncio.sleep(2.0)
