"""Quix Streams, as its documentation has one write a program: `python -m benchmarks.peers.quix`.

A dataflow of operators that see one event at a time; what is to be remembered is in the framework's state, by key:

    events, by user ─▶ decode ─▶ seen for the first time ─┬─▶ document ──▶ Elasticsearch: events
                                                          ├─▶ profile ───▶ MongoDB: customers
                                                          ├─▶ counts ────▶ Redis
                                                          ├─▶ touches ─┬─▶ MongoDB: ad_leads
                                                          │            └─▶ by shop ─┐
                                                          └─▶ dead letters          │
                        Elasticsearch: attributions, MongoDB: customers, Redis ◀── order

Sections of its documentation that this follows: "Using State in Custom Functions" and, where a value is a struct, its
"Serialization" (`get_bytes`); "How Changelog Topics Work"; "Branching" and its "Performance"; "Grouping (re-keying)
Data with GroupBy"; "Elasticsearch Sink" and "MongoDB Sink" where they fit (events are in an index a month, and a
customer's document is of two parts, which neither can do); "Creating a Custom Sink": batching ones, and for events one
that sends right away and confirms at the checkpoint; "Configuring the Checkpointing": as by default, every 5 seconds,
at least once. It scales by instances in one consumer group: here one for each core, and no more than partitions.

Events of one order may be of several users, and a refund names it by another id, but all are of one shop: what speaks
of an order is keyed by it. An event that comes again has the key that it had, so that it is found among its user's.
The same event id of two users of a shop would not be: that takes the whole stream through Kafka again, by shop.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec
from confluent_kafka import Consumer, TopicPartition
from elasticsearch import ApiError
from pymongo import UpdateOne
from quixstreams import Application, State, message_context
from quixstreams.sinks import BaseSink, BatchingSink, SinkBatch
from quixstreams.sinks.community.elasticsearch import ElasticsearchSink
from quixstreams.sinks.community.mongodb import MongoDBSink

from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.shape import STATUS_RANK
from truepixel_dagster.jobs.tally import peak_memory
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings, load_settings
from truepixel_dagster.stages import ad_lead, attribution, customer, index, order_status, product_stats
from truepixel_dagster.stages.ad_lead import Lead
from truepixel_dagster.stages.attribution import AttributedTouch, Attribution
from truepixel_dagster.stores.elasticsearch import CONFLICT, Action, ElasticsearchStore, Outcome
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS, MongoStore
from truepixel_dagster.stores.redis import NEVER_APPLIED, Increments, RedisStore
from truepixel_dagster.stream import dead_letters
from truepixel_dagster.stream.client_config import client_config
from truepixel_dagster.stream.errors import NoTopic
from truepixel_dagster.stream.topics import bounds, lag, partition_count

Headers = list[tuple[str, bytes]]
# What the orders' part of the dataflow sets in a customer's document, the other part leaves alone.
OF_ORDERS = {"orders": 0, "revenue": {}}
# Requests to Elasticsearch that may be under way.
MOST_SENT = 4
METHOD_NOT_ALLOWED = 405
SPAWN = multiprocessing.get_context("spawn")


class Touched(msgspec.Struct, frozen=True):
    """An event with its user's lead after it; `changed` where it added a touch."""

    event: Event
    lead: Lead
    changed: bool


class Ordered(msgspec.Struct, frozen=True):
    """What an event changed of orders: their documents, and itself if it is the sighting that counts its order."""

    documents: tuple[dict[str, Any], ...]
    counted: tuple[Event, ...]


# --- The stages, by user ---


def understood(
    drain: Drain, value: bytes | None, key: bytes | None, timestamp: int, headers: Any
) -> Event | Undecodable:
    """The event that a record means, or why it means none."""
    drain.received()
    at = message_context()
    return decode(Message(Origin(at.topic, at.partition, at.offset), key, value, tuple(headers or ()), timestamp))


def is_new(item: Event | Undecodable, state: State) -> bool:
    """Stage 1: whether it is the first record with its event id."""
    if isinstance(item, Undecodable):
        return True
    seen = f"seen:{item.event_id}"
    if state.exists(seen):
        return False
    state.set_bytes(seen, b"1")
    return True


def is_event(item: Event | Undecodable) -> bool:
    """Whether it was understood."""
    return isinstance(item, Event)


def concerns_touches(item: Event | Undecodable) -> bool:
    """Whether it may be a touch, or needs those that there are."""
    return isinstance(item, Event) and bool(item.ad or item.order)


def letter_headers(item: Undecodable, key: Any, timestamp: int, headers: Headers) -> Headers:  # noqa: ARG001
    """The record's headers, and why it is a dead letter."""
    own = {
        dead_letters.ERROR: item.reason,
        dead_letters.STAGE: "decode",
        dead_letters.ORIGIN: item.message.origin,
        dead_letters.TRIES: 0,
        dead_letters.RECORDED: timestamp,
    }
    return [*headers, *((name, str(value).encode(errors="replace")) for name, value in own.items())]


def creation(store: ElasticsearchStore, event: Event) -> Action:
    """Stage 1: the event's document, by month."""
    return Action("create", index.index_name(event, store), event.document_id, index.document(event))


def profile(event: Event, state: State) -> tuple[str, dict[str, Any]]:
    """Stage 4: the user's profile, without what orders add to it."""
    stored = state.get("customer")
    document = customer.apply(stored, [event], frozenset()) or stored
    state.set("customer", document)
    return event.user, {field: value for field, value in document.items() if field not in OF_ORDERS}


def counts(event: Event) -> Increments:
    """Stage 5: what an event adds, without what an order adds."""
    return product_stats.decide([event], frozenset(), {event.origin.partition: NEVER_APPLIED})[0]


class Touches:
    """Stage 2, and the journeys that stage 3 needs of it."""

    def __init__(self, settings: Settings, rules: attribution.Rules) -> None:
        self._kept = settings.touches_kept
        self._repeat = int(settings.touch_repeat * 1000)
        self._rules = rules

    def touched(self, event: Event, state: State) -> Touched:
        """The user's touches after an event."""
        stored = state.get_bytes("lead")
        before = msgspec.json.decode(stored, type=Lead) if stored else Lead()
        lead = ad_lead.add_touches(before, [event], kept=self._kept, repeat=self._repeat)
        if lead is not before:
            state.set_bytes("lead", msgspec.json.encode(lead))
        return Touched(event, lead, lead is not before)

    def speaking(self, item: Touched) -> dict[str, Any]:
        """What the orders' part of the dataflow needs to know of an event, as JSON can have it."""
        journey = attribution.journey(item.event, item.lead.all, self._rules)
        event = msgspec.structs.replace(item.event, payload=b"")
        return {"shop_id": event.shop_id, "event": msgspec.to_builtins(event), "touches": msgspec.to_builtins(journey)}


# --- The stages, by shop ---


class Orders:
    """Stage 3: the documents of a shop's orders, and what is known of their status."""

    def __init__(self, rules: attribution.Rules) -> None:
        self._rules = rules

    def ordered(self, value: dict[str, Any], state: State) -> Ordered:
        """What an event changes: the document that it is a sighting of, and the one whose status it tells."""
        event = msgspec.convert(value["event"], Event)
        changed: dict[str, Attribution] = {}
        counted: tuple[Event, ...] = ()
        if event.order and event.order.sighting:
            id_ = str(event.attribution_id)
            before = _order(id_, state)
            touches = msgspec.convert(value["touches"], tuple[AttributedTouch, ...])
            if now := attribution.merge(before, event, touches, self._rules):
                changed[id_] = now
                counted = () if before else (event,)
        for id_, rank in order_status.decide([event], _statuses(event, state)).items():
            order = changed.get(id_) or _order(id_, state)
            if order and STATUS_RANK[order.status] < rank:
                status = next(name for name, other in STATUS_RANK.items() if other == rank)
                changed[id_] = msgspec.structs.replace(order, status=status)
        for id_, order in changed.items():
            state.set_bytes(f"order:{id_}", msgspec.json.encode(order))
        return Ordered(tuple(msgspec.to_builtins(order) for order in changed.values()), counted)


def _order(id_: str, state: State) -> Attribution | None:
    stored = state.get_bytes(f"order:{id_}")
    return msgspec.json.decode(stored, type=Attribution) if stored else None


def _statuses(event: Event, state: State) -> dict[str, dict[str, Any]]:
    """What is known of the order's status under each of its ids, this event included (as `order_status.updates`)."""
    assert event.order is not None  # only such events are keyed by shop
    ids = order_status.keys(event)
    known = {id_: state.get(f"status:{id_}", {}) for id_ in ids}
    first = known[ids[0]]
    first["rank"] = max(first.get("rank", 0), STATUS_RANK[event.order.status])
    if len(ids) == 2:
        known[ids[1]]["attribution"] = event.attribution_id
    for id_, status in known.items():
        state.set(f"status:{id_}", status)
    return known


def order_totals(event: Event, state: State) -> tuple[str, dict[str, Any]]:
    """Stage 4: what a customer has ordered."""
    key = f"customer:{event.client_id}"
    stored = state.get(key)
    document = customer.apply(stored, [event], {event.origin}) or stored
    state.set(key, document)
    return event.user, {field: document[field] for field in OF_ORDERS}


def order_counts(event: Event) -> tuple[Origin, Increments]:
    """Stage 5: what an order adds."""
    applied = {event.origin.partition: NEVER_APPLIED}
    return event.origin, product_stats.decide([event], {event.origin}, applied)[0]


# --- Into the stores ---


class EventsSink(BaseSink):  # type: ignore[misc]
    """Creates event documents in bulk while the dataflow goes on; a checkpoint waits for those under way."""

    def __init__(self, store: ElasticsearchStore, batch: int) -> None:
        super().__init__()
        self._store = store
        self._batch = batch
        self._gathered: list[Action] = []
        self._sent: deque[Future[list[Outcome]]] = deque()
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="events")

    def add(self, value: Action, **_: Any) -> None:
        """Gather a document."""
        self._gathered.append(value)
        if len(self._gathered) == self._batch:
            self._send()

    def flush(self) -> None:
        """Have all landed."""
        self._send()
        while self._sent:
            self._confirm()

    def _send(self) -> None:
        if len(self._sent) == MOST_SENT:
            self._confirm()
        self._sent.append(self._sender.submit(self._store.bulk, self._gathered))
        self._gathered = []

    def _confirm(self) -> None:
        for outcome in self._sent.popleft().result():
            # One that is there already is of an event that is worked on again.
            if outcome.error and outcome.status != CONFLICT:
                raise RuntimeError(f"an event was refused: {outcome.error}")


class CustomersSink(BatchingSink):  # type: ignore[misc]
    """Sets fields of customers' documents: those of each customer's last event of the checkpoint."""

    def __init__(self, store: MongoStore, initial: dict[str, Any]) -> None:
        super().__init__()
        self._store = store
        self._initial = {"$setOnInsert": initial} if initial else {}

    def write(self, batch: SinkBatch) -> None:
        """Write in one request."""
        newest: dict[str, dict[str, Any]] = dict(item.value for item in batch)
        updates = {user: {"$set": fields, **self._initial} for user, fields in newest.items()}
        self._store.write(CUSTOMERS, [UpdateOne({"_id": user}, new, upsert=True) for user, new in updates.items()])


class CountsSink(BatchingSink):  # type: ignore[misc]
    """Adds up what the events of a partition add; each call moves the partition's applied offset with it."""

    def __init__(self, store: RedisStore, chunk: int) -> None:
        super().__init__()
        self._store = store
        self._chunk = chunk

    def write(self, batch: SinkBatch) -> None:
        """Write in calls of some events each, without those that an interrupted checkpoint has written."""
        for chunk in batch.iter_chunks(n=self._chunk):
            applied = self._store.applied([batch.partition])
            new = [item for item in chunk if item.offset > applied[batch.partition]]
            if new and not self._store.apply(_sum(new, batch.partition), applied):
                raise RuntimeError("another process applies increments of the same partition")


def _sum(items: Iterable[Any], partition: int) -> Increments:
    total = Increments({}, {}, {})
    for item in items:
        for key, fields in item.value.counters.items():
            counter = total.counters.setdefault(key, {})
            for field, amount in fields.items():
                counter[field] = counter.get(field, 0) + amount
        for week, clients in item.value.visitors.items():
            total.visitors.setdefault(week, set()).update(clients)
        total.upto[partition] = item.offset
    return total


class OrderCountsSink(BatchingSink):  # type: ignore[misc]
    """Adds what orders add, each once by its origin."""

    def __init__(self, store: RedisStore) -> None:
        super().__init__()
        self._store = store

    def write(self, batch: SinkBatch) -> None:
        """Write in one request."""
        self._store.apply_once(dict(item.value for item in batch))


# --- The dataflow ---


class Drain:
    """What all instances have to process yet, their own messages to each other included, and when they began."""

    def __init__(self, waiting: int) -> None:
        self.done = SPAWN.Event()
        self.began = SPAWN.Value("d", math.inf)
        self._left = SPAWN.Value("q", waiting)
        self._received = False

    def received(self) -> None:
        """A message came in; only an instance's first one counts."""
        if not self._received:
            self._received = True
            with self.began.get_lock():
                self.began.value = min(self.began.value, time.perf_counter())

    def comes_again(self, value: Any) -> None:  # noqa: ARG002 (the framework's signature)
        """A value is about to be sent through Kafka again."""
        with self._left.get_lock():
            self._left.value += 1

    def processed(self, topic: str, partition: int, offset: int) -> None:  # noqa: ARG002 (the framework's signature)
        """A message is through."""
        with self._left.get_lock():
            self._left.value -= 1
            if self._left.value == 0:
                self.done.set()


def build(app: Application, settings: Settings, stores: Stores, drain: Drain) -> None:
    """From the topic to the stores."""
    rules = attribution.Rules(
        settings.attribution_window_days, settings.attribution_half_life_days, settings.touches_kept
    )
    records = app.dataframe(app.topic(settings.topic, value_deserializer="bytes"))
    records = records.apply(partial(understood, drain), metadata=True).filter(is_new, stateful=True)

    # All branches begin at this one node, because a value is serialized anew, to be copied, wherever there are some.
    letters = records.filter(lambda item: isinstance(item, Undecodable)).set_headers(letter_headers)
    letters.apply(lambda item: item.message.value).to_topic(app.topic(settings.dead_topic, value_serializer="bytes"))
    events = EventsSink(stores.elasticsearch, settings.batch_messages)
    records.filter(is_event).apply(partial(creation, stores.elasticsearch)).sink(events)
    customers = CustomersSink(stores.mongodb, OF_ORDERS)
    records.filter(is_event).apply(profile, stateful=True).sink(customers)
    records.filter(is_event).apply(counts).sink(CountsSink(stores.redis, settings.batch_messages))
    touches = Touches(settings, rules)
    touched = records.filter(concerns_touches).apply(touches.touched, stateful=True)
    touched.filter(lambda item: item.changed).apply(lambda item: msgspec.to_builtins(item.lead)).sink(leads(settings))

    speaking = touched.filter(lambda item: item.event.order is not None).apply(touches.speaking)
    by_shop = speaking.update(drain.comes_again).group_by("shop_id")
    orders = by_shop.apply(Orders(rules).ordered, stateful=True)
    orders.apply(lambda item: item.documents, expand=True).sink(attributions(settings, stores))
    counted = orders.apply(lambda item: item.counted, expand=True)
    counted.apply(order_totals, stateful=True).sink(CustomersSink(stores.mongodb, {}))
    counted.apply(order_counts).sink(OrderCountsSink(stores.redis))


def leads(settings: Settings) -> MongoDBSink:
    """The framework's own: a document for each key, replaced; journaled, as the pipeline's are."""
    return MongoDBSink(
        host=settings.mongodb_url.get_secret_value().removeprefix("mongodb://"),
        db=settings.database,
        collection=AD_LEADS,
        document_matcher=lambda item: {"_id": item.key.decode()},
        update_method="ReplaceOne",
        w="majority",
        journal=True,
    )


def attributions(settings: Settings, stores: Stores) -> ElasticsearchSink:
    """The framework's own: one index, documents by id."""

    def id_of(item: Any) -> str:
        return f"{item.value['shop_id']}:{item.value.get('checkout_token') or item.value['order_id']}"

    def connected(error: Exception | None) -> None:
        # It asks for the server's version when it starts, which the local stack's Elasticsearch does not serve.
        if error and not (isinstance(error, ApiError) and error.status_code == METHOD_NOT_ALLOWED):
            raise error

    return ElasticsearchSink(
        url=settings.elasticsearch_url,
        index=stores.elasticsearch.index(attribution.ATTRIBUTIONS),
        document_id_setter=id_of,
        on_client_connect_failure=connected,
    )


def waiting_again(settings: Settings) -> int:
    """What an instance that was killed has sent to others, and nobody has processed."""
    name = f"repartition__{settings.group}--{settings.topic}--shop_id"
    try:
        low, high = bounds(settings, name)
    except NoTopic:
        return 0
    consumer = Consumer({**client_config(settings), "group.id": settings.group})
    committed = consumer.committed([TopicPartition(name, partition) for partition in high], settings.kafka_timeout)
    consumer.close()
    return sum(high[place.partition] - max(place.offset, low[place.partition]) for place in committed)


def instance(drain: Drain, results: Any) -> None:
    """One instance of the application, until everything is through; tells when it had committed, and its peak."""
    settings = load_settings()
    app = Application(
        broker_address=settings.kafka_bootstrap,
        consumer_group=settings.group,
        auto_offset_reset="earliest",
        processing_guarantee="at-least-once",
        state_dir=settings.data_dir / "quix",
        # An instance that has nothing to do is to notice soon that it may stop.
        consumer_poll_timeout=0.1,
        on_message_processed=drain.processed,
        loglevel="WARNING",
    )
    threading.Thread(target=lambda: drain.done.wait() and app.stop(), daemon=True).start()
    try:
        with open_stores(settings) as stores:
            build(app, settings, stores, drain)
            app.run()
            results.put((time.perf_counter(), peak_memory()))
    finally:
        drain.done.set()


def main() -> None:
    """Drain what lies in the topic; the figures are those of `Stopwatch.report`, of all instances together."""
    settings = load_settings()
    waiting = sum(entry.lag for entry in lag(settings))
    drain, results = Drain(waiting + waiting_again(settings)), SPAWN.SimpleQueue()
    count = min(partition_count(settings), os.cpu_count() or 1)
    instances = [SPAWN.Process(target=instance, args=(drain, results)) for _ in range(count)]
    for process in instances:
        process.start()
    for process in instances:
        process.join()
    if any(process.exitcode for process in instances):
        raise SystemExit("an instance failed")
    ended, peaks = zip(*(results.get() for _ in instances))
    per_minute = 60 * waiting / (max(ended) - drain.began.value)
    print(json.dumps({"messages": waiting, "per_minute": per_minute, "peak_mib": sum(peaks) / 2**20}))


if __name__ == "__main__":
    main()
