"""Where a visit comes from: its platform, source, medium, campaign and channel, as docs/channels.md says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

from truepixel_dagster.audit.oracle.hosts import address, host_name, host_of, is_outside
from truepixel_dagster.audit.oracle.records import Doc, present
from truepixel_dagster.audit.oracle.tables import ClickId, Place, Tables, key, plain, suffixes, tables
from truepixel_dagster.audit.oracle.values import cleaned

LONGEST_PARAMETER = 512
LONGEST_PARAMETER_NAME = 192
UTM = ("source", "medium", "campaign", "content", "term")
NOTHING = ("", "(direct)", "(none)", "(not set)", "null", "undefined")


@dataclass(frozen=True)
class _Source:
    """Where a visit comes from: the place, and the names of its source and medium."""

    place: Place
    source: str | None
    medium: str | None


@dataclass(frozen=True)
class Channels:
    """The rules for visits."""

    tables: Tables = field(default_factory=tables)

    @classmethod
    def with_more(cls, more: str) -> Channels:
        """Return the rules with an operator's additions, given as JSON."""
        return cls(tables(more))

    def visit(
        self, url: str | None, search: str | None, referrer: str | None, own: Iterable[str], aliases: Mapping[str, str]
    ) -> Doc | None:
        """Return the ad of a visit; None if the page is not a visit.

        Arguments:
            url: The page's address.
            search: The page's query, if the address has none.
            referrer: The page before.
            own: The shop's own domains.
            aliases: The shop's own names of platforms.
        """
        names = {key(name): platform for name, platform in aliases.items()}
        names |= {plain(name.strip()): platform for name, platform in aliases.items() if "." in name}
        said = _parameters(_query(url) or _query("?" + (search or "").lstrip("?")))
        came = self._of_referrer(referrer, host_of(url), own, names)
        utm = {name: said.get(f"utm_{name}") for name in UTM}
        clicks = [click for click in self.tables.click_ids if click.name.lower() in said]
        campaign_id = self._campaign_id(said, clicks)
        if not any(utm.values()) and not clicks and not campaign_id:
            return self._ad(came, {}, None, {}) if came else None
        click = clicks[0] if clicks else None
        from_ = self._of_url(utm, click, came, names)
        ids: dict[str, str | None] = {"campaign_id": campaign_id}
        if click and click.kind == "click":
            ids |= {"click_id": said[click.name.lower()], "click_id_type": click.name}
        return self._ad(from_, utm, click, ids)

    def outside(self, url: str | None, referrer: str | None, own: Iterable[str]) -> str | None:
        """Return the referrer's host, if it is outside of the shop."""
        host = host_of(referrer)
        return host if host and is_outside(host, host_of(url), own, self.tables) else None

    # --- The referrer ---

    def _of_referrer(
        self, referrer: str | None, page: str | None, own: Iterable[str], aliases: Mapping[str, str]
    ) -> _Source | None:
        found = address(referrer)
        if found is None or not is_outside(found[1], page, own, self.tables):
            return None
        scheme, host = found
        place = self._place_of_host(host, aliases, is_app=scheme == "android-app")
        source = plain(host)
        if place is None:
            place = Place(source, None)
        else:
            source = self.tables.sources.get(place.platform, place.platform)
        mediums = self.tables.referrer_medium
        return _Source(place, source, mediums.get(place.category or "", mediums[""]))

    def _place_of_host(self, host: str, aliases: Mapping[str, str], *, is_app: bool = False) -> Place | None:
        for domain in suffixes(host):
            if domain in aliases:
                return self._place_of_alias(aliases[domain])
        if is_app:
            return self.tables.apps.get(host)
        return next((self.tables.hosts[domain] for domain in suffixes(host) if domain in self.tables.hosts), None)

    def _place_of_platform(self, platform: str) -> Place:
        return Place(platform, self.tables.categories.get(platform))

    def _place_of_alias(self, platform: str) -> Place:
        return self.tables.names.get(key(platform), Place(platform.lower(), None))

    # --- The URL ---

    def _campaign_id(self, said: Mapping[str, str], clicks: list[ClickId]) -> str | None:
        names = [*self.tables.campaign_ids, *(click.name for click in clicks if click.kind == "campaign")]
        return next((said[name.lower()] for name in names if name.lower() in said), None)

    def _of_url(
        self, utm: Mapping[str, str | None], click: ClickId | None, came: _Source | None, aliases: Mapping[str, str]
    ) -> _Source:
        source, medium = utm["source"], utm["medium"]
        if click is None and source is None:
            if came is None:
                return _Source(Place("unknown", None), None, medium)
            return _Source(came.place, came.source, medium or came.medium)
        if click is None:
            return _Source(self._named(source or "", aliases), source, medium)
        own = self._place_of_platform(click.platform)
        if source is None:
            if click.paid != "always" and came is not None and came.place.platform in click.family:
                return _Source(came.place, None, medium)
            return _Source(own, None, medium)
        named = self._named(source, aliases)
        if named.platform in click.kin:
            return _Source(named, source, medium)
        proves = click.paid == "medium" and self._is_paid(medium) and named.category is None
        return _Source(own if click.paid == "always" or proves else named, source, medium)

    def _named(self, source: str, aliases: Mapping[str, str]) -> Place:
        """Return the place that a `utm_source` names."""
        name = key(source)
        if name in aliases:
            return self._place_of_alias(aliases[name])
        if name in self.tables.names:
            return self.tables.names[name]
        if "." in source and "@" not in source:
            host = host_of(source) or host_name(re.split(r"[/?#\\\s]", source.removeprefix("//"))[0])
            place = self._place_of_host(host, aliases) if host else None
            if place:
                return place
        return Place(source.lower(), None)

    # --- The channel ---

    def _ad(
        self, from_: _Source, utm: Mapping[str, str | None], click: ClickId | None, ids: Mapping[str, str | None]
    ) -> Doc:
        found = {**utm, "source": from_.source, "medium": from_.medium}
        channel = self._channel(from_.place, found, click)
        return present(platform=from_.place.platform, **found, **ids, channel=channel)

    def _channel(self, place: Place, ad: Mapping[str, str | None], click: ClickId | None) -> str:
        proven = click is not None and click.paid == "always"
        if click and click.channel and place.platform in click.kin and (proven or not self._is_paid(ad["medium"])):
            return click.channel
        medium, campaign = _without_address(ad.get("medium")), _without_address(ad.get("campaign"))
        facts = {
            "category": place.category,
            "paid": proven or self._is_paid(medium),
            "proven": proven,
            "source": (ad.get("source") or "").lower(),
            "medium": medium,
            "campaign": campaign,
        }
        return next(str(rule["channel"]) for rule in self.tables.rules if _holds(rule, facts))

    def _is_paid(self, medium: str | None) -> bool:
        written = _without_address(medium)
        paid = self.tables.paid_medium
        contains = any(part in written for part in paid["contains"])
        starts = any(written.startswith(part) for part in paid["starts"])
        return bool(contains or starts or written in paid["equals"])


def _holds(rule: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Return whether all conditions of a rule hold."""
    conditions: dict[str, Callable[[Any], bool]] = {
        "category": lambda wanted: facts["category"] in wanted,
        "paid": lambda wanted: facts["paid"] == wanted,
        "proven": lambda wanted: facts["proven"] == wanted,
        "source_equals": lambda wanted: facts["source"] in wanted,
        "medium_equals": lambda wanted: facts["medium"] in wanted,
        "medium_contains": lambda wanted: any(part in facts["medium"] for part in wanted),
        "medium_ends": lambda wanted: any(facts["medium"].endswith(part) for part in wanted),
        "campaign_shop": lambda _: bool(re.fullmatch(r".*(([^a-df-z]|^)shop|shopping).*", facts["campaign"])),
    }
    return all(conditions[name](wanted) for name, wanted in rule.items() if name not in ("channel", "ga4"))


def _without_address(text: str | None) -> str:
    """Return a text in lower case; empty if it contains an e-mail address."""
    return "" if text is None or "@" in text else text.lower()


def _query(url: str | None) -> str:
    return (url or "").partition("#")[0].partition("?")[2]


def _parameters(query: str) -> dict[str, str]:
    """Return the parameters with a value, by their names in lower case; the first of several values counts."""
    found: dict[str, str] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if len(name) > LONGEST_PARAMETER_NAME:
            continue
        said = cleaned(unquote_plus(value, errors="replace")).strip()[:LONGEST_PARAMETER].strip()
        if said.lower() not in NOTHING:
            found.setdefault(unquote_plus(name, errors="replace").lower(), said)
    return found
