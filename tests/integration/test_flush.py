"""The flush on real servers: claim, write, acknowledge; nothing is lost and nothing counts twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pytest

from tests.unit.stages.events_made_up import completed, event
from truepixel_dagster.events.event import Event, LineItem
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.flush import FlushRefused, FlushResult, flush_product_stats, flush_weekly_visitors
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages import product_stats
from truepixel_dagster.stages.product_stats import Counting
from truepixel_dagster.stores.elasticsearch import Action, ElasticsearchStore, Found, Outcome
from truepixel_dagster.stores.redis import Claim, CounterKey, Increments, RedisStore, WeekKey

DAY = "2026-01-01"
WEEK = "2026-W01"
NOTHING = {"views": 0, "carts": 0, "checkouts": 0, "orders": 0, "units": 0, "revenue": {}}
NOTHING |= {"returned_units": 0, "returned_revenue": {}}
COUNTING = Counting(ShopDays().day, ShopDays().week)


class Crash(Exception):
    """The process ends here."""


def count(store: RedisStore, counters: dict[CounterKey, dict[str, int]]) -> None:
    """Add counters as the next offset of partition 0."""
    last = store.applied([0])
    assert store.apply(Increments(counters, {}, {0: last[0] + 1}), last)


def visit(store: RedisStore, *clients: str, shop: str = "s") -> None:
    last = store.applied([0])
    assert store.apply(Increments({}, {(shop, WEEK): set(clients)}, {0: last[0] + 1}), last)


def documents(store: ElasticsearchStore, name: str) -> dict[str, dict[str, Any]]:
    """The documents of the indices by id, without the flush's own mark."""
    store.refresh()
    hits = {hit["_id"]: dict(hit["_source"]) for hit in store.scan(name)}
    for source in hits.values():
        source.pop("last_token", None)
        # The version of a document is tested by tests/integration/test_documents.py.
        source.pop("schema", None)
    return hits


def counted_views(store: ElasticsearchStore) -> dict[str, int]:
    return {source["product_id"]: source["views"] for source in documents(store, "product-stats").values()}


def left_in_redis(store: RedisStore) -> list[CounterKey]:
    return [key for kind in ("buffer", "claim") for found in store.counter_keys(kind, 100) for key in found]


def test_documents_are_as_the_data_contract_says(
    redis_store: RedisStore, elasticsearch_store: ElasticsearchStore
) -> None:
    items = (LineItem("p", 2, Money(1900, "USD")), LineItem("q", 1, Money(150, "JPY")))
    order = completed(3)
    back = {("p", DAY, "returned_units"): 1, ("p", DAY, "returned:USD"): 950}
    sold = {("p", DAY, "orders"): 1, ("p", DAY, "units"): 2, ("p", DAY, "revenue:USD"): 1900}
    others = {("q", DAY, "orders"): 1, ("q", DAY, "units"): 1, ("q", DAY, "revenue:JPY"): 150}
    events: list[Event] = [
        event(0, name="product_viewed", product_ids=("p",)),
        event(1, name="product_added_to_cart", items=(LineItem("p", 3),)),
        event(2, name="checkout_started", items=items),
        order,
        event(4, name="product_viewed", product_ids=("p",), at=event().occurred_at + 31 * 86_400_000),
    ]
    product_stats.run(events, {order.origin: {**sold, **others, **back}}, redis_store, COUNTING)
    result = flush_product_stats(redis_store, elasticsearch_store)
    assert (result.keys, result.recovered, result.retries) == (3, 0, 0)
    january = {"shop_id": "s", "day": DAY, "checkouts": 1, "orders": 1}
    returned = {"returned_units": 1, "returned_revenue": {"USD": 950}}
    assert documents(elasticsearch_store, "product-stats-2026.01") == {
        f"s:p:{DAY}": {
            **january,
            "product_id": "p",
            "views": 1,
            "carts": 3,
            "units": 2,
            "revenue": {"USD": 1900},
            **returned,
        },
        f"s:q:{DAY}": {**NOTHING, **january, "product_id": "q", "units": 1, "revenue": {"JPY": 150}},
    }
    assert documents(elasticsearch_store, "product-stats-2026.02") == {
        "s:p:2026-02-01": {**NOTHING, "shop_id": "s", "product_id": "p", "day": "2026-02-01", "views": 1}
    }
    assert left_in_redis(redis_store) == []


def test_two_flushes_add_up_exactly(redis_store: RedisStore, elasticsearch_store: ElasticsearchStore) -> None:
    first = {"views": 2, "units": 1, "revenue:USD": 2**53 + 1}
    second = {"views": 3, "orders": 4, "revenue:USD": 2**60, "revenue:EUR": 7}
    for counters in (first, second):
        count(redis_store, {("s", "p", DAY): counters})
        flush_product_stats(redis_store, elasticsearch_store)
    found = documents(elasticsearch_store, "product-stats")[f"s:p:{DAY}"]
    assert (found["views"], found["orders"], found["units"], found["carts"]) == (5, 4, 1, 0)
    assert found["revenue"] == {"USD": 2**53 + 1 + 2**60, "EUR": 7}


def test_a_flush_of_nothing_writes_nothing(redis_store: RedisStore, elasticsearch_store: ElasticsearchStore) -> None:
    assert flush_product_stats(redis_store, elasticsearch_store).keys == 0
    assert documents(elasticsearch_store, "product-stats") == {}


def dies(store: object, method: str, *, after: bool, call: int) -> None:
    """The process ends before or after the given call of a store's method."""
    original, calls = getattr(store, method), 0

    def dying(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        found = original(*arguments) if calls != call or after else None
        if calls == call:
            raise Crash
        return found

    setattr(store, method, dying)


@pytest.mark.parametrize("call", [1, 3])
@pytest.mark.parametrize(
    ("store", "method", "after"),
    [
        ("redis", "claim", False),
        ("redis", "claim", True),
        ("elasticsearch", "mget", True),
        ("redis", "open_tokens", True),
        ("elasticsearch", "bulk", False),
        ("elasticsearch", "bulk", True),
        ("redis", "acknowledge", False),
        ("redis", "acknowledge", True),
    ],
)
def test_a_crash_anywhere_loses_nothing_and_counts_nothing_twice(
    settings: Settings,
    redis_store: RedisStore,
    elasticsearch_store: ElasticsearchStore,
    store: str,
    method: str,
    after: bool,
    call: int,
) -> None:
    keys: list[CounterKey] = [("s", str(i), DAY) for i in range(7)]
    for _ in range(2):
        count(redis_store, {key: {"views": number} for number, key in enumerate(keys, 1)})
        with (
            closing(RedisStore(settings.redis())) as redis,
            closing(ElasticsearchStore(settings.elasticsearch())) as elasticsearch,
        ):
            dies(redis if store == "redis" else elasticsearch, method, after=after, call=call)
            with pytest.raises(Crash):
                flush_product_stats(redis, elasticsearch, batch=2)
        # what is counted after the crash must not be taken for a part of the claim that it left
        count(redis_store, {key: {"views": 100} for key in keys})
    flush_product_stats(redis_store, elasticsearch_store)
    assert left_in_redis(redis_store) == []
    assert counted_views(elasticsearch_store) == {str(i): 2 * (i + 1) + 200 for i in range(7)}


class Sleeper(ElasticsearchStore):
    """Sleeps once at a point of a flush, while the others continue."""

    def __init__(self, settings: Settings, point: str, meanwhile: Callable[[], None]) -> None:
        super().__init__(settings.elasticsearch())
        self.point, self.meanwhile, self.sleeps = point, meanwhile, 0

    def mget(self, documents: Sequence[tuple[str, str]], fields: Sequence[str] | None = None) -> list[Found | None]:
        self._sleep_at("before reading")
        found = super().mget(documents, fields)
        self._sleep_at("after reading")
        return found

    def bulk(self, actions: Sequence[Action]) -> list[Outcome]:
        self._sleep_at("before writing")
        outcomes = super().bulk(actions)
        self._sleep_at("after writing")
        return outcomes

    def _sleep_at(self, point: str) -> None:
        if point == self.point and not self.sleeps:
            self.sleeps += 1
            self.meanwhile()


class EveryClaimOpen(RedisStore):
    """The flush without its check that its claims are still open."""

    def claim(self, keys: Sequence[CounterKey], tokens: Sequence[str]) -> list[Claim]:
        claims = super().claim(keys, tokens)
        self.claimed = {claim.key: claim.token for claim in claims}
        return claims

    def open_tokens(self, keys: Sequence[CounterKey]) -> list[str | None]:
        return [self.claimed[key] for key in keys]


POINTS = ["before reading", "after reading", "before writing", "after writing"]


def views_after_a_sleep(settings: Settings, sleeping: RedisStore, point: str, *, known: bool) -> dict[str, int]:
    """Flush A sleeps holding a claim of 1 view; B writes that claim, then 10 and 100 newer views."""
    with (
        closing(RedisStore(settings.redis())) as redis,
        closing(ElasticsearchStore(settings.elasticsearch())) as elasticsearch,
    ):

        def meanwhile() -> None:
            flush_product_stats(redis, elasticsearch)
            for more in (10, 100):
                count(redis, {("s", "p", DAY): {"views": more}})
                flush_product_stats(redis, elasticsearch)

        if known:
            count(redis, {("s", "p", DAY): {"views": 1000}})
            flush_product_stats(redis, elasticsearch)
        count(redis, {("s", "p", DAY): {"views": 1}})
        with closing(Sleeper(settings, point, meanwhile)) as sleeper:
            flush_product_stats(sleeping, sleeper)
            assert sleeper.sleeps == 1
        assert left_in_redis(redis) == []
        return counted_views(elasticsearch)


@pytest.mark.parametrize("known", [False, True], ids=["new document", "known document"])
@pytest.mark.parametrize("point", POINTS)
def test_a_suspended_flush_whose_claim_others_wrote_counts_nothing_twice(
    settings: Settings, redis_store: RedisStore, point: str, known: bool
) -> None:
    assert views_after_a_sleep(settings, redis_store, point, known=known) == {"p": 111 + 1000 * known}


@pytest.mark.parametrize("known", [False, True], ids=["new document", "known document"])
@pytest.mark.parametrize("point", POINTS[:3])
def test_without_the_check_of_open_claims_a_suspended_flush_would_count_twice(
    settings: Settings, point: str, known: bool
) -> None:
    with closing(EveryClaimOpen(settings.redis())) as careless:
        assert views_after_a_sleep(settings, careless, point, known=known) == {"p": 112 + 1000 * known}


@contextmanager
def flushing_on(settings: Settings, threads: int) -> Iterator[list[BaseException]]:
    """Flushes over and over, each thread with stores of its own, until the block ends."""
    done, failures = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            with (
                closing(RedisStore(settings.redis())) as redis,
                closing(ElasticsearchStore(settings.elasticsearch())) as elasticsearch,
            ):
                while not done.is_set():
                    flush_product_stats(redis, elasticsearch, batch=7)
                    flush_weekly_visitors(redis, elasticsearch, batch=7)
        except BaseException as error:
            failures.append(error)

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield failures
    finally:
        done.set()
        for thread in running:
            thread.join()


def test_several_flushes_at_once_while_others_count_end_with_exact_totals(
    settings: Settings, redis_store: RedisStore, elasticsearch_store: ElasticsearchStore
) -> None:
    batches, products = 150, [str(i) for i in range(20)]
    with flushing_on(settings, 3) as failures:
        for number in range(batches):
            count(redis_store, {("s", product, DAY): {"views": 1, "revenue:USD": 5} for product in products})
            visit(redis_store, f"c{number}")
    assert failures == []
    flush_product_stats(redis_store, elasticsearch_store)
    flush_weekly_visitors(redis_store, elasticsearch_store)
    found = documents(elasticsearch_store, "product-stats").values()
    assert {one["product_id"]: one["views"] for one in found} == dict.fromkeys(products, batches)
    assert [one["revenue"] for one in found] == [{"USD": 5 * batches}] * len(products)
    assert left_in_redis(redis_store) == []
    weekly = documents(elasticsearch_store, "weekly-visitors")[f"s:{WEEK}"]
    assert weekly["visitors"] == redis_store.visitors([("s", WEEK)])[0]


class Measured(RedisStore):
    """Keeps the sizes of the batches that it claims and acknowledges."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.redis())
        self.claimed: list[int] = []
        self.commands: list[tuple[Any, ...]] = []
        execute: Callable[..., Any] = self.client.execute_command

        def recorded(*arguments: Any, **options: Any) -> Any:
            self.commands.append(arguments)
            return execute(*arguments, **options)

        self.client.execute_command = recorded  # type: ignore[method-assign]

    def claim(self, keys: Sequence[CounterKey], tokens: Sequence[str]) -> list[Claim]:
        self.claimed.append(len(keys))
        return super().claim(keys, tokens)


def test_a_thousand_keys_are_read_at_most_a_hundred_at_a_time(
    settings: Settings, redis_store: RedisStore, elasticsearch_store: ElasticsearchStore
) -> None:
    products = [str(i) for i in range(1000)]
    count(redis_store, {("s", product, DAY): {"views": 2} for product in products})
    progress: list[int] = []
    with closing(Measured(settings)) as measured:
        result = flush_product_stats(measured, elasticsearch_store, progress=progress.append)
        scans = [command for command in measured.commands if command[0] == "SCAN"]
        assert max(measured.claimed) <= 100
        assert len(measured.claimed) >= 10
        assert {command[-1] for command in scans} == {100}  # SCAN cursor MATCH pattern COUNT 100
        assert {command[0] for command in measured.commands} <= {"SCAN", "SCRIPT LOAD"}
    assert (result.keys, result.batches) == (1000, len(measured.claimed))
    assert progress == sorted(progress)
    assert progress[-1] == 1000
    assert counted_views(elasticsearch_store) == dict.fromkeys(products, 2)


def test_a_key_that_a_scan_names_twice_counts_once(
    settings: Settings, redis_store: RedisStore, elasticsearch_store: ElasticsearchStore
) -> None:
    class Stuttering(RedisStore):
        def counter_keys(self, kind: str, batch: int) -> Iterator[list[CounterKey]]:
            for keys in super().counter_keys(kind, batch):
                yield keys + keys
                yield keys

    count(redis_store, {("s", "p", DAY): {"views": 1}, ("s", "q", DAY): {"views": 2}})
    with closing(Stuttering(settings.redis())) as stuttering:
        flush_product_stats(stuttering, elasticsearch_store)
    assert counted_views(elasticsearch_store) == {"p": 1, "q": 2}
    assert left_in_redis(redis_store) == []


REFUSING: dict[str, dict[str, Any]] = {
    # A correct index, except that it refuses a shop that is not a number.
    "values": {"properties": {"shop_id": {"type": "keyword", "copy_to": "narrow"}, "narrow": {"type": "long"}}},
    "mapping": {"dynamic": "strict", "properties": {"shop_id": {"type": "date", "format": "strict_date"}}},
}


def refuse(store: ElasticsearchStore, name: str, how: str) -> str:
    """Create an index that refuses every document of a flush; return its name."""
    index, template = store.index(name), store.index(name.removesuffix("-2026.01"))
    if how == "mapping":
        store.client.indices.delete_index_template(name=template)
    store.client.indices.create(index=index, mappings=REFUSING[how])
    store.setup()
    return index


@pytest.mark.parametrize("how", REFUSING)
@pytest.mark.parametrize("batch", [1, 100])
def test_rejected_documents_are_reported_delay_no_others_and_lose_nothing(
    redis_store: RedisStore, elasticsearch_store: ElasticsearchStore, batch: int, how: str
) -> None:
    refusing = refuse(elasticsearch_store, "product-stats-2026.01", how)
    accepted: list[CounterKey] = [("s", f"f{i}", "2026-02-01") for i in range(5)]
    refused: list[CounterKey] = [("s", f"j{i}", DAY) for i in range(5)]
    for _ in range(3):
        count(redis_store, {key: {"views": 1} for key in accepted + refused})
        with pytest.raises(FlushRefused, match="rejected 5 documents"):
            flush_product_stats(redis_store, elasticsearch_store, batch=batch)
        assert set(left_in_redis(redis_store)) == set(refused)
    elasticsearch_store.client.indices.delete(index=refusing)
    assert counted_views(elasticsearch_store) == {product: 3 for _, product, _ in accepted}
    flush_product_stats(redis_store, elasticsearch_store, batch=batch)
    assert counted_views(elasticsearch_store) == {product: 3 for _, product, _ in accepted + refused}
    assert left_in_redis(redis_store) == []


def dirty(store: RedisStore) -> list[WeekKey]:
    return [week for found in store.dirty_weeks(100) for week in found]


def weekly(store: ElasticsearchStore, id_: str = f"s:{WEEK}") -> dict[str, Any]:
    return documents(store, "weekly-visitors")[id_]


def test_weekly_visitors_are_distinct_clients_and_say_that_they_are_an_estimate(
    redis_store: RedisStore, elasticsearch_store: ElasticsearchStore
) -> None:
    events = [event(i, client_id=client) for i, client in enumerate("abacab")]
    events += [event(6, client_id="x", source="webhook"), event(7, client_id="a", shop_id="other")]
    product_stats.run(events, {}, redis_store, COUNTING)
    flush_weekly_visitors(redis_store, elasticsearch_store)
    assert documents(elasticsearch_store, "weekly-visitors") == {
        f"s:{WEEK}": {"shop_id": "s", "week": WEEK, "visitors": 3, "exact": False},
        f"other:{WEEK}": {"shop_id": "other", "week": WEEK, "visitors": 1, "exact": False},
    }


def test_only_weeks_with_visitors_are_read_and_only_new_counts_written(
    redis_store: RedisStore, elasticsearch_store: ElasticsearchStore
) -> None:
    def flushed() -> FlushResult:
        return flush_weekly_visitors(redis_store, elasticsearch_store)

    visit(redis_store, "a", "b")
    assert flushed().keys == 1
    assert flushed().keys == 0
    place = (elasticsearch_store.index("weekly-visitors"), f"s:{WEEK}")
    before = elasticsearch_store.mget([place])
    visit(redis_store, "a")
    assert flushed().keys == 1
    assert elasticsearch_store.mget([place]) == before
    visit(redis_store, "c")
    assert flushed().keys == 1
    assert weekly(elasticsearch_store)["visitors"] == 3


def test_a_week_that_grows_between_write_and_acknowledgement_stays_dirty(
    settings: Settings, redis_store: RedisStore, elasticsearch_store: ElasticsearchStore
) -> None:
    class Interrupted(RedisStore):
        def visitors_written(self, weeks: Sequence[WeekKey], counts: Sequence[int]) -> None:
            visit(redis_store, "late")
            super().visitors_written(weeks, counts)

    visit(redis_store, "a")
    with closing(Interrupted(settings.redis())) as interrupted:
        flush_weekly_visitors(interrupted, elasticsearch_store)
    assert weekly(elasticsearch_store)["visitors"] == 1
    assert dirty(redis_store) == [("s", WEEK)]
    flush_weekly_visitors(redis_store, elasticsearch_store)
    assert weekly(elasticsearch_store)["visitors"] == 2
    assert dirty(redis_store) == []


@pytest.mark.parametrize("higher", [2, 50])
@pytest.mark.parametrize("exact", [b"true", b"false"])
def test_a_count_that_is_not_lower_is_never_replaced_and_an_exact_one_becomes_an_estimate(
    redis_store: RedisStore, elasticsearch_store: ElasticsearchStore, higher: int, exact: bytes
) -> None:
    rebuilt = b'{"shop_id":"s","week":"%s","visitors":%d,"exact":%s}' % (WEEK.encode(), higher, exact)
    index = elasticsearch_store.index("weekly-visitors")
    elasticsearch_store.bulk([Action("create", index, f"s:{WEEK}", rebuilt)])
    visit(redis_store, "a", "b")
    flush_weekly_visitors(redis_store, elasticsearch_store)
    assert weekly(elasticsearch_store) == {"shop_id": "s", "week": WEEK, "visitors": higher, "exact": False}
    assert dirty(redis_store) == []


@pytest.mark.parametrize("known", [False, True], ids=["new document", "known document"])
@pytest.mark.parametrize("point", POINTS)
def test_a_suspended_weekly_flush_never_restores_its_lower_count(
    settings: Settings, redis_store: RedisStore, elasticsearch_store: ElasticsearchStore, point: str, known: bool
) -> None:
    def meanwhile() -> None:
        visit(redis_store, "b", "c", "d")
        flush_weekly_visitors(redis_store, elasticsearch_store)

    if known:
        visit(redis_store, "z")
        flush_weekly_visitors(redis_store, elasticsearch_store)
    visit(redis_store, "a")
    with closing(Sleeper(settings, point, meanwhile)) as sleeper:
        flush_weekly_visitors(redis_store, sleeper)
        assert sleeper.sleeps == 1
    assert weekly(elasticsearch_store)["visitors"] == 4 + known


@pytest.mark.parametrize("call", ["visitors", "mget", "bulk", "visitors_written"])
def test_a_crash_of_the_weekly_flush_leaves_the_week_to_the_next(
    settings: Settings, redis_store: RedisStore, elasticsearch_store: ElasticsearchStore, call: str
) -> None:
    visit(redis_store, "a", "b")
    with (
        closing(RedisStore(settings.redis())) as redis,
        closing(ElasticsearchStore(settings.elasticsearch())) as elasticsearch,
    ):
        dies(redis if hasattr(redis, call) else elasticsearch, call, after=False, call=1)
        with pytest.raises(Crash):
            flush_weekly_visitors(redis, elasticsearch)
    assert dirty(redis_store) == [("s", WEEK)]
    flush_weekly_visitors(redis_store, elasticsearch_store)
    assert weekly(elasticsearch_store)["visitors"] == 2


@pytest.mark.parametrize("how", REFUSING)
def test_rejected_weeks_are_reported_and_stay_dirty(
    redis_store: RedisStore, elasticsearch_store: ElasticsearchStore, how: str
) -> None:
    refusing = refuse(elasticsearch_store, "weekly-visitors", how)
    visit(redis_store, "a", "b")
    with pytest.raises(FlushRefused, match="rejected 1 document"):
        flush_weekly_visitors(redis_store, elasticsearch_store)
    assert dirty(redis_store) == [("s", WEEK)]
    elasticsearch_store.client.indices.delete(index=refusing)
    flush_weekly_visitors(redis_store, elasticsearch_store)
    assert weekly(elasticsearch_store)["visitors"] == 2
