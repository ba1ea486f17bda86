"""Serve the storefront on loopback: the shop, a page for each order, and the report.

The browser sends the pixel's events to the collector directly, as in a shop. On checkout this server sends the webhook
`orders/create`, signed with the app's secret, as Shopify's server does. The pages of orders and of the report read the
stores.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import requests
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from truepixel_dagster.collector.serve import listening
from truepixel_dagster.collector.signature import sign
from truepixel_dagster.local.connected import Connected
from truepixel_dagster.local.payloads.model import Purchase
from truepixel_dagster.local.payloads.pixel import checkout
from truepixel_dagster.local.storefront.shop import STOREFRONT, UnknownProduct, Wanted, created, purchase_of
from truepixel_dagster.orders.credit import MODELS
from truepixel_dagster.report.command import FIGURES, figures
from truepixel_dagster.report.figures import GROUPINGS, major
from truepixel_dagster.report.reading import shop_report
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.elasticsearch import ElasticsearchStore
from truepixel_dagster.stores.errors import Unavailable

_STATIC = Path(__file__).parent / "static"
MOST_SHOPS = 20
_MAX_BODY_BYTES = 64 * 1024
# A person waits for the page, so no server gets more time.
_QUICK = {"retries": 1, "elasticsearch_timeout": 4.0, "mongodb_timeout": 4.0, "redis_timeout": 2.0}
_STARTS_SECONDS = 10.0


class _Checkout(msgspec.Struct):
    """Hold the data that the browser sends on checkout: its cart, its client id, and the start of the visit."""

    cart: list[Wanted]
    client_id: str
    landing: str = "/"
    referrer: str = ""


_CHECKOUT = msgspec.json.Decoder(_Checkout)


class Pages:
    """Answer the pages' requests. Methods that are not asynchronous run in threads.

    Arguments:
        collector: The collector that receives the shop's events.
        stores: The stores with the orders and the report's figures.
    """

    def __init__(self, collector: Connected, stores: Stores) -> None:
        self._collector = collector
        self._stores = stores

    def shop(self, _request: Request) -> Response:
        """Return the products, and the address to which the pixel sends."""
        products = [
            {
                "handle": product.handle,
                "title": product.title,
                "vendor": product.vendor,
                "price": product.price,
                "variant": product.pixel,
            }
            for product in STOREFRONT.products
        ]
        token = self._collector.doors[STOREFRONT.id].pixel_token
        return _json({"collector": self._collector.address, "token": token, "products": products})

    async def check_out(self, request: Request) -> Response:
        """Place the order: send its webhook, and return its id and the checkout's data for the pixel."""
        # A page of another site cannot send this type without a preflight.
        if request.headers.get("content-type") != "application/json":
            return _json({"reason": "send application/json"}, 415)
        body = await request.body()
        try:
            if len(body) > _MAX_BODY_BYTES:
                raise UnknownProduct("the cart is too large")
            wanted = _CHECKOUT.decode(body)
            purchase = purchase_of(
                wanted.cart,
                client_id=wanted.client_id,
                landing=wanted.landing,
                referrer=wanted.referrer,
                at=int(time.time() * 1000),
            )
        except (msgspec.MsgspecError, ValueError) as error:
            return _json({"reason": str(error)}, 400)
        return await _in_thread(self._place, purchase)

    def _place(self, purchase: Purchase) -> Response:
        body = created(purchase)
        headers = {
            "Content-Type": "application/json",
            "X-Shopify-Topic": "orders/create",
            "X-Shopify-Shop-Domain": STOREFRONT.domain,
            "X-Shopify-Webhook-Id": f"storefront-{purchase.order_id}",
            "X-Shopify-Hmac-Sha256": sign(body, self._collector.secret).decode(),
        }
        try:
            answer = requests.post(f"{self._collector.address}/v1/webhooks", body, headers=headers, timeout=5)
        except requests.RequestException as error:
            return _json({"reason": f"the collector is unreachable ({type(error).__name__}): try again"}, 503)
        if answer.status_code != 200:
            return _json({"reason": f"the collector answered {answer.status_code}: try again"}, 503)
        order = {"id": str(purchase.order_id), "customer": {"id": str(purchase.customer.id), "isFirstOrder": True}}
        said = {"started": checkout(purchase, step=0), "completed": checkout(purchase, step=5, order=order)}
        return _json({"order": str(purchase.order_id)} | said)

    def order(self, request: Request) -> Response:
        """Return an order's touches and credits as Elasticsearch has them; null until the pipeline has written it."""
        id_ = str(request.path_params["order"])
        elasticsearch = self._stores.elasticsearch
        elasticsearch.refresh()
        query = {"bool": {"filter": [{"term": {"shop_id": STOREFRONT.id}}, {"term": {"order_id": id_}}]}}
        found = next((hit["_source"] for hit in elasticsearch.scan("attributions", query)), None)
        return _json({"order": found and _shown(found), "models": MODELS})

    def report(self, request: Request) -> Response:
        """Return a shop's report, and the shops that have one."""
        asked = request.query_params
        busiest = shops_with_orders(self._stores.elasticsearch)
        shop = asked.get("shop") or next(iter(busiest), STOREFRONT.id)
        by, model = asked.get("by", "campaign"), asked.get("model", "last_click")
        if by not in GROUPINGS or model not in MODELS:
            return _json({"reason": "the grouping or the model is unknown"}, 400)
        found = shop_report(self._stores, shop, model, by)
        names = GROUPINGS[by]
        rows = [
            {"cells": [*(getattr(row, name) or "" for name in names), row.currency], "figures": [*figures(row)]}
            for row in found.sources
        ]
        totals = [
            {"cells": ["total", *("" for _ in names[1:]), total.currency], "figures": [*figures(total)]}
            for total in found.totals
        ]
        return _json(
            {
                "shops": list(dict.fromkeys([*busiest, STOREFRONT.id])),
                "models": MODELS,
                "shop": shop,
                "names": [*names, "currency"],
                "figures": FIGURES,
                "orders": found.orders,
                "visitors": found.visitors,
                "rows": rows,
                "totals": totals,
            }
        )


def shops_with_orders(store: ElasticsearchStore) -> list[str]:
    """Return the ids of the shops with most orders.

    Raises:
        Unavailable: Elasticsearch does not answer.
    """
    return store.most_common("attributions", "shop_id", MOST_SHOPS)


def application(pages: Pages, collector: str) -> Starlette:
    """Build the application; `collector` is the address that the pages may send to."""
    policy = f"default-src 'self'; connect-src 'self' {collector}; img-src 'self' data:; frame-ancestors 'none'"
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store", "Referrer-Policy": "same-origin"}

    def page(name: str) -> Any:
        async def answer(_request: Request) -> Response:
            return FileResponse(_STATIC / name, headers=headers)

        return answer

    return Starlette(
        routes=[
            Route("/", page("shop.html")),
            Route("/orders/{order:int}", page("order.html")),
            Route("/report", page("report.html")),
            Route("/api/shop", pages.shop),
            Route("/api/orders", pages.check_out, methods=["POST"]),
            Route("/api/orders/{order:int}", pages.order),
            Route("/api/report", pages.report),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        # Refuse pages of other sites whose names resolve to this machine (DNS rebinding).
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
        exception_handlers={Unavailable: _unavailable},
    )


@contextmanager
def serving(settings: Settings, collector: Connected, port: int) -> Iterator[str]:
    """Serve the pages on loopback from a thread until the block ends; yield their address."""
    with open_stores(settings.model_copy(update=_QUICK)) as stores:
        app = application(Pages(collector, stores), collector.address)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
        listener = listening("127.0.0.1", port)
        thread = threading.Thread(target=server.run, args=([listener],), name="storefront", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=_STARTS_SECONDS)
            listener.close()


def _shown(order: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an attribution that the page shows, with amounts in major units."""
    return {
        "value": _money(order.get("value")),
        "status": order.get("status"),
        "occurred_at": order.get("occurred_at"),
        "touches": [
            {"at": touch["at"], "channel": touch.get("channel"), **touch.get("ad", {})}
            for touch in order.get("touches", [])
        ],
        "credits": {
            model: [{**credit, "amount": _money({**order["value"], "amount": credit["amount"]})} for credit in credits_]
            for model, credits_ in order.get("credits", {}).items()
            if order.get("value")
        },
    }


def _money(money: dict[str, Any] | None) -> str | None:
    return f"{major(money['currency'], money['amount'])} {money['currency']}" if money else None


async def _in_thread(function: Any, *arguments: Any) -> Response:
    from starlette.concurrency import run_in_threadpool

    answer: Response = await run_in_threadpool(function, *arguments)
    return answer


async def _unavailable(_request: Request, error: Exception) -> Response:
    return _json({"reason": str(error)}, 503)


def _json(what: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(what), status, {"Cache-Control": "no-store"}, "application/json")
