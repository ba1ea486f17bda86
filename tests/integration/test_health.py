"""Every health check passes on a healthy pipeline, and fails for the fault that it detects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import msgspec
import pytest

from tests.integration.driving import drain, flush, record, send, set_environment
from tests.integration.test_pipeline import pixel
from truepixel_dagster.assets.health import health_checks
from truepixel_dagster.definitions import definitions
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages import product_stats
from truepixel_dagster.stores.elasticsearch import Action
from truepixel_dagster.stores.redis import Increments

Fault = Callable[[Settings, Stores], None]


@pytest.fixture
def healthy(settings: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Settings:
    set_environment(monkeypatch, settings)
    # The share of dead letters in this traffic passes.
    monkeypatch.setenv("TRUEPIXEL_ALERT_DEAD_LETTER_SHARE", "0.2")
    monkeypatch.setenv("TRUEPIXEL_EVENT_RETENTION_MONTHS", "600")
    send(settings, [(r.key, r.value, r.headers) for r in traffic(1500, seed=8, shops=1, profile=FIRST)])
    drain(settings)
    flush(stores)
    return settings


def check() -> dict[str, dg.AssetCheckEvaluation]:
    """Every check by its name, through Dagster."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("check_health").execute_in_process(instance=instance)
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


def hits(stores: Stores, name: str) -> list[Any]:
    stores.elasticsearch.refresh()
    return sorted(stores.elasticsearch.scan(name), key=lambda hit: str(hit["_id"]))


def change(stores: Stores, hit: Any, **fields: Any) -> None:
    source = msgspec.json.encode({**hit["_source"], **fields})
    stores.elasticsearch.bulk([Action("index", hit["_index"], hit["_id"], source)])


def delete_an_event(_settings: Settings, stores: Stores) -> None:
    # An event without a duplicate, and without documents of later stages.
    view = next(hit for hit in hits(stores, "events-") if hit["_source"]["name"] == "page_viewed")
    stores.elasticsearch.bulk([Action("delete", view["_index"], view["_id"])])


def delete_an_attribution(_settings: Settings, stores: Stores) -> None:
    order = hits(stores, "attributions")[0]
    stores.elasticsearch.bulk([Action("delete", order["_index"], order["_id"])])


def change_a_credit(_settings: Settings, stores: Stores) -> None:
    order = hits(stores, "attributions")[0]
    credits_ = dict(order["_source"]["credits"])
    credits_["linear"] = [{**share, "amount": share["amount"] + 1} for share in credits_["linear"]]
    change(stores, order, credits=credits_)


def change_every_day(_settings: Settings, stores: Stores) -> None:
    # The check draws any shop and day.
    for day in hits(stores, "product-stats-"):
        change(stores, day, views=day["_source"]["views"] + 1)


def an_old_buffer(_settings: Settings, stores: Stores) -> None:
    counter = {("s", "p", "2026-01-05"): {product_stats.VIEWS: 1}}
    stores.redis.apply_once({Origin("t", 0, 10**9): Increments(counter, {}, {})})
    key = f"{stores.redis._prefix}:buffer:s:p:2026-01-05"
    assert stores.redis.client.hset(key, "since", "1700000000000") == 0


def many_dead_letters(settings: Settings, _stores: Stores) -> None:
    send(settings, [record("s:c", f"broken {number}".encode()) for number in range(700)])
    drain(settings.model_copy(update={"dead_letter_share": 1.0}))


def a_backlog(settings: Settings, _stores: Stores) -> None:
    send(settings, [record("s:c", pixel(f"late {number}")) for number in range(20)])


@pytest.mark.parametrize(
    ("name", "fault", "setting", "says", "advises"),
    [
        ("records_accounted", delete_an_event, None, "1 of 1500 records are neither", "truepixel replay --partition"),
        (
            "orders_attributed",
            delete_an_attribution,
            None,
            "1 orders have no attribution",
            "product_stats for 2026-",
        ),
        ("credits_sum", change_a_credit, None, "the credits of 1 orders do not sum", "product_stats for 2026-"),
        ("counters_match", change_every_day, None, "differ from the history", "Materialize product_stats for 2026-"),
        ("buffer_age", an_old_buffer, None, "counters have waited in Redis for", "flush_every_minute"),
        ("dead_letter_share", many_dead_letters, None, "became dead letters (decode", "truepixel dead-letters list"),
        ("lag", a_backlog, ("TRUEPIXEL_ALERT_LAG", "19"), "20 messages wait", "kafka_lag"),
        ("lag", a_backlog, ("TRUEPIXEL_ALERT_WAITING", "0"), "the oldest message has waited", "kafka_lag"),
    ],
)
def test_a_check_finds_its_fault_and_says_what_to_do(
    healthy: Settings,
    stores: Stores,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    fault: Fault,
    setting: tuple[str, str] | None,
    says: str,
    advises: str,
) -> None:
    if setting:
        monkeypatch.setenv(*setting)
    fault(healthy, stores)
    after = check()
    assert not after[name].passed
    assert says in (after[name].description or "")
    assert advises in (after[name].description or "")


def test_every_check_passes_on_a_healthy_pipeline(healthy: Settings) -> None:
    found = check()
    assert found.keys() == {key.name for each in health_checks for key in each.check_keys}
    assert [each.check_name for each in found.values() if not each.passed] == []


def test_a_replay_restores_health(healthy: Settings, stores: Stores) -> None:
    delete_an_event(healthy, stores)
    failed = check()["records_accounted"]
    (origin,) = failed.metadata["examples"].value  # type: ignore[misc]
    _, partition, offset = str(origin).split("/")
    job = definitions.resolve_job_def("replay")
    config = {"ops": {"replay_range": {"config": {"partition": int(partition), "offsets": f"{offset}:{offset}"}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        assert job.execute_in_process(instance=instance, run_config=config).success
    assert check()["records_accounted"].passed


def test_an_unreachable_server_is_named_and_nothing_is_judged(
    healthy: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUEPIXEL_REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("TRUEPIXEL_RETRIES", "1")
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("check_health").execute_in_process(instance=instance, raise_on_error=False)
    said = [str(e.step_failure_data.user_failure_data.description) for e in result.all_events if e.is_step_failure]  # type: ignore[union-attr]
    assert said
    assert all("Redis at 127.0.0.1:1" in line for line in said)
    judged = {evaluation.check_name for evaluation in result.get_asset_check_evaluations()}
    # These ask Redis nothing.
    assert judged <= {"lag", "dead_letter_share", "answers_sum", "days_fresh"}
