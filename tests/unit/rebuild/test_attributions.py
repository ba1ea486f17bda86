"""The plan of a rebuild of orders for its documents."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from truepixel_dagster.rebuild.attributions import _planned
from truepixel_dagster.stores.documents import SCHEMA

CONTEXT: Any = SimpleNamespace()
SETTLING: Any = None


def stored(schema: int) -> dict[str, dict[str, Any]]:
    ids = ["7:1001", "7:token"]
    return {"7:1001": {"_id": "7:1001", "v": 3, "shop_id": "7", "schema": schema, "ids": ids, "nodes": []}}


def test_a_document_without_a_record_is_removed() -> None:
    plan = _planned(CONTEXT, [], stored(SCHEMA), SETTLING, set())
    assert (plan.unnamed, plan.unknown, plan.unreadable) == ({"7:1001"}, set(), [])


def test_a_document_that_cannot_be_read_stays_with_its_attributions() -> None:
    plan = _planned(CONTEXT, [], stored(SCHEMA + 1), SETTLING, set())
    assert (plan.unnamed, plan.unknown, plan.changed) == (set(), {"7:1001", "7:token"}, {})
    assert len(plan.unreadable) == 1
