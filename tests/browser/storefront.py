"""A storefront that stands in for Shopify's: pages with the pixel and the theme's embed, and the Ajax cart."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).parent
BUILT = HERE.parents[1] / "pixel" / "dist"
CLIENT = "4c1e7f7b-2f0e-4d5e-9a37-6f3c0a9d1b52"
EMAIL = "ada@buyer.example"
CONSENT = ("analyticsProcessingAllowed", "marketingAllowed", "preferencesProcessingAllowed", "saleOfDataAllowed")
_USD = "USD"
PRODUCT = {"id": "7", "title": "Hat", "untranslatedTitle": "Hat", "url": "/products/hat", "vendor": "Acme", "type": ""}
VARIANT = {
    "id": "41",
    "sku": "H-1",
    "title": "Blue",
    "price": {"amount": 10.0, "currencyCode": _USD},
    "product": PRODUCT,
}
LINE = {"merchandise": VARIANT, "quantity": 2, "cost": {"totalAmount": {"amount": 20.0, "currencyCode": _USD}}}


def checkout(token: str) -> dict[str, Any]:
    """The checkout of two hats, with what Shopify says of the buyer."""
    person = {"firstName": "Ada", "lastName": "Lovelace", "address1": "1 Main St", "phone": "+15550100"}
    total = {"amount": 20.0, "currencyCode": _USD}
    line = {"id": "1", "title": "Hat", "quantity": 2, "variant": VARIANT, "discountAllocations": [], "properties": []}
    found = {"token": token, "currencyCode": _USD, "email": EMAIL, "phone": "+15550100", "shippingAddress": person}
    money = {"subtotalPrice": total, "totalPrice": total, "totalTax": {"amount": 0.0, "currencyCode": _USD}}
    return {**found, **money, "lineItems": [line], "order": None, "transactions": [], "attributes": []}


class Storefront:
    """A shop's cart and consent at Shopify.

    Attributes:
        attributes: The cart's attributes.
        items: How many items are in the cart.
        allowed: Whether visitors allow analytics when they come.
    """

    def __init__(self, kind: str, collector: int, token: str) -> None:
        self.kind = kind
        self.attributes: dict[str, str] = {}
        self.items = 0
        self.allowed = True
        self._settings = {"collector": f"http://127.0.0.1:{collector}", "token": token}
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def notes(self) -> list[dict[str, str]]:
        """The cart's attributes as the order's webhook names them."""
        return [{"name": name, "value": value} for name, value in self.attributes.items()]

    def get(self, path: str) -> tuple[str, str]:
        """The type and text of a page or a script."""
        if path == "/sandbox.html":
            return "text/html", '<!doctype html><script src="/sandbox.js"></script>'
        if path in ("/sandbox.js", "/shopify.js"):
            return "text/javascript", (HERE / path[1:]).read_text()
        if path == "/theme-embed.js":
            return "text/javascript", (BUILT / path[1:]).read_text()
        return "text/html", self._page(path)

    def post(self, path: str, body: bytes) -> None:
        """The Ajax API: an attribute with an empty value is removed."""
        if path == "/cart/add.js":
            self.items += 1
        elif path == "/cart/update.js":
            said = self.attributes | json.loads(body)["attributes"]
            self.attributes = {name: value for name, value in said.items() if value}

    def _page(self, path: str) -> str:
        events: dict[str, list[Any]] = {
            "/products/hat": [["product_viewed", {"productVariant": VARIANT}]],
            "/checkout": [["checkout_started", {"checkout": checkout("token-1")}]],
            "/thank-you": [["checkout_completed", {"checkout": checkout("token-1")}]],
        }
        consent = dict.fromkeys(CONSENT, self.allowed)
        page = {"kind": self.kind, "code": self._code(), "settings": self._settings, "consent": consent}
        said = json.dumps({**page, "client": CLIENT, "events": events.get(path, [])}).replace("<", "\\u003c")
        return (
            "<!doctype html><title>Hats</title><body>"
            f"<script>const PAGE = {said}; const LINE = {json.dumps(LINE)};</script>"
            '<button onclick="addToCart(LINE)">Add to cart</button><script src="/shopify.js"></script>'
            f'<script src="/theme-embed.js" data-items="{self.items}" defer></script>'
        )

    def _code(self) -> str:
        """The pixel as built; in the custom one, with the settings that a shop writes at its top."""
        code = (BUILT / f"{self.kind}-pixel.js").read_text()
        places = {"https://collector.example": self._settings["collector"], "tp_…": self._settings["token"]}
        for place, value in places.items() if self.kind == "custom" else ():
            assert code.count(place) == 1
            code = code.replace(place, value)
        return code


@contextmanager
def serving(storefront: Storefront) -> Iterator[Storefront]:
    """Serve a storefront on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, text = storefront.get(urlsplit(self.path).path)
            self._answer(kind, text.encode())

        def do_POST(self) -> None:
            storefront.post(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self._answer("application/json", b"{}")

        def _answer(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    storefront.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield storefront
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
