"""Web pixel events as Shopify's customer events send them (shopify.dev, Web Pixels API, standard events).

Amounts are JSON numbers in the buyer's currency; ids are strings. Parts that many events share (a product, a page's
context) are encoded once and copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from truepixel_dagster.local.payloads.model import (
    Line,
    Page,
    Presentment,
    Product,
    Purchase,
    Visitor,
    shown_discount,
    shown_price,
)
from truepixel_dagster.local.payloads.text import amount, iso_utc

_encode = msgspec.json.Encoder().encode


def variant(currency: str, host: str, *, price: int, title: str, variant_title: str | None, **ids: Any) -> msgspec.Raw:
    """Return an encoded product variant of pixel events. `ids`: id, variant_id, handle, vendor, sku."""
    return msgspec.Raw(
        _encode(
            {
                "id": str(ids["variant_id"]),
                "image": {"src": f"https://{host}/cdn/shop/products/{ids['handle']}.jpg?v=1704067200"},
                "price": amount(price, currency),
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
    """Return a browser's encoded `navigator` object."""
    languages = [language, language.partition("-")[0]]
    fields = {"language": language, "cookieEnabled": True, "languages": languages, "userAgent": user_agent}
    return msgspec.Raw(_encode(fields))


def cut_title(title: str) -> msgspec.Raw:
    """Return a title that JavaScript's `substring` cut in the middle of an emoji: it ends in half a surrogate pair."""
    return msgspec.Raw(_encode(title)[:-1] + b' \\ud83c"')


def page(visitor: Visitor, path: str, query: str, title: str | msgspec.Raw, referrer: str) -> Page:
    """Open a page. `query` is the query string without its question mark, or empty; a title may be encoded already."""
    host = visitor.shop.host
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
    name: str,
    event_id: str,
    client_id: str | None,
    at: int,
    opened: Page,
    data: Mapping[str, Any],
    *,
    custom: bool = False,
    seq: int | None = None,
) -> bytes:
    """Return a web pixel event.

    Arguments:
        name: The event's name.
        event_id: The event's id.
        client_id: The browser's id; None if the visitor did not consent.
        at: The time by the browser's clock, in milliseconds since the epoch.
        opened: The page.
        data: The event's data.
        custom: Whether it is a custom event, which has its data as `customData`.
        seq: The event's number on the page, from 1; None omits the field.
    """
    event: dict[str, Any] = {
        "id": event_id,
        "name": name,
        "clientId": client_id,
        "timestamp": iso_utc(at),
        "type": "custom" if custom else "standard",
    }
    if seq is not None:
        event["seq"] = seq
    event["customData" if custom else "data"] = data
    event["context"] = opened.context
    return _encode(event)


def product_viewed(product: Product, currency: str) -> dict[str, Any]:
    """Return the data of `product_viewed`."""
    return {"productVariant": product.shown(currency)}


def collection_viewed(collection_id: int, title: str, products: Sequence[Product], currency: str) -> dict[str, Any]:
    """Return the data of `collection_viewed`."""
    variants = [product.shown(currency) for product in products]
    return {"collection": {"id": str(collection_id), "title": title, "productVariants": variants}}


def search_submitted(query: str, products: Sequence[Product], currency: str) -> dict[str, Any]:
    """Return the data of `search_submitted`."""
    return {"searchResult": {"query": query, "productVariants": [product.shown(currency) for product in products]}}


def cart_line(line: Line, seen_in: Presentment) -> dict[str, Any]:
    """Return a line of a cart, as in `product_added_to_cart` and `product_removed_from_cart`."""
    return {
        "cost": {"totalAmount": amount(shown_price(line, seen_in), seen_in.currency)},
        "merchandise": line.product.shown(seen_in.currency),
        "quantity": line.quantity,
    }


def cart_viewed(cart_token: str, lines: Sequence[Line], seen_in: Presentment) -> dict[str, Any]:
    """Return the data of `cart_viewed`; an empty cart is null."""
    if not lines:
        return {"cart": None}
    return {
        "cart": {
            "id": cart_token,
            "cost": {"totalAmount": amount(sum(shown_price(line, seen_in) for line in lines), seen_in.currency)},
            "lines": [cart_line(line, seen_in) for line in lines],
            "totalQuantity": sum(line.quantity for line in lines),
            "attributes": [],
        }
    }


def checkout(purchase: Purchase, *, step: int, order: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the data of a checkout event.

    Arguments:
        purchase: The checkout.
        step: The last completed step: 0 started, 1 contact, 2 address, 3 shipping, 4 payment, 5 completed.
        order: The pixel's data of the order: `{"id": …}`, an empty object, or None.
    """
    seen_in, shipped = purchase.presentment, step >= 3
    currency, of = seen_in.currency, seen_in.of
    found = {
        "attributes": [],
        "billingAddress": _address(purchase) if step >= 4 else None,
        "buyerAcceptsEmailMarketing": False,
        "currencyCode": currency,
        "discountApplications": _discounts(purchase),
        "discountsAmount": amount(purchase.shown_discount(), currency),
        "email": purchase.customer.email if step >= 1 else None,
        "lineItems": [_checkout_line(line, seen_in) for line in purchase.lines],
        "order": order,
        "phone": purchase.customer.phone,
        "shippingAddress": _address(purchase) if step >= 2 else None,
        "shippingLine": {"price": amount(of(purchase.shipping), currency)} if shipped else None,
        "subtotalPrice": amount(purchase.shown_subtotal(), currency),
        "token": purchase.checkout_token,
        "totalPrice": amount(purchase.shown_total(shipped=shipped), currency),
        "totalTax": amount(of(purchase.tax), currency),
        "transactions": [_transaction(purchase)] if step >= 5 else [],
    }
    return {"checkout": found | _todays(purchase, shipped=shipped) if purchase.shop.full_payloads else found}


def _todays(purchase: Purchase, *, shipped: bool) -> dict[str, Any]:
    """Return the fields that checkouts have since June 2024 ("More data in web pixels")."""
    market = purchase.presentment.market
    cost = amount(purchase.presentment.of(purchase.shipping), market.currency)
    option = {"cost": cost, "costAfterDiscounts": cost, "description": None, "handle": "std", "title": "Standard"}
    country = {"isoCode": market.country_code}
    language = {"isoCode": market.language}
    return {
        "buyerAcceptsSmsMarketing": False,
        "delivery": {"selectedDeliveryOptions": [option | {"type": "shipping"}] if shipped else []},
        "localization": {"country": country, "language": language, "market": {"handle": market.country_code.lower()}},
        "smsMarketingPhone": None,
    }


def _address(purchase: Purchase) -> dict[str, Any]:
    customer, market = purchase.customer, purchase.presentment.market
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


def _discounts(purchase: Purchase) -> list[dict[str, Any]]:
    if not purchase.discount:
        return []
    return [
        {
            "allocationMethod": "ACROSS",
            "targetSelection": "ALL",
            "targetType": "LINE_ITEM",
            "title": purchase.discount_code,
            "type": "DISCOUNT_CODE",
            "value": amount(purchase.shown_discount(), purchase.presentment.currency),
        }
    ]


def _checkout_line(line: Line, seen_in: Presentment) -> dict[str, Any]:
    off, currency = shown_discount(line, seen_in), seen_in.currency
    allocations = [{"amount": amount(off, currency), "discountApplication": None}] if line.discount else []
    return {
        "discountAllocations": allocations,
        "finalLinePrice": amount(shown_price(line, seen_in) - off, currency),
        "id": str(line.id),
        "properties": [],
        "quantity": line.quantity,
        "title": line.product.title,
        "variant": line.product.shown(currency),
    }


def _transaction(purchase: Purchase) -> dict[str, Any]:
    paid = amount(purchase.shown_total(), purchase.presentment.currency)
    return {"amount": paid, "gateway": "shopify_payments", "paymentMethod": {"name": "visa", "type": "creditCard"}}
