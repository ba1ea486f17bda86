"""What is known of a shop beside its events, and what a `shop/update` webhook says of it.

Shopify sends the shop as its REST API shows it whenever a merchant changes its settings: `iana_timezone`, `currency`
(the shop's own, in which its reports are), `domain` (the primary one) and `myshopify_domain`; `updated_at` may be null.
See the resource Shop and the topic `shop/update` in Shopify's reference of the Admin API.
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
    """What is known of a shop; of one that nothing is known of, nothing.

    `domains` are its own, `payment_hosts` further hosts through which buyers come back from paying: neither is outside
    of the shop. `aliases` are names of platforms as its links write them, with the platform that each stands for.
    """

    time_zone: str | None = None
    currency: str | None = None
    domains: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = {}
    payment_hosts: frozenset[str] = frozenset()

    @property
    def time(self) -> ShopTime:
        """Its time."""
        return ShopTime(self.time_zone) if self.time_zone else UTC


UNKNOWN = Shop()


class ShopNews(msgspec.Struct, frozen=True):
    """What a webhook says of its shop. `updated_at` is the version of that, in milliseconds since the epoch."""

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
    """Return what the payload of a `shop/update` says; a field that cannot be used counts as missing.

    Raises:
        ValueError: It is no JSON object.
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
    """Return the code of a currency as ISO 4217 writes it; None where it is none."""
    code = text.strip().upper() if isinstance(text, str) else ""
    return code if code in CURRENCIES else None


def host_of(text: Any) -> str | None:
    """Return the host of a domain or an address as browsers write it, in lower case and punycode; None if none."""
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
