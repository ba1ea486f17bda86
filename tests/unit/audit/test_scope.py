"""After partitions were added, an audit excuses only differences by the order of a moved user's events."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from truepixel_dagster.audit.compare import Actual, Difference
from truepixel_dagster.audit.scope import of_order

MOVED = frozenset({"s:moved"})


def document(client: str, **ids: str) -> dict[str, Any]:
    return {"shop_id": "s", "client_id": client, **ids}


ACTUAL = Actual(
    events={
        "e1": document("moved", cart_token="of-moved"),
        "e2": document("stayed", cart_token="of-stayed"),
        "e3": {**document("moved", cart_token="elsewhere"), "shop_id": "another"},
    },
    attributions={
        "s:own": document("moved", order_id="1"),
        "s:shared": document("stayed", order_id="2", cart_token="of-moved"),
        "s:other": document("stayed", order_id="3", cart_token="of-stayed"),
        "s:elsewhere": document("stayed", order_id="4", cart_token="elsewhere"),
        "s:nameless": document("stayed"),
    },
)


@pytest.mark.parametrize(
    ("store", "id_", "path", "is_excused"),
    [
        ("attributions", "s:own", "credits.linear[0].amount", True),
        ("attributions", "s:own", "value.amount", False),
        ("attributions", "s:shared", "touches[1]", True),
        ("attributions", "s:other", "touches[1]", False),
        ("attributions", "s:elsewhere", "touches[1]", False),
        ("attributions", "s:nameless", "touches[1]", False),
        ("customers", "s:moved", "last_ad.campaign", True),
        ("customers", "s:moved", "events", False),
        ("customers", "s:stayed", "last_ad.campaign", False),
        ("ad_leads", "s:moved", "touches[0]", True),
        ("events", "e1", "ad.channel", False),
    ],
)
def test_the_order_of_a_moved_user_is_excused_and_nothing_else(
    store: str, id_: str, path: str, is_excused: bool
) -> None:
    difference = Difference(store, id_, "differs", path)
    assert of_order([difference], MOVED, ACTUAL) == [difference] * is_excused


@pytest.mark.parametrize("kind", ["missing", "unexpected"])
def test_a_document_that_one_side_lacks_is_not_excused(kind: Literal["missing", "unexpected"]) -> None:
    assert of_order([Difference("attributions", "s:own", kind)], MOVED, ACTUAL) == []
