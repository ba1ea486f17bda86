"""Hostile input: everything becomes an event within bounds, or a dead letter with a reason in one line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.user_key import parse_user_key
from truepixel_dagster.events.visits import visit
from truepixel_dagster.local.traffic import traffic
from truepixel_dagster.stages.index import document

RECORDS = [record for record in traffic(400, seed=9, malformed=0) if record.kind == "event"]
HOSTILE: list[Any] = [
    None, True, -1, 10**400, 1e308, "", "x" * 100_000, "\x00", "\ud800", "$where", "a.b", "{}", "' or 1=1", [], {},
    [[]] * 50, {"$set": {"a": 1}}, "2026-13-45T99:99:99Z", "9" * 500, "1e9999999", "NaN", "-0", {"amount": "lots"},
]  # fmt: skip
MAX_ID_BYTES, MAX_TEXT, MAX_PRODUCTS, MAX_KEYWORD_BYTES = 512, 4096, 2000, 32_766


def message(value: bytes, key: bytes = b"shop:client", headers: tuple[tuple[str, bytes], ...] = ()) -> Message:
    return Message(Origin("t", 0, 0), key, value, headers, 1_767_600_000_000)


def check(decoded: Event | Undecodable) -> None:
    if isinstance(decoded, Undecodable):
        assert decoded.reason
        assert "\n" not in decoded.reason
        assert len(decoded.reason) <= 1000
        return
    assert len(decoded.document_id.encode()) <= MAX_ID_BYTES
    assert len(decoded.product_ids) <= MAX_PRODUCTS
    assert len(decoded.items) <= MAX_PRODUCTS
    written = json.loads(document(decoded))
    del written["payload"]
    for text in texts(written):
        assert len(text) <= MAX_TEXT
        assert len(text.encode()) <= MAX_KEYWORD_BYTES


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in texts(inner)]
    return [value] if isinstance(value, str) else []


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, item in inner for place in places(item, (*path, name)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@given(st.data())
def test_a_real_payload_with_hostile_values_in_it_is_within_bounds_or_a_dead_letter(data: st.DataObject) -> None:
    record = data.draw(st.sampled_from(RECORDS))
    payload = json.loads(record.value)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(places(payload)))
        payload = replaced(payload, place, data.draw(st.sampled_from(HOSTILE)))
    check(decode(message(json.dumps(payload).encode(), record.key, record.headers)))


@given(st.sampled_from(RECORDS), st.data())
def test_a_real_record_with_bytes_changed_is_within_bounds_or_a_dead_letter(record: Any, data: st.DataObject) -> None:
    value = bytearray(record.value)
    for _ in range(data.draw(st.integers(1, 8))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    check(decode(message(bytes(value), record.key, record.headers)))


@given(
    st.dictionaries(st.sampled_from(["source", "topic", "event_id", "received_at", "shop_domain", "x"]), st.binary())
)
def test_any_headers_are_within_bounds_or_a_dead_letter(headers: dict[str, bytes]) -> None:
    check(decode(message(RECORDS[0].value, headers=tuple(headers.items()))))


@given(st.binary(max_size=600))
@example(b"s:" + b"c" * 257)
@example(b"s\x00:c")
@example("s:\u2028".encode())
def test_a_key_is_a_shop_and_a_client_within_bounds_or_no_key(key: bytes) -> None:
    refusal = None
    try:
        shop, client = parse_user_key(key)
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        assert refusal
        assert "\n" not in refusal
        return
    assert f"{shop}:{client}".encode() == key
    assert shop
    assert ":" not in shop
    assert client
    assert len(key) <= 400


PARAMETER = st.builds(
    "{}={}".format, st.sampled_from(["utm_source", "utm_campaign", "gclid", "fbclid", "x"]), st.text(max_size=300)
)


@given(st.text(max_size=300) | st.builds(lambda names: "https://x/?" + "&".join(names), st.lists(PARAMETER)))
@example("https://x/?" + "&".join(f"utm_source={number}" for number in range(5000)))
@example("https://x/?gclid=" + "g" * 100_000)
def test_an_address_has_an_ad_within_bounds_or_none(url: str) -> None:
    ad = visit(url, None, None)
    for value in (ad.source, ad.medium, ad.campaign, ad.content, ad.term, ad.click_id) if ad else ():
        assert value is None or len(value) <= MAX_TEXT


@pytest.mark.parametrize("depth", [1_000, 100_000, 1_000_000])
def test_nesting_is_refused_before_it_costs_anything(depth: int) -> None:
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        value = b'{"id":"e","name":"n","clientId":"c","x":' + (opening * depth + "1" + closing * depth).encode() + b"}"
        assert isinstance(decode(message(value)), Undecodable)


def test_an_oversized_message_is_a_dead_letter() -> None:
    value = b'{"id":"e","name":"n","clientId":"c","x":"' + b"x" * (41 * 1024 * 1024) + b'"}'
    assert isinstance(decode(message(value)), Undecodable)
