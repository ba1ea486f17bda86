"""Hosts in addresses, and the domain that somebody registered for them."""

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
    """The host of an http(s) address, or the package of an app's: lower-case, without user, port and last dot.

    None where the address has none, is of another kind (`about:blank`, a path) or longer than a host can be.
    """
    found = _ADDRESS.match(address) if address else None
    if not found:
        return None
    host = _PORT.sub("", found[2].rpartition("@")[2])
    # Beyond that a name has no host in it, whatever dots it may lose.
    return normal(host) if len(host) <= 2 * MAX_HOST else None


def is_app(address: str) -> bool:
    """Whether an address names an app and no host."""
    return address.lstrip()[:11].lower() == APP


@lru_cache(maxsize=1024)
def normal(host: str) -> str | None:
    """A host in the one form that hosts are compared in: lower-case, IDNA, no dot at its end; None where it is none."""
    host = host.lower().rstrip(".")
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            return None
    return host if len(host) <= MAX_HOST and _HOST.fullmatch(host) else None


@lru_cache(maxsize=4096)
def registered(host: str) -> str:
    """The domain that somebody registered: `shop.co.uk` of `www.shop.co.uk`, by Mozilla's list of public suffixes.

    An address of numbers, and what is itself such a suffix, stand for themselves.
    """
    if host.startswith("[") or host.replace(".", "").isdigit():
        return host
    return _suffixes().privatesuffix(host) or host


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    # Read when it is first needed: it takes a tenth of a second.
    return PublicSuffixList()
