"""Measure the collector: signed webhooks of 4 KiB and pixel batches by HTTP, compared with a minimal collector.

bombardier makes the load, on the same machine as Kafka and the collectors. They take turns, so that other work on the
machine affects both.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil

from benchmarks.outcome import Outcome, Plot, median
from benchmarks.servers import servers
from truepixel_dagster.collector.signature import sign
from truepixel_dagster.instance.process import ROOT, environment
from truepixel_dagster.provision import provision
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.connections import Connection, change
from truepixel_dagster.stores.mongodb import MongoStore

BOMBARDIER = "github.com/codesenberg/bombardier@v1.2.6"
SHOP, DOMAIN, TOKEN, SECRET = "548380009", "toys.myshopify.com", "tp_bench", b"bench-secret"
CONNECTIONS = (16, 64, 128)
MIB = 2**20
START_SECONDS = 60.0
# The time for Kafka to acknowledge the records in flight at the end of a round.
SETTLE_SECONDS = 1.0


class Measured(NamedTuple):
    """Hold the results of a round of load.

    `answered` counts answers with 200, `rate` is their number a second, `median` and `p99` are in milliseconds.
    `processor` is the server's processor time for a request (µs), `resident` its memory at the end (MiB), and `others`
    counts other answers.
    """

    answered: int
    rate: float
    median: float
    p99: float
    processor: float
    resident: float
    others: int


def bombardier() -> str:
    """Return the load generator; Go builds it at first use.

    Raises:
        FileNotFoundError: Neither bombardier nor Go is installed.
    """
    folder = ROOT / ".truepixel" / "bin"
    found = shutil.which("bombardier", path=os.pathsep.join((str(folder), os.environ.get("PATH", ""))))
    if found:
        return found
    go = shutil.which("go")
    if go is None:
        raise FileNotFoundError("bombardier, which makes the load, is not installed: install it, or Go to build it")
    subprocess.run([go, "install", BOMBARDIER], env={**os.environ, "GOBIN": str(folder)}, check=True)
    return str(folder / "bombardier")


def order() -> bytes:
    """Return a webhook's body of about 4 KiB."""
    lines = [{"id": number, "title": "x" * 60, "price": "1.00", "quantity": 1} for number in range(35)]
    notes = [{"name": "client_id", "value": "c-1"}]
    return msgspec.json.encode({"id": 1, "cart_token": "c1", "note_attributes": notes, "line_items": lines})


def batch() -> bytes:
    """Return a pixel's batch of ten events."""
    at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    context = {
        "document": {"location": {"href": "https://toys.example/?utm_source=google&gclid=G"}, "referrer": ""},
        "navigator": {"userAgent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
    }
    events = [
        {"id": f"e{number}", "name": "page_viewed", "clientId": "c-1", "timestamp": at, "data": {}, "context": context}
        for number in range(10)
    ]
    return msgspec.json.encode({"events": events})


def signed(body: bytes) -> dict[str, str]:
    """Return Shopify's headers of a webhook."""
    return {
        "Content-Type": "application/json",
        "X-Shopify-Topic": "orders/create",
        "X-Shopify-Shop-Domain": DOMAIN,
        "X-Shopify-Webhook-Id": "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
        "X-Shopify-Hmac-Sha256": sign(body, SECRET).decode(),
    }


@contextmanager
def serving(settings: Settings, *command: str) -> Iterator[tuple[psutil.Process, int]]:
    """Run a server; yield its process and its port, which replaces `PORT` in the command.

    The process is suspended except during `load`, because a waiting server also uses processor time.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = [str(port) if part == "PORT" else part for part in command]
    child = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env=environment(settings), stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port):
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[1]} does not listen")
            time.sleep(0.1)
        process = psutil.Process(child.pid)
        process.suspend()
        yield process, port
    finally:
        child.send_signal(signal.SIGCONT)
        child.send_signal(signal.SIGTERM)
        child.wait(30)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def load(
    process: psutil.Process, url: str, body: Path, headers: Mapping[str, str], connections: int, *, seconds: int
) -> Measured:
    """Put load on a process for one round."""
    options = [option for name, value in headers.items() for option in ("-H", f"{name}: {value}")]
    command = [bombardier(), "-c", str(connections), "-d", f"{seconds}s", "-m", "POST", "-f", str(body), *options]
    command += ["-t", "10s", "-l", "-p", "r", "-o", "json", url]
    process.resume()
    before = sum(process.cpu_times()[:2])
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    time.sleep(SETTLE_SECONDS)
    processor = sum(process.cpu_times()[:2]) - before
    process.suspend()
    found: dict[str, Any] = json.loads(done.stdout)["result"]
    percentiles = found["latency"]["percentiles"]
    answered = found["req2xx"]
    return Measured(
        answered=answered,
        rate=answered / found["timeTakenSeconds"],
        median=percentiles["50"] / 1000,
        p99=percentiles["99"] / 1000,
        processor=processor / max(1, answered) * 1e6,
        resident=process.memory_info().rss / MIB,
        others=sum(found[name] for name in ("req1xx", "req3xx", "req4xx", "req5xx", "others")),
    )


OURS = ("-m", "truepixel_dagster.cli", "collector", "--port", "PORT")
PLAIN = ("-m", "benchmarks.plain_collector", "PORT", SECRET.decode())


def run(quick: bool, say: Callable[[str], None]) -> Outcome:
    """Measure ours and the plain one in turns, at each number of connections; then pixel batches."""
    rounds, seconds = (1, 4) if quick else (3, 10)
    found: dict[tuple[str, int], list[Measured]] = {}
    body, events = order(), batch()
    with servers(say) as bare, tempfile.TemporaryDirectory() as folder:
        settings, webhook, pixel = _prepared(bare, Path(folder)), Path(folder, "order"), Path(folder, "batch")
        webhook.write_bytes(body)
        pixel.write_bytes(events)
        with serving(settings, *OURS) as ours, serving(settings, *PLAIN) as plain:
            ways = {
                "ours": (*ours, "v1/webhooks", webhook, signed(body)),
                "plain": (*plain, "v1/webhooks", webhook, signed(body)),
                "ours, 10 pixel events": (*ours, f"v1/pixel?token={TOKEN}", pixel, {"Content-Type": "text/plain"}),
            }
            for number, connections, way in product(range(rounds), CONNECTIONS, ways):
                process, port, path, file, headers = ways[way]
                url = f"http://127.0.0.1:{port}/{path}"
                each = load(process, url, file, headers, connections, seconds=seconds)
                found.setdefault((way, connections), []).append(each)
                figures = f"{each.rate:,.0f}/s, p99 {each.p99:.1f} ms"
                say(f"round {number + 1}: {way}, {connections} connections: {figures}")
    return _outcome(found, rounds)


def _prepared(settings: Settings, folder: Path) -> Settings:
    """Return the settings of a collector with one shop and without limits."""
    provision(settings)
    store = MongoStore(settings.mongodb())
    change(store, SHOP, lambda _: Connection(DOMAIN, TOKEN, 1))
    store.close()
    secrets = folder / "secrets"
    secrets.write_bytes(SECRET)
    unlimited = {"collector_address_rate": 1e6, "collector_shop_rate": 1e6}
    return settings.model_copy(update={"collector_app_secrets_file": str(secrets), **unlimited})


def _memory(found: dict[tuple[str, int], list[Measured]]) -> dict[str, float]:
    """Return the events that ours accepted, and its MiB after the first and after the last round of each load."""
    ours = {place: each for place, each in found.items() if place[0] != "plain"}
    events = sum(one.answered * (10 if "10" in way else 1) for (way, _), each in ours.items() for one in each)
    first, last = (max(each[at].resident for each in ours.values()) for at in (0, -1))
    return {"events_ours": events, "mib_ours_first_round": first, "mib_ours_last_round": last}


def _outcome(found: dict[tuple[str, int], list[Measured]], rounds: int) -> Outcome:
    rows: list[list[object]] = []
    figures = _memory(found)
    lines: dict[str, list[tuple[float, float]]] = {}
    for (way, connections), each in found.items():
        rate, p99 = median([one.rate for one in each]), median([one.p99 for one in each])
        resident, others = max(one.resident for one in each), sum(one.others for one in each)
        processor = median([one.processor for one in each])
        half = median([one.median for one in each])
        rows.append([way, str(connections), rate, half, p99, processor, resident, str(others)])
        name = f"{way.replace(', ', '_').replace(' ', '_')}_{connections}"
        figures |= {f"per_second_{name}": rate, f"p99_ms_{name}": p99, f"processor_us_{name}": processor}
        figures |= {f"mib_{name}": resident, f"others_{name}": others}
        lines.setdefault(way, []).append((float(connections), rate))
    for connections in CONNECTIONS:
        plain, ours = figures[f"per_second_plain_{connections}"], figures[f"per_second_ours_{connections}"]
        figures[f"of_plain_{connections}"] = ours / plain
    return Outcome(
        title=f"collector: webhooks of 4 KiB by HTTP, {rounds} round{'s' * (rounds > 1)}",
        columns=["way", "connections", "requests/s", "p50, ms", "p99, ms", "processor, µs", "most MiB", "not 200"],
        rows=rows,
        figures=figures,
        plot=Plot("connections", "requests/s", lines, {"8,000/s": 8000}),
    )
