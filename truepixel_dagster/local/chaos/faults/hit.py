"""What a fault is: a function that does harm to a pipeline, undoes it, and says what it did."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from truepixel_dagster.local.chaos.pipeline import Pipeline


class Hit(NamedTuple):
    """What a fault did.

    `ended_at` is when it ended, or the operator's command that puts it right (monotonic seconds): recovery is measured
    from there. `takeover` is the seconds until another worker had a frozen one's lane.
    """

    what: str
    ended_at: float
    takeover: float | None = None


def ended(what: str) -> Hit:
    """A fault that ends now."""
    return Hit(what, time.monotonic())


Fault = Callable[[Pipeline, Random], Hit]
