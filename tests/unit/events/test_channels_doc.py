"""docs/channels.md shows the current tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.unit.events.data_tables import table
from truepixel_dagster.events.source_additions import additions
from truepixel_dagster.events.sources import Sources
from truepixel_dagster.events.visits import visit

DOC = (Path(__file__).parents[3] / "docs" / "channels.md").read_text()
DATA = files("truepixel_dagster.events") / "data"
KINDS = {"click": "the click's id", "campaign": "the campaign's id", "mark": "says nothing"}


def code(words: list[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def condition(rule: Mapping[str, Any]) -> str:
    """A rule in words."""
    parts = []
    if rule.get("proven"):
        parts.append("an ad by its click id")
    if rule.get("paid"):
        parts.append("paid")
    if "category" in rule:
        parts.append(f"a place of {code(rule['category'])}")
    if rule.get("campaign_shop"):
        parts.append("a campaign of shopping")
    for field in ("source", "medium"):
        for how, words in (("equals", "is"), ("contains", "contains"), ("ends", "ends with")):
            if f"{field}_{how}" in rule:
                parts.append(f"{field} {words} {code(rule[f'{field}_{how}'])}")
    return " and ".join(parts) or "anything else"


def rules() -> list[str]:
    head = ["| channel | if | whose rule |", "| --- | --- | --- |"]
    return head + [
        f"| `{rule['channel']}` | {condition(rule)} | {'GA4' if rule['ga4'] else 'ours'} |"
        for rule in table("channels")["rules"]
    ]


def click_ids() -> list[str]:
    """In the order in which they decide."""
    entries = table("click_ids")["click_ids"]
    head = [
        "| parameter | platform | proves an ad | its value | channel | family |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    paid = {"always": "always", "medium": "with a paid medium", "never": "never"}
    return head + [
        f"| `{entry['name']}` | {entry['platform']} | {words} | {KINDS[entry['kind']]} |"
        f" {entry.get('channel', '')} | {', '.join(entry.get('family', []))} |"
        for proof, words in paid.items()
        for entry in entries
        if entry["paid"] == proof
    ]


def platforms() -> list[str]:
    by_category: dict[str, list[str]] = {}
    for name, entry in table("platforms")["platforms"].items():
        by_category.setdefault(entry["category"] or "of no kind", []).append(name)
    return ["| kind | platforms |", "| --- | --- |"] + [
        f"| {category} | {', '.join(names)} |" for category, names in sorted(by_category.items())
    ]


TABLES = {"rules": rules, "click ids": click_ids, "platforms": platforms}


@pytest.mark.parametrize("name", TABLES)
def test_the_page_shows_a_table_as_it_is(name: str) -> None:
    shown = DOC.partition(f"<!-- {name} -->\n")[2].partition("\n<!--")[0].splitlines()
    assert shown == TABLES[name]()


def test_the_pages_example_of_additions_is_valid_and_works_as_described() -> None:
    text = re.search(r"```json\n(.*?)```", DOC, re.DOTALL)
    assert text
    more = Sources(additions(text[1]))
    ad = visit("/?utm_source=Meta+Prospecting&utm_medium=ads", None, None, sources=more)
    assert ad
    assert (ad.platform, ad.channel) == ("facebook", "paid_social")
    ad = visit("/?hwid=9", None, None, sources=more)
    assert ad
    assert (ad.platform, ad.click_id, ad.channel) == ("hats-weekly", "9", "email")
    assert visit("/", None, "https://secure.bank.example/", sources=more) is None


def test_the_numbers_on_the_page_are_right() -> None:
    inside = len(table("inside")["hosts"])
    sources = sum(map(len, table("ga4_sources")["sources"].values()))
    hosts = sum(len(entry.get("hosts", ())) for entry in table("platforms")["platforms"].values())
    assert f"{inside} hosts" in DOC
    assert f"{sources} sources" in DOC
    assert f"{hosts} hosts" in DOC
