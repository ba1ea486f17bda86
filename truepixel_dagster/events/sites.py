"""What is known of shops' sites, to tell who comes from elsewhere and what their links call a platform.

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

# How many shops' sites are kept as they were put together last.
_KEPT = 4096


class Site(NamedTuple):
    """A shop's site: hosts that are its own, names of platforms, the tables; and how many lines its events have."""

    own_domains: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = NO_ALIASES
    sources: Sources = DEFAULT
    lines: int = LINES_PER_EVENT

    def seen(self, url: str | None, search: str | None, referrer: str | None) -> Seen:
        """The visit and where it came from: see `visits.seen`."""
        return seen(url, search, referrer, own_domains=self.own_domains, aliases=self.aliases, sources=self.sources)

    def came_from(self, url: str | None, referrer: str | None) -> str | None:
        """The host outside of the shop that a page view came from: see `visits.outside_host`."""
        return outside_host(url, referrer, own_domains=self.own_domains, sources=self.sources)

    def anonymised_addresses(
        self, url: str | None, search: str | None, referrer: str | None, alias: Alias
    ) -> tuple[str | None, str | None]:
        """What is left of the visit without whom it is of: see `visits.anonymised_addresses`."""
        return anonymised_addresses(
            url, search, referrer, alias, own_domains=self.own_domains, aliases=self.aliases, sources=self.sources
        )


NO_SITE = Site()


class Sites:
    """The sites of shops.

    Arguments:
        sources: The tables.
        shops: By shop id its own hosts and its names of platforms; a shop that is not there has none that are known.
        count_bots: Whether bots count as people do.
        lines: How many lines an event may have.
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
        """The same with what the registry says of some shops; what was known of shops before is not kept."""
        said = {
            id_: (shop.domains | shop.payment_hosts, shop.aliases)
            for id_, shop in shops.items()
            if shop.domains or shop.payment_hosts or shop.aliases
        }
        return Sites(self._sources, said, count_bots=self.count_bots, lines=self._lines)

    def of(self, shop: str, domain: str | None) -> Site:
        """The site of a shop; `domain` is what the record's headers say of it, if they do."""
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
