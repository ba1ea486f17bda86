"""Do the answers sum to the attributions, and which of their days are stale?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from truepixel_dagster.answers.tables import CREDITS, MARKETING_DAILY, ORDERS
from truepixel_dagster.health.verdict import EXAMPLES, Verdict, verdict
from truepixel_dagster.lake.files import lake_of
from truepixel_dagster.orders.credit import MODELS
from truepixel_dagster.rebuild.answers import MAKERS
from truepixel_dagster.rebuild.lake import days_of_history, making, stale_days
from truepixel_dagster.settings import Settings

_NAMED = 7


def answers_sum(settings: Settings) -> Verdict:
    """Look whether `marketing_daily` and `credits` sum to the orders of each shop and day, by each model.

    Raises:
        LakeError, OSError: The lake cannot be read.
    """
    lake = lake_of(settings)
    looked, wrong = 0, []
    for day in lake.days(MARKETING_DAILY):
        for shop in lake.shops(ORDERS, day):
            looked += 1
            orders = _of_orders(lake.read(ORDERS, day, shop))
            for table, gross in ((CREDITS, "gross"), (MARKETING_DAILY, "revenue")):
                if any(found != orders for found in _by_model(lake.read(table, day, shop), gross)):
                    wrong.append(f"{table.name} of {day}, shop {shop}")
    named = ", ".join(wrong[:_NAMED])
    return verdict(
        f"{len(wrong)} days do not sum to their orders: {named}" if wrong else "",
        "Materialize `lake_orders` and `marketing_daily` for them",
        days=looked,
        not_summing=wrong[:EXAMPLES],
    )


def days_fresh(settings: Settings) -> Verdict:
    """Look which days of the lake's tables are stale; a lake without any file has none.

    Raises:
        LakeError, OSError, Unavailable: The lake or a server does not answer.
    """
    with making(settings) as tools:
        days = days_of_history(settings)
        is_used = any(tools.lake.has_files(table) for maker in MAKERS.values() for table in maker.tables)
        stale = stale_days(tools, MAKERS.values(), days) if is_used else {}
    named = "; ".join(f"`{name}`: {_few(list(of_table))}" for name, of_table in stale.items())
    return verdict(
        f"Days are stale: {named}" if stale else "",
        "Materialize them, or wait for the schedule `refresh_lake_every_hour`",
        days=len(days),
        **{name: list(of_table)[:EXAMPLES] for name, of_table in stale.items()},
    )


def _of_orders(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Decimal]]:
    """The sums of orders by currency, test orders aside."""
    return _sums(({**row, "orders": 1} for row in rows if not row["test"]), ("orders", "gross", "refunded", "net"))


def _by_model(rows: Iterable[Mapping[str, Any]], gross: str) -> list[dict[str, list[Decimal]]]:
    models: dict[str, list[Mapping[str, Any]]] = {model: [] for model in MODELS}
    for row in rows:
        models[row["model"]].append(row)
    return [_sums(own, ("orders", gross, "refunded", "net")) for own in models.values()]


def _sums(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[Decimal]]:
    """Sums by currency; a currency in which all of them are 0 is left out: spend alone makes no orders."""
    found: dict[str, list[Decimal]] = {}
    for row in rows:
        own = found.setdefault(row["currency"], [Decimal(0)] * len(names))
        found[row["currency"]] = [total + row[name] for total, name in zip(own, names)]
    return {currency: sums for currency, sums in found.items() if any(sums)}


def _few(days: Sequence[str]) -> str:
    more = f" and {len(days) - _NAMED} more" if len(days) > _NAMED else ""
    return ", ".join(days[:_NAMED]) + more
