"""Small inputs and the right result of each, as a merchant's admin and Shopify's reports show it.

`NAME.jsonl` is an input of `truepixel produce`, `NAME.json` the documents that the stores must hold afterwards, written
by hand, `NAME.md` the incident and the rule. Each shop of an input is one variant.

A right document names the fields that matter: other fields may be anything, null is an absent field, and a count or an
amount of 0 is the same as none. Attributions and product days are complete, customers who are not named have no orders,
and visitors are complete where they are given.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

FOLDER = Path(__file__).parent
PARTITIONS = 3
# When the records of inputs are written, in milliseconds: later than all clocks in them.
PRODUCED_MS = 1_796_000_000_000

Doc = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """One line of an input."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]

    @property
    def partition(self) -> int:
        """Where the line goes: as with Kafka, all of one key to one partition."""
        return crc32(self.key) % PARTITIONS


@dataclass(frozen=True)
class Case:
    """An input and its right result."""

    name: str
    lines: list[Line]
    right: dict[str, Any]


def cases(folder: Path = FOLDER) -> Iterator[Case]:
    """All inputs of a folder."""
    for path in sorted(folder.glob("*.jsonl")):
        right = path.with_suffix(".json")
        yield Case(path.stem, lines(path), json.loads(right.read_text("utf-8")) if right.exists() else {})


def lines(path: Path) -> list[Line]:
    """The lines of an input. A value that is text is the payload's text as it is."""
    return [_line(json.loads(text)) for text in path.read_text("utf-8").splitlines()]


def _line(entry: Doc) -> Line:
    value = entry["value"] if isinstance(entry["value"], str) else json.dumps(entry["value"])
    headers = tuple((name, text.encode()) for name, text in entry["headers"].items())
    return Line(entry["key"].encode(), value.encode(), headers)


def mistakes(right: Doc, actual: Doc) -> list[str]:
    """Every field in which the stores differ from a case.

    Arguments:
        right: The documents of the case.
        actual: By store (`events`, `touches`, `attributions`, `customers`, `product_stats`, `weekly_visitors`), the
            documents by id.
    """
    found: list[str] = []
    for store in ("attributions", "product_stats"):
        if store in right:
            kept = {id_: doc for id_, doc in actual[store].items() if store == "attributions" or _counts(doc)}
            found += [f"{store} {id_}: unexpected" for id_ in kept.keys() - right[store].keys()]
    if "weekly_visitors" in right:
        others = actual["weekly_visitors"].keys() - right["weekly_visitors"].keys()
        shops = {id_.partition(":")[0] for id_ in right["weekly_visitors"]}
        found += [f"weekly_visitors {id_}: unexpected" for id_ in others if id_.partition(":")[0] in shops]
    if "customers" in right:
        ordering = {id_ for id_, doc in actual["customers"].items() if doc.get("orders")}
        found += [f"customers {id_}: has orders" for id_ in ordering - right["customers"].keys()]
    for store, docs in right.items():
        if store not in ("shops", "dead"):
            for id_, doc in docs.items():
                if doc is not None and id_ not in actual[store] and store in ("attributions", "events"):
                    found.append(f"{store} {id_}: missing")
                found += _unequal(f"{store} {id_}", doc, actual[store].get(id_))
    return found


_NUMBERS = ("views", "carts", "checkouts", "orders", "units", "returned_units")
_AMOUNTS = ("revenue", "returned_revenue")


def _counts(day: Doc) -> bool:
    return any(day.get(name) for name in _NUMBERS) or any(any((day.get(name) or {}).values()) for name in _AMOUNTS)


def _unequal(path: str, right: Any, actual: Any) -> Iterator[str]:
    if isinstance(right, dict):
        if actual is None and any(not _is_nothing(value) for value in right.values()):
            yield f"{path}: missing"
            return
        for name, value in right.items():
            yield from _unequal(f"{path}.{name}", value, actual.get(name) if isinstance(actual, Mapping) else None)
    elif isinstance(right, list) and isinstance(actual, list) and len(right) == len(actual):
        for place, (one, other) in enumerate(zip(right, actual)):
            yield from _unequal(f"{path}[{place}]", one, other)
    elif not (_is_nothing(right) and _is_nothing(actual)) and (right != actual or type(right) is not type(actual)):
        yield f"{path} is {actual!r}, right is {right!r}"


def _is_nothing(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_nothing(each) for each in value.values())
    return value is None or value == 0 or value == []
