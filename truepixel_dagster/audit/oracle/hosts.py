"""Hosts of addresses, and which referrers are outside of the shop."""

from __future__ import annotations

import re
from collections.abc import Iterable

from publicsuffixlist import PublicSuffixList

from truepixel_dagster.audit.oracle.tables import Tables, plain, suffixes

LONGEST_HOST = 253
# Shared data like the other lists: Mozilla's public suffixes.
_SUFFIXES = PublicSuffixList()
_ADDRESS = re.compile(r"(https?|android-app|ios-app)://([^/?#\\\s]*)", re.IGNORECASE)
# A name of letters, digits, dots, hyphens and underscores, or an IPv6 address in brackets.
_NAME = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")


def address(url: str | None) -> tuple[str, str] | None:
    """Return the scheme and the host of a web or app address; None for anything else."""
    found = _ADDRESS.match((url or "").strip())
    if found is None:
        return None
    host = host_name(found.group(2))
    return (found.group(1).lower(), host) if host else None


def host_of(url: str | None) -> str | None:
    """Return the host of an address."""
    found = address(url)
    return found[1] if found else None


def host_name(authority: str) -> str | None:
    """Return a host without user and port, in lower case and ASCII."""
    host = authority.rpartition("@")[2]
    host = re.sub(r":[0-9]*$", "", host).rstrip(".").lower()
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    return host if len(host) <= LONGEST_HOST and _NAME.fullmatch(host) else None


def registered(host: str) -> str | None:
    """Return the registered domain of a host: `shop.co.uk` of `www.shop.co.uk`."""
    domain: str | None = _SUFFIXES.privatesuffix(host)
    return domain


def is_outside(referrer: str, page: str | None, own: Iterable[str], tables: Tables) -> bool:
    """Return whether a referrer's host is outside of the shop."""
    own_hosts = [host.lower() for host in [page or "", *own] if host]
    if any(_of_one_domain(referrer, host) for host in own_hosts):
        return False
    if any(domain in tables.inside for domain in suffixes(referrer)):
        return False
    for shops in tables.shops:
        if referrer.endswith("." + shops) and not any(host.endswith("." + shops) for host in own_hosts):
            return False
    return not _is_second_factor(referrer, tables)


def _of_one_domain(one: str, other: str) -> bool:
    if plain(one) == plain(other):
        return True
    return registered(one) is not None and registered(one) == registered(other)


def _is_second_factor(host: str, tables: Tables) -> bool:
    """Return whether a host is a bank's page for a second factor: `acs.bank.example`, `3ds-secure.bank.example`."""
    domain = registered(host)
    left = host[: -len(domain)] if domain else ""
    labels = [label for label in left.split(".") if label]
    parts = [part for label in labels for part in (label, *label.split("-"))]
    return any(part in tables.labels for part in parts)
