"""Generated traffic with everything that shops have: how often each kind occurs, and that its figures add up."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples, thorough
from truepixel_dagster.events import bots
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.local.payloads.model import Order
from truepixel_dagster.local.traffic import FIRST, FULL, Placed, Record, traffic

# Shares of kinds and people are right only over very many records.
pytestmark = thorough()

NO_CLIENTS = {"undefined", "null", "nan", "", "anonymous", "00000000-0000-0000-0000-000000000000"}
ORDERS = "orders/"


class Sample(NamedTuple):
    records: list[Record]
    placed: list[Placed]


@cache
def sample() -> Sample:
    placed: list[Placed] = []
    return Sample(list(traffic(110_000, seed=5, profile=FULL, placed=placed)), placed)


@cache
def pixels() -> list[tuple[Record, Any]]:
    """Many of the pixel's events; to read all of them takes long."""
    return [(record, json.loads(record.value)) for record in events()[:40_000] if "/" not in record.name]


@cache
def completions() -> list[Any]:
    """The checkouts of all `checkout_completed`."""
    named = [record.value for record in events() if record.name == "checkout_completed"]
    return [json.loads(value)["data"]["checkout"] for value in named]


@cache
def webhooks() -> list[tuple[Record, Any]]:
    return [(record, json.loads(record.value)) for record in events() if "/" in record.name]


is_bot = cache(bots.is_bot)


@cache
def events() -> list[Record]:
    return [record for record in sample().records if record.kind == "event"]


def orders(*topics: str) -> list[Any]:
    """The payloads that show an order, of some topics or of all."""
    return [
        payload
        for record, payload in webhooks()
        if "financial_status" in payload and (record.name in topics or not topics)
    ]


def online() -> list[Placed]:
    return [placed for placed in sample().placed if placed.order.purchase.checkout_token]


def share(items: list[Any], condition: Any) -> float:
    return sum(map(bool, map(condition, items))) / len(items)


def said(payload: Any) -> str:
    agent: str = payload["context"]["navigator"]["userAgent"]
    return agent


def header(record: Record, *names: str) -> str:
    return next((value.decode() for name, value in record.headers if name in names), "")


# --- Understood ---


@examples(6)
@given(st.integers(0, 2**32), st.integers(1, 8))
def test_the_pipeline_decodes_everything_except_malformed_records(seed: int, shops: int) -> None:
    for number, record in enumerate(traffic(3_000, seed=seed, shops=shops, malformed=0.02, profile=FULL)):
        message = Message(Origin("events", 0, number), record.key, record.value, record.headers, record.at)
        read = decode(message)
        if record.kind != "duplicate":
            assert isinstance(read, Undecodable) == (record.kind == "malformed"), (read, record)


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert list(traffic(3_000, seed=8, profile=FULL)) == list(traffic(3_000, seed=8, profile=FULL))


def test_writing_down_what_is_true_changes_no_byte() -> None:
    assert list(traffic(3_000, seed=8, profile=FULL)) == list(traffic(3_000, seed=8, profile=FULL, placed=[]))


def test_no_two_webhooks_of_a_shop_and_topic_share_an_id() -> None:
    ids = Counter((record.key.partition(b":")[0], record.name, header(record, *IDS)) for record, _ in webhooks())
    assert {count for (_, _, id_), count in ids.items() if id_} == {1}


IDS = ("event_id", "X-Shopify-Webhook-Id", "Shopify-Webhook-Id")


# --- Visits ---


def test_a_fifth_of_the_pixel_events_are_of_crawlers_which_buy_nothing() -> None:
    of_bots = [payload for _, payload in pixels() if is_bot(said(payload))]
    assert 0.15 < len(of_bots) / len(pixels()) < 0.25
    assert {payload["name"] for payload in of_bots} == {"page_viewed", "product_viewed"}
    assert len({said(payload) for payload in of_bots}) >= 5


@cache
def landings() -> list[Any]:
    """The first pages that people's browsers show: those whose referrer is no page of the shop's."""
    return [
        payload
        for _, payload in pixels()
        if payload["name"] == "page_viewed"
        and not is_bot(said(payload))
        and urlsplit(payload["context"]["document"]["referrer"]).hostname
        != payload["context"]["document"]["location"]["hostname"]
    ]


def query_of(payload: Any) -> list[tuple[str, str]]:
    return parse_qsl(payload["context"]["document"]["location"]["search"].lstrip("?"))


def referrer_of(payload: Any) -> str:
    return urlsplit(payload["context"]["document"]["referrer"]).hostname or ""


def test_half_of_the_visits_come_by_no_ad() -> None:
    ads = {"utm_medium", "gclid", "gbraid", "wbraid", "ttclid", "msclkid", "epik", "ScCid", "twclid"}
    paid = share(landings(), lambda payload: ads & {name for name, _ in query_of(payload)})
    assert 0.35 < paid < 0.55
    direct = share(landings(), lambda payload: not referrer_of(payload) and not query_of(payload))
    assert 0.15 < direct < 0.35


def test_visits_come_from_search_social_shopping_mail_assistants_and_other_sites() -> None:
    unpaid = {referrer_of(payload) for payload in landings() if not query_of(payload)}
    assert unpaid >= {"www.google.com", "www.reddit.com", "www.etsy.com", "mail.google.com", "www.perplexity.ai"}
    queries = [dict(query_of(payload)) for payload in landings()]
    assert any(set(query) == {"srsltid"} for query in queries)
    assert any(set(query) == {"fbclid"} for query in queries)
    assert any(query.get("utm_source") == "chatgpt.com" for query in queries)
    names = {name for query in queries for name in query}
    assert names >= {"dclid", "li_fat_id", "rdt_cid", "gad_campaignid", "irclickid", "mc_cid", "_kx", "utm_id"}
    assert {query.get("utm_source") for query in queries} >= {"fb", "Facebook", "facebook", "ig", "instagram"}


def test_some_visits_have_click_ids_of_two_platforms_and_some_hundreds_of_parameters() -> None:
    names = [{name for name, _ in query_of(payload)} for payload in landings()]
    assert 0.005 < sum(len(each & {"gclid", "fbclid", "ttclid", "gbraid"}) > 1 for each in names) / len(names) < 0.04
    long = [payload for payload, each in zip(landings(), names) if len(each) > 150]
    assert 0.0005 < len(long) / len(names) < 0.01
    assert any(len(payload["context"]["document"]["location"]["href"]) > 4096 for payload in long)


def test_a_few_visitors_have_no_client_and_their_payloads_say_null() -> None:
    nobody = [(record, payload) for record, payload in pixels() if payload["clientId"] is None]
    assert 0.015 < len(nobody) / len(pixels()) < 0.05
    assert {record.key.decode().partition(":")[2].lower() for record, _ in nobody} == NO_CLIENTS
    assert any(payload["name"].startswith("checkout_") for _, payload in nobody)


def test_some_clocks_are_wrong_by_minutes_by_days_and_by_decades() -> None:
    errors = []
    for record, payload in pixels():
        if arrived := header(record, "received_at"):
            at = datetime.fromisoformat(payload["timestamp"].replace("Z", "+00:00"))
            errors.append((at - datetime.fromisoformat(arrived.replace("Z", "+00:00"))).total_seconds())
    wrong = [error for error in errors if not -180 < error < 0]
    assert 0.004 < len(wrong) / len(errors) < 0.03
    assert any(0 < error < 300 for error in wrong)
    assert any(error < -30 * 86_400 for error in wrong)
    assert any(error > 50 * 365 * 86_400 for error in wrong)


def test_some_titles_are_cut_in_half_an_emoji() -> None:
    cut = re.compile(rb'"title":"[^"]*\\ud83c"')
    halves = [record for record, _ in pixels() if cut.search(record.value)]
    assert 0.001 < len(halves) / len(pixels()) < 0.02


def test_a_customer_comes_by_several_devices() -> None:
    clients: dict[str, set[str]] = defaultdict(set)
    for _, payload in pixels():
        email = payload.get("data", {}).get("checkout", {}).get("email")
        if email:
            clients[email.lower()].add(payload["clientId"])
    assert sum(len(each - {None}) > 1 for each in clients.values()) > 3


# --- Markets and money ---


def test_a_fifth_of_the_orders_is_in_the_money_of_another_market() -> None:
    foreign = [order for order in orders("orders/create") if order["presentment_currency"] != order["currency"]]
    assert 0.1 < len(foreign) / len(orders("orders/create")) < 0.3
    for order in foreign:
        total = order["total_price_set"]
        assert total["shop_money"] == {"amount": order["total_price"], "currency_code": order["currency"]}
        assert total["presentment_money"]["currency_code"] == order["presentment_currency"]
    assert any(total_of(order, "shop_money") != total_of(order, "presentment_money") for order in foreign)


def total_of(order: Any, side: str) -> str:
    amount: str = order["total_price_set"][side]["amount"]
    return amount


def test_the_pixel_reports_the_buyers_currency() -> None:
    by_token = {order["checkout_token"]: order for order in orders("orders/create") if order["checkout_token"]}
    compared = Counter[bool]()
    for checkout in completions():
        if order := by_token.get(checkout["token"]):
            seen = checkout["totalPrice"]
            shown = order["total_price_set"]["presentment_money"]
            assert (float(shown["amount"]), shown["currency_code"]) == (seen["amount"], seen["currencyCode"])
            compared[seen["currencyCode"] != order["currency"]] += 1
    assert min(compared[True], compared[False]) > 20


@examples(5)
@given(st.integers(0, 2**32))
def test_payloads_report_the_true_figures(seed: int) -> None:
    """The newest payload that was sent shows the order as the ledger has it, if the last change was sent."""
    placed: list[Placed] = []
    newest: dict[int, Any] = {}
    for record in traffic(15_000, seed=seed, shops=4, malformed=0, profile=FULL, placed=placed):
        payload = json.loads(record.value) if record.name.startswith(ORDERS) else {}
        if "financial_status" in payload and payload["updated_at"] >= newest.get(payload["id"], payload)["updated_at"]:
            newest[payload["id"]] = payload
    compared = 0
    for each in placed:
        order = each.order
        payload = newest.get(order.purchase.order_id)
        if payload and payload["updated_at"] == local_time(order) and each.lost == []:
            compared += 1
            assert minor(payload["total_price"]) == order.purchase.total()
            assert minor(payload["current_total_price"]) == order.left
            assert refunded_by(payload) == len([refund for refund in order.refunds if refund.amount])
            left = [line["current_quantity"] for line in payload["line_items"]]
            assert left == [line.left for line in order.purchase.lines]
    assert compared > 20


def local_time(order: Order) -> str:
    from truepixel_dagster.local.payloads.text import iso_local

    return iso_local(order.at, order.purchase.shop.market.offset)


def minor(amount: str) -> int:
    return int(amount.replace(".", ""))


def refunded_by(payload: Any) -> int:
    """How many of the order's refunds gave money back."""
    return sum(
        any(each["kind"] == "refund" and each["status"] == "success" for each in refund["transactions"])
        for refund in payload["refunds"]
    )


def test_no_order_gives_back_more_than_it_took() -> None:
    for placed in sample().placed:
        order = placed.order
        assert 0 <= order.refunded <= order.purchase.total()
        assert order.left + order.refunded <= order.purchase.total()
        assert all(line.left >= 0 for line in order.purchase.lines)


# --- Orders and what happens to them ---


def test_a_third_of_the_checkouts_ends_without_a_pixel_event() -> None:
    assert 0.25 < share(online(), lambda placed: not placed.pixel) < 0.36
    tokens = {checkout["token"] for checkout in completions()}
    unseen = [placed for placed in online() if placed.order.purchase.checkout_token not in tokens]
    assert len(unseen) > 0.2 * len(online())


def test_few_webhooks_are_lost_so_that_some_orders_begin_with_their_update() -> None:
    sent, lost = sum(len(each.sent) for each in sample().placed), sum(len(each.lost) for each in sample().placed)
    assert 0.005 < lost / (sent + lost) < 0.04
    created = {order["id"] for order in orders("orders/create")}
    assert any(order["id"] not in created for order in orders("orders/updated", "orders/paid"))


def test_refunds_are_of_every_kind_and_of_one_order_in_twelve() -> None:
    everything = [placed.order for placed in sample().placed]
    refunds = [order.refunds for order in everything if order.refunds]
    assert 0.05 < share(everything, lambda order: order.refunded) < 0.11
    money = [[refund for refund in each if refund.amount] for each in refunds]
    assert any(len(each) > 1 for each in money)
    assert any(not each for each in money)
    assert {order.status for order in everything} >= {"paid", "refunded", "partially_refunded", "voided"}
    assert any(refund.amount and not refund.lines for each in refunds for refund in each)
    payloads = [payload for record, payload in webhooks() if record.name == "refunds/create"]
    kinds = {transaction["kind"] for payload in payloads for transaction in payload["transactions"]}
    assert kinds == {"refund", "void"}
    assert any(not payload["transactions"] for payload in payloads)


def test_a_refund_arrives_before_with_and_without_the_orders_update() -> None:
    names_by_refund: dict[int, list[str]] = defaultdict(list)
    for record, payload in webhooks():
        if record.name == "refunds/create":
            names_by_refund[payload["id"]].append(record.name)
        for refund in payload.get("refunds", ()):
            names_by_refund[refund["id"]].append(record.name)
    first = Counter(names[0] == "refunds/create" for names in names_by_refund.values())
    assert min(first[True], first[False]) > 3
    assert any(set(names) == {"refunds/create"} for names in names_by_refund.values())
    assert any("refunds/create" not in names for names in names_by_refund.values())


def test_some_refunds_are_in_the_buyers_money() -> None:
    shops = {order["id"]: order["currency"] for order in orders()}
    currencies = Counter(
        transaction["currency"] != shops[payload["order_id"]]
        for record, payload in webhooks()
        if record.name == "refunds/create" and payload["order_id"] in shops
        for transaction in payload["transactions"]
    )
    assert min(currencies[True], currencies[False]) > 2


def test_one_order_in_a_hundred_is_edited_and_some_take_an_offer_after_the_payment() -> None:
    lines: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for order in orders():
        lines[order["id"]].append((order["updated_at"], len(order["line_items"])))
    grown = [each for each in lines.values() if max(each)[1] > min(each)[1]]
    assert 0.01 < len(grown) / len(lines) < 0.06
    edits = [payload["order_edit"]["line_items"] for record, payload in webhooks() if record.name == "orders/edited"]
    assert any(edit["additions"] for edit in edits)
    removed = [
        line for placed in sample().placed if not placed.order.cancelled_at for line in placed.order.purchase.lines
    ]
    assert any(line.removed for line in removed)


def test_orders_are_cancelled_before_and_after_the_payment_voided_and_deleted() -> None:
    cancelled = Counter(order["financial_status"] for order in orders("orders/cancelled"))
    assert set(cancelled) == {"refunded", "voided"}
    voided = [order for order in orders("orders/updated") if order["financial_status"] == "voided"]
    assert any(order["cancelled_at"] is None for order in voided)
    deleted = {payload["id"] for record, payload in webhooks() if record.name == "orders/delete"}
    assert deleted
    assert deleted <= {placed.order.purchase.order_id for placed in sample().placed if placed.deleted}


def test_orders_are_of_every_channel() -> None:
    names = Counter(placed.order.purchase.source_name for placed in sample().placed)
    every = len(sample().placed)
    assert 0.7 < names["web"] / every < 0.92
    assert 0.02 < (names["pos"] + names["iphone"] + names["android"]) / every < 0.1
    assert 0.01 < sum(names[name] for name in names if name.startswith("subscription")) / every < 0.08
    assert names["shopify_draft_order"] > 5
    assert names["import"] + names["matrixify"] + names["1758145"] > 2
    assert names["amazon-us"] + names["ebay"] + names["tiktok_shop"] + names["6167201"] > 2
    tags = {placed.order.purchase.tags for placed in sample().placed}
    assert tags >= {"Subscription, Subscription First Order", "Subscription, Subscription Recurring Order", "imported"}


def test_an_imported_order_was_processed_long_before_it_was_created() -> None:
    imported = [order for order in orders("orders/create") if order["tags"].lower() == "imported"]
    assert imported
    assert all(order["processed_at"] < order["created_at"] for order in imported)


def test_some_orders_are_tests_cost_nothing_or_hold_gift_cards() -> None:
    assert 0.003 < share(online(), lambda placed: placed.order.purchase.test) < 0.03
    assert 0.003 < share(online(), lambda placed: placed.order.purchase.total() == 0) < 0.03
    lines = [line for order in orders("orders/create") for line in order["line_items"]]
    assert 0.005 < share(lines, lambda line: line["gift_card"]) < 0.05


def test_customers_come_back_and_payloads_know_whether_an_order_is_their_first() -> None:
    counts = [order["customer"]["orders_count"] for order in orders("orders/create") if has_count(order)]
    assert min(counts) == 1 < max(counts)
    assert any(order["customer"] and not has_count(order) for order in orders("orders/create"))
    first = Counter((checkout["order"].get("customer") or {}).get("isFirstOrder") for checkout in completions())
    assert min(first[True], first[False], first[None]) > 5


def has_count(order: Any) -> bool:
    return "orders_count" in (order["customer"] or {})


# --- How records come to the topic ---


def test_webhooks_lack_their_tokens_at_times() -> None:
    shown = [order for order in orders() if order["checkout_id"]]
    assert 0.01 < share(shown, lambda order: order["checkout_token"] is None) < 0.06


def test_headers_are_ours_or_shopifys_and_topics_in_upper_case_in_some_shops() -> None:
    names = Counter(
        prefix
        for record, _ in webhooks()
        for prefix in ("topic", "X-Shopify-Topic", "Shopify-Topic")
        if header(record, prefix)
    )
    assert min(names["topic"], names["X-Shopify-Topic"], names["Shopify-Topic"]) > 20
    topics = {header(record, "topic", "X-Shopify-Topic", "Shopify-Topic") for record, _ in webhooks()}
    assert topics >= {"orders/create", "ORDERS_CREATE", "orders/updated", "ORDERS_UPDATED", "REFUNDS_CREATE"}


def test_topics_of_one_change_share_an_event_id_in_some_shops() -> None:
    topics: dict[tuple[bytes, str], set[str]] = defaultdict(set)
    for record, _ in webhooks():
        if id_ := header(record, *IDS):
            topics[record.key.partition(b":")[0], id_].add(record.name)
    assert any(len(names) > 1 for names in topics.values())


def test_orders_name_their_client_as_themes_do_and_are_keyed_by_it_or_by_a_token() -> None:
    names = {note["name"] for order in orders() for note in order["note_attributes"]}
    assert len(names) >= 4
    keyed = Counter[tuple[bool, bool]]()
    for record, order in webhooks():
        if "financial_status" in order and order["cart_token"]:
            noted = [note["value"] for note in order["note_attributes"]]
            client = record.key.decode().partition(":")[2]
            keyed[bool(noted), client == order["cart_token"]] += 1
            assert client in (*noted, order["cart_token"])
    assert min(keyed[True, False], keyed[True, True], keyed[False, True]) > 10
    assert any(record.key.endswith(b":undefined") for record, _ in webhooks())


def test_carts_and_checkouts_share_a_token_at_times_and_two_orders_a_cart() -> None:
    created = [order for order in orders("orders/create") if order["checkout_token"]]
    assert 0.2 < share(created, lambda order: order["cart_token"] == order["checkout_token"]) < 0.4
    carts: dict[str, set[int]] = defaultdict(set)
    for order in created:
        carts[order["cart_token"]].add(order["id"])
    assert any(len(ids) > 1 for ids in carts.values())


def test_an_update_days_later_repeats_the_landing_page_of_the_purchase() -> None:
    landed = {order["id"]: order["landing_site"] for order in orders("orders/create")}
    updates = [order for order in orders("orders/updated") if order["fulfillment_status"] and order["id"] in landed]
    assert updates
    assert all(order["landing_site"] == landed[order["id"]] for order in updates)


@pytest.mark.parametrize("count", [1, 4])
def test_only_shops_of_a_higher_rank_report_their_changes(count: int) -> None:
    """Tests of few shops compare counts by day, and a time zone that arrives later would move days."""
    assert not [record for record in traffic(500, shops=count, profile=FULL) if record.name == "shop/update"]
    assert [record for record in traffic(500, shops=10, profile=FULL) if record.name == "shop/update"]


def test_traffic_without_a_profile_has_everything() -> None:
    """Benchmarks name the first profile."""
    assert (
        list(traffic(300, seed=3))
        == list(traffic(300, seed=3, profile=FULL))
        != list(traffic(300, seed=3, profile=FIRST))
    )
