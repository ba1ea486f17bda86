"""Find the host of an address, and its registered domain.

>>> from truepixel_dagster.events.hosts import host_of, registered
>>> host_of("https://WWW.Shop.example:443/products?x=1"), registered("news.example.co.uk")
('www.shop.example', 'example.co.uk')
"""

from __future__ import annotations

import re
from functools import lru_cache

from publicsuffixlist import PublicSuffixList

MAX_HOST = 253
APP = "android-app"
_ADDRESS = re.compile(r"\s*(https?|android-app|ios-app):/*([^/?#\\\s]*)", re.IGNORECASE)
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")
_PORT = re.compile(r":[0-9]*$")


def host_of(address: str | None) -> str | None:
    """Return the host of an http(s) address, or an app's package: lower-case, without user, port and last dot.

    None if the address has none, is of another kind (`about:blank`, a path), or if the host is too long.
    """
    found = _ADDRESS.match(address) if address else None
    if not found:
        return None
    host = _PORT.sub("", found[2].rpartition("@")[2])
    # A longer name is never a host, even without its last dots.
    return normal(host) if len(host) <= 2 * MAX_HOST else None


def is_app(address: str) -> bool:
    """Return whether an address names an app instead of a host."""
    return address.lstrip()[:11].lower() == APP


@lru_cache(maxsize=1024)
def normal(host: str) -> str | None:
    """Return a host in its normal form: lower-case, IDNA, without a final dot; None if it is not a host."""
    host = host.lower().rstrip(".")
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            return None
    return host if len(host) <= MAX_HOST and _HOST.fullmatch(host) else None


@lru_cache(maxsize=4096)
def registered(host: str) -> str:
    """Return the registered domain: `shop.co.uk` of `www.shop.co.uk`, by Mozilla's list of public suffixes.

    An IP address and a public suffix are returned unchanged.
    """
    if host.startswith("[") or host.replace(".", "").isdigit():
        return host
    return _suffixes().privatesuffix(host) or host


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    # Read on first use: it takes a tenth of a second.
    return PublicSuffixList()
