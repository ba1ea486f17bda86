"""The registered facts of a shop, and what a `shop/update` webhook says of it.

When a merchant changes the shop's settings, Shopify sends the shop as in its REST API: `iana_timezone`, `currency` (the
shop's own, used in its reports), `domain` (the primary one) and `myshopify_domain`; `updated_at` may be null. See the
resource Shop and the topic `shop/update` in Shopify's reference of the Admin API.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from truepixel_dagster.events.currencies import CURRENCIES
from truepixel_dagster.events.shop_time import UTC, ShopTime, is_time_zone
from truepixel_dagster.events.times import to_millis

SHOP_UPDATED = "shop/update"
_MAX_HOST, _MAX_ADDRESS = 253, 2048
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})+")


class Shop(msgspec.Struct, frozen=True):
    """Hold what is known of a shop; it is empty for an unknown shop.

    `domains` are its own, `payment_hosts` further hosts from which buyers return after payment: neither is outside of
    the shop. `aliases` maps names of platforms in the shop's links to the platforms.
    """

    time_zone: str | None = None
    currency: str | None = None
    domains: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = {}
    payment_hosts: frozenset[str] = frozenset()

    @property
    def time(self) -> ShopTime:
        """Return its time."""
        return ShopTime(self.time_zone) if self.time_zone else UTC


UNKNOWN = Shop()


class ShopNews(msgspec.Struct, frozen=True):
    """Hold what a webhook says of its shop. `updated_at` is its version, in milliseconds since the epoch."""

    time_zone: str | None = None
    currency: str | None = None
    domains: tuple[str, ...] = ()
    updated_at: int | None = None


class _Payload(msgspec.Struct):
    iana_timezone: Any = None
    currency: Any = None
    domain: Any = None
    myshopify_domain: Any = None
    updated_at: Any = None


_DECODER = msgspec.json.Decoder(_Payload)


def shop_news(payload: bytes) -> ShopNews:
    """Return what the payload of a `shop/update` says; an invalid field counts as missing.

    Raises:
        ValueError: The payload is not a JSON object.
    """
    body = _DECODER.decode(payload)
    zone = body.iana_timezone
    hosts = (host_of(domain) for domain in (body.domain, body.myshopify_domain))
    return ShopNews(
        zone if isinstance(zone, str) and is_time_zone(zone) else None,
        currency_of(body.currency),
        tuple(dict.fromkeys(host for host in hosts if host)),
        _time(body.updated_at),
    )


def currency_of(text: Any) -> str | None:
    """Return the ISO 4217 code of a currency; None if it is not one."""
    code = text.strip().upper() if isinstance(text, str) else ""
    return code if code in CURRENCIES else None


def host_of(text: Any) -> str | None:
    """Return the host of a domain or an address as browsers write it, in lower case and punycode; None without one."""
    if not isinstance(text, str) or len(text) > _MAX_ADDRESS:
        return None
    name = _SCHEME.sub("", text.strip().lower(), count=1)
    name = re.split(r"[/?#]", name, maxsplit=1)[0].rsplit("@", 1)[-1].partition(":")[0].rstrip(".")
    try:
        name = name.encode("idna").decode() if not name.isascii() else name
    except UnicodeError:
        return None
    return name if len(name) <= _MAX_HOST and _HOST.fullmatch(name) else None


def _time(text: Any) -> int | None:
    try:
        return to_millis(text) if isinstance(text, str) else None
    except ValueError:
        return None
