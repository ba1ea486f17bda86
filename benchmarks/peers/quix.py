"""Quix Streams, used as its documentation recommends: `python -m benchmarks.peers.quix`.

A dataflow of operators that see one event at a time; the framework's state holds data by key:

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

Events of one order may be of several users, and a refund names it by another id, but all are of one shop, so events
about orders are keyed by shop. A duplicate has the key of the first event, so it is found among its user's events. The
same event id of two users of a shop would not be found: that takes the whole stream through Kafka again, by shop.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
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

from benchmarks.peers.orders import OF_ORDERS, ShopOrders
from truepixel_dagster.dead_letters import topic as dead_letters
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.events.touch import Touch
from truepixel_dagster.pipeline.run_metrics import peak_memory
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings, load_settings
from truepixel_dagster.stages import ad_lead, customer, index, product_stats
from truepixel_dagster.stages.ad_lead import Lead
from truepixel_dagster.stages.attribution_document import ATTRIBUTIONS
from truepixel_dagster.stages.product_stats import Counting
from truepixel_dagster.stores.elasticsearch import CONFLICT, Action, ElasticsearchStore, Outcome
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS, MongoStore
from truepixel_dagster.stores.redis import NEVER_APPLIED, Increments, RedisStore
from truepixel_dagster.stream.client_config import client_config
from truepixel_dagster.stream.errors import NoTopic
from truepixel_dagster.stream.topics import bounds, lag, partition_count

Headers = list[tuple[str, bytes]]
# The orders' part of the dataflow sets some fields of a customer's document (`OF_ORDERS`), the other part the others.
UNORDERED = {"orders": 0, "revenue": {}, "refunded": {}, "customer_id": None, "email_hash": None}
# The most requests to Elasticsearch in progress.
MOST_SENT = 4
METHOD_NOT_ALLOWED = 405
SPAWN = multiprocessing.get_context("spawn")


class Touched(msgspec.Struct, frozen=True):
    """Hold an event with its user's lead after it; `changed` if it added a touch."""

    event: Event
    lead: Lead
    changed: bool


class Ordered(msgspec.Struct, frozen=True):
    """Hold an event's changes of orders: attributions, ids of removed attributions, fields of customers' documents by
    user, and increments of products."""

    documents: tuple[dict[str, Any], ...]
    removed: tuple[str, ...]
    customers: tuple[tuple[str, dict[str, Any]], ...]
    counts: tuple[tuple[Origin, Increments], ...]


# --- The stages, by user ---


def understood(
    drain: Drain, value: bytes | None, key: bytes | None, timestamp: int, headers: Any
) -> Event | Undecodable:
    """Return the event of a record, or why it cannot be decoded."""
    drain.received()
    at = message_context()
    return decode(Message(Origin(at.topic, at.partition, at.offset), key, value, tuple(headers or ()), timestamp))


def is_new(item: Event | Undecodable, state: State) -> bool:
    """Run stage 1: return whether it is the first record with its event id."""
    if isinstance(item, Undecodable):
        return True
    seen = f"seen:{item.event_id}"
    if state.exists(seen):
        return False
    state.set_bytes(seen, b"1")
    return True


def is_event(item: Event | Undecodable) -> bool:
    """Return whether it was decoded."""
    return isinstance(item, Event)


def counts_for_user(item: Event | Undecodable) -> bool:
    """Return whether it counts for the customer in its key."""
    return isinstance(item, Event) and customer.counts(item)


def concerns_orders(item: Event | Undecodable) -> bool:
    """Return whether it may be a touch, needs touches, or identifies its user."""
    return isinstance(item, Event) and bool(item.ad or item.order or item.customer_id or item.email_hash)


def letter_headers(item: Undecodable, key: Any, timestamp: int, headers: Headers) -> Headers:  # noqa: ARG001
    """Return the record's headers, and why it is a dead letter."""
    own = {
        dead_letters.ERROR: item.reason,
        dead_letters.STAGE: "decode",
        dead_letters.ORIGIN: item.message.origin,
        dead_letters.TRIES: 0,
        dead_letters.RECORDED: timestamp,
    }
    return [*headers, *((name, str(value).encode(errors="replace")) for name, value in own.items())]


def creation(store: ElasticsearchStore, event: Event) -> Action:
    """Run stage 1: return the event's document, by month."""
    return Action("create", index.index_name(event, store), event.document_id, index.document(event))


def profile(event: Event, state: State) -> tuple[str, dict[str, Any]]:
    """Run stage 4: return the user's profile, without the fields of orders."""
    stored = state.get("customer")
    document = customer.apply(stored, [event]) or stored
    state.set("customer", document)
    return event.user, {field: value for field, value in document.items() if field not in OF_ORDERS}


def counts(counting: Counting, event: Event) -> Increments:
    """Run stage 5: return the increments of an event, without those of orders."""
    return product_stats.decide([event], {}, {event.origin.partition: NEVER_APPLIED}, counting)[0]


class Touches:
    """Run stage 2, and provide the touches for stage 3."""

    def __init__(self, settings: Settings) -> None:
        self._kept = settings.touches_kept
        self._repeat = int(settings.touch_repeat * 1000)

    def touched(self, event: Event, state: State) -> Touched:
        """Return the user's touches after an event."""
        stored = state.get_bytes("lead")
        before = msgspec.json.decode(stored, type=Lead) if stored else Lead()
        lead = ad_lead.add_touches(before, [event], kept=self._kept, repeat=self._repeat)
        if lead is not before:
            state.set_bytes("lead", msgspec.json.encode(lead))
        return Touched(event, lead, lead is not before)

    def speaking(self, item: Touched) -> dict[str, Any]:
        """Return the data of an event that the orders' part of the dataflow needs, in JSON's types."""
        event = msgspec.structs.replace(item.event, payload=b"")
        touches = msgspec.to_builtins(item.lead.all)
        return {"shop_id": event.shop_id, "event": msgspec.to_builtins(event), "touches": touches}


# --- The stages, by shop ---


class Orders:
    """Run stages 3, 4 and 5 of a shop's orders."""

    def __init__(self, settings: Settings) -> None:
        self._orders = ShopOrders(settings)

    def ordered(self, value: dict[str, Any], state: State) -> Ordered:
        """Return the changes of an event."""
        event = msgspec.convert(value["event"], Event)
        touches = msgspec.convert(value["touches"], tuple[Touch, ...])
        found = self._orders.ordered(event, touches, state)
        added = Increments(found.counters, {}, {event.origin.partition: NEVER_APPLIED})
        return Ordered(
            tuple(msgspec.to_builtins(order) for order in found.attributions.values()),
            found.removed,
            tuple(found.customers.items()),
            ((event.origin, added),) if found.counters else (),
        )


# --- Into the stores ---


class EventsSink(BaseSink):  # type: ignore[misc]
    """Create event documents in bulk while the dataflow continues; a checkpoint waits for requests in progress."""

    def __init__(self, store: ElasticsearchStore, batch: int) -> None:
        super().__init__()
        self._store = store
        self._batch = batch
        self._gathered: list[Action] = []
        self._sent: deque[Future[list[Outcome]]] = deque()
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="events")

    def add(self, value: Action, **_: Any) -> None:
        """Add a document to the next request."""
        self._gathered.append(value)
        if len(self._gathered) == self._batch:
            self._send()

    def flush(self) -> None:
        """Wait until all documents are stored."""
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
            # An existing document is of an event that is processed again.
            if outcome.error and outcome.status != CONFLICT:
                raise RuntimeError(f"an event was refused: {outcome.error}")


class CustomersSink(BatchingSink):  # type: ignore[misc]
    """Set fields of customers' documents: those of each customer's last event in the checkpoint."""

    def __init__(self, store: MongoStore, initial: Callable[[str], dict[str, Any]]) -> None:
        super().__init__()
        self._store = store
        self._initial = initial

    def write(self, batch: SinkBatch) -> None:
        """Write in one request."""
        newest: dict[str, dict[str, Any]] = dict(item.value for item in batch)
        updates = {user: {"$set": fields, "$setOnInsert": self._initial(user)} for user, fields in newest.items()}
        self._store.write(CUSTOMERS, [UpdateOne({"_id": user}, new, upsert=True) for user, new in updates.items()])


def of_nobody(user: str) -> dict[str, Any]:
    """Return the document of a customer of whom only an order is known, without the fields of orders."""
    return {field: value for field, value in customer.nobody(user).items() if field not in OF_ORDERS}


class RemovalsSink(BatchingSink):  # type: ignore[misc]
    """Remove attributions under ids that no longer apply, which the framework's own sink cannot do."""

    def __init__(self, store: ElasticsearchStore) -> None:
        super().__init__()
        self._store = store

    def write(self, batch: SinkBatch) -> None:
        """Write in one request."""
        index_ = self._store.index(ATTRIBUTIONS)
        self._store.bulk([Action("delete", index_, item.value, b"") for item in batch])


class CountsSink(BatchingSink):  # type: ignore[misc]
    """Sum the increments of a partition's events; each call also moves the partition's applied offset."""

    def __init__(self, store: RedisStore, chunk: int) -> None:
        super().__init__()
        self._store = store
        self._chunk = chunk

    def write(self, batch: SinkBatch) -> None:
        """Write some events per call, without events that an interrupted checkpoint has written."""
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
    """Add the increments of orders, each once by its origin."""

    def __init__(self, store: RedisStore) -> None:
        super().__init__()
        self._store = store

    def write(self, batch: SinkBatch) -> None:
        """Write in one request."""
        self._store.apply_once(dict(item.value for item in batch))


# --- The dataflow ---


class Drain:
    """Hold the messages that instances still have to process, including those between them, and when they began."""

    def __init__(self, waiting: int) -> None:
        self.done = SPAWN.Event()
        self.began = SPAWN.Value("d", math.inf)
        self._left = SPAWN.Value("q", waiting)
        self._received = False

    def received(self) -> None:
        """Note a received message; only an instance's first one counts."""
        if not self._received:
            self._received = True
            with self.began.get_lock():
                self.began.value = min(self.began.value, time.perf_counter())

    def comes_again(self, value: Any) -> None:  # noqa: ARG002 (the framework's signature)
        """Note that a value is about to be sent through Kafka again."""
        with self._left.get_lock():
            self._left.value += 1

    def processed(self, topic: str, partition: int, offset: int) -> None:  # noqa: ARG002 (the framework's signature)
        """Note a processed message."""
        with self._left.get_lock():
            self._left.value -= 1
            if self._left.value == 0:
                self.done.set()


def build(app: Application, settings: Settings, stores: Stores, drain: Drain) -> None:
    """Build the dataflow from the topic to the stores."""
    records = app.dataframe(app.topic(settings.topic, value_deserializer="bytes"))
    records = records.apply(partial(understood, drain), metadata=True).filter(is_new, stateful=True)

    # All branches begin at one node, because every further node serializes a value again to copy it.
    letters = records.filter(lambda item: isinstance(item, Undecodable)).set_headers(letter_headers)
    letters.apply(lambda item: item.message.value).to_topic(app.topic(settings.dead_topic, value_serializer="bytes"))
    events = EventsSink(stores.elasticsearch, settings.batch_messages)
    records.filter(is_event).apply(partial(creation, stores.elasticsearch)).sink(events)
    customers = CustomersSink(stores.mongodb, lambda _user: UNORDERED)
    records.filter(counts_for_user).apply(profile, stateful=True).sink(customers)
    days = ShopDays()
    counting = partial(counts, Counting(days.day, days.week, settings.products_per_event))
    records.filter(is_event).apply(counting).sink(CountsSink(stores.redis, settings.batch_messages))
    touches = Touches(settings)
    touched = records.filter(concerns_orders).apply(touches.touched, stateful=True)
    touched.filter(lambda item: item.changed).apply(lambda item: msgspec.to_builtins(item.lead)).sink(leads(settings))

    by_shop = touched.apply(touches.speaking).update(drain.comes_again).group_by("shop_id")
    orders = by_shop.apply(Orders(settings).ordered, stateful=True)
    orders.apply(lambda item: item.documents, expand=True).sink(attributions(settings, stores))
    orders.apply(lambda item: item.removed, expand=True).sink(RemovalsSink(stores.elasticsearch))
    orders.apply(lambda item: item.customers, expand=True).sink(CustomersSink(stores.mongodb, of_nobody))
    orders.apply(lambda item: item.counts, expand=True).sink(OrderCountsSink(stores.redis))


def leads(settings: Settings) -> MongoDBSink:
    """Return the framework's own sink: one replaced document for each key, journaled like the pipeline's."""
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
    """Return the framework's own sink: one index, documents by id."""

    def id_of(item: Any) -> str:
        order = item.value
        return f"{order['shop_id']}:{order.get('checkout_token') or order.get('order_id') or order['cart_token']}"

    def connected(error: Exception | None) -> None:
        # At its start it requests the server's version, which the local stack's Elasticsearch does not serve.
        if error and not (isinstance(error, ApiError) and error.status_code == METHOD_NOT_ALLOWED):
            raise error

    return ElasticsearchSink(
        url=settings.elasticsearch_url,
        index=stores.elasticsearch.index(ATTRIBUTIONS),
        document_id_setter=id_of,
        on_client_connect_failure=connected,
    )


def waiting_again(settings: Settings) -> int:
    """Return the number of messages that a killed instance sent to others and that were not processed."""
    name = f"repartition__{settings.group}--{settings.topic}--shop_id"
    try:
        low, high = bounds(settings.kafka(), name)
    except NoTopic:
        return 0
    consumer = Consumer({**client_config(settings.kafka()), "group.id": settings.group})
    committed = consumer.committed([TopicPartition(name, partition) for partition in high], settings.kafka_timeout)
    consumer.close()
    return sum(high[place.partition] - max(place.offset, low[place.partition]) for place in committed)


def instance(drain: Drain, results: Any) -> None:
    """Run one instance until all events are processed; put the time of its last commit and its peak into `results`."""
    settings = load_settings()
    app = Application(
        broker_address=settings.kafka_bootstrap,
        consumer_group=settings.group,
        auto_offset_reset="earliest",
        processing_guarantee="at-least-once",
        state_dir=settings.data_dir / "quix",
        # An idle instance should soon detect that it may stop.
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
    """Drain the topic; the figures are those of `Stopwatch.report`, for all instances together."""
    settings = load_settings()
    waiting = sum(entry.lag for entry in lag(settings.kafka()))
    drain, results = Drain(waiting + waiting_again(settings)), SPAWN.SimpleQueue()
    count = min(partition_count(settings.kafka()), os.cpu_count() or 1)
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
