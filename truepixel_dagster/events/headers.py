"""Read a record's headers: ours, and those that Shopify itself sends with a webhook.

    >>> from truepixel_dagster.events.headers import Headers, topic_name
    >>> Headers([("X-Shopify-Topic", b"orders/paid")]).text("topic"), topic_name("ORDERS_PAID")
    ('orders/paid', 'orders/paid')

    ours            Shopify's, with or without X-
    source          -
    topic           X-Shopify-Topic
    event_id        X-Shopify-Webhook-Id
    shop_domain     X-Shopify-Shop-Domain
    received_at     X-Shopify-Triggered-At

Names are case-insensitive, and the last header of a name counts. Our header wins over Shopify's, and an empty header
counts as missing. Headers of other names are ignored, whatever bytes they contain. `X-Shopify-Event-Id` is not used: it
identifies an action of the merchant, which may send several topics (https://shopify.dev/docs/apps/build/webhooks).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

SOURCE, TOPIC, EVENT_ID, SHOP_DOMAIN, RECEIVED_AT = "source", "topic", "event_id", "shop_domain", "received_at"
_SHOPIFYS = {TOPIC: "topic", EVENT_ID: "webhook-id", SHOP_DOMAIN: "shop-domain", RECEIVED_AT: "triggered-at"}
# Shopify's names of our headers, by precedence.
_THEIRS: dict[str, tuple[str, ...]] = {SOURCE: ()} | {
    ours: (f"x-shopify-{theirs}", f"shopify-{theirs}") for ours, theirs in _SHOPIFYS.items()
}
_LOOKED_AT = frozenset((*_THEIRS, *(name for names in _THEIRS.values() for name in names)))

# The resources of Shopify's topics, in front of the slash, by https://shopify.dev/docs/api/webhooks. The longest
# resource that a name begins with counts, so that `CUSTOMERS_MARKETING_CONSENT_UPDATE` is not of `customers`.
_LISTED = """
app app_purchases_one_time app_subscriptions audit_events bulk_operations carts channels
checkout_and_accounts_configurations checkouts collection_listings collection_publications collections companies
company_contact_roles company_contacts company_locations customer customer_account_settings customer_groups
customer_payment_methods customer_tags customers customers_email_marketing_consent customers_marketing_consent
delivery_promise_settings discounts disputes domains draft_orders finance_app_staff_member finance_kyc_information
fulfillment_events fulfillment_holds fulfillment_orders fulfillments inventory_items
inventory_levels inventory_shipments inventory_transfers locales locations markets markets_backup_region
metafield_definitions metaobjects order_transactions orders payment_schedules payment_terms
product_feeds product_listings product_publications products profiles publications refunds returns reverse_deliveries
reverse_fulfillment_orders scheduled_product_listings segments selling_plan_groups shipping_addresses shop
subscription_billing_attempts subscription_billing_cycle_edits subscription_billing_cycles subscription_contracts
tax_partners tax_services tax_summaries tender_transactions themes variants
"""
_RESOURCES = sorted(_LISTED.split(), key=len, reverse=True)


class Headers:
    """Read the headers of a record."""

    __slots__ = ("_found",)

    def __init__(self, headers: Iterable[tuple[str, bytes | None]]) -> None:
        self._found: dict[str, bytes] = {}
        for name, value in headers:
            # Nearly all names are in lower case already.
            known = name if name in _LOOKED_AT else name.lower()
            if known in _LOOKED_AT:
                self._found[known] = value or b""

    def text(self, name: str) -> str | None:
        """Return the text of a header; None if it is missing or empty.

        Raises:
            ValueError: The header is not UTF-8.
        """
        value = self.raw(name)
        try:
            return value.decode() if value else None
        except UnicodeDecodeError:
            raise ValueError(f"the header {name} is not UTF-8") from None

    def raw(self, name: str) -> bytes:
        """Return the bytes of a header; empty if it is missing."""
        if value := self._found.get(name):
            return value
        for each in _THEIRS[name]:
            if value := self._found.get(each):
                return value
        return b""


# A few topics repeat all the time.
@lru_cache(maxsize=256)
def topic_name(written: str | None) -> str | None:
    """Return a topic as Shopify's documentation writes it: `orders/paid` for ` Orders/Paid` and `ORDERS_PAID`.

    If the resource is not listed, the action begins after the last underscore.

    Returns:
        The topic; None if it is missing or empty.
    """
    name = written.strip().lower() if written else ""
    if "/" not in name and "_" in name:
        resource = next((each for each in _RESOURCES if name.startswith(f"{each}_")), name.rpartition("_")[0])
        return f"{resource}/{name[len(resource) + 1 :]}"
    return name or None


def is_topic(name: str) -> bool:
    """Return whether a name is a topic of one of Shopify's resources."""
    resource, _, action = name.partition("/")
    return bool(action) and resource in _RESOURCES
