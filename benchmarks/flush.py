"""What a flush of many buffered counters takes: memory over idle, keys a second, script loads."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.outcome import Outcome, Plot
from benchmarks.servers import servers
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.jobs.drain import ROOT, environment
from truepixel_dagster.provision import provision
from truepixel_dagster.resources import open_stores
from truepixel_dagster.settings import Settings, load_settings
from truepixel_dagster.stores.redis import CounterKey, Increments

SIZES = (1_000, 10_000, 50_000, 200_000)
CHUNK = 500
CHILD = "--flush"


def fill(settings: Settings, keys: int, begin: int) -> None:
    """Buffer counters of that many products, as the stream does."""
    with open_stores(settings) as stores:
        for first in range(0, keys, CHUNK):
            counters: dict[CounterKey, dict[str, int]] = {
                (f"shop-{number % 50}", f"product-{number}", "2026-01-05"): {"views": 3, "carts": 1}
                for number in range(first, min(first + CHUNK, keys))
            }
            stores.redis.apply_once({Origin("bench", 0, begin + first): Increments(counters, {}, {})})


def in_a_process(settings: Settings, filling: Callable[[], None]) -> dict[str, float]:
    """One flush in a process of its own, so that its peak is its own; the counters are buffered once it is idle."""
    command = [sys.executable, "-m", "benchmarks.flush", CHILD]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        child.stdout.readline()
        filling()
        figures: dict[str, float] = json.loads(child.communicate("go\n")[0])
    return figures


def flush_and_measure() -> None:
    """The child: say when it is idle, wait for a line, flush; prints memory over idle, keys, seconds, script loads."""
    from truepixel_dagster.flush import flush_product_stats
    from truepixel_dagster.jobs.tally import peak_memory

    with open_stores(load_settings()) as stores:
        # Idle is a process that has flushed before: what is asked is whether its memory grows with the keys.
        loads_before = script_loads(stores.redis.client)
        fill(load_settings(), 200, begin=10**12)
        flush_product_stats(stores.redis, stores.elasticsearch)
        sys.stdout.write("idle\n")
        sys.stdout.flush()
        sys.stdin.readline()
        idle, began = peak_memory(), time.perf_counter()
        result = flush_product_stats(stores.redis, stores.elasticsearch)
        figures = {
            "keys": result.keys,
            "seconds": time.perf_counter() - began,
            "over_idle_mib": (peak_memory() - idle) / 2**20,
            "script_loads": script_loads(stores.redis.client) - loads_before,
        }
    sys.stdout.write(json.dumps(figures) + "\n")


def script_loads(client: object) -> int:
    """How often this server has loaded a script."""
    stats = client.info("commandstats")  # type: ignore[attr-defined]
    return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("script|load", "eval"))


def sizes(quick: bool) -> Iterator[int]:
    """How many keys."""
    yield from SIZES[:2] if quick else SIZES


def run(quick: bool, say: Callable[[str], None]) -> Outcome:
    """Fill, flush, measure, for each size."""
    rows, points = [], []
    figures: dict[str, float] = {}
    with servers(say) as settings:
        provision(settings)
        for number, keys in enumerate(sizes(quick)):
            found = in_a_process(settings, partial(fill, settings, keys, begin=number * 10**9))
            rate = found["keys"] / found["seconds"]
            say(f"{keys:,} keys: {rate:,.0f} keys/s")
            rows.append([f"{keys:,}", rate, 1e6 / rate, found["over_idle_mib"], int(found["script_loads"])])
            points.append((float(keys), 1e6 / rate))
            figures |= {
                f"keys_per_second_{keys}": rate,
                f"over_idle_mib_{keys}": found["over_idle_mib"],
                f"script_loads_{keys}": found["script_loads"],
            }
    return Outcome(
        title="flush: buffered counters to Elasticsearch",
        columns=["keys", "keys/s", "µs a key", "memory over idle, MiB", "script loads"],
        rows=rows,
        figures=figures,
        plot=Plot("keys", "µs a key", {"flush": points}),
    )


if __name__ == "__main__" and CHILD in sys.argv:
    flush_and_measure()
