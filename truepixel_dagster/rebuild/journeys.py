"""Compute the tables of journeys and of channel values, from attributions, touches and people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from truepixel_dagster.answers.journeys import (
    ALL_MODELS,
    LEARNED_DAYS,
    UNASSIGNED,
    Credited,
    ShopPaths,
    Step,
    channel_values,
    credited,
    steps_of,
)
from truepixel_dagster.answers.models import Outcomes, Weights, paths_by_channel
from truepixel_dagster.answers.people import CLIENT, Member, People
from truepixel_dagster.answers.tables import CHANNEL_VALUES, JOURNEYS
from truepixel_dagster.chunks import chunks
from truepixel_dagster.events.event import DAY, from_millis, iso
from truepixel_dagster.events.order import ONLINE
from truepixel_dagster.events.shop_time import days_beside
from truepixel_dagster.events.times import to_millis
from truepixel_dagster.events.touch import Touch
from truepixel_dagster.lake.arrow import Row
from truepixel_dagster.orders.document import Attribution
from truepixel_dagster.rebuild.history import all_of, on_days
from truepixel_dagster.rebuild.lake import KEPT_ALIVE, Maker, Rows, Sources, Tools, in_days
from truepixel_dagster.rebuild.people import made_people, of_shop, people_in
from truepixel_dagster.rebuild.stamps import of_documents
from truepixel_dagster.stages.ad_lead import LEAD
from truepixel_dagster.stages.attribution_document import ATTRIBUTION, ATTRIBUTIONS
from truepixel_dagster.stores.documents import Unreadable, report
from truepixel_dagster.stores.mongodb import AD_LEADS

_FIELDS = sorted(ATTRIBUTION.known - {"credits", "sightings"})
_LEADS_AT_ONCE = 500
_TWELVE_PLACES = Decimal("1e-12")


class Learned(NamedTuple):
    """Hold the outcomes of paths by channel before the end of a day, and the value of each channel by each model."""

    met: Mapping[str, Outcomes]
    values: Mapping[str, Weights]


NOTHING_LEARNED = Learned({}, {})


class Known(NamedTuple):
    """Hold the persons of one shop, and the learned values by day."""

    people: People
    learned: Mapping[str, Learned]


class StoredOrder(NamedTuple):
    """Hold an order's attribution and its name, as in the column `attribution`."""

    name: str
    attribution: Attribution

    @property
    def at(self) -> int:
        """Return when it was placed, in milliseconds since the epoch."""
        return to_millis(self.attribution.occurred_at)


def _known(tools: Tools, shop: str, days: Sequence[str]) -> Known:
    """Read a shop's people and paths. Memory grows with its touches and orders; the result is small.

    Raises:
        LakeError: Another process is replacing the table of people.
        Unavailable: A server does not answer.
    """
    made_people(tools)
    ends = {day: tools.days.of(shop).span(*[date.fromisoformat(day)] * 2)[1] for day in days}
    span = (min(ends.values()) - LEARNED_DAYS * DAY, max(ends.values()))
    people, paths = people_in(tools.lake, shop), ShopPaths()
    devices: dict[str, tuple[Touch, ...]] = {}
    for client, touches in _leads(tools.stores.mongodb.find(AD_LEADS, of_shop(shop))):
        person = people.of(Member(CLIENT, client))
        paths.add_visits(person, ((touch.millis, touch.ad.channel or UNASSIGNED) for touch in touches))
        if people.clients_of(person):
            devices[client] = touches
    within = {"range": {"occurred_at": {"gte": iso(span[0]), "lt": iso(span[1])}}}
    for order in _stored(tools, all_of({"term": {"shop_id": shop}}, within)):
        if order.attribution.sales_channel in (ONLINE, None):
            person = people.of_order(order.name, order.attribution.client_id)
            others = {client: devices[client] for client in people.clients_of(person) if client in devices}
            steps = steps_of(order.attribution, others, tools.settings.touches_kept)
            own = order.attribution.client_id
            owners = [person, *([people.of(Member(CLIENT, own))] if own else [])]
            paths.add_order(order.at, [step.channel for step in steps], owners)
    found: dict[str, Learned] = {}
    for day, end in ends.items():
        seen = paths.within(end - LEARNED_DAYS * DAY, end)
        found[day] = Learned(paths_by_channel(seen), channel_values(seen))
    return Known(people, found)


def journeys_of(
    tools: Tools, people: People, shop: str, orders: Sequence[StoredOrder]
) -> Iterator[tuple[StoredOrder, str, tuple[Step, ...]]]:
    """Yield orders of a shop, each with its person and its journey by person.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    persons = {order.name: people.of_order(order.name, order.attribution.client_id) for order in orders}
    clients = sorted({client for person in persons.values() for client in people.clients_of(person)})
    devices: dict[str, tuple[Touch, ...]] = {}
    for chunk in chunks(clients, _LEADS_AT_ONCE):
        found = tools.stores.mongodb.read(AD_LEADS, [f"{shop}:{client}" for client in chunk])
        devices.update(_leads(found.values()))
    for order in orders:
        person = persons[order.name]
        others = {client: devices[client] for client in people.clients_of(person) if client in devices}
        yield order, person, steps_of(order.attribution, others, tools.settings.touches_kept)


def _sources(tools: Tools, days: Sequence[str]) -> Sources:
    store = tools.stores.elasticsearch
    return of_documents(store, ATTRIBUTIONS, "occurred_at", tools.days, days, by_offset=True)


def _rows(tools: Tools, days: Sequence[str]) -> Iterator[tuple[str, Rows]]:
    """Yield the rows of each day, with the persons and paths of each shop read once."""
    shops = {shop for made_of in _sources(tools, days).values() for shop in made_of}
    known = {shop: _known(tools, shop, days) for shop in sorted(shops)}

    def placed(order: StoredOrder) -> tuple[int, str, StoredOrder]:
        found = order.attribution
        return order.at, tools.days.of(found.shop_id).day(order.at, found.utc_offset), order

    stored = _stored(tools, on_days(days_beside(days)), sort=("occurred_at", "_shard_doc"))
    for day, orders in in_days(days, map(placed, stored)):
        yield day, _of_day(tools, known, day, orders)


def _of_day(tools: Tools, known: Mapping[str, Known], day: str, orders: Sequence[StoredOrder]) -> Rows:
    by_shop: dict[str, list[StoredOrder]] = {}
    for order in orders:
        by_shop.setdefault(order.attribution.shop_id, []).append(order)
    journeys: dict[str, list[Row]] = {}
    values: dict[str, list[Row]] = {}
    for shop, own in sorted(by_shop.items()):
        people, learned = known.get(shop) or _known(tools, shop, [day])
        found = learned.get(day, NOTHING_LEARNED)
        journeys[shop] = [
            _row(day, order, person, position, len(steps), each)
            for order, person, steps in journeys_of(tools, people, shop, own)
            for position, each in enumerate(credited(order.attribution, steps, found.values))
        ]
        values[shop] = list(_of_values(shop, day, found))
    return {JOURNEYS.name: journeys, CHANNEL_VALUES.name: values}


def _row(day: str, order: StoredOrder, person: str, position: int, touches: int, each: Credited) -> Row:
    found, ad = order.attribution, each.step.ad
    return {
        "shop_id": found.shop_id,
        "day": date.fromisoformat(day),
        "attribution": order.name,
        "position": position,
        "touches": touches,
        "person_id": person,
        "order_id": found.order_id,
        "occurred_at": from_millis(order.at),
        "sales_channel": found.sales_channel or ONLINE,
        "new_customer": found.new_customer,
        "client_id": each.step.client,
        "event_id": each.step.event_id,
        "touched_at": from_millis(each.step.at),
        "channel": each.step.channel,
        "platform": ad.platform,
        "campaign": ad.campaign or ad.campaign_id or "",
        "campaign_id": ad.campaign_id,
        "currency": found.value.currency if found.value else "",
        **{model: each.amounts[model] for model in ALL_MODELS},
        **{f"{model}_net": each.nets[model] for model in ALL_MODELS},
    }


def _of_values(shop: str, day: str, learned: Learned) -> Iterator[Row]:
    for model, values in learned.values.items():
        for channel, value in values.items():
            yield {
                "shop_id": shop,
                "day": date.fromisoformat(day),
                "model": model,
                "channel": channel,
                "value": (Decimal(value.numerator) / value.denominator).quantize(_TWELVE_PLACES),
                "converted": learned.met[channel].converted,
                "lost": learned.met[channel].lost,
            }


def _stored(tools: Tools, query: Mapping[str, Any], sort: Sequence[str] = ("_shard_doc",)) -> Iterator[StoredOrder]:
    """Yield the orders that a query finds, without test orders."""
    hits = tools.stores.elasticsearch.scan(ATTRIBUTIONS, query, fields=_FIELDS, sort=sort, keep_alive=KEPT_ALIVE)
    for hit in hits:
        if (order := stored_order(hit["_id"], hit["_source"])) and not order.attribution.test:
            yield order


def stored_order(id_: str, document: Mapping[str, Any]) -> StoredOrder | None:
    """Return an attribution; None, with a line in the log, if it cannot be read."""
    shop, _, name = id_.partition(":")
    try:
        return StoredOrder(name, ATTRIBUTION.read(id_, {"shop_id": shop, **document}))
    except Unreadable as error:
        report(error)
        return None


def _leads(documents: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, tuple[Touch, ...]]]:
    for document in documents:
        try:
            yield document["_id"].partition(":")[2], LEAD.read(document["_id"], document).touches
        except Unreadable as error:
            report(error)


JOURNEYS_MAKER = Maker((JOURNEYS, CHANNEL_VALUES), _sources, _rows)
