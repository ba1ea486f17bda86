"""Days rebuilt from the history on real servers: exactly what the stream gives, also while it writes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta, timezone
from typing import Any

import dagster as dg
import msgspec
import pytest

from tests.integration.driving import audited, drain, flush, one_batch, record, send, set_environment
from tests.integration.test_pipeline import completed, order, pixel
from truepixel_dagster.assets.attributions import attributions as attributions_asset
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.events.event import week_of
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.pipeline.lane_claim import open_lane
from truepixel_dagster.rebuild import ad_leads, attributions, customers, events, product_stats, weekly_visitors
from truepixel_dagster.rebuild.context import RebuildContext, rebuilding
from truepixel_dagster.rebuild.stats import RebuildStats
from truepixel_dagster.resources import Stores
from truepixel_dagster.retention import HistoryDropped
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages import attribution
from truepixel_dagster.stores.elasticsearch import Action
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS, ORDERS

DAYS = ["2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08", "2026-01-09"]
DAY = "2026-01-06"
WEEK = "2026-W02"
ONE_DAY = timedelta(hours=23)


def rebuild_attributions(context: RebuildContext, days: Sequence[str]) -> RebuildStats:
    return attributions.rebuild_days(context, days, attributions.rules_of(context))


def rebuild_weeks(context: RebuildContext, days: Sequence[str]) -> RebuildStats:
    return weekly_visitors.rebuild_weeks(context, [WEEK])


REBUILDS: dict[str, Callable[[RebuildContext, Sequence[str]], RebuildStats]] = {
    "events": events.rebuild_days,
    "ad_leads": ad_leads.rebuild_days,
    "attributions": rebuild_attributions,
    "customers": customers.rebuild_days,
    "product_stats": product_stats.rebuild_days,
    "weekly_visitors": rebuild_weeks,
}


@pytest.fixture
def filled(settings: Settings, stores: Stores) -> Settings:
    """Five days of traffic, drained and flushed."""
    send(settings, [(r.key, r.value, r.headers) for r in traffic(1000, seed=11, shops=3, profile=FIRST)])
    drain(settings)
    flush(stores)
    audited(settings, stores)
    return settings


def rebuild(settings: Settings, name: str, days: Sequence[str] = (DAY,)) -> RebuildStats:
    with rebuilding(settings) as context:
        return REBUILDS[name](context, days)


def of_day(stores: Stores, name: str, day: str = DAY) -> list[Any]:
    """The hits of a store in Elasticsearch that are of a day, or of its week."""
    stores.elasticsearch.refresh()

    def when(document: dict[str, str]) -> str:
        return document.get("day") or document.get("week") or document["occurred_at"][:10]

    return [hit for hit in stores.elasticsearch.scan(name) if when(hit["_source"]) in (day, WEEK)]


def delete(stores: Stores, name: str) -> int:
    """Remove what a store holds of the day; says how many documents."""
    within = {"$gte": DAY, "$lt": f"{DAY}T~"}
    if name == "ad_leads":
        return int(
            stores.mongodb.collection(AD_LEADS).delete_many({"touches": {"$elemMatch": {"at": within}}}).deleted_count
        )
    if name == "customers":
        query = {"$or": [{"first_seen": within}, {"last_seen": within}]}
        return int(stores.mongodb.collection(CUSTOMERS).delete_many(query).deleted_count)
    hits = of_day(stores, name.replace("_", "-"))
    stores.elasticsearch.bulk([Action("delete", hit["_index"], hit["_id"]) for hit in hits])
    stores.elasticsearch.refresh()
    return len(hits)


@pytest.mark.parametrize("name", REBUILDS)
def test_deleted_documents_of_a_day_are_restored_unchanged(filled: Settings, stores: Stores, name: str) -> None:
    assert delete(stores, name) > 0
    assert audit(filled).differences
    done = rebuild(filled, name)
    assert done.changed > 0
    audited(filled, stores)


def test_a_rebuild_of_what_is_right_changes_nothing(filled: Settings, stores: Stores) -> None:
    for name in REBUILDS:
        done = rebuild(filled, name, DAYS)
        assert done.documents > 0, name
        assert (done.changed, done.removed, done.unknown) == (3 if name == "weekly_visitors" else 0, 0, 0), name
    audited(filled, stores)


def test_everything_of_a_day_comes_back_from_kafka_alone(filled: Settings, stores: Stores) -> None:
    for name in REBUILDS:
        assert delete(stores, name) > 0
    for name in REBUILDS:
        rebuild(filled, name)
    audited(filled, stores)


def test_foreign_documents_are_removed_and_changed_ones_corrected(filled: Settings, stores: Stores) -> None:
    elasticsearch, mongodb = stores.elasticsearch, stores.mongodb
    event, order, product, week = (
        of_day(stores, name)[0] for name in ("events-", "attributions", "product-stats-", "weekly-visitors")
    )
    copies = [
        (event, {"event_id": "made-up"}, f"{event['_source']['shop_id']}:made-up"),
        (order, {"checkout_token": "made-up"}, f"{order['_source']['shop_id']}:made-up"),
        (product, {"product_id": "made-up"}, f"{product['_source']['shop_id']}:made-up:{DAY}"),
        (week, {"shop_id": "made-up"}, f"made-up:{WEEK}"),
        (event, {"name": "changed"}, event["_id"]),
        (order, {"status": "open", "touches": []}, order["_id"]),
        (product, {"views": 10**6}, product["_id"]),
    ]
    elasticsearch.bulk(
        [Action("index", hit["_index"], id_, msgspec.json.encode(hit["_source"] | new)) for hit, new, id_ in copies]
    )
    user = event["_source"]["shop_id"] + ":made-up"
    customer = {"shop_id": "s", "first_seen": f"{DAY}T10:00:00.000Z", "last_seen": f"{DAY}T10:00:00.000Z", "events": 3}
    mongodb.collection(CUSTOMERS).insert_one({"_id": user, "v": 1, **customer})
    touch = {"event_id": "e", "at": f"{DAY}T10:00:00.000Z", "ad": {"platform": "x"}, "partition": 0, "offset": 1}
    mongodb.collection(AD_LEADS).insert_one({"_id": user, "v": 1, "touches": [touch], "older": []})
    mongodb.collection(CUSTOMERS).update_many({"last_seen": {"$gte": DAY, "$lt": f"{DAY}T~"}}, {"$inc": {"events": 5}})
    removed = {name: rebuild(filled, name).removed for name in REBUILDS}
    assert removed == dict.fromkeys(REBUILDS, 1)
    audited(filled, stores)


def test_a_visit_of_a_bot_is_no_touch_after_a_rebuild_either(settings: Settings, stores: Stores) -> None:
    bot = pixel("e", at=f"{DAY}T12:00:00.000Z", query="?gclid=1")
    bot["context"]["navigator"] = {
        "userAgent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    }
    send(settings, [record("s:bot", bot), record("s:c", pixel("f", at=f"{DAY}T12:00:00.000Z", query="?gclid=2"))])
    drain(settings)
    stores.mongodb.collection(AD_LEADS).delete_many({})
    assert rebuild(settings, "ad_leads").changed == 1
    audited(settings, stores)
    assert [lead["_id"] for lead in stores.mongodb.collection(AD_LEADS).find()] == ["s:c"]


def test_bots_that_count_as_people_do_so_after_a_rebuild_of_their_events(settings: Settings, stores: Stores) -> None:
    counting = settings.model_copy(update={"count_bots": True})
    bot = pixel("e", at=f"{DAY}T12:00:00.000Z", query="?gclid=1")
    bot["context"]["navigator"] = {"userAgent": "Googlebot/2.1 (+http://www.google.com/bot.html)"}
    send(counting, [record("s:bot", bot)])
    drain(counting)
    assert rebuild(counting, "events").changed == 0
    audited(counting, stores)


@contextmanager
def streaming(settings: Settings, batch: int) -> Iterator[None]:
    """Drains the topic in small micro-batches from another thread while the block runs, and to its end after it."""
    small = settings.model_copy(update={"batch_messages": batch})
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with open_lane(small, lane=0, lanes=1, owner="stream") as lane:
                while one_batch(lane):
                    pass
                lane.finish()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert not failures


def test_a_day_is_rebuilt_while_the_stream_and_flushes_write_it(settings: Settings, stores: Stores) -> None:
    records = [(r.key, r.value, r.headers) for r in traffic(3000, seed=5, shops=3, span=ONE_DAY, profile=FIRST)]
    send(settings, records[:3000])
    drain(settings)
    flush(stores)
    day = "2026-01-05"
    for name in ("attributions", "product-stats-"):
        hits = of_day(stores, name, day)
        assert hits
        stores.elasticsearch.bulk([Action("delete", hit["_index"], hit["_id"]) for hit in hits])
    stores.mongodb.collection(CUSTOMERS).delete_many({})
    stores.mongodb.collection(AD_LEADS).delete_many(
        {"touches": {"$elemMatch": {"at": {"$gte": day, "$lt": f"{day}T~"}}}}
    )
    send(settings, records[3000:])
    with streaming(settings, batch=40):
        for name in ("events", "ad_leads", "attributions", "customers", "product_stats", "weekly_visitors"):
            rebuild(settings, name, [day])
            flush(stores)
    # The next rebuild corrects writes that raced with the one before.
    audited(settings, stores)


@pytest.mark.parametrize("name", ["attributions", "customers", "product_stats"])
@pytest.mark.parametrize("before", ["attribution", "customer"])
def test_a_day_is_rebuilt_while_a_batch_is_between_two_stages(
    settings: Settings, stores: Stores, name: str, before: str
) -> None:
    """The rebuild counts what the stream has counted, and the stream counts the rest of its batch afterwards."""
    records = [(r.key, r.value, r.headers) for r in traffic(800, seed=5, shops=2, span=ONE_DAY, profile=FIRST)]
    send(settings, records[:400])
    drain(settings)
    send(settings, records[400:])
    with open_lane(settings, lane=0, lanes=1, owner="stream") as lane:
        batch = lane.fetch()
        assert batch is not None
        touched = lane.ad_lead(lane.index(batch))
        if before == "attribution":
            rebuild(settings, name, ["2026-01-05"])
        done = lane.attribution(touched)
        if before == "customer":
            rebuild(settings, name, ["2026-01-05"])
        lane.customer(done)
        lane.product_stats(done)
        lane.commit(batch)
        while one_batch(lane):
            pass
        lane.finish()
    audited(settings, stores)


def test_a_customer_is_rebuilt_while_only_the_later_record_of_a_batch_is_in_the_history(
    settings: Settings, stores: Stores
) -> None:
    """A worker died in the middle of its bulk request: its next run must still count both records."""
    send(settings, [record("s:c", pixel(name, at=f"{DAY}T10:00:00.000Z")) for name in ("first", "second")])
    with open_lane(settings, lane=0, lanes=1, owner="dies") as lane:
        batch = lane.fetch()
        assert batch is not None
        lane.index(batch)
    (first,) = (hit for hit in of_day(stores, "events-") if hit["_source"]["event_id"] == "first")
    stores.elasticsearch.bulk([Action("delete", first["_index"], first["_id"])])
    rebuild(settings, "customers")
    drain(settings)
    audited(settings, stores)


@pytest.mark.parametrize("is_lost", [True, False], ids=["an order that was lost", "an order that was changed"])
def test_a_record_that_arrives_between_reading_the_history_and_the_orders_is_kept(
    settings: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch, is_lost: bool
) -> None:
    at = f"{DAY}T10:00:00.000Z"
    send(settings, [record("s:c", completed("seen", at=at))])
    drain(settings)
    if is_lost:
        stores.mongodb.collection(ORDERS).delete_many({})
    else:
        stores.mongodb.collection(ORDERS).update_many({}, {"$set": {"nodes": []}})
    read = attribution.read_attributions
    late = [record("s:c", order(7), topic="orders/create", event_id="w")]

    def read_late(*arguments: Any) -> Any:
        if late:
            send(settings, [late.pop()])
            drain(settings)
        return read(*arguments)

    monkeypatch.setattr(attribution, "read_attributions", read_late)
    rebuild(settings, "attributions")
    monkeypatch.undo()
    for name in ("customers", "product_stats"):
        rebuild(settings, name)
    audited(settings, stores)


def test_orders_are_counted_by_their_first_record_also_where_senders_clocks_disagree(
    settings: Settings, stores: Stores
) -> None:
    """A record's own time of receipt must not place it before an earlier record of its partition."""
    at = "2026-01-06T12:00:00Z"
    for number in range(20):
        sale, paid = completed(f"p{number}", f"t{number}", at), order(number, f"t{number}", created_at=at)
        early = {"topic": "orders/create", "event_id": f"w{number}", "received_at": "2026-01-06T11:00:00Z"}
        send(settings, [record(f"s:pixel-{number}", sale), record(f"s:webhook-{number}", paid, **early)])
    drain(settings)
    flush(stores)
    for name in ("attributions", "customers", "product_stats"):
        assert delete(stores, name) > 0
    for name in ("attributions", "customers", "product_stats"):
        rebuild(settings, name)
    audited(settings, stores)


def test_orders_whose_notes_name_a_client_are_found_again_when_the_clients_document_was_lost(
    settings: Settings, stores: Stores
) -> None:
    notes = {"note_attributes": [{"name": "client_id", "value": "late"}], "created_at": f"{DAY}T12:00:00Z"}
    hook = {**order(5), **notes, "line_items": [{"product_id": 1, "quantity": 1, "price": "1.00"}]}
    send(settings, [record("s:hook", hook, topic="orders/create", event_id="w")])
    drain(settings)
    assert stores.mongodb.read(AD_LEADS, ["s:late"])["s:late"]["orders"]
    stores.mongodb.delete(AD_LEADS, {})
    with rebuilding(settings) as context:
        assert ad_leads.rebuild_days(context, [DAY]).changed == 1
        assert ad_leads.rebuild_days(context, [DAY]).changed == 0
    # A visit before the order that the stream reads after it.
    send(settings, [record("s:late", pixel("visit", at=f"{DAY}T11:00:00.000Z", query="?gclid=1"))])
    drain(settings)
    audited(settings, stores)
    stores.elasticsearch.refresh()
    (found,) = stores.elasticsearch.scan("attributions")
    assert [touch["event_id"] for touch in found["_source"]["touches"]] == ["visit"]


def test_another_window_and_back_gives_the_same_documents(filled: Settings, stores: Stores) -> None:
    def documents() -> dict[str, Any]:
        stores.elasticsearch.refresh()
        return {hit["_id"]: hit["_source"] for hit in stores.elasticsearch.scan("attributions")}

    first = documents()
    with rebuilding(filled) as context:
        rules = attributions.rules_of(context, window_days=1, half_life_days=0.5, position_ends_percent=30)
        assert attributions.rebuild_days(context, DAYS, rules).changed == len(first)
    other = documents()
    names = ("window_days", "half_life_days", "position_ends_percent")
    assert {tuple(doc[name] for name in names) for doc in other.values()} == {(1, 0.5, 30)}
    assert any(other[id_]["touches"] != first[id_]["touches"] for id_ in first)
    assert any(other[id_]["credits"]["time_decay"] != first[id_]["credits"]["time_decay"] for id_ in first)
    with rebuilding(filled) as context:
        attributions.rebuild_days(context, DAYS, attributions.rules_of(context))
    assert documents() == first


def test_a_month_with_a_window_of_seven_days_and_then_of_thirty_again_is_unchanged(
    settings: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, settings)
    monkeypatch.setenv("TRUEPIXEL_EVENT_RETENTION_MONTHS", "600")
    january = ("2026-01-01", "2026-01-31")
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    records = traffic(4000, seed=8, shops=2, start=start, span=timedelta(days=31), profile=FIRST)
    touches = [
        record("s:slow", pixel(f"touch-{day}", at=f"2026-01-{day:02d}T09:00:00.000Z", query=f"?utm_source=on-{day}"))
        for day in (2, 9, 16, 23)
    ]
    bought = record("s:slow", completed("bought", at="2026-01-24T09:00:00.000Z"))
    send(settings, [*((r.key, r.value, r.headers) for r in records), *touches, bought])
    drain(settings)

    def documents() -> dict[str, Any]:
        stores.elasticsearch.refresh()
        return {hit["_id"]: hit["_source"] for hit in stores.elasticsearch.scan("attributions")}

    def materialize(**rules: Any) -> None:
        done = dg.materialize(
            [attributions_asset],
            tags=dict(zip(("dagster/asset_partition_range_start", "dagster/asset_partition_range_end"), january)),
            run_config={"ops": {"rebuild_attributions": {"config": rules}}},
        )
        assert done.success
        assert len(done.get_asset_materialization_events()) == 31

    first = documents()
    assert len(first) > 30
    materialize(window_days=7)
    other = documents()
    assert {document["window_days"] for document in other.values()} == {7}
    assert [len(found["s:tok"]["touches"]) for found in (first, other)] == [4, 1]
    materialize(window_days=30)
    assert documents() == first


def test_an_exact_week_is_an_estimate_again_after_another_visitor(filled: Settings, stores: Stores) -> None:
    rebuild(filled, "weekly_visitors")
    exact = {hit["_source"]["shop_id"]: hit["_source"] for hit in of_day(stores, "weekly-visitors")}
    assert all(document["exact"] for document in exact.values())
    shop = next(iter(exact))
    flush(stores)
    assert all(hit["_source"]["exact"] for hit in of_day(stores, "weekly-visitors"))
    send(filled, [record(f"{shop}:new-visitor", pixel("late", at=f"{DAY}T12:00:00.000Z"))])
    drain(filled)
    flush(stores)
    after = {hit["_source"]["shop_id"]: hit["_source"] for hit in of_day(stores, "weekly-visitors")}
    assert not after[shop]["exact"]
    assert all(after[other]["exact"] for other in exact if other != shop)
    assert after[shop]["visitors"] >= exact[shop]["visitors"]
    rebuild(filled, "weekly_visitors")
    again = {hit["_source"]["shop_id"]: hit["_source"] for hit in of_day(stores, "weekly-visitors")}
    assert again[shop] == {**exact[shop], "visitors": exact[shop]["visitors"] + 1}


def test_visitors_who_do_not_count_are_no_part_of_the_estimate_after_a_rebuild(
    filled: Settings, stores: Stores
) -> None:
    """Such visitors are bots that an older version counted, or of a week that was not yet the shop's own."""
    shop = next(hit["_source"]["shop_id"] for hit in of_day(stores, "weekly-visitors"))
    others = [f"bot-{number}" for number in range(500)]
    stores.redis.add_visitors((shop, WEEK), others)
    stores.redis.add_visitors(("bots-alone", WEEK), others)
    dirty = f"{filled.namespace}:visitors-dirty"
    stores.redis.client.sadd(dirty, f"{shop}:{WEEK}", f"bots-alone:{WEEK}")
    rebuild(filled, "weekly_visitors")
    flush(stores)
    assert f"bots-alone:{WEEK}" not in {hit["_id"] for hit in of_day(stores, "weekly-visitors")}
    send(filled, [record(f"{shop}:new-visitor", pixel("late", at=f"{DAY}T12:00:00.000Z"))])
    drain(filled)
    audited(filled, stores)
    assert stores.redis.client.smembers(dirty) == set()


def test_a_rebuild_of_a_week_that_dies_loses_no_visitor(
    filled: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = next(hit["_source"]["shop_id"] for hit in of_day(stores, "weekly-visitors"))
    before = stores.redis.visitors([(shop, WEEK)])

    def die(*_args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(weekly_visitors, "_counted", die)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            rebuild(filled, "weekly_visitors")
        assert stores.redis.visitors([(shop, WEEK)]) == before
    monkeypatch.undo()
    send(filled, [record(f"{shop}:new-visitor", pixel("late", at=f"{DAY}T12:00:00.000Z"))])
    drain(filled)
    audited(filled, stores)
    rebuild(filled, "weekly_visitors")
    assert stores.redis.client.exists(f"{filled.namespace}:visitors-aside:{shop}:{WEEK}") == 0
    audited(filled, stores)


def test_documents_older_than_the_kept_events_stay_and_their_days_are_rejected(
    filled: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RebuildContext, "kept", date(2026, 1, 7))
    for day in DAYS[:2]:
        hits = of_day(stores, "events-", day)
        stores.elasticsearch.bulk([Action("delete", hit["_index"], hit["_id"]) for hit in hits])
    for name in ("events", "ad_leads", "attributions", "customers", "product_stats", "weekly_visitors"):
        with pytest.raises(HistoryDropped, match=r"cannot rebuild \S+: events before"):
            rebuild(filled, name, DAYS[1:3])
    with pytest.raises(HistoryDropped, match="The first day that can be rebuilt is 2026-02-06"):
        rebuild(filled, "attributions", DAYS[3:4])
    for name in ("ad_leads", "customers", "product_stats"):
        done = rebuild(filled, name, DAYS[3:])
        assert done.documents > 0
        assert (done.changed, done.removed) == (0, 0), name
        assert (done.older > 0) is (name != "product_stats"), name


def test_a_rebuild_that_dies_between_claim_and_write_loses_no_counter(
    filled: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewed = {"product": {"id": "p-new"}, "price": None}
    view = pixel("one-more", "product_viewed", at=f"{DAY}T12:00:00.000Z", productVariant=viewed)
    shop = of_day(stores, "product-stats-")[0]["_source"]["shop_id"]
    send(filled, [record(f"{shop}:c", view)])
    drain(filled)

    def die(*_args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(product_stats, "_write", die)
    with pytest.raises(KeyboardInterrupt):
        rebuild(filled, "product_stats")
    monkeypatch.undo()
    audited(filled, stores)
    assert rebuild(filled, "product_stats").changed == 0


def test_the_weeks_of_a_year_begin_on_mondays() -> None:
    assert weekly_visitors.days_of("2026-W01")[0] == "2025-12-29"
    assert week_of(1_767_268_800_000) == "2026-W01"
