"""What records say of an order, as facts that merge: the result does not depend on their order or repetition.

A fact is stored under the ids that decide which order its record belongs to (`Node`): a webhook's fact under its order
id, a pixel's under its checkout token together with the order id and the cart token of the event. Merging two nodes
takes the newest, the first, the maximum or the union of each part, so it is commutative, associative and idempotent.
The nodes that make up an order are chosen at read time (`orders/division.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from truepixel_dagster.events.order import STATUSES, Completion, OrderPayload, Refund
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.touch import Touch

ORDER, TOKEN = "order", "token"
# The clocks of browsers and shops differ: a visit may appear this much later than the order that it led to.
CLOCK_GRACE = 5 * 60_000
# The most clients, tokens and ids of one order, so that no sender can make a document grow without limit.
# For clients it is the default of TRUEPIXEL_CLIENTS_PER_ORDER.
CLIENTS_KEPT = 50
IDS_KEPT = 200

# Kind and id, and the order ids and the cart token that pixel events name beside it.
Key = tuple[str, str, tuple[str, ...], str]
# A record's time in milliseconds since the epoch, and its event id: this decides which is first and newest.
When = tuple[int, str]
Moment = TypeVar("Moment", When, tuple[int, int])
# The moment of the first `checkout_completed` that has `isFirstOrder`, and its value.
FirstOrder = tuple[int, str, bool]
Earliest = TypeVar("Earliest", When, FirstOrder)


class Kept(NamedTuple):
    """Limit what is kept of an order: first sightings, surest clients, and each client's newest touches."""

    sightings: int
    touches: int
    clients: int = CLIENTS_KEPT


ALL = Kept(sys.maxsize, sys.maxsize, sys.maxsize)


class Version(msgspec.Struct, frozen=True, order=True):
    """Order payloads by age: the later update, the later status, the higher event id is newer."""

    updated_at: int
    rank: int
    event_id: str


class FirstCompletion(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold the first `checkout_completed` of an order that has a value; if none has, the first without."""

    has_no_value: bool
    when: When
    completion: Completion

    @property
    def order(self) -> tuple[bool, When, bool]:
        """Return the sort key. A document of the first edition has no lines: the record itself sorts before it."""
        return self.has_no_value, self.when, not self.completion.lines


class Sighting(msgspec.Struct, frozen=True):
    """Hold a record that reported the order itself."""

    source: str
    event_id: str
    kafka: Origin
    at: int
    client_id: str

    @property
    def order(self) -> tuple[int, str, int, int]:
        """Return the sort key."""
        return self.at, self.event_id, self.kafka.partition, self.kafka.offset


class ClientFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold how one client's records name an order, and the client's touches at the time of the last of them.

    `completed` is the client's first `checkout_completed`, `in_checkout` its last other record of the checkout; `noted`
    is the first webhook whose note attributes name the client, `keyed` the first webhook with the client in its key.
    `last` is the position of the client's own last record, with the touches known then; a client that only notes name
    has the touches that were known at the time of the note.
    """

    client: str
    completed: When | None = None
    in_checkout: When | None = None
    noted: When | None = None
    keyed: When | None = None
    last: tuple[int, int] | None = None
    touches: tuple[Touch, ...] = ()


class Node(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold the facts of records that name the same ids.

    `order_ids` are the order ids that pixel events name beside `id`, one or none; documents from before the ids were
    kept apart may hold several. `cart` is the cart token of a record without a webhook's order id. `payloads` holds the
    newest payload and, for each thing that it omits, the newest payload that says it, in the order of their versions.
    """

    kind: str
    id: str
    payloads: tuple[OrderPayload, ...] = ()
    refunds: tuple[Refund, ...] = ()
    deleted: bool = False
    completion: FirstCompletion | None = None
    completed_at: When | None = None
    order_ids: tuple[str, ...] = ()
    clients: tuple[ClientFacts, ...] = ()
    sightings: tuple[Sighting, ...] = ()
    cart: str | None = None
    first_order: FirstOrder | None = None

    @property
    def known_first_order(self) -> FirstOrder | None:
        """Return `first_order`; documents of earlier versions have it only in their completion."""
        if self.first_order is None and self.completion and self.completion.completion.first_order is not None:
            return *self.completion.when, self.completion.completion.first_order
        return self.first_order

    @property
    def key(self) -> Key:
        """Return the key that distinguishes nodes. The key of an order is its id, whichever record names it."""
        return self.kind, self.id, () if self.kind == ORDER else self.order_ids, self.cart or ""

    @property
    def is_named_by_shopify(self) -> bool:
        """Return whether a webhook has named the order by its id."""
        return self.kind == ORDER and bool(self.payloads or self.refunds or self.deleted)


def version_of(payload: OrderPayload) -> Version:
    """Return the version by which a payload is compared with others of its order."""
    return Version(payload.updated_at, STATUSES.index(payload.status), payload.event_id)


def names_landing(payload: OrderPayload) -> bool:
    """Return whether a payload names the first page of the session before its order, whether or not it is a visit."""
    return payload.names_landing or payload.landing is not None


# Each thing that a payload may say and another may omit.
_SAYS: tuple[Callable[[OrderPayload], object], ...] = (
    lambda _payload: True,
    lambda payload: payload.total,
    lambda payload: payload.lines is not None,
    lambda payload: payload.at is not None,
    lambda payload: payload.checkout_token,
    lambda payload: payload.cart_token,
    names_landing,
    lambda payload: payload.customer_id,
    lambda payload: payload.email_hash,
)


def kept_payloads(payloads: Iterable[OrderPayload]) -> tuple[OrderPayload, ...]:
    """Return the payloads that still contribute: the newest for each thing, and the first number of orders."""
    payloads = list(payloads)
    if len(payloads) <= 1:
        return tuple(payloads)
    by_version = sorted({version_of(payload): payload for payload in payloads}.items())
    ordered = [payload for _, payload in by_version]
    kept = {id(found) for says in _SAYS if (found := next((p for p in reversed(ordered) if says(p)), None))}
    kept |= {id(payload) for payload in ordered if payload.customer_orders is not None and not _later(payload, ordered)}
    return tuple(payload for payload in ordered if id(payload) in kept)


def _later(payload: OrderPayload, ordered: Sequence[OrderPayload]) -> bool:
    first = next(each for each in ordered if each.customer_orders is not None)
    return payload is not first


def merged(one: Node, other: Node, kept: Kept) -> Node:
    """Merge two nodes of one id."""
    return Node(
        kind=one.kind,
        id=one.id,
        payloads=one.payloads if one.payloads == other.payloads else kept_payloads((*one.payloads, *other.payloads)),
        refunds=merged_refunds(one.refunds, other.refunds),
        deleted=one.deleted or other.deleted,
        completion=_first_completion(one.completion, other.completion),
        completed_at=_first(one.completed_at, other.completed_at),
        order_ids=_kept_ids(one.order_ids, other.order_ids),
        clients=kept_clients([*one.clients, *other.clients], kept),
        sightings=kept_sightings([*one.sightings, *other.sightings], kept.sightings),
        cart=one.cart,
        first_order=_first(one.known_first_order, other.known_first_order),
    )


def kept_sightings(sightings: Sequence[Sighting], most: int) -> tuple[Sighting, ...]:
    """Return the first sightings, each once."""
    if len(sightings) <= 1:
        return tuple(sightings)
    found = {(each.kafka.partition, each.kafka.offset): each for each in sightings}
    return tuple(sorted(found.values(), key=lambda each: each.order)[:most])


def merged_refunds(one: Sequence[Refund], other: Sequence[Refund]) -> tuple[Refund, ...]:
    """Return refunds by their ids; if two records name the same refund, the larger amount."""
    if not (one or other):
        return ()
    found: dict[str, Refund] = {}
    for refund in (*one, *other):
        there = found.get(refund.refund_id)
        found[refund.refund_id] = refund if there is None else max(there, refund, key=_size_of_refund)
    return tuple(found[id_] for id_ in sorted(found))


def _size_of_refund(refund: Refund) -> tuple[int, int, int, str]:
    return sum(money.amount for money in refund.amounts), len(refund.lines), refund.at, str(refund)


def kept_clients(clients: Iterable[ClientFacts], kept: Kept) -> tuple[ClientFacts, ...]:
    """Return the surest clients, each with all of its facts, sorted by name."""
    found: dict[str, ClientFacts] = {}
    for client in clients:
        there = found.get(client.client)
        found[client.client] = client if there is None else merged_client(there, client, kept.touches)
    return surest(tuple(found[client] for client in sorted(found)), kept.clients)


def surest(clients: tuple[ClientFacts, ...], most: int) -> tuple[ClientFacts, ...]:
    """Return the surest clients of very many, those with touches first, sorted by name."""
    if len(clients) <= most:
        return clients
    best = sorted(clients, key=lambda each: (not each.touches, preference(each)))[:most]
    return tuple(sorted(best, key=lambda each: each.client))


def merged_client(one: ClientFacts, other: ClientFacts, touches_kept: int) -> ClientFacts:
    """Merge two sets of one client's records of an order.

    The touches are united, because a record that is reprocessed late knows of a touch that later records did not know.
    Touches after the client's own last record do not count.
    """
    last = _last(one.last, other.last)
    return ClientFacts(
        client=one.client,
        completed=_first(one.completed, other.completed),
        in_checkout=_last(one.in_checkout, other.in_checkout),
        noted=_first(one.noted, other.noted),
        keyed=_first(one.keyed, other.keyed),
        last=last,
        touches=united_touches((*one.touches, *other.touches), last, touches_kept),
    )


def preference(client: ClientFacts) -> tuple[int, int, str, str]:
    """Return the sort key by which an order's client is chosen; the lowest wins.

    A completed checkout wins over a begun one, that over a note, and a webhook's key comes last. Of several clients the
    first one to complete wins, and for a begun checkout the last one in it.
    """
    name = client.client
    if client.completed:
        return 0, *client.completed, name
    if client.in_checkout:
        return 1, -client.in_checkout[0], "", name
    for rank, when in ((2, client.noted), (3, client.keyed)):
        if when:
            return rank, *when, name
    return 4, 0, "", name


def united_touches(touches: Sequence[Touch], last: tuple[int, int] | None, touches_kept: int) -> tuple[Touch, ...]:
    """Return the newest touches up to a position, each once, in order."""
    if not touches:
        return ()
    found = {(touch.partition, touch.offset): touch for touch in touches}
    # A touch from another partition is earlier: a user's partition changes only when partitions are added.
    places = sorted(place for place in found if last is None or place[0] != last[0] or place <= last)
    return tuple(found[place] for place in places[-touches_kept:])


def _kept_ids(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return one if one == other else tuple(sorted({*one, *other})[:IDS_KEPT])


def _first_completion(one: FirstCompletion | None, other: FirstCompletion | None) -> FirstCompletion | None:
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda each: each.order)


def _first(one: Earliest | None, other: Earliest | None) -> Earliest | None:
    return one or other if one is None or other is None else min(one, other)


def _last(one: Moment | None, other: Moment | None) -> Moment | None:
    return one or other if one is None or other is None else max(one, other)
