"""Parses docs/documents.md, and lists what it must describe: the mappings and the structs of written documents."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.order import OrderPayload, Refund, RefundedLine, SoldLine
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.touch import Touch
from truepixel_dagster.orders.cluster import Cluster
from truepixel_dagster.orders.credit import Credit
from truepixel_dagster.source_log import KnownLog
from truepixel_dagster.stages.ad_lead import Lead
from truepixel_dagster.stages.customer import Profile
from truepixel_dagster.stores.connections import Connection
from truepixel_dagster.stores.fields import fields_of, fields_of_mapping
from truepixel_dagster.stores.index_templates import TEMPLATES, template
from truepixel_dagster.stores.privacy_requests import Waiting
from truepixel_dagster.stores.redactions import Kept
from truepixel_dagster.stores.shops import Known

PAGE = Path(__file__).parents[1] / "docs" / "documents.md"
PARTS = {
    "money": Money,
    "record": Origin,
    "ad": Ad,
    "credit": Credit,
    "touch": Touch,
    "payload": OrderPayload,
    "line": SoldLine,
    "refund": Refund,
    "returned": RefundedLine,
}
_ALWAYS = {"_id": "text", "schema": "integer"}
_REPLACED = {**_ALWAYS, "v": "integer"}
# By collection: the struct of its documents, and the fields that are written beside it.
COLLECTIONS: Mapping[str, tuple[type, Mapping[str, str]]] = {
    "ad_leads": (Lead, _REPLACED),
    "customers": (Profile, {**_REPLACED, "shop_id": "text", "client_id": "text"}),
    "orders": (Cluster, _REPLACED),
    "shops": (Known, _REPLACED),
    "connections": (Connection, _REPLACED),
    "privacy_requests": (
        Waiting,
        {
            **_ALWAYS,
            "topic": "text",
            "state": "text",
            "done_at": "integer",
            "documents": "object of integer",
            "file": "text",
            "subject": "list of text",
            "done_by": "text",
        },
    ),
    "redactions": (Kept, {**_ALWAYS, "shop": "text", "value": "text"}),
    "identities": (
        KnownLog,
        {
            "_id": "text",
            "older": "list of object",
            "epoch": "text",
            "writes": "integer",
            "last": "object of integer",
            "found_at": "object of integer",
        },
    ),
}


class Row(NamedTuple):
    """One row of a table: the field's full name, its type, and its example as JSON."""

    field: str
    type: str
    example: str


def described(chapter: str) -> dict[str, list[Row]]:
    """Return the rows of a chapter by section; those before the first section have no name."""
    text = PAGE.read_text().partition(f"\n## {chapter}\n")[2].partition("\n## ")[0]
    return {
        section.partition("\n")[0]: list(_rows(section)) for section in re.split(r"^### ", text, flags=re.MULTILINE)
    }


def _rows(section: str) -> Iterator[Row]:
    for line in section.splitlines():
        if line.startswith("| `"):
            field, kind, _, _, example = (cell.strip() for cell in line.strip("|").split("|"))
            yield Row(field.strip("`"), re.sub(r"\[(\w+)\]\(#\1\)", r"\1", kind).replace("`", ""), example.strip("`"))


def of_indices() -> dict[str, dict[str, str]]:
    """Return the types of every index's fields."""
    return {name: fields_of_mapping(template(name, "", 0)["template"]["mappings"], PARTS) for name in TEMPLATES}


def of_collections() -> dict[str, dict[str, str]]:
    """Return the types of every collection's fields. The field `id` of a struct is `_id`."""
    found = {name: {**fields_of(kind, PARTS), **more} for name, (kind, more) in COLLECTIONS.items()}
    return {name: {field: kind for field, kind in own.items() if field != "id"} for name, own in found.items()}


def of_parts() -> dict[str, dict[str, str]]:
    """Return the types of every part's fields."""
    return {name: fields_of(kind, PARTS) for name, kind in PARTS.items()}


def undescribed(collection: str, document: Mapping[str, Any]) -> list[str]:
    """Return the fields of a stored document that the page does not describe."""
    return list(_undescribed(document, {row.field: row.type for row in described("MongoDB")[collection]}))


def _undescribed(value: Any, known: Mapping[str, str], path: str = "") -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _undescribed(each, known, path)
    elif isinstance(value, Mapping):
        for name, own in value.items():
            full = f"{path}.{name}".lstrip(".")
            part = known.get(full, "").removeprefix("list of ")
            if part in PARTS:
                yield from (f"{full}.{each}" for each in _undescribed(own, of_parts()[part]))
            elif full not in known:
                inside = any(field.startswith(f"{full}.") for field in known)
                yield from _undescribed(own, known, full) if inside else [full]


def is_described(key: str) -> bool:
    """Return whether the page describes a key of Redis, which is given without the namespace."""
    patterns = (re.escape(row.field) for row in described("Redis")[""])
    return any(re.fullmatch(re.sub("<[a-z]+>", "[^:]+", pattern), key) for pattern in patterns)
