"""The sums of the tables, compared with attributions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from truepixel_dagster.answers.journeys import ALL_MODELS
from truepixel_dagster.answers.tables import CREDITS, MARKETING_DAILY
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.health import lake as health
from truepixel_dagster.health.verdict import Verdict
from truepixel_dagster.lake.files import Lake
from truepixel_dagster.orders.credit import MODELS
from truepixel_dagster.rebuild.lake import Tools
from truepixel_dagster.settings import Settings

TODAY = datetime.now(timezone.utc).date()
LONG_AGO = TODAY - timedelta(days=100)


def rows(day: date, net: int) -> list[dict[str, Any]]:
    """One order of 10.00 by each model."""
    source = {"channel": "email", "platform": "klaviyo", "campaign": "", "currency": "EUR", "visits": 1}
    orders = {"orders": Decimal(1), "new_customers": Decimal(0), "returning_customers": Decimal(1)}
    money = {
        "revenue": 1000,
        "refunded": 1000 - net,
        "net": net,
        **dict.fromkeys(("spend", "clicks", "impressions"), 0),
    }
    costs = dict.fromkeys(("roas", "net_roas", "cost_per_order", "cost_per_new_customer"))
    head = {"shop_id": "7", "day": day}
    return [{**head, "model": model, **source, **orders, **money, **costs} for model in ALL_MODELS]


def credited(day: date, net: int) -> list[dict[str, Any]]:
    """The same as credits."""
    values = {"shop_id": "7", "day": day, "currency": "EUR", "gross": 1000, "refunded": 1000 - net, "net": net}
    named = {each.name: None if each.optional else "" for each in CREDITS.columns}
    numbers = {each.name: 0 for each in CREDITS.columns if each.name in ("position", "touches")}
    orders = {each.name: Decimal(0) for each in CREDITS.columns if each.name.endswith("customers")}
    return [{**named, **numbers, **orders, **values, "orders": Decimal(1), "model": model} for model in MODELS]


def hit(shop: str, day: date, net: int) -> dict[str, Any]:
    money = {name: {"amount": amount, "currency": "EUR"} for name, amount in (("value", 1000), ("net", net))}
    refunded = {"amount": 1000 - net, "currency": "EUR"}
    return {"_id": f"{shop}:a", "_source": {"occurred_at": f"{day}T12:00:00.000Z", **money, "refunded": refunded}}


def summed(monkeypatch: pytest.MonkeyPatch, lake: Lake, hits: list[dict[str, Any]]) -> Verdict:
    store: Any = SimpleNamespace(refresh=lambda: None, scan=lambda *_, **__: iter(hits))
    settings = Settings(event_retention_months=1)

    @contextmanager
    def making(_: Settings) -> Iterator[Tools]:
        stores: Any = SimpleNamespace(elasticsearch=store)
        yield Tools(settings, stores, lake, ShopDays(), {})

    monkeypatch.setattr(health, "making", making)
    monkeypatch.setattr(health, "stale_days", lambda *_: {})
    return health.answers_sum(settings)


def test_days_that_retention_froze_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(str(tmp_path))
    for day, net in ((LONG_AGO, 600), (TODAY, 1000)):
        lake.write(CREDITS, day.isoformat(), {"7": credited(day, net)}, {})
        # The refund came when the events of the day had been removed.
        lake.write(MARKETING_DAILY, day.isoformat(), {"7": rows(day, 1000)}, {})
    assert summed(monkeypatch, lake, [hit("7", LONG_AGO, 600), hit("7", TODAY, 1000)]).passed
    wrong = summed(monkeypatch, lake, [hit("7", LONG_AGO, 600), hit("7", TODAY, 900)])
    assert f"credits of {TODAY}, shop `7`, marketing_daily of {TODAY}, shop `7`" in wrong.description


def test_a_shop_whose_id_is_too_long_for_a_file_is_in_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(str(tmp_path))
    lake.write(CREDITS, TODAY.isoformat(), {"7": credited(TODAY, 1000)}, {})
    lake.write(MARKETING_DAILY, TODAY.isoformat(), {"7": rows(TODAY, 1000)}, {})
    assert summed(monkeypatch, lake, [hit("7", TODAY, 1000), hit("\u00e9" * 60, TODAY, 1000)]).passed
