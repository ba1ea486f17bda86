"""Hold the sites of shops: which hosts are outside of a shop, and how its links name a platform.

sites = Sites(load(path), {"548380009": (["hats.example"], {"flyer": "print"})})
site = sites.of("548380009", "hats.myshopify.com")
site.seen("https://hats.example/?utm_source=flyer", None, None).visit   # Ad(platform="print", …)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from truepixel_dagster.events.shape import LINES_PER_EVENT
from truepixel_dagster.events.shop import Shop
from truepixel_dagster.events.sources import DEFAULT, Sources
from truepixel_dagster.events.visits import (
    NO_ALIASES,
    Alias,
    Seen,
    aliases_of,
    anonymised_addresses,
    outside_host,
    seen,
)

# The number of cached sites.
_KEPT = 4096


class Site(NamedTuple):
    """Hold a shop's site: its own hosts, names of platforms, the tables, and the maximum number of lines per event."""

    own_domains: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = NO_ALIASES
    sources: Sources = DEFAULT
    lines: int = LINES_PER_EVENT

    def seen(self, url: str | None, search: str | None, referrer: str | None) -> Seen:
        """Return the visit and its outside host: see `visits.seen`."""
        return seen(url, search, referrer, own_domains=self.own_domains, aliases=self.aliases, sources=self.sources)

    def came_from(self, url: str | None, referrer: str | None) -> str | None:
        """Return the host outside of the shop that a page view came from: see `visits.outside_host`."""
        return outside_host(url, referrer, own_domains=self.own_domains, sources=self.sources)

    def anonymised_addresses(
        self, url: str | None, search: str | None, referrer: str | None, alias: Alias
    ) -> tuple[str | None, str | None]:
        """Return the visit's addresses without personal data: see `visits.anonymised_addresses`."""
        return anonymised_addresses(
            url, search, referrer, alias, own_domains=self.own_domains, aliases=self.aliases, sources=self.sources
        )


NO_SITE = Site()


class Sites:
    """Hold the sites of shops.

    Arguments:
        sources: The tables.
        shops: Own hosts and names of platforms by shop id; other shops have no known ones.
        count_bots: Whether bots count as visitors.
        lines: The maximum number of lines of an event.
    """

    def __init__(
        self,
        sources: Sources = DEFAULT,
        shops: Mapping[str, tuple[Iterable[str], Mapping[str, str]]] | None = None,
        *,
        count_bots: bool = False,
        lines: int = LINES_PER_EVENT,
    ) -> None:
        self.count_bots = count_bots
        self._lines = lines
        self._sources = sources
        self._shops = {id_: (frozenset(own), aliases_of(names)) for id_, (own, names) in (shops or {}).items()}
        self._known: dict[tuple[str, str], Site] = {}

    def with_shops(self, shops: Mapping[str, Shop]) -> Sites:
        """Return these sites with the registry's facts of some shops instead of the earlier ones."""
        said = {
            id_: (shop.domains | shop.payment_hosts, shop.aliases)
            for id_, shop in shops.items()
            if shop.domains or shop.payment_hosts or shop.aliases
        }
        return Sites(self._sources, said, count_bots=self.count_bots, lines=self._lines)

    def of(self, shop: str, domain: str | None) -> Site:
        """Return the site of a shop; `domain` is the shop's domain in the record's headers, if any."""
        key = (shop, domain or "")
        site = self._known.get(key)
        if site is None:
            own, aliases = self._shops.get(shop, (frozenset(), NO_ALIASES))
            site = Site(own | {domain} if domain else own, aliases, self._sources, self._lines)
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = site
        return site


NOTHING_KNOWN = Sites()
