"""Every night, the months whose customers may be younger than the last age are materialized again."""

from __future__ import annotations

from datetime import date, timedelta

from dagster import RunRequest

from truepixel_dagster.answers.cohorts import AGES
from truepixel_dagster.partitions import MONTHS
from truepixel_dagster.sensors.schedules import refresh_cohorts_every_night


def test_the_months_reach_back_beyond_the_last_age() -> None:
    request = refresh_cohorts_every_night()
    assert isinstance(request, RunRequest)
    tags = request.tags
    first, last = (date.fromisoformat(tags[f"dagster/asset_partition_range_{end}"]) for end in ("start", "end"))
    keys = MONTHS.get_partition_keys()
    assert last.isoformat() == keys[-1]
    assert first.isoformat() == keys[0] or last - first > timedelta(days=max(AGES) + 31)
