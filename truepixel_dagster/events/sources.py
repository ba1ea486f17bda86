"""Look up the sources of visits: platforms by their names, hosts and click ids, and the rules of channels.

    >>> from truepixel_dagster.events.sources import DEFAULT
    >>> DEFAULT.named("FB-Ads").platform, DEFAULT.at("l.instagram.com").platform
    ('facebook', 'instagram')

The tables are data: the files of `data/`, each with its source and date (`data/README.md` has their format), and the
operator's additions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from truepixel_dagster.events.channel_rules import Category, Rule, Said
from truepixel_dagster.events.hosts import host_of
from truepixel_dagster.events.source_additions import (
    Additions,
    ClickId,
    NamedPlace,
    Platform,
    SourcesError,
    additions,
    bare_host,
    joined_platforms,
    name_key,
    own_platforms,
    ranked_click_ids,
)

T = TypeVar("T")
UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term")


class Place(NamedTuple):
    """Hold a platform, the kind of its place, GA4's name of it as a source, and whether a table has it."""

    platform: str
    category: str | None
    source: str
    is_known: bool = True


class _PaidMedium(msgspec.Struct, frozen=True):
    contains: tuple[str, ...]
    equals: tuple[str, ...]
    starts: tuple[str, ...]


class _Platforms(msgspec.Struct, frozen=True):
    platforms: dict[str, Platform]
    places: dict[str, NamedPlace]


class _Ga4(msgspec.Struct, frozen=True):
    sources: dict[Category, tuple[str, ...]]


class _Inside(msgspec.Struct, frozen=True):
    hosts: tuple[str, ...]
    shops: tuple[str, ...]
    labels: tuple[str, ...]


class _ClickIds(msgspec.Struct, frozen=True):
    campaign_ids: tuple[str, ...]
    click_ids: tuple[ClickId, ...]


class _Channels(msgspec.Struct, frozen=True):
    paid_medium: _PaidMedium
    referrer_medium: dict[str, str]
    rules: tuple[Rule, ...]


class Sources:
    """Hold the tables, prepared for lookups; they never change.

    `parameters` has the names of a URL's relevant parameters by their lower-case form. `rank` is the precedence of a
    click id among those of one URL; the first one decides.
    """

    def __init__(self, additions: Additions | None = None) -> None:
        more = additions or Additions()
        listed = _read("platforms.json", _Platforms)
        inside = _read("inside.json", _Inside)
        click_ids = _read("click_ids.json", _ClickIds)
        channels = _read("channels.json", _Channels)
        self._names: dict[str, Place] = {}
        self._hosts: dict[str, Place] = {}
        self._apps: dict[str, Place] = {}
        joined = joined_platforms(listed.platforms, more.platforms)
        self._add(joined, listed.places)
        # Add them again alone, so that an operator's additions win over the files.
        self._add(own_platforms(joined, more.platforms), more.places)
        self._add_ga4(_read("ga4_sources.json", _Ga4))
        self.inside = frozenset(map(bare_host, (*inside.hosts, *more.inside)))
        self.shops = frozenset(inside.shops)
        self.labels = frozenset(inside.labels)
        self.click_ids = {entry.name: entry for entry in ranked_click_ids(click_ids.click_ids, more.click_ids)}
        self.ranked = tuple(self.click_ids.values())
        self.rank = {name: number for number, name in enumerate(self.click_ids)}
        campaigns = (name for name, entry in self.click_ids.items() if entry.kind == "campaign")
        self.campaign_ids = (*click_ids.campaign_ids, *campaigns)
        self.parameters = {name.lower(): name for name in (*UTM, *click_ids.campaign_ids, *self.click_ids)}
        self._paid = msgspec.structs.replace(
            channels.paid_medium, equals=(*channels.paid_medium.equals, *(word.lower() for word in more.paid_mediums))
        )
        self._rules = channels.rules
        self._source_words = frozenset(word for rule in channels.rules for word in rule.source_equals)
        self._referrer_medium = channels.referrer_medium
        self.named = lru_cache(maxsize=2048)(self._named)
        self.at = lru_cache(maxsize=2048)(self._at)
        self.channel = lru_cache(maxsize=1024)(self._channel)

    def is_paid(self, medium: str) -> bool:
        """Return whether a medium, in lower case, means a paid click."""
        paid = self._paid
        return medium in paid.equals or medium.startswith(paid.starts) or any(word in medium for word in paid.contains)

    def referrer_medium(self, place: Place) -> str:
        """Return the medium that GA4 gives a visit with only a referrer."""
        return self._referrer_medium.get(place.category or "") or self._referrer_medium[""]

    def said(self, category: str | None, source: str | None, medium: str, *, shop: bool, proven: bool) -> Said:
        """Return the input of rules. A source that no rule names is left out, so that few inputs differ."""
        word = (source or "").lower()
        return Said(
            category,
            word if word in self._source_words else "",
            medium,
            shop,
            proven or self.is_paid(medium),
            proven,
        )

    def app(self, package: str) -> Place:
        """Return the platform of an app that opened the page."""
        return self._apps.get(package) or _unknown(package)

    def place(self, platform: str) -> Place:
        """Return a platform by its own name; an unknown platform has no kind."""
        return self._names.get(name_key(platform)) or _unknown(platform)

    def _named(self, source: str) -> Place:
        """Return the platform that a `utm_source` names; the name in lower case if it is unknown."""
        if found := self._names.get(name_key(source)):
            return found
        lower = source.lower()
        if "." in lower and "@" not in lower:
            host = host_of(lower if "://" in lower else f"https://{lower}")
            if host and (found := self._by_suffix(host)):
                return found
        return _unknown(lower)

    def _at(self, host: str) -> Place:
        """Return the platform of a host; the host without `www.` if it is unknown."""
        return self._by_suffix(host) or _unknown(host.removeprefix("www."))

    def _by_suffix(self, host: str) -> Place | None:
        return next((self._hosts[suffix] for suffix in suffixes(host) if suffix in self._hosts), None)

    def _channel(self, said: Said) -> str:
        return next(rule.channel for rule in self._rules if rule.holds(said))

    def _add(self, platforms: Mapping[str, Platform], places: Mapping[str, NamedPlace]) -> None:
        for name, entry in platforms.items():
            place = Place(name, entry.category, entry.source or name)
            for alias in (name, *entry.aliases):
                self._names[name_key(alias)] = place
            for host in entry.hosts:
                self._hosts[bare_host(host)] = place
            for package in entry.apps:
                self._apps[package.lower()] = place
        for name, item in places.items():
            known = self._names.get(name_key(item.platform))
            place = Place(item.platform, item.category, known.source if known else item.platform)
            (self._hosts if "." in name else self._names)[bare_host(name) if "." in name else name_key(name)] = place

    def _add_ga4(self, listed: _Ga4) -> None:
        """Add GA4's sources to ours. `bebo.com` becomes the platform `bebo` if the list has that name too."""
        entries = [(source, category) for category, sources in listed.sources.items() for source in sources]
        # Add a domain before its hosts, which belong to its platform wherever the list has them.
        for source, category in sorted(entries, key=lambda entry: entry[0].count(".")):
            name = source.rpartition(".")[0]
            platform = name if name in listed.sources[category] else source
            place = Place(platform, category, platform)
            if "." in source and source not in self._hosts:
                found = self._by_suffix(source) or self._names.get(name_key(platform)) or place
                self._hosts[source] = found._replace(category=category)
            elif "." not in source:
                self._names.setdefault(name_key(source), place)


def _unknown(name: str) -> Place:
    return Place(name, None, name, is_known=False)


def suffixes(host: str) -> Iterator[str]:
    """Yield the host and its parent domains: `a.b.c`, `b.c`, `c`."""
    while host:
        yield host
        host = host.partition(".")[2]


def load(path: Path | None) -> Sources:
    """Return the tables with the additions of a JSON file; without a file, unchanged.

    Raises:
        SourcesError: The file cannot be read or is invalid; the message names it.
    """
    if path is None:
        return DEFAULT
    try:
        return Sources(additions(path.read_bytes()))
    except OSError as error:
        raise SourcesError(f"{path}: {error.strerror}") from None
    except SourcesError as error:
        raise SourcesError(f"{path}: {error}") from None


def _read(name: str, type_: type[T]) -> T:
    return msgspec.json.decode((files(__package__) / "data" / name).read_bytes(), type=type_)


DEFAULT = Sources()
