"""The hourly runs of the lake: one for each stretch of days, the reports with the last."""

from __future__ import annotations

from truepixel_dagster.asset_keys import LAKE, PEOPLE, SHOP_REPORTS
from truepixel_dagster.definitions import definitions
from truepixel_dagster.instance.partition_range import range_tags
from truepixel_dagster.sensors.schedules import requests_of

STRETCHES = [("2026-01-03", "2026-01-03"), ("2026-01-10", "2026-01-12"), ("2026-01-20", "2026-01-21")]


def test_every_stretch_has_a_run_and_only_the_last_writes_the_reports() -> None:
    requests = requests_of(STRETCHES)
    assert [dict(request.tags) for request in requests] == [dict(range_tags(*each)) for each in STRETCHES]
    chosen = [{key.to_user_string() for key in request.asset_selection or ()} for request in requests]
    assert [PEOPLE in each for each in chosen] == [True, True, True]
    assert [SHOP_REPORTS in each for each in chosen] == [False, False, True]
    assert all(set(LAKE) - {PEOPLE, SHOP_REPORTS} <= each for each in chosen)
    assert set(LAKE) == {key.to_user_string() for key in requests_of(STRETCHES[:1])[0].asset_selection or ()}
    assert requests_of([]) == []


def test_the_assets_of_every_run_are_a_part_of_the_job() -> None:
    for request in requests_of(STRETCHES):
        job = definitions.resolve_job_def("refresh_lake").get_subset(asset_selection=set(request.asset_selection or ()))
        assert {*job.asset_layer.executable_asset_keys} == {*(request.asset_selection or ())}
