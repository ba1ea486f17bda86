"""Events of the pixel are accepted or rejected individually, with regard to consent, and never dead letters."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.test_pipeline import completed, pixel
from truepixel_dagster.collector.consent import without_person
from truepixel_dagster.collector.pixel import (
    DROP,
    MAX_EVENT_BYTES,
    STRIP,
    BadBatch,
    Batch,
    Dropped,
    Refused,
    Taken,
    judge,
    split,
)
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message, iso
from truepixel_dagster.events.origin import Origin

NOW = int(time.time() * 1000)
REFUSES = {"analyticsProcessingAllowed": False, "marketingAllowed": False}
VISIT: dict[str, Any] = {
    **pixel("e1", at=iso(NOW - 60_000), query="?utm_source=fb&utm_medium=cpc&fbclid=F&x=1"),
    "clientId": "c-1",
}


def judged(
    event: Any, *, batch: Batch | None = None, consent: str = STRIP, agent: str = ""
) -> Taken | Refused | Dropped:
    raw = event if isinstance(event, bytes) else msgspec.json.encode(event)
    batch = batch or Batch([raw])
    return judge(raw, batch, shop="s", domain="d.myshopify.com", now=NOW, consent=consent, agent=agent)


def decoded(taken: Taken | Refused | Dropped) -> Event:
    assert isinstance(taken, Taken), taken
    event = decode(Message(Origin("t", 0, 0), taken.record.key, taken.record.value, taken.record.headers, NOW))
    assert isinstance(event, Event), event
    return event


def test_a_batch_may_be_one_event_a_list_or_an_object_with_consent() -> None:
    one = msgspec.json.encode(VISIT)
    assert split(b"\xef\xbb\xbf " + one + b"\n") == Batch([one])
    assert split(b"[" + one + b" , " + one + b"]") == Batch([one, one])
    envelope = b'{"events": [' + one + b'], "customerPrivacy": {"analyticsProcessingAllowed": false}}'
    assert split(envelope) == Batch([one], refused=True)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"events": []}', b"7", b'"x"', b"[1", b"\xff", b"{" * 2000, b"[" * 5000]
)
def test_an_invalid_batch_is_rejected_with_the_reason(body: bytes) -> None:
    with pytest.raises(BadBatch, match=r"\w+"):
        split(body)


def test_a_batch_has_a_bound() -> None:
    assert len(split(b"[" + b",".join([b"{}"] * 256) + b"]").events) == 256
    with pytest.raises(BadBatch, match="256"):
        split(b"[" + b",".join([b"{}"] * 257) + b"]")


def test_an_event_is_passed_on_unchanged() -> None:
    raw = json.dumps(VISIT, indent=1).encode()
    taken = judged(raw)
    assert isinstance(taken, Taken)
    assert (taken.record.key, taken.record.value) == (b"s:c-1", raw)
    assert dict(taken.record.headers) == {
        "source": b"pixel",
        "shop_domain": b"d.myshopify.com",
        "received_at": iso(NOW).encode(),
    }
    assert decoded(taken).ad is not None


def test_a_pixel_event_of_a_checkout_stores_its_client() -> None:
    event = {**completed("e2", "token-1", at=iso(NOW)), "clientId": "c-1"}
    taken = judged(event)
    assert isinstance(taken, Taken)
    assert (taken.client, taken.tokens) == ("c-1", ("token-1",))
    nobody = judged({**event, "clientId": "undefined"})
    assert isinstance(nobody, Taken)
    assert nobody.client is None


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (7, "object"),
        ({**VISIT, "id": None}, "no event id"),
        ({**VISIT, "name": ""}, "no event name"),
        ({**VISIT, "id": "x" * 300}, "longer than 256"),
        ({**VISIT, "clientId": "x" * 300}, "longer than"),
        ({**VISIT, "clientId": "a\nb"}, "control characters"),
        ({**VISIT, "timestamp": 7}, "timestamp"),
        ({**VISIT, "filler": "x" * MAX_EVENT_BYTES}, f"larger than {MAX_EVENT_BYTES}"),
        (b'{"a": "\xff"}', "UTF-8|utf-8"),
        (b'{"x":' * 300 + b"1" + b"}" * 300, "nested|deep|recursion"),
    ],
)
def test_each_refusal_has_one_reason(event: Any, reason: str) -> None:
    found = judged(event)
    assert isinstance(found, Refused)
    assert "\n" not in found.reason
    import re

    assert re.search(reason, found.reason), found.reason


def test_without_consent_an_event_is_dropped_or_loses_its_client() -> None:
    event = {**completed("e2", "token-1", at=iso(NOW)), "clientId": "c-1", "customerPrivacy": REFUSES}
    event["data"]["checkout"] |= {"email": "a@b.example", "phone": "+1", "shippingAddress": {"city": "Ulm"}}
    event["context"] = VISIT["context"]
    assert judged(event, consent=DROP) == Dropped()
    taken = judged(event)
    found = decoded(taken)
    assert isinstance(taken, Taken)
    assert (found.client_id, found.anonymous, taken.client, taken.tokens) == ("", True, None, ())
    assert taken.record.key == b"s:"
    for word in (b"c-1", b"a@b.example", b"Ulm", b"+1", b"fbclid", b"x=1"):
        assert word not in taken.record.value
    assert b"utm_source=fb" in taken.record.value
    assert found.value is not None


def test_a_batch_without_consent_is_so_for_each_event() -> None:
    raw = msgspec.json.encode({**VISIT, "customerPrivacy": {"analyticsProcessingAllowed": True}})
    assert judged(raw, batch=Batch([raw], refused=True), consent=DROP) == Dropped()


@pytest.mark.parametrize(
    "privacy", [None, {}, [], "no", {"analyticsProcessingAllowed": True}, {"marketingAllowed": False}]
)
def test_a_consent_without_analytics_is_allowed(privacy: Any) -> None:
    assert isinstance(judged({**VISIT, "customerPrivacy": privacy}, consent=DROP), Taken)


def test_a_bot_is_marked() -> None:
    agent = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    # A record whose event has the same value is passed on unchanged, another one is not.
    honest = {**VISIT, "context": {"navigator": {"userAgent": agent}}}
    taken = judged(honest, agent=agent)
    assert isinstance(taken, Taken)
    assert taken.record.value == msgspec.json.encode(honest)
    for forged in (VISIT, {**VISIT, "context": {"navigator": {"userAgent": "Mozilla/5.0", "language": "de"}}}):
        taken = judged(forged, agent=agent)
        assert isinstance(taken, Taken)
        assert taken.client is None
        assert decoded(taken).bot
        assert decoded(taken).event_id == VISIT["id"]


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://u:p@a.example/p?utm_source=x&gclid=G#top", "https://a.example/p?utm_source=x"),
        ("/p?email=a@b.example", "/p"),
        ("https://[bad/", ""),
        ("?UTM_Source=y&_kx=1", "?UTM_Source=y"),
    ],
)
def test_an_address_keeps_its_campaign_and_nothing_of_a_person(url: str, kept: str) -> None:
    assert json.loads(without_person({"context": {"href": url}}))["context"]["href"] == kept


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["id", "href", "clientId", "data", "checkout", "lineItems", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
NAMES = ("id", "name", "clientId", "timestamp", "data", "context", "customerPrivacy")


@given(st.dictionaries(st.sampled_from(NAMES), values), st.sampled_from([STRIP, DROP]), st.booleans())
def test_every_event_is_judged_and_every_accepted_one_decoded(event: Any, consent: str, whole: bool) -> None:
    raw = json.dumps({**VISIT, **event} if whole else event).encode()
    for batch in (Batch([raw]), Batch([raw], refused=True)):
        found = judged(raw, batch=batch, consent=consent)
        if isinstance(found, Taken):
            message = Message(Origin("t", 0, 0), found.record.key, found.record.value, found.record.headers, NOW)
            assert not isinstance(decode(message), Undecodable)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_batch_or_rejected(body: bytes) -> None:
    try:
        batch = split(body)
    except BadBatch:
        return
    for event in batch.events:
        judged(event, batch=batch)


def test_half_of_a_surrogate_pair_costs_no_event_of_a_batch() -> None:
    # As JSON.stringify writes a title that was cut in the middle of an emoji.
    event = rb'{"id": "e-1", "name": "page_viewed", "clientId": "c", "context": {"document": {"title": "hat \ud83c"}}}'
    for body in (event, b"[" + event + b"]", b'{"events": [' + event + b"]}"):
        batch = split(body)
        assert len(batch.events) == 1
        found = judge(batch.events[0], batch, shop="1", domain="d", now=NOW, consent="strip", agent="")
        assert isinstance(found, Taken)
        assert found.client == "c"
