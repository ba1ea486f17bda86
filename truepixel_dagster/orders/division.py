"""Divide linked facts among the orders that they belong to.

>>> from truepixel_dagster.events.decode import decode
>>> from truepixel_dagster.events.event import Message
>>> from truepixel_dagster.events.origin import Origin
>>> from truepixel_dagster.orders.division import orders_of
>>> from truepixel_dagster.orders.event_facts import facts_of
>>> value = b'{"id": 5, "financial_status": "paid", "currency": "EUR", "total_price": "19.99"}'
>>> headers = (("topic", b"orders/paid"), ("event_id", b"w1"))
>>> event = decode(Message(Origin("events", 0, 7), b"shop:c", value, headers, 1_767_607_201_000))
>>> [order.document_id for order in orders_of("shop", [facts_of(event, touches=())])]
['shop:5']
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

import msgspec

from truepixel_dagster.orders.facts import ALL, CLIENTS_KEPT, ORDER, Node, merged, surest
from truepixel_dagster.orders.order import Order


def orders_of(shop_id: str, nodes: Sequence[Node], clients: int = CLIENTS_KEPT) -> list[Order]:
    """Return the orders that linked nodes make, in the order of their documents' ids.

    Nearly always the nodes make one order, or none yet. Where webhooks name several order ids, each is a separate
    order, and what pixels say goes to the order that it belongs to: no browser can merge two orders into one.

    Arguments:
        shop_id: The shop of the nodes.
        nodes: The facts.
        clients: The most clients to keep per order, the surest ones.
    """
    named = sorted((node for node in nodes if node.is_named_by_shopify), key=lambda node: node.id)
    groups = [list(nodes)] if len(named) <= 1 else _divided(nodes, named)
    return _apart([order for group in groups if (order := _order(shop_id, group, clients))])


def _apart(orders: Sequence[Order]) -> list[Order]:
    """Sort orders by id; if two have one token, the first keeps it, and the other uses its own id."""
    taken: set[str] = set()
    for order in orders:
        if order.document_id in taken:
            order.is_second = True
        taken.add(order.document_id)
    return sorted(orders, key=lambda order: order.document_id)


def _divided(nodes: Sequence[Node], named: Sequence[Node]) -> list[list[Node]]:
    """Divide nodes among the orders that they belong to, the lowest order id first.

    A token that an order's webhooks name belongs to that order. Otherwise the order id that a record names decides or,
    if it names none, what other records say of its tokens; the lowest order takes what is left.
    """
    owned = {node.id: [node] for node in named}
    by_webhooks = _tokens_of(named)
    by_pixels: dict[str, str] = {}
    unsure: list[Node] = []
    for node in nodes:
        if node.is_named_by_shopify:
            continue
        if owner := _owner(node, owned, by_webhooks):
            owned[owner].append(node)
            by_pixels |= {token: min(owner, by_pixels.get(token, owner)) for token in _tokens(node)}
        else:
            unsure.append(node)
    for node in unsure:
        owner = next((by_pixels[token] for token in _tokens(node) if token in by_pixels), named[0].id)
        owned[owner].append(node)
    return list(owned.values())


def _tokens_of(named: Sequence[Node]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the lowest order id by checkout token, and by cart token, as webhooks name them."""
    checkouts: dict[str, str] = {}
    carts: dict[str, str] = {}
    for node in named:
        for found, token in ((checkouts, _checkout_token(node)), (carts, _cart_token(node))):
            if token:
                found.setdefault(token, node.id)
    return checkouts, carts


def _owner(node: Node, orders: Container[str], by_webhooks: Sequence[Mapping[str, str]]) -> str | None:
    """Return the order that facts name without a webhook's order id; None if they name no known one."""
    tokens = _tokens(node)
    for token in tokens:
        for found in by_webhooks:
            if token in found:
                return found[token]
    ids = [node.id] if node.kind == ORDER else node.order_ids
    return next((id_ for id_ in (*ids, *tokens) if id_ in orders), None)


def _tokens(node: Node) -> list[str]:
    """Return the checkout token that facts name, and then the cart tokens."""
    carts = [node.cart, *(payload.cart_token for payload in node.payloads)]
    return [token for token in (None if node.kind == ORDER else node.id, *carts) if token]


def _checkout_token(node: Node) -> str | None:
    return next((p.checkout_token for p in reversed(node.payloads) if p.checkout_token), None)


def _cart_token(node: Node) -> str | None:
    return next((p.cart_token for p in reversed(node.payloads) if p.cart_token), None)


def _order(shop_id: str, group: Sequence[Node], clients: int) -> Order | None:
    """Return the order of nodes; None if it is not an order yet, or was deleted."""
    if any(node.deleted for node in group) or not any(node.payloads or node.completed_at for node in group):
        return None
    carts = (node.cart for node in group if node.completed_at and node.cart)
    together = _together(group)
    return Order(
        shop_id,
        msgspec.structs.replace(together, clients=surest(together.clients, clients)),
        _order_id(group),
        min(carts, default=None),
    )


def _together(group: Sequence[Node]) -> Node:
    """Merge all facts into one node, named after the lowest checkout token that was completed."""
    completed = min((n for n in group if n.kind != ORDER and n.completed_at), key=lambda node: node.id, default=None)
    kind, id_ = (completed.kind, completed.id) if completed else (ORDER, "")
    return msgspec.structs.replace(_merged(group), kind=kind, id=id_)


def _merged(nodes: Sequence[Node]) -> Node:
    """Merge nodes into one, by halves: merging one after the other would sort very many of them again for each."""
    if len(nodes) == 1:
        return nodes[0]
    middle = len(nodes) // 2
    return merged(_merged(nodes[:middle]), _merged(nodes[middle:]), ALL)


def _order_id(group: Iterable[Node]) -> str | None:
    """Return the order's id: a webhook's, else the lowest that a completed checkout names."""
    webhooks = sorted(node.id for node in group if node.is_named_by_shopify)
    if webhooks:
        return webhooks[0]
    return min(_claimed(group), default=None)


def _claimed(group: Iterable[Node]) -> Iterator[str]:
    for node in group:
        if node.completed_at:
            yield from node.order_ids
