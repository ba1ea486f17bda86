"""States that a real Elasticsearch can be in: shards that recover, blocks, limits, a full disk, no memory left.

In each state, a quiet night's few events wait: none is a dead letter or committed, and no document is taken for
absent. Afterwards they are processed as if nothing had happened.
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psutil
import pytest
from elasticsearch import ApiError

from tests.integration.driving import all_committed, audited, drain, one_batch, record, send
from tests.integration.test_dead_letters import come_back, narrow
from tests.integration.test_pipeline import attribution, completed, order, pixel
from truepixel_dagster.dead_letters.inspect import listed
from truepixel_dagster.events.decode import decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.local.stack import Stack
from truepixel_dagster.orders.journey import Rules
from truepixel_dagster.pipeline.lane_claim import open_lane
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages import attribution as stage
from truepixel_dagster.stages.settling import settling
from truepixel_dagster.stores.elasticsearch import Action
from truepixel_dagster.stores.elasticsearch_errors import Kind, kind_of, types_of
from truepixel_dagster.stores.errors import ServerRefuses, Unavailable

MONTH = "2026.01"
State = Callable[[Stores], AbstractContextManager[None]]


@pytest.fixture
def hasty(settings: Settings) -> Settings:
    """Settings that give up soon."""
    return settings.model_copy(update={"retries": 2, "elasticsearch_timeout": 2.0})


def client(stores: Stores) -> Any:
    return stores.elasticsearch.client


@contextmanager
def index_setting(stores: Stores, index: str, name: str, value: Any) -> Iterator[None]:
    client(stores).indices.put_settings(index=index, settings={name: value})
    yield
    client(stores).indices.put_settings(index=index, settings={name: None})


@contextmanager
def cluster_setting(stores: Stores, **values: Any) -> Iterator[None]:
    client(stores).cluster.put_settings(persistent=values)
    try:
        yield
    finally:
        client(stores).cluster.put_settings(persistent=dict.fromkeys(values))


@contextmanager
def recovering(stores: Stores, index: str) -> Iterator[None]:
    """The index waits for its turn to recover, as after a restart of a node with many: no shard could answer."""
    indices = client(stores).indices
    with cluster_setting(stores, **{"cluster.routing.allocation.node_initial_primaries_recoveries": 0}):
        indices.close(index=index, timeout="1s")
        indices.open(index=index, wait_for_active_shards=0)
        yield
    client(stores).cluster.health(index=index, wait_for_status="yellow", timeout="30s")


@contextmanager
def closed(stores: Stores, index: str) -> Iterator[None]:
    client(stores).indices.close(index=index)
    yield
    client(stores).indices.open(index=index)


def no_such_pipeline(stores: Stores, index: str) -> AbstractContextManager[None]:
    return index_setting(stores, index, "index.default_pipeline", "none-such")


def blocked(block: str) -> Callable[[Stores, str], AbstractContextManager[None]]:
    return lambda stores, index: index_setting(stores, index, f"index.blocks.{block}", True)


STATES = {
    "recovering": (recovering, "unavailable_shards_exception|no_shard_available_action_exception|Timeout"),
    "write block": (blocked("write"), "cluster_block_exception.*FORBIDDEN/8/index write"),
    "read-only": (blocked("read_only"), "cluster_block_exception.*FORBIDDEN/5/index read-only"),
    "flood stage": (blocked("read_only_allow_delete"), "cluster_block_exception.*flood-stage watermark"),
    "closed": (closed, "index_closed_exception"),
    "pipeline": (no_such_pipeline, "the ingest pipeline none-such"),
    "read block": (blocked("read"), "cluster_block_exception.*FORBIDDEN/7/index read"),
}
EVENTS = f"events-{MONTH}"
# A lane reads an index of events only for an event that the index already has.
CASES = [(EVENTS, name) for name in STATES if name != "read block"] + [("attributions", name) for name in STATES]


@pytest.mark.parametrize(("which", "name"), CASES)
def test_an_index_that_accepts_no_writes_makes_no_dead_letter_and_loses_nothing(
    hasty: Settings, stores: Stores, name: str, which: str
) -> None:
    send(hasty, [record("s:c", completed("first", query="?utm_source=n"))])
    drain(hasty)
    before = all_committed(hasty)
    state, said = STATES[name]
    back = {"kind": "refund", "status": "success", "amount": "10.00", "currency": "USD"}
    refund = {"id": 1, "order_id": 77, "created_at": "2026-01-01T13:00:00Z", "transactions": [back]}
    send(
        hasty,
        [
            record("s:c", pixel("view")),
            record("s:c", completed("second", token="other")),
            record("s:tok", order(77), topic="orders/create", event_id="w1"),
            record("s:tok", refund, topic="refunds/create", event_id="w2"),
        ],
    )
    with state(stores, stores.elasticsearch.index(which)):
        with pytest.raises(Unavailable, match=said) as stopped:
            drain(hasty)
        assert "\n" not in str(stopped.value)
        assert listed(hasty, stores) == []
        assert all_committed(hasty) == before
    drain(hasty)
    assert listed(hasty, stores) == []
    audited(hasty, stores)
    assert attribution(stores, "s:tok")["status"] == "refunded"


def test_an_item_whose_pipeline_is_gone_is_an_outage(hasty: Settings, stores: Stores) -> None:
    """`illegal_argument_exception` with status 400, met by a lane that looked at the index before."""
    send(hasty, [record("s:c", pixel("first"))])
    with open_lane(hasty, lane=0, lanes=1, owner="test") as lane:
        assert one_batch(lane)
        send(hasty, [record("s:c", pixel("second"))])
        with (
            no_such_pipeline(stores, stores.elasticsearch.index(EVENTS)),
            pytest.raises(ServerRefuses, match=r"illegal_argument_exception: pipeline with id \[none-such\]"),
        ):
            one_batch(lane)
    assert listed(hasty, stores) == []
    drain(hasty)
    assert audited(hasty, stores).events == 2


def no_new_indices(stores: Stores) -> AbstractContextManager[None]:
    pattern = f"-{stores.elasticsearch.index('events-')}*,+*"
    return cluster_setting(stores, **{"action.auto_create_index": pattern})


def no_more_shards(stores: Stores) -> AbstractContextManager[None]:
    return cluster_setting(stores, **{"cluster.max_shards_per_node": 1})


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (no_new_indices, "index_not_found_exception: .*auto_create_index"),
        (no_more_shards, "validation_exception: .*maximum normal shards open.*cluster.max_shards_per_node"),
    ],
)
def test_a_months_index_that_cannot_be_made_stops_the_lane(
    hasty: Settings, stores: Stores, state: State, said: str
) -> None:
    send(hasty, [record("s:c", pixel(f"e{number}")) for number in range(3)])
    with state(stores):
        with pytest.raises(ServerRefuses, match=said):
            drain(hasty)
        assert (listed(hasty, stores), all_committed(hasty)) == ([], 0)
    drain(hasty)
    assert audited(hasty, stores).events == 3


def test_a_node_without_memory_stops_the_lane_with_its_reason(hasty: Settings, stores: Stores) -> None:
    send(hasty, [record("s:c", completed(f"e{number}", token=f"t{number}")) for number in range(3)])
    with (
        open_lane(hasty, lane=0, lanes=1, owner="test") as lane,
        cluster_setting(stores, **{"indices.breaker.total.limit": "1b"}),
        pytest.raises(Unavailable, match=r"circuit_breaking_exception: .*Data too large"),
    ):
        one_batch(lane)
    assert (listed(hasty, stores), all_committed(hasty)) == ([], 0)
    drain(hasty)
    assert audited(hasty, stores).attributions == 3


WATERMARKS = {f"cluster.routing.allocation.disk.watermark.{name}": "9000000gb" for name in ("low", "high")}


def test_a_disk_at_its_flood_stage_stops_the_lane_until_it_has_room(hasty: Settings, stores: Stores) -> None:
    send(hasty, [record("s:c", completed("first"))])
    drain(hasty)
    send(hasty, [record("s:c", completed("second", token="other"))])
    flood = {
        **WATERMARKS,
        "cluster.routing.allocation.disk.watermark.flood_stage": "9000000gb",
        "cluster.routing.allocation.disk.threshold_enabled": "true",
        "cluster.info.update.interval": "10s",
    }
    index = stores.elasticsearch.index("attributions")
    with cluster_setting(stores, **flood):
        waited_for(lambda: is_blocked(stores, index), True)
        with pytest.raises(Unavailable, match="flood-stage watermark"):
            drain(hasty)
        assert listed(hasty, stores) == []
    # Elasticsearch removes the block itself when there is room again.
    waited_for(lambda: is_blocked(stores, index), False)
    drain(hasty)
    assert audited(hasty, stores).attributions == 2


def is_blocked(stores: Stores, index: str) -> bool:
    found = client(stores).indices.get_settings(index=index, name="index.blocks.read_only_allow_delete")
    return bool(found.body.get(index))


def waited_for(look: Callable[[], bool], wanted: bool) -> None:
    deadline = time.monotonic() + 60
    while look() is not wanted:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_write_that_the_disk_does_not_take_is_an_outage(servers: Settings, hasty: Settings, stores: Stores) -> None:
    """The node may write no file beyond its size of now, as on a full disk: an I/O error, whose status is 500."""
    send(hasty, [record("s:c", pixel("first"))])
    drain(hasty)
    send(hasty, [record("s:c", pixel(f"e{number}", note="x" * 3000)) for number in range(5)])
    (server,) = (each for each in Stack(servers).servers if each.name == "elasticsearch")
    process = server.process()
    assert isinstance(process, psutil.Process)
    unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    try:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4000, unlimited[1]))
        with pytest.raises(Unavailable, match="i_o_exception: File too large"):
            drain(hasty)
        assert listed(hasty, stores) == []
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
    client(stores).cluster.reroute(retry_failed=True)
    client(stores).cluster.health(wait_for_status="yellow", timeout="30s")
    drain(hasty)
    assert audited(hasty, stores).events == 6


def test_a_document_of_a_failed_shard_is_not_taken_for_absent(hasty: Settings, stores: Stores) -> None:
    index = stores.elasticsearch.index(EVENTS)
    stores.elasticsearch.bulk([Action("create", index, "there", b'{"shop_id":"s"}')])
    with open_stores(hasty) as others:
        store = others.elasticsearch
        assert [doc and doc.id for doc in store.mget([(index, "there"), (index, "absent")])] == ["there", None]
        # A month without an index has no documents: that is certain.
        assert store.mget([(store.index("events-1999.01"), "absent")]) == [None]
        with recovering(stores, index):
            with pytest.raises(Unavailable, match="no_shard_available_action_exception"):
                store.mget([(index, "there"), (store.index("attributions"), "absent")])
            for look in (lambda: store.count("events-"), lambda: list(store.scan("events-"))):
                with pytest.raises(Unavailable, match="shard"):
                    look()
            with pytest.raises(Unavailable, match="shard"):
                store.most_common("events-", "shop_id", 1)
        assert store.count("events-") == 1


def test_what_setup_made_is_never_taken_for_empty(hasty: Settings, stores: Stores) -> None:
    index = stores.elasticsearch.index("attributions")
    client(stores).indices.delete(index=index)
    with pytest.raises(Unavailable, match=r"index_not_found_exception.*truepixel setup"):
        stores.elasticsearch.mget([(index, "s:tok")])


def test_a_status_that_elasticsearch_rejects_is_a_dead_letter_and_can_be_reprocessed(
    settings: Settings, stores: Stores
) -> None:
    send(settings, [record("s:tok", order(77), topic="orders/create", event_id="w1")])
    drain(settings)
    cancelled = order(77, cancelled_at="2026-01-01T13:00:00Z")
    with narrow(stores, stores.elasticsearch.index("attributions"), "status"):
        send(settings, [record("s:tok", cancelled, topic="orders/cancelled", event_id="w2")])
        drain(settings)
    (entry,) = listed(settings, stores)
    assert entry.letter.stage == "attribution"
    assert "document_parsing_exception" in entry.letter.error
    assert attribution(stores, "s:tok")["status"] == "open"
    come_back(settings, stores)
    assert attribution(stores, "s:tok")["status"] == "cancelled"


def test_three_lanes_on_one_order_finish_despite_their_conflicts(settings: Settings, stores: Stores) -> None:
    """Each lane sights the same order again and again, one event at a time: every write meets the others' writes."""
    by = settling(Rules(30, 7.0, 50, sightings_kept=200), {}, ShopDays(), lambda _partition, _offset: False)
    failures: list[BaseException] = []

    def sight(partition: int) -> None:
        try:
            with open_stores(settings) as own:
                for offset in range(60):
                    sighting = event(partition, offset)
                    stage.run([sighting], by, own.mongodb, own.elasticsearch)
        except BaseException as error:
            failures.append(error)

    lanes = [threading.Thread(target=sight, args=(partition,)) for partition in range(3)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    assert failures == []
    assert len(attribution(stores, "s:tok")["sightings"]) == 180


def event(partition: int, offset: int) -> Event:
    key, value, _ = record("s:c", completed(f"e{partition}-{offset}"))
    found = decode(Message(Origin("t", partition, offset), key, value))
    assert isinstance(found, Event)
    return found


ITEMS = {
    "version_conflict_engine_exception": (Kind.CONFLICT, "create", EVENTS, {"shop_id": "s"}),
    "strict_dynamic_mapping_exception": (Kind.POISON, "index", EVENTS, {"of_nobody": 1}),
    "document_parsing_exception": (Kind.POISON, "index", EVENTS, {"occurred_at": "no time"}),
    "invalid_index_name_exception": (Kind.OUTAGE, "index", "events-Of-Nobody", {"shop_id": "s"}),
}


@pytest.mark.parametrize("name", ITEMS)
def test_an_item_is_decided_by_the_type_that_the_real_server_gives(stores: Stores, name: str) -> None:
    kind, operation, index, source = ITEMS[name]
    stores.elasticsearch.bulk([Action("create", stores.elasticsearch.index(EVENTS), "there", b'{"shop_id":"s"}')])
    head = {operation: {"_index": stores.elasticsearch.index(index), "_id": "there"}}
    (item,) = client(stores).bulk(operations=[head, source])["items"]
    error = item[operation]["error"]
    assert (types_of(error)[0], kind_of(error)) == (name, kind)


def test_a_type_that_is_in_no_table_stops_the_lane(stores: Stores) -> None:
    with pytest.raises(ApiError) as refused:
        client(stores).indices.create(index=stores.elasticsearch.index("attributions"))
    error = refused.value.body["error"]
    assert (types_of(error)[0], kind_of(error)) == ("resource_already_exists_exception", Kind.OUTAGE)
