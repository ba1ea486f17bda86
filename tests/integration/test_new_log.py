"""A topic that was created again or cut off stops everything until it is accepted; then its records count as new."""

from __future__ import annotations

import time
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient

from tests.integration.driving import audited, drain, flush, one_batch, record, send, set_environment
from tests.integration.test_kafka_states import clients, lag_of, view
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.cli import main
from truepixel_dagster.dead_letters.inspect import REPLAYED, WAITING, as_row, listed
from truepixel_dagster.dead_letters.reprocess import replay as replay_letters
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.origin import GENERATION
from truepixel_dagster.health.flow import keeps_up
from truepixel_dagster.health.records import records_accounted
from truepixel_dagster.instance.process import environment
from truepixel_dagster.jobs.drain import drain as drain_through_dagster
from truepixel_dagster.pipeline.adoption import adopt_topic, plan
from truepixel_dagster.pipeline.lane_claim import open_lane
from truepixel_dagster.provision import provision
from truepixel_dagster.rebuild.context import rebuilding
from truepixel_dagster.rebuild.replay import of_partition, replay
from truepixel_dagster.resources import Stores
from truepixel_dagster.sensors.kafka_lag import kafka_lag
from truepixel_dagster.settings import Settings
from truepixel_dagster.source_log import known, verified
from truepixel_dagster.stores import identities
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS, IDENTITIES
from truepixel_dagster.stores.redis.leases import LaneBusy, Lease
from truepixel_dagster.stream import topics
from truepixel_dagster.stream.client_config import client_config
from truepixel_dagster.stream.errors import LogChanged, NoTopic

AT = "2026-02-03T10:00:00.000Z"


def create_again(settings: Settings) -> None:
    admin = AdminClient(client_config(settings.kafka()))
    for future in admin.delete_topics([settings.topic]).values():
        future.result()
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            topics.partition_count(settings.kafka())
        except NoTopic:
            break
        time.sleep(0.1)
    provision(settings)


def order(number: int, client: str) -> tuple[bytes, bytes, object]:
    payload = {
        "id": f"o{number}",
        "name": "checkout_completed",
        "clientId": client,
        "timestamp": AT,
        "data": {
            "checkout": {
                "token": f"t{number}",
                "currencyCode": "EUR",
                "totalPrice": {"amount": 5.0, "currencyCode": "EUR"},
                "lineItems": [
                    {
                        "quantity": 1,
                        "variant": {"price": {"amount": 5.0, "currencyCode": "EUR"}, "product": {"id": "p1"}},
                    }
                ],
            }
        },
        "context": {"document": {"location": {"href": "https://s.example/"}}},
    }
    return record(f"s1:{client}", payload, source="pixel")


def traffic(first: int, count: int = 30) -> list[tuple[bytes, bytes, object]]:
    """Touches and an order of each of six clients."""
    found: list[tuple[bytes, bytes, object]] = []
    for number in range(first, first + count):
        found.append(view(number, f"c{number % 6}"))
        if number % 5 == 4:
            found.append(order(number, f"c{number % 6}"))
    return found


def tick(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    set_environment(monkeypatch, settings)
    with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance=instance) as context:
        result = kafka_lag(context)
    if isinstance(result, dg.SkipReason):
        return result.skip_message or ""
    assert isinstance(result, dg.SensorResult)
    return "" if result.run_requests else str(result.skip_reason)


def test_a_recreated_topic_stops_everything_and_the_error_says_what_to_do(
    settings: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(settings, traffic(0))
    drain(settings)
    create_again(settings)
    send(settings, traffic(100, 3))
    says = r"deleted and created again.*truepixel adopt-topic"
    assert "truepixel adopt-topic" in tick(settings, monkeypatch)
    with pytest.raises(LogChanged, match=says):
        drain(settings)
    with pytest.raises(LogChanged, match=says):
        drain_through_dagster(settings, lambda _: None)
    with pytest.raises(LogChanged, match=says):
        audit(settings)
    with pytest.raises(LogChanged, match=says), rebuilding(settings):
        pass
    with pytest.raises(LogChanged, match=says):
        replay_letters(settings)
    verdict = keeps_up(settings, time.time())
    assert not verdict.passed
    assert "truepixel adopt-topic" in verdict.description
    for command in (["lag"], ["drain"], ["audit"], ["replay", "--from", "2h"]):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 1, command
        assert "truepixel adopt-topic" in result.output
        assert len([line for line in result.output.splitlines() if line.startswith("Error")]) == 1
    made = CliRunner().invoke(main, ["setup"])
    assert (made.exit_code, "warning: Kafka topic" in made.output) == (0, True)
    assert clients(stores) == {f"c{number}": 6 for number in range(6)}


def test_a_new_log_counts_from_its_beginning_and_the_stores_keep_what_they_have(
    settings: Settings, stores: Stores
) -> None:
    send(settings, traffic(0))
    drain(settings)
    audited(settings, stores)
    before = {doc["_id"]: doc for doc in stores.mongodb.collection(AD_LEADS).find()}
    create_again(settings)
    # Events of its own at the offsets of the old log, and events that the old log had already.
    send(settings, [*traffic(100), *traffic(0, 6)])
    assert adopt_topic(settings)
    assert not adopt_topic(settings)
    assert lag_of(settings) == 43
    for _ in range(2):
        drain(settings)
        assert lag_of(settings) == 0
        assert clients(stores) == {f"c{number}": 12 for number in range(6)}
        orders = sum(doc["orders"] for doc in stores.mongodb.collection(CUSTOMERS).find())
        assert orders == 12
        # Delivered again: nothing changes.
        topics.reset_offsets(settings.kafka(), topics.bounds(settings.kafka())[0])
    after = {doc["_id"]: doc for doc in stores.mongodb.collection(AD_LEADS).find()}
    for user, doc in before.items():
        assert after[user]["touches"][: len(doc["touches"])] == doc["touches"]
        assert all(touch["offset"] >= GENERATION for touch in after[user]["touches"][len(doc["touches"]) :])
    drain(settings)
    found = audited(settings, stores)
    assert found.not_judged == 36
    with rebuilding(settings) as context:
        assert records_accounted(context).passed


def test_an_order_of_the_new_log_finds_the_touches_of_the_old_one(settings: Settings, stores: Stores) -> None:
    send(settings, [view(1, "c1"), view(2, "c1")])
    drain(settings)
    create_again(settings)
    send(settings, [order(7, "c1")])
    adopt_topic(settings)
    drain(settings)
    stores.elasticsearch.refresh()
    (hit,) = stores.elasticsearch.scan("attributions")
    assert [touch["event_id"] for touch in hit["_source"]["touches"]] == ["e1", "e2"]


def test_a_rebuild_of_two_logs_changes_nothing(settings: Settings, stores: Stores) -> None:
    send(settings, traffic(0))
    drain(settings)
    create_again(settings)
    send(settings, traffic(100))
    adopt_topic(settings)
    drain(settings)
    flush(stores)
    counted = clients(stores)
    with rebuilding(settings) as context:
        # Once for the weeks, whose visitors are counted exactly then.
        for partition in context.stream.committed:
            done = replay(context, of_partition(context, partition, 0, 10**6))
        for partition in context.stream.committed:
            done = replay(context, of_partition(context, partition, 0, 10**6))
            assert all(stage.changed == stage.removed == 0 for stage in done.stages.values()), done
    assert clients(stores) == counted == {f"c{number}": 12 for number in range(6)}
    audited(settings, stores)


def test_dead_letters_of_the_old_log_are_marked_and_can_be_reprocessed(settings: Settings, stores: Stores) -> None:
    send(settings, [record("s1:c1", b"junk"), view(1, "c1")])
    drain(settings)
    create_again(settings)
    send(settings, [record("s1:c1", b"other junk"), view(2, "c1")])
    adopt_topic(settings)
    drain(settings)
    rows = {row["origin"]: row["state"] for row in map(as_row, listed(settings, stores))}
    partition = next(iter(rows)).split("/")[1]
    name = f"{settings.topic}/{partition}/0"
    assert rows == {name: f"{WAITING}, of an older log", f"{name}@1": WAITING}
    shown = CliRunner().invoke(main, ["dead-letters", "show", f"{partition}/0@1"], env=environment(settings))
    assert "other junk" in shown.output
    assert replay_letters(settings).failed_again == 2
    audited(settings, stores)


def test_a_log_that_was_cut_off_stops_everything_until_it_is_accepted(settings: Settings, stores: Stores) -> None:
    send(settings, traffic(0))
    drain(settings)
    # A cut log has the same id: kept and applied offsets lie beyond its end.
    create_again(settings)
    now = topics.IdentityReader(settings.kafka()).read()
    identities.change(stores.mongodb, "topic", {"topic_id": now.topic_id})
    send(settings, traffic(100, 4))
    with pytest.raises(LogChanged, match=r"truncated: partition \d ends at offset \d+, and records up to \d+"):
        drain(settings)
    assert adopt_topic(settings)
    drain(settings)
    assert sum(clients(stores).values()) == 36 + 4
    audited(settings, stores)


def test_committed_offsets_beyond_the_end_are_no_lag_of_nothing(settings: Settings, stores: Stores) -> None:
    send(settings, [view(1)])
    drain(settings)
    topics.reset_offsets(settings.kafka(), dict.fromkeys(range(3), 500))
    assert lag_of(settings) == 0
    with pytest.raises(LogChanged, match="ends at offset"):
        verified(settings.kafka(), stores)
    with pytest.raises(LogChanged, match="ends at offset"):
        drain(settings)


def test_another_cluster_is_reported(settings: Settings, stores: Stores) -> None:
    send(settings, [view(1)])
    drain(settings)
    identities.change(stores.mongodb, "topic", {"cluster_id": "another"})
    with pytest.raises(LogChanged, match="is in another cluster"):
        drain(settings)
    assert any("another cluster" in line for line in plan(settings).lines)


def test_a_running_lane_notices_before_anything_of_the_new_log_is_stored(settings: Settings, stores: Stores) -> None:
    send(settings, traffic(0, 20))
    with open_lane(settings, lane=0, lanes=1, owner="a") as lane:
        assert one_batch(lane)
        lane._pool.drain()
        create_again(settings)
        # Enough for the positions of the lane to be those of other records.
        send(settings, traffic(100, 400))
        lane._watch._looked_at = float("-inf")
        with pytest.raises(LogChanged):
            all(one_batch(lane) for _ in range(50))
    assert sum(clients(stores).values()) == 24
    stores.elasticsearch.refresh()
    assert stores.elasticsearch.count("events-") == 24


def test_nothing_is_adopted_while_a_lane_is_processing(settings: Settings, stores: Stores) -> None:
    send(settings, [view(1)])
    drain(settings)
    create_again(settings)
    lease = Lease(stores.redis.client, settings.namespace, [1], "somebody", 10)
    lease.acquire()
    with pytest.raises(LaneBusy, match="somebody"):
        adopt_topic(settings)
    lease.release()
    assert adopt_topic(settings)


def test_the_command_says_what_it_would_do_and_asks(settings: Settings, stores: Stores) -> None:
    send(settings, [view(1)])
    drain(settings)
    runner, env = CliRunner(), environment(settings)
    assert "nothing to do" in runner.invoke(main, ["adopt-topic"], env=env).output
    create_again(settings)
    dry = runner.invoke(main, ["adopt-topic", "--dry-run"], env=env)
    assert (dry.exit_code, "log 1 begins" in dry.output) == (0, True)
    assert runner.invoke(main, ["adopt-topic"], input="n\n", env=env).exit_code == 1
    kept = known(stores.mongodb)
    assert kept is not None
    assert kept.generation == 0
    assert runner.invoke(main, ["adopt-topic", "--yes"], env=env).exit_code == 0
    kept = known(stores.mongodb)
    assert kept is not None
    assert kept.generation == 1
    assert runner.invoke(main, ["lag"], env=env).exit_code == 0


def test_an_installation_without_an_identity_keeps_the_first_that_it_sees(settings: Settings, stores: Stores) -> None:
    send(settings, traffic(0))
    drain(settings)
    stores.mongodb.delete(IDENTITIES, {})
    send(settings, traffic(100, 5))
    drain(settings)
    kept = known(stores.mongodb)
    assert kept is not None
    assert (kept.generation, kept.topic_id) == (0, topics.IdentityReader(settings.kafka()).read().topic_id)
    audited(settings, stores)


def test_a_log_that_mongodb_has_forgotten_is_no_first_one(settings: Settings, stores: Stores) -> None:
    send(settings, [view(1)])
    drain(settings)
    for first in (10, 20):
        create_again(settings)
        send(settings, [view(first), view(first + 1)])
        adopt_topic(settings)
        drain(settings)
    stores.mongodb.delete(IDENTITIES, {"_id": "topic"})
    with pytest.raises(LogChanged, match="1@2 were processed"):
        drain(settings)
    assert adopt_topic(settings)
    kept = known(stores.mongodb)
    assert kept is not None
    assert kept.generation == 3
    send(settings, [view(30)])
    drain(settings)
    assert clients(stores) == {"c1": 6}


# --- Offsets of the group ---


def delete_group(settings: Settings) -> None:
    admin = AdminClient(client_config(settings.kafka()))
    (future,) = admin.delete_consumer_groups([settings.group]).values()
    future.result()


def test_offsets_set_back_are_read_again_and_change_nothing(settings: Settings, stores: Stores) -> None:
    send(settings, traffic(0))
    drain(settings)
    counted = clients(stores)
    topics.reset_offsets(settings.kafka(), dict.fromkeys(range(3), 0))
    with open_lane(settings, lane=0, lanes=1, owner="a") as lane:
        assert "set back or deleted" in " ".join(lane.warnings())
        while one_batch(lane):
            pass
        assert lane.finish().redelivered == 36
    assert clients(stores) == counted
    audited(settings, stores)


def test_offsets_that_were_deleted_are_read_again_and_what_is_gone_is_counted(
    settings: Settings, stores: Stores
) -> None:
    send(settings, [view(number) for number in range(6)])
    drain(settings)
    (entry,) = [entry for entry in topics.lag(settings.kafka()) if entry.high]
    delete_group(settings)
    topics.delete_before(settings.kafka(), settings.topic, {entry.partition: 4})
    drain(settings)
    assert clients(stores) == {"c1": 6}
    assert verified(settings.kafka(), stores).reached[str(entry.partition)] == 6
    send(settings, [view(number) for number in range(6, 12)])
    delete_group(settings)
    topics.delete_before(settings.kafka(), settings.topic, {entry.partition: 9})
    (metrics,) = drain(settings)
    assert metrics.lost == {entry.partition: 3}
    assert clients(stores) == {"c1": 9}


def test_a_rejection_stays_when_offsets_are_set_back(
    settings: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    from truepixel_dagster.stages import customer
    from truepixel_dagster.stages.refused import Refused

    send(settings, [view(1, "c1"), view(2, "c2")])
    real = customer.run

    def refusing(events: dict[str, list[Event]], counted: Any, store: Any) -> Any:
        refused = events.pop("s1:c1", [])
        done = real(events, counted, store)
        return done._replace(own=(*done.own, *(Refused(event, "no") for event in refused)))

    with monkeypatch.context() as patch:
        patch.setattr("truepixel_dagster.pipeline.background.customer.run", refusing)
        drain(settings)
    assert clients(stores) == {"c2": 1}
    topics.reset_offsets(settings.kafka(), dict.fromkeys(range(3), 0))
    drain(settings)
    assert clients(stores) == {"c2": 1}
    assert replay_letters(settings).replayed == 1
    assert clients(stores) == {"c1": 1, "c2": 1}
    assert [entry.state for entry in listed(settings, stores)] == [REPLAYED]
    topics.reset_offsets(settings.kafka(), dict.fromkeys(range(3), 0))
    drain(settings)
    assert clients(stores) == {"c1": 1, "c2": 1}
