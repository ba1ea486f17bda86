"""The event collector: it receives Shopify's webhooks and pixel events over HTTP and writes them to the topic.

How an event passes through it:

    app (HTTP) ─▶ signature, webhook | pixel (pure: what, whose, allowed?) ─────────▶ delivery ─▶ Kafka
                       │                                                         │
                  registry (MongoDB), tokens (Redis)                        journal (disk)

A 2xx answer is a promise: Kafka has acknowledged the record, or the journal has synced it to disk. Nothing here
imports Dagster.
"""
