"""Generate realistic Shopify traffic: visitors who arrive from ads, browse, fill carts, check out and return.

`traffic(...)` is pure: the same arguments give the same bytes.

    for record in traffic(10_000, seed=7):
        producer.produce(topic, key=record.key, value=record.value, headers=list(record.headers))
"""

from truepixel_dagster.local.traffic.generate import DEFAULT_SPAN, DEFAULT_START, shops_of, traffic, traffic_at
from truepixel_dagster.local.traffic.profile import DEFAULT, FIRST, FULL, PROFILES, Profile, busy, loyal
from truepixel_dagster.local.traffic.world import Placed, Record

__all__ = [
    "DEFAULT",
    "DEFAULT_SPAN",
    "DEFAULT_START",
    "FIRST",
    "FULL",
    "PROFILES",
    "Placed",
    "Profile",
    "Record",
    "busy",
    "loyal",
    "shops_of",
    "traffic",
    "traffic_at",
]
