"""The shapes of Shopify's payloads: web pixel events and webhooks as bytes of JSON, from what happened in a shop.

Amounts are integer minor units in here. Pixel payloads carry them as JSON numbers and webhooks as decimal strings,
as Shopify does. Whatever many payloads share (a product, a page's context) is encoded once and copied in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
DECIMALS = {"JPY": 0, "KRW": 0, "KWD": 3}

_encode = msgspec.json.Encoder().encode


class Market(msgspec.Struct, frozen=True):
    """Where a shop sells: its currency, the offset of its clock in minutes, and what an address there looks like.

    `price_level` is roughly what one dollar is in this currency.
    """

    currency: str
    offset: int
    price_level: float
    tax_included: bool
    language: str
    country: str
    country_code: str
    province: str
    province_code: str
    city: str
    postal_code: str
    street: str


class Product(msgspec.Struct, frozen=True):
    """A product with its one variant. `price` is in minor units; `pixel` is the variant as pixel events show it."""

    id: int
    variant_id: int
    handle: str
    title: str
    variant_title: str | None
    vendor: str
    sku: str | None
    price: int
    pixel: msgspec.Raw


class Shop(msgspec.Struct, frozen=True):
    """A shop. `passes_client`: its theme hands the pixel's client id on to carts and orders."""

    id: str
    domain: str
    market: Market
    passes_client: bool
    sends_cart_webhooks: bool
    products: tuple[Product, ...]
    campaigns: tuple[str, ...]

    @property
    def currency(self) -> str:
        """The ISO 4217 code that the shop's amounts are in."""
        return self.market.currency


class Customer(msgspec.Struct, frozen=True):
    """A person as the checkout knows them."""

    id: int
    email: str
    first_name: str
    last_name: str
    phone: str | None


class Visitor(msgspec.Struct, frozen=True):
    """A browser in a shop. `navigator` is what it says of itself, encoded; `viewport` is inner width and height."""

    shop: Shop
    client_id: str
    customer: Customer
    navigator: msgspec.Raw
    viewport: tuple[int, int]


class Page(msgspec.Struct, frozen=True):
    """A page that a visitor has open. `context` is the context of every pixel event on it, encoded."""

    url: str
    context: msgspec.Raw


class Line(msgspec.Struct, frozen=True):
    """Some of a product in a cart. `discount` is what is taken off the whole line, in minor units."""

    id: int
    product: Product
    quantity: int
    discount: int = 0

    @property
    def full_price(self) -> int:
        """Minor units before the discount."""
        return self.product.price * self.quantity


class Purchase(msgspec.Struct, frozen=True):
    """A checkout and the order that it may become. Amounts are minor units, times milliseconds since the epoch.

    `checkout_token` and `cart_token` are None for an order that was not placed on the storefront; `client_id` is None
    where the theme does not hand it on; `landing` is the path and query string that the buyer's session began with.
    """

    shop: Shop
    customer: Customer
    lines: tuple[Line, ...]
    checkout_id: int
    order_id: int
    order_token: str
    number: int
    shipping: int
    tax: int
    started_at: int
    discount_code: str | None = None
    checkout_token: str | None = None
    cart_token: str | None = None
    client_id: str | None = None
    landing: str | None = None
    referrer: str | None = None
    source_name: str = "web"

    @property
    def subtotal(self) -> int:
        """The lines after their discounts."""
        return sum(line.full_price - line.discount for line in self.lines)

    @property
    def discount(self) -> int:
        """What is taken off all lines together."""
        return sum(line.discount for line in self.lines)

    def total(self, *, shipped: bool = True) -> int:
        """What the buyer pays; until a shipping rate is chosen (`shipped`) without its price."""
        tax = 0 if self.shop.market.tax_included else self.tax
        return self.subtotal + tax + (self.shipping if shipped else 0)


def number(units: int, currency: str) -> int | float:
    """Minor units as the JSON number that JavaScript would write: 1999 USD is 19.99, 2000 USD is 20."""
    scale: int = 10 ** DECIMALS.get(currency, 2)
    return units / scale if units % scale else units // scale


def decimal(units: int, currency: str) -> str:
    """Minor units as a decimal string: 1999 USD is "19.99", 1999 JPY is "1999"."""
    decimals = DECIMALS.get(currency, 2)
    if not decimals:
        return str(units)
    whole, part = divmod(units, 10**decimals)
    return f"{whole}.{part:0{decimals}d}"


def iso_utc(millis: int) -> str:
    """Milliseconds since the epoch as `2026-01-05T09:30:00.000Z`."""
    return (EPOCH + timedelta(milliseconds=millis)).isoformat(timespec="milliseconds")[:-6] + "Z"


def iso_local(millis: int, market: Market) -> str:
    """Milliseconds since the epoch on the shop's clock: `2026-01-05T04:30:00-05:00`."""
    clock = timezone(timedelta(minutes=market.offset))
    return (EPOCH + timedelta(milliseconds=millis)).astimezone(clock).isoformat(timespec="seconds")


def variant(
    currency: str, domain: str, *, price: int, title: str, variant_title: str | None, **ids: Any
) -> msgspec.Raw:
    """A product variant as pixel events show it, encoded. `ids`: id, variant_id, handle, vendor, sku."""
    return msgspec.Raw(
        _encode(
            {
                "id": str(ids["variant_id"]),
                "image": {"src": f"https://{domain}/cdn/shop/products/{ids['handle']}.jpg?v=1704067200"},
                "price": _amount(price, currency),
                "product": {
                    "id": str(ids["id"]),
                    "title": title,
                    "untranslatedTitle": title,
                    "url": f"/products/{ids['handle']}",
                    "vendor": ids["vendor"],
                    "type": "",
                },
                "sku": ids["sku"],
                "title": variant_title,
                "untranslatedTitle": variant_title,
            }
        )
    )


def navigator(user_agent: str, language: str) -> msgspec.Raw:
    """What a browser says of itself, encoded."""
    languages = [language, language.partition("-")[0]]
    fields = {"language": language, "cookieEnabled": True, "languages": languages, "userAgent": user_agent}
    return msgspec.Raw(_encode(fields))


def page(visitor: Visitor, path: str, query: str, title: str, referrer: str) -> Page:
    """Open a page. `query` is the query string without its question mark, or empty."""
    host = visitor.shop.domain
    origin = f"https://{host}"
    search = f"?{query}" if query else ""
    url = f"{origin}{path}{search}"
    location = msgspec.Raw(
        _encode(
            {
                "href": url,
                "hash": "",
                "host": host,
                "hostname": host,
                "origin": origin,
                "pathname": path,
                "port": "",
                "protocol": "https:",
                "search": search,
            }
        )
    )
    width, height = visitor.viewport
    context = {
        "document": {"location": location, "referrer": referrer, "characterSet": "UTF-8", "title": title},
        "navigator": visitor.navigator,
        "window": {
            "innerHeight": height,
            "innerWidth": width,
            "outerHeight": height + 139,
            "outerWidth": width,
            "pageXOffset": 0,
            "pageYOffset": 0,
            "location": location,
            "origin": origin,
            "screen": {"height": height + 231, "width": width},
            "screenX": 0,
            "screenY": 0,
            "scrollX": 0,
            "scrollY": 0,
        },
    }
    return Page(url, msgspec.Raw(_encode(context)))


def pixel_event(
    name: str, event_id: str, client_id: str, at: int, opened: Page, data: Mapping[str, Any], *, custom: bool = False
) -> bytes:
    """A web pixel event. A custom event carries its data as `customData`."""
    event: dict[str, Any] = {
        "id": event_id,
        "name": name,
        "clientId": client_id,
        "timestamp": iso_utc(at),
        "type": "custom" if custom else "standard",
    }
    event["customData" if custom else "data"] = data
    event["context"] = opened.context
    return _encode(event)


def product_viewed(product: Product) -> dict[str, Any]:
    """The data of `product_viewed`."""
    return {"productVariant": product.pixel}


def collection_viewed(collection_id: int, title: str, products: Sequence[Product]) -> dict[str, Any]:
    """The data of `collection_viewed`."""
    variants = [product.pixel for product in products]
    return {"collection": {"id": str(collection_id), "title": title, "productVariants": variants}}


def search_submitted(query: str, products: Sequence[Product]) -> dict[str, Any]:
    """The data of `search_submitted`."""
    return {"searchResult": {"query": query, "productVariants": [product.pixel for product in products]}}


def cart_line(line: Line, currency: str) -> dict[str, Any]:
    """A line of a cart, as in `product_added_to_cart` and `product_removed_from_cart`."""
    return {
        "cost": {"totalAmount": _amount(line.full_price, currency)},
        "merchandise": line.product.pixel,
        "quantity": line.quantity,
    }


def cart_viewed(cart_token: str, lines: Sequence[Line], currency: str) -> dict[str, Any]:
    """The data of `cart_viewed`; the cart is null when it is empty."""
    if not lines:
        return {"cart": None}
    return {
        "cart": {
            "id": cart_token,
            "cost": {"totalAmount": _amount(sum(line.full_price for line in lines), currency)},
            "lines": [cart_line(line, currency) for line in lines],
            "totalQuantity": sum(line.quantity for line in lines),
            "attributes": [],
        }
    }


def checkout(purchase: Purchase, *, step: int, order: dict[str, Any] | None = None) -> dict[str, Any]:
    """The data of a checkout event.

    Arguments:
        purchase: The checkout.
        step: How far it has come: 0 started, 1 contact, 2 address, 3 shipping, 4 payment, 5 completed.
        order: What the pixel knows of the order: `{"id": …}`, an empty object, or None.
    """
    currency = purchase.shop.currency
    shipped = step >= 3
    return {
        "checkout": {
            "attributes": [],
            "billingAddress": _pixel_address(purchase) if step >= 4 else None,
            "buyerAcceptsEmailMarketing": False,
            "currencyCode": currency,
            "discountApplications": _pixel_discounts(purchase),
            "discountsAmount": _amount(purchase.discount, currency),
            "email": purchase.customer.email if step >= 1 else None,
            "lineItems": [_checkout_line(line, currency) for line in purchase.lines],
            "order": order,
            "phone": purchase.customer.phone,
            "shippingAddress": _pixel_address(purchase) if step >= 2 else None,
            "shippingLine": {"price": _amount(purchase.shipping, currency)} if shipped else None,
            "subtotalPrice": _amount(purchase.subtotal, currency),
            "token": purchase.checkout_token,
            "totalPrice": _amount(purchase.total(shipped=shipped), currency),
            "totalTax": _amount(purchase.tax, currency),
            "transactions": [_transaction(purchase)] if step >= 5 else [],
        }
    }


def order_webhook(
    purchase: Purchase, at: int, financial_status: str, *, fulfilled: bool = False, cancelled_at: int | None = None
) -> bytes:
    """The payload of `orders/create`, `orders/paid`, `orders/updated`, `orders/cancelled`; `at` is its last change."""
    shop, currency = purchase.shop, purchase.shop.currency
    created_at = iso_local(purchase.started_at, shop.market)
    return _encode(
        {
            "id": purchase.order_id,
            "admin_graphql_api_id": f"gid://shopify/Order/{purchase.order_id}",
            "app_id": 580111,
            "cancel_reason": "customer" if cancelled_at is not None else None,
            "cancelled_at": None if cancelled_at is None else iso_local(cancelled_at, shop.market),
            "cart_token": purchase.cart_token,
            "checkout_id": purchase.checkout_id if purchase.checkout_token else None,
            "checkout_token": purchase.checkout_token,
            "closed_at": None,
            "confirmed": True,
            "contact_email": purchase.customer.email,
            "created_at": created_at,
            "currency": currency,
            "current_total_price": decimal(purchase.total(), currency),
            "discount_codes": _discount_codes(purchase),
            "email": purchase.customer.email,
            "financial_status": financial_status,
            "fulfillment_status": "fulfilled" if fulfilled else None,
            "landing_site": purchase.landing,
            "name": f"#{purchase.number}",
            "note": None,
            "note_attributes": _note_attributes(purchase),
            "number": purchase.number - 1000,
            "order_number": purchase.number,
            "payment_gateway_names": ["shopify_payments"],
            "presentment_currency": currency,
            "processed_at": created_at,
            "referring_site": purchase.referrer,
            "source_name": purchase.source_name,
            "subtotal_price": decimal(purchase.subtotal, currency),
            "tags": "",
            "taxes_included": shop.market.tax_included,
            "test": False,
            "token": purchase.order_token,
            "total_discounts": decimal(purchase.discount, currency),
            "total_line_items_price": decimal(sum(line.full_price for line in purchase.lines), currency),
            "total_price": decimal(purchase.total(), currency),
            "total_price_set": _money_set(purchase.total(), currency),
            "total_tax": decimal(purchase.tax, currency),
            "updated_at": iso_local(at, shop.market),
            "customer": _webhook_customer(purchase, created_at),
            "line_items": [_order_line(line, currency) for line in purchase.lines],
            "refunds": [],
            "shipping_address": _webhook_address(purchase),
            "shipping_lines": [{"title": "Standard", "price": decimal(purchase.shipping, currency)}],
        }
    )


def checkout_webhook(purchase: Purchase, at: int, *, contact_known: bool) -> bytes:
    """The payload of `checkouts/create` and `checkouts/update`."""
    shop, currency = purchase.shop, purchase.shop.currency
    recover = f"https://{shop.domain}/{shop.id}/checkouts/{purchase.checkout_token}/recover"
    return _encode(
        {
            "id": purchase.checkout_id,
            "token": purchase.checkout_token,
            "cart_token": purchase.cart_token,
            "email": purchase.customer.email if contact_known else None,
            "gateway": None,
            "buyer_accepts_marketing": False,
            "created_at": iso_local(purchase.started_at, shop.market),
            "updated_at": iso_local(at, shop.market),
            "landing_site": purchase.landing,
            "note": None,
            "note_attributes": _note_attributes(purchase),
            "referring_site": purchase.referrer,
            "shipping_lines": [],
            "taxes_included": shop.market.tax_included,
            "total_weight": 0,
            "currency": currency,
            "completed_at": None,
            "customer_locale": shop.market.language,
            "line_items": [_checkout_webhook_line(line, currency) for line in purchase.lines],
            "name": f"#{purchase.checkout_id}",
            "abandoned_checkout_url": recover,
            "discount_codes": _discount_codes(purchase),
            "tax_lines": [],
            "presentment_currency": currency,
            "source_name": "web",
            "total_line_items_price": decimal(sum(line.full_price for line in purchase.lines), currency),
            "total_tax": decimal(purchase.tax, currency),
            "total_discounts": decimal(purchase.discount, currency),
            "subtotal_price": decimal(purchase.subtotal, currency),
            "total_price": decimal(purchase.total(), currency),
            "shipping_address": _webhook_address(purchase) if contact_known else None,
        }
    )


def cart_webhook(cart_token: str, lines: Sequence[Line], created_at: int, at: int, currency: str) -> bytes:
    """The payload of `carts/create` and `carts/update`, whose id is the cart's token."""
    return _encode(
        {
            "id": cart_token,
            "token": cart_token,
            "line_items": [_cart_webhook_line(line, currency) for line in lines],
            "note": None,
            "updated_at": iso_utc(at),
            "created_at": iso_utc(created_at),
        }
    )


def refund_webhook(purchase: Purchase, refund_id: int, at: int) -> bytes:
    """The payload of `refunds/create`: all of the order's lines come back."""
    market, currency = purchase.shop.market, purchase.shop.currency
    lines = [
        {
            "id": line.id + 1,
            "quantity": line.quantity,
            "line_item_id": line.id,
            "location_id": None,
            "restock_type": "return",
            "subtotal": number(line.full_price - line.discount, currency),
            "total_tax": 0,
            "line_item": _order_line(line, currency),
        }
        for line in purchase.lines
    ]
    transaction = {
        "id": refund_id + 1,
        "order_id": purchase.order_id,
        "kind": "refund",
        "gateway": "shopify_payments",
        "status": "success",
        "amount": decimal(purchase.total(), currency),
        "currency": currency,
        "created_at": iso_local(at, market),
    }
    return _encode(
        {
            "id": refund_id,
            "order_id": purchase.order_id,
            "created_at": iso_local(at, market),
            "note": "it broke during shipping",
            "user_id": 548380009,
            "processed_at": iso_local(at, market),
            "restock": True,
            "admin_graphql_api_id": f"gid://shopify/Refund/{refund_id}",
            "refund_line_items": lines,
            "transactions": [transaction],
            "order_adjustments": [],
        }
    )


def _amount(units: int, currency: str) -> dict[str, Any]:
    return {"amount": number(units, currency), "currencyCode": currency}


def _money_set(units: int, currency: str) -> dict[str, Any]:
    money = {"amount": decimal(units, currency), "currency_code": currency}
    return {"shop_money": money, "presentment_money": money}


def _pixel_address(purchase: Purchase) -> dict[str, Any]:
    customer, market = purchase.customer, purchase.shop.market
    return {
        "address1": market.street,
        "address2": None,
        "city": market.city,
        "country": market.country_code,
        "countryCode": market.country_code,
        "firstName": customer.first_name,
        "lastName": customer.last_name,
        "phone": customer.phone,
        "province": market.province,
        "provinceCode": market.province_code,
        "zip": market.postal_code,
    }


def _pixel_discounts(purchase: Purchase) -> list[dict[str, Any]]:
    if not purchase.discount:
        return []
    return [
        {
            "allocationMethod": "ACROSS",
            "targetSelection": "ALL",
            "targetType": "LINE_ITEM",
            "title": purchase.discount_code,
            "type": "DISCOUNT_CODE",
            "value": _amount(purchase.discount, purchase.shop.currency),
        }
    ]


def _checkout_line(line: Line, currency: str) -> dict[str, Any]:
    allocations = [{"amount": _amount(line.discount, currency), "discountApplication": None}] if line.discount else []
    return {
        "discountAllocations": allocations,
        "finalLinePrice": _amount(line.full_price - line.discount, currency),
        "id": str(line.id),
        "properties": [],
        "quantity": line.quantity,
        "title": line.product.title,
        "variant": line.product.pixel,
    }


def _transaction(purchase: Purchase) -> dict[str, Any]:
    amount = _amount(purchase.total(), purchase.shop.currency)
    return {"amount": amount, "gateway": "shopify_payments", "paymentMethod": {"name": "visa", "type": "creditCard"}}


def _note_attributes(purchase: Purchase) -> list[dict[str, str]]:
    return [{"name": "_truepixel_client_id", "value": purchase.client_id}] if purchase.client_id else []


def _discount_codes(purchase: Purchase) -> list[dict[str, str]]:
    if not purchase.discount_code or not purchase.discount:
        return []
    amount = decimal(purchase.discount, purchase.shop.currency)
    return [{"code": purchase.discount_code, "amount": amount, "type": "percentage"}]


def _webhook_customer(purchase: Purchase, created_at: str) -> dict[str, Any]:
    customer = purchase.customer
    return {
        "id": customer.id,
        "email": customer.email,
        "created_at": created_at,
        "first_name": customer.first_name,
        "last_name": customer.last_name,
        "state": "disabled",
        "verified_email": True,
        "phone": customer.phone,
        "currency": purchase.shop.currency,
        "admin_graphql_api_id": f"gid://shopify/Customer/{customer.id}",
    }


def _webhook_address(purchase: Purchase) -> dict[str, Any]:
    customer, market = purchase.customer, purchase.shop.market
    return {
        "first_name": customer.first_name,
        "last_name": customer.last_name,
        "address1": market.street,
        "address2": None,
        "phone": customer.phone,
        "city": market.city,
        "zip": market.postal_code,
        "province": market.province,
        "country": market.country,
        "country_code": market.country_code,
        "province_code": market.province_code,
        "name": f"{customer.first_name} {customer.last_name}",
    }


def _order_line(line: Line, currency: str) -> dict[str, Any]:
    product = line.product
    off = decimal(line.discount, currency)
    allocation = {"amount": off, "amount_set": _money_set(line.discount, currency), "discount_application_index": 0}
    return {
        "id": line.id,
        "admin_graphql_api_id": f"gid://shopify/LineItem/{line.id}",
        "fulfillable_quantity": line.quantity,
        "fulfillment_status": None,
        "gift_card": False,
        "grams": 0,
        "name": product.title,
        "price": decimal(product.price, currency),
        "price_set": _money_set(product.price, currency),
        "product_exists": True,
        "product_id": product.id,
        "properties": [],
        "quantity": line.quantity,
        "requires_shipping": True,
        "sku": product.sku,
        "taxable": True,
        "title": product.title,
        # Zero for a discount code: Shopify counts only a line's own, manual discounts in here.
        "total_discount": decimal(0, currency),
        "variant_id": product.variant_id,
        "variant_title": product.variant_title,
        "vendor": product.vendor,
        "discount_allocations": [allocation] if line.discount else [],
    }


def _checkout_webhook_line(line: Line, currency: str) -> dict[str, Any]:
    product = line.product
    allocations = [{"id": None, "amount": decimal(line.discount, currency), "description": "code"}]
    return {
        "key": f"{line.id:x}",
        "discount_allocations": allocations if line.discount else [],
        "gift_card": False,
        "grams": 0,
        "line_price": decimal(line.full_price, currency),
        "price": decimal(product.price, currency),
        "product_id": product.id,
        "quantity": line.quantity,
        "requires_shipping": True,
        "sku": product.sku,
        "taxable": True,
        "title": product.title,
        "variant_id": product.variant_id,
        "variant_title": product.variant_title,
        "vendor": product.vendor,
    }


def _cart_webhook_line(line: Line, currency: str) -> dict[str, Any]:
    product = line.product
    price, full = decimal(product.price, currency), decimal(line.full_price, currency)
    return {
        "id": product.variant_id,
        "properties": None,
        "quantity": line.quantity,
        "variant_id": product.variant_id,
        "key": f"{product.variant_id}:{line.id:x}",
        "discounted_price": price,
        "discounts": [],
        "gift_card": False,
        "grams": 0,
        "line_price": full,
        "original_line_price": full,
        "original_price": price,
        "price": price,
        "product_id": product.id,
        "sku": product.sku,
        "taxable": True,
        "title": product.title,
        "total_discount": decimal(0, currency),
        "vendor": product.vendor,
    }
