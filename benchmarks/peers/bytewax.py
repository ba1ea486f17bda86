"""Bytewax, used as its documentation recommends: a dataflow of keyed operators: `python -m benchmarks.peers.bytewax`.

    Kafka ─▶ decode ─▶ new, by shop ─┬─▶ events, counters, visitors
               │                     ├─▶ by user: customers
               ▼                     └─▶ by user: ad leads ─▶ by shop: orders ─┬─▶ attributions, counters
          dead letters                                                         └─▶ customers

What it follows: "Dataflow Programming" (a step is an operator that sees one item at a time), "Kafka" (source and sink),
"Performance" (another key wherever the next step needs one; a larger batch size in the source; workers within a process
where the code waits for other servers: processes were slower on two cores), "Custom Connectors" (a dynamic sink for a
store that has no connector), "Recovery" (state and offsets in recovery partitions, from which the next execution
continues).

What is new is decided by shop and not by event id, although few keys are hot ones. A shop's events come through one
worker, so that a user's events stay in order. Records of one order name it by several ids, but all are of one shop, so
events about orders are keyed by shop. No state expires: the contract has no time limit for duplicates or customers.

The guarantee is at least once: after a crash, events since the last snapshot are counted in Redis again. The offsets
are committed to a consumer group at the end for the audit only, and not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, NamedTuple

import bytewax.operators as op
import msgspec
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from pymongo import ReplaceOne, UpdateOne

from benchmarks.peers.orders import OF_ORDERS, Ordered, ShopOrders
from benchmarks.peers.stages import Stopwatch
from truepixel_dagster.dead_letters.topic import ERROR, ORIGIN, RECORDED, STAGE, TRIES
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.orders.document import Attribution
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings, load_settings
from truepixel_dagster.stages import ad_lead, customer, index, product_stats
from truepixel_dagster.stages.ad_lead import Lead
from truepixel_dagster.stages.attribution_document import ATTRIBUTIONS
from truepixel_dagster.stores.elasticsearch import Action, ElasticsearchStore
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS
from truepixel_dagster.stores.redis import CounterKey, Increments, WeekKey
from truepixel_dagster.stream.consumer import EventConsumer
from truepixel_dagster.stream.topics import lag, partition_count

# Five times the source's default, as in the documentation's example: the stores get larger requests.
BATCH = 5000
DAYS = ShopDays()
UNORDERED: dict[str, Any] = {"orders": 0, "revenue": {}, "refunded": {}, "customer_id": None, "email_hash": None}
Document = dict[str, Any]
Write = Callable[[Stores, Sequence[Any]], None]


class Led(NamedTuple):
    """Hold an event that is or needs touches, with its user's touches, and whether it changed them."""

    event: Event
    lead: Lead
    changed: bool


def flow(settings: Settings, watch: Stopwatch, read: dict[int, int]) -> Dataflow:
    """Build the dataflow from Kafka to the stores, until the end of the topic."""
    dataflow, brokers = Dataflow("truepixel"), settings.kafka_bootstrap.split(",")
    to = partial(StoreSink, settings)

    source = kop.input("records", dataflow, brokers=brokers, topics=[settings.topic], tail=False, batch_size=BATCH)
    op.raises("errors", source.errs)
    messages = op.flat_map_batch("messages", source.oks, partial(_messages, watch, read))
    decoded = op.branch("decoded", op.map("decode", messages, decode), lambda item: isinstance(item, Event))
    op.output("letters", op.map("letter", decoded.falses, letter), KafkaSink(brokers, settings.dead_topic))

    by_shop = op.key_on("by_shop", decoded.trues, lambda event: event.shop_id)
    news = op.key_rm("news", op.stateful("new", by_shop, Shop))
    op.output("events", news, to(write_events))
    op.output("statistics", op.flat_map("counters", news, counters), to(write_counters))
    op.output("visitors", op.filter_map("visit", news, visit), to(write_visitors))

    by_user = op.key_on("by_user", news, lambda event: event.user)
    counting = op.filter_value("counting", by_user, customer.counts)
    profiles = op.stateful_flat_map("customers", counting, profile)
    op.output("profiles", profiles, to(write_profiles))

    orders = ShopOrders(settings)
    concerned = op.filter_value("concerned", by_user, lambda event: orders.speaks(event, is_visit=event.ad is not None))
    leads = op.stateful_map("ad_leads", concerned, partial(lead_on, settings))
    touches = op.filter_map_value("touches", leads, lambda led: msgspec.to_builtins(led.lead) if led.changed else None)
    op.output("leads", touches, to(partial(write_documents, AD_LEADS)))

    of_shop = op.key_on("of_shop", op.key_rm("led", leads), lambda led: led.event.shop_id)
    ordered = op.key_rm("ordered", op.stateful("orders", of_shop, partial(Orders, orders)))
    op.output("credits", ordered, to(write_attributions))
    op.output("buyers", op.flat_map("buyer", ordered, lambda found: found.customers.items()), to(write_buyers))
    op.output("sold", op.flat_map("sales", ordered, sales), to(write_counters))
    return dataflow


# --- Steps: each combines an item with the state of its key ---


class Shop(StatefulLogic):  # type: ignore[misc]
    """Hold the ids of a shop's events: a growing set, which `stateful_flat_map` would copy deeply."""

    def __init__(self, known: Iterable[str] | None) -> None:
        self._events = set(known or ())

    def on_item(self, event: Event) -> tuple[Iterable[Event], bool]:
        """Return the event; nothing for a duplicate."""
        if event.event_id in self._events:
            return (), StatefulLogic.RETAIN
        self._events.add(event.event_id)
        return (event,), StatefulLogic.RETAIN

    def snapshot(self) -> Iterable[str]:
        """A copy."""
        return frozenset(self._events)


class Orders(StatefulLogic):  # type: ignore[misc]
    """Hold the orders of a shop."""

    def __init__(self, orders: ShopOrders, known: dict[str, bytes] | None) -> None:
        self._orders = orders
        self._known = dict(known or {})

    def on_item(self, led: Led) -> tuple[Iterable[Ordered], bool]:
        """Return the changes of an event."""
        return (self._orders.ordered(led.event, led.lead.all, self),), StatefulLogic.RETAIN

    def get_bytes(self, key: str) -> bytes | None:
        """Return the value of a key."""
        return self._known.get(key)

    def set_bytes(self, key: str, value: bytes) -> None:
        """Store a value."""
        self._known[key] = value

    def snapshot(self) -> dict[str, bytes]:
        """A copy."""
        return dict(self._known)


def profile(document: Document | None, event: Event) -> tuple[Document | None, Iterable[Document]]:
    """Return a customer's document after an event, without the fields of its orders."""
    after = customer.apply(document, [event])
    return (document, ()) if after is None else (after, (after,))


def lead_on(settings: Settings, lead: Lead | None, event: Event) -> tuple[Lead, Led]:
    """Return a user's touches after an event."""
    before, repeat = lead or Lead(), int(settings.touch_repeat * 1000)
    after = ad_lead.add_touches(before, [event], kept=settings.touches_kept, repeat=repeat)
    return after, Led(event, after, after is not before)


def counters(event: Event) -> Iterable[tuple[CounterKey, str, int]]:
    """Yield the increments of an event's product statistics, without those of orders."""
    day = DAYS.day(event)
    for product, field, amount in product_stats.increments(event):
        yield (event.shop_id, product, day), field, amount


def sales(found: Ordered) -> Iterable[tuple[CounterKey, str, int]]:
    """Yield an event's changes of the orders' counts."""
    return ((key, field, amount) for key, fields in found.counters.items() for field, amount in fields.items())


def visit(event: Event) -> tuple[WeekKey, str] | None:
    """Return the week in which a pixel event makes its client a visitor."""
    if event.source != "pixel" or event.bot or event.anonymous:
        return None
    return (event.shop_id, DAYS.week(event)), event.client_id


def letter(failed: Undecodable) -> KafkaSinkMessage[Any, Any]:
    """Return a dead letter."""
    message = failed.message
    own = {ERROR: failed.reason, STAGE: "decode", ORIGIN: message.origin, TRIES: 0, RECORDED: message.timestamp}
    headers = [(name, str(value).encode(errors="replace")) for name, value in own.items()]
    return KafkaSinkMessage(message.key, message.value, headers=[*message.headers, *headers])


def _messages(watch: Stopwatch, read: dict[int, int], batch: list[KafkaSourceMessage[Any, Any]]) -> list[Message]:
    watch.received()
    read.update((record.partition, record.offset + 1) for record in batch)
    return [message_of(record) for record in batch]


def message_of(record: KafkaSourceMessage[Any, Any]) -> Message:
    """Return a record in the form of the pipeline's decoder."""
    origin = Origin(record.topic, record.partition, record.offset)
    return Message(origin, record.key, record.value, tuple(record.headers), record.timestamp[1])


# --- Sinks: write a batch in one request, with the newest version of each document ---


class StoreSink(DynamicSink):  # type: ignore[misc]
    """Write each worker's items by a function of stores and items."""

    def __init__(self, settings: Settings, write: Write) -> None:
        self._settings = settings
        self._write = write

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StorePartition:  # noqa: ARG002
        """Return the part of one worker."""
        return StorePartition(self._settings, self._write)


class StorePartition(StatelessSinkPartition):  # type: ignore[misc]
    """Write one worker's items through its own connections."""

    def __init__(self, settings: Settings, write: Write) -> None:
        self._stack = ExitStack()
        self._stores = self._stack.enter_context(open_stores(settings))
        self._write = write

    def write_batch(self, items: Sequence[Any]) -> None:
        """Write a batch; return when it is stored."""
        self._write(self._stores, items)

    def close(self) -> None:
        """Close the stores."""
        self._stack.close()


def write_events(stores: Stores, items: Sequence[Event]) -> None:
    """Index the events' documents; writing one again changes nothing."""
    store = stores.elasticsearch
    _index(store, [(index.index_name(event, store), event.document_id, index.document(event)) for event in items])


def write_attributions(stores: Stores, items: Sequence[Ordered]) -> None:
    """Index the orders' documents, and remove documents under ids that no longer apply."""
    newest: dict[str, Attribution | None] = {}
    for found in items:
        newest |= {**dict.fromkeys(found.removed), **found.attributions}
    store = stores.elasticsearch
    name = store.index(ATTRIBUTIONS)
    _index(store, [(name, id_, msgspec.json.encode(document)) for id_, document in newest.items() if document])
    store.bulk([Action("delete", name, id_, b"") for id_, document in newest.items() if document is None])


def _index(store: ElasticsearchStore, documents: Iterable[tuple[str, str, bytes]]) -> None:
    outcomes = store.bulk([Action("index", name, id_, source) for name, id_, source in documents])
    refused = [outcome.error for outcome in outcomes if outcome.error]
    if refused:
        raise RuntimeError(f"{len(refused)} documents were refused, such as: {refused[0]}")


def write_documents(name: str, stores: Stores, items: Sequence[tuple[str, Document]]) -> None:
    """Replace the users' documents."""
    newest = dict(items)
    stores.mongodb.write(name, [ReplaceOne({"_id": id_}, document, upsert=True) for id_, document in newest.items()])


def write_profiles(stores: Stores, items: Sequence[tuple[str, Document]]) -> None:
    """Set the fields of customers' own events in their documents."""
    newest = {user: {k: v for k, v in document.items() if k not in OF_ORDERS} for user, document in items}
    _set(stores, newest, lambda _user: UNORDERED)


def write_buyers(stores: Stores, items: Sequence[tuple[str, Document]]) -> None:
    """Set the fields of orders in customers' documents."""
    _set(stores, dict(items), lambda user: {k: v for k, v in customer.nobody(user).items() if k not in OF_ORDERS})


def _set(stores: Stores, documents: dict[str, Document], initial: Callable[[str], Document]) -> None:
    updates = {user: {"$set": fields, "$setOnInsert": initial(user)} for user, fields in documents.items()}
    stores.mongodb.write(CUSTOMERS, [UpdateOne({"_id": user}, new, upsert=True) for user, new in updates.items()])


def write_counters(stores: Stores, items: Sequence[tuple[CounterKey, str, int]]) -> None:
    """Sum the counts, and add them to the buffer."""
    sums: dict[CounterKey, dict[str, int]] = {}
    for key, field, amount in items:
        counter = sums.setdefault(key, {})
        counter[field] = counter.get(field, 0) + amount
    stores.redis.apply(Increments(sums, {}, {}), {})


def write_visitors(stores: Stores, items: Sequence[tuple[WeekKey, str]]) -> None:
    """Add clients to their weeks."""
    visitors: dict[WeekKey, set[str]] = {}
    for week, client in items:
        visitors.setdefault(week, set()).add(client)
    stores.redis.apply(Increments({}, visitors, {}), {})


def recovery(settings: Settings, workers: int) -> RecoveryConfig:
    """Return the recovery partitions, one for each worker; create them at first use."""
    folder = settings.data_dir / "bytewax"
    if not folder.exists():
        folder.mkdir(parents=True)
        init_db_dir(folder, workers)
    return RecoveryConfig(folder)


def drain(settings: Settings, watch: Stopwatch, dataflow: Dataflow, read: dict[int, int]) -> None:
    """Run a dataflow to the end of the topic and report it; `read` is, by then, the next offset of each partition.

    A worker for each partition was at least as fast as one for all; the interval between snapshots is the default one.
    """
    waiting = sum(entry.lag for entry in lag(settings.kafka()))
    workers = partition_count(settings.kafka())
    cli_main(dataflow, workers_per_process=workers, recovery_config=recovery(settings, workers))
    watch.report(waiting)
    with closing(EventConsumer(settings.kafka(), settings.fetch_limits(), sorted(read))) as consumer:
        consumer.commit(read)


def main() -> None:
    """Drain the topic."""
    settings, watch = load_settings(), Stopwatch()
    read: dict[int, int] = {}
    drain(settings, watch, flow(settings, watch, read), read)


if __name__ == "__main__":
    main()
