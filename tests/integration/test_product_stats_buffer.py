"""Stage 5 on a real server: counters and applied offsets move together, whatever is in a key."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from tests.unit.stages.events_made_up import completed, event
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages import product_stats
from truepixel_dagster.stages.product_stats import Counting
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.redis import CounterKey, Increments, RedisStore

DAY = "2026-01-01"
WEEK = "2026-W01"
KEY: CounterKey = ("s", "p", DAY)
SCRIPTS = 4
COUNTING = Counting(ShopDays().day, ShopDays().week)
BOUND = 2**63 - 1

HOSTILE = [
    "a:b",
    "a%3Ab",
    "a",
    "b",
    ":",
    "*",
    "?",
    "[a-z]",
    "{tag}",
    "{",
    "}",
    " ",
    "two words",
    'quote"quote',
    "it's",
    "\\",
    "%",
    "%%2A",
    "+",
    "]] return redis.call('FLUSHALL') --",
    '{"$gt": null}',
    "\r\nFLUSHALL\r\n",
    "\x00",
    "ünïcödé",
    "商品",
    "🛒",
    "x" * 256,
]


@pytest.fixture
def another_process(settings: Settings) -> Iterator[Callable[[], RedisStore]]:
    """Opens stores that share no state, as those of several processes."""
    with ExitStack() as opened:
        yield lambda: opened.enter_context(closing(RedisStore(settings.redis())))


def views(first: int, last: int, *, partition: int = 0, **fields: Any) -> list[Event]:
    return [
        event(i, partition=partition, name="product_viewed", product_ids=("p",), **fields)
        for i in range(first, last + 1)
    ]


def taken(store: RedisStore) -> dict[CounterKey, dict[str, int]]:
    """Everything in the buffer, read by claiming it."""
    keys = {key for found in store.counter_keys("buffer", 100) for key in found}
    claims = store.claim(sorted(keys), [f"token-{i}" for i in range(len(keys))])
    return {claim.key: claim.counters for claim in claims}


def loads(store: RedisStore) -> int:
    """How often the server was asked to load a script."""
    stats = store.client.info("commandstats")
    return int(stats.get("cmdstat_script|load", {}).get("calls", 0))


def test_counters_visitors_and_applied_offsets_move_together(
    redis_store: RedisStore, another_process: Callable[[], RedisStore]
) -> None:
    order = completed(7, partition=1)
    changes = {order.origin: {("p", DAY, "orders"): 1, ("p", DAY, "units"): 2, ("p", DAY, "revenue:USD"): 900}}
    assert product_stats.run([*views(0, 2), order], changes, redis_store, COUNTING) == 4
    reader = another_process()
    assert reader.applied([0, 1, 2]) == {0: 2, 1: 7, 2: -1}
    assert reader.visitors([("s", WEEK)]) == [1]
    assert taken(reader) == {KEY: {"views": 3, "orders": 1, "units": 2, "revenue:USD": 900}}


def test_a_stale_expectation_applies_nothing_at_all(
    redis_store: RedisStore, another_process: Callable[[], RedisStore]
) -> None:
    product_stats.run(views(0, 4, partition=1), {}, another_process(), COUNTING)
    new = Increments({KEY: {"views": 1}}, {("s", WEEK): {"stranger"}}, {0: 9, 1: 9})
    assert not redis_store.apply(new, {0: -1, 1: -1})
    reader = another_process()
    assert reader.applied([0, 1]) == {0: -1, 1: 4}
    assert reader.visitors([("s", WEEK)]) == [1]
    assert taken(reader) == {KEY: {"views": 5}}


def test_a_batch_whose_offsets_another_process_moved_is_decided_again(
    redis_store: RedisStore, another_process: Callable[[], RedisStore]
) -> None:
    assert redis_store.applied([0]) == {0: -1}
    assert product_stats.run(views(0, 4), {}, another_process(), COUNTING) == 5
    assert product_stats.run(views(0, 9), {}, redis_store, COUNTING) == 5
    assert product_stats.run(views(0, 9), {}, another_process(), COUNTING) == 0
    assert taken(redis_store) == {KEY: {"views": 10}}


def test_an_answer_that_was_lost_counts_nothing_twice(redis_store: RedisStore) -> None:
    """The script ran and the connection broke before its answer came."""
    original = redis_store.client.pipeline
    lost: list[Any] = []

    def breaking(transaction: bool) -> redis.client.Pipeline:
        pipeline = original(transaction=transaction)
        execute = pipeline.execute

        def executed() -> list[object]:
            found: list[object] = execute()
            if not lost:
                lost.append(found)
                raise redis.ConnectionError("the connection broke")
            return found

        pipeline.execute = executed  # type: ignore[method-assign, assignment]
        return pipeline

    redis_store.client.pipeline = breaking  # type: ignore[method-assign, assignment]
    product_stats.run(views(0, 4), {}, redis_store, COUNTING)
    assert lost == [[None]]
    assert taken(redis_store) == {KEY: {"views": 5}}


@pytest.mark.parametrize("seed", range(6))
def test_batches_cut_differently_on_redelivery_count_every_event_once(
    another_process: Callable[[], RedisStore], seed: int
) -> None:
    dice = random.Random(seed)
    events = views(0, 59) + views(0, 59, partition=1)
    dice.shuffle(events)
    events.sort(key=lambda seen: seen.origin.offset)
    store, position, new = another_process(), 0, 0
    while position < len(events):
        if dice.random() < 0.3:
            store = another_process()
        start, position = dice.randint(0, position), dice.randint(position + 1, min(len(events), position + 20))
        new += product_stats.run(events[start:position], {}, store, COUNTING)
    assert new == len(events)
    assert taken(store) == {KEY: {"views": len(events)}}


def test_two_processes_that_race_for_a_partition_count_every_event_once(
    another_process: Callable[[], RedisStore],
) -> None:
    events, together = views(0, 199), threading.Barrier(2)
    new: list[Any] = []

    def work(store: RedisStore) -> None:
        together.wait()
        new.extend(product_stats.run(events[: end + 1], {}, store, COUNTING) for end in range(0, 200, 7))
        new.append(product_stats.run(events, {}, store, COUNTING))

    threads = [threading.Thread(target=work, args=(another_process(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(new) == 60
    assert taken(another_process()) == {KEY: {"views": 200}}


def test_keys_with_hostile_characters_stay_apart_and_are_read_as_written(redis_store: RedisStore) -> None:
    keys = [(shop, product, DAY) for shop in HOSTILE for product in HOSTILE]
    expected = {key: {"views": number} for number, key in enumerate(keys, 1)}
    assert redis_store.apply(Increments(expected, {}, {0: 0}), {0: -1})
    assert taken(redis_store) == expected
    claimed = {key for found in redis_store.counter_keys("claim", 100) for key in found}
    assert claimed == set(keys)


def test_weeks_and_clients_with_hostile_characters_stay_apart(redis_store: RedisStore) -> None:
    clients = {(shop, WEEK): set(HOSTILE[: number + 1]) for number, shop in enumerate(HOSTILE)}
    assert redis_store.apply(Increments({}, clients, {0: 0}), {0: -1})
    weeks = [week for found in redis_store.dirty_weeks(100) for week in found]
    assert sorted(weeks) == sorted(clients)
    assert redis_store.visitors(list(clients)) == [len(found) for found in clients.values()]


def test_namespaces_that_begin_alike_do_not_meet(settings: Settings, redis_store: RedisStore) -> None:
    longer = settings.model_copy(update={"namespace": f"{settings.namespace}-b"})
    with closing(RedisStore(longer.redis())) as other:
        product_stats.run(views(0, 1), {}, other, COUNTING)
        product_stats.run(views(0, 4), {}, redis_store, COUNTING)
        assert taken(redis_store) == {KEY: {"views": 5}}
        assert taken(other) == {KEY: {"views": 2}}


def test_increments_beyond_what_a_double_holds_are_exact(redis_store: RedisStore) -> None:
    assert redis_store.apply(Increments({KEY: {"revenue:USD": 2**53 + 1}}, {}, {0: 0}), {0: -1})
    assert redis_store.apply(Increments({KEY: {"revenue:USD": 2**62 + 1}}, {}, {0: 2**53 + 1}), {0: 0})
    assert redis_store.applied([0]) == {0: 2**53 + 1}
    assert taken(redis_store) == {KEY: {"revenue:USD": 2**53 + 2**62 + 2}}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("steps", [[10**30], [BOUND - 1, 10**15], [5 * 10**18, 5 * 10**18]])
def test_an_amount_beyond_64_bits_stops_at_the_bound_and_takes_nothing_else_with_it(
    another_process: Callable[[], RedisStore], steps: list[int], sign: int
) -> None:
    """Whoever can send an event can send absurd prices: they must not stop the lane or count others twice."""
    store = another_process()
    for offset, amount in enumerate(steps):
        counters = {("s", "a", DAY): {"views": 1}, KEY: {"revenue:USD": sign * amount}, ("s", "z", DAY): {"views": 1}}
        assert store.apply(Increments(counters, {}, {0: offset}), {0: offset - 1})
    found = taken(store)
    assert found[KEY]["revenue:USD"] in (sign * BOUND, -BOUND - 1)
    assert found["s", "a", DAY] == found["s", "z", DAY] == {"views": len(steps)}
    assert another_process().applied([0]) == {0: len(steps) - 1}


def test_each_script_is_loaded_once_for_a_store(another_process: Callable[[], RedisStore]) -> None:
    def work(store: RedisStore, first: int) -> None:
        for offset in range(first, first + 20):
            product_stats.run(views(offset, offset, client_id=f"c{offset}"), {}, store, COUNTING)
            store.claim([KEY], ["t"])
            store.acknowledge({KEY: "t"})
            store.visitors_written([("s", WEEK)], [offset])

    first, second = another_process(), another_process()
    before = loads(first)
    work(first, 0)
    assert loads(first) - before == SCRIPTS
    work(second, 20)
    assert loads(first) - before == 2 * SCRIPTS


def test_a_server_that_lost_its_scripts_gets_each_once_more(redis_store: RedisStore) -> None:
    product_stats.run(views(0, 1), {}, redis_store, COUNTING)
    redis_store.claim([KEY], ["t"])
    redis_store.acknowledge({KEY: "t"})
    before = loads(redis_store)
    redis_store.client.script_flush()
    for offset in range(2, 8):
        assert product_stats.run(views(offset, offset), {}, redis_store, COUNTING) == 1
    assert loads(redis_store) - before == 1
    assert taken(redis_store) == {KEY: {"views": 6}}
    assert loads(redis_store) - before == 2


def unreachable(settings: Settings) -> RedisStore:
    url = SecretStr("redis://someone:hunter2@127.0.0.1:1/0")  # nothing listens there
    return RedisStore(settings.model_copy(update={"redis_url": url, "retries": 2}).redis())


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.ping(),
        lambda store: store.applied([0]),
        lambda store: product_stats.run(views(0, 0), {}, store, COUNTING),
        lambda store: store.claim([KEY], ["t"]),
        lambda store: list(store.counter_keys("buffer", 100)),
        lambda store: store.visitors([("s", WEEK)]),
    ],
    ids=["ping", "applied", "run", "claim", "counter_keys", "visitors"],
)
def test_an_unreachable_server_is_named_without_its_password(
    settings: Settings, call: Callable[[RedisStore], object]
) -> None:
    with closing(unreachable(settings)) as store, pytest.raises(Unavailable, match=r"127\.0\.0\.1:1\b") as raised:
        call(store)
    assert "hunter2" not in str(raised.value)
    assert "hunter2" not in repr(raised.value.__cause__)


def test_a_server_busy_with_a_script_is_unavailable_and_not_broken(settings: Settings, redis_store: RedisStore) -> None:
    """BUSY comes as a plain error, and in a pipeline after other words."""
    store = RedisStore(settings.model_copy(update={"retries": 1}).redis())
    product_stats.run(views(0, 0), {}, store, COUNTING)
    admin = redis_store.client
    threshold = admin.config_get("busy-reply-threshold")["busy-reply-threshold"]
    assert threshold is not None
    admin.config_set("busy-reply-threshold", 1)
    other = redis.Redis.from_url(settings.redis_url.get_secret_value(), socket_timeout=60)
    endless = threading.Thread(target=lambda: _swallowed(lambda: other.eval("while true do end", 0)))
    try:
        endless.start()
        while endless.is_alive() and not _is_busy(admin):
            pass
        with pytest.raises(Unavailable, match="BUSY"):
            product_stats.run(views(1, 1), {}, store, COUNTING)
    finally:
        _swallowed(admin.script_kill)
        endless.join()
        admin.config_set("busy-reply-threshold", threshold)
        other.close()
    assert product_stats.run(views(1, 1), {}, store, COUNTING) == 1
    store.close()


def _is_busy(client: redis.Redis) -> bool:
    try:
        client.ping()
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


def _swallowed(call: Callable[[], object]) -> None:
    with suppress(redis.RedisError):
        call()
