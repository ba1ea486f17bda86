"""What remains of a pixel event whose visitor does not allow analytics: nothing by which they could be known again.

An event says what its visitor allowed in `customerPrivacy`, as Shopify's own `init.customerPrivacy`
(https://shopify.dev/docs/api/web-pixels-api/pixel-privacy). Shopify loads a pixel only where its permissions are given,
so that an event which says nothing of it is one that is allowed.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

ALLOWED = "analyticsProcessingAllowed"
# Fields that name a person, wherever they stand, in lower case.
_LISTED = """
clientid customer customerid email phone smsmarketingphone firstname lastname shippingaddress billingaddress
deliveryaddress destination ip ipaddress browserip useragentdata userid visitorid sessionid localstorage cookie
cookies orderstatusurl statusurl attributes noteattributes
"""
_PERSONAL = frozenset(_LISTED.split())
_ADDRESSES = frozenset({"href", "search", "referrer", "url", "hash"})


def refused(privacy: Any) -> bool:
    """Whether what an event or a batch says of consent refuses analytics."""
    return isinstance(privacy, dict) and privacy.get(ALLOWED) is False


def without_person(event: dict[str, Any]) -> bytes:
    """The JSON of an event without client id, customer, addresses, and all that its URLs say beside `utm_*`."""
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
    """Of a query string the campaign: click ids are of one visitor, and whatever else a shop adds may be."""
    pairs = [pair for pair in parse_qsl(text.lstrip("?")[:4096]) if pair[0].lower().startswith("utm_")]
    return f"?{urlencode(pairs)}" if pairs else ""


def _address(text: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, _query(parts.query).lstrip("?"), ""))
