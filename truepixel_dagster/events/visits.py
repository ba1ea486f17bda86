"""Find the visit of a page view, by its URL or by a referrer outside of the shop.

    >>> from truepixel_dagster.events.visits import visit
    >>> ad = visit("https://shop.example/?utm_source=ig&utm_medium=paid_social", None, None)
    >>> ad.platform, ad.channel
    ('instagram', 'paid_social')
    >>> search = visit("https://shop.example/", None, "https://www.google.de/")
    >>> search.platform, search.channel
    ('google', 'organic_search')
    >>> visit("https://shop.example/hats", None, "https://shop.example/") is None  # from page to page
    True

docs/channels.md explains the rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote_plus, urlencode

from truepixel_dagster.events.ad import Ad, anonymous_ad
from truepixel_dagster.events.hosts import APP, host_of, is_app, normal, registered
from truepixel_dagster.events.source_additions import ClickId, name_key
from truepixel_dagster.events.sources import DEFAULT, Place, Sources, suffixes

Alias = Callable[[str, str], str]
MAX_VALUE = 512
UNKNOWN = "unknown"
NO_ALIASES: Mapping[str, str] = MappingProxyType({})
# A parameter's name and value. An address may contain megabytes of other parameters, which are not kept. Without the
# anchor, a megabyte without `=` would be searched once for each of its characters.
_PARAMETER = re.compile(r"(?:^|&)([^&=]+)=([^&]+)")
# The length of the longest relevant name, with every letter as %xx.
_LONGEST_NAME = 3 * 64
# In characters: the cache of queries needs one or two megabytes.
_MOST_REMEMBERED = 512
# What GA4 and JavaScript write for a missing value.
_UNSAID = frozenset({"(direct)", "(none)", "(not set)", "null", "undefined"})
# Google's ^(.*(([^a-df-z]|^)shop|shopping).*)$, for a name in lower case.
_SHOP = re.compile(r"(?:[^a-df-z]|^)shop|shopping")


class Seen(NamedTuple):
    """Hold the visit of a page view, and the host outside of the shop that it came from."""

    visit: Ad | None = None
    came_from: str | None = None


_NOTHING = Seen()


def visit(
    url: str | None,
    search: str | None,
    referrer: str | None,
    *,
    own_domains: Collection[str] = (),
    aliases: Mapping[str, str] = NO_ALIASES,
    sources: Sources = DEFAULT,
) -> Ad | None:
    """Return the ad of the URL, else the visit of an outside referrer; None if the page view is not a visit.

    Arguments:
        url, search, referrer, own_domains, aliases, sources: Those of `seen`.
    """
    return seen(url, search, referrer, own_domains=own_domains, aliases=aliases, sources=sources).visit


def seen(
    url: str | None,
    search: str | None,
    referrer: str | None,
    *,
    own_domains: Collection[str] = (),
    aliases: Mapping[str, str] = NO_ALIASES,
    sources: Sources = DEFAULT,
) -> Seen:
    """Return the visit of a page view, if it is one, and the host outside of the shop that it came from.

    Arguments:
        url: The page's address, or a path such as a webhook's `landing_site`.
        search: Its query, used only if the URL has none.
        referrer: The address of the previous page.
        own_domains: The shop's domains besides that of `url`.
        aliases: The shop's own names of platforms, from `aliases_of`.
        sources: The tables.
    """
    query = _query(url, search)
    host = outside_host(url, referrer, own_domains=own_domains, sources=sources) if referrer else None
    if not (query or host):
        return _NOTHING
    place = _place_at(host, referrer, aliases, sources) if host and referrer else None
    if not query:
        return Seen(_of_referrer(place, sources) if place else None, host)
    if aliases or len(query) > _MOST_REMEMBERED:
        return Seen(_of_query(query, place, aliases, sources), host)
    return Seen(_remembered(query, place, sources), host)


def aliases_of(names: Mapping[str, str]) -> dict[str, str]:
    """Return a shop's names and hosts of platforms, with each platform's name, in the form for `visit`.

    A platform may have any of its names in the tables, or one of the shop's own.
    """
    found: dict[str, str] = {}
    for name, platform in names.items():
        found[name_key(name)] = platform.strip().lower()
        if "." in name and (host := normal(name.strip().removeprefix("www."))):
            # Hyphens are significant in a host. The slashes distinguish hosts from names.
            found[f"//{host}"] = platform.strip().lower()
    return found


def anonymised_addresses(
    url: str | None,
    search: str | None,
    referrer: str | None,
    alias: Alias,
    *,
    own_domains: Collection[str] = (),
    aliases: Mapping[str, str] = NO_ALIASES,
    sources: Sources = DEFAULT,
) -> tuple[str | None, str | None]:
    """Return an address and a referrer whose `visit` is the one that `anonymous_ad` returns; None without a visit.

    Both keep their host, and the query keeps the parameters that decide the visit.

    Arguments:
        url, search, referrer, own_domains, aliases, sources: Those of `visit`.
        alias: Maps the kind of an id and the id to its alias.
    """
    ad = visit(url, search, referrer, own_domains=own_domains, aliases=aliases, sources=sources)
    if ad is None:
        return None, None
    page, before = host_of(url), host_of(referrer)
    address = f"https://{page}/" if page else "/"
    scheme = APP if is_app(referrer or "") else "https"
    found = _parameters(_query(url, search), sources)
    if found:
        address += "?" + urlencode(_said(found, anonymous_ad(ad, alias), sources), errors="replace")
    return address, f"{scheme}://{before}/" if before else None


def _said(found: Mapping[str, str], ad: Ad, sources: Sources) -> dict[str, str]:
    """Return the parameters of a URL's visit with the values of `ad`."""
    click = _deciding(found, sources)
    said = {
        "utm_source": ad.source if "utm_source" in found else None,
        "utm_medium": ad.medium if "utm_medium" in found else None,
        "utm_campaign": ad.campaign,
        "utm_content": ad.content,
        "utm_term": ad.term,
        sources.campaign_ids[0]: ad.campaign_id,
    }
    if click:
        said[click.name] = {"click": ad.click_id, "campaign": ad.campaign_id, "mark": "1"}[click.kind]
    return {name: value for name, value in said.items() if value}


def _query(url: str | None, search: str | None) -> str:
    """Return the query of the page's address, else `search`."""
    query = url.partition("#")[0].partition("?")[2] if url and "?" in url else ""
    return query or (search.lstrip("?").partition("#")[0] if search else "")


def _goes_on(url: str, referrer: str) -> bool:
    """Return whether the previous page certainly has the same host, by a quick comparison: most have."""
    end = url.find("/", 8)
    return end > 0 and referrer.startswith(url[: end + 1])


def _parameters(query: str, sources: Sources) -> dict[str, str]:
    """Return the relevant parameters of a query; the first non-empty value of several counts."""
    names = sources.parameters
    found: dict[str, str] = {}
    for match in _PARAMETER.finditer(query):
        name = match[1]
        known = names.get(name) or (names.get(_plain(name)) if len(name) <= _LONGEST_NAME else None)
        if known and known not in found and (value := _value(match[2])):
            found[known] = value
    return found


def _plain(name: str) -> str:
    return (unquote_plus(name) if "%" in name else name).lower()


def _value(raw: str) -> str:
    value = unquote_plus(raw) if "%" in raw or "+" in raw else raw
    value = value.replace("\0", "\ufffd").strip()[:MAX_VALUE].strip()
    return "" if value.lower() in _UNSAID else value


def _deciding(found: Mapping[str, str], sources: Sources) -> ClickId | None:
    """Return the deciding click id of a URL."""
    ranks = [rank for name in found if (rank := sources.rank.get(name)) is not None]
    return sources.ranked[min(ranks)] if ranks else None


def _of_query(query: str, place: Place | None, aliases: Mapping[str, str], sources: Sources) -> Ad | None:
    if found := _parameters(query, sources):
        return _of_url(found, place, aliases, sources)
    return _of_referrer(place, sources) if place else None


# A visitor's events on one page arrive close together, each with the page's address.
@lru_cache(maxsize=1024)
def _remembered(query: str, place: Place | None, sources: Sources) -> Ad | None:
    return _of_query(query, place, NO_ALIASES, sources)


def _of_url(found: Mapping[str, str], before: Place | None, aliases: Mapping[str, str], sources: Sources) -> Ad:
    source, medium, campaign = found.get("utm_source"), found.get("utm_medium"), found.get("utm_campaign")
    click = _deciding(found, sources)
    named = _named(source, aliases, sources) if source else None
    place = _chosen(click, named, before, sources.is_paid(_word(medium)), sources)
    if before and not click and not named:
        # The URL names the campaign but not the source.
        source, medium = before.source, medium or sources.referrer_medium(before)
    return Ad(
        platform=place.platform,
        source=source,
        medium=medium,
        campaign=campaign,
        content=found.get("utm_content"),
        term=found.get("utm_term"),
        click_id=found[click.name] if click and click.kind == "click" else None,
        click_id_type=click.name if click and click.kind == "click" else None,
        campaign_id=next((found[name] for name in sources.campaign_ids if name in found), None),
        channel=_channel(click, place, source, _word(medium), campaign, sources),
    )


def _chosen(click: ClickId | None, named: Place | None, before: Place | None, paid: bool, sources: Sources) -> Place:
    """Return the platform of a visit, by click id, `utm_source` and referrer.

    A click id that proves an ad wins over any source. A click id that its platform adds to every outgoing link never
    wins over a known source, because such links are copied; with a paid medium it decides for an unknown source.
    """
    if click is None:
        return named or before or Place(UNKNOWN, None, UNKNOWN)
    own = sources.place(click.platform)
    if named is None:
        is_kin = before is not None and click.paid != "always" and before.platform in click.family
        return before if is_kin and before else own
    if named.platform == click.platform or named.platform in click.family:
        return named
    if click.paid == "always" or (click.paid == "medium" and paid and not named.is_known):
        return own
    return named


def _channel(
    click: ClickId | None, place: Place, source: str | None, medium: str, campaign: str | None, sources: Sources
) -> str:
    paid = sources.is_paid(medium)
    decides = click is not None and (place.platform == click.platform or place.platform in click.family)
    proven = click is not None and click.paid == "always"
    if click and decides and click.channel and (proven or not paid):
        return click.channel
    shop = bool(campaign and _SHOP.search(_word(campaign)))
    return sources.channel(sources.said(place.category, source, medium, shop=shop, proven=proven))


def _word(said: str | None) -> str:
    """Return a word for the rules; empty with an @: an e-mail address becomes an alias, which must not matter."""
    return said.lower() if said and "@" not in said else ""


def _named(source: str, aliases: Mapping[str, str], sources: Sources) -> Place:
    own = aliases.get(name_key(source)) if aliases else None
    return sources.place(own)._replace(is_known=True) if own else sources.named(source)


@lru_cache(maxsize=1024)
def _of_referrer(place: Place, sources: Sources) -> Ad:
    medium = sources.referrer_medium(place)
    channel = sources.channel(sources.said(place.category, None, medium, shop=False, proven=False))
    return Ad(platform=place.platform, source=place.source, medium=medium, channel=channel)


def _place_at(host: str, referrer: str, aliases: Mapping[str, str], sources: Sources) -> Place:
    """Return the place of a visit by its outside referrer."""
    if is_app(referrer):
        return sources.app(host)
    if aliases and (own := next((own for name in suffixes(host) if (own := aliases.get(f"//{name}"))), None)):
        return sources.place(own)
    return sources.at(host)


def outside_host(
    url: str | None, referrer: str | None, *, own_domains: Collection[str] = (), sources: Sources = DEFAULT
) -> str | None:
    """Return the host of the previous page; None if it is not outside of the shop."""
    host = None if referrer and url and _goes_on(url, referrer) else host_of(referrer)
    return host if host and _is_outside(host, host_of(url), frozenset(own_domains), sources) else None


@lru_cache(maxsize=4096)
def _is_outside(host: str, page: str | None, own_domains: frozenset[str], sources: Sources) -> bool:
    """Return whether a host belongs neither to the shop nor to its checkout and payment."""
    own = {registered(name) for name in (page, *map(normal, own_domains)) if name}
    if host == page or not own.isdisjoint((host, registered(host))):
        return False
    if any(suffix in sources.inside for suffix in suffixes(host)):
        return False
    return not _is_shop(host, own, sources) and not _is_bank(host, sources)


def _is_shop(host: str, own: Collection[str], sources: Sources) -> bool:
    """Return whether a host is a shop's host at Shopify, unless the shop's own is known to be another."""
    place = next((f".{suffix}" for suffix in sources.shops if host.endswith(f".{suffix}")), None)
    return place is not None and not any(name.endswith(place) for name in own)


def _is_bank(host: str, sources: Sources) -> bool:
    """Return whether a host has the name of a bank's page for a card's second factor."""
    labels = host.removesuffix(registered(host)).split(".")
    return any(part in sources.labels for label in labels for part in (label, *label.split("-")))
