"""Check that the tables sum to the attributions, and find their stale days."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from truepixel_dagster.answers.journeys import ALL_MODELS
from truepixel_dagster.answers.tables import CREDITS, MARKETING_DAILY, LakeTable
from truepixel_dagster.events.times import to_millis
from truepixel_dagster.health.verdict import EXAMPLES, Verdict, verdict
from truepixel_dagster.lake.files import LONGEST_NAME, shop_folder
from truepixel_dagster.lake.sql import open_sql
from truepixel_dagster.orders.credit import MODELS
from truepixel_dagster.rebuild.answers import MAKERS, MARKETING_MAKER
from truepixel_dagster.rebuild.lake import Tools, days_of_history, making, stale_days
from truepixel_dagster.report.figures import ORDERS, ReportedOrder
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages.attribution_document import ATTRIBUTIONS
from truepixel_dagster.stores.documents import Unreadable
from truepixel_dagster.text import code

_NAMED = 7
_FIELDS = ("occurred_at", "utc_offset", "test", "value", "refunded", "net")
#: A day and a shop.
_Place = tuple[str, str]
#: Orders and amounts by currency, without currencies in which all are 0: those have spend but no orders.
_Sums = dict[str, tuple[int, ...]]


def answers_sum(settings: Settings) -> Verdict:
    """Check that `marketing_daily` and `credits` sum to the attributions of each shop and day, by each model.

    It leaves out days that are stale before or after the comparison, because the stream writes meanwhile; days of
    `marketing_daily` that stay unchanged because retention has removed their events; and shops that no table has.

    Raises:
        LakeError, QueryRefused, OSError, Unavailable: The lake or a server does not answer.
    """
    with making(settings) as tools:
        days = tools.lake.days(MARKETING_DAILY)
        kept, stale = set(MARKETING_MAKER.makes(tools, days)), _stale(tools, days)
        attributed = _attributed(tools)
        wrong: list[tuple[str, _Place]] = []
        for table, gross, models, compared in (
            (CREDITS, "gross", MODELS, set(days)),
            (MARKETING_DAILY, "revenue", ALL_MODELS, kept),
        ):
            found = _summed(tools, table, gross)
            places = sorted(place for place in {*attributed, *found} - stale if place[0] in compared)
            wrong += [
                (table.name, place)
                for place in places
                if any(found.get(place, {}).get(model, {}) != attributed.get(place, {}) for model in models)
            ]
        stale |= _stale(tools, days) if wrong else set()
    named = [f"{name} of {day}, shop {code(shop)}" for name, (day, shop) in wrong if (day, shop) not in stale]
    return verdict(
        f"{len(named)} days do not sum to their orders: {', '.join(named[:_NAMED])}" if named else "",
        "Materialize `lake_orders`, `journeys` and `marketing_daily` for them",
        days=len(attributed.keys() - stale),
        stale_days=len(stale),
        not_summing=named[:EXAMPLES],
    )


def days_fresh(settings: Settings) -> Verdict:
    """Find the stale days of the lake's tables; a lake without any file has none.

    Raises:
        LakeError, OSError, Unavailable: The lake or a server does not answer.
    """
    with making(settings) as tools:
        days = days_of_history(settings)
        is_used = any(tools.lake.has_files(table) for maker in MAKERS.values() for table in maker.tables)
        stale = stale_days(tools, MAKERS.values(), days) if is_used else {}
    named = "; ".join(f"`{name}`: {_few(list(of_table))}" for name, of_table in stale.items())
    return verdict(
        f"stale days: {named}" if stale else "",
        "Materialize them, or wait for the schedule `refresh_lake_every_hour`",
        days=len(days),
        **{name: list(of_table)[:EXAMPLES] for name, of_table in stale.items()},
    )


def _stale(tools: Tools, days: Sequence[str]) -> set[_Place]:
    """Return the days and shops whose documents have changed since their rows were written."""
    found = stale_days(tools, MAKERS.values(), days) if days else {}
    return {
        (day, shop)
        for table in (CREDITS, MARKETING_DAILY)
        for day, shops in found.get(table.name, {}).items()
        for shop in shops
    }


def _attributed(tools: Tools) -> dict[_Place, _Sums]:
    """Sum up the attributions of each day and shop, without test orders; unreadable ones are in no table."""
    found: dict[_Place, dict[str, tuple[int, ...]]] = {}
    store = tools.stores.elasticsearch
    store.refresh()
    for hit in store.scan(ATTRIBUTIONS, {"match_all": {}}, fields=_FIELDS):
        shop = hit["_id"].partition(":")[0]
        try:
            order = ORDERS.read(hit["_id"], hit["_source"])
            day = tools.days.of(shop).day(to_millis(order.occurred_at), order.utc_offset)
        except (Unreadable, ValueError, ArithmeticError):
            continue
        if not order.test and len(shop_folder(shop)) <= LONGEST_NAME:
            currency = order.value.currency if order.value else ""
            _add(found.setdefault((day, shop), {}), currency, _figures(order))
    return found


def _figures(order: ReportedOrder) -> tuple[int, ...]:
    """Return one order, and its gross, refunded and net; without a net (first edition), the net is the gross."""
    gross = order.value.amount if order.value else 0
    return 1, gross, order.refunded.amount if order.refunded else 0, order.net.amount if order.net else gross


def _summed(tools: Tools, table: LakeTable, gross: str) -> Mapping[_Place, Mapping[str, _Sums]]:
    """Sum up the rows of a table by day, shop and model."""
    found: dict[_Place, dict[str, _Sums]] = {}
    for (day, shop, model, currency), sums in _rows(tools, table, gross):
        if any(sums):
            found.setdefault((day, shop), {}).setdefault(model, {})[currency] = sums
    return found


def _rows(tools: Tools, table: LakeTable, gross: str) -> Iterator[tuple[tuple[str, str, str, str], tuple[int, ...]]]:
    sums = ", ".join(f"sum({name})" for name in ("orders", gross, "refunded", "net"))
    query = f"SELECT day, shop_id, model, currency, {sums} FROM {table.name} GROUP BY ALL"  # noqa: S608 (constants)
    with open_sql(tools.lake) as sql:
        for day, shop, model, currency, *own in sql.query(query):
            yield (day.isoformat(), shop, model, currency), tuple(own)


def _add(sums: dict[str, tuple[int, ...]], currency: str, more: tuple[int, ...]) -> None:
    sums[currency] = tuple(a + b for a, b in zip(sums.get(currency, (0,) * len(more)), more))


def _few(days: Sequence[str]) -> str:
    more = f" and {len(days) - _NAMED} more" if len(days) > _NAMED else ""
    return ", ".join(days[:_NAMED]) + more
