"""Faults of Dagster's processes: killed, frozen, terminated, or started in a folder with a foreign `.env`."""

from __future__ import annotations

import time
from contextlib import suppress
from random import Random

import psutil

from truepixel_dagster.local.chaos.failpoints import FLUSH_POINTS, STAGE_POINTS, kill_at
from truepixel_dagster.local.chaos.faults.hit import Hit, ended
from truepixel_dagster.local.chaos.pipeline import Pipeline
from truepixel_dagster.local.chaos.visits import visits
from truepixel_dagster.local.chaos.waiting import RECOVERY_SECONDS, until
from truepixel_dagster.resources import open_stores

# No server listens there.
DEAD = "127.0.0.1:1"
DOTENV = f"""
TRUEPIXEL_KAFKA_BOOTSTRAP={DEAD}
TRUEPIXEL_ELASTICSEARCH_URL=http://{DEAD}
TRUEPIXEL_MONGODB_URL=mongodb://{DEAD}
TRUEPIXEL_REDIS_URL=redis://{DEAD}/0
TRUEPIXEL_NAMESPACE=somebody-elses
"""


def worker(pipeline: Pipeline, rng: Random) -> Hit:
    """SIGKILL to the worker at a random moment"""
    pipeline.workers.kill(rng)
    return ended("worker killed")


def stage(pipeline: Pipeline, rng: Random) -> Hit:
    """SIGKILL exactly before or after a stage, the background writes and the commit included"""
    point = pipeline.unused.choice("stage", STAGE_POINTS, rng)
    kill_at(pipeline.settings.data_dir, point)
    return ended(f"worker killed {point}")


def flush(pipeline: Pipeline, rng: Random) -> Hit:
    """SIGKILL to the flush after the claim, after the write, or after the acknowledgement, until no claim is open"""
    point = pipeline.unused.choice("flush", FLUSH_POINTS, rng)
    kill_at(pipeline.settings.data_dir, point)
    hit = ended(f"flush killed {point}")
    until(lambda: not _open_claims(pipeline), RECOVERY_SECONDS, "the end of the interrupted claims")
    return hit


def _open_claims(pipeline: Pipeline) -> int:
    """Return the number of claims of flushes that are in progress or were interrupted."""
    with open_stores(pipeline.settings) as stores:
        return sum(len(keys) for keys in stores.redis.counter_keys("claim", 100))


def daemon(pipeline: Pipeline, rng: Random) -> Hit:
    """SIGKILL to Dagster's daemon, started again up to 5 s later"""
    pause = rng.uniform(0, 5)
    pipeline.daemon.kill()
    time.sleep(pause)
    pipeline.daemon.start(pipeline.settings)
    return ended(f"daemon killed, started again after {pause:.1f} s")


def freeze(pipeline: Pipeline, rng: Random) -> Hit:
    """SIGSTOP to the lane's worker until the lane has another owner, then SIGCONT; the frozen worker ends"""
    time.sleep(rng.uniform(0, 1))
    frozen, owner = pipeline.workers.freeze_owner()
    at = time.monotonic()
    try:
        until(
            lambda: pipeline.workers.owner() not in (None, owner),
            RECOVERY_SECONDS,
            "another owner of the frozen one's lane",
        )
        taken = time.monotonic() - at
        pipeline.wait_until_processed(pipeline.high(), RECOVERY_SECONDS)
    finally:
        with suppress(psutil.NoSuchProcess):
            frozen.resume()
    until(lambda: not frozen.is_running(), RECOVERY_SECONDS, f"the end of the worker {frozen.pid} that lost its lane")
    return Hit(f"worker frozen until its lane was taken over, after {taken:.1f} s, and woken up", at, taken)


def terminated(pipeline: Pipeline, rng: Random) -> Hit:
    """A run is terminated through Dagster before it reports what it wrote of a day that has no other events"""
    day = pipeline.unused.month()
    pipeline.send(visits(f"day-{rng.getrandbits(40):x}", 20, day))
    pipeline.wait_until_processed(pipeline.high(), RECOVERY_SECONDS)
    run = pipeline.workers.terminate_owner()
    return ended(f"run {run[:8]} terminated through Dagster, with {day:%Y-%m-%d} not reported")


def dotenv(pipeline: Pipeline, _rng: Random) -> Hit:
    """Daemon and workers start in a folder whose `.env` names dead servers and another namespace"""
    folder = pipeline.settings.data_dir / "elsewhere"
    folder.mkdir(exist_ok=True)
    (folder / ".env").write_text(DOTENV)
    pipeline.daemon.stop()
    pipeline.daemon.start(pipeline.settings, folder)
    hit = ended("daemon started beside a .env that names dead servers")
    try:
        if not pipeline.wait_until_processed(pipeline.high(), RECOVERY_SECONDS):
            return hit
        took = time.monotonic() - hit.ended_at
    finally:
        pipeline.daemon.stop()
        pipeline.daemon.start(pipeline.settings)
    return Hit(f"{hit.what}: processed after {took:.1f} s there, and started again at home", time.monotonic())
