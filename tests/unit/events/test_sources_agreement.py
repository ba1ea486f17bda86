"""Pipeline and oracle read the channel data alike, whatever the order of its lists."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.examples import sampled
from truepixel_dagster.audit.oracle import tables as oracle_tables
from truepixel_dagster.audit.oracle.tables import Tables
from truepixel_dagster.events import sources
from truepixel_dagster.events.source_additions import additions, name_key
from truepixel_dagster.events.sources import Sources

GA4, PLATFORMS = "ga4_sources.json", "platforms.json"
Read = dict[str, tuple[str, str | None] | None]


def entries() -> Iterator[str]:
    """Every name and host that the data know, and a host within each of these."""
    for listed in oracle_tables._read(GA4)["sources"].values():
        yield from listed
    known = oracle_tables._read(PLATFORMS)
    yield from known["places"]
    for platform, about in known["platforms"].items():
        yield from (platform, *about.get("aliases", ()), *about.get("hosts", ()))


ENTRIES = sorted({*entries(), *(f"in.{entry}" for entry in entries() if "." in entry)})


def of_pipeline(read: Sources) -> Read:
    found: Read = {}
    for entry in ENTRIES:
        place = read.at(entry) if "." in entry else read._names.get(name_key(entry))
        found[entry] = (place.platform, place.category) if place and place.is_known else None
    return found


def of_oracle(read: Tables) -> Read:
    found: Read = {}
    for entry in ENTRIES:
        by_host = (read.hosts[host] for host in oracle_tables.suffixes(entry) if host in read.hosts)
        place = next(by_host, None) if "." in entry else read.names.get(oracle_tables.key(entry))
        found[entry] = (place.platform, place.category) if place else None
    return found


def shuffled(value: Any, arranged: random.Random) -> Any:
    if isinstance(value, list):
        return arranged.sample(value, len(value))
    return {name: shuffled(item, arranged) for name, item in arranged.sample(list(value.items()), len(value))}


def test_pipeline_and_oracle_read_every_name_and_host_alike() -> None:
    assert of_pipeline(Sources()) == of_oracle(oracle_tables.tables())
    assert of_pipeline(Sources())["draft.blogger.com"] == ("blogger", "social")
    assert of_pipeline(Sources())["m.yelp.com"] == ("yelp", "social")


@pytest.mark.parametrize("seed", sampled(range(5)))
def test_the_order_of_the_list_does_not_matter(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`draft.blogger.com` is within `blogger.com`, which is `blogger`: three entries that stand for one platform."""
    right = of_pipeline(Sources())
    plain, typed = oracle_tables._read, sources._read

    def read(name: str) -> dict[str, Any]:
        found = plain(name)
        return {**found, "sources": shuffled(found["sources"], random.Random(seed))} if name == GA4 else found

    def read_as(name: str, type_: Any) -> Any:
        return msgspec.convert(read(name), type_) if name == GA4 else typed(name, type_)

    monkeypatch.setattr(oracle_tables, "_read", read)
    monkeypatch.setattr(sources, "_read", read_as)
    assert of_pipeline(Sources()) == right
    assert of_oracle(oracle_tables.tables.__wrapped__()) == right


@pytest.mark.parametrize(
    "more",
    [
        {"platforms": {"mine": {"category": "email", "hosts": ["bing.com"], "aliases": ["fb"]}}},
        {"platforms": {"google": {"hosts": ["bing.com"], "aliases": ["fb"]}}},
        {"platforms": {"youtube": {"hosts": ["google.com"], "aliases": ["google"]}}},
        {"places": {"bing.com": {"platform": "mine"}, "fb": {"platform": "google", "category": "search"}}},
        {"platforms": {"mine": {"hosts": ["shopping.google.com"], "aliases": ["googleshopping"]}}},
        {"platforms": {"mine": {"hosts": ["blogger.com"]}}},
    ],
)
def test_an_operators_entry_for_a_name_or_a_host_counts(more: dict[str, Any]) -> None:
    text = json.dumps(more)
    ours = of_pipeline(Sources(additions(text)))
    assert ours == of_oracle(oracle_tables.tables(text))
    for platform, about in more.get("platforms", {}).items():
        for entry in (*about.get("hosts", ()), *about.get("aliases", ())):
            assert (ours[entry] or ("", None))[0] == platform
