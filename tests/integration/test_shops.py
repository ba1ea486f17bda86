"""The registry of shops and the shop's day, on the real servers: stream, rebuilds and commands."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import pytest

from tests.integration.driving import audited, drain, flush, record, send
from tests.integration.test_cli import run, truepixel
from tests.integration.test_dead_letters import accept, refuse
from tests.integration.test_pipeline import pixel
from tests.unit.stores.test_shops import update
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.dead_letters.reprocess import replay as replay_letters
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.shop import UNKNOWN, Shop
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.health.counters import counters_match
from truepixel_dagster.privacy.forget import forget_shop
from truepixel_dagster.rebuild import ad_leads, customers, events, history, product_stats, weekly_visitors
from truepixel_dagster.rebuild.context import rebuilding
from truepixel_dagster.rebuild.redis import restore
from truepixel_dagster.rebuild.replay import replay, where_of
from truepixel_dagster.rebuild.stats import RebuildStats
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.elasticsearch import Action
from truepixel_dagster.stores.mongodb import AD_LEADS, SHOPS, Document, MongoStore
from truepixel_dagster.stores.redactions import Redactions
from truepixel_dagster.stores.shops import KNOWN_SECONDS, ByOperator, Shops, all_days, known, learn, set_by_operator

NEW_YORK, AUCKLAND = "America/New_York", "Pacific/Auckland"
# A Sunday, and the Monday after it.
SUNDAY, MONDAY = "2026-01-11", "2026-01-12"
DAYS = ["2026-01-10", SUNDAY, MONDAY, "2026-01-13"]
WEEKS = ["2026-W02", "2026-W03"]


class AskedStore(MongoStore):
    """MongoDB that remembers which documents were asked for."""

    asked: list[list[str]]

    def read(self, name: str, ids: Iterable[str]) -> dict[str, Document]:
        wanted = list(ids)
        self.asked.append(wanted)
        return super().read(name, wanted)


@pytest.fixture
def asked(settings: Settings) -> Iterable[AskedStore]:
    store = AskedStore(settings.mongodb())
    store.asked = []
    yield store
    store.close()


def of(shop: str, event: Event) -> Event:
    return msgspec.structs.replace(event, shop_id=shop)


def in_zone(zone: str | None) -> Callable[[ByOperator], ByOperator]:
    return lambda before: msgspec.structs.replace(before, time_zone=zone)


def with_alias(source: str) -> Callable[[ByOperator], ByOperator]:
    return lambda before: msgspec.structs.replace(before, aliases={**before.aliases, source: "facebook"})


def document(stores: Stores, shop: str = "s") -> dict[str, Any]:
    found = stores.mongodb.read(SHOPS, [shop])[shop]
    return {name: value for name, value in found.items() if name not in ("v", "since", "origins_since")}


# --- The registry ---


def test_two_writers_of_webhooks_and_an_operator_end_in_one_document(settings: Settings, stores: Stores) -> None:
    zones = [NEW_YORK, AUCKLAND, "Asia/Tokyo", "Europe/Berlin"]
    news = [update(f"w{n:02d}", zones[n % 4], f"2026-01-01T00:00:{n % 7:02d}Z", currency="EUR") for n in range(40)]
    errors: list[BaseException] = []

    def write(events: Sequence[Event]) -> None:
        store = MongoStore(settings.mongodb())
        try:
            for event in events:
                learn(store, [event])
        except BaseException as error:
            errors.append(error)
        finally:
            store.close()

    def say() -> None:
        store = MongoStore(settings.mongodb())
        try:
            for n in range(20):
                set_by_operator(store, "s", with_alias(f"a{n}"))
        except BaseException as error:
            errors.append(error)
        finally:
            store.close()

    threads = [
        threading.Thread(target=write, args=(news,)),
        threading.Thread(target=write, args=(news[::-1],)),
        threading.Thread(target=say),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    # The latest second wins, and in it the highest event id.
    version = {"at": 1_767_225_606_000, "event_id": "w34"}
    found = document(stores)
    assert found["webhook"] == {
        "time_zone": {"value": zones[34 % 4], **version},
        "currency": {"value": "EUR", **version},
    }
    assert found["operator"] == {"aliases": {f"a{n}": "facebook" for n in range(20)}}


def test_a_webhook_does_not_change_what_an_operator_said(stores: Stores) -> None:
    set_by_operator(stores.mongodb, "s", in_zone(NEW_YORK))
    learn(stores.mongodb, [update("w1", AUCKLAND, "2099-01-01T00:00:00Z")])
    assert Shops(stores.mongodb).read(["s"]) == {"s": Shop(NEW_YORK)}
    set_by_operator(stores.mongodb, "s", in_zone(None))
    assert Shops(stores.mongodb).read(["s"]) == {"s": Shop(AUCKLAND)}


def test_a_known_and_an_unknown_shop_are_asked_for_once_in_a_few_seconds(asked: AskedStore) -> None:
    now = [0.0]
    reader = Shops(asked, clock=lambda: now[0])
    set_by_operator(asked, "a", in_zone(NEW_YORK))
    asked.asked.clear()
    for _ in range(3):
        assert reader.read(["a", "b", "a"]) == {"a": Shop(NEW_YORK), "b": UNKNOWN}
    assert asked.asked == [["a", "b"]]
    set_by_operator(asked, "b", in_zone(AUCKLAND))
    asked.asked.clear()
    assert reader.read(["b", "c"]) == {"b": UNKNOWN, "c": UNKNOWN}
    now[0] = KNOWN_SECONDS
    assert reader.read(["b", "c"]) == {"b": Shop(AUCKLAND), "c": UNKNOWN}
    assert asked.asked == [["c"], ["b", "c"]]


def test_a_reader_uses_its_own_changes_at_once(asked: AskedStore) -> None:
    reader = Shops(asked)
    assert reader.read(["s"]) == {"s": UNKNOWN}
    assert reader.learn([update(zone=AUCKLAND)]) == 1
    assert reader.days(["s"]) == ShopDays({"s": AUCKLAND})
    # The same webhook again writes nothing, and an event that is no webhook reads nothing.
    version = asked.read(SHOPS, ["s"])["s"]["v"]
    assert reader.learn([update(zone=AUCKLAND)]) == 0
    assert asked.read(SHOPS, ["s"])["s"]["v"] == version
    asked.asked.clear()
    assert reader.learn([msgspec.structs.replace(update(zone=NEW_YORK), source="pixel")]) == 0
    assert asked.asked == []


def test_five_thousand_shops_are_one_query(asked: AskedStore, stores: Stores) -> None:
    names = [f"shop-{n}" for n in range(5000)]
    stores.mongodb.collection(SHOPS).insert_many(
        [{"_id": name, "v": 1, "operator": {"time_zone": AUCKLAND, "domains": [f"{name}.example"]}} for name in names]
    )
    reader = Shops(asked)
    asked.asked.clear()
    for _ in range(2):
        found = reader.read(names)
        assert (len(found), found["shop-7"]) == (5000, Shop(AUCKLAND, domains=frozenset({"shop-7.example"})))
    assert [len(ids) for ids in asked.asked] == [5000]
    assert len(all_days(stores.mongodb).zones) == len(dict(known(stores.mongodb))) == 5000


def test_a_reader_keeps_no_more_than_it_may_and_answers_all_the_same(asked: AskedStore, stores: Stores) -> None:
    names = [f"shop-{n}" for n in range(50)]
    hosts = [f"{'x' * 60}.{n}.example" for n in range(100)]
    wide = [{"_id": name, "operator": {"time_zone": AUCKLAND, "payment_hosts": hosts}} for name in names]
    stores.mongodb.collection(SHOPS).insert_many(wide)
    for reader in (Shops(asked, shops=10), Shops(asked, size=150_000)):
        assert {shop.time_zone for shop in reader.read(names).values()} == {AUCKLAND}
        asked.asked.clear()
        reader.read(names)
        # The newest were kept.
        assert 40 <= len(asked.asked[0]) < 50
        assert set(names) - set(asked.asked[0]) <= set(names[-10:])


def test_an_odd_document_counts_as_an_unknown_shop_and_stays(stores: Stores, caplog: pytest.LogCaptureFixture) -> None:
    stores.mongodb.collection(SHOPS).insert_one({"_id": "odd-one", "operator": {"time_zone": 7}})
    learn(stores.mongodb, [of("odd-one", update(zone=AUCKLAND)), of("s", update(zone=AUCKLAND))])
    assert Shops(stores.mongodb).read(["odd-one", "s"]) == {"odd-one": UNKNOWN, "s": Shop(AUCKLAND)}
    assert all_days(stores.mongodb).zones == {"s": AUCKLAND}
    assert document(stores, "odd-one") == {"_id": "odd-one", "operator": {"time_zone": 7}}
    assert "MongoDB shops document 'odd-one' cannot be read: field operator.time_zone" in caplog.text


def test_what_mongodb_rejects_is_logged_and_stops_no_other_shop(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    stores.mongodb.collection(SHOPS).database.create_collection(SHOPS)
    refuse(stores, SHOPS, "^bad$")
    learn(stores.mongodb, [of("bad", update(zone=AUCKLAND)), of("s", update(zone=AUCKLAND))])
    assert all_days(stores.mongodb).zones == {"s": AUCKLAND}
    assert "shop/update of shop 'bad': MongoDB rejected the document" in caplog.text


# --- The shop's day ---


def viewed(shop: str, event_id: str, at: str, client: str = "c") -> tuple[bytes, bytes, Any]:
    event = pixel(event_id, "product_viewed", f"{at}.000Z", productVariant={"product": {"id": "p"}})
    return record(f"{shop}:{client}", event)


def shop_update(
    shop: str, zone: str, event_id: str = "u1", at: str = "2026-01-01T00:00:00Z"
) -> tuple[bytes, bytes, Any]:
    payload = {"id": 1, "iana_timezone": zone, "currency": "USD", "domain": f"{shop}.example", "updated_at": at}
    return record(f"{shop}:shop", payload, source="webhook", topic="shop/update", event_id=event_id)


# Sunday evening in New York, Monday in UTC; Monday morning in Auckland, Sunday in UTC.
EVENING, MORNING = f"{MONDAY}T02:00:00", f"{SUNDAY}T20:00:00"


def some_views() -> list[tuple[bytes, bytes, Any]]:
    return [
        viewed(shop, f"{shop}{n}", at, client)
        for shop in ("ny", "akl", "utc")
        for n, (at, client) in enumerate([(EVENING, "c"), (MORNING, "c"), (f"{MONDAY}T12:00:00", "d")])
    ]


def days(stores: Stores) -> dict[str, dict[str, int]]:
    """The views of each shop by day."""
    flush(stores)
    stores.elasticsearch.refresh()
    found: dict[str, dict[str, int]] = {}
    for hit in stores.elasticsearch.scan("product-stats-"):
        source = hit["_source"]
        found.setdefault(source["shop_id"], {})[source["day"]] = source["views"]
    return found


def weeks(stores: Stores) -> dict[str, dict[str, int]]:
    """The visitors of each shop by week."""
    flush(stores)
    stores.elasticsearch.refresh()
    found: dict[str, dict[str, int]] = {}
    for hit in stores.elasticsearch.scan("weekly-visitors"):
        source = hit["_source"]
        found.setdefault(source["shop_id"], {})[source["week"]] = source["visitors"]
    return found


RIGHT_DAYS = {
    "ny": {SUNDAY: 2, MONDAY: 1},
    "akl": {MONDAY: 2, "2026-01-13": 1},
    "utc": {SUNDAY: 1, MONDAY: 2},
}
RIGHT_WEEKS = {
    "ny": {"2026-W02": 1, "2026-W03": 1},
    "akl": {"2026-W03": 2},
    "utc": {"2026-W02": 1, "2026-W03": 2},
}
IN_UTC_DAYS = dict.fromkeys(RIGHT_DAYS, RIGHT_DAYS["utc"])
IN_UTC_WEEKS = dict.fromkeys(RIGHT_WEEKS, RIGHT_WEEKS["utc"])


@pytest.fixture
def counted(settings: Settings, stores: Stores) -> Settings:
    """Three shops, two of which have said their time zones, drained and flushed."""
    send(settings, [shop_update("ny", NEW_YORK), shop_update("akl", AUCKLAND)])
    drain(settings)
    send(settings, some_views())
    drain(settings)
    assert (days(stores), weeks(stores)) == (RIGHT_DAYS, RIGHT_WEEKS)
    return settings


def rebuilt(settings: Settings) -> tuple[RebuildStats, RebuildStats]:
    with rebuilding(settings) as context:
        return product_stats.rebuild_days(context, DAYS), weekly_visitors.rebuild_weeks(context, WEEKS)


def test_events_are_counted_by_the_day_and_the_week_of_their_shop(counted: Settings, stores: Stores) -> None:
    assert Shops(stores.mongodb).read(["ny"]) == {"ny": Shop(NEW_YORK, "USD", frozenset({"ny.example"}))}


def test_an_audit_judges_by_the_days_of_shops(counted: Settings, stores: Stores) -> None:
    assert audited(counted, stores).differences == []


def test_a_webhook_counts_for_the_events_of_its_own_micro_batch(settings: Settings, stores: Stores) -> None:
    records = [*some_views(), shop_update("ny", NEW_YORK), shop_update("akl", AUCKLAND)]
    send(settings, records)
    # However late Kafka hands out a partition's records, the micro-batch waits until it has them all.
    (metrics,) = drain(settings.model_copy(update={"batch_messages": len(records), "linger": 60.0}))
    assert metrics.batches == 1
    assert (days(stores), weeks(stores)) == (RIGHT_DAYS, RIGHT_WEEKS)


def test_a_rebuild_of_what_is_right_changes_nothing(counted: Settings, stores: Stores) -> None:
    products, visitors = rebuilt(counted)
    assert (products.documents, products.changed, products.removed) == (6, 0, 0)
    # Estimates became counts.
    assert (visitors.documents, visitors.changed, visitors.removed) == (5, 5, 0)
    assert (days(stores), weeks(stores)) == (RIGHT_DAYS, RIGHT_WEEKS)


def test_materializing_corrects_the_past(settings: Settings, stores: Stores) -> None:
    send(settings, some_views())
    drain(settings)
    assert (days(stores), weeks(stores)) == (IN_UTC_DAYS, IN_UTC_WEEKS)
    send(settings, [shop_update("ny", NEW_YORK), shop_update("akl", AUCKLAND)])
    drain(settings)
    # The time zones take effect from then on.
    assert (days(stores), weeks(stores)) == (IN_UTC_DAYS, IN_UTC_WEEKS)
    products, visitors = rebuilt(settings)
    assert (products.removed, visitors.removed) == (1, 1)
    assert (days(stores), weeks(stores)) == (RIGHT_DAYS, RIGHT_WEEKS)
    set_by_operator(stores.mongodb, "ny", in_zone("UTC"))
    set_by_operator(stores.mongodb, "akl", in_zone("UTC"))
    rebuilt(settings)
    assert (days(stores), weeks(stores)) == (IN_UTC_DAYS, IN_UTC_WEEKS)


@pytest.mark.parametrize("named", [10_000, 1])
def test_very_many_shops_are_not_named_in_a_query(
    counted: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch, named: int
) -> None:
    monkeypatch.setattr(history, "MOST_NAMED", named)
    hits = [hit for name in ("product-stats-", "weekly-visitors") for hit in stores.elasticsearch.scan(name)]
    stores.elasticsearch.bulk([Action("delete", hit["_index"], hit["_id"]) for hit in hits])
    rebuilt(counted)
    assert (days(stores), weeks(stores)) == (RIGHT_DAYS, RIGHT_WEEKS)


def test_a_rebuild_beside_events_that_come_counts_each_once(counted: Settings, stores: Stores) -> None:
    more = [viewed(shop, f"{shop}x", at, "c") for shop, at in (("ny", EVENING), ("akl", MORNING), ("utc", EVENING))]
    send(counted, more)
    drain(counted)
    # Buffered, not flushed: the rebuild takes them over.
    with rebuilding(counted) as context:
        product_stats.rebuild_days(context, [MONDAY])
        product_stats.rebuild_days(context, [SUNDAY])
    assert days(stores) == {
        "ny": {SUNDAY: 3, MONDAY: 1},
        "akl": {MONDAY: 3, "2026-01-13": 1},
        "utc": {SUNDAY: 1, MONDAY: 3},
    }


@pytest.mark.parametrize("shop", sorted(RIGHT_DAYS))
def test_the_check_of_counters_goes_by_the_shops_day(counted: Settings, stores: Stores, shop: str) -> None:
    with rebuilding(counted) as context:
        for day, views in RIGHT_DAYS[shop].items():
            verdict = counters_match(context, (shop, day), pause=0)
            assert (verdict.passed, verdict.figures["products"]) == (True, 1), (day, views)


def test_redis_comes_back_with_the_shops_days(counted: Settings, stores: Stores) -> None:
    # On a day of the shop that is not the day in UTC of any event.
    send(counted, [viewed("akl", "late", "2026-01-20T13:00:00")])
    drain(counted)
    stores.redis.client.flushdb()
    done = restore(counted)
    assert done.reason
    with open_stores(counted) as after:
        assert days(after) == {**RIGHT_DAYS, "akl": {**RIGHT_DAYS["akl"], "2026-01-21": 1}}
        assert weeks(after) == {**RIGHT_WEEKS, "akl": {**RIGHT_WEEKS["akl"], "2026-W04": 1}}


def test_a_dead_letter_is_counted_by_the_day_of_its_shop(settings: Settings, stores: Stores) -> None:
    send(settings, [shop_update("ny", NEW_YORK)])
    drain(settings)
    refuse(stores, AD_LEADS, "^ny:c$")
    event = pixel("e1", "product_viewed", f"{EVENING}.000Z", "?gclid=1", productVariant={"product": {"id": "p"}})
    send(settings, [record("ny:c", event)])
    drain(settings)
    assert days(stores) == {}
    accept(stores, AD_LEADS)
    assert replay_letters(settings).replayed == 1
    assert (days(stores), weeks(stores)) == ({"ny": {SUNDAY: 1}}, {"ny": {"2026-W02": 1}})


def test_a_replay_computes_the_shops_days_and_restores_lost_shops(counted: Settings, stores: Stores) -> None:
    stores.mongodb.delete(SHOPS, {})
    with rebuilding(counted) as context:
        assert context.days == ShopDays()
        where = where_of(context, since=0, until=None, partition=None, offsets=None)
        done = replay(context, where)
    stages = done.stages
    assert (stages["product_stats"].removed, stages["index"].changed) == (0, 0)
    assert all_days(stores.mongodb).zones == {"ny": NEW_YORK, "akl": AUCKLAND}
    assert (days(stores), weeks(stores)) == (RIGHT_DAYS, RIGHT_WEEKS)


def test_events_are_rebuilt_by_the_names_that_their_shop_has_for_platforms(settings: Settings, stores: Stores) -> None:
    send(settings, [record("s:c", pixel("e", at=f"{MONDAY}T12:00:00.000Z", query="?utm_source=flyer"))])
    drain(settings)
    set_by_operator(stores.mongodb, "s", with_alias("flyer"))
    with rebuilding(settings) as context:
        assert events.rebuild_days(context, DAYS).changed == 1
        ad_leads.rebuild_days(context, DAYS)
        customers.rebuild_days(context, DAYS)
    assert audited(settings, stores).excused == []
    with rebuilding(settings) as context:
        where = where_of(context, since=0, until=None, partition=None, offsets=None)
        assert replay(context, where, ["index", "ad_lead"]).stages == {
            "index": RebuildStats(1),
            "ad_lead": RebuildStats(1),
        }


def test_a_rebuild_of_events_first_learns_the_shops_in_them(settings: Settings, stores: Stores) -> None:
    """As if an earlier version had read these records and stored nothing of the shop."""
    visit = pixel("e", at=f"{MONDAY}T12:00:00.000Z")
    visit["context"]["document"]["referrer"] = "https://ny.example/landing"
    send(settings, [record("ny:c", visit), *some_views(), shop_update("ny", NEW_YORK, at=f"{MONDAY}T13:00:00Z")])
    drain(settings)
    stores.mongodb.collection(SHOPS).delete_many({})
    with rebuilding(settings) as context:
        events.rebuild_days(context, DAYS)
    assert all_days(stores.mongodb).zones == {"ny": NEW_YORK}
    with rebuilding(settings) as context:
        ad_leads.rebuild_days(context, DAYS)
        customers.rebuild_days(context, DAYS)
        product_stats.rebuild_days(context, DAYS)
        weekly_visitors.rebuild_weeks(context, WEEKS)
    assert audited(settings, stores).excused == []


def test_a_redacted_shop_is_no_longer_known(counted: Settings, stores: Stores) -> None:
    set_by_operator(stores.mongodb, "ny", in_zone("America/Lima"))
    assert '"store": "shops"' not in run(counted, "privacy", "export", "--shop", "ny", "--client", "c").stdout
    held = [json.loads(line) for line in truepixel(counted, "privacy", "export", "--shop", "ny").splitlines()]
    assert [each["document"]["_id"] for each in held if each["store"] == "shops"] == ["ny"]
    done = json.loads(truepixel(counted, "privacy", "redact", "--shop", "ny", "--yes", "--json"))
    (request,) = done["requests"]
    assert (request["documents"]["shops"], request["searched"]["shops"]["found"]) == (1, 0)
    assert all_days(stores.mongodb).zones == {"akl": AUCKLAND}
    assert days(stores) == {shop: own for shop, own in RIGHT_DAYS.items() if shop != "ny"}


def test_a_redacted_shop_that_returns_is_known_by_its_later_webhooks(counted: Settings, stores: Stores) -> None:
    with rebuilding(counted) as context:
        # Nothing is redacted here: the whole history counts as later.
        set_by_operator(stores.mongodb, "ny", in_zone("America/Lima"))
        forget_shop(context, "ny", Redactions(stores.mongodb))
    assert document(stores, "ny")["webhook"]["time_zone"]["value"] == NEW_YORK
    assert all_days(stores.mongodb).zones == {"ny": NEW_YORK, "akl": AUCKLAND}


# --- Audit ---


def test_an_audit_goes_by_the_shops_days(counted: Settings, stores: Stores) -> None:
    send(counted, [shop_update("late", NEW_YORK, "u2"), viewed("late", "late", EVENING)])
    drain(counted)
    assert audited(counted, stores).excused == []


def test_an_audit_excuses_counts_that_a_change_moved_until_the_past_is_corrected(
    settings: Settings, stores: Stores
) -> None:
    send(settings, some_views())
    drain(settings)
    assert audited(settings, stores).excused == []
    send(settings, [shop_update("ny", NEW_YORK), shop_update("akl", AUCKLAND)])
    drain(settings)
    found = audited(settings, stores)
    assert {difference.store for difference in found.excused} == {"product_stats", "weekly_visitors"}
    assert {difference.id.partition(":")[0] for difference in found.excused} == {"ny", "akl"}
    rebuilt(settings)
    assert audited(settings, stores).excused == []


def test_an_audit_finds_a_count_that_is_wrong_beside_those_that_moved(settings: Settings, stores: Stores) -> None:
    send(settings, some_views())
    drain(settings)
    send(settings, [shop_update("ny", NEW_YORK)])
    drain(settings)
    audited(settings, stores)
    stores.elasticsearch.refresh()
    (hit,) = (hit for hit in stores.elasticsearch.scan("product-stats-") if hit["_id"] == f"ny:p:{MONDAY}")
    wrong = msgspec.json.encode({**hit["_source"], "views": 9})
    stores.elasticsearch.bulk([Action("index", hit["_index"], hit["_id"], wrong)])
    assert f"ny:p:{MONDAY}" in {difference.id for difference in audit(settings).differences}


# --- Commands ---


def test_the_commands_set_show_list_and_unset(settings: Settings, stores: Stores) -> None:
    assert "all days are UTC" in run(settings, "shops", "list").stderr
    learn(stores.mongodb, [update("w1", AUCKLAND, currency="NZD", domain="a.example")])
    arguments = ("--time-zone", NEW_YORK, "--domain", "https://Shop.example/", "--alias", "M.FB.com=facebook")
    done = run(settings, "shops", "set", "s", *arguments, "--payment-host", "pay.example", "--json")
    shown = json.loads(done.stdout)
    since = shown.pop("time_zone_since")
    assert since > "2026"
    assert shown == {
        "shop": "s",
        "time_zone": NEW_YORK,
        "currency": "NZD",
        "domains": ["a.example", "shop.example"],
        "aliases": {"m.fb.com": "facebook"},
        "payment_hosts": ["pay.example"],
        "set_by": {
            "time_zone": ["operator"],
            "currency": ["webhook w1 of 2026-01-01T00:00:00.000Z"],
            "domains": ["operator", "webhook w1 of 2026-01-01T00:00:00.000Z"],
            "aliases": ["operator"],
            "payment_hosts": ["operator"],
        },
    }
    assert "materialize attributions, product_stats and weekly_visitors" in " ".join(done.stderr.split())
    again = run(settings, "shops", "set", "s", *arguments)
    assert "nothing changed" in again.stderr
    assert NEW_YORK in again.stdout
    assert [row["shop"] for row in json.loads(truepixel(settings, "shops", "list", "--json"))] == ["s"]
    assert NEW_YORK in truepixel(settings, "shops", "list")
    shown = json.loads(truepixel(settings, "shops", "unset", "s", "--time-zone", "--alias", "m.fb.com", "--json"))
    assert (shown["time_zone"], shown["aliases"], shown["payment_hosts"]) == (AUCKLAND, {}, ["pay.example"])
    shown = json.loads(truepixel(settings, "shops", "unset", "s", "--all", "--json"))
    assert (shown["time_zone"], shown["set_by"]) == (None, {})
    assert stores.mongodb.count(SHOPS) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "s", "--time-zone", "berlin"), "'berlin' is not an IANA time zone; did you mean Europe/Berlin?"),
        (("set", "s", "--currency", "DOLLARS"), "'DOLLARS' is not an ISO 4217 code"),
        (("set", "s", "--domain", "not a host"), "'not a host' is not a host name"),
        (("set", "s", "--alias", "facebook"), "'facebook' is not SOURCE=PLATFORM"),
        (("set", "s", "--alias", "x=Face Book"), "'x=Face Book' is not SOURCE=PLATFORM"),
        (("set", "a:b", "--currency", "USD"), "'a:b' is not a shop id"),
        (("set", "s"), "give one of"),
        (("unset", "s"), "give one of"),
    ],
)
def test_an_invalid_value_is_reported_and_changes_nothing(
    settings: Settings, stores: Stores, arguments: tuple[str, ...], said: str
) -> None:
    assert said in truepixel(settings, "shops", *arguments, code=2)
    assert stores.mongodb.count(SHOPS) == 0


def test_an_unreadable_document_is_reported_and_can_be_deleted(settings: Settings, stores: Stores) -> None:
    stores.mongodb.collection(SHOPS).insert_one({"_id": "s", "operator": 7})
    for arguments in (("show", "s"), ("set", "s", "--currency", "USD"), ("unset", "s", "--currency")):
        output = " ".join(truepixel(settings, "shops", *arguments, code=1).split())
        assert "MongoDB shops document 's' cannot be read: field operator" in output
        assert "unset SHOP --all" in output
    truepixel(settings, "shops", "unset", "s", "--all")
    assert stores.mongodb.count(SHOPS) == 0
