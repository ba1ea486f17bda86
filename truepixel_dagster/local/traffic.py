"""Believable Shopify traffic: visitors who come from ads, browse, fill carts, check out and come back.

`traffic(...)` is pure: the same arguments give the same bytes, and nothing is read from outside.

    for record in traffic(10_000, seed=7):
        producer.produce(topic, key=record.key, value=record.value, headers=list(record.headers))
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from heapq import heappop, heappush
from itertools import accumulate, zip_longest
from random import Random
from typing import Any, NamedTuple, TypeAlias, TypeVar
from urllib.parse import urlencode

import msgspec

from truepixel_dagster.local import payloads
from truepixel_dagster.local.payloads import Customer, Line, Market, Page, Product, Purchase, Shop, Visitor

DEFAULT_START = datetime(2026, 1, 5, tzinfo=timezone.utc)
DEFAULT_SPAN = timedelta(days=4)

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000

_T = TypeVar("_T")


class Record(msgspec.Struct, frozen=True):
    """A Kafka record.

    `name` is the pixel event's name or the webhook's topic, `at` its arrival (milliseconds since the epoch),
    and `kind` `event`, `duplicate` (repeats an earlier record byte for byte) or `malformed` (cannot be understood).
    """

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    name: str
    at: int
    kind: str = "event"


def traffic(
    events: int,
    *,
    seed: int = 1,
    shops: int = 20,
    duplicates: float = 0.02,
    malformed: float = 0.005,
    start: datetime | None = None,
    span: timedelta = DEFAULT_SPAN,
) -> Iterator[Record]:
    """Generate records in order of arrival, one at a time; memory grows with the visitors under way, not with `events`.

    Arguments:
        events: How many records to yield, duplicates and malformed ones included.
        seed: The same seed gives the same bytes.
        shops: How many shops there are; a few have most of the traffic.
        duplicates: The share of records that repeat an earlier one.
        malformed: The share of records that cannot be understood.
        start: When the first visitors arrive, with a time zone; 2026-01-05 00:00 UTC by default.
        span: The time over which the records are spread.

    Raises:
        ValueError: A negative number of events, no shop, a share outside of 0 to 1, shares above 1 together, a start
            without time zone, or a span that is not positive.
    """
    if events < 0 or shops < 1:
        raise ValueError("events must not be negative, and there must be a shop")
    if min(duplicates, malformed) < 0 or duplicates + malformed > 1:
        raise ValueError("duplicates and malformed are shares: 0 to 1, and not above 1 together")
    start = start or DEFAULT_START
    if start.tzinfo is None or span <= timedelta(0):
        raise ValueError("start needs a time zone, and span must be positive")
    rng = Random(seed)
    begin, length = _millis(start - payloads.EPOCH), _millis(span)
    arrivals = _Arrivals(rng, [_shop(rng, rank) for rank in range(shops)])
    clock = (begin + length * index // events for index in range(events))
    return _with_faults(rng, arrivals, clock, duplicates, malformed)


def _millis(delta: timedelta) -> int:
    return delta // timedelta(milliseconds=1)


def _with_faults(
    rng: Random, arrivals: _Arrivals, clock: Iterator[int], duplicates: float, malformed: float
) -> Iterator[Record]:
    recent: list[Record] = []
    older: list[Record] = []
    at = 0
    for now in clock:
        chance = rng.random()
        if recent and chance < duplicates:
            again = rng.choice(older if rng.random() < 0.4 else recent)
            yield msgspec.structs.replace(again, at=at, kind="duplicate")
        elif recent and chance < duplicates + malformed:
            yield _broken(rng, rng.choice(recent), at)
        else:
            record = arrivals.next(now)
            at = record.at
            _remember(rng, recent, record, 50)
            if not older or rng.random() < 0.02:
                _remember(rng, older, record, 500)
            yield record


def _remember(rng: Random, memory: list[_T], item: _T, limit: int) -> None:
    """Keep the item; in a full memory it takes a random one's place."""
    if len(memory) < limit:
        memory.append(item)
    else:
        memory[int(rng.random() * limit)] = item


# What a visitor does next: the records of one visit with the times they arrive at, and when to ask again (None: never).
_Deliveries: TypeAlias = list[Record]
_Journey: TypeAlias = Iterator[tuple[_Deliveries, "int | None"]]


class _Arrivals:
    """Everything that is under way, by the time it arrives."""

    def __init__(self, rng: Random, shops: list[Shop]) -> None:
        self._rng = rng
        self._shops = shops
        self._weights = list(accumulate(1 / (rank + 1) ** 1.1 for rank in range(len(shops))))
        self._due: list[tuple[int, int, Record | _Journey]] = []
        self._known: list[Visitor] = []
        self._count = 0

    def next(self, now: int) -> Record:
        """The next record to arrive. Where nothing is due, new visitors come."""
        if not self._due or self._due[0][0] > now:
            self._wave(now)
        while True:
            entry = heappop(self._due)[2]
            if isinstance(entry, Record):
                return entry
            self._continue(entry)

    def _wave(self, now: int) -> None:
        """Visitors come in waves, so that their visits overlap however few there are in a day."""
        begin = now - 30 * SECOND
        for _ in range(1 + int(self._rng.random() * 24)):
            self._add(begin, self._somebody(begin))
            begin += int(self._rng.random() * 20 * SECOND)

    def _somebody(self, at: int) -> _Journey:
        """A visitor, known or new, or a buyer in a store."""
        rng = self._rng
        chance = rng.random()
        if self._known and chance < 0.05:
            return _journey(rng, rng.choice(self._known), at, shopper=True)
        shop = self._shops[bisect(self._weights, rng.random() * self._weights[-1])]
        if chance > 0.985:
            return _in_store(rng, shop, at)
        visitor = _visitor(rng, shop)
        shopper = rng.random() < 0.22
        if shopper:
            _remember(rng, self._known, visitor, 100)
        return _journey(rng, visitor, at, shopper=shopper)

    def _continue(self, journey: _Journey) -> None:
        deliveries, again = next(journey)
        for record in deliveries:
            self._add(record.at, record)
        if again is not None:
            self._add(again, journey)

    def _add(self, at: int, entry: Record | _Journey) -> None:
        self._count += 1
        heappush(self._due, (at, self._count, entry))


# --- Who comes, and how often ---


def _journey(rng: Random, visitor: Visitor, at: int, *, shopper: bool) -> _Journey:
    """One visitor's visits over hours and days; a shopper's last may end in an order and what follows from it."""
    shop = visitor.shop
    curiosity = 5.0 if shopper else 2.2 if rng.random() < 0.5 else 0.4
    visits = 1 + int(rng.expovariate(0.5 if shopper else 1.6))
    cart = _Cart(_token(rng))
    source = _source(rng, shop, at)
    for remaining in reversed(range(visits)):
        visit = _Visit(rng, visitor, at, source, cart)
        visit.browse(pages=_geometric(rng, curiosity), shopper=shopper)
        if shopper and not remaining and cart.lines and rng.random() < 0.75:
            yield from _ordered(visit, visit.check_out())
            return
        if cart.lines and rng.random() < 0.2:
            visit.abandon_checkout()
        # Some are back by the same ad within minutes, most hours or days later, mostly by another ad or by none.
        soon = rng.random() < 0.15
        at = visit.at + int(rng.uniform(3, 25) * MINUTE if soon else (0.7 + rng.expovariate(1 / 9)) * HOUR)
        source = source if soon or rng.random() < 0.12 else _source(rng, shop, at)
        yield visit.finish(), at if remaining else None


def _ordered(visit: _Visit, purchase: Purchase) -> _Journey:
    """The visit that placed an order, seen by the pixel, by webhooks or by both, then the order's later webhooks."""
    rng, created = visit.rng, purchase.started_at
    seen_by = rng.random()
    if seen_by < 0.88:
        visit.complete(purchase)
    if seen_by < 0.08:
        yield visit.finish(), None
        return
    paid = rng.random() < 0.85
    status = "paid" if paid else "pending"
    visit.deliveries.append(_order_record(rng, purchase, "orders/create", created, status))
    plan = _plan(rng, created, paid=paid)
    yield visit.finish(), plan[0][0]
    yield from _follow_up(rng, purchase, plan)


def _in_store(rng: Random, shop: Shop, at: int) -> _Journey:
    """An order at the till or from a draft: no checkout, no cart, no ad."""
    lines = tuple(_line(rng, shop) for _ in range(1 + _geometric(rng, 0.8)))
    source_name = "pos" if rng.random() < 0.75 else "shopify_draft_order"
    purchase = _purchase(rng, shop, _customer(rng), lines, at, source_name=source_name)
    plan = _plan(rng, at, paid=True)
    yield [_order_record(rng, purchase, "orders/create", at, "paid")], plan[0][0]
    yield from _follow_up(rng, purchase, plan)


def _plan(rng: Random, created: int, *, paid: bool) -> list[tuple[int, str, str]]:
    """What happens to an order after its creation: when, the topic, and the financial status by then."""
    fate = rng.random()
    cancelled = fate < 0.06
    settled = created + int(2 * SECOND if paid else rng.uniform(1, 40) * HOUR)
    if cancelled and not paid:
        return [(settled, "orders/cancelled", "voided")]
    plan = [(settled, "orders/paid", "paid")]
    if cancelled:
        plan.append((settled + int(rng.uniform(0.2, 20) * HOUR), "orders/cancelled", "refunded"))
    elif fate < 0.6:
        updated = settled + int(rng.uniform(1, 30) * HOUR)
        plan.append((updated, "orders/updated", "paid"))
        if fate < 0.14:
            plan.append((updated + int(rng.uniform(2, 60) * HOUR), "refunds/create", "refunded"))
    return plan


def _follow_up(rng: Random, purchase: Purchase, plan: list[tuple[int, str, str]]) -> _Journey:
    for (at, topic, status), later in zip_longest(plan, plan[1:]):
        yield [_order_record(rng, purchase, topic, at, status)], later[0] if later else None


def _order_record(rng: Random, purchase: Purchase, topic: str, at: int, status: str) -> Record:
    if topic == "refunds/create":
        value = payloads.refund_webhook(purchase, _id(rng), at)
    else:
        cancelled_at = at if topic == "orders/cancelled" else None
        fulfilled = topic == "orders/updated"
        value = payloads.order_webhook(purchase, at, status, fulfilled=fulfilled, cancelled_at=cancelled_at)
    client = purchase.client_id or purchase.cart_token or purchase.order_token
    return _webhook_record(rng, purchase.shop, client, topic, value, at)


# --- One visit ---


class _Source(NamedTuple):
    """Where a visit comes from: the referring page, and the query string that it brings along."""

    referrer: str
    query: str


class _Cart(msgspec.Struct):
    """What a visitor has put aside. It lasts from visit to visit."""

    token: str
    lines: list[Line] = []
    created: int | None = None


class _Visit:
    """A visitor on the site: `at` is the visit's own clock, `deliveries` the records that it has caused."""

    def __init__(self, rng: Random, visitor: Visitor, at: int, source: _Source, cart: _Cart) -> None:
        self.rng = rng
        self.at = at
        self.deliveries: _Deliveries = []
        self._visitor = visitor
        self._shop = visitor.shop
        self._cart = cart
        self._source = source
        self._page: Page | None = None
        self._landing = "/"

    def browse(self, *, pages: int, shopper: bool) -> None:
        """Land by the source, then look around; a shopper fills the cart."""
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
        if self._cart.lines and self.rng.random() < 0.6:
            self._view_cart()

    def abandon_checkout(self) -> None:
        """Start to check out, and leave on the way."""
        self._check_out_steps(self._new_purchase(), 1 + int(self.rng.random() * 3))

    def check_out(self) -> Purchase:
        """Go through the checkout to the moment when the order is placed."""
        purchase = self._new_purchase()
        self._check_out_steps(purchase, 5)
        self._wait(8)
        return msgspec.structs.replace(purchase, started_at=self.at)

    def complete(self, purchase: Purchase) -> None:
        """The pixel's own sighting of the order: mostly at once, sometimes after the webhooks."""
        delay = self.rng.uniform(8, 60) if self.rng.random() < 0.3 else self.rng.uniform(0.2, 2)
        self.at += int(delay * SECOND)
        self._open_checkout(purchase, "thank-you")
        self._pixel("checkout_completed", payloads.checkout(purchase, step=5, order=self._pixel_order(purchase)))

    def finish(self) -> _Deliveries:
        """Hand over the visit's records: a visitor who is away holds none."""
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
        self._open(path, title, query)
        if product:
            self._pixel("product_viewed", payloads.product_viewed(product))
        if query and self.rng.random() < 0.12:  # the same page again, with the same ad in its address
            self._wait(60)
            self._open(path, title, query)

    def _open(self, path: str, title: str, query: str = "") -> None:
        referrer = self._page.url if self._page else self._source.referrer
        self._page = payloads.page(self._visitor, path, query, title, referrer)
        self._pixel("page_viewed", {})

    def _open_checkout(self, purchase: Purchase, step: str) -> None:
        self._open(f"/checkouts/cn/{purchase.checkout_token}/{step}", "Checkout")

    def _any_product(self) -> Product:
        products = self._shop.products
        # Squaring has the first products sell best.
        return products[int(self.rng.random() ** 2 * len(products))]

    def _some_products(self) -> list[Product]:
        return [self._any_product() for _ in range(2 + int(self.rng.random() * 3))]

    def _view_product(self, *, shopper: bool) -> None:
        product = self._any_product()
        self._open(f"/products/{product.handle}", product.title)
        self._pixel("product_viewed", payloads.product_viewed(product))
        if self.rng.random() < (0.4 if shopper else 0.06):
            self._wait(15)
            line = Line(_id(self.rng), product, 1 + _geometric(self.rng, 0.3))
            self._cart.lines.append(line)
            self._pixel("product_added_to_cart", {"cartLine": payloads.cart_line(line, self._shop.currency)})
            self._cart_webhook()

    def _view_collection(self) -> None:
        products = self._some_products()
        name = products[0].vendor
        self._open(f"/collections/{name.lower().replace(' ', '-')}", name)
        self._pixel("collection_viewed", payloads.collection_viewed(products[0].id + 7, name, products))

    def _search(self) -> None:
        products = self._some_products()
        words = products[0].title.split()[-1].lower()
        self._open("/search", "Search", urlencode({"q": words}))
        self._pixel("search_submitted", payloads.search_submitted(words, products))

    def _custom(self) -> None:
        name = self.rng.choice(_CUSTOM_EVENTS)
        self._pixel(name, {"position": int(self.rng.random() * 9), "variant": "b"}, custom=True)

    def _view_cart(self) -> None:
        currency = self._shop.currency
        self._wait(10)
        self._open("/cart", "Your cart")
        self._pixel("cart_viewed", payloads.cart_viewed(self._cart.token, self._cart.lines, currency))
        if len(self._cart.lines) > 1 and self.rng.random() < 0.15:
            self._wait(10)
            line = self._cart.lines.pop()
            self._pixel("product_removed_from_cart", {"cartLine": payloads.cart_line(line, currency)})
            self._cart_webhook()

    def _cart_webhook(self) -> None:
        if not self._shop.sends_cart_webhooks:
            return
        topic = "carts/create" if self._cart.created is None else "carts/update"
        cart = self._cart
        cart.created = cart.created or self.at
        value = payloads.cart_webhook(cart.token, cart.lines, cart.created, self.at, self._shop.currency)
        self._webhook(topic, value)

    def _new_purchase(self) -> Purchase:
        self._wait(12)
        rng, shop, visitor = self.rng, self._shop, self._visitor
        return _purchase(
            rng,
            shop,
            visitor.customer,
            tuple(self._cart.lines),
            self.at,
            checkout_token=_token(rng),
            cart_token=self._cart.token,
            client_id=visitor.client_id if shop.passes_client else None,
            landing=self._landing,
            referrer=self._source.referrer,
        )

    def _check_out_steps(self, purchase: Purchase, steps: int) -> None:
        for step, name in enumerate(_CHECKOUT_STEPS[:steps]):
            if step:
                self._wait(20)
            else:
                self._open_checkout(purchase, "information")
            self._pixel(name, payloads.checkout(purchase, step=step, order={} if step % 2 else None))
            if step in (0, 2):
                topic = "checkouts/update" if step else "checkouts/create"
                self._webhook(topic, payloads.checkout_webhook(purchase, self.at, contact_known=step > 0))

    def _pixel_order(self, purchase: Purchase) -> dict[str, Any]:
        shape = self.rng.random()
        if shape < 0.3:
            return {"id": None}
        customer = {"id": str(purchase.customer.id), "isFirstOrder": True}
        order_id = f"gid://shopify/OrderIdentity/{purchase.order_id}" if shape < 0.5 else str(purchase.order_id)
        return {"id": order_id, "customer": customer}

    def _pixel(self, name: str, data: dict[str, Any], *, custom: bool = False) -> None:
        assert self._page is not None  # noqa: S101 (every visit begins with a page)
        rng, client = self.rng, self._visitor.client_id
        event_id = f"sh-{_uuid(rng)}"
        value = payloads.pixel_event(name, event_id, client, self.at, self._page, data, custom=custom)
        arrives = self.at + _latency(rng)
        headers: tuple[tuple[str, bytes], ...] = ()
        if rng.random() < 0.9:
            headers = (
                ("source", b"pixel"),
                ("event_id", event_id.encode()),
                ("shop_domain", self._shop.domain.encode()),
                ("received_at", payloads.iso_utc(arrives).encode()),
            )
        self.deliveries.append(Record(f"{self._shop.id}:{client}".encode(), value, headers, name, arrives))

    def _webhook(self, topic: str, value: bytes) -> None:
        client = self._visitor.client_id if self._shop.passes_client else self._cart.token
        self.deliveries.append(_webhook_record(self.rng, self._shop, client, topic, value, self.at))


def _latency(rng: Random) -> int:
    """Milliseconds from browser to topic: some records come late, after several that were sent later."""
    latency = 50 + int(rng.random() * 900)
    return latency + int(rng.random() * 2 * MINUTE) if rng.random() < 0.03 else latency


def _webhook_record(rng: Random, shop: Shop, client: str, topic: str, value: bytes, at: int) -> Record:
    """A webhook. Headers are missing only where the payload's shape tells the topic."""
    arrives = at + int(rng.uniform(0.3, 6) * SECOND) + _latency(rng)
    headers: tuple[tuple[str, bytes], ...] = ()
    if topic not in _TOLD_BY_SHAPE or rng.random() < 0.9:
        headers = (
            ("source", b"webhook"),
            ("topic", topic.encode()),
            ("event_id", _uuid(rng).encode()),
            ("shop_domain", shop.domain.encode()),
            ("received_at", payloads.iso_utc(arrives).encode()),
        )
    return Record(f"{shop.id}:{client}".encode(), value, headers, topic, arrives)


_TOLD_BY_SHAPE = {"orders/create", "checkouts/create", "carts/update", "refunds/create"}
_CUSTOM_EVENTS = ("newsletter_signup", "size_guide_opened", "review_read", "wishlist_added")
_CHECKOUT_STEPS = (
    "checkout_started",
    "checkout_contact_info_submitted",
    "checkout_address_info_submitted",
    "checkout_shipping_info_submitted",
    "payment_info_submitted",
)


# --- People, carts, ads ---


def _visitor(rng: Random, shop: Shop) -> Visitor:
    agent, width, height = rng.choice(_BROWSERS)
    return Visitor(shop, _uuid(rng), _customer(rng), payloads.navigator(agent, shop.market.language), (width, height))


def _customer(rng: Random) -> Customer:
    first, last = rng.choice(_FIRST_NAMES), rng.choice(_LAST_NAMES)
    # Not everybody writes an address alike; it is one customer all the same.
    written = f"{first}.{last}" if rng.random() < 0.2 else f"{first}.{last}".lower()
    email = f"{written}{int(rng.random() * 900)}@example.com"
    phone = f"+1555{int(rng.random() * 10**7):07d}" if rng.random() < 0.4 else None
    return Customer(_id(rng), email, first, last, phone)


def _line(rng: Random, shop: Shop) -> Line:
    return Line(_id(rng), rng.choice(shop.products), 1 + _geometric(rng, 0.3))


def _purchase(rng: Random, shop: Shop, customer: Customer, lines: tuple[Line, ...], at: int, **fields: Any) -> Purchase:
    percent = rng.choice((10, 15, 20)) if rng.random() < 0.3 else 0
    lines = tuple(
        msgspec.structs.replace(line, discount=line.full_price * percent // 100) if percent else line for line in lines
    )
    paid_for = sum(line.full_price - line.discount for line in lines)
    order_id = _id(rng)
    free = paid_for > 8000 * shop.market.price_level or "source_name" in fields
    return Purchase(
        shop=shop,
        customer=customer,
        lines=lines,
        checkout_id=_id(rng),
        order_id=order_id,
        order_token=_token(rng),
        number=1001 + order_id % 90_000,
        shipping=0 if free else _price(shop.market, 6),
        tax=paid_for * 8 // 100,
        started_at=at,
        discount_code=f"SAVE{percent}" if percent else None,
        **fields,
    )


def _source(rng: Random, shop: Shop, at: int) -> _Source:
    """An ad with its campaign and click id, or one of both alone; or a way that carries no ad data."""
    if rng.random() < 0.36:
        return _Source(rng.choice(_UNPAID_REFERRERS), "")
    referrer, click_id, source, medium = _ADS[bisect(_AD_WEIGHTS, rng.random() * _AD_WEIGHTS[-1])]
    shape = rng.random()
    query: dict[str, str] = {}
    if not click_id or shape < 0.75:
        query["utm_source"] = source
        query["utm_medium"] = medium
        query["utm_campaign"] = rng.choice(shop.campaigns)
        if shape < 0.3:
            query["utm_content"] = f"creative-{int(rng.random() * 9)}"
        if shape < 0.1:
            query["utm_term"] = rng.choice(("running shoes", "gift ideas", "naïve art", "linen shirt"))
    if click_id and shape > 0.1:
        query[click_id] = _click_id(rng, click_id, at)
    return _Source(referrer, urlencode(query))


def _click_id(rng: Random, kind: str, at: int) -> str:
    value = f"{rng.getrandbits(200):050x}"
    if kind == "gclid":
        return f"Cj0KCQiA{value}_BwE"
    if kind == "fbclid":
        return f"IwAR{at // SECOND:x}{value}"
    return f"{kind[0].upper()}.{value}" if kind == "ttclid" else value[:36]


def _geometric(rng: Random, mean: float) -> int:
    """A whole number from 0 up, smaller ones more often."""
    return int(math.log(1 - rng.random()) / math.log(mean / (1 + mean)))


def _id(rng: Random) -> int:
    """An id as Shopify gives them: an integer of 13 digits or so."""
    return 5_000_000_000_000 + rng.getrandbits(42)


def _token(rng: Random) -> str:
    return f"{rng.getrandbits(128):032x}"


def _uuid(rng: Random) -> str:
    """A version 4 UUID."""
    text = _token(rng)
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


# --- Messages that cannot be understood ---


def _broken(rng: Random, record: Record, at: int) -> Record:
    """A record, changed in one of many ways so that it cannot be understood."""
    key, value, headers = record.key, record.value, record.headers
    fault = rng.random()
    if fault < 0.3:
        key = _broken_key(rng, key)
    elif fault < 0.75:
        value = _broken_value(rng, value)
    else:
        value = _without_id(rng, value)
        headers = tuple(header for header in headers if header[0] != "event_id")
    return Record(key, value, headers, record.name, at, "malformed")


def _broken_key(rng: Random, key: bytes) -> bytes:
    shop, _, client = key.partition(b":")
    return rng.choice((b"", shop + client, shop + b":", b":" + client, b"\xff\xfe" + key))


def _broken_value(rng: Random, value: bytes) -> bytes:
    truncated = value[: 1 + int(rng.random() * (len(value) - 2))]
    not_utf8 = value.replace(b'"', b'"\xc3\x28', 1)
    others = (b"<html><body>502 Bad Gateway</body></html>", b"", b"null", b'"page_viewed"', b"[" + value + b"]")
    return rng.choice((truncated, truncated, not_utf8, rng.randbytes(200), *others))


def _without_id(rng: Random, value: bytes) -> bytes:
    """The payload without its id, or with one of a wrong type."""
    payload = msgspec.json.decode(value)
    payload["id"] = rng.choice((None, ["gid://shopify/Order/1"], {"value": 1}))
    payload.pop("token", None)  # a cart's token is its id
    return msgspec.json.encode(payload)


# --- Shops ---


def _shop(rng: Random, rank: int) -> Shop:
    market = _MARKETS[rank % len(_MARKETS)]
    name = f"{rng.choice(_ADJECTIVES)}-{rng.choice(_NOUNS)}-{rank + 1}".lower()
    domain = f"{name}.myshopify.com"
    products = tuple(_product(rng, market, domain) for _ in range(max(6, 120 // (rank + 1))))
    campaigns = tuple(rng.sample(_CAMPAIGNS, 4))
    return Shop(
        id=str(60_000_000_000 + rng.getrandbits(33)),
        domain=domain,
        market=market,
        passes_client=rank % 3 != 1,
        sends_cart_webhooks=rank % 2 == 0,
        products=products,
        campaigns=campaigns,
    )


def _product(rng: Random, market: Market, domain: str) -> Product:
    adjective, noun = rng.choice(_ADJECTIVES), rng.choice(_NOUNS)
    number = rng.getrandbits(40)
    fields: dict[str, Any] = {
        "id": 7_000_000_000_000 + number,
        "variant_id": 40_000_000_000_000 + number,
        "handle": f"{adjective}-{noun}".lower(),
        "title": f"{adjective} {noun}",
        "variant_title": rng.choice(("Default Title", "S", "M", "L / Blue", None)),
        "vendor": rng.choice(_VENDORS),
        "sku": f"{noun[:3].upper()}-{number % 9999:04d}" if rng.random() < 0.9 else None,
        "price": _price(market, 6 + rng.random() ** 2 * 180),
    }
    return Product(**fields, pixel=payloads.variant(market.currency, domain, **fields))


def _price(market: Market, dollars: float) -> int:
    """A price in minor units: 19.99 where there are cents, round where there are none, 5.250 in dinars."""
    decimals = payloads.DECIMALS.get(market.currency, 2)
    amount = dollars * market.price_level
    if decimals == 0:
        return max(1, int(amount / 10)) * 10
    return max(1, int(amount)) * 100 - 1 if decimals == 2 else max(1, int(amount * 4)) * 250


_US = Market(
    "USD", -300, 1, False, "en-US", "United States", "US", "New York", "NY", "New York", "10013", "33 Spring St"
)
_MARKETS = (
    _US,
    Market("EUR", 60, 0.9, True, "de-DE", "Germany", "DE", "Berlin", "BE", "Berlin", "10119", "Torstraße 12"),
    Market("GBP", 0, 0.8, True, "en-GB", "United Kingdom", "GB", "England", "ENG", "Leeds", "LS1 4AP", "4 Park Row"),
    Market("JPY", 540, 150, True, "ja-JP", "Japan", "JP", "Tokyo", "JP-13", "渋谷区", "150-0001", "神宮前1-2-3"),
    _US,
    Market("KWD", 180, 0.3, True, "ar-KW", "Kuwait", "KW", "Al Asimah", "KU", "Kuwait City", "13001", "Fahad St 7"),
    Market(
        "CAD", -480, 1.4, False, "en-CA", "Canada", "CA", "British Columbia", "BC", "Vancouver", "V6B 1A1", "9 Main"
    ),
    Market("EUR", 60, 0.9, True, "fr-FR", "France", "FR", "Rhône", "69", "Lyon", "69002", "5 rue Mercière"),
    Market("AUD", 600, 1.5, True, "en-AU", "Australia", "AU", "Victoria", "VIC", "Melbourne", "3000", "1 Swan St"),
    Market("INR", 330, 84, True, "en-IN", "India", "IN", "Karnataka", "KA", "Bengaluru", "560001", "12 MG Road"),
    Market("KRW", 540, 1300, True, "ko-KR", "South Korea", "KR", "Seoul", "KR-11", "강남구", "06236", "테헤란로 152"),
    Market("CHF", 60, 0.9, True, "de-CH", "Switzerland", "CH", "Zürich", "ZH", "Zürich", "8001", "Rennweg 3"),
)

# Referrer, click id, utm_source, utm_medium; the weights are the ads' shares of all paid visits.
_ADS = (
    ("https://www.google.com/", "gclid", "google", "cpc"),
    ("https://www.google.com/", "gbraid", "google", "cpc"),
    ("https://www.google.com/", "wbraid", "google", "cpc"),
    ("https://l.facebook.com/", "fbclid", "facebook", "paid_social"),
    ("https://l.instagram.com/", "fbclid", "instagram", "paid_social"),
    ("https://www.tiktok.com/", "ttclid", "tiktok", "paid_social"),
    ("https://www.bing.com/", "msclkid", "bing", "cpc"),
    ("https://www.pinterest.com/", "epik", "pinterest", "paid_social"),
    ("https://www.snapchat.com/", "ScCid", "snapchat", "paid_social"),
    ("https://t.co/", "twclid", "twitter", "paid_social"),
    ("", None, "klaviyo", "email"),
    ("", None, "influencer", "referral"),
)
_AD_WEIGHTS = list(accumulate((24, 3, 2, 22, 7, 13, 6, 5, 4, 2, 9, 3)))
_UNPAID_REFERRERS = ("", "", "https://www.google.com/", "https://duckduckgo.com/", "https://www.reddit.com/")
_CAMPAIGNS = (
    "spring_sale",
    "brand-search",
    "retargeting 30d",
    "prospecting_lookalike",
    "bundles & sets",
    "été-2026",
    "1203948571029",
    "new arrivals",
)

_BROWSERS = (
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1"
        " Mobile/15E148 Safari/604.1",
        390,
        664,
    ),
    (
        "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile"
        " Safari/537.36",
        412,
        785,
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"
        " Safari/537.36",
        1512,
        823,
    ),
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"
        " Safari/537.36 Edg/131.0.0.0",
        1536,
        730,
    ),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0", 1920, 947),
)
_FIRST_NAMES = ("Ada", "Bao", "Chloé", "Diego", "Elif", "Fatima", "Grace", "Hiro", "Ines", "Jonas", "Kwame", "Lena")
_LAST_NAMES = ("Abe", "Brown", "Costa", "Dubois", "Evans", "Fischer", "Garcia", "Haddad", "Ito", "Jensen", "Kim")
_ADJECTIVES = ("Linen", "Oak", "Everyday", "Midnight", "Alpine", "Organic", "Copper", "Wool", "Solar", "Pocket")
_NOUNS = ("Shirt", "Lamp", "Mug", "Backpack", "Notebook", "Candle", "Sneaker", "Blanket", "Kettle", "Scarf")
_VENDORS = ("Acme", "Northwind Goods", "Atelier Lumen", "Kumo Works")
