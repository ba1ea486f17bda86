"""Ranges of Kafka pass the stages again: correct documents stay unchanged, and others are corrected."""

from __future__ import annotations

import json
import time
from datetime import date
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner

from tests.dagster_events import failure_of
from tests.integration.driving import audited, committed, drain, flush, record, send, set_environment
from tests.integration.test_pipeline import pixel
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.cli import main
from truepixel_dagster.definitions import definitions
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.rebuild.context import RebuildContext
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.elasticsearch import Action
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS


@pytest.fixture
def filled(settings: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Drained traffic, and an environment in which commands and jobs find it."""
    set_environment(monkeypatch, settings)
    monkeypatch.setenv("TRUEPIXEL_EVENT_RETENTION_MONTHS", "600")
    send(settings, [(r.key, r.value, r.headers) for r in traffic(1500, seed=3, shops=2, profile=FIRST)])
    drain(settings)
    flush(stores)
    return settings


def call(*arguments: str) -> Any:
    result = CliRunner().invoke(main, ["replay", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def delete_all(stores: Stores, *names: str) -> None:
    stores.elasticsearch.refresh()
    for name in names:
        hits = list(stores.elasticsearch.scan(name))
        assert hits
        stores.elasticsearch.bulk([Action("delete", hit["_index"], hit["_id"]) for hit in hits])
    for collection in (AD_LEADS, CUSTOMERS):
        stores.mongodb.collection(collection).delete_many({})


def test_a_replay_of_what_is_right_changes_nothing_however_often(filled: Settings, stores: Stores) -> None:
    before = committed(filled)
    for _ in range(2):
        found = call("--from", "1h")
        assert found["records"] == 1500
        changed = {stage: done["changed"] + done["removed"] for stage, done in found["stages"].items()}
        # Weeks become exact the first time.
        assert {stage: count for stage, count in changed.items() if stage != "product_stats"} == {
            "index": 0,
            "ad_lead": 0,
            "attribution": 0,
            "customer": 0,
        }
    assert changed["product_stats"] == 0
    assert committed(filled) == before
    audited(filled, stores)


def test_a_replay_by_time_brings_everything_back(filled: Settings, stores: Stores) -> None:
    delete_all(stores, "events-", "attributions", "product-stats-", "weekly-visitors")
    assert audit(filled).differences
    call("--from", "1h")
    audited(filled, stores)


def test_a_replay_of_one_partition_brings_back_its_users(filled: Settings, stores: Stores) -> None:
    last = committed(filled)[1] - 1
    of_partition = {
        f"{hit['_source']['shop_id']}:{hit['_source']['client_id']}"
        for hit in stores.elasticsearch.scan("events-")
        if hit["_source"]["kafka"]["partition"] == 1
    }
    stores.mongodb.collection(CUSTOMERS).delete_many({"_id": {"$in": sorted(of_partition)}})
    found = call("--partition", "1", "--offsets", f"0:{last}", "--stages", "customer")
    assert list(found["stages"]) == ["customer"]
    assert found["stages"]["customer"]["changed"] == len(of_partition)
    audited(filled, stores)


def test_uncommitted_records_are_left_to_the_stream(filled: Settings, stores: Stores) -> None:
    before = sum(committed(filled).values())
    send(filled, [(r.key, r.value, r.headers) for r in traffic(100, seed=4, shops=2, profile=FIRST)])
    assert call("--from", "1h")["records"] == before
    audited(filled, stores)
    drain(filled)
    audited(filled, stores)


def test_events_older_than_the_kept_ones_are_skipped(
    filled: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(filled, [record("s:c", pixel("yesterday", at="2016-01-01T12:00:00.000Z"))])
    drain(filled)
    monkeypatch.setattr(RebuildContext, "kept", date(2017, 1, 1))
    found = call("--from", "2h")
    assert found["older"] == 1
    assert sum(stage["changed"] for name, stage in found["stages"].items() if name != "product_stats") == 0
    audited(filled, stores)


def test_a_range_in_time_ends_at_its_given_end(filled: Settings) -> None:
    time.sleep(1.1)
    now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    send(filled, [(r.key, r.value, r.headers) for r in traffic(100, seed=4, shops=2, profile=FIRST)])
    drain(filled)
    assert call("--from", "1h", "--to", now, "--stages", "index")["records"] == 1500


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give either since"),
        (("--from", "1h", "--partition", "0", "--offsets", "0:1"), "give either since"),
        (("--partition", "0"), "give either since"),
        (("--offsets", "0:1"), "give either since"),
        (("--partition", "0", "--offsets", "5:1"), "5:1 end before they begin"),
        (("--partition", "0", "--offsets", "five"), "not FIRST:LAST"),
        (("--partition", "9", "--offsets", "0:1"), "there is no partition 9; the topic has 0, 1, 2"),
        (("--from", "1h", "--to", "2h"), "must be later"),
        (("--from", "1h", "--stages", "index,nonsense"), "unknown stage 'nonsense'. The stages are index, ad_lead"),
    ],
)
def test_an_invalid_range_is_reported_in_one_line(filled: Settings, arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(main, ["replay", *arguments])
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


def test_the_job_does_the_same_with_the_offsets_that_a_run_reports(filled: Settings, stores: Stores) -> None:
    stores.mongodb.collection(CUSTOMERS).delete_many({})
    job = definitions.resolve_job_def("replay")
    with dg.DagsterInstance.ephemeral() as instance:
        for partition, end in committed(filled).items():
            config = {"partition": partition, "offsets": f"0:{end - 1}"}
            run_config = {"ops": {"replay_range": {"config": config}}}
            assert job.execute_in_process(instance=instance, run_config=run_config).success
    audited(filled, stores)


def test_the_job_says_what_is_wrong_with_its_config(filled: Settings) -> None:
    job = definitions.resolve_job_def("replay")
    config = {"ops": {"replay_range": {"config": {"since": "1h", "stages": ["decode"]}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, run_config=config, raise_on_error=False)
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert "unknown stage 'decode'. The stages are index" in failure_of(failed)
