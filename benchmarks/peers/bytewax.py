"""Bytewax, written as its documentation has it: a dataflow of keyed operators: `python -m benchmarks.peers.bytewax`.

    Kafka ─▶ decode ─▶ new, by shop ─┬─▶ events, counters, visitors
               │                     ├─▶ by user: customers
               ▼                     ├─▶ by user: ad leads ─▶ by order: attributions
          dead letters               └─▶ by order id: status ────▲

What it follows: "Dataflow Programming" (a step is an operator that sees one item at a time), "Kafka" (source and sink),
"Performance" (another key wherever the next step needs one; a larger batch size in the source; workers within a process
where the code waits for other servers: processes were slower on two cores), "Custom Connectors" (a dynamic sink for a
store that has no connector), "Recovery" (state and offsets in recovery partitions, from which the next execution
continues).

What is new is decided by shop and not by event id, although few keys are hot ones. A shop's events come through one
worker, so that a user's stay in order, and a shop's sightings too, which tells the one that counts an order; by way of
their ids they would meet again in any order. No state expires: the contract knows no end of a duplicate or a customer.

At least once is all that is promised: after a crash, what came since the last snapshot is counted in Redis again. The
offsets are committed to a consumer group at the end for the audit alone, and not measured.
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
from pymongo import ReplaceOne

from benchmarks.peers.stages import Stopwatch
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message, day_of, week_of
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings, load_settings
from truepixel_dagster.stages import ad_lead, attribution, customer, index, order_status, product_stats
from truepixel_dagster.stages.ad_lead import Lead
from truepixel_dagster.stages.attribution import Attribution, Rules
from truepixel_dagster.stores.elasticsearch import Action, ElasticsearchStore
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS
from truepixel_dagster.stores.redis import CounterKey, Increments, WeekKey
from truepixel_dagster.stream.consumer import EventConsumer
from truepixel_dagster.stream.dead_letters import ERROR, ORIGIN, RECORDED, STAGE, TRIES
from truepixel_dagster.stream.topics import lag, partition_count

# Five times the source's default, as the documentation's example has it: the stores get larger requests.
BATCH = 5000
OPEN = "open"
Document = dict[str, Any]
Write = Callable[[Stores, Sequence[Any]], None]


class New(NamedTuple):
    """An event that is no duplicate, and whether it is the sighting that counts its order."""

    event: Event
    counts: bool


class Led(NamedTuple):
    """A touch or a sighting with its user's touches, and whether it changed them."""

    new: New
    lead: Lead
    changed: bool


class Link(NamedTuple):
    """What is known under an order id: the attribution that it leads to, the highest status that it came with."""

    attribution: str | None = None
    status: str = OPEN


class Order(NamedTuple):
    """An order's document once it was sighted, and the highest status that was heard of it."""

    document: Attribution | None = None
    status: str = OPEN


def flow(settings: Settings, watch: Stopwatch, read: dict[int, int]) -> Dataflow:
    """From Kafka to the stores, until the end of the topic."""
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

    by_user = op.key_on("by_user", news, lambda new: new.event.user)
    profiles = op.stateful_flat_map("customers", by_user, profile)
    op.output("profiles", profiles, to(partial(write_documents, CUSTOMERS)))

    concerned = op.filter_value("concerned", by_user, lambda new: ad_lead.concerns(new.event))
    leads = op.stateful_map("ad_leads", concerned, partial(lead_on, settings))
    touches = op.filter_map_value("touches", leads, lambda led: msgspec.to_builtins(led.lead) if led.changed else None)
    op.output("leads", touches, to(partial(write_documents, AD_LEADS)))

    speaking = op.filter_map("speaking", news, lambda new: new.event if new.event.order else None)
    by_order_id = op.key_on("by_order_id", speaking, lambda event: order_status.keys(event)[-1])
    statuses = op.key_rm("statuses", op.stateful_flat_map("links", by_order_id, link))
    sightings = op.filter("sightings", op.key_rm("led", leads), lambda led: _is_sighting(led.new.event))
    by_order = op.key_on("by_order", sightings, lambda led: led.new.event.attribution_id)
    heard = op.merge("heard", by_order, statuses)
    attributions = op.stateful_flat_map("attributions", heard, partial(attribute, _rules(settings)))
    op.output("credits", attributions, to(write_attributions))
    return dataflow


# --- Steps: what one item makes of what is known under its key ---


class Shop(StatefulLogic):  # type: ignore[misc]
    """Which events and orders a shop has had: sets that grow, which `stateful_flat_map` would copy deeply."""

    def __init__(self, known: tuple[Iterable[str], Iterable[str]] | None) -> None:
        events, orders = known or ((), ())
        self._events, self._orders = set(events), set(orders)

    def on_item(self, event: Event) -> tuple[Iterable[New], bool]:
        """Nothing for a duplicate."""
        if event.event_id in self._events:
            return (), StatefulLogic.RETAIN
        self._events.add(event.event_id)
        return (New(event, self._counts(event)),), StatefulLogic.RETAIN

    def _counts(self, event: Event) -> bool:
        if event.order is None or not event.order.sighting or event.order.identity in self._orders:
            return False
        self._orders.add(event.order.identity)
        return True

    def snapshot(self) -> tuple[Iterable[str], Iterable[str]]:
        """Copies."""
        return frozenset(self._events), frozenset(self._orders)


def profile(document: Document | None, new: New) -> tuple[Document | None, Iterable[Document]]:
    """A customer's document after an event."""
    counted = frozenset([new.event.origin] if new.counts else [])
    after = customer.apply(document, [new.event], counted)
    return (document, ()) if after is None else (after, (after,))


def lead_on(settings: Settings, lead: Lead | None, new: New) -> tuple[Lead, Led]:
    """A user's touches after an event."""
    before, repeat = lead or Lead(), int(settings.touch_repeat * 1000)
    after = ad_lead.add_touches(before, [new.event], kept=settings.touches_kept, repeat=repeat)
    return after, Led(new, after, after is not before)


def link(known: Link | None, event: Event) -> tuple[Link, Iterable[tuple[str, str]]]:
    """Which attribution a status is for: a refund names the order id alone, and may come before the order itself."""
    order, before = event.order, known or Link()
    assert order is not None
    target = event.attribution_id if order.checkout_token else before.attribution
    after = Link(target, attribution.higher(before.status, order.status))
    return after, () if after.status == OPEN else ((target or f"{event.shop_id}:{order.identity}", after.status),)


def attribute(rules: Rules, known: Order | None, item: Led | str) -> tuple[Order, Iterable[Attribution]]:
    """An order after a sighting or a status, in whatever order they come."""
    before = known or Order()
    if isinstance(item, str):
        document, status = before.document, attribution.higher(before.status, item)
    else:
        document, status = _sighted(rules, before.document, item), before.status
    if document is not None:
        status = attribution.higher(document.status, status)
        if status != document.status:
            document = msgspec.structs.replace(document, status=status)
    return Order(document, status), () if document is None or document is before.document else (document,)


def _sighted(rules: Rules, before: Attribution | None, led: Led) -> Attribution | None:
    event = led.new.event
    after = attribution.merge(before, event, attribution.journey(event, led.lead.all, rules), rules)
    if after and led.new.counts:
        # Those of other users may have come first; the one that counts the order stands first.
        *others, own = after.sightings
        after = msgspec.structs.replace(after, sightings=(own, *others))
    return after or before


def counters(new: New) -> Iterable[tuple[CounterKey, str, int]]:
    """What an event adds to its products' statistics."""
    event, day = new.event, day_of(new.event.occurred_at)
    for product, field, amount in product_stats.increments(event, counts_order=new.counts):
        yield (event.shop_id, product, day), field, amount


def visit(new: New) -> tuple[WeekKey, str] | None:
    """The week in which an event of a pixel makes its client a visitor."""
    event = new.event
    return ((event.shop_id, week_of(event.occurred_at)), event.client_id) if event.source == "pixel" else None


def letter(failed: Undecodable) -> KafkaSinkMessage[Any, Any]:
    """A dead letter."""
    message = failed.message
    own = {ERROR: failed.reason, STAGE: "decode", ORIGIN: message.origin, TRIES: 0, RECORDED: message.timestamp}
    headers = [(name, str(value).encode(errors="replace")) for name, value in own.items()]
    return KafkaSinkMessage(message.key, message.value, headers=[*message.headers, *headers])


def _messages(watch: Stopwatch, read: dict[int, int], batch: list[KafkaSourceMessage[Any, Any]]) -> list[Message]:
    watch.received()
    read.update((record.partition, record.offset + 1) for record in batch)
    return [message_of(record) for record in batch]


def message_of(record: KafkaSourceMessage[Any, Any]) -> Message:
    """A record as the pipeline's decoding takes it."""
    origin = Origin(record.topic, record.partition, record.offset)
    return Message(origin, record.key, record.value, tuple(record.headers), record.timestamp[1])


def _is_sighting(event: Event) -> bool:
    return event.order is not None and event.order.sighting


def _rules(settings: Settings) -> Rules:
    return Rules(settings.attribution_window_days, settings.attribution_half_life_days, settings.touches_kept)


# --- Sinks: a batch in one request, of each document the newest version in it ---


class StoreSink(DynamicSink):  # type: ignore[misc]
    """Every worker writes what comes to it, by a function from stores and items."""

    def __init__(self, settings: Settings, write: Write) -> None:
        self._settings = settings
        self._write = write

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StorePartition:  # noqa: ARG002
        """The part of one worker."""
        return StorePartition(self._settings, self._write)


class StorePartition(StatelessSinkPartition):  # type: ignore[misc]
    """What one worker writes, with connections of its own."""

    def __init__(self, settings: Settings, write: Write) -> None:
        self._stack = ExitStack()
        self._stores = self._stack.enter_context(open_stores(settings))
        self._write = write

    def write_batch(self, items: Sequence[Any]) -> None:
        """Write a batch; when it returns, it has landed."""
        self._write(self._stores, items)

    def close(self) -> None:
        """Let go of the stores."""
        self._stack.close()


def write_events(stores: Stores, items: Sequence[New]) -> None:
    """Index the events' documents; one that is written again is the same."""
    store, events = stores.elasticsearch, [new.event for new in items]
    _index(store, [(index.index_name(event, store), event.document_id, index.document(event)) for event in events])


def write_attributions(stores: Stores, items: Sequence[tuple[str, Attribution]]) -> None:
    """Index the orders' documents."""
    store = stores.elasticsearch
    name = store.index(attribution.ATTRIBUTIONS)
    _index(store, [(name, id_, msgspec.json.encode(newest)) for id_, newest in dict(items).items()])


def _index(store: ElasticsearchStore, documents: Iterable[tuple[str, str, bytes]]) -> None:
    outcomes = store.bulk([Action("index", name, id_, source) for name, id_, source in documents])
    refused = [outcome.error for outcome in outcomes if outcome.error]
    if refused:
        raise RuntimeError(f"{len(refused)} documents were refused, such as: {refused[0]}")


def write_documents(name: str, stores: Stores, items: Sequence[tuple[str, Document]]) -> None:
    """Put the users' documents in their places."""
    newest = dict(items)
    stores.mongodb.write(name, [ReplaceOne({"_id": id_}, document, upsert=True) for id_, document in newest.items()])


def write_counters(stores: Stores, items: Sequence[tuple[CounterKey, str, int]]) -> None:
    """Add up what is counted, and add it to the buffer."""
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
    """The recovery partitions, one for each worker, made the first time."""
    folder = settings.data_dir / "bytewax"
    if not folder.exists():
        folder.mkdir(parents=True)
        init_db_dir(folder, workers)
    return RecoveryConfig(folder)


def drain(settings: Settings, watch: Stopwatch, dataflow: Dataflow, read: dict[int, int]) -> None:
    """Run a dataflow to the end of the topic and report it; `read` is, by then, the next offset of each partition.

    A worker for each partition was at least as fast as one for all; the interval between snapshots is the default one.
    """
    waiting = sum(entry.lag for entry in lag(settings))
    workers = partition_count(settings)
    cli_main(dataflow, workers_per_process=workers, recovery_config=recovery(settings, workers))
    watch.report(waiting)
    with closing(EventConsumer(settings, sorted(read))) as consumer:
        consumer.commit(read)


def main() -> None:
    """Drain what lies in the topic."""
    settings, watch = load_settings(), Stopwatch()
    read: dict[int, int] = {}
    drain(settings, watch, flow(settings, watch, read), read)


if __name__ == "__main__":
    main()
