"""The event collector: Shopify's webhooks and the storefront's pixel over HTTP, onto the topic.

An event's way through it:

    app (HTTP) ─▶ signature, webhook | pixel (pure: what is it, whose, may it) ─▶ delivery ─▶ Kafka
                       │                                                         │
                  registry (MongoDB), tokens (Redis)                        journal (disk)

An answer of 2xx is a promise: the record is acknowledged by Kafka or synced to the journal. Nothing here imports
Dagster.
"""
