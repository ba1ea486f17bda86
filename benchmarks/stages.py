"""Measure the processor time of each stage's pure part for a full micro-batch, without servers."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.outcome import Outcome, Plot
from truepixel_dagster.events.decode import decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.orders.cluster import groups_of, settle
from truepixel_dagster.orders.document import Attribution, attribution_of
from truepixel_dagster.orders.journey import Rules
from truepixel_dagster.stages import ad_lead, customer, index, product_stats
from truepixel_dagster.stages.settling import settling
from truepixel_dagster.stages.stage import AD_LEAD, ATTRIBUTION, CUSTOMER, PRODUCT_STATS
from truepixel_dagster.stream.micro_batch import Cutter, MicroBatch, group_by_user

BATCH, MAX_BYTES = 512, 32 * 2**20
RULES = Rules(window_days=30, half_life_days=7.0, touches_kept=50)
DAYS = ShopDays()
COUNTING = product_stats.Counting(DAYS.day, DAYS.week)


def messages(count: int) -> list[Message]:
    """Return realistic records of three partitions."""
    records = traffic(count, seed=5, profile=FIRST)
    return [
        Message(Origin("bench", number % 3, number), record.key, record.value, record.headers, record.at)
        for number, record in enumerate(records)
    ]


def cut(batch: list[Message]) -> MicroBatch:
    """Return a micro-batch as the consumer cuts it."""
    cutter = Cutter(BATCH, MAX_BYTES)
    cutter.add(batch)
    return cutter.take()


def leads(events: list[Event]) -> dict[str, ad_lead.Lead]:
    """Run stage 2 for new users."""
    return ad_lead.decide(group_by_user(events), {}, kept=50, repeat=1_800_000)[0]


def credited(events: list[Event], found: dict[str, ad_lead.Lead]) -> list[Attribution]:
    """Run stage 3 for new orders."""
    named = [event for event in events if event.order and not event.bot]
    touches = {user: lead.all for user, lead in found.items()}
    by = settling(RULES, touches, DAYS, lambda _partition, _offset: False)
    settled = [settle(group, by).cluster for group in groups_of(named, {})]
    return [attribution_of(order, RULES) for cluster in settled for order in cluster.orders(RULES)]


def milliseconds(work: Callable[[], object]) -> float:
    """Return the least time of several rounds, which other work on the machine affects least."""
    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        work()
        rounds.append(time.perf_counter() - began)
    return 1000 * min(rounds)


def run(quick: bool, say: Callable[[str], None]) -> Outcome:
    """Measure each part separately, as the mean over some micro-batches."""
    count = 10 if quick else 40
    say(f"{count} micro-batches of {BATCH} messages")
    everything = messages(count * BATCH)
    batches = [everything[at : at + BATCH] for at in range(0, len(everything), BATCH)]
    decoded = [[event for message in batch if isinstance(event := decode(message), Event)] for batch in batches]
    touched = [leads(events) for events in decoded]
    applied = dict.fromkeys(range(3), -1)
    parts: dict[str, Callable[[], object]] = {
        "cut": lambda: [cut(batch) for batch in batches],
        "decode": lambda: [decode(message) for message in everything],
        "index: documents": lambda: [index.document(event) for events in decoded for event in events],
        AD_LEAD: lambda: [leads(events) for events in decoded],
        ATTRIBUTION: lambda: [credited(events, found) for events, found in zip(decoded, touched)],
        CUSTOMER: lambda: [customer.apply(None, mine) for events in decoded for mine in group_by_user(events).values()],
        PRODUCT_STATS: lambda: [product_stats.decide(events, {}, applied, COUNTING) for events in decoded],
    }
    figures = {name: milliseconds(work) / count for name, work in parts.items()}
    figures["all"] = sum(figures.values())
    return Outcome(
        title=f"stages: milliseconds of a processor for a micro-batch of {BATCH}, without any server",
        columns=["part", "ms"],
        rows=[[name, f"{value:.2f}"] for name, value in figures.items()],
        figures=figures,
        plot=Plot("part", "ms", {"a micro-batch": [(float(n), value) for n, value in enumerate(figures.values())]}),
    )
