"""Look up the sources of visits: platforms by their names, hosts and click ids, and the rules of channels.

    >>> from truepixel_dagster.events.sources import DEFAULT
    >>> DEFAULT.named("FB-Ads").platform, DEFAULT.at("l.instagram.com").platform
    ('facebook', 'instagram')

The tables are data: the files of `data/`, each with its source and date (`data/README.md` has their format), and the
operator's additions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, get_args

import msgspec

from truepixel_dagster.events.hosts import host_of

T = TypeVar("T")
Category = Literal["search", "social", "shopping", "video", "email", "ai", "sms", "affiliates", "display", "push"]
UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term")
Channel = Literal[
    "paid_search",
    "organic_search",
    "paid_social",
    "organic_social",
    "paid_shopping",
    "organic_shopping",
    "email",
    "sms",
    "affiliates",
    "display",
    "video",
    "referral",
    "ai_assistant",
    "push",
    "unassigned",
]
CHANNELS = (*get_args(Channel), "direct")


class SourcesError(ValueError):
    """Raised when an operator's additions to the tables are invalid. The message says where and why."""


class Place(NamedTuple):
    """Hold a platform, the kind of its place, GA4's name of it as a source, and whether a table has it."""

    platform: str
    category: str | None
    source: str
    is_known: bool = True


class ClickId(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold a parameter with which a platform marks its outgoing links.

    `paid` says whether its presence proves an ad: `always`, together with a paid `medium`, or `never`. `kind` says what
    its value identifies: the `click`, the `campaign`, or nothing (`mark`). `channel` applies regardless of the medium.
    `family` has other platforms whose links have it.
    """

    name: str
    platform: str
    paid: Literal["always", "medium", "never"]
    kind: Literal["click", "campaign", "mark"] = "click"
    channel: Channel | None = None
    family: tuple[str, ...] = ()


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold a channel and its conditions, which must all hold. `ga4` says whether the rule is Google's or ours."""

    channel: Channel
    ga4: bool
    paid: bool = False
    proven: bool = False
    category: tuple[Category, ...] = ()
    source_equals: tuple[str, ...] = ()
    medium_equals: tuple[str, ...] = ()
    medium_contains: tuple[str, ...] = ()
    medium_ends: tuple[str, ...] = ()
    campaign_shop: bool = False

    def holds(self, said: Said) -> bool:
        """Return whether a visit matches this rule; an earlier matching rule wins."""
        return (
            (not self.paid or said.paid)
            and (not self.proven or said.proven)
            and (not self.category or said.category in self.category)
            and (not self.campaign_shop or said.shop)
            and (not self.source_equals or said.source in self.source_equals)
            and (not self.medium_equals or said.medium in self.medium_equals)
            and (not self.medium_contains or any(word in said.medium for word in self.medium_contains))
            and (not self.medium_ends or said.medium.endswith(self.medium_ends))
        )


class Said(NamedTuple):
    """Hold the input of rules, in lower case. `shop` says whether the campaign's name is about shopping."""

    category: str | None
    source: str
    medium: str
    shop: bool
    paid: bool
    proven: bool


class _PaidMedium(msgspec.Struct, frozen=True):
    contains: tuple[str, ...]
    equals: tuple[str, ...]
    starts: tuple[str, ...]


class _Platform(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    category: Category | None = None
    source: str | None = None
    aliases: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()


class _Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    platform: str
    category: Category | None = None


class Additions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold an operator's additions: entries as in the data files.

    An existing platform gets the names, hosts and apps in addition; its category and GA4's name are replaced. A click
    id precedes others with the same proof, and replaces one of the same name.
    """

    platforms: dict[str, _Platform] = {}
    places: dict[str, _Place] = {}
    click_ids: tuple[ClickId, ...] = ()
    inside: tuple[str, ...] = ()
    paid_mediums: tuple[str, ...] = ()


class _Platforms(msgspec.Struct, frozen=True):
    platforms: dict[str, _Platform]
    places: dict[str, _Place]


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
        joined = _joined(listed.platforms, more.platforms)
        self._add(joined, listed.places)
        # Add them again alone, so that an operator's additions win over the files.
        self._add(_own(joined, more.platforms), more.places)
        self._add_ga4(_read("ga4_sources.json", _Ga4))
        self.inside = frozenset(map(_host, (*inside.hosts, *more.inside)))
        self.shops = frozenset(inside.shops)
        self.labels = frozenset(inside.labels)
        self.click_ids = {entry.name: entry for entry in _ranked(click_ids.click_ids, more.click_ids)}
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

    def _add(self, platforms: Mapping[str, _Platform], places: Mapping[str, _Place]) -> None:
        for name, entry in platforms.items():
            place = Place(name, entry.category, entry.source or name)
            for alias in (name, *entry.aliases):
                self._names[name_key(alias)] = place
            for host in entry.hosts:
                self._hosts[_host(host)] = place
            for package in entry.apps:
                self._apps[package.lower()] = place
        for name, item in places.items():
            known = self._names.get(name_key(item.platform))
            place = Place(item.platform, item.category, known.source if known else item.platform)
            (self._hosts if "." in name else self._names)[_host(name) if "." in name else name_key(name)] = place

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


def name_key(name: str) -> str:
    """Return a name as the tables have it: in lower case, without spaces, hyphens and underscores."""
    return name.translate(_LEFT_OUT).lower()


def suffixes(host: str) -> Iterator[str]:
    """Yield the host and its parent domains: `a.b.c`, `b.c`, `c`."""
    while host:
        yield host
        host = host.partition(".")[2]


def additions(text: bytes | str) -> Additions:
    """Return an operator's additions, from JSON.

    Raises:
        SourcesError: They are invalid.
    """
    try:
        found = msgspec.json.decode(text, type=Additions)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SourcesError(str(error)) from None
    _check(found)
    return found


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


def _check(found: Additions) -> None:
    names = [*found.platforms, *(alias for entry in found.platforms.values() for alias in entry.aliases)]
    names += [name for entry in found.click_ids for name in (entry.name, entry.platform)]
    names += [*found.places, *(entry.platform for entry in found.places.values()), *found.paid_mediums]
    for name in names:
        if not name_key(name):
            raise SourcesError(f"{name!r} is not a name")
        if "@" in name:
            raise SourcesError(f"{name!r} contains an @, and may be an e-mail address")
    hosts = [*found.inside, *(host for entry in found.platforms.values() for host in entry.hosts)]
    for host in hosts:
        if host_of(f"https://{host}/") != host.lower().removeprefix("www."):
            raise SourcesError(f"{host!r} is not a host: write it like shop.example.com")


def _joined(listed: Mapping[str, _Platform], more: Mapping[str, _Platform]) -> dict[str, _Platform]:
    joined = dict(listed)
    for name, entry in more.items():
        before = listed.get(name, _Platform())
        joined[name] = _Platform(
            category=entry.category or before.category,
            source=entry.source or before.source,
            aliases=before.aliases + entry.aliases,
            hosts=before.hosts + entry.hosts,
            apps=before.apps + entry.apps,
        )
    return joined


def _own(joined: Mapping[str, _Platform], more: Mapping[str, _Platform]) -> dict[str, _Platform]:
    """Return the additions' platforms with only the added names and hosts, in the category of the joined platforms."""
    return {
        name: msgspec.structs.replace(entry, category=joined[name].category, source=joined[name].source)
        for name, entry in more.items()
    }


def _ranked(listed: Iterable[ClickId], more: Iterable[ClickId]) -> list[ClickId]:
    """Sort click ids: those that prove an ad by themselves first, then the additions first."""
    added = {entry.name.lower(): entry for entry in more}
    rest = [entry for entry in listed if entry.name.lower() not in added]
    proof = ("always", "medium", "never")
    return sorted([*added.values(), *rest], key=lambda entry: proof.index(entry.paid))


def _host(name: str) -> str:
    return name.lower().removeprefix("www.")


def _read(name: str, type_: type[T]) -> T:
    return msgspec.json.decode((files(__package__) / "data" / name).read_bytes(), type=type_)


_LEFT_OUT = dict.fromkeys(map(ord, " -_\t\n\r\f\v"))
DEFAULT = Sources()
