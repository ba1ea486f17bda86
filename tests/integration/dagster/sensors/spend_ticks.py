"""Ticks of the sensor of spend files."""

from __future__ import annotations

import dagster as dg

from truepixel_dagster.sensors.spend_files import spend_files


def tick(cursor: str | None) -> tuple[list[dg.RunRequest], str | None]:
    """Return the runs that the sensor requests, and its new cursor."""
    found = spend_files(dg.build_sensor_context(cursor=cursor))
    assert isinstance(found, dg.SensorResult)
    return list(found.run_requests or ()), found.cursor
