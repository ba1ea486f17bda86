"""Compute what the stores must hold after a topic is processed: slow, obvious, and written from the contract alone.

It shares no code with the pipeline, not even the decoding, so that one mistake cannot hide on both sides. Only the
lists of referrers, click ids, platforms and bots are shared, as data. It reads as the contract does: `decoding`,
`duplicates`, `touches`, `ids` (which records are of one order), `figures`, `journeys`, `credits`, `attributions`,
`customers`, `products`, `visitors`.

    expected(records).attributions["shop-1:checkout-token"]["credits"]["linear"]
"""

from __future__ import annotations

from truepixel_dagster.audit.oracle.channels import Channels
from truepixel_dagster.audit.oracle.credits import decay_weights, position_weights, split
from truepixel_dagster.audit.oracle.decoding import decode
from truepixel_dagster.audit.oracle.events import Event, event_doc
from truepixel_dagster.audit.oracle.outcome import Expected, expected
from truepixel_dagster.audit.oracle.records import DeadLetter, Record, Shop
from truepixel_dagster.audit.oracle.times import day, week

__all__ = [
    "Channels",
    "DeadLetter",
    "Event",
    "Expected",
    "Record",
    "Shop",
    "day",
    "decay_weights",
    "decode",
    "event_doc",
    "expected",
    "position_weights",
    "split",
    "week",
]
