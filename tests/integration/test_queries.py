"""The queries of docs/queries.md on generated traffic: each answer is what a loop over all documents gives."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.driving import drain, flush, send
from truepixel_dagster.local.traffic.generate import traffic
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings

PAGE = Path(__file__).parents[2] / "docs/queries.md"
SECTION = re.compile(r"^### (\d+)\. [^\n]*\n.*?```\n(.*?)```", re.MULTILINE | re.DOTALL)
SHOP, ORDER = "548380009", "5170000000001"
Doc = dict[str, Any]


class Documents:
    """All documents of one shop, and the query of the page."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        stores.elasticsearch.refresh()
        self.orders = [hit["_source"] for hit in stores.elasticsearch.scan("attributions")]
        self.shop = Counter(each["shop_id"] for each in self.orders).most_common(1)[0][0]
        self.orders = [each for each in self.orders if each["shop_id"] == self.shop and not each.get("test")]
        self.events = self._mine("events-")
        self.products = self._mine("product-stats-")
        self.order_id = next(each["order_id"] for each in self.orders if each.get("order_id"))
        found = stores.mongodb.collection("customers").find({"shop_id": self.shop, "orders": {"$gt": 0}})
        self.customers = list(found)

    def _mine(self, name: str) -> list[Doc]:
        found = (hit["_source"] for hit in self._stores.elasticsearch.scan(name))
        return [each for each in found if each["shop_id"] == self.shop]

    def ask(self, text: str) -> Any:
        text = text.replace(SHOP, self.shop).replace(ORDER, self.order_id)
        first, _, body = text.partition("\n")
        if first == "db.customers.aggregate(":
            stages = json.loads(body.rstrip().removesuffix(")"))
            return list(self._stores.mongodb.collection("customers").aggregate(stages))
        index = re.fullmatch(r"POST truepixel-(.+)/_search", first)
        assert index, first
        full = self._stores.elasticsearch.index(index[1])
        return self._stores.elasticsearch.client.search(index=full, **_as_arguments(json.loads(body))).body


def _as_arguments(body: Doc) -> Doc:
    """The search's body as the client's arguments."""
    return {"source" if key == "_source" else key: value for key, value in body.items()}


def _buckets(found: Doc, *path: str) -> Iterator[Doc]:
    for name in path:
        found = found[name]
    yield from found["buckets"]


def channels(found: Doc, all_: Documents) -> None:
    wanted: dict[tuple[str, str], int] = defaultdict(int)
    for order in all_.orders:
        for credit in order["credits"]["last_click"]:
            if "value" in order:
                wanted[order["value"]["currency"], credit["channel"]] += credit["amount"]
    assert {
        (by["key"], each["key"]): each["revenue"]["value"]
        for by in _buckets(found, "aggregations", "currencies")
        for each in _buckets(by, "credits", "channels")
    } == wanted


def in_dollars(all_: Documents) -> list[Doc]:
    return [order for order in all_.orders if order.get("value", {}).get("currency") == "USD"]


def campaigns(found: Doc, all_: Documents) -> None:
    wanted: dict[tuple[str, ...], int] = defaultdict(int)
    for order in in_dollars(all_):
        for credit in order["credits"]["linear"]:
            if "campaign" in credit:
                wanted[credit["platform"], credit["campaign"]] += credit["net"]
    brought: dict[tuple[str, ...], int] = {}
    for platform in _buckets(found, "aggregations", "credits", "platforms"):
        nets = {(platform["key"], each["key"]): each["net"]["value"] for each in _buckets(platform, "campaigns")}
        assert list(nets.values()) == sorted(nets.values(), reverse=True)
        brought |= nets
    assert brought == wanted


def days(found: Doc, all_: Documents) -> None:
    wanted: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for order in in_dollars(all_):
        if order["occurred_at"].startswith("2026-01"):
            figures = (1, order["value"]["amount"], order["net"]["amount"])
            wanted[order["occurred_at"][:10]] = [a + b for a, b in zip(wanted[order["occurred_at"][:10]], figures)]
    assert {
        each["key_as_string"][:10]: [each["doc_count"], each["gross"]["value"], each["net"]["value"]]
        for each in _buckets(found, "aggregations", "days")
    } == wanted


def refunds(found: Doc, all_: Documents) -> None:
    wanted: dict[str, int] = defaultdict(int)
    for order in all_.orders:
        if "refunded" in order:
            wanted[order["refunded"]["currency"]] += order["refunded"]["amount"]
    buckets = _buckets(found, "aggregations", "currencies")
    assert {each["key"]: each["refunded"]["value"] for each in buckets} == wanted


def products(found: Doc, all_: Documents) -> None:
    wanted: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for each in all_.products:
        if each["day"].startswith("2026"):
            figures = (
                each.get("units", 0),
                each.get("revenue", {}).get("USD", 0),
                each.get("returned_revenue", {}).get("USD", 0),
            )
            wanted[each["product_id"]] = [a + b for a, b in zip(wanted[each["product_id"]], figures)]
    names = ("units", "revenue", "returned")
    buckets = _buckets(found, "aggregations", "products")
    assert {each["key"]: [each[name]["value"] for name in names] for each in buckets} == wanted


def _by_visitors(all_: Documents) -> list[Doc]:
    return [each for each in all_.events if not each.get("bot")]


def pages(found: Doc, all_: Documents) -> None:
    viewed = (each for each in _by_visitors(all_) if each["name"] == "page_viewed" and "url" in each)
    wanted = Counter(each["url"] for each in viewed)
    assert {each["key"]: each["doc_count"] for each in _buckets(found, "aggregations", "pages")} == wanted


def visits(found: Doc, all_: Documents) -> None:
    known = [each for each in _by_visitors(all_) if "channel" in each]
    buckets = list(_buckets(found, "aggregations", "channels"))
    assert {each["key"]: each["doc_count"] for each in buckets} == Counter(each["channel"] for each in known)
    assert sum(each["doc_count"] for by in buckets for each in _buckets(by, "platforms")) == len(known)


def one_order(found: Doc, all_: Documents) -> None:
    wanted = sorted(each["event_id"] for each in all_.events if each.get("order_id") == all_.order_id)
    assert sorted(hit["_source"]["event_id"] for hit in found["hits"]["hits"]) == wanted


def best_customers(found: list[Doc], all_: Documents) -> None:
    def net(customer: Doc) -> int:
        return int(customer.get("revenue", {}).get("USD", 0) - customer.get("refunded", {}).get("USD", 0))

    wanted = sorted(all_.customers, key=lambda each: (-net(each), each["client_id"]))[:10]
    assert [(each["client_id"], each["orders"], each["net"]) for each in found] == [
        (each["client_id"], each["orders"], net(each)) for each in wanted
    ]


def come_back(found: list[Doc], all_: Documents) -> None:
    again = sum(each["orders"] > 1 for each in all_.customers)
    assert found == [{"_id": None, "customers": len(all_.customers), "again": again}]


CHECKS: list[Callable[[Any, Documents], None]] = [
    channels, campaigns, days, refunds, products, pages, visits, one_order, best_customers, come_back,
]  # fmt: skip


@pytest.fixture
def documents(settings: Settings, stores: Stores) -> Documents:
    send(settings, ((each.key, each.value, each.headers) for each in traffic(8_000, seed=11, shops=2)))
    drain(settings)
    flush(stores)
    return Documents(stores)


def test_each_query_of_the_page_gives_what_the_documents_say(documents: Documents) -> None:
    queries = SECTION.findall(PAGE.read_text())
    assert [int(number) for number, _ in queries] == list(range(1, len(CHECKS) + 1))
    assert len(documents.orders) > 20
    for (_, text), check in zip(queries, CHECKS):
        answer = documents.ask(text)
        assert answer
        check(answer, documents)
