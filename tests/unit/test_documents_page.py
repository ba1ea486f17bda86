"""docs/documents.md names every field of every document with its type, and none that does not exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import truepixel_dagster
from tests import documents_page as page
from truepixel_dagster.events.times import to_millis

SOURCE = Path(truepixel_dagster.__file__).parent
CHAPTERS = ("Parts", "Elasticsearch", "MongoDB", "Redis")
INTEGERS, TEXTS = ("integer", "long"), ("text", "keyword")


def types(chapter: str) -> dict[str, dict[str, str]]:
    """The fields that a chapter describes with their types, by section."""
    return {section: {row.field: row.type for row in rows} for section, rows in page.described(chapter).items() if rows}


def test_parts_are_the_structs_that_documents_share() -> None:
    assert types("Parts") == page.of_parts()


def test_every_field_of_an_index_is_described_as_its_mapping_has_it() -> None:
    assert types("Elasticsearch") == page.of_indices()


def test_every_field_of_a_collection_is_described_as_it_is_written() -> None:
    assert types("MongoDB") == page.of_collections()


def test_every_kind_of_redis_key_is_described() -> None:
    """The kinds are the first parts of keys, as the code that makes keys names them."""
    stores = SOURCE / "stores"
    files = [*(stores / "redis").glob("*.py"), stores / "epoch.py"]
    code = "".join(file.read_text() for file in files)
    named = re.findall(r'_key\("([\w-]+)"', code) + re.findall(r"(?:prefix|namespace)\}:([a-z]+)", code) + ["client"]
    described = [row.field.partition(":")[0] for row in page.described("Redis")[""]]
    assert set(described) == set(named)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_field_is_described_twice(chapter: str) -> None:
    for rows in page.described(chapter).values():
        fields = [row.field for row in rows]
        assert len(fields) == len(set(fields))


@pytest.mark.parametrize("chapter", ["Parts", "Elasticsearch", "MongoDB"])
def test_every_example_is_of_its_type(chapter: str) -> None:
    for section, rows in page.described(chapter).items():
        for row in rows:
            assert is_of(json.loads(row.example), row.type.removesuffix(", not indexed")), f"{section}: {row}"


def is_of(value: Any, kind: str) -> bool:
    if kind == "date":
        return isinstance(value, str) and (bool(re.fullmatch(r"\d{4}-\d\d-\d\d", value)) or to_millis(value) > 0)
    if item := kind.removeprefix("list of ") if kind.startswith("list of ") else None:
        return isinstance(value, list) and all(is_of(each, item) for each in value)
    if item := kind.removeprefix("object of ") if kind.startswith("object of ") else None:
        return isinstance(value, dict) and all(is_of(each, item) for each in value.values())
    if (kind := kind.removeprefix("nested ")) in page.PARTS:
        # In Elasticsearch a field may hold a list of what its mapping says.
        values = value if isinstance(value, list) else [value]
        fields = page.of_parts()[kind]
        return all(is_of(own, fields[name]) for each in values for name, own in each.items())
    if kind in TEXTS and isinstance(value, list):
        return all(isinstance(each, str) for each in value)
    wanted = {"boolean": bool, "double": float, "object": dict, "list": list} | dict.fromkeys(INTEGERS, int)
    return isinstance(value, wanted.get(kind, str)) and not (kind in INTEGERS and isinstance(value, bool))


def test_an_undescribed_field_is_found() -> None:
    touch = {"event_id": "e", "at": "2026-01-31T09:30:00.000Z", "ad": {"platform": "google", "x": 1}}
    lead = {"_id": "shop:client", "touches": [touch], "orders": [{"until": 1, "y": 2}], "z": {"platform": 3}}
    assert page.undescribed("ad_leads", lead) == ["touches.ad.x", "orders.y", "z"]
    assert page.undescribed("customers", {"_id": "shop:client", "revenue": {"EUR": 1999}}) == []
    described = {"claim:shop:product:2026-01-31", "lease:taken:next:11", "applied"}
    assert {key for key in (*described, "claim:shop", "other") if page.is_described(key)} == described
