"""Read webhooks: orders, refunds, deletions, checkouts, carts, customers.

Fields: https://shopify.dev/docs/api/admin-rest/latest/resources/order and …/refund, …/transaction. `total_price`,
`price` and `current_total_price` are in `currency`, the shop's; `…_set` holds `shop_money` and `presentment_money`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from truepixel_dagster.audit.oracle.channels import Channels
from truepixel_dagster.audit.oracle.events import Content, Line, Links, Payload, Refund, RefundedLine
from truepixel_dagster.audit.oracle.records import DeadLetter, Doc, Shop
from truepixel_dagster.audit.oracle.times import Moment, believable, moment
from truepixel_dagster.audit.oracle.values import (
    LONGEST_ID,
    currency,
    cut,
    decimal,
    distinct,
    email_hash,
    id_,
    inside,
    is_nobody,
    maybe_text,
    minor,
    money,
    number,
    objects,
    order_name,
    quantity,
    shop_money,
    text,
    whole,
)

# The names of note attributes in which a theme or an app stores the pixel's client; lower case, without - _ and spaces.
CLIENT_NOTES = {
    "truepixelclientid",
    "tpclientid",
    "clientid",
    "shopifyclientid",
    "shopifyy",
    "pixelclientid",
}


def webhook_content(
    topic: str, payload: Doc, shop: Shop, domain: str | None, channels: Channels, occurred_at: int, received_at: int
) -> Content:
    """Return the content of the webhook; the two times are those of its event."""
    url = text(payload.get("landing_site"), "landing_site")
    referrer = text(payload.get("referring_site"), "referring_site")
    own = [*shop.domains, domain or ""]
    ad = channels.visit(url, None, referrer, own, shop.aliases)
    outside = channels.outside(url, referrer, own)
    order = None
    value = None
    if is_order_payload(topic, payload):
        order = _order(topic, payload, ad, outside, occurred_at, received_at)
        value = order.total
    if topic.startswith("checkouts/"):
        value = money(payload.get("total_price"), _currency(payload), "total_price")
    products = []
    if topic.startswith(("orders/", "checkouts/", "carts/")):
        items = objects(payload.get("line_items"), "line_items")
        products = distinct(id_(item.get("product_id"), "product_id") for item in items)
        for item in items:
            # Invalid lines are refused. A cart's line has no currency, and its id is not used.
            if _is_sold(item):
                _line(*(({**item, "id": None}, None) if topic.startswith("carts/") else (item, _currency(payload))))
    return Content(
        url=cut(url),
        referrer=cut(referrer),
        ad=ad,
        referrer_host=outside,
        product_ids=products,
        order_id=_order_id(topic, payload),
        value=value,
        email_hash=_email_hash(topic, payload),
        customer_id=id_(inside(payload, "customer").get("id"), "customer id"),
        payload=order,
        refund=_refund(payload, None, occurred_at, received_at) if topic == "refunds/create" else None,
        links=_links(topic, payload),
        deletes=topic == "orders/delete",
    )


def is_order_payload(topic: str, payload: Doc) -> bool:
    """Return whether the webhook shows the whole order; deletions and edits only name it."""
    if not topic.startswith("orders/") or topic in ("orders/delete", "orders/edited"):
        return False
    shown = payload.get("line_items"), payload.get("total_price") or None, payload.get("financial_status")
    return any(value is not None for value in shown)


def _order_id(topic: str, payload: Doc) -> str | None:
    if topic.startswith("orders/"):
        return order_name(payload.get("id"), "id")
    if topic == "refunds/create" or topic.startswith(("order_transactions/", "fulfillments/")):
        return order_name(payload.get("order_id"), "order_id")
    return None


def _links(topic: str, payload: Doc) -> Links | None:
    if topic == "refunds/create" or topic == "orders/delete":
        return Links(order_id=_order_id(topic, payload))
    if topic.startswith("checkouts/"):
        return Links(
            checkout_token=order_name(payload.get("token"), "token"),
            cart_token=order_name(payload.get("cart_token"), "cart_token"),
        )
    return None


def _email_hash(topic: str, payload: Doc) -> str | None:
    if not topic.startswith(("orders/", "checkouts/", "customers/")):
        return None
    return email_hash([payload.get("email"), payload.get("contact_email"), inside(payload, "customer").get("email")])


def _currency(payload: Doc) -> str | None:
    return currency(payload.get("currency")) or currency(payload.get("presentment_currency"), "presentment_currency")


# --- Orders ---


def _order(
    topic: str, payload: Doc, landing: Doc | None, outside: str | None, occurred_at: int, received_at: int
) -> Payload:
    code = _currency(payload)
    total = shop_money(payload, "total_price_set") or money(payload.get("total_price"), code, "total_price")
    code = total["currency"] if total else code
    customer = inside(payload, "customer")
    status = _word(payload.get("financial_status"))
    if topic == "orders/paid" and status not in ("voided", "refunded", "partially_refunded"):
        status = "paid"
    times = [moment(payload.get(name)) for name in ("updated_at", "cancelled_at", "created_at")]
    updated = next((time for time in times if time and believable(time.at, received_at)), None)
    bag = inside(payload, "total_price_set", "presentment_money")
    presentment = money(bag.get("amount"), currency(bag.get("currency_code"), "currency_code"), "presentment_money")
    lines = None
    if payload.get("line_items") is not None:
        items = objects(payload["line_items"], "line_items")
        lines = [_line(item, code) for item in items if _is_sold(item)]
    refunds = [_refund(each, code, occurred_at, received_at) for each in objects(payload.get("refunds"), "refunds")]
    return Payload(
        order_id=order_name(payload.get("id"), "id"),
        checkout_token=order_name(payload.get("checkout_token"), "checkout_token"),
        cart_token=order_name(payload.get("cart_token"), "cart_token"),
        updated_at=updated.at if updated else occurred_at,
        financial_status=status,
        cancelled=payload.get("cancelled_at") not in (None, "") or topic == "orders/cancelled",
        currency=code,
        total=total,
        current_total=_current_total(payload, code),
        presentment=presentment,
        lines=lines,
        refunds=[refund for refund in refunds if refund],
        test=payload.get("test") is True,
        sales_channel=sales_channel(payload),
        created=_believed(payload.get("created_at"), received_at),
        processed=_believed(payload.get("processed_at"), received_at),
        orders_count=_orders_count(customer),
        customer_id=id_(customer.get("id"), "customer id"),
        email_hash=_email_hash(topic, payload),
        noted_client=_noted_client(payload.get("note_attributes")),
        has_landing=bool(payload.get("landing_site") or payload.get("referring_site")),
        landing=landing,
        landing_referrer=outside,
    )


def _word(value: Any) -> str:
    return (maybe_text(value) or "").strip().lower()


def _current_total(payload: Doc, code: str | None) -> Doc | None:
    """Return the order's current total; 0 if more than its total was refunded."""
    if payload.get("current_total_price") in (None, ""):
        return shop_money(payload, "current_total_price_set")
    worth = decimal(payload["current_total_price"], "current_total_price")
    return money(max(worth, 0) if worth is not None and worth.is_finite() else worth, code, "current_total_price")


def _believed(said: Any, received_at: int) -> Moment | None:
    """Return the order's time; the time of arrival if the order's own is implausible."""
    found = moment(said)
    if found is None:
        return None
    return found if believable(found.at, received_at) else Moment(received_at, found.offset)


def _line(item: Doc, code: str | None) -> Line:
    product = id_(item.get("product_id"), "product_id")
    price = shop_money(item, "price_set") or money(item.get("price"), code, "price")
    line_code = price["currency"] if price else code
    sold = quantity(item.get("quantity"))
    left = whole(item.get("current_quantity"), "current_quantity")
    discount = sum(_discounts(item, line_code))
    if product is not None and price is not None and abs(price["amount"] * sold - discount) > 10**15:
        raise DeadLetter("line_items: revenue beyond 10^15 minor units")
    return Line(
        id=id_(item.get("id"), "line id"),
        product=product,
        quantity=sold,
        left=left,
        price=price["amount"] if price else None,
        discount=discount,
        currency=line_code,
    )


def _discounts(item: Doc, code: str | None) -> list[int]:
    """Return the line's discounts in minor units: its allocations, or its total discount if it has none."""
    if item.get("discount_allocations") is None:
        found = [money(item.get("total_discount"), code, "total_discount")]
        number(item.get("total_discount"), "total_discount")
    else:
        allocations = objects(item["discount_allocations"], "discount_allocations")
        found = [shop_money(each, "amount_set") or money(each.get("amount"), code, "amount") for each in allocations]
    return [each["amount"] for each in found if each]


def _orders_count(customer: Doc) -> int | None:
    for name in ("orders_count", "number_of_orders", "numberOfOrders"):
        try:
            found = whole(customer.get(name), name)
        except DeadLetter:
            continue
        if found is not None:
            return found
    return None


def _noted_client(attributes: Any) -> str | None:
    """Return the pixel's client in the order's `note_attributes`."""
    for entry in attributes if isinstance(attributes, list) else []:
        if not isinstance(entry, dict):
            continue
        name = re.sub(r"[-_\s]", "", _word(entry.get("name")))
        client = entry.get("value")
        client = str(client) if isinstance(client, int) and not isinstance(client, bool) else maybe_text(client)
        client = (client or "").strip()
        if name in CLIENT_NOTES and not is_nobody(client) and _can_be_a_client(client):
            return client
    return None


def _can_be_a_client(client: str) -> bool:
    is_plain = all(ord(character) >= 32 and ord(character) != 127 for character in client)
    return is_plain and len(client.encode()) <= LONGEST_ID


# --- Sales channels ---

# https://shopify.dev/docs/api/admin-rest/latest/resources/order: source_name "web", "pos", "shopify_draft_order",
# "iphone", "android", or the id of the app that made the order; Shopify's own apps by their ids.
APPS = {"580111": "online", "129785": "pos", "1354745": "draft"}
ONLINE = ("", "web", "online_store", "checkout_next", "checkout_one", "buy_button")
IMPORTERS = ("import", "matrixify", "excelify", "transporter")


def sales_channel(payload: Doc) -> str:
    """Return where the order was placed: online, pos, draft, subscription, import or other."""
    source = _source_name(payload)
    app = APPS.get(source) or (APPS.get(_number_text(payload.get("app_id"))) if not source else None)
    tags = _tags(payload.get("tags"))
    if source in ("pos", "iphone", "android") or app == "pos":
        return "pos"
    if source == "shopify_draft_order" or app == "draft":
        return "draft"
    if any(word in source for word in IMPORTERS) or {"import", "imported"} & set(tags):
        return "import"
    if source in ("subscription_contract", "subscription_contract_checkout_one"):
        return "subscription"
    if any("subscription recurring" in re.sub("[-_ ]+", " ", tag) for tag in tags):
        return "subscription"
    came_by_the_web = payload.get("landing_site") or payload.get("checkout_token")
    if source in ONLINE or app == "online" or (source.isdigit() and came_by_the_web):
        return "online"
    return "other"


def _source_name(payload: Doc) -> str:
    said = payload.get("source_name")
    return _number_text(said) or _word(said)


def _number_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return ""
    return str(value).strip() if str(value).strip().isdigit() else ""


def _tags(said: Any) -> list[str]:
    tags = said.split(",") if isinstance(said, str) else said if isinstance(said, list) else []
    return [tag.strip().lower() for tag in tags if isinstance(tag, str)]


# --- Refunds ---


def _refund(payload: Doc, code: str | None, occurred_at: int, received_at: int) -> Refund | None:
    """Return one report of a refund, in an order's payload or alone; None if it has no id.

    Its money is the sum of its successful transactions of kind `refund`.
    """
    refund_id = order_name(payload.get("id"), "refund id")
    when = Moment(occurred_at, 0)
    for name in ("created_at", "processed_at"):
        said = moment(payload.get(name))
        if said is not None and believable(said.at, received_at):
            when = said
    paid = tuple(
        found
        for each in objects(payload.get("transactions"), "transactions")
        if _word(each.get("kind")) == "refund" and _word(each.get("status")) in ("", "success")
        if (found := _paid(each, code)) is not None
    )
    items = objects(payload.get("refund_line_items"), "refund_line_items")
    lines = tuple(_refunded_line(item, code) for item in items if _is_sold(inside(item, "line_item")))
    return Refund(refund_id, when.at, when.offset, paid, lines) if refund_id else None


def _paid(transaction: Doc, code: str | None) -> tuple[Decimal, str] | None:
    bag = inside(transaction, "amount_set", "shop_money")
    amount, its_currency = number(bag.get("amount"), "amount_set"), currency(bag.get("currency_code"), "amount_set")
    if amount is None or its_currency is None:
        amount = number(transaction.get("amount"), "transaction amount")
        its_currency = currency(transaction.get("currency")) or code
    if amount is None or its_currency is None:
        return None
    minor(amount, its_currency)
    return amount, its_currency


def _is_sold(line: Doc) -> bool:
    """Return whether a line is of a product and not a gift card. Nothing else is read from other lines."""
    return id_(line.get("product_id"), "product_id") is not None and line.get("gift_card") is not True


def _refunded_line(item: Doc, code: str | None) -> RefundedLine:
    line = inside(item, "line_item")
    bag = inside(item, "subtotal_set", "shop_money")
    amount = number(bag.get("amount"), "subtotal_set")
    its_currency = currency(bag.get("currency_code"), "subtotal_set")
    if amount is None:
        amount = number(item.get("subtotal"), "subtotal")
        its_currency = code
    if amount is not None and its_currency is not None:
        minor(amount, its_currency)
    return RefundedLine(
        id=id_(line.get("id"), "line id") or id_(item.get("line_item_id"), "line_item_id"),
        product=id_(line.get("product_id"), "product_id"),
        quantity=quantity(item.get("quantity")),
        subtotal=amount,
        currency=its_currency,
    )
