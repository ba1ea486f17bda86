"""Dead letters reprocessed on the real servers: each is applied exactly once, whatever happens in between."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from tests.integration.driving import audited, drain, flush, record, send, set_environment
from tests.integration.test_cli import truepixel
from tests.integration.test_pipeline import NOON, completed, order, pixel
from truepixel_dagster.audit.account import account
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.dead_letters import topic as dead_letters
from truepixel_dagster.dead_letters.inspect import listed
from truepixel_dagster.dead_letters.reprocess import Replay, plan, reopen, replay
from truepixel_dagster.dead_letters.topic import DeadLetters
from truepixel_dagster.definitions import definitions
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.pipeline.lane_claim import open_lane
from truepixel_dagster.pipeline.runner import LaneRunner
from truepixel_dagster.rebuild import attributions
from truepixel_dagster.rebuild.context import rebuilding
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages import ad_lead, attribution, customer, index, product_stats
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS, ORDERS
from truepixel_dagster.stores.redis import RedisStore
from truepixel_dagster.stream.errors import KafkaUnavailable
from truepixel_dagster.stream.reading import read_all
from truepixel_dagster.stream.topics import lag

TWICE = b'{"id": "twice", "name": "x", "clientId": "c", "zz": {"a": 1, "a": 2}}'


@pytest.fixture
def lenient(settings: Settings) -> Settings:
    """Any share of a batch may be refused."""
    return settings.model_copy(update={"dead_letter_share": 1.0})


def refuse(stores: Stores, collection: str, users: str) -> None:
    """Have MongoDB refuse the documents whose id matches."""
    validate(stores, collection, {"_id": {"$not": {"$regex": users}}})


def accept(stores: Stores, *collections: str) -> None:
    for collection in collections:
        validate(stores, collection, {})


def validate(stores: Stores, collection: str, validator: dict[str, Any]) -> None:
    stores.mongodb.collection(collection).database.command("collMod", collection, validator=validator)


@contextmanager
def narrow(stores: Stores, index: str, field: str) -> Iterator[None]:
    """Have a correct index refuse documents whose field is no number, until the block ends.

    The field is copied to another one that takes only numbers.
    """
    indices = stores.elasticsearch.client.indices
    if not indices.exists(index=index):
        indices.create(index=index)
    copied = {field: {"type": "keyword", "copy_to": "narrow"}}
    indices.put_mapping(index=index, properties={**copied, "narrow": {"type": "long"}})
    yield
    indices.put_mapping(index=index, properties={"narrow": {"type": "long", "ignore_malformed": True}})


def refusing_named_shops(stores: Stores, month: str) -> AbstractContextManager[None]:
    """Have a month's index take only numbers for shops, until the block ends."""
    return narrow(stores, stores.elasticsearch.index(f"events-{month}"), "shop_id")


def visitors(count: int = 1500, seed: int = 3) -> list[tuple[bytes | None, bytes | None, Any]]:
    return [
        (r.key, r.value, r.headers)
        for r in traffic(count, seed=seed, shops=3, duplicates=0.03, malformed=0.01, profile=FIRST)
    ]


def accounted(settings: Settings) -> tuple[int, int]:
    """Assert that every produced record is accounted for; return the numbers of records and of dead letters."""
    found = account(settings)
    assert found.lost == []
    assert found.indexed + found.duplicates + found.dead_letters == found.produced
    return found.produced, found.dead_letters


def states(settings: Settings, stores: Stores) -> list[str]:
    return [entry.state for entry in listed(settings, stores)]


def come_back(settings: Settings, stores: Stores) -> Replay:
    """Reprocess twice: the first time ends in the oracle's state, the second time changes nothing."""
    result = replay(settings)
    assert result.replayed > 0
    come_back_to_nothing(settings, stores)
    return result


def come_back_to_nothing(settings: Settings, stores: Stores) -> None:
    """Assert that the stores are in the oracle's state, and that reprocessing again changes nothing."""
    audited(settings, stores)
    before = contents(stores)
    again = replay(settings)
    assert (again.replayed, again.duplicates, again.in_flight) == (0, 0, 0)
    flush(stores)
    assert contents(stores) == before


def contents(stores: Stores) -> list[Any]:
    stores.elasticsearch.refresh()
    names = ["events-", "attributions", "product-stats-", "weekly-visitors"]
    found: list[Any] = [sorted((h["_id"], h["_source"]) for h in stores.elasticsearch.scan(name)) for name in names]
    found += [list(stores.mongodb.collection(name).find(sort=[("_id", 1)])) for name in (CUSTOMERS, AD_LEADS, ORDERS)]
    return found


def undecodable(settings: Settings, stores: Stores) -> int:
    return sum(entry.letter.stage == "decode" for entry in listed(settings, stores))


@pytest.mark.parametrize("collections", [(CUSTOMERS,), (AD_LEADS,), (AD_LEADS, CUSTOMERS)], ids="+".join)
def test_a_profile_that_mongodb_rejected_is_reprocessed_as_if_never_rejected(
    lenient: Settings, stores: Stores, collections: Sequence[str]
) -> None:
    send(lenient, visitors())
    for collection in collections:
        refuse(stores, collection, "[0-7]$")
    drain(lenient)
    flush(stores)
    assert len(audit(lenient).differences) > 50
    accounted(lenient)
    accept(stores, *collections)
    come_back(lenient, stores)
    produced, dead = accounted(lenient)
    assert (produced, dead) == (1500, undecodable(lenient, stores))


def test_what_elasticsearch_rejected_can_be_reprocessed_once_the_index_accepts_it(
    lenient: Settings, stores: Stores
) -> None:
    send(lenient, [(b"named-" + key if key and key < b"62" else key, *rest) for key, *rest in visitors()])
    with refusing_named_shops(stores, "2026.01"):
        drain(lenient)
        flush(stores)
        assert len(audit(lenient).differences) > 50
        accounted(lenient)
        assert replay(lenient, stage="index").failed_again > 50
    come_back(lenient, stores)
    accounted(lenient)


def test_an_order_that_another_event_counted_meanwhile_is_not_counted_again(lenient: Settings, stores: Stores) -> None:
    refuse(stores, AD_LEADS, "^s:c$")
    send(lenient, [record("s:c", completed("e")), record("s:c", completed("f", query="?utm_source=n"))])
    drain(lenient)
    assert len(listed(lenient, stores)) == 2
    accept(stores, AD_LEADS)
    send(lenient, [record("s:c", order(77), topic="orders/create", event_id="w")])
    drain(lenient)
    assert replay(lenient).replayed == 2
    # A rebuild credits touches that come back after an order's last record.
    with rebuilding(lenient) as context:
        attributions.rebuild_days(context, [NOON[:10]], attributions.rules_of(context))
    come_back_to_nothing(lenient, stores)
    assert stores.mongodb.read(CUSTOMERS, ["s:c"])["s:c"]["orders"] == 1


def refusing_orders(stores: Stores) -> AbstractContextManager[None]:
    """Elasticsearch refuses every write of an attribution until the block ends: no status is a number."""
    return narrow(stores, stores.elasticsearch.index("attributions"), "status")


def test_orders_that_elasticsearch_refused_come_back_with_their_status(lenient: Settings, stores: Stores) -> None:
    send(lenient, visitors())
    with refusing_orders(stores):
        drain(lenient)
    assert {entry.letter.stage for entry in listed(lenient, stores)} == {"decode", "attribution"}
    come_back(lenient, stores)
    accounted(lenient)


def test_an_order_sighted_before_a_crash_stays_counted_when_its_next_sighting_is_refused(
    lenient: Settings, stores: Stores
) -> None:
    send(lenient, [record("s:c", completed("e"))])
    with lane(lenient) as run:
        batch = run.fetch()
        assert batch is not None
        run.attribution(run.ad_lead(run.index(batch)))
    send(lenient, [record("s:c", order(77), topic="orders/create", event_id="w")])
    with refusing_orders(stores):
        drain(lenient)
    # Both records are of one order, whose attribution was refused.
    found = [(entry.letter.stage, entry.letter.origin.offset) for entry in listed(lenient, stores)]
    assert sorted(found) == [("attribution", 0), ("attribution", 1)]
    assert come_back(lenient, stores) == Replay(replayed=2)
    assert stores.mongodb.read(CUSTOMERS, ["s:c"])["s:c"]["orders"] == 1


def test_reprocessing_without_a_change_uses_no_try(settings: Settings, stores: Stores) -> None:
    send(settings, [record("s:c", TWICE), record("s:c", pixel("fine")), (b"s:c", b"no json", ())])
    drain(settings)
    for _ in range(4):
        assert replay(settings) == Replay(failed_again=2)
        assert {entry.letter.tries for entry in listed(settings, stores)} == {0}
    assert states(settings, stores) == ["waiting", "waiting"]
    assert len(list(dead_letters.read(settings.kafka()))) == 2
    assert sorted(entry.letter.stage for entry in listed(settings, stores)) == ["decode", "index"]
    assert accounted(settings) == (3, 2)


def refuse_otherwise(stores: Stores, tries: int) -> None:
    """Have MongoDB refuse a user's documents for another reason each time."""
    broken = {0: {"touches": "none"}, 1: {"schema": "two"}, 2: {"touches": [{"offset": 1}]}}
    stores.mongodb.collection(AD_LEADS).replace_one({"_id": "s:c"}, broken[tries], upsert=True)


def given_up(settings: Settings, stores: Stores) -> None:
    """Make a dead letter that two tries rejected for two other reasons."""
    refuse_otherwise(stores, 0)
    send(settings, [record("s:c", completed("e", query="?utm_source=n"))])
    drain(settings)
    for tries in (1, 2):
        refuse_otherwise(stores, tries)
        assert replay(settings) == Replay(failed_again=1)
        assert [entry.letter.tries for entry in listed(settings, stores)] == [tries]
    assert replay(settings) == Replay(given_up=1)
    assert states(settings, stores) == ["given up"]


def test_a_dead_letter_rejected_for_two_other_reasons_is_given_up_until_it_is_reopened(
    settings: Settings, stores: Stores
) -> None:
    given_up(settings, stores)
    assert reopen(settings, shop="other") == 0
    assert reopen(settings, shop="s", stage="ad_lead", error="TOUCHES[0]") == 1
    assert reopen(settings) == 0
    (entry,) = listed(settings, stores)
    assert (entry.state, entry.letter.tries, entry.letter.reopened) == ("waiting", 0, 1)
    assert replay(settings) == Replay(failed_again=1)
    stores.mongodb.delete(AD_LEADS, {"_id": "s:c"})
    assert come_back(settings, stores) == Replay(replayed=1)
    assert accounted(settings) == (1, 0)


def test_a_reopened_dead_letter_has_two_tries_again(settings: Settings, stores: Stores) -> None:
    given_up(settings, stores)
    assert reopen(settings) == 1
    for tries in (1, 2):
        refuse_otherwise(stores, tries - 1)
        assert replay(settings) == Replay(failed_again=1)
        assert [(entry.letter.tries, entry.letter.reopened) for entry in listed(settings, stores)] == [(tries, 1)]
    assert states(settings, stores) == ["given up"]


def test_dead_letters_are_selected_by_shop_record_and_error(lenient: Settings, stores: Stores) -> None:
    refuse(stores, CUSTOMERS, "^(one|two):c$")
    send(lenient, [record(f"{shop}:c", pixel(f"e{shop}")) for shop in ("one", "two", "three")])
    send(lenient, [(b"two:c", b"no json", ())])
    drain(lenient)
    one, *_ = listed(lenient, stores, shop="one")
    (bad,) = listed(lenient, stores, error="json IS malformed")
    assert (one.letter.shop, bad.letter.shop, bad.letter.stage) == ("one", "two", "decode")
    assert [entry.letter for entry in listed(lenient, stores, origins={one.letter.origin})] == [one.letter]
    ready = plan(lenient, shop="two").ready
    assert sorted(letter.stage for letter in ready) == ["customer", "decode"]
    assert states(lenient, stores) == ["waiting"] * 3
    accept(stores, CUSTOMERS)
    assert replay(lenient, origins={one.letter.origin}) == Replay(replayed=1)
    assert replay(lenient, shop="two", error="validation") == Replay(replayed=1)
    assert states(lenient, stores).count("replayed") == 2
    assert replay(lenient) == Replay(failed_again=1)


def test_the_command_asks_first_and_can_only_look(lenient: Settings, stores: Stores) -> None:
    refuse(stores, CUSTOMERS, "^s:c$")
    send(lenient, [record("s:c", pixel("e"))])
    drain(lenient)
    accept(stores, CUSTOMERS)
    plan_only = json.loads(truepixel(lenient, "dead-letters", "replay", "--dry-run", "--json"))
    assert [row["stage"] for row in plan_only["letters"]] == ["customer"]
    assert truepixel(lenient, "dead-letters", "replay", "--dry-run").count("customer") == 1
    assert "Replay 1 dead letters (customer 1)?" in truepixel(lenient, "dead-letters", "replay", code=1)
    assert states(lenient, stores) == ["waiting"]
    assert "replayed: 0" in truepixel(lenient, "dead-letters", "replay", "--yes", "--shop", "other")
    assert "replayed: 1" in truepixel(lenient, "dead-letters", "replay", "--yes", "--shop", "s")
    assert "reopened: 0" in truepixel(lenient, "dead-letters", "reopen")
    assert "is not topic/partition/offset" in truepixel(lenient, "dead-letters", "replay", "--origin", "x", code=2)


def test_the_job_has_a_dry_run_and_reopens(settings: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, settings)
    given_up(settings, stores)
    stores.mongodb.delete(AD_LEADS, {"_id": "s:c"})
    job = definitions.resolve_job_def("replay_dead_letters")

    def run(**config: Any) -> Any:
        with dg.DagsterInstance.ephemeral() as instance:
            chosen = {"ops": {"replay_letters": {"config": config}}}
            ended = job.execute_in_process(run_config=chosen, instance=instance)
        (event,) = [event for event in ended.all_events if event.event_type_value == "STEP_OUTPUT"]
        return {name: value.value for name, value in event.step_output_data.metadata.items()}

    assert run(dry_run=True)["given up"] == 1
    assert run()["given up"] == 1
    assert run(reopen=True, shop="other")["reopened"] == 0
    assert states(settings, stores) == ["given up"]
    found = run(reopen=True, shop="s", error="touches[0]")
    assert (found["reopened"], found["replayed"]) == (1, 1)
    audited(settings, stores)


def test_a_dead_letter_may_be_reprocessed_by_its_second_try(lenient: Settings, stores: Stores) -> None:
    send(lenient, [record("s:c", completed("e", query="?utm_source=n"))])
    refuse(stores, AD_LEADS, "^s:c$")
    drain(lenient)
    assert replay(lenient) == Replay(failed_again=1)
    accept(stores, AD_LEADS)
    refuse(stores, CUSTOMERS, "^s:c$")
    (entry,) = listed(lenient, stores)
    assert (entry.letter.stage, entry.letter.tries) == ("ad_lead", 0)
    accept(stores, CUSTOMERS)
    assert come_back(lenient, stores) == Replay(replayed=1)


def test_a_replay_that_stops_at_another_stage_continues_from_there_and_counts_products_once(
    lenient: Settings, stores: Stores
) -> None:
    send(lenient, [record("s:c", completed("e", query="?utm_source=n"))])
    refuse(stores, AD_LEADS, "^s:c$")
    drain(lenient)
    accept(stores, AD_LEADS)
    refuse(stores, CUSTOMERS, "^s:c$")
    assert replay(lenient) == Replay(failed_again=1)
    (entry,) = listed(lenient, stores)
    assert (entry.letter.stage, entry.letter.tries) == ("customer", 1)
    accept(stores, CUSTOMERS)
    assert come_back(lenient, stores) == Replay(replayed=1)


def test_a_dead_letter_whose_event_came_in_another_record_is_a_duplicate(lenient: Settings, stores: Stores) -> None:
    with refusing_named_shops(stores, "2026.01"):
        view = pixel("same", "product_viewed", productVariant={"product": {"id": "p"}, "price": None})
        send(lenient, [record("s:c", view)])
        drain(lenient)
    send(lenient, [record("s:c", view)])
    drain(lenient)
    assert replay(lenient) == Replay(duplicates=1)
    audited(lenient, stores)
    assert states(lenient, stores) == ["replayed"]
    assert accounted(lenient) == (2, 0)
    assert stores.mongodb.read(CUSTOMERS, ["s:c"])["s:c"]["events"] == 1


def test_the_record_comes_back_with_its_own_time_key_and_headers(lenient: Settings, stores: Stores) -> None:
    refuse(stores, CUSTOMERS, "^s:c$")
    send(lenient, [record("s:c", order(7), topic="orders/create", event_id="w", tries="9", stage="mine")])
    drain(lenient)
    (dead,) = dead_letters.read(lenient.kafka())
    (sent,) = read_all(lenient.kafka())
    assert (dead.message.origin, dead.message.timestamp) == (sent.origin, sent.timestamp)
    assert (dead.message.key, dead.message.value) == (sent.key, sent.value)
    assert dict(dead.message.headers) == {"topic": b"orders/create", "event_id": b"w"}
    assert (dead.letter.tries, dead.stage) == (0, "customer")


BOUNDARIES = [
    (index, "run"),
    (ad_lead, "run"),
    (attribution, "run"),
    (customer, "replay"),
    (product_stats, "replay"),
    (DeadLetters, "flush"),
    (RedisStore, "mark_replayed"),
]


class Killed(BaseException):
    """Ends a replay as a kill would: nothing catches it."""


@pytest.mark.parametrize(("owner", "name"), BOUNDARIES, ids=lambda part: getattr(part, "__name__", part))
def test_a_replay_that_ends_after_any_write_is_finished_by_the_next(
    lenient: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    send(lenient, visitors(400))
    refuse(stores, CUSTOMERS, "[0-3]$")
    refuse(stores, AD_LEADS, "[4-7]$")
    drain(lenient)
    accept(stores, CUSTOMERS, AD_LEADS)
    original = getattr(owner, name)

    def written_and_killed(*arguments: Any, **named: Any) -> None:
        original(*arguments, **named)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, written_and_killed)
        with pytest.raises(Killed):
            replay(lenient)
    replay(lenient)
    audited(lenient, stores)
    accounted(lenient)


@contextmanager
def lane(settings: Settings) -> Iterator[LaneRunner]:
    with open_lane(settings, lane=0, lanes=1, owner="crashing") as run:
        yield run


def crash_before_commit(settings: Settings) -> None:
    """Bring the waiting records through all stages, and end without a commit."""
    with lane(settings) as run:
        while (batch := run.fetch()) is not None:
            done = run.attribution(run.ad_lead(run.index(batch)))
            run.customer(done)
            run.product_stats(done)
        run._pool.drain()
    assert all(entry.committed is None for entry in lag(settings.kafka()))


def test_nothing_is_committed_past_a_dead_letter_that_kafka_has_not_acknowledged(
    settings: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unacknowledged(_letters: dead_letters.DeadLetters) -> None:
        raise KafkaUnavailable("no acknowledgement")

    send(settings, [record("s:c", b"not JSON"), *visitors(20)])
    with monkeypatch.context() as patched:
        patched.setattr(dead_letters.DeadLetters, "flush", unacknowledged)
        with pytest.raises(KafkaUnavailable):
            drain(settings)
    assert all(entry.committed is None for entry in lag(settings.kafka()))
    drain(settings)
    assert sum(entry.lag for entry in lag(settings.kafka())) == 0
    audited(settings, stores)


@pytest.mark.parametrize("collection", [CUSTOMERS, AD_LEADS])
def test_a_rejection_stays_when_its_batch_runs_again_and_the_store_would_accept_it(
    lenient: Settings, stores: Stores, collection: str
) -> None:
    send(lenient, visitors(400))
    refuse(stores, collection, "[0-7]$")
    crash_before_commit(lenient)
    buried = len(list(dead_letters.read(lenient.kafka())))
    assert replay(lenient).in_flight == buried
    accept(stores, collection)
    drain(lenient)
    assert len(list(dead_letters.read(lenient.kafka()))) == 2 * buried
    assert len(listed(lenient, stores)) == buried
    assert len(audit(lenient).differences) > 10
    come_back(lenient, stores)
    accounted(lenient)


def test_an_event_that_the_history_rejected_stays_a_dead_letter(lenient: Settings, stores: Stores) -> None:
    view = pixel("e", "product_viewed", productVariant={"product": {"id": "p"}, "price": None})
    with refusing_named_shops(stores, "2026.01"):
        send(lenient, [record("s:c", view), (b"s:c", b"no json", ())])
        crash_before_commit(lenient)
    drain(lenient)
    assert stores.mongodb.read(CUSTOMERS, ["s:c"]) == {}
    assert come_back(lenient, stores) == Replay(replayed=1, failed_again=1)


@pytest.mark.parametrize("collection", [CUSTOMERS, AD_LEADS])
def test_an_event_applied_before_a_crash_is_no_dead_letter_when_its_batch_is_refused(
    lenient: Settings, stores: Stores, collection: str
) -> None:
    """The batch runs again with more events, and its documents are refused: the first events are counted already."""
    first = [record("s:c", completed(f"e{n}", f"t{n}", query=f"?utm_source=n{n}")) for n in range(3)]
    then = [record("s:c", completed(f"f{n}", f"u{n}", query=f"?utm_source=m{n}")) for n in range(3)]
    send(lenient, first)
    crash_before_commit(lenient)
    send(lenient, then)
    refuse(stores, collection, "^s:c$")
    drain(lenient)
    assert len(listed(lenient, stores)) == 3
    accept(stores, collection)
    assert come_back(lenient, stores) == Replay(replayed=3)


@pytest.mark.parametrize("mark", ['{"stage":"decode","reason":"unknown currency"}', "unknown currency"])
def test_a_record_that_an_earlier_version_refused_stays_a_dead_letter(
    settings: Settings, stores: Stores, mark: str
) -> None:
    """This version could decode it; the second mark has a form that it does not know."""
    send(settings, [record("s:c", pixel("e"))])
    (partition,) = (entry.partition for entry in lag(settings.kafka()) if entry.lag)
    stores.redis.bury({Origin(settings.topic, partition, 0): mark})
    drain(settings)
    (entry,) = listed(settings, stores)
    assert entry.letter.stage == "decode"
    assert "unknown currency" in entry.letter.error
    assert stores.elasticsearch.indices("events-") == []


def test_marks_of_refusals_are_removed_once_their_offsets_are_committed(lenient: Settings, stores: Stores) -> None:
    send(lenient, [record("s:c", TWICE), (b"s:c", b"no json", ())])
    crash_before_commit(lenient)
    kept = sum(len(marks) for marks in stores.redis.buried(range(3)).values())
    drain(lenient)
    assert (kept, sum(len(marks) for marks in stores.redis.buried(range(3)).values())) == (2, 0)


def test_without_dead_letters_no_batch_asks_redis_for_them(settings: Settings, stores: Stores) -> None:
    def hash_calls() -> int:
        stats: Any = stores.redis.client.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("hgetall", "hdel"))

    send(settings, [record("s:c", pixel(f"e{n}")) for n in range(50)])
    before = hash_calls()
    (metrics,) = drain(settings.model_copy(update={"batch_messages": 5}))
    assert metrics.batches >= 10
    assert hash_calls() - before == 3


def at_once(*tasks: Callable[[], Any]) -> None:
    failures: list[BaseException] = []

    def guarded(task: Callable[[], Any]) -> None:
        try:
            task()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_two_replays_beside_the_stream_apply_each_dead_letter_once(lenient: Settings, stores: Stores) -> None:
    records = visitors(1000, seed=11)
    send(lenient, records[:600])
    refuse(stores, CUSTOMERS, "[0-7]$")
    drain(lenient)
    accept(stores, CUSTOMERS)
    send(lenient, records[600:])
    small = lenient.model_copy(update={"batch_messages": 20})
    at_once(lambda: replay(small), lambda: replay(small), lambda: drain(small))
    audited(lenient, stores)
    accounted(lenient)


def test_an_older_event_that_comes_back_leaves_what_newer_ones_have_set(lenient: Settings, stores: Stores) -> None:
    refuse(stores, CUSTOMERS, "^s:c$")
    send(lenient, [record("s:c", pixel("old", query="?utm_source=old"))])
    drain(lenient)
    accept(stores, CUSTOMERS)
    send(lenient, [record("s:c", pixel("new", query="?utm_source=new"))])
    drain(lenient)
    come_back(lenient, stores)
    profile = stores.mongodb.read(CUSTOMERS, ["s:c"])["s:c"]
    assert (profile["last_ad"]["source"], profile["events"]) == ("new", 2)


def test_only_the_selected_dead_letters_are_replayed(lenient: Settings, stores: Stores) -> None:
    refuse(stores, CUSTOMERS, "^s:c$")
    refuse(stores, AD_LEADS, "^s:d$")
    send(lenient, [record("s:c", pixel("e")), record("s:d", {**pixel("f", query="?utm_source=n"), "clientId": "d"})])
    drain(lenient)
    accept(stores, CUSTOMERS, AD_LEADS)
    newest = max(entry.letter.written_at for entry in listed(lenient, stores))
    assert replay(lenient, since=newest + 1) == Replay()
    assert replay(lenient, stage="ad_lead") == Replay(replayed=1)
    assert replay(lenient) == Replay(replayed=1)
    audited(lenient, stores)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kafka_bootstrap", "127.0.0.1:1"),
        ("elasticsearch_url", "http://127.0.0.1:1"),
        ("mongodb_url", "mongodb://127.0.0.1:1"),
        ("redis_url", "redis://127.0.0.1:1"),
    ],
)
def test_an_unreachable_store_uses_no_try_and_loses_nothing(
    lenient: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch, field: str, value: str
) -> None:
    refuse(stores, CUSTOMERS, "^s:c$")
    send(lenient, [record("s:c", completed("e", query="?utm_source=n"))])
    drain(lenient)
    accept(stores, CUSTOMERS)
    for name, text in (("RETRIES", "1"), ("MONGODB_TIMEOUT", "1"), ("KAFKA_TIMEOUT", "2")):
        monkeypatch.setenv(f"TRUEPIXEL_{name}", text)
    address = SecretStr(value) if field in ("mongodb_url", "redis_url") else value
    shown = truepixel(lenient.model_copy(update={field: address}), "dead-letters", "replay", "--yes", code=1)
    assert "127.0.0.1:1" in shown
    assert "Traceback" not in shown
    assert [entry.letter.tries for entry in listed(lenient, stores)] == [0]
    assert come_back(lenient, stores) == Replay(replayed=1)


def test_the_commands_list_show_and_replay(lenient: Settings, stores: Stores) -> None:
    refuse(stores, CUSTOMERS, "^s:c$")
    send(lenient, [record("s:c", completed("e")), (b"s:c\x1b[31m", b"\xff\x00\x1b[2Jjunk", (("h\x07", b"\xfe"),))])
    drain(lenient)
    rows = json.loads(truepixel(lenient, "dead-letters", "list", "--json"))
    assert sorted((row["stage"], row["tries"], row["state"]) for row in rows) == [
        ("customer", 0, "waiting"),
        ("decode", 0, "waiting"),
    ]
    assert json.loads(truepixel(lenient, "dead-letters", "list", "--json", "--stage", "index")) == []
    assert len(json.loads(truepixel(lenient, "dead-letters", "list", "--json", "--since", "1h", "--limit", "1"))) == 1
    assert "waiting" in truepixel(lenient, "dead-letters", "list")
    for row in rows:
        shown = truepixel(lenient, "dead-letters", "show", row["origin"])
        assert row["error"] in shown
        assert not set(shown) & {"\x1b", "\x00", "\x07"}
        short = row["origin"].split("/", 1)[1]
        document = json.loads(truepixel(lenient, "dead-letters", "show", short, "--json"))
        assert {"key", "headers", "value", "value_base64", "error"} <= set(document)
    accept(stores, CUSTOMERS)
    result = json.loads(truepixel(lenient, "dead-letters", "replay", "--yes", "--json", "--stage", "customer"))
    assert result == {
        "replayed": 1,
        **dict.fromkeys(["duplicates", "failed_again", "given_up", "in_flight", "gone"], 0),
    }
    assert "failed again: 1" in truepixel(lenient, "dead-letters", "replay", "--yes", "--since", "2026-01-01")
    audited(lenient, stores)
    assert "no dead letter" in truepixel(lenient, "dead-letters", "show", "0/999", code=1)
    assert "neither a time" in truepixel(lenient, "dead-letters", "list", "--since", "yesterday", code=2)


def test_the_job_replays_and_reports_its_counts(
    lenient: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, lenient)
    refuse(stores, CUSTOMERS, "^s:c$")
    send(lenient, [record("s:c", completed("e"))])
    drain(lenient)
    accept(stores, CUSTOMERS)
    job = definitions.resolve_job_def("replay_dead_letters")
    config = {"ops": {"replay_letters": {"config": {"stage": "customer", "since": "1h"}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(run_config=config, instance=instance)
    (output,) = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    metadata = output.event_specific_data.metadata  # type: ignore[union-attr]
    assert {name: value.value for name, value in metadata.items()}["replayed"] == 1
    audited(lenient, stores)
