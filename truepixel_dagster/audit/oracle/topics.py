"""Names of webhook topics: `orders/paid`, `ORDERS_PAID` and ` Orders/Paid ` are the same."""

from __future__ import annotations

# The resources of topics by Shopify's list of webhook topics (https://shopify.dev/docs/api/webhooks): first those whose
# names or actions contain underscores, then the others.
RESOURCES = [
    *["app", "app_purchases_one_time", "app_subscriptions", "audit_events", "bulk_operations", "carts", "channels"],
    *["checkout_and_accounts_configurations", "checkouts", "collection_listings", "collection_publications"],
    *["collections", "companies", "company_contact_roles", "company_contacts", "company_locations", "customer"],
    *["customer_account_settings", "customer_groups", "customer_payment_methods", "customer_tags", "customers"],
    *["customers_email_marketing_consent", "customers_marketing_consent", "delivery_promise_settings", "discounts"],
    *["disputes", "domains", "draft_orders", "finance_app_staff_member", "finance_kyc_information"],
    *["fulfillment_events", "fulfillment_holds", "fulfillment_orders", "fulfillments", "inventory_items"],
    *["inventory_levels", "inventory_shipments", "inventory_transfers", "locales", "locations", "markets"],
    *["markets_backup_region", "metafield_definitions", "metaobjects", "order_transactions", "orders"],
    *["payment_schedules", "payment_terms", "product_feeds", "product_listings", "product_publications", "products"],
    *["profiles", "publications", "refunds", "returns", "reverse_deliveries", "reverse_fulfillment_orders"],
    *["scheduled_product_listings", "segments", "selling_plan_groups", "shipping_addresses", "shop"],
    *["subscription_billing_attempts", "subscription_billing_cycle_edits", "subscription_billing_cycles"],
    *["subscription_contracts", "tax_partners", "tax_services", "tax_summaries", "tender_transactions", "themes"],
    *["variants"],
]


def topic_of(said: str | None) -> str | None:
    """Return the topic as `resource/action` in lower case; None if it is empty or missing."""
    topic = (said or "").strip().lower()
    if not topic or "/" in topic:
        return topic or None
    fitting = [resource for resource in RESOURCES if topic.startswith(resource + "_")]
    if fitting:
        resource = max(fitting, key=len)
        return f"{resource}/{topic[len(resource) + 1 :]}"
    resource, underscore, action = topic.rpartition("_")
    return f"{resource}/{action}" if underscore else topic
