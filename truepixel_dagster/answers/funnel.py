"""Count the steps that visits reached, by channel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from truepixel_dagster.answers.visits import SourceVisits

STEPS = ("visits", "product_views", "carts", "checkouts", "orders")


class ChannelFunnel(msgspec.Struct, frozen=True):
    """Hold the funnel of one channel. `orders` counts its last clicks, even if no pixel reported the visit."""

    channel: str
    visits: int = 0
    product_views: int = 0
    carts: int = 0
    checkouts: int = 0
    orders: int = 0


def funnel_daily(visits: Iterable[SourceVisits], channels_of_orders: Iterable[str]) -> list[ChannelFunnel]:
    """Return the funnel of a shop's day.

    Arguments:
        visits: The visits of the day by source.
        channels_of_orders: The channel of the last click of each online order of the day.
    """
    counts: dict[str, Counter[str]] = {}
    for each in visits:
        counts.setdefault(each.source.channel, Counter()).update({step: getattr(each, step) for step in STEPS[:-1]})
    for channel in channels_of_orders:
        counts.setdefault(channel, Counter())["orders"] += 1
    return [ChannelFunnel(channel, **counts[channel]) for channel in sorted(counts)]
