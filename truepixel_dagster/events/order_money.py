"""Read the amounts of an order, in the shop's currency and never in the buyer's."""

from __future__ import annotations

from decimal import Decimal

from truepixel_dagster.events.field_error import within
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.shape import money
from truepixel_dagster.events.shopify_payload import HasCurrency, MoneySet, OrderBody, ShopMoney


def total_of(body: OrderBody) -> Money | None:
    """Return an order's total in the shop's currency."""
    found = of_set(body.total_price_set, "total_price_set")
    return found or money(body.total_price, shop_currency(body), "total_price", currency_field(body))


def current_total(body: OrderBody, currency: str | None) -> Money | None:
    """Return the current total; 0 if more than the total was paid back."""
    left = body.current_total_price
    if left is None:
        return of_set(body.current_total_price_set, "current_total_price_set")
    return money(max(left, Decimal(0)) if left.is_finite() else left, currency, "current_total_price")


def presentment(body: OrderBody) -> Money | None:
    """Return the total in the buyer's currency."""
    seen = body.total_price_set.presentment_money if body.total_price_set else None
    return of_bag(seen, "total_price_set", "presentment_money") if seen else None


def shop_currency(body: HasCurrency) -> str | None:
    """Return the currency of an order's plain amounts."""
    return body.currency or body.presentment_currency


def currency_field(body: HasCurrency) -> str:
    """Return the name of the field that `shop_currency` reads."""
    return "currency" if body.currency else "presentment_currency"


def of_set(amounts: MoneySet | None, field: str) -> Money | None:
    """Return the shop's amount of a set; `field` is the set's name in errors."""
    return of_bag(amounts.shop_money, field, "shop_money") if amounts and amounts.shop_money else None


def of_bag(bag: ShopMoney, *path: str) -> Money | None:
    """Return an amount with its own currency; `path` names it in errors."""
    try:
        return money(bag.amount, bag.currency_code, "amount", "currency_code")
    except ValueError as error:
        raise within(".".join(path), error) from None
