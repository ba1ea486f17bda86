"""Read an operator's additions to the tables of sources, and join them with the data files' entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from truepixel_dagster.events.channel_rules import Category, Channel
from truepixel_dagster.events.hosts import host_of

_LEFT_OUT = dict.fromkeys(map(ord, " -_\t\n\r\f\v"))


class SourcesError(ValueError):
    """Raised when an operator's additions to the tables are invalid. The message says where and why."""


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


class Platform(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold a platform: its kind, GA4's name of it as a source, other names, hosts and apps."""

    category: Category | None = None
    source: str | None = None
    aliases: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()


class NamedPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold the platform of a name or host whose kind differs from the platform's."""

    platform: str
    category: Category | None = None


class Additions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold an operator's additions: entries as in the data files.

    An existing platform gets the names, hosts and apps in addition; its category and GA4's name are replaced. A click
    id precedes others with the same proof, and replaces one of the same name.
    """

    platforms: dict[str, Platform] = {}
    places: dict[str, NamedPlace] = {}
    click_ids: tuple[ClickId, ...] = ()
    inside: tuple[str, ...] = ()
    paid_mediums: tuple[str, ...] = ()


def name_key(name: str) -> str:
    """Return a name as the tables have it: in lower case, without spaces, hyphens and underscores."""
    return name.translate(_LEFT_OUT).lower()


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


def joined_platforms(listed: Mapping[str, Platform], more: Mapping[str, Platform]) -> dict[str, Platform]:
    """Return the platforms of the data files with an operator's additions."""
    joined = dict(listed)
    for name, entry in more.items():
        before = listed.get(name, Platform())
        joined[name] = Platform(
            category=entry.category or before.category,
            source=entry.source or before.source,
            aliases=before.aliases + entry.aliases,
            hosts=before.hosts + entry.hosts,
            apps=before.apps + entry.apps,
        )
    return joined


def own_platforms(joined: Mapping[str, Platform], more: Mapping[str, Platform]) -> dict[str, Platform]:
    """Return the additions' platforms with only the added names and hosts, in the category of the joined platforms."""
    return {
        name: msgspec.structs.replace(entry, category=joined[name].category, source=joined[name].source)
        for name, entry in more.items()
    }


def ranked_click_ids(listed: Iterable[ClickId], more: Iterable[ClickId]) -> list[ClickId]:
    """Sort click ids: those that prove an ad by themselves first, then the additions first."""
    added = {entry.name.lower(): entry for entry in more}
    rest = [entry for entry in listed if entry.name.lower() not in added]
    proof = ("always", "medium", "never")
    return sorted([*added.values(), *rest], key=lambda entry: proof.index(entry.paid))


def bare_host(name: str) -> str:
    """Return a host in lower case, without `www.`."""
    return name.lower().removeprefix("www.")
