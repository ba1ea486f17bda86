"""The pipeline through Dagster: the job, its report, a lane's failure, the sensor and the flush."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import pytest

from tests.dagster_events import failure_of, number_of
from tests.integration.driving import audited, record, send, set_environment
from tests.integration.test_pipeline import pixel
from truepixel_dagster.asset_keys import AFTER_TAG, CUSTOMERS, EVENTS, LANE_TAG, LANES_TAG, PRODUCT_STATS, STREAM
from truepixel_dagster.definitions import definitions
from truepixel_dagster.instance.process import dagster_home
from truepixel_dagster.jobs.drain import drain
from truepixel_dagster.jobs.process_events import process_events
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.pipeline.lane_claim import BATCHES_TO_GROW
from truepixel_dagster.resources import Stores
from truepixel_dagster.sensors.kafka_lag import kafka_lag
from truepixel_dagster.sensors.outage import RED_AFTER, SensorHeldUp
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages import ad_lead
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.redis.leases import Lease
from truepixel_dagster.stream.topics import lag
from truepixel_dagster.supervisor.memory import Memory


@pytest.fixture
def through_dagster(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings as the processes of Dagster read them."""
    set_environment(monkeypatch, settings)
    monkeypatch.setenv("TRUEPIXEL_LINGER", "0.05")
    monkeypatch.setenv("TRUEPIXEL_IDLE", "0.5")
    return settings


def test_lanes_start_side_by_side_before_dagster_has_any_file(settings: Settings, stores: Stores) -> None:
    three = settings.model_copy(update={"lanes": 3})
    send(three, [(r.key, r.value, r.headers) for r in traffic(600, seed=4, shops=2, profile=FIRST)])
    drain(three, lambda _: None)
    # Each lane succeeds at its first try: the drain would also end after repeating a failed run.
    with dg.DagsterInstance.from_config(str(dagster_home(three))) as instance:
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.SUCCESS] * 3
    audited(three, stores)


def run(**tags: str) -> dg.ExecuteInProcessResult:
    return process_events.execute_in_process(tags=tags, raise_on_error=False)


def written_by_day(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, int]:
    found = [e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(asset)]
    return {str(e.partition): int(number_of(e.materialization.metadata["events"])) for e in found}


def days_in(stores: Stores, name: str) -> Counter[str]:
    stores.elasticsearch.refresh()
    return Counter(hit["_source"]["occurred_at"][:10] for hit in stores.elasticsearch.scan(name))


def test_the_job_drains_its_lane_and_reports_each_asset_and_day_once(through_dagster: Settings, stores: Stores) -> None:
    send(through_dagster, [(r.key, r.value, r.headers) for r in traffic(1500, seed=2, shops=2, profile=FIRST)])
    result = run(**{LANE_TAG: "0", LANES_TAG: "1"})
    assert result.success
    assert sum(entry.lag for entry in lag(through_dagster.kafka())) == 0
    reported = [
        (event.asset_key.to_user_string(), event.partition)
        for event in result.get_asset_materialization_events()
        if event.asset_key
    ]
    assert {asset for asset, _ in reported} == set(STREAM)
    assert len(set(reported)) == len(reported)
    assert written_by_day(result, EVENTS) == days_in(stores, "events-")
    assert sum(written_by_day(result, CUSTOMERS).values()) == stores.elasticsearch.count("events-")
    (observed,) = result.get_asset_observation_events()
    metadata = observed.asset_observation_data.asset_observation.metadata
    assert metadata["messages"].value == 1500
    assert metadata["messages left waiting"].value == 0
    assert {"messages per minute", "peak memory (MiB)", "duplicates", "dead letters"} <= set(metadata)
    assert {"attribution p50 (ms)", "attribution p95 (ms)", "offsets"} <= set(metadata)
    taken, first, last, given_back = (
        number_of(metadata[name]) for name in ("lane taken", "first messages", "last commit", "lane given back")
    )
    assert taken <= first < last
    assert taken < last <= given_back
    audited(through_dagster, stores)


def test_each_micro_batch_goes_through_all_stages_before_the_next_is_fetched(
    through_dagster: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUEPIXEL_BATCH_MESSAGES", "10")
    send(through_dagster, [record("s:c", pixel(f"e{number}")) for number in range(25)])
    result = run()
    steps = [event.step_key for event in result.all_events if event.event_type_value == "STEP_SUCCESS"]
    of_batches = [step for step in steps if step and step.startswith("batch.")]
    stages = ["fetch", "index", "ad_lead", "attribution", "customer", "product_stats", "commit"]
    first = [step[len("batch.") : step.index("[")] for step in of_batches if "000" in step]
    assert sorted(first) == sorted(stages)
    assert first[:4] == stages[:4]
    assert of_batches[: len(stages)] == [step for step in of_batches if "000" in step]


def test_a_failed_batch_stops_the_lane_and_commits_nothing(
    through_dagster: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise Unavailable("MongoDB at 127.0.0.1:1: unreachable in the middle of a batch")

    monkeypatch.setenv("TRUEPIXEL_BATCH_MESSAGES", "10")
    monkeypatch.setattr(ad_lead, "run", away)
    query = "?utm_source=a"
    send(through_dagster, [record("s:c", pixel(f"e{number}", query=query)) for number in range(30)])
    result = run()
    assert not result.success
    (failed,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    assert failed.step_key == "batch.ad_lead[000]"
    assert "MongoDB at 127.0.0.1:1" in failure_of(failed)
    fetched = [event.step_key for event in result.all_events if event.event_type_value == "STEP_SUCCESS"]
    assert not any(step and step.startswith("batch.index[") and "000" not in step for step in fetched)
    assert sum(entry.lag for entry in lag(through_dagster.kafka())) == 30


def test_a_run_on_a_busy_lane_names_the_other_run_and_stops(through_dagster: Settings, stores: Stores) -> None:
    send(through_dagster, [record("s:c", pixel("e"))])
    lease = Lease(stores.redis.client, through_dagster.namespace, [0, 1, 2], "the-other-run", 20)
    lease.acquire()
    try:
        result = run()
        assert not result.success
        assert "the-other-run" in str([e.event_specific_data for e in result.all_events if e.is_failure])
    finally:
        lease.release()


def test_batches_are_planned_while_another_run_has_the_lane(through_dagster: Settings, stores: Stores) -> None:
    send(through_dagster, [record("s:c", pixel(f"e{number}")) for number in range(25)])
    other = Lease(stores.redis.client, through_dagster.namespace, [0, 1, 2], "other", 60)
    other.acquire()
    with dg.DagsterInstance.ephemeral() as instance, ThreadPoolExecutor(1) as pool:
        tags = {AFTER_TAG: "other"}
        running = pool.submit(process_events.execute_in_process, instance=instance, tags=tags, raise_on_error=False)
        while events_of_plan(instance)["STEP_OUTPUT"] < BATCHES_TO_GROW:
            assert not running.done()
            time.sleep(0.05)
        assert events_of_plan(instance)["STEP_SUCCESS"] == 0
        other.release()
        assert running.result(timeout=60).success
    assert sum(entry.lag for entry in lag(through_dagster.kafka())) == 0


def events_of_plan(instance: dg.DagsterInstance) -> Counter[str]:
    found = [entry.dagster_event for run_ in instance.get_runs() for entry in instance.all_logs(run_.run_id)]
    return Counter(event.event_type_value for event in found if event and event.step_key == "plan")


def test_the_sensor_asks_for_a_run_of_each_lane_with_lag(
    through_dagster: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUEPIXEL_LANES", "3")
    send(through_dagster, [record(f"s:c{number}", pixel(f"e{number}")) for number in range(60)])
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, definitions=definitions)
        result = kafka_lag(context)
    assert isinstance(result, dg.SensorResult)
    assert [request.tags[LANE_TAG] for request in result.run_requests or []] == ["0", "1", "2"]
    (observed,) = result.asset_events
    assert observed.metadata["lag"].value == 60


@pytest.mark.slow
def test_the_sensor_asks_for_one_run_after_a_thousand_ended_ones(through_dagster: Settings) -> None:
    send(through_dagster, [record("s:c", pixel("e"))])
    with dg.DagsterInstance.from_config(str(dagster_home(through_dagster))) as instance:
        for _ in range(1000):
            tags = {LANE_TAG: "0", LANES_TAG: "1"}
            instance.add_run(dg.DagsterRun("process_events", status=dg.DagsterRunStatus.SUCCESS, tags=tags))
        result = kafka_lag(dg.build_sensor_context(instance=instance, definitions=definitions))
    assert isinstance(result, dg.SensorResult)
    assert len(result.run_requests or []) == 1


@pytest.mark.parametrize(
    ("variable", "value", "server"),
    [
        ("TRUEPIXEL_KAFKA_BOOTSTRAP", "127.0.0.1:1", "Kafka"),
        ("TRUEPIXEL_ELASTICSEARCH_URL", "http://127.0.0.1:1", "Elasticsearch"),
        ("TRUEPIXEL_MONGODB_URL", "mongodb://127.0.0.1:1", "MongoDB"),
        ("TRUEPIXEL_REDIS_URL", "redis://127.0.0.1:1", "Redis"),
    ],
)
def test_a_missing_server_is_named_in_the_sensors_skip_reason(
    through_dagster: Settings, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, server: str
) -> None:
    monkeypatch.setenv(variable, value)
    with dg.DagsterInstance.ephemeral() as instance:
        skipped = kafka_lag(dg.build_sensor_context(instance=instance, definitions=definitions))
    assert isinstance(skipped, dg.SkipReason)
    assert server in str(skipped.skip_message)
    assert "truepixel stack up" in str(skipped.skip_message)


def test_a_server_that_is_unreachable_for_a_minute_fails_the_sensors_tick_until_it_is_back(
    through_dagster: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dg.DagsterInstance.ephemeral() as instance, monkeypatch.context() as away:
        away.setenv("TRUEPIXEL_REDIS_URL", "redis://127.0.0.1:1")
        first = dg.build_sensor_context(instance=instance, definitions=definitions)
        assert isinstance(kafka_lag(first), dg.SkipReason)
        began = Memory.from_cursor(first.cursor).held_up_since
        assert began > 0
        minute_ago = Memory(held_up_since=began - RED_AFTER).to_cursor()
        later = dg.build_sensor_context(instance=instance, cursor=minute_ago, definitions=definitions)
        with pytest.raises(SensorHeldUp, match=r"^Redis at 127\.0\.0\.1:1"):
            kafka_lag(later)
    with dg.DagsterInstance.ephemeral() as instance:
        back = dg.build_sensor_context(instance=instance, cursor=minute_ago, definitions=definitions)
        result = kafka_lag(back)
    assert isinstance(result, dg.SensorResult)
    assert Memory.from_cursor(result.cursor).held_up_since == 0


def test_all_unreachable_servers_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    away = {
        "TRUEPIXEL_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "TRUEPIXEL_ELASTICSEARCH_URL": "http://127.0.0.1:1",
        "TRUEPIXEL_MONGODB_URL": "mongodb://127.0.0.1:1",
        "TRUEPIXEL_REDIS_URL": "redis://127.0.0.1:1",
    }
    for variable, value in away.items():
        monkeypatch.setenv(variable, value)
    with dg.DagsterInstance.ephemeral() as instance:
        skipped = kafka_lag(dg.build_sensor_context(instance=instance, definitions=definitions))
    assert isinstance(skipped, dg.SkipReason)
    for server in ("Kafka at", "Elasticsearch at", "MongoDB at", "Redis at"):
        assert server in str(skipped.skip_message)


def test_the_flush_job_materializes_what_the_stream_buffered(through_dagster: Settings, stores: Stores) -> None:
    view = pixel("v", "product_viewed", productVariant={"product": {"id": "p"}, "price": None})
    send(through_dagster, [record("s:c", view)])
    assert run().success
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("flush").execute_in_process(instance=instance)
    (stats,) = [e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(PRODUCT_STATS)]
    assert stats.materialization.metadata["keys"].value == 1
    stores.elasticsearch.refresh()
    assert stores.elasticsearch.count("product-stats-") == 1
