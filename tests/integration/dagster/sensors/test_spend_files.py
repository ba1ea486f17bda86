"""Files in the watched folder are imported once each, and again when they are replaced. No server is needed."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from tests.integration.dagster.sensors.spend_ticks import tick
from truepixel_dagster.answers.tables import AD_SPEND, RATES
from truepixel_dagster.jobs.import_spend import import_spend
from truepixel_dagster.lake.files import lake_of
from truepixel_dagster.sensors.spend_files import spend_files
from truepixel_dagster.settings import load_settings

DAY = "2026-01-12"
GOOGLE = f"Day,Campaign,Cost,Currency code\n{DAY},Brand,AMOUNT,EUR\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRUEPIXEL_SPEND_URL", str(tmp_path / "spend"))
    monkeypatch.setenv("TRUEPIXEL_LAKE_URL", str(tmp_path / "lake"))
    (tmp_path / "spend" / "7").mkdir(parents=True)
    return tmp_path / "spend"


def amounts() -> list[int]:
    return [row["amount"] for row in lake_of(load_settings()).read(AD_SPEND, DAY, "7")]


def test_a_file_is_imported_for_the_shop_of_its_folder_and_again_when_it_is_replaced(folder: Path) -> None:
    assert tick(None)[0] == []
    (folder / "7" / "google.csv").write_text(GOOGLE.replace("AMOUNT", "20.00"))
    (folder / "rates.csv").write_text(f"day,from,to,rate\n{DAY},EUR,USD,1.1\n")
    (folder / "notes.md").write_text("not looked at")
    asked, cursor = tick(None)
    assert len(asked) == 2
    for request in asked:
        done = import_spend.execute_in_process(run_config=request.run_config)
        (reported,) = [event for event in done.all_events if event.is_step_materialization]
        assert reported.partition == DAY
    assert amounts() == [2000]
    assert len(lake_of(load_settings()).read(RATES, DAY, "all")) == 1
    assert tick(cursor)[0] == []
    (folder / "7" / "google.csv").write_text(GOOGLE.replace("AMOUNT", "5000.00"))
    (request,), _ = tick(cursor)
    import_spend.execute_in_process(run_config=request.run_config)
    assert amounts() == [500000]


def test_a_bad_line_fails_the_run_with_its_line_and_imports_nothing(folder: Path) -> None:
    (folder / "7" / "google.csv").write_text(GOOGLE.replace("AMOUNT", "20.00") + f"{DAY},Other,much,EUR\n")
    (request,), _ = tick(None)
    done = import_spend.execute_in_process(run_config=request.run_config, raise_on_error=False)
    assert not done.success
    (failure,) = [event for event in done.all_events if event.is_step_failure]
    assert "line 3: 'much' is not a number" in str(failure.event_specific_data)
    assert amounts() == []


def test_without_a_folder_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRUEPIXEL_SPEND_URL", raising=False)
    assert isinstance(spend_files(dg.build_sensor_context()), dg.SkipReason)
