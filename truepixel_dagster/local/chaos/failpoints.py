"""Failpoints at the boundaries of stages and of the flush's steps, for processes that load the chaos definitions.

A file in the chaos folder names a failpoint, such as `after index`. The first process that reaches it removes the file
and kills itself with SIGKILL, so that it cleans nothing up. The pipeline's own code has no failpoints: importing the
chaos definitions wraps its methods.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from truepixel_dagster import flush
from truepixel_dagster.local.chaos.waiting import until
from truepixel_dagster.pipeline.background import BackgroundStages
from truepixel_dagster.pipeline.runner import LaneRunner
from truepixel_dagster.stages.stage import IN_BACKGROUND, NAMES
from truepixel_dagster.stores.redis import RedisStore

OPS = ("fetch", *NAMES, "commit")
# Methods that the background pool runs, after their op has returned.
BACKGROUND = {f"{name}'s write": f"_{name}" for name in IN_BACKGROUND}
STAGE_POINTS = tuple(f"{moment} {name}" for name in (*OPS, *BACKGROUND) for moment in ("before", "after"))
FLUSH_POINTS = ("after the claim", "after the write", "after the acknowledgement")
SWITCH_SECONDS = 150.0
FLUSH_STEPS = ((RedisStore, "claim"), (flush, "_write_claims"), (RedisStore, "acknowledge"))


def chaos_folder(data_dir: Path) -> Path:
    """Return the folder of the failpoint's file and the workers' pids."""
    return data_dir / "chaos"


def switch(data_dir: Path) -> Path:
    """Return the file that names the failpoint at which the next process kills itself."""
    return chaos_folder(data_dir) / "kill"


def workers(data_dir: Path) -> Path:
    """Return the folder in which each worker creates a file with its pid as name."""
    return chaos_folder(data_dir) / "workers"


def kill_at(data_dir: Path, point: str) -> None:
    """Make the next process that reaches a failpoint kill itself there; return when one has.

    Raises:
        ChaosFailed: No process reached it in time.
    """
    file = switch(data_dir)
    file.write_text(point)
    try:
        until(lambda: not file.exists(), SWITCH_SECONDS, f"a process that reaches {point!r}")
    finally:
        file.unlink(missing_ok=True)


def install(data_dir: Path) -> None:
    """Add failpoints to the methods of workers and flushes."""
    workers(data_dir).mkdir(parents=True, exist_ok=True)
    file = switch(data_dir)
    for name in OPS:
        _wrap(LaneRunner, name, _dying(file, f"before {name}"), _dying(file, f"after {name}"))
    for name, method in BACKGROUND.items():
        _wrap(BackgroundStages, method, _dying(file, f"before {name}"), _dying(file, f"after {name}"))
    # A worker creates its runner after it has taken the lane.
    _wrap(LaneRunner, "__init__", _nothing, lambda: (workers(data_dir) / str(os.getpid())).touch())
    for (owner, method), point in zip(FLUSH_STEPS, FLUSH_POINTS):
        _wrap(owner, method, _nothing, _dying(file, point))


def _wrap(owner: Any, name: str, before: Callable[[], None], after: Callable[[], None]) -> None:
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        before()
        result = inner(*arguments, **named)
        after()
        return result

    setattr(owner, name, wrapped)


def _nothing() -> None:
    pass


def _dying(file: Path, point: str) -> Callable[[], None]:
    def die() -> None:
        try:
            if file.read_text() != point:
                return
            file.unlink()  # of several processes at the failpoint, only one succeeds
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    return die
