"""The type of a fault: a function that damages a pipeline, undoes the damage, and describes what it did."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from truepixel_dagster.local.chaos.pipeline import Pipeline


class Hit(NamedTuple):
    """The description of a fault that has ended.

    `ended_at` (monotonic seconds) is the end of the fault, or of the operator's command that corrects it: recovery is
    measured from there. `takeover` is the seconds until another worker had the lane of a frozen one.
    """

    what: str
    ended_at: float
    takeover: float | None = None


def ended(what: str) -> Hit:
    """Return the description of a fault that ends now."""
    return Hit(what, time.monotonic())


Fault = Callable[[Pipeline, Random], Hit]
