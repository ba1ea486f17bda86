"""Compute the tables of the lake that come from other tables and from imports: spend, rates, marketing, funnels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec

from truepixel_dagster import asset_keys
from truepixel_dagster.answers.funnel import STEPS, funnel_daily
from truepixel_dagster.answers.journeys import ALL_MODELS
from truepixel_dagster.answers.marketing import WHOLE, Credited, Row, Spent, Touched, data_driven, marketing_daily
from truepixel_dagster.answers.models import DATA_DRIVEN
from truepixel_dagster.answers.rates import STANDS_DAYS, Rate, Rates
from truepixel_dagster.answers.spend import Spend, merged_spend, rate_key
from truepixel_dagster.answers.tables import (
    AD_SPEND,
    CHANNEL_VALUES,
    CREDITS,
    EVENTS,
    FUNNEL_DAILY,
    JOURNEYS,
    MARKETING_DAILY,
    ORDERS,
    RATES,
    VISITS,
)
from truepixel_dagster.answers.visits import Source, SourceVisits
from truepixel_dagster.events.order import ONLINE
from truepixel_dagster.lake.arrow import by_shop, summed, where
from truepixel_dagster.lake.errors import LakeError
from truepixel_dagster.lake.files import Lake, Made
from truepixel_dagster.lake.imports import Import, Imports, fingerprint
from truepixel_dagster.rebuild.history import stretches
from truepixel_dagster.rebuild.journeys import JOURNEYS_MAKER
from truepixel_dagster.rebuild.lake import (
    ALL_SHOPS,
    Maker,
    Rows,
    Sources,
    Tools,
    by_day,
    digest,
    digests,
    making,
    of_tables,
    stale_days,
)
from truepixel_dagster.rebuild.lake_tables import CUSTOMERS_MAKER, EVENTS_MAKER, ORDERS_MAKER, PRODUCTS_MAKER
from truepixel_dagster.settings import Settings

#: The `shop_id` of rates, which apply to all shops.
EVERYBODY = "all"
_MILLIONTHS = Decimal(1).scaleb(-6)
_BY_SOURCE = ("shop_id", "model", "channel", "platform", "campaign", "campaign_id", "currency")
_AMOUNTS = ("gross", "refunded", "net", "orders", "new_customers", "returning_customers")
_OF_JOURNEYS = [
    *("shop_id", "attribution", "new_customer", "currency", "channel", "platform", "campaign", "campaign_id"),
    *(f"{model}{end}" for model in DATA_DRIVEN for end in ("", "_net")),
]


def _spend_made_of(tools: Tools, days: Sequence[str]) -> Sources:
    return _of_imports(Imports(tools.lake).all("spend"), days)


def _spend(tools: Tools, day: str) -> Rows:
    imports = Imports(tools.lake)
    by_shop: dict[str, list[list[Spend]]] = {}
    for rows in imports.spend(each for each in imports.all("spend") if each.covers(day)):
        own: dict[str, list[Spend]] = {}
        for row in rows:
            if row.day.isoformat() == day:
                own.setdefault(row.shop_id, []).append(row)
        for shop, found in own.items():
            by_shop.setdefault(shop, []).append(found)
    return {
        AD_SPEND.name: {
            shop: [msgspec.structs.asdict(row) for row in merged_spend(each)] for shop, each in by_shop.items()
        }
    }


def _rates_made_of(tools: Tools, days: Sequence[str]) -> Sources:
    return _of_imports(Imports(tools.lake).all("rates"), days)


def _rates(tools: Tools, day: str) -> Rows:
    imports = Imports(tools.lake)
    found: dict[tuple[object, ...], Rate] = {}
    for rows in imports.rates(each for each in imports.all("rates") if each.covers(day)):
        found |= {rate_key(rate): rate for rate in rows if rate.day.isoformat() == day}
    made = [{"shop_id": EVERYBODY, **msgspec.structs.asdict(rate)} for rate in found.values()]
    return {RATES.name: {EVERYBODY: made} if made else {}}


def _of_imports(imports: Sequence[Import], days: Sequence[str]) -> Sources:
    return {day: {ALL_SHOPS: words} for day in days if (words := fingerprint(imports, day))}


def _marketing_made_of(tools: Tools, days: Sequence[str]) -> Sources:
    """Return the sources: the day's own rows, the shop's currency, and the rates that are valid on the day."""
    made = [tools.lake.made_of(table, days) for table in (VISITS, CREDITS, AD_SPEND, JOURNEYS, CHANNEL_VALUES)]
    rates = tools.lake.made_of(RATES, {before for day in days for before in _standing(day)})
    return {
        day: {
            shop: digest(words, tools.currencies.get(shop, ""), *_digests_of(rates, day))
            for shop, words in digests([each.get(day, {}) for each in made]).items()
        }
        for day in days
    }


def _digests_of(rates: Mapping[str, Mapping[str, Made]], day: str) -> list[str]:
    return [rates[before][EVERYBODY].sha256 for before in _standing(day) if EVERYBODY in rates.get(before, {})]


def _standing(day: str) -> list[str]:
    """Return the days whose rates are valid on a day."""
    return [(date.fromisoformat(day) - timedelta(days=number)).isoformat() for number in range(STANDS_DAYS + 1)]


def _marketing(tools: Tools, day: str) -> Rows:
    lake = tools.lake
    of_rates = [row for before in _standing(day) for row in lake.read(RATES, before, EVERYBODY)]
    rates = Rates(msgspec.convert(row, Rate) for row in of_rates)
    visits, spend = _visits(lake, day), by_shop(lake.read_day(AD_SPEND, day).to_pylist())
    credits_ = by_shop(summed(lake.read_day(CREDITS, day), _BY_SOURCE, _AMOUNTS))
    by_models = _data_driven(lake, day)
    rows = {}
    for shop in sorted({*visits, *spend, *credits_}):
        credited, spent = credits_.get(shop, []), spend.get(shop, [])
        currency = tools.currencies.get(shop) or _usual(credited) or _usual(spent)
        found = marketing_daily(
            ALL_MODELS,
            {_source(row): row["visits"] for row in visits.get(shop, [])},
            [*map(_credited, credited), *by_models.get(shop, [])],
            msgspec.convert(spent, list[Spent]),
            currency,
            partial(_converted, rates, currency, date.fromisoformat(day)),
        )
        rows[shop] = [_as_row(shop, day, row) for row in found.rows]
    return {MARKETING_DAILY.name: rows}


def _visits(lake: Lake, day: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of visits by shop.

    Raises:
        LakeError: An earlier version materialized the day's events, without their visits.
    """
    if lake.made(EVENTS, day) and not lake.made(VISITS, day):
        raise LakeError(f"{day} has events and no visits: materialize lake_events of {day} first")
    return by_shop(lake.read_day(VISITS, day).to_pylist())


def _converted(rates: Rates, target: str, day: date, amount: int, source: str) -> int | None:
    return rates.convert(amount, source, target, day)


def _data_driven(lake: Lake, day: str) -> dict[str, list[Credited]]:
    """Return the credits of the day's orders by the data-driven models, by shop, from their journeys by person."""
    values: dict[str, dict[str, dict[str, Fraction]]] = {}
    for row in lake.read_day(CHANNEL_VALUES, day).to_pylist():
        values.setdefault(row["shop_id"], {}).setdefault(row["model"], {})[row["channel"]] = Fraction(row["value"])
    orders = lake.read_day(ORDERS, day, ["shop_id", "attribution", "refunded"]).to_pylist()
    refunded = {(row["shop_id"], row["attribution"]): row["refunded"] for row in orders}
    found: dict[str, list[Credited]] = {}
    journeys = lake.read_day(JOURNEYS, day, _OF_JOURNEYS).to_pylist()
    for (shop, order), own in groupby(journeys, key=itemgetter("shop_id", "attribution")):
        rows = list(own)
        touches, new = [_touched(row) for row in rows], rows[0]["new_customer"]
        back = refunded.get((shop, order), 0)
        credited = data_driven(touches, rows[0]["currency"], back, new, values.get(shop, {}))
        found.setdefault(shop, []).extend(credited)
    return found


def _touched(row: Mapping[str, Any]) -> Touched:
    amounts, nets = ({model: row[f"{model}{end}"] for model in DATA_DRIVEN} for end in ("", "_net"))
    return Touched(_source(row), amounts, nets)


def _credited(row: Mapping[str, Any]) -> Credited:
    orders = (int(row[name] * WHOLE) for name in ("orders", "new_customers", "returning_customers"))
    return Credited(row["model"], _source(row), row["currency"], row["gross"], row["refunded"], row["net"], *orders)


def _source(row: Mapping[str, Any]) -> Source:
    return Source(row["channel"], row["platform"], row["campaign"], row["campaign_id"] or "")


def _usual(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the currency of most rows; empty if there are none."""
    counted: Counter[str] = Counter()
    for row in rows:
        if row["currency"]:
            counted[row["currency"]] += row.get("rows", 1)
    return min(counted, key=lambda currency: (-counted[currency], currency), default="")


def _as_row(shop: str, day: str, row: Row) -> dict[str, Any]:
    own = msgspec.structs.asdict(row)
    shares = {name: own[name] * _MILLIONTHS for name in ("orders", "new_customers", "returning_customers")}
    ratios = {name: getattr(row, name) for name in ("roas", "net_roas", "cost_per_order", "cost_per_new_customer")}
    return {"shop_id": shop, "day": date.fromisoformat(day), **own, **shares, **ratios}


def _funnels(tools: Tools, day: str) -> Rows:
    lake = tools.lake
    visits = _visits(lake, day)
    orders = lake.read_day(ORDERS, day, ["shop_id", "attribution", "sales_channel"]).to_pylist()
    online = {(row["shop_id"], row["attribution"]) for row in orders if row["sales_channel"] == ONLINE}
    credits_ = lake.read_day(CREDITS, day, ["shop_id", "attribution", "channel", "model"])
    clicks = where(credits_, "model", "last_click").to_pylist()
    last_clicks = by_shop(row for row in clicks if (row["shop_id"], row["attribution"]) in online)
    rows = {}
    for shop in sorted({*visits, *(row["shop_id"] for row in orders)}):
        found = funnel_daily(
            [SourceVisits(_source(row), *(row[step] for step in STEPS[:-1])) for row in visits.get(shop, [])],
            [row["channel"] for row in last_clicks.get(shop, [])],
        )
        rows[shop] = [
            {"shop_id": shop, "day": date.fromisoformat(day), **msgspec.structs.asdict(each)} for each in found
        ]
    return {FUNNEL_DAILY.name: rows}


def stale_stretches(settings: Settings, days: Sequence[str]) -> list[tuple[str, str]]:
    """Return the days with any stale table, as the first and last day of each unbroken sequence.

    Raises:
        LakeError, OSError, Unavailable: The lake or a server does not answer.
    """
    with making(settings) as tools:
        stale = {day for of_table in stale_days(tools, MAKERS.values(), days).values() for day in of_table}
    return [(first.isoformat(), last.isoformat()) for first, last in stretches(stale)]


SPEND_MAKER = Maker((AD_SPEND,), _spend_made_of, by_day(_spend))
RATES_MAKER = Maker((RATES,), _rates_made_of, by_day(_rates))
MARKETING_MAKER = Maker(
    (MARKETING_DAILY,),
    _marketing_made_of,
    by_day(_marketing),
    needs=(VISITS, CREDITS, AD_SPEND, RATES, JOURNEYS),
    outlive=True,
)
FUNNEL_MAKER = Maker(
    (FUNNEL_DAILY,), of_tables(VISITS, ORDERS, CREDITS), by_day(_funnels), needs=(VISITS, ORDERS), outlive=True
)

#: All makers by asset, in the order of their needs.
MAKERS: dict[str, Maker] = {
    asset_keys.LAKE_EVENTS: EVENTS_MAKER,
    asset_keys.LAKE_ORDERS: ORDERS_MAKER,
    asset_keys.LAKE_CUSTOMERS: CUSTOMERS_MAKER,
    asset_keys.LAKE_PRODUCT_STATS: PRODUCTS_MAKER,
    asset_keys.AD_SPEND: SPEND_MAKER,
    asset_keys.RATES: RATES_MAKER,
    asset_keys.JOURNEYS: JOURNEYS_MAKER,
    asset_keys.MARKETING_DAILY: MARKETING_MAKER,
    asset_keys.FUNNEL_DAILY: FUNNEL_MAKER,
}
