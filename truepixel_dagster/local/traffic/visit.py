"""One visit: pages, cart and checkout, and the records that they cause."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import msgspec

from truepixel_dagster.local.payloads import checkout as checkouts
from truepixel_dagster.local.payloads import pixel
from truepixel_dagster.local.payloads.model import Line, Page, Product, Purchase, Visitor
from truepixel_dagster.local.payloads.text import iso_utc
from truepixel_dagster.local.traffic.campaigns import Source
from truepixel_dagster.local.traffic.chance import SECOND, geometric, happens, shopify_id, token, uuid
from truepixel_dagster.local.traffic.purchases import purchase_of
from truepixel_dagster.local.traffic.webhooks import latency, webhook
from truepixel_dagster.local.traffic.world import Deliveries, Record, World


class Cart(msgspec.Struct):
    """A visitor's cart, which lasts from visit to visit, with the visitor's first landing page.

    Two orders are placed from a `shared` cart, each through a checkout with its own token.
    """

    token: str
    lines: list[Line] = []
    created: int | None = None
    landing: str | None = None
    shared: bool = False


class Visit:
    """A visit: `at` is its clock, `deliveries` are the records that it has caused."""

    def __init__(self, world: World, visitor: Visitor, at: int, source: Source, cart: Cart) -> None:
        self.world = world
        self.rng = world.rng
        self.at = at
        self.deliveries: Deliveries = []
        self.visitor = visitor
        self._shop = visitor.shop
        self._currency = visitor.presentment.currency
        self.cart = cart
        self._source = source
        self._page: Page | None = None
        self._landing = "/"
        self._seq = 0

    def browse(self, *, pages: int, shopper: bool) -> None:
        """Open the landing page, then browse; a shopper fills the cart."""
        self._land()
        for _ in range(pages):
            self._wait(25)
            way = self.rng.random()
            if way < 0.6:
                self._view_product(shopper=shopper)
            elif way < 0.8:
                self._view_collection()
            elif way < 0.9:
                self._search()
            elif way < 0.95:
                self._custom()
            else:
                self._open("/pages/about", "About us")
        if self.cart.lines and self.rng.random() < 0.6:
            self._view_cart()

    def crawl(self, *, pages: int) -> None:
        """Open the landing page, then product after product, faster than people do."""
        self._land()
        for _ in range(pages):
            self._wait(2)
            product = self._any_product()
            self._open(f"/products/{product.handle}", product.title)
            self._pixel("product_viewed", pixel.product_viewed(product, self._currency))

    def abandon_checkout(self) -> None:
        """Begin the checkout and leave before its end."""
        self._check_out_steps(self._new_purchase(), 1 + int(self.rng.random() * 3))

    def check_out(self) -> Purchase:
        """Complete the checkout; return the purchase with the time of its order."""
        purchase = self._new_purchase()
        self._check_out_steps(purchase, 5)
        self._wait(8)
        history = self.visitor.history
        history.orders += 1
        return msgspec.structs.replace(purchase, started_at=self.at, nth=history.orders)

    def complete(self, purchase: Purchase, *, delay: int = 0) -> None:
        """Add the pixel's report of the order: mostly at once, sometimes after the webhooks, or `delay` (ms) later."""
        usual = self.rng.uniform(8, 60) if self.rng.random() < 0.3 else self.rng.uniform(0.2, 2)
        began = self.at
        self.at += int(usual * SECOND) + delay
        if happens(self.rng, self.world.profile.payment_referrer):
            self._page, self._source = None, Source(self.rng.choice(_PAYMENT_REFERRERS), "")
        self._open_checkout(purchase, "thank-you")
        self._pixel("checkout_completed", pixel.checkout(purchase, step=5, order=self._pixel_order(purchase)))
        if delay:
            self.at = began

    def finish(self) -> Deliveries:
        """Return the visit's records and forget them."""
        deliveries, self.deliveries, self._page = self.deliveries, [], None
        return deliveries

    def _wait(self, seconds: float) -> None:
        self.at += SECOND + int(self.rng.expovariate(1 / seconds) * SECOND)

    def _land(self) -> None:
        where = self.rng.random()
        query = self._source.query
        if where < 0.5:
            product = self._any_product()
            path, title = f"/products/{product.handle}", product.title
        else:
            product = None
            path, title = ("/", "Home") if where < 0.75 else ("/collections/all", "All products")
        self._landing = f"{path}?{query}" if query else path
        self.cart.landing = self.cart.landing or self._landing
        self._open(path, title, query)
        if product:
            self._pixel("product_viewed", pixel.product_viewed(product, self._currency))
        if query and self.rng.random() < 0.12:  # the same page again, with the same ad in its address
            self._wait(60)
            self._open(path, title, query)

    def _open(self, path: str, title: str, query: str = "") -> None:
        referrer = self._page.url if self._page else self._source.referrer
        shown = pixel.cut_title(title) if happens(self.rng, self.world.profile.cut_titles) else title
        self._page = pixel.page(self.visitor, path, query, shown, referrer)
        self._pixel("page_viewed", {})

    def _open_checkout(self, purchase: Purchase, step: str) -> None:
        self._open(f"/checkouts/cn/{purchase.checkout_token}/{step}", "Checkout")

    def _any_product(self) -> Product:
        products = self._shop.products
        # Squaring makes the first products sell best.
        return products[int(self.rng.random() ** 2 * len(products))]

    def _some_products(self) -> list[Product]:
        return [self._any_product() for _ in range(2 + int(self.rng.random() * 3))]

    def _view_product(self, *, shopper: bool) -> None:
        product = self._shop.products[-1] if happens(self.rng, self.world.profile.gift_cards) else self._any_product()
        self._open(f"/products/{product.handle}", product.title)
        self._pixel("product_viewed", pixel.product_viewed(product, self._currency))
        if self.rng.random() < (0.4 if shopper else 0.06):
            self._wait(15)
            line = Line(shopify_id(self.rng), product, 1 + geometric(self.rng, 0.3))
            self.cart.lines.append(line)
            added = {"cartLine": pixel.cart_line(line, self.visitor.presentment)}
            self._pixel("product_added_to_cart", added)
            self._cart_webhook()

    def _view_collection(self) -> None:
        products = self._some_products()
        name = products[0].vendor
        self._open(f"/collections/{name.lower().replace(' ', '-')}", name)
        shown = pixel.collection_viewed(products[0].id + 7, name, products, self._currency)
        self._pixel("collection_viewed", shown)

    def _search(self) -> None:
        products = self._some_products()
        words = products[0].title.split()[-1].lower()
        self._open("/search", "Search", urlencode({"q": words}))
        self._pixel("search_submitted", pixel.search_submitted(words, products, self._currency))

    def _custom(self) -> None:
        name = self.rng.choice(_CUSTOM_EVENTS)
        self._pixel(name, {"position": int(self.rng.random() * 9), "variant": "b"}, custom=True)

    def _view_cart(self) -> None:
        seen_in = self.visitor.presentment
        self._wait(10)
        self._open("/cart", "Your cart")
        self._pixel("cart_viewed", pixel.cart_viewed(self.cart.token, self.cart.lines, seen_in))
        if len(self.cart.lines) > 1 and self.rng.random() < 0.15:
            self._wait(10)
            line = self.cart.lines.pop()
            self._pixel("product_removed_from_cart", {"cartLine": pixel.cart_line(line, seen_in)})
            self._cart_webhook()

    def _cart_webhook(self) -> None:
        if not self._shop.sends_cart_webhooks:
            return
        topic = "carts/create" if self.cart.created is None else "carts/update"
        cart = self.cart
        cart.created = cart.created or self.at
        value = checkouts.cart_webhook(cart.token, cart.lines, cart.created, self.at, self._shop.currency)
        self._webhook(topic, value)

    def _new_purchase(self) -> Purchase:
        self._wait(12)
        shop, visitor, profile = self._shop, self.visitor, self.world.profile
        checkout_token = token(self.rng)
        if not self.cart.shared and happens(self.rng, profile.one_token):
            checkout_token = self.cart.token
        stale = happens(self.rng, profile.stale_landing)
        return purchase_of(
            self.world,
            shop,
            visitor.customer,
            tuple(self.cart.lines),
            self.at,
            presentment=visitor.presentment,
            checkout_token=checkout_token,
            cart_token=self.cart.token,
            client_id=visitor.client_id if shop.passes_client else None,
            landing=self.cart.landing if stale else self._landing,
            referrer=self._source.referrer,
        )

    def _check_out_steps(self, purchase: Purchase, steps: int) -> None:
        for step, name in enumerate(_CHECKOUT_STEPS[:steps]):
            if step:
                self._wait(20)
            else:
                self._open_checkout(purchase, "information")
            self._pixel(name, pixel.checkout(purchase, step=step, order={} if step % 2 else None))
            if step in (0, 2):
                topic = "checkouts/update" if step else "checkouts/create"
                self._webhook(topic, checkouts.checkout_webhook(purchase, self.at, contact_known=step > 0))

    def _pixel_order(self, purchase: Purchase) -> dict[str, Any]:
        shape = self.rng.random()
        if shape < 0.3:
            return {"id": None}
        first = purchase.nth == 1 if self._shop.full_payloads else True
        customer = {"id": str(purchase.customer.id), "isFirstOrder": first}
        order_id = f"gid://shopify/OrderIdentity/{purchase.order_id}" if shape < 0.5 else str(purchase.order_id)
        return {"id": order_id, "customer": customer}

    def _pixel(self, name: str, data: dict[str, Any], *, custom: bool = False) -> None:
        assert self._page is not None  # noqa: S101 (every visit begins with a page)
        rng, visitor = self.rng, self.visitor
        event_id = f"sh-{uuid(rng)}"
        client = None if visitor.anonymous else visitor.client_id
        at = self.at + visitor.clock_error
        seq = None
        if self._shop.full_payloads:
            self._seq += 1
            seq = self._seq
        value = pixel.pixel_event(name, event_id, client, at, self._page, data, custom=custom, seq=seq)
        arrives = self.at + latency(rng)
        headers: tuple[tuple[str, bytes], ...] = ()
        # Only the header with the time of arrival reveals that a visitor's clock is wrong.
        if rng.random() < 0.9 or visitor.clock_error:
            headers = (
                ("source", b"pixel"),
                ("event_id", event_id.encode()),
                ("shop_domain", self._shop.domain.encode()),
                ("received_at", iso_utc(arrives).encode()),
            )
        self.deliveries.append(Record(f"{self._shop.id}:{visitor.client_id}".encode(), value, headers, name, arrives))

    def _webhook(self, topic: str, value: bytes) -> None:
        keyed = self._shop.passes_client and self._shop.collector.keyed_by_client
        client = self.visitor.client_id if keyed else self.cart.token
        self.deliveries.append(webhook(self.rng, self._shop, client, topic, value, self.at))


_CUSTOM_EVENTS = ("newsletter_signup", "size_guide_opened", "review_read", "wishlist_added")
_CHECKOUT_STEPS = (
    "checkout_started",
    "checkout_contact_info_submitted",
    "checkout_address_info_submitted",
    "checkout_shipping_info_submitted",
    "payment_info_submitted",
)
# The pages from which a buyer returns: payment providers, shop.app, and a bank's second factor.
_PAYMENT_REFERRERS = (
    "https://www.paypal.com/",
    "https://shop.app/",
    "https://pay.klarna.com/",
    "https://hooks.stripe.com/",
    "https://3ds.examplebank.com/",
)
