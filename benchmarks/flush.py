"""Measure the cost of a flush of many buffered counters: memory above idle, keys per second, script loads."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count

from benchmarks.outcome import Outcome, Plot, median
from benchmarks.servers import servers
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.instance.process import ROOT, environment
from truepixel_dagster.provision import provision
from truepixel_dagster.resources import open_stores
from truepixel_dagster.settings import Settings, load_settings
from truepixel_dagster.stores.redis import CounterKey, Increments, RedisStore

SIZES = (1_000, 10_000, 50_000, 200_000)
CHUNK = 500
ROUNDS = 5
CHILD = "--flush"


def fill(settings: Settings, keys: int, begin: int) -> None:
    """Buffer counters of that many products, as the stream does."""
    with open_stores(settings) as stores:
        fill_from(stores.redis, keys, begin)


def fill_from(store: RedisStore, keys: int, begin: int) -> None:
    """Buffer counters through an open store."""
    for first in range(0, keys, CHUNK):
        counters: dict[CounterKey, dict[str, int]] = {
            (f"shop-{number % 50}", f"product-{number}", "2026-01-05"): {"views": 3, "carts": 1}
            for number in range(first, min(first + CHUNK, keys))
        }
        store.apply_once({Origin("bench", 0, begin + first): Increments(counters, {}, {})})


def in_a_process(settings: Settings, filling: Callable[[], None]) -> dict[str, float]:
    """Flush once in a separate process, to measure its own peak; the counters are buffered once it is idle."""
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
    """Run the child: report that it is idle, wait for a line, flush, and print the cost.

    Script loads by other processes, while this one waits, are not counted.
    """
    from truepixel_dagster.flush import flush_product_stats
    from truepixel_dagster.pipeline.run_metrics import peak_memory

    with open_stores(load_settings()) as stores:
        client = stores.redis.client
        began_with = script_loads(client)
        # Idle means after a first flush: the question is whether memory grows with the number of keys.
        fill_from(stores.redis, 200, begin=10**12)
        flush_product_stats(stores.redis, stores.elasticsearch)
        loads = script_loads(client) - began_with
        sys.stdout.write("idle\n")
        sys.stdout.flush()
        sys.stdin.readline()
        waited_until, idle, began = script_loads(client), peak_memory(), time.perf_counter()
        result = flush_product_stats(stores.redis, stores.elasticsearch)
        figures = {
            "keys": result.keys,
            "seconds": time.perf_counter() - began,
            "over_idle_mib": (peak_memory() - idle) / 2**20,
            "loads_of_a_script": (loads + script_loads(client) - waited_until) / len(stores.redis._shas),
        }
    sys.stdout.write(json.dumps(figures) + "\n")


def script_loads(client: object) -> int:
    """Return how often this server has loaded a script."""
    stats = client.info("commandstats")  # type: ignore[attr-defined]
    return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("script|load", "eval"))


def run(quick: bool, say: Callable[[str], None]) -> Outcome:
    """Fill, flush and measure each size, in rounds."""
    rounds, sizes = (1, SIZES[:2]) if quick else (ROUNDS, SIZES)
    found: dict[int, list[dict[str, float]]] = {keys: [] for keys in sizes}
    begins = count(0, 10**9)
    with servers(say) as settings:
        provision(settings)
        for number in range(rounds):
            for keys in sizes:
                found[keys].append(in_a_process(settings, partial(fill, settings, keys, begin=next(begins))))
                say(f"round {number + 1} {keys:,} keys: {rate(found[keys][-1]):,.0f} keys/s")
    figures: dict[str, float] = {}
    rows, points = [], []
    for keys, each in found.items():
        per_second = median([rate(one) for one in each])
        over_idle = max(one["over_idle_mib"] for one in each)
        loads = max(one["loads_of_a_script"] for one in each)
        rows.append([f"{keys:,}", per_second, 1e6 / per_second, over_idle, loads])
        points.append((float(keys), 1e6 / per_second))
        figures |= {
            f"keys_per_second_{keys}": per_second,
            f"over_idle_mib_{keys}": over_idle,
            f"loads_of_a_script_{keys}": loads,
        }
    return Outcome(
        title=f"flush: buffered counters to Elasticsearch, {rounds} round{'s' * (rounds > 1)}",
        columns=["keys", "keys/s, median", "µs a key", "most memory over idle, MiB", "loads of a script by a process"],
        rows=rows,
        figures=figures,
        plot=Plot("keys", "µs a key", {"flush": points}),
    )


def rate(found: dict[str, float]) -> float:
    """Return keys a second."""
    return found["keys"] / found["seconds"]


if __name__ == "__main__" and CHILD in sys.argv:
    flush_and_measure()
