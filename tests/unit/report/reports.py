"""A report's figures as the tables give them, for tests of the page."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from truepixel_dagster.report.answers import ReportData

FIRST, DAYS = date(2026, 1, 1), 30
HOSTILE = "</script><script>alert(1)</script>\x1b[31m\u202e\"'&"


def money(revenue: int, spend: int = 0, orders: str = "1", **more: Any) -> dict[str, Any]:
    counts = {"visits": 10, "orders": Decimal(orders), "new_customers": Decimal(1), "refunded": 0, "net": revenue}
    return {**counts, "revenue": revenue, "spend": spend, "roas": revenue / spend if spend else None, **more}


def report_of(campaign: str = "winter", channel: str = "paid_search", **changed: Any) -> ReportData:
    """Thirty days of two channels, one of them with spend."""
    days = [FIRST + timedelta(days=number) for number in range(DAYS)]
    cohort = {
        "channel": channel,
        "currency": "EUR",
        "customers": 4,
        "repeat_customers": 1,
        "repeat_rate": Decimal("0.25"),
    }
    nets = {"net_30": 8000, "net_60": 9000, "net_90": None, "net_180": None, "net_to_date": 9500}
    steps = {"visits": 100, "product_views": 50, "carts": 20, "checkouts": 10, "orders": 5}
    fields: dict[str, Any] = {
        "shop": "7",
        "model": "last_click",
        "first": days[0],
        "last": days[-1],
        "currency": "EUR",
        "summary": money(123_450, 41_150, "12.5"),
        "before": money(100_000, 0, "10"),
        "others": [{"currency": "JPY", **money(3000, 500, "2")}],
        "by_day": [
            {"day": day, "channel": name, **money(1000 * (number + 1), spend)}
            for number, day in enumerate(days)
            for name, spend in ((channel, 700), ("email", 0))
        ],
        "campaigns": [
            {"channel": channel, "platform": "google", "campaign": campaign, **money(100_000, 41_150)},
            {"channel": "email", "platform": "klaviyo", "campaign": "autumn", **money(20_000)},
            {"channel": "direct", "platform": "direct", "campaign": "", **money(3450)},
        ],
        "funnel": [{"channel": channel, **steps}, {"channel": "email", **steps}],
        "cohorts": [{"day": FIRST, **cohort, **nets}],
        "paths": [{"path": [channel, channel, "email"], "orders": 3, "net": 30_000}],
    }
    return ReportData(**{**fields, **changed})
