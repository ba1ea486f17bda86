"""Stage 3: which ads led to an order.

`checkout_completed`, `orders/create` and `orders/paid` are sightings of an order. Its document is created by the first
one (which is the one that counts it), and completed by the others: of all of them the one with most touches decides,
then pixel before webhook, then the lower event id, so that the credits do not depend on which came first.
Other order events change the status only; the highest status ever seen holds, in whatever order they arrive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.event import DAY, Event, iso
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.shape import STATUS_RANK
from truepixel_dagster.events.times import to_millis
from truepixel_dagster.retrying import pause
from truepixel_dagster.stages.ad_lead import Touch
from truepixel_dagster.stages.credit import ENDS_PERCENT, Credits, credit
from truepixel_dagster.stages.refused import Refused
from truepixel_dagster.stores.documents import FIRST_SCHEMA, SCHEMA, Document, Reader, Unreadable
from truepixel_dagster.stores.elasticsearch import CONFLICT, Action, ElasticsearchStore, Found
from truepixel_dagster.stores.errors import Unavailable

ATTRIBUTIONS = "attributions"
SIGHTINGS_KEPT = 50
# Some lanes that sight one order again and again take turns: a write that meets theirs reads again.
_REREADS = 40
_NONE = Credits()


class Rules(msgspec.Struct, frozen=True):
    """What an operator may set: window in days, half-life in days, the number of newest touches that count, what
    position_based gives to the first touch and to the last one, how many sightings a document names."""

    window_days: int
    half_life_days: float
    touches_kept: int
    position_ends_percent: int = ENDS_PERCENT
    sightings_kept: int = SIGHTINGS_KEPT


class AttributedTouch(msgspec.Struct, frozen=True):
    """A touch of the journey."""

    event_id: str
    at: str
    ad: Ad
    kafka: Origin


class Sighting(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event that reported the order, with what it would decide."""

    source: str
    event_id: str
    kafka: Origin
    client_id: str
    occurred_at: str
    touches: int
    order_id: str | None = None
    checkout_token: str | None = None
    value: Money | None = None

    @property
    def preference(self) -> tuple[int, bool, str]:
        """Lowest first: most touches, then pixel before webhook, then the lower event id."""
        return (-self.touches, self.source != "pixel", self.event_id)


class Attribution(msgspec.Struct, frozen=True, omit_defaults=True):
    """The document of one order. The first of `sightings` is the one that counts the order.

    Of more than `Rules.sightings_kept` the rest are left out, see `_kept`.
    """

    shop_id: str
    client_id: str
    occurred_at: str
    status: str
    window_days: int
    half_life_days: float
    touches: tuple[AttributedTouch, ...]
    credits: Credits
    sightings: tuple[Sighting, ...]
    order_id: str | None = None
    checkout_token: str | None = None
    value: Money | None = None
    position_ends_percent: int | None = None
    schema: int = FIRST_SCHEMA


def _filled(found: dict[str, Any]) -> dict[str, Any]:
    """An attribution whose missing fields have defaults; without credits it is left to the next sighting to credit."""
    for touch in found.get("touches", ()):
        touch["event_id"] = touch.get("event_id", "")
        touch["ad"] = {"platform": "unknown", **touch.get("ad", {})}
    head = {"client_id": "", "occurred_at": "1970-01-01T00:00:00.000Z", "status": "open", "touches": [], **found}
    for sighting in head.setdefault("sightings", []):
        own = {"source": "pixel", "event_id": "", "client_id": head["client_id"], "occurred_at": head["occurred_at"]}
        sighting.update({**own, "touches": len(head["touches"]), **sighting})
    return {"window_days": 30, "half_life_days": 7.0, "credits": {}, **head}


ATTRIBUTION = Reader(Attribution, "Elasticsearch attributions", _filled)


def stored_attribution(there: Found) -> Attribution:
    """Return what a stored document says.

    Raises:
        Unreadable: It cannot be read.
    """
    status_of(there)
    shop = {"shop_id": there.id.partition(":")[0]}
    return ATTRIBUTION.read(there.id, there.source if "shop_id" in there.source else {**shop, **there.source})


def status_of(there: Found) -> str:
    """Return the status that a stored document has, open where it has none.

    Raises:
        Unreadable: It is none that this version knows, or the document is a newer version's.
    """
    ATTRIBUTION.check_schema(there.id, there.source)
    status = there.source.get("status") or "open"
    if not isinstance(status, str) or status not in STATUS_RANK:
        why = f"field status: {str(status)[:40]!r} is none of {', '.join(STATUS_RANK)}"
        raise Unreadable(ATTRIBUTION.where(there.id), why)
    return status


def document_of(after: Attribution, before: Document) -> bytes:
    """Return the document of an order as JSON, with whatever else the one before holds.

    Arguments:
        after: What it is to say.
        before: The document as it was read, empty for a new one.
    """
    after = msgspec.structs.replace(after, schema=SCHEMA)
    if not before:
        return msgspec.json.encode(after)
    new = msgspec.to_builtins(after)
    for name in ("sightings", "touches"):
        known = {_place(entry): entry for entry in before.get(name) or () if entry}
        new[name] = [{**entry, **known.get(_place(entry), {})} for entry in new[name]]
    for name in ("value", "credits"):
        if name in new:
            new[name] = {**(before.get(name) or {}), **new[name]}
    return msgspec.json.encode({**ATTRIBUTION.unknown(before), **new})


def _place(entry: Document) -> tuple[int, int]:
    return entry["kafka"]["partition"], entry["kafka"]["offset"]


class Attributed(msgspec.Struct, frozen=True):
    """What stage 3 made of a batch.

    `counted` holds the origins of the sightings that count their order; `statuses` what each order that was sighted and
    not refused has reached, by the id of its document.
    """

    counted: frozenset[Origin]
    statuses: Mapping[str, str]
    refused: tuple[Refused, ...]


def journey(event: Event, touches: Sequence[Touch], rules: Rules) -> tuple[AttributedTouch, ...]:
    """The touches before an order: not above its offset, not later than it, and at most the window before it."""
    known = [
        touch for touch in touches if touch.partition != event.origin.partition or touch.offset <= event.origin.offset
    ]
    earliest = event.occurred_at - rules.window_days * DAY
    return tuple(
        AttributedTouch(touch.event_id, touch.at, touch.ad, Origin(event.origin.topic, touch.partition, touch.offset))
        for touch in known[-rules.touches_kept :]
        if earliest <= touch.millis <= event.occurred_at
    )


def merge(
    before: Attribution | None, event: Event, touches: Sequence[AttributedTouch], rules: Rules
) -> Attribution | None:
    """The order's document after one more sighting; None where that changes nothing."""
    assert event.order is not None  # noqa: S101 (the caller picks sightings)
    if before and any(sighting.kafka == event.origin for sighting in before.sightings):
        return None
    new = Sighting(
        source=event.source,
        event_id=event.event_id,
        kafka=event.origin,
        client_id=event.client_id,
        occurred_at=iso(event.occurred_at),
        touches=len(touches),
        order_id=event.order.order_id,
        checkout_token=event.order.checkout_token,
        value=event.value,
    )
    sightings = (*before.sightings, new) if before else (new,)
    preferred = sorted(sightings, key=lambda sighting: sighting.preference)
    decides = preferred[0]
    stands = None if decides is new else before
    journey_ = stands.touches if stands else tuple(touches)
    kept = _kept(sightings, preferred, rules.sightings_kept)
    if before and new not in kept and STATUS_RANK[event.order.status] <= STATUS_RANK[before.status]:
        return None
    # What no sighting says stays as it is: a document may come from elsewhere.
    said: list[Sighting | Attribution] = [*preferred, *([before] if before else ())]
    value = next((each.value for each in said if each.value), None)
    applied = _rules_of(stands, rules) if stands else rules
    if stands and stands.value == value and stands.credits != _NONE:
        credits_ = stands.credits
    else:
        credits_ = _credits(value, journey_, decides.occurred_at, applied)
    return Attribution(
        shop_id=event.shop_id,
        client_id=decides.client_id,
        occurred_at=decides.occurred_at,
        status=higher(before.status if before else "open", event.order.status),
        window_days=applied.window_days,
        half_life_days=applied.half_life_days,
        position_ends_percent=applied.position_ends_percent,
        touches=journey_,
        credits=credits_,
        sightings=kept,
        order_id=next((each.order_id for each in said if each.order_id), None),
        checkout_token=next((each.checkout_token for each in said if each.checkout_token), None),
        value=value,
    )


def _kept(sightings: Sequence[Sighting], preferred: Sequence[Sighting], most: int) -> tuple[Sighting, ...]:
    """The sightings that a document names: the one that counts, the `most` preferred, and whoever brought each field.

    Each of these is the best of all that ever were, so that one left out is left out again when it comes again: nothing
    has to remember it, and no order of arrival makes another document.
    """
    if len(sightings) <= most:
        return tuple(sightings)
    chosen = {sightings[0].kafka, *(sighting.kafka for sighting in preferred[:most])}
    for field in ("value", "order_id", "checkout_token"):
        chosen.update([sighting.kafka for sighting in preferred if getattr(sighting, field)][:1])
    return tuple(sighting for sighting in sightings if sighting.kafka in chosen)


def _rules_of(document: Attribution, rules: Rules) -> Rules:
    """The rules that made a document."""
    ends = document.position_ends_percent
    return msgspec.structs.replace(
        rules,
        window_days=document.window_days,
        half_life_days=document.half_life_days,
        position_ends_percent=ENDS_PERCENT if ends is None else ends,
    )


def _credits(value: Money | None, touches: Sequence[AttributedTouch], at: str, rules: Rules) -> Credits:
    plain = [Touch(t.event_id, t.at, t.ad, t.kafka.partition, t.kafka.offset) for t in touches]
    half_life = int(rules.half_life_days * DAY)
    return credit(value.amount if value else 0, plain, to_millis(at), half_life, rules.position_ends_percent)


def higher(one: str, other: str) -> str:
    """The later of two statuses: open, paid, cancelled, refunded."""
    return max(one, other, key=STATUS_RANK.__getitem__)


def read(events: Iterable[Event], store: ElasticsearchStore) -> dict[str, Found | None]:
    """The documents of all orders sighted in the events, by their ids; None where there is none.

    Raises:
        Unavailable: Elasticsearch does not answer.
    """
    return _read(list(_by_order(events)), store)


def run(
    events: Sequence[Event],
    touches: Mapping[str, Sequence[Touch]],
    store: ElasticsearchStore,
    rules: Rules,
    stored: Mapping[str, Found | None] | None = None,
) -> Attributed:
    """Write the documents of all orders sighted in the batch: one read, one write, again where one changed meanwhile.

    Arguments:
        events: The events that run on, in order.
        touches: Stage 2's result: touches by user.
        store: Where the documents are.
        rules: Window and half-life.
        stored: What was read of these events, and maybe of more, before; None has it read now.

    Raises:
        Unavailable: Elasticsearch does not answer.
    """
    by_order = _by_order(events)
    counted: set[Origin] = set()
    statuses: dict[str, str] = {}
    refused: list[Refused] = []
    left: dict[str, Sequence[Event]] = dict(by_order)
    for attempt in range(_REREADS):
        if attempt > 1:
            pause(attempt)
        found = _read(list(left), store) if stored is None else stored
        left, stored = _attribute(left, found, touches, store, rules, counted, statuses, refused), None
        if not left:
            return Attributed(frozenset(counted), statuses, tuple(refused))
    raise Unavailable(f"Elasticsearch at {store.address}: {len(left)} orders kept changing under {_REREADS} tries")


def _by_order(events: Iterable[Event]) -> dict[str, list[Event]]:
    """The sightings of each order, by the id of its document."""
    found: dict[str, list[Event]] = {}
    for event in events:
        if event.order and event.order.sighting and (id_ := event.attribution_id):
            found.setdefault(id_, []).append(event)
    return found


def _attribute(
    by_order: Mapping[str, Sequence[Event]],
    found: Mapping[str, Found | None],
    touches: Mapping[str, Sequence[Touch]],
    store: ElasticsearchStore,
    rules: Rules,
    counted: set[Origin],
    statuses: dict[str, str],
    refused: list[Refused],
) -> dict[str, Sequence[Event]]:
    """One write; returns the orders that somebody else changed since they were read."""
    earlier: dict[str, Attribution | None] = {}
    after: dict[str, Attribution] = {}
    actions: dict[str, Action] = {}
    for id_, sightings in by_order.items():
        there = found[id_]
        try:
            before = earlier[id_] = stored_attribution(there) if there else None
            after[id_] = _merged(before, sightings, touches, rules)
        except ValueError as error:
            reason = str(ATTRIBUTION.unreadable(id_, error))
            refused += [Refused(event, reason) for event in sightings]
            continue
        if after[id_] is not before:
            actions[id_] = _action(id_, after[id_], there, store)
    outcomes = dict(zip(actions, store.bulk(list(actions.values()))))
    again: dict[str, Sequence[Event]] = {}
    for id_ in after:
        sightings, outcome = by_order[id_], outcomes.get(id_)
        if outcome and outcome.status == CONFLICT:
            again[id_] = sightings
        elif outcome and outcome.refused:
            # A sighting that an earlier run wrote stands, whatever is refused now.
            known = _origins(earlier[id_])
            refused += [Refused(event, outcome.error or "") for event in sightings if event.origin not in known]
            counted.update(event.origin for event in sightings if event.origin in known[:1])
        else:
            counted.update(event.origin for event in sightings if event.origin in _origins(after[id_])[:1])
            statuses[id_] = after[id_].status
    return again


def _merged(
    before: Attribution | None, sightings: Sequence[Event], touches: Mapping[str, Sequence[Touch]], rules: Rules
) -> Attribution:
    now = before
    for event in sightings:
        now = merge(now, event, journey(event, touches.get(event.user, ()), rules), rules) or now
    assert now is not None  # noqa: S101 (there is at least one sighting)
    return now


def _origins(attribution: Attribution | None) -> list[Origin]:
    return [sighting.kafka for sighting in attribution.sightings] if attribution else []


def _read(ids: Sequence[str], store: ElasticsearchStore) -> dict[str, Found | None]:
    index = store.index(ATTRIBUTIONS)
    return dict(zip(ids, store.mget([(index, id_) for id_ in ids])))


def _action(id_: str, attribution: Attribution, there: Found | None, store: ElasticsearchStore) -> Action:
    source = document_of(attribution, there.source if there else {})
    if there is None:
        return Action("create", store.index(ATTRIBUTIONS), id_, source)
    return Action("index", store.index(ATTRIBUTIONS), id_, source, there.seq_no, there.primary_term)
