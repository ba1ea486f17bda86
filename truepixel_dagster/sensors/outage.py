"""Make an outage visible in Dagster's UI: a sensor that only skips its ticks looks as if it had nothing to do."""

from __future__ import annotations

import dagster as dg

from truepixel_dagster.text import printable

#: Seconds for which a sensor skips ticks before it fails them.
RED_AFTER = 60.0


# Dagster shows its own errors unchanged, and adds a line above all others.
class SensorHeldUp(dg.DagsterError):
    """A sensor has not been able to do its work for a minute; the message says why."""


def held_up(why: str, since: float, now: float) -> dg.SkipReason:
    """Skip a tick with the reason; from a minute on fail it instead, so that the sensor is red until a tick succeeds.

    Arguments:
        why: The reason, in one line.
        since: When the sensor was first held up, in epoch seconds; the cursor keeps it. 0 for never before.
        now: Epoch seconds.

    Raises:
        SensorHeldUp: It has been held up for a minute or longer.
    """
    if since and now - since >= RED_AFTER:
        raise SensorHeldUp(printable(f"{why} (for {now - since:.0f} s)"))
    return dg.SkipReason(printable(why))
