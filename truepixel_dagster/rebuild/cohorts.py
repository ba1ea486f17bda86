"""Compute the table of cohorts from orders, people and journeys."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from truepixel_dagster.answers.cohorts import AGES, Cohort, Placed, Purchases
from truepixel_dagster.answers.people import People
from truepixel_dagster.answers.tables import COHORTS, PEOPLE
from truepixel_dagster.chunks import chunks
from truepixel_dagster.events.order import ONLINE
from truepixel_dagster.lake.arrow import Row
from truepixel_dagster.lake.files import Written
from truepixel_dagster.orders.credit import DIRECT
from truepixel_dagster.orders.order import Order
from truepixel_dagster.rebuild.journeys import journeys_of, stored_order
from truepixel_dagster.rebuild.lake import Maker, Tools, by_day, make
from truepixel_dagster.rebuild.people import ALWAYS, link_of, made_people, name_of, orders_of, people_in
from truepixel_dagster.rebuild.stats import Progress, silent
from truepixel_dagster.stages.attribution_document import ATTRIBUTIONS

_ORDERS_AT_ONCE = 500
_FOUR_PLACES = Decimal("0.0001")


def make_cohorts(tools: Tools, months: Sequence[str], now: int | None = None, progress: Progress = silent) -> Written:
    """Write the cohorts of months again, one shop at a time: its orders are read once for all months.

    Arguments:
        tools: What makers need.
        months: The first days of the months, in ISO form.
        now: Milliseconds since the epoch, which decides what ages have passed; the clock's time by default.
        progress: Called with the progress.

    Raises:
        LakeError: Another process is replacing the table of people.
        OSError, Unavailable: A disk, bucket or server does not answer; each file is either unchanged or complete.
    """
    moment = int(time.time() * 1000) if now is None else now
    made_people(tools)
    people = tools.lake.made(PEOPLE, ALWAYS)
    rows: dict[str, dict[str, list[Row]]] = {month: {} for month in months}
    for shop in sorted(people):
        for month, own in _of_shop(tools, shop, months, moment).items():
            rows[month][shop] = own
    sources = {shop: made.sha256 for shop, made in people.items()}
    maker = Maker(
        (COHORTS,),
        lambda _, days: dict.fromkeys(days, sources),
        by_day(lambda _, month: {COHORTS.name: rows[month]}),
    )
    return make(tools, maker, months, progress)


def _of_shop(tools: Tools, shop: str, months: Sequence[str], now: int) -> dict[str, list[Row]]:
    shop_time = tools.days.of(shop)
    people, purchases = people_in(tools.lake, shop), Purchases(shop_time)
    for order in orders_of(tools, shop):
        purchases.add(_person(people, order), _placed(order))
    today = date.fromisoformat(shop_time.day(now))
    found: dict[str, list[Row]] = {}
    for day in months:
        month = day[:7]
        firsts = {person: order.order for person, order in purchases.firsts(month)}
        channels = _channels(tools, people, shop, sorted(firsts.values()))
        by_person = {person: channels.get(order, DIRECT) for person, order in firsts.items()}
        found[day] = [_row(shop, cohort) for cohort in purchases.cohorts(month, by_person, today)]
    return found


def _person(people: People, order: Order) -> str:
    """Return the person of an order; for a redacted person, the alias of its client, else of the order."""
    if owner := link_of(order).owner:
        return people.of(owner)
    return people.of_order(name_of(order), next((each.client for each in order.clients), None))


def _placed(order: Order) -> Placed:
    figures = order.figures
    currency = figures.currency or ""
    refunds = tuple((refund.at, sum(money.amount for money in refund.amounts)) for refund in order.refunds)
    value = figures.net + sum(amount for _, amount in refunds)
    return Placed(name_of(order), order.at, currency, value, refunds, order.utc_offset)


def _channels(tools: Tools, people: People, shop: str, orders: Sequence[str]) -> Mapping[str, str]:
    """Return the channel of the last touch of each order's journey by person."""
    return dict(pair for chunk in chunks(orders, _ORDERS_AT_ONCE) for pair in _last_clicks(tools, people, shop, chunk))


def _last_clicks(tools: Tools, people: People, shop: str, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    store = tools.stores.elasticsearch
    documents = store.mget([(store.index(ATTRIBUTIONS), f"{shop}:{name}") for name in names])
    read = (stored_order(each.id, each.source) for each in documents if each)
    for order, _, steps in journeys_of(tools, people, shop, [order for order in read if order]):
        place = order.attribution.sales_channel or ONLINE
        yield order.name, steps[-1].channel if steps else DIRECT if place == ONLINE else place


def _row(shop: str, cohort: Cohort) -> Row:
    rate = Decimal(cohort.repeat_customers) / cohort.customers if cohort.customers else None
    return {
        "shop_id": shop,
        "day": date.fromisoformat(f"{cohort.month}-01"),
        "channel": cohort.channel,
        "currency": cohort.currency,
        "customers": cohort.customers,
        "repeat_customers": cohort.repeat_customers,
        "repeat_rate": None if rate is None else rate.quantize(_FOUR_PLACES, ROUND_HALF_UP),
        **{f"net_{age}": cohort.net_by_age[age] for age in AGES},
        "net_to_date": cohort.net_to_date,
    }
