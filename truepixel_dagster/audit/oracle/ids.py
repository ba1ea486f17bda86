"""Find the records of one order, which has several ids.

An order has an order id, a checkout token and a cart token. Records that share one of them belong together. If that
joins several orders that webhooks name, each of these is a separate order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from truepixel_dagster.audit.oracle.events import Checkout, Event, Links, Payload
from truepixel_dagster.audit.oracle.status import version

Name = tuple[str, str]


@dataclass
class Order:
    """The records of one order: its payloads (newest first), pixel checkouts (earliest first), refunds, deletions."""

    shop: str
    order_id: str | None = None
    payloads: list[Event] = field(default_factory=list)
    checkouts: list[Event] = field(default_factory=list)
    refunds: list[Event] = field(default_factory=list)
    deletions: list[Event] = field(default_factory=list)
    id: str = ""

    @property
    def completed(self) -> list[Event]:
        """Return the `checkout_completed` events, earliest first."""
        return [event for event in self.checkouts if checkout_of(event).completed]

    @property
    def exists(self) -> bool:
        """Return whether a record shows the order itself; without one, other facts about it have no effect."""
        return bool((self.payloads or self.completed) and not self.deletions)

    @property
    def checkout_token(self) -> str | None:
        """Return the checkout token of the newest payload with one, else the lowest of a `checkout_completed`."""
        told = [payload_of(event).checkout_token for event in self.payloads]
        seen = sorted(token for event in self.completed if (token := checkout_of(event).checkout_token))
        return next((token for token in [*told, *seen] if token), None)

    @property
    def cart_token(self) -> str | None:
        """Return the cart token of the newest payload with one, else the lowest of a `checkout_completed`."""
        told = [payload_of(event).cart_token for event in self.payloads]
        seen = sorted(token for event in self.completed if (token := checkout_of(event).cart_token))
        return next((token for token in [*told, *seen] if token), None)

    @property
    def known_order_id(self) -> str | None:
        """Return the order id that webhooks name, else the lowest of a `checkout_completed`."""
        seen = sorted(id_ for event in self.completed if (id_ := checkout_of(event).order_id))
        return self.order_id or next(iter(seen), None)


def payload_of(event: Event) -> Payload:
    """Return the event's order payload, which it must have."""
    if event.content.payload is None:
        raise TypeError(f"{event.id} is no order payload")
    return event.content.payload


def checkout_of(event: Event) -> Checkout:
    """Return the event's pixel checkout, which it must have."""
    if event.content.checkout is None:
        raise TypeError(f"{event.id} is no pixel checkout")
    return event.content.checkout


def orders_of(events: Iterable[Event]) -> list[Order]:
    """Return all orders that the events name, even orders that no event shows. Bots name none."""
    found: list[Order] = []
    for cluster in _clusters([event for event in events if not event.bot]):
        orders = _split(cluster)
        _sort(orders)
        _name([order for order in orders if order.exists])
        found += orders
    return found


# --- Connected events ---


def _ids_of(event: Event) -> list[str]:
    told: Payload | Checkout | Links | None = event.content.payload or event.content.checkout or event.content.links
    ids = (told.order_id, told.checkout_token, told.cart_token) if told else ()
    return [id_ for id_ in ids if id_]


def _clusters(events: list[Event]) -> list[list[Event]]:
    """Return the events that name an order, grouped by the ids that events of one shop share."""
    parent: dict[Name, Name] = {}

    def root(name: Name) -> Name:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    naming = [(event, [(event.shop, id_) for id_ in _ids_of(event)]) for event in events]
    naming = [(event, names) for event, names in naming if names]
    for _, names in naming:
        for name in names[1:]:
            parent[root(name)] = root(names[0])
    clusters: dict[Name, list[Event]] = defaultdict(list)
    for event, names in naming:
        clusters[root(names[0])].append(event)
    return list(clusters.values())


# --- The order of a record within a cluster ---


def _webhook_order_id(event: Event) -> str | None:
    told = event.content.payload or event.content.links
    return told.order_id if told else None


def _split(cluster: list[Event]) -> list[Order]:
    shop = cluster[0].shop
    order_ids = sorted({id_ for event in cluster if (id_ := _webhook_order_id(event))})
    if len(order_ids) <= 1:
        order = Order(shop, order_ids[0] if order_ids else None)
        for event in cluster:
            _put(order, event)
        return [order]
    orders = {id_: Order(shop, id_) for id_ in order_ids}
    others = []
    for event in cluster:
        own = _webhook_order_id(event)
        if own:
            _put(orders[own], event)
        else:
            others.append(event)
    _sort(list(orders.values()))
    for event, order in zip(others, _orders_of_others(others, orders)):
        _put(order, event)
    return list(orders.values())


def _orders_of_others(events: list[Event], orders: dict[str, Order]) -> list[Order]:
    """Return the order of each event without a webhook's order id: the named one, else the lowest order of other events
    with its checkout token, else of those with its cart token, else the lowest."""
    named = [_named_order(event, orders) for event in events]
    lowest: dict[str, str] = {}
    for event, order in zip(events, named):
        if order and order.order_id and not event.content.links:
            for token in _tokens_of(event):
                lowest[token] = min(order.order_id, lowest.get(token, order.order_id))
    return [
        order
        or next((orders[lowest[token]] for token in _tokens_of(event) if token in lowest), next(iter(orders.values())))
        for event, order in zip(events, named)
    ]


def _named_order(event: Event, orders: dict[str, Order]) -> Order | None:
    """Return the order whose payload names the record's token, else the one whose id the record names."""
    for token in _tokens_of(event):
        for own_token in (_own_checkout_token, _own_cart_token):
            for order in orders.values():
                if own_token(order) == token:
                    return order
    told = event.content.payload or event.content.checkout or event.content.links
    names = [told.order_id or "" if told else "", *_tokens_of(event)]
    return next((orders[name] for name in names if name in orders), None)


def _tokens_of(event: Event) -> list[str]:
    told = event.content.payload or event.content.checkout or event.content.links
    tokens = (told.checkout_token, told.cart_token) if told else ()
    return [token for token in tokens if token]


def _own_checkout_token(order: Order) -> str | None:
    return next((token for event in order.payloads if (token := payload_of(event).checkout_token)), None)


def _own_cart_token(order: Order) -> str | None:
    return next((token for event in order.payloads if (token := payload_of(event).cart_token)), None)


def _put(order: Order, event: Event) -> None:
    content = event.content
    if content.payload:
        order.payloads.append(event)
    elif content.checkout:
        order.checkouts.append(event)
    elif content.deletes:
        order.deletions.append(event)
    elif content.refund:
        order.refunds.append(event)


def _sort(orders: list[Order]) -> None:
    for order in orders:
        order.payloads.sort(key=version, reverse=True)
        order.checkouts.sort(key=lambda event: (event.occurred_at, event.event_id))


# --- The id of its document ---


def _name(orders: list[Order]) -> None:
    """Name orders by checkout token, else order id, else cart token. If several orders have a token, the lowest order
    id keeps it. An order that does not exist has no document, and takes no token."""
    order_ids = {order.order_id for order in orders if len(orders) > 1}
    taken: set[str] = set()
    for order in orders:
        token = order.checkout_token
        if token in taken or token in order_ids - {order.order_id}:
            token = None
        identity = token or order.known_order_id or order.cart_token or ""
        taken.add(identity)
        order.id = f"{order.shop}:{identity}"
