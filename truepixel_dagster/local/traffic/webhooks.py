"""How webhooks and pixel events reach the topic: keys, headers and delays."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from truepixel_dagster.local.payloads.model import Purchase, Shop
from truepixel_dagster.local.payloads.text import iso_utc
from truepixel_dagster.local.traffic.chance import HOUR, MINUTE, SECOND, happens, uuid
from truepixel_dagster.local.traffic.world import Deliveries, Placed, Record, World

# Headers are missing only for topics that the payload's shape reveals.
_KNOWN_BY_SHAPE = {"orders/create", "checkouts/create", "carts/update", "refunds/create"}


def latency(rng: Random) -> int:
    """Choose the milliseconds from browser to topic; some records arrive after several that were sent later."""
    usual = 50 + int(rng.random() * 900)
    return usual + int(rng.random() * 2 * MINUTE) if rng.random() < 0.03 else usual


def webhook(
    rng: Random,
    shop: Shop,
    client: str,
    topic: str,
    value: bytes,
    at: int,
    *,
    event_id: str | None = None,
    wait: int = 0,
) -> Record:
    """Return the record of a webhook.

    Arguments:
        rng: The source of chance.
        shop: The shop that sends it.
        client: The key's part after the shop.
        topic: Such as `orders/create`.
        value: The payload.
        at: The time of the event, in milliseconds since the epoch.
        event_id: An id that it shares with other topics; its own by default.
        wait: The additional delay in milliseconds.
    """
    arrives = at + int(rng.uniform(0.3, 6) * SECOND) + latency(rng) + wait
    headers: tuple[tuple[str, bytes], ...] = ()
    collector = shop.collector
    if topic not in _KNOWN_BY_SHAPE or collector.headers != "ours" or rng.random() < 0.9:
        named = topic.upper().replace("/", "_") if collector.upper_case else topic
        id_ = event_id or uuid(rng)
        if collector.headers == "ours":
            headers = (
                ("source", b"webhook"),
                ("topic", named.encode()),
                ("event_id", id_.encode()),
                ("shop_domain", shop.domain.encode()),
                ("received_at", iso_utc(arrives).encode()),
            )
        else:
            headers = _shopifys(collector.headers, named, id_, shop, at)
    return Record(f"{shop.id}:{client}".encode(), value, headers, topic, arrives)


def _shopifys(prefix: str, topic: str, event_id: str, shop: Shop, at: int) -> tuple[tuple[str, bytes], ...]:
    """Return Shopify's own headers, as some collectors pass them on."""
    fields = {
        "Topic": topic,
        "Shop-Domain": shop.domain,
        "Webhook-Id": event_id,
        "Triggered-At": iso_utc(at),
        "API-Version": "2025-10",
        "Hmac-Sha256": "XWmrwMey6OsLMeiZKwP4FppHH3cmAiiJJAweH5Jo4bM=",
    }
    return tuple((prefix + name, value.encode()) for name, value in fields.items())


def of_order(
    world: World, placed: Placed, purchase: Purchase, at: int, payloads: Iterable[tuple[str, bytes]]
) -> Deliveries:
    """Return the records of one change of an order; some webhooks are lost, and some arrive hours late.

    Arguments:
        world: The source of chance and its profile.
        placed: The order; it records what was sent and what was lost.
        purchase: The order's purchase.
        at: The time of the change, in milliseconds since the epoch.
        payloads: Topics and payloads.
    """
    rng, profile = world.rng, world.profile
    key = _key(world, purchase)
    shared = uuid(rng) if purchase.shop.collector.shared_ids else None
    records = []
    for topic, value in payloads:
        if happens(rng, profile.lost_webhooks):
            placed.lost.append(topic)
            continue
        wait = int(rng.uniform(0.2, 4) * HOUR) if happens(rng, profile.late_webhooks) else 0
        placed.sent.append(topic)
        records.append(webhook(rng, purchase.shop, key, topic, value, at, event_id=shared, wait=wait))
    return records


def _key(world: World, purchase: Purchase) -> str:
    """Return the client that the theme passes on, else a token."""
    client = purchase.client_id if purchase.shop.collector.keyed_by_client else None
    token = purchase.cart_token or purchase.order_token
    if client is None and purchase.cart_token is None and happens(world.rng, world.profile.no_client):
        return "undefined"
    return client or token
