"""Remove from a pixel event everything that identifies its visitor, if the visitor does not allow analytics.

An event states its visitor's consent in `customerPrivacy`, like Shopify's own `init.customerPrivacy`
(https://shopify.dev/docs/api/web-pixels-api/pixel-privacy). Shopify loads a pixel only if its permissions are granted,
so an event without this field counts as allowed.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

ALLOWED = "analyticsProcessingAllowed"
# Fields that identify a person at any depth, in lower case.
_LISTED = """
clientid customer customerid email phone smsmarketingphone firstname lastname shippingaddress billingaddress
deliveryaddress destination ip ipaddress browserip useragentdata userid visitorid sessionid localstorage cookie
cookies orderstatusurl statusurl attributes noteattributes
"""
_PERSONAL = frozenset(_LISTED.split())
_ADDRESSES = frozenset({"href", "search", "referrer", "url", "hash"})


def refused(privacy: Any) -> bool:
    """Return whether the consent of an event or a batch refuses analytics."""
    return isinstance(privacy, dict) and privacy.get(ALLOWED) is False


def without_person(event: dict[str, Any]) -> bytes:
    """Return an event's JSON without client id, customer, addresses, and all URL parameters except `utm_*`."""
    return msgspec.json.encode(_stripped(event))


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: item for name, item in value.items() if name.lower().replace("_", "") not in _PERSONAL}
        return {name: _field(name.lower(), item) for name, item in kept.items()}
    return [_stripped(item) for item in value] if isinstance(value, list) else value


def _field(name: str, value: Any) -> Any:
    if name in _ADDRESSES and isinstance(value, str):
        return _query(value) if name == "search" else "" if name == "hash" else _address(value)
    return _stripped(value)


def _query(text: str) -> str:
    """Return a query string's campaign: click ids identify a visitor, and so may parameters that a shop adds."""
    pairs = [pair for pair in parse_qsl(text.lstrip("?")[:4096]) if pair[0].lower().startswith("utm_")]
    return f"?{urlencode(pairs)}" if pairs else ""


def _address(text: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, _query(parts.query).lstrip("?"), ""))
