"""What a real MongoDB refuses: one document is a dead letter, anything else stops the lane with its reason."""

from __future__ import annotations

import pytest
from pymongo import UpdateOne

from tests.integration.driving import all_committed, audited, drain, record, send
from tests.integration.test_dead_letters import refuse, validate
from tests.integration.test_pipeline import completed, pixel
from truepixel_dagster.dead_letters.inspect import listed
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.errors import ServerRefuses
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS, ORDERS


@pytest.mark.parametrize(
    ("collection", "field"), [(CUSTOMERS, "shop_id"), (AD_LEADS, "older"), (ORDERS, "merged_into")]
)
def test_a_unique_index_by_hand_is_named_and_nothing_is_lost(
    settings: Settings, stores: Stores, collection: str, field: str
) -> None:
    stores.mongodb.collection(collection).create_index(field, unique=True, name="by_hand")
    bought = [record(f"s:{c}", completed(c, token=c, query="?utm_source=n")) for c in ("a", "b")]
    paid = {
        "id": 1,
        "checkout_token": "a",
        "created_at": "2026-01-01T12:00:00Z",
        "currency": "USD",
        "total_price": "1.00",
    }
    orders = [
        record("s:a", {**paid, "id": number, "checkout_token": "a"}, topic="orders/create", event_id=f"w{number}")
        for number in (1, 2)
    ]
    send(settings, [*bought, *(orders if collection == ORDERS else [])])
    with pytest.raises(
        ServerRefuses, match=rf"the unique index by_hand of \S+\.{collection}, which TruePixel did not create, rejects"
    ) as stopped:
        drain(settings)
    assert f'db.{collection}.dropIndex("by_hand")' in str(stopped.value)
    assert "\n" not in str(stopped.value)
    assert listed(settings, stores) == []
    stores.mongodb.collection(collection).drop_index("by_hand")
    drain(settings)
    audited(settings, stores)


def test_one_document_that_mongodb_rejects_is_a_dead_letter_with_its_reason(settings: Settings, stores: Stores) -> None:
    refuse(stores, CUSTOMERS, "^s:bad$")
    send(settings, [record("s:bad", pixel("e1")), record("s:good", pixel("e2"))])
    drain(settings)
    (entry,) = listed(settings, stores)
    assert (entry.letter.stage, entry.letter.error) == ("customer", "Document failed validation")
    assert all_committed(settings) == 2


def test_an_update_that_is_refused_is_not_dropped(stores: Stores) -> None:
    validate(stores, ORDERS, {"rank": {"$lt": 0}})
    update = UpdateOne({"_id": "s:token:t"}, {"$max": {"rank": 1}}, upsert=True)
    with pytest.raises(ServerRefuses, match="an update of orders was refused: Document failed validation"):
        stores.mongodb.write(ORDERS, [update])


def test_an_id_belongs_to_one_order_though_two_lanes_meet_it_at_once(stores: Stores) -> None:
    """Both have read that no order has it: the second one reads again."""
    one, other = ({"ids": ["s:token", f"s:{order}"]} for order in ("1", "2"))
    assert stores.mongodb.replace(ORDERS, {"s:1": one}, {}) == (True, {})
    assert stores.mongodb.replace(ORDERS, {"s:2": other}, {}) == (False, {})
    assert list(stores.mongodb.find_by(ORDERS, "ids", ["s:token", "s:2"])) == ["s:1"]
