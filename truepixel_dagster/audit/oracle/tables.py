"""The shared data about the sources of visits: platforms, hosts, click ids, rules of channels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "events" / "data"
PROOF = ("always", "medium", "never")


@dataclass(frozen=True)
class Place:
    """A platform and the category of its place there: one platform may have several, such as search and shopping."""

    platform: str
    category: str | None


@dataclass(frozen=True)
class ClickId:
    """A click id's parameter and what it proves."""

    name: str
    platform: str
    paid: str
    kind: str
    channel: str | None
    family: frozenset[str]

    @property
    def kin(self) -> frozenset[str]:
        """Return the platforms whose links have it."""
        return self.family | {self.platform}


@dataclass(frozen=True)
class Tables:
    """The content of the data files. Names are stored by their key, hosts in lower case without `www.`."""

    names: Mapping[str, Place]
    hosts: Mapping[str, Place]
    apps: Mapping[str, Place]
    categories: Mapping[str, str | None]
    sources: Mapping[str, str]
    inside: frozenset[str]
    shops: tuple[str, ...]
    labels: frozenset[str]
    campaign_ids: tuple[str, ...]
    click_ids: tuple[ClickId, ...]
    paid_medium: Mapping[str, list[str]]
    referrer_medium: Mapping[str, str]
    rules: tuple[Mapping[str, Any], ...]


def key(name: str) -> str:
    """Return the key of a name: `FB-Ads` and `fb ads` are `fbads`."""
    return name.strip().lower().replace(" ", "").replace("-", "").replace("_", "")


def plain(host: str) -> str:
    """Return the key of a host."""
    return host.lower().removeprefix("www.")


def suffixes(host: str) -> list[str]:
    """Return the host and all of its parent domains, longest first."""
    labels = plain(host).split(".")
    return [".".join(labels[place:]) for place in range(len(labels))]


@lru_cache(maxsize=4)
def tables(more: str = "{}") -> Tables:
    """Return the data files of the tree with an operator's additions (docs/channels.md), given as JSON."""
    added: dict[str, Any] = json.loads(more)
    platforms = _read("platforms.json")
    for name, about in added.get("platforms", {}).items():
        own = platforms["platforms"].setdefault(name, {"category": None})
        lists = {each: [*own.get(each, ()), *about.get(each, ())] for each in ("aliases", "hosts", "apps")}
        platforms["platforms"][name] = {**own, **about, **lists}
    inside, clicks, channels = _read("inside.json"), _read("click_ids.json"), _read("channels.json")
    channels["paid_medium"]["equals"] += added.get("paid_mediums", [])
    new = {entry["name"]: entry for entry in added.get("click_ids", ())}
    known = {entry["name"] for entry in clicks["click_ids"]}
    replaced = [new.get(entry["name"], entry) for entry in clicks["click_ids"]]
    clicks["click_ids"] = [*(entry for name, entry in new.items() if name not in known), *replaced]
    inside["hosts"] += added.get("inside", [])
    names: dict[str, Place] = {}
    hosts: dict[str, Place] = {}
    apps: dict[str, Place] = {}
    categories = {name: about["category"] for name, about in platforms["platforms"].items()}
    # An operator's additions come last, so that they win.
    for said in (platforms, added):
        for platform, about in said.get("platforms", {}).items():
            found = Place(platform, categories[platform])
            names |= {key(name): found for name in (platform, *about.get("aliases", ()))}
            hosts |= {plain(host): found for host in about.get("hosts", ())}
            apps |= {app.lower(): found for app in about.get("apps", ())}
        for name, place in said.get("places", {}).items():
            found = Place(place["platform"], place.get("category"))
            if "." in name:
                hosts[plain(name)] = found
            else:
                names[key(name)] = found
    _add_google(names, hosts)
    return Tables(
        names=names,
        hosts=hosts,
        apps=apps,
        categories=categories,
        sources={name: about["source"] for name, about in platforms["platforms"].items() if "source" in about},
        inside=frozenset(map(plain, inside["hosts"])),
        shops=tuple(inside["shops"]),
        labels=frozenset(inside["labels"]),
        campaign_ids=tuple(clicks["campaign_ids"]),
        click_ids=_click_ids(clicks["click_ids"]),
        paid_medium=channels["paid_medium"],
        referrer_medium=channels["referrer_medium"],
        rules=tuple(channels["rules"]),
    )


def _add_google(names: dict[str, Place], hosts: dict[str, Place]) -> None:
    """Add Google's own list of sources, except names and hosts that ours has."""
    found = _read("ga4_sources.json")["sources"]
    entries = [(entry, category) for category, listed in found.items() for entry in listed]
    # Shorter names first: a subdomain belongs to its domain's platform.
    for entry, category in sorted(entries, key=lambda each: each[0].count(".")):
        if "." not in entry:
            names.setdefault(key(entry), Place(entry, category))
            continue
        around = next((hosts[host] for host in suffixes(entry) if host in hosts), None)
        short, _, end = entry.partition(".")
        own = short if short in found[category] and "." not in end else entry
        known = around or names.get(key(own))
        hosts.setdefault(plain(entry), Place(known.platform if known else own, category))


def _click_ids(entries: list[dict[str, Any]]) -> tuple[ClickId, ...]:
    """Return the click ids in the order in which they decide."""
    found = [
        ClickId(
            name=entry["name"],
            platform=entry["platform"],
            paid=entry["paid"],
            kind=entry["kind"],
            channel=entry.get("channel"),
            family=frozenset(entry.get("family", ())),
        )
        for entry in entries
    ]
    return tuple(sorted(found, key=lambda each: PROOF.index(each.paid)))


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / name).read_text("utf-8"))
    return found
