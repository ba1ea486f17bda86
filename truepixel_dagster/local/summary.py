"""Count the messages and documents in the servers, for a live display."""

from __future__ import annotations

from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS
from truepixel_dagster.stream.topics import lag

MOST_CAMPAIGNS = 1000
_CAMPAIGN = "credits.last_click.campaign"


def counts(settings: Settings, stores: Stores) -> dict[str, int]:
    """Return the number of messages in the topic, of waiting messages, and of documents of each kind."""
    stores.elasticsearch.refresh()
    partitions = lag(settings.kafka())
    count = stores.elasticsearch.count
    return {
        "messages in the topic": sum(entry.high - entry.low for entry in partitions),
        "waiting (lag)": sum(entry.lag for entry in partitions),
        "events indexed": count("events-"),
        "users with ad touches": stores.mongodb.count(AD_LEADS),
        "orders attributed": count("attributions"),
        "orders of returning customers": count("attributions", {"term": {"new_customer": False}}),
        "campaigns with orders": len(stores.elasticsearch.most_common("attributions", _CAMPAIGN, MOST_CAMPAIGNS)),
        "customers": stores.mongodb.count(CUSTOMERS),
        "product statistics (flushed each minute)": count("product-stats-"),
        "weekly visitors (flushed each minute)": count("weekly-visitors"),
    }
