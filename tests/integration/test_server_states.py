"""Redis without memory or disk, with its append-only file cut off; MongoDB that steps down or has no room."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pydantic import SecretStr

from tests.integration.driving import audited, committed, drain, flush, one_batch, record, send
from tests.integration.test_pipeline import completed, pixel
from truepixel_dagster.dead_letters import topic as dead_letters
from truepixel_dagster.events.decode import decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.local.servers import Address, MongoDB, NotAnsweringError, Redis, Server, free_ports
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.pipeline.lane_claim import open_lane
from truepixel_dagster.provision import provision
from truepixel_dagster.rebuild.redis import restore
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages import product_stats
from truepixel_dagster.stages.product_stats import Counting
from truepixel_dagster.stores.epoch import StateLost
from truepixel_dagster.stores.errors import Unavailable


def waiting(settings: Settings) -> Settings:
    send(settings, ((entry.key, entry.value, entry.headers) for entry in traffic(700, seed=9, shops=3, profile=FIRST)))
    return settings.model_copy(update={"batch_messages": 256, "retries": 2})


def letters(settings: Settings) -> int:
    return sum(dead.stage != "decode" for dead in dead_letters.read(settings.kafka()))


@contextmanager
def without_memory(stores: Stores) -> Iterator[None]:
    stores.redis.client.config_set("maxmemory", "1")
    try:
        yield
    finally:
        stores.redis.client.config_set("maxmemory", "0")


@contextmanager
def one_line(said: str) -> Iterator[None]:
    with pytest.raises(Unavailable, match=said) as caught:
        yield
    assert "\n" not in str(caught.value)
    assert "EVALSHA" not in str(caught.value)


def test_a_full_redis_stops_a_lane_by_one_line_and_makes_no_dead_letter(settings: Settings, stores: Stores) -> None:
    busy = waiting(settings)
    with open_lane(busy, lane=0, lanes=1, owner="test") as lane:
        assert one_batch(lane)
        lane._pool.drain()
        lane._commits.drain()
        lane._commits.commit()
        before = committed(busy)
        with without_memory(stores), one_line("maxmemory.*CONFIG SET maxmemory"):
            one_batch(lane)
            lane.finish()
        assert committed(busy) == before
    with without_memory(stores), one_line("maxmemory"):
        drain(busy)
    assert letters(busy) == 0
    drain(busy)
    with open_stores(busy) as again:
        audited(busy, again)


def test_what_a_full_redis_accepts_in_part_counts_once(settings: Settings, stores: Stores) -> None:
    """Counters of several records, and claims of several keys, each in one round trip."""
    busy = waiting(settings)
    drain(busy)
    messages = [Message(Origin("t", 0, n), *record("s:c", completed(f"e{n}"))[:2], (), 1) for n in range(5)]
    events = [event for event in map(decode, messages) if isinstance(event, Event)]
    changes = {event.origin: {("p1", "2026-01-01", "orders"): 1} for event in events}
    counting = Counting(ShopDays().day, ShopDays().week)
    mine = settings.model_copy(update={"retries": 1, "namespace": f"{settings.namespace}x"})
    with open_stores(mine) as others:
        for _ in range(2):
            with without_memory(stores), one_line("maxmemory"):
                product_stats.replay(events, changes, others.redis, counting)
        for _ in range(2):
            product_stats.replay(events, changes, others.redis, counting)
        claims = [claim for page in others.redis.counter_keys("buffer", 100) for claim in page]
        counts = {key: buffer.counters for key, (buffer, _) in zip(claims, others.redis.peek(claims)) if buffer}
        assert sum(own["orders"] for own in counts.values()) == len(events) * len(events[0].product_ids)
    with without_memory(stores), suppress(Unavailable):
        flush(stores)
    audited(busy, stores)


# --- Servers of a test's own ---


class Own:
    """A server that a test may end, and start again."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None
        server.folder.mkdir(parents=True)

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._server.prepare(), cwd=self._server.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 60
        while True:
            try:
                self._server.ask()
                return
            except NotAnsweringError:
                assert time.monotonic() < end
                time.sleep(0.1)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def own_redis(bare_settings: Settings, tmp_path: Path) -> Iterator[tuple[Settings, Own, Path]]:
    (port,) = free_ports(1)
    server = Redis(Address("127.0.0.1", port), tmp_path / "own-redis")
    own = Own(server)
    own.start()
    settings = bare_settings.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{port}/0")})
    provision(settings)
    yield settings, own, server.data
    own.kill()


def test_a_redis_whose_disk_fails_says_so_in_one_line(own_redis: tuple[Settings, Own, Path]) -> None:
    settings, _, data = own_redis
    busy = waiting(settings)
    with open_stores(busy) as stores:
        stores.redis.client.config_set("save", "3600 1")
        shutil.rmtree(data)
        stores.redis.client.bgsave()
        while stores.redis.client.info("persistence")["rdb_last_bgsave_status"] != "err":
            time.sleep(0.05)
        with one_line("cannot write to its disk.*Free space"):
            drain(busy)
        assert letters(busy) == 0
        data.mkdir()
        stores.redis.client.config_set("save", "")
    drain(busy)
    with open_stores(busy) as stores:
        audited(busy, stores)


@pytest.mark.parametrize("cut", [300, 30_000, 400_000])
def test_an_append_only_file_that_is_cut_off_is_noticed_and_rebuilt(
    own_redis: tuple[Settings, Own, Path], cut: int
) -> None:
    settings, own, data = own_redis
    busy = waiting(settings).model_copy(update={"lease": 3.0})
    drain(busy)
    with open_stores(busy) as stores:
        flush(stores)
    send(busy, ((entry.key, entry.value, entry.headers) for entry in traffic(700, seed=10, shops=3, profile=FIRST)))
    drain(busy)
    own.kill()
    (file,) = (data / "appendonlydir").glob("*.incr.aof")
    with file.open("r+b") as aof:
        aof.truncate(max(0, file.stat().st_size - cut))
    own.start()
    time.sleep(busy.lease)  # that leases were given back may be cut off, too
    lost = cut > 300
    if lost:
        with pytest.raises(StateLost, match="restore-redis"):
            drain(busy)
    assert bool(restore(busy).reason) == lost
    drain(busy)
    with open_stores(busy) as stores:
        audited(busy, stores)


@pytest.fixture
def replica_set(bare_settings: Settings, tmp_path: Path) -> Iterator[tuple[Settings, pymongo.MongoClient[Any]]]:
    """MongoDB as a replica set of one."""
    (port,) = free_ports(1)
    own = Own(MongoDB(Address("127.0.0.1", port), tmp_path / "own-mongodb", replica_set=True))
    own.start()
    url = f"mongodb://127.0.0.1:{port}/?replicaSet={MongoDB.REPLICA_SET}"
    direct: pymongo.MongoClient[Any] = pymongo.MongoClient(f"mongodb://127.0.0.1:{port}", directConnection=True)
    with direct as client:
        member = {"_id": 0, "host": f"127.0.0.1:{port}"}
        client.admin.command("replSetInitiate", {"_id": MongoDB.REPLICA_SET, "members": [member]})
        primary(client)
        settings = bare_settings.model_copy(update={"mongodb_url": SecretStr(url)})
        provision(settings)
        yield settings, client
    own.kill()


def primary(client: pymongo.MongoClient[Any]) -> None:
    end = time.monotonic() + 60
    while not client.admin.command("hello")["isWritablePrimary"]:
        assert time.monotonic() < end
        time.sleep(0.05)


def stepping_down(client: pymongo.MongoClient[Any], over: threading.Event) -> None:
    while not over.wait(0.7):
        with suppress(pymongo.errors.PyMongoError):
            client.admin.command("replSetStepDown", 1, secondaryCatchUpPeriodSecs=0, force=True)
            primary(client)


def again_and_again(settings: Settings, *, tries: int = 30) -> None:
    """Drain as the sensor does: a lane that failed is started again."""
    for _ in range(tries):
        with suppress(Unavailable):
            drain(settings)
            return
    raise AssertionError("it never came through")


def test_nothing_is_lost_or_doubled_when_mongodb_steps_down(
    replica_set: tuple[Settings, pymongo.MongoClient[Any]],
) -> None:
    settings, client = replica_set
    busy = waiting(settings).model_copy(update={"batch_messages": 64, "retries": 4})
    over = threading.Event()
    unrest = threading.Thread(target=stepping_down, args=(client, over))
    unrest.start()
    try:
        again_and_again(busy)
    finally:
        over.set()
        unrest.join()
    primary(client)
    assert letters(busy) == 0
    with open_stores(busy) as stores:
        audited(busy, stores)


NO_ROOM = {"errorCode": 14031}


@pytest.mark.parametrize(
    "failing",
    [
        {"errorCode": 189},
        {"errorCode": 10107},
        {"errorCode": 11602},
        NO_ROOM,
        {"writeConcernError": {"code": 91, "errmsg": "shutdown in progress"}},
        {"writeConcernError": {"code": 100, "errmsg": "not enough data-bearing nodes"}},
        {"closeConnection": True},
    ],
    ids=lambda failing: "-".join(map(str, next(iter(failing.items()))))[:40],
)
def test_writes_that_mongodb_does_not_acknowledge_are_repeated(
    replica_set: tuple[Settings, pymongo.MongoClient[Any]], failing: dict[str, Any]
) -> None:
    settings, client = replica_set
    send(settings, [record("s:c", pixel(f"e{n}", query=f"?gclid=g-{n}")) for n in range(40)])
    busy = settings.model_copy(update={"batch_messages": 10, "retries": 4, "mongodb_timeout": 2.0})
    data = {"failCommands": ["update", "insert", "delete"], **failing}
    with open_lane(busy, lane=0, lanes=1, owner="test") as lane:
        assert one_batch(lane)
        # An outage that the tries outlast, then one that outlasts the tries.
        if failing != NO_ROOM:  # which no try outlasts
            client.admin.command("configureFailPoint", "failCommand", mode={"times": 2}, data=data)
        assert one_batch(lane)
        lane._pool.drain()
        client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
        try:
            with one_line("MongoDB at"):
                while one_batch(lane):
                    pass
                lane.finish()
        finally:
            client.admin.command("configureFailPoint", "failCommand", mode="off")
    assert letters(busy) == 0
    again_and_again(busy)
    with open_stores(busy) as stores:
        audited(busy, stores)
