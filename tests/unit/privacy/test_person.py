"""The person of a request: what each record adds, and which texts identify the person."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.events.event import Message
from truepixel_dagster.events.identifiers import CLIENT, CUSTOMER, EMAIL, ORDER, RECORD, TOKEN, Identifier, identifiers
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.privacy_request import CUSTOMER_REDACT, PrivacyRequest
from truepixel_dagster.events.shape import email_hash
from truepixel_dagster.privacy.person import Person, asked_for, learned, names

ANNA, BEN = Identifier(CUSTOMER, "1000000001"), Identifier(CUSTOMER, "1000000002")
DEVICE, ORDER_1, TOKEN_1 = Identifier(CLIENT, "device-1"), Identifier(ORDER, "2000000001"), Identifier(TOKEN, "token-1")
MAIL = Identifier(EMAIL, email_hash("anna@example.com") or "")
ID = st.builds(
    Identifier, st.sampled_from([CLIENT, CUSTOMER, EMAIL, ORDER, TOKEN, RECORD]), st.sampled_from(["a", "b", "c", "d"])
)
IDS = st.frozensets(ID, max_size=6)


def message(value: bytes, key: bytes = b"s:device-1", **headers: bytes) -> Message:
    return Message(Origin("t", 1, 5), key, value, tuple(headers.items()))


def test_a_customers_record_adds_addresses_clients_and_orders() -> None:
    named = frozenset({ANNA, MAIL, DEVICE, ORDER_1, TOKEN_1, Identifier(RECORD, "0/1")})
    added = learned(frozenset({ANNA}), named)
    assert added == {MAIL, DEVICE, ORDER_1, TOKEN_1, Identifier(CLIENT, "token-1")}


def test_a_shared_device_adds_no_other_customer() -> None:
    assert learned(frozenset({ANNA, DEVICE}), frozenset({BEN, MAIL, DEVICE, ORDER_1})) == {DEVICE, ORDER_1}


@given(IDS, IDS)
def test_a_record_without_a_known_id_adds_nothing_and_no_record_adds_a_customer(
    known: frozenset[Identifier], named: frozenset[Identifier]
) -> None:
    added = learned(known, named)
    if not {id_ for id_ in known & named if id_.kind != RECORD}:
        assert not added
    assert not {id_ for id_ in added if id_.kind in (CUSTOMER, RECORD)}
    tokens = {id_.value for id_ in named if id_.kind == TOKEN}
    assert all(id_ in named or (id_.kind == CLIENT and id_.value in tokens) for id_ in added)


@given(IDS, st.lists(IDS, max_size=6))
def test_what_is_learned_does_not_depend_on_the_order_of_records(
    seeds: frozenset[Identifier], records: list[frozenset[Identifier]]
) -> None:
    def closed(order: list[frozenset[Identifier]]) -> frozenset[Identifier]:
        known, before = seeds, frozenset[Identifier]()
        while known != before:
            before = known
            for named in order:
                known |= learned(known, named)
        return known

    assert closed(records) == closed(records[::-1])


def test_a_record_names_what_its_payload_and_key_say() -> None:
    webhook = (
        b'{"id": 2000000001, "checkout_token": "token-1", "customer": {"id": 1000000001, "email": " Anna@Example.com"}}'
    )
    named = identifiers(message(webhook, topic=b"orders/create"))
    assert named == {ANNA, MAIL, DEVICE, ORDER_1, TOKEN_1, Identifier(RECORD, "1/5")}
    pixel = b'{"clientId": "device-1", "data": {"checkout": {"token": "token-1", "order": {"id": "gid://shopify/Order/2000000001"}}}}'
    assert identifiers(message(pixel)) >= {DEVICE, TOKEN_1, ORDER_1}


def test_an_unreadable_record_identifies_only_itself_and_its_key() -> None:
    for value in (b"", b"no json", b"[1]", b'{"customer": 5, "id": true, "token": {}}', b"[" * 100_000):
        assert identifiers(message(value)) == {DEVICE, Identifier(RECORD, "1/5")}
        assert identifiers(message(value, b"nobody")) == {Identifier(RECORD, "1/5")}


def test_a_person_is_found_in_a_text_as_whole_words() -> None:
    person = Person("s", frozenset({ANNA, DEVICE, Identifier(CLIENT, "5")}), frozenset({"anna@example.com"}))
    words = person.words()
    assert words
    found = ["x 1000000001,", "gid://shopify/Customer/1000000001", "ANNA@example.com", "?m=anna%40example.com&x=1"]
    assert all(names(words, message(text.encode(), b"s:c")) for text in found)
    others = ["10000000011", "a1000000001", "joanna@example.com", "device-10", "5"]
    assert not any(names(words, message(text.encode(), b"s:c")) for text in others)
    assert Person("s", frozenset({Identifier(CLIENT, "5")})).words() is None


def test_a_request_names_its_customer_its_address_and_its_orders() -> None:
    request = PrivacyRequest(CUSTOMER_REDACT, "s", "1000000001", MAIL.value, None, ("2000000001",))
    assert asked_for(request) == {ANNA, MAIL, ORDER_1}
