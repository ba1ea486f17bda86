"""The generator of Shopify traffic, and its first profile."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone
from functools import cache, partial
from itertools import islice, pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples, thorough
from truepixel_dagster.local.traffic import DEFAULT_SPAN, DEFAULT_START, FIRST, Record
from truepixel_dagster.local.traffic import traffic as any_traffic

traffic = partial(any_traffic, profile=FIRST)
# Shares of kinds and people are right only over very many records.
pytestmark = thorough()

PIXEL_EVENTS = {
    "page_viewed",
    "product_viewed",
    "collection_viewed",
    "search_submitted",
    "product_added_to_cart",
    "product_removed_from_cart",
    "cart_viewed",
    "checkout_started",
    "checkout_contact_info_submitted",
    "checkout_address_info_submitted",
    "checkout_shipping_info_submitted",
    "payment_info_submitted",
    "checkout_completed",
}
TOPICS = {
    "orders/create",
    "orders/paid",
    "orders/updated",
    "orders/cancelled",
    "refunds/create",
    "checkouts/create",
    "checkouts/update",
    "carts/create",
    "carts/update",
}
CLICK_IDS = {"gclid", "gbraid", "wbraid", "fbclid", "ttclid", "msclkid", "ScCid", "epik", "twclid"}


@cache
def sample() -> tuple[Record, ...]:
    return tuple(traffic(20_000, seed=5, duplicates=0.05, malformed=0.02))


@cache
def events() -> tuple[tuple[Record, Any], ...]:
    return tuple((record, json.loads(record.value)) for record in sample() if record.kind == "event")


def of(*names: str) -> list[tuple[Record, Any]]:
    return [(record, payload) for record, payload in events() if record.name in names]


def ad_of(payload: dict[str, Any]) -> dict[str, list[str]]:
    """The ad parameters of a payload's address."""
    url = payload["context"]["document"]["location"]["href"] if "context" in payload else payload.get("landing_site")
    query = parse_qs(urlsplit(url or "").query)
    return {name: value for name, value in query.items() if name.startswith("utm_") or name in CLICK_IDS}


def event_id(record: Record, payload: Any) -> str:
    given = dict(record.headers).get("event_id")
    return given.decode() if given else f"{record.name}:{payload['id']}:{payload.get('updated_at')}"


# --- Determinism, counts, time ---


@examples(15)
@given(st.integers(0, 400), st.integers(0, 2**32), st.integers(1, 5))
def test_the_same_seed_gives_the_same_bytes_and_exactly_as_many(count: int, seed: int, shops: int) -> None:
    first = list(traffic(count, seed=seed, shops=shops))
    assert len(first) == count
    assert first == list(traffic(count, seed=seed, shops=shops))


def test_the_first_profiles_bytes_are_what_they_always_were() -> None:
    """Benchmarks of different commits are compared by them."""
    digest = hashlib.sha256()
    for record in traffic(20_000, seed=5, malformed=0):
        digest.update(repr((record.key, record.value, record.headers, record.at)).encode())
    assert digest.hexdigest()[:16] == "e705be13ca9a25ea"


def test_another_seed_gives_other_events() -> None:
    first = {record.value for record in traffic(500, seed=1, malformed=0)}
    assert first.isdisjoint(record.value for record in traffic(500, seed=2, malformed=0))


def test_records_come_one_at_a_time_in_memory_that_does_not_grow() -> None:
    stream = traffic(10**9, span=timedelta(days=100_000))
    for _ in islice(stream, 5_000):
        pass
    tracemalloc.start()
    try:
        for _ in islice(stream, 10_000):
            pass
        grown, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 4 * 1024 * 1024  # the records alone are 20 MB


def test_event_times_advance_over_the_span() -> None:
    times = [record.at for record in sample()]
    start = int(DEFAULT_START.timestamp() * 1000)
    span = DEFAULT_SPAN // timedelta(milliseconds=1)
    minute = 60_000
    assert start - minute <= times[0] <= start + minute
    assert max(times) <= start + span + 3 * minute
    quarters = [times[len(times) * part // 4] for part in range(4)] + [times[-1]]
    for earlier, later in pairwise(quarters):
        assert span / 8 < later - earlier < span / 2


def test_a_given_start_moves_every_event() -> None:
    start = datetime(2025, 3, 1, tzinfo=timezone.utc)
    for record in traffic(300, start=start, span=timedelta(hours=2), malformed=0):
        assert start - timedelta(minutes=1) <= datetime.fromtimestamp(record.at / 1000, timezone.utc)
        assert b"2026-" not in record.value


@pytest.mark.parametrize(
    "arguments",
    [
        {"events": -1},
        {"events": 1, "shops": 0},
        {"events": 1, "duplicates": -0.1},
        {"events": 1, "malformed": 1.1},
        {"events": 1, "duplicates": 0.6, "malformed": 0.6},
        {"events": 1, "start": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"events": 1, "span": timedelta(0)},
    ],
)
def test_impossible_arguments_are_refused_at_once(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|shares|needs"):
        traffic(**arguments)


# --- Duplicates, malformed, disorder ---


def test_duplicates_and_malformed_records_have_their_shares() -> None:
    kinds = Counter(record.kind for record in sample())
    assert 0.045 < kinds["duplicate"] / len(sample()) < 0.055
    assert 0.016 < kinds["malformed"] / len(sample()) < 0.024


def test_without_faults_every_record_is_an_event_with_an_id_of_its_own() -> None:
    records = list(traffic(3_000, duplicates=0, malformed=0))
    assert {record.kind for record in records} == {"event"}
    ids = [(record.key.partition(b":")[0], event_id(record, json.loads(record.value))) for record in records]
    assert len(set(ids)) == len(ids)


def test_a_duplicate_repeats_an_earlier_record_byte_for_byte_soon_after_or_much_later() -> None:
    position: dict[tuple[bytes, bytes, Any], int] = {}
    distances = []
    for index, record in enumerate(sample()):
        same = (record.key, record.value, record.headers)
        if record.kind == "duplicate":
            distances.append(index - position[same])
        elif record.kind == "event":
            assert same not in position
            position[same] = index
    assert min(distances) < 20
    assert max(distances) > 2_000


def understood(record: Record) -> bool:
    """Whether a record has what the wire contract asks of every event: a key, an object, an id that is one."""
    try:
        shop, _, client = record.key.decode().partition(":")
        payload = json.loads(record.value.decode())
    except ValueError:
        return False
    if not (shop and client and isinstance(payload, dict)):
        return False
    identity = dict(record.headers).get("event_id") or payload.get("id") or payload.get("token")
    return isinstance(identity, (str, int, bytes)) and bool(identity)


def test_every_malformed_record_and_no_other_breaks_the_wire_contract() -> None:
    for record in sample():
        assert understood(record) == (record.kind != "malformed"), record


def test_malformed_records_are_broken_in_many_ways() -> None:
    broken = [record for record in sample() if record.kind == "malformed"]
    assert any(not record.key for record in broken)
    assert any(record.key and b":" not in record.key for record in broken)
    assert any(record.key.endswith(b":") for record in broken)
    assert any(record.key.startswith(b":") for record in broken)
    assert any(record.key.startswith(b"\xff") for record in broken)
    values = {record.value for record in broken}
    assert {b"", b"null", b'"page_viewed"'} <= values
    assert any(value.startswith(b"{") and not value.endswith(b"}") for value in values)
    assert any(value.startswith(b"[{") for value in values)
    assert any(b"\xc3\x28" in value for value in values)
    assert any(b'"id":{' in value for value in values)
    assert any(value.startswith(b'{"id":null') for value in values)


def test_some_of_a_visitors_events_arrive_out_of_order() -> None:
    latest: dict[bytes, str] = {}
    late = 0
    pixel = [(record, payload) for record, payload in events() if "clientId" in payload]
    for record, payload in pixel:
        late += payload["timestamp"] < latest.get(record.key, "")
        latest[record.key] = max(payload["timestamp"], latest.get(record.key, ""))
    assert 0.01 < late / len(pixel) < 0.1


# --- Shapes ---


def test_every_standard_event_custom_events_and_every_webhook_topic_occur() -> None:
    names = {record.name for record, _ in events()}
    assert names >= PIXEL_EVENTS | TOPICS
    assert len(names - PIXEL_EVENTS - TOPICS) >= 2


def test_pixel_events_are_keyed_by_shop_and_client_and_have_a_full_context() -> None:
    for record, payload in events():
        if "/" in record.name:
            continue
        assert record.key.decode().partition(":")[2] == payload["clientId"]
        assert payload["name"] == record.name
        assert payload["type"] == ("standard" if record.name in PIXEL_EVENTS else "custom")
        location = payload["context"]["document"]["location"]
        assert location["href"] == location["origin"] + location["pathname"] + location["search"]
        assert payload["context"]["navigator"]["userAgent"].startswith("Mozilla/5.0")


def test_headers_say_what_the_payload_says() -> None:
    for record, payload in events():
        headers = dict(record.headers)
        if not headers:
            continue
        if headers["source"] == b"pixel":
            assert headers["event_id"].decode() == payload["id"]
            assert "topic" not in headers
            assert payload["timestamp"] < headers["received_at"].decode()
        else:
            assert headers["topic"].decode() == record.name
        assert headers["shop_domain"].endswith(b".myshopify.com")


def test_records_without_headers_have_a_shape_that_identifies_the_topic() -> None:
    bare = {record.name for record, _ in events() if not record.headers}
    assert "page_viewed" in bare
    assert "orders/create" in bare
    assert bare.isdisjoint({"orders/paid", "orders/updated", "orders/cancelled", "checkouts/update", "carts/create"})


def test_pixel_amounts_are_numbers_with_string_ids_and_webhook_amounts_strings_with_integer_ids() -> None:
    for _, payload in of("product_added_to_cart"):
        line = payload["data"]["cartLine"]
        assert isinstance(line["cost"]["totalAmount"]["amount"], (int, float))
        assert isinstance(line["merchandise"]["product"]["id"], str)
    for _, payload in of("orders/create", "orders/paid", "checkouts/create"):
        assert isinstance(payload["id"], int)
        assert isinstance(payload["total_price"], str)
        assert isinstance(payload["line_items"][0]["product_id"], int)
        assert payload["created_at"][-6] in "+-"


def test_events_are_as_large_as_real_ones() -> None:
    sizes = sorted(len(record.value) for record, _ in events())
    assert 1_200 < sizes[len(sizes) // 10] < sizes[len(sizes) * 9 // 10] < 4_000
    assert 1_500 < sum(sizes) / len(sizes) < 3_000


# --- Shops, ads, journeys, orders ---


def test_a_few_shops_have_most_of_the_traffic_and_all_have_some() -> None:
    shops = Counter(record.key.partition(b":")[0] for record, _ in events())
    counts = [count for _, count in shops.most_common()]
    assert len(counts) == 20
    assert sum(counts[:3]) > 0.4 * sum(counts)
    assert sum(counts[10:]) < 0.25 * sum(counts)


def test_currencies_have_no_two_and_three_decimals() -> None:
    totals = {payload["currency"]: payload["total_price"] for _, payload in of("orders/create")}
    assert {"USD", "EUR", "GBP", "JPY", "KWD"} <= set(totals)
    assert "." not in totals["JPY"]
    assert len(totals["KWD"].partition(".")[2]) == 3
    assert len(totals["USD"].partition(".")[2]) == 2


def test_visits_come_from_ads_with_parameters_a_click_id_or_both_and_from_elsewhere() -> None:
    ads = [ad_of(payload) for _, payload in of("page_viewed")]
    assert {name for ad in ads for name in ad} >= CLICK_IDS | {"utm_source", "utm_medium", "utm_campaign", "utm_term"}
    assert any(ad.keys() <= CLICK_IDS for ad in ads if ad)
    assert any(ad.keys().isdisjoint(CLICK_IDS) for ad in ads if ad)
    assert any(ad.keys() & CLICK_IDS and "utm_source" in ad for ad in ads)
    assert any(not ad for ad in ads)


def test_buyers_have_several_different_touches_before_their_order() -> None:
    touches: dict[bytes, set[str]] = defaultdict(set)
    days: dict[bytes, set[str]] = defaultdict(set)
    counts = []
    spread = []
    for record, payload in events():
        if record.name == "page_viewed" and (ad := ad_of(payload)):
            touches[record.key].add(str(ad))
            days[record.key].add(payload["timestamp"][:10])
        if record.name == "checkout_completed":
            counts.append(len(touches[record.key]))
            spread.append(len(days[record.key]))
    assert len(counts) > 50
    assert sum(count >= 2 for count in counts) > 0.3 * len(counts)
    assert any(count == 0 for count in counts)
    assert any(count >= 2 for count in spread)


def test_visitors_come_back_by_the_same_ad_within_half_an_hour_and_later() -> None:
    last: dict[tuple[bytes, str], datetime] = {}
    gaps = []
    for record, payload in of("page_viewed"):
        if ad := ad_of(payload):
            at = datetime.fromisoformat(payload["timestamp"].replace("Z", "+00:00"))
            if (record.key, str(ad)) in last:
                gaps.append(at - last[record.key, str(ad)])
            last[record.key, str(ad)] = at
    assert sum(timedelta(minutes=2) < gap < timedelta(minutes=30) for gap in gaps) > 20
    assert any(gap > timedelta(minutes=30) for gap in gaps)


@cache
def sightings() -> dict[str, list[tuple[str, bytes, Any]]]:
    """The sightings of each order that has a checkout token, in order of arrival."""
    found: dict[str, list[tuple[str, bytes, Any]]] = defaultdict(list)
    for record, payload in of("checkout_completed", "orders/create", "orders/paid"):
        checkout = payload["data"]["checkout"] if record.name == "checkout_completed" else payload
        token = checkout["token"] if record.name == "checkout_completed" else checkout["checkout_token"]
        if token:
            found[token].append((record.name, record.key, checkout))
    return found


def test_orders_are_seen_by_pixel_by_webhook_or_by_both_in_either_order() -> None:
    orders = [tuple(name for name, _, _ in seen) for seen in sightings().values()]
    assert any(set(names) == {"checkout_completed"} for names in orders)
    assert any("checkout_completed" not in names for names in orders)
    both = [names for names in orders if {"checkout_completed", "orders/create"} <= set(names)]
    first = Counter(min(names.index("checkout_completed"), 1) for names in both)
    assert first[0] > 0.2 * len(both)
    assert first[1] > 0.1 * len(both)


def test_pixel_and_webhook_of_one_order_agree_on_its_value() -> None:
    compared = 0
    for seen in sightings().values():
        pixel = [checkout for name, _, checkout in seen if name == "checkout_completed"]
        webhook = [checkout for name, _, checkout in seen if name == "orders/create"]
        if pixel and webhook:
            compared += 1
            assert pixel[0]["totalPrice"]["amount"] == float(webhook[0]["total_price"])
            assert pixel[0]["currencyCode"] == webhook[0]["currency"]
            assert [line["quantity"] for line in pixel[0]["lineItems"]] == [
                line["quantity"] for line in webhook[0]["line_items"]
            ]
    assert compared > 50


def test_a_webhook_is_keyed_by_the_pixels_client_where_it_is_passed_on_and_else_by_a_token() -> None:
    passed = Counter[bool]()
    for record, payload in of("orders/create", "orders/paid", "checkouts/create"):
        client = record.key.decode().partition(":")[2]
        noted = [note["value"] for note in payload["note_attributes"]]
        passed[bool(noted)] += payload["source_name"] == "web"
        assert client == (noted[0] if noted else payload["cart_token"] or payload["token"])
    assert min(passed[True], passed[False]) > 20
    for seen in sightings().values():
        keys = {key for name, key, checkout in seen if name == "checkout_completed" or checkout["note_attributes"]}
        assert len(keys) <= 1


def test_the_pixels_order_id_is_null_at_times_and_else_the_webhooks() -> None:
    nulls = Counter[bool]()
    for seen in sightings().values():
        webhook = [checkout for name, _, checkout in seen if name == "orders/create"]
        for name, _, checkout in seen:
            if name == "checkout_completed":
                order_id = checkout["order"]["id"]
                nulls[order_id is None] += 1
                if order_id and webhook:
                    assert order_id.rpartition("/")[2] == str(webhook[0]["id"])
    assert min(nulls[True], nulls[False]) > 10


def test_point_of_sale_orders_have_no_token_and_no_landing_site() -> None:
    in_store = [payload for _, payload in of("orders/create") if payload["source_name"] == "pos"]
    assert in_store
    for payload in in_store:
        assert payload["checkout_token"] is payload["cart_token"] is payload["landing_site"] is None


def test_changes_of_an_order_come_after_it_and_name_it() -> None:
    created = {payload["id"]: payload["created_at"] for _, payload in of("orders/create")}
    for record, payload in of("orders/updated", "orders/cancelled", "refunds/create"):
        order_id = payload["order_id"] if record.name == "refunds/create" else payload["id"]
        assert created[order_id] <= payload.get("updated_at", payload["created_at"])
    assert all(payload["cancelled_at"] for _, payload in of("orders/cancelled"))
    assert not any(payload["cancelled_at"] for _, payload in of("orders/create", "orders/paid", "orders/updated"))


def test_orders_have_discounts_several_lines_and_quantities() -> None:
    lines = [payload["line_items"] for _, payload in of("orders/create")]
    assert any(len(items) > 1 for items in lines)
    assert any(line["quantity"] > 1 for items in lines for line in items)
    discounted = [line for items in lines for line in items if line["discount_allocations"]]
    assert discounted
    for line in discounted:
        off = sum(float(allocation["amount"]) for allocation in line["discount_allocations"])
        assert 0 < off < float(line["price"]) * line["quantity"]


def test_some_customers_order_more_than_once() -> None:
    orders: dict[int, set[int]] = defaultdict(set)
    for _, payload in of("orders/create"):
        orders[payload["customer"]["id"]].add(payload["id"])
    assert any(len(ids) > 1 for ids in orders.values())


@pytest.mark.parametrize("count", [2_000, 20_000])
def test_visits_overlap_however_few_events_there_are(count: int) -> None:
    keys = [record.key for record in traffic(count, malformed=0, duplicates=0)]
    visitors = [len(set(keys[index : index + 50])) for index in range(0, count, 50)]
    assert sum(visitors) / len(visitors) > 5
    assert any(key == after != between for key, between, after in zip(keys, keys[1:], keys[2:], strict=False))
