"""Faults of any server: it is killed, or the connections to it are cut or slow."""

from __future__ import annotations

import time
from random import Random

from truepixel_dagster.local.chaos.faults.hit import Fault, Hit, ended
from truepixel_dagster.local.chaos.pipeline import Pipeline


def killed(name: str) -> Fault:
    """Return the fault that kills one of the servers."""

    def fault(pipeline: Pipeline, rng: Random) -> Hit:
        pause = rng.uniform(0.5, 6)
        pipeline.kill_server(name)
        time.sleep(pause)
        pipeline.start_servers()
        return ended(f"{name} killed, started again after {pause:.1f} s")

    fault.__doc__ = f"SIGKILL to {name} under load, started again up to 6 s later"
    return fault


def connection(pipeline: Pipeline, rng: Random) -> Hit:
    """The connections to a server cut, or slowed by 0.2–1.5 s a chunk, for 2–8 s, by a proxy"""
    name = pipeline.unused.choice("connection", sorted(pipeline.proxies), rng)
    proxy, seconds, cut = pipeline.proxies[name], rng.uniform(2, 8), rng.random() < 0.5
    try:
        proxy.cut() if cut else proxy.delay(rng.uniform(0.2, 1.5))
        time.sleep(seconds)
    finally:
        proxy.heal()
    return ended(f"connections to {name} {'cut' if cut else 'slow'} for {seconds:.1f} s")
