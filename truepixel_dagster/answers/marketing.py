"""Sum visits, orders, revenue and spend by source for a shop's day and each model, in whole numbers.

Spend joins the sources of its campaign by the campaign's id or name. If a campaign has several sources, its spend is
divided in proportion to their visits (largest remainder); if it has none, its spend has a row of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal

import msgspec

from truepixel_dagster.answers.models import DATA_DRIVEN, Weights, weights_by_channel
from truepixel_dagster.answers.visits import Source
from truepixel_dagster.events.money import shares

#: Orders are divided into millionths.
WHOLE = 1_000_000
UNASSIGNED = "unassigned"
_PAID = frozenset({"paid_search", "paid_social", "paid_shopping", "display", "video", "affiliates"})
# One ad account serves several platforms.
_FAMILIES = {
    platform: family
    for family, platforms in {
        "facebook": ("facebook", "instagram", "threads", "messenger", "whatsapp"),
        "google": ("google", "youtube"),
    }.items()
    for platform in platforms
}
# The channel of a platform's ads if no visit shows it.
_CHANNELS = {
    "google": "paid_search",
    "microsoft": "paid_search",
    "bing": "paid_search",
    "youtube": "video",
} | dict.fromkeys(
    ("facebook", "instagram", "tiktok", "snapchat", "pinterest", "linkedin", "reddit", "twitter"), "paid_social"
)
_RATIO = Decimal("0.0001")


class Credited(msgspec.Struct, frozen=True):
    """Hold one credit: amounts in minor units of `currency`, orders in millionths."""

    model: str
    source: Source
    currency: str
    gross: int
    refunded: int
    net: int
    orders: int
    new_customers: int
    returning_customers: int


class Touched(msgspec.Struct, frozen=True):
    """Hold a touch of an order's journey by person, and its credits by each data-driven model in minor units."""

    source: Source
    amounts: Mapping[str, int]
    nets: Mapping[str, int]


def data_driven(
    touches: Sequence[Touched], currency: str, refunded: int, new_customer: bool | None, values: Mapping[str, Weights]
) -> Iterator[Credited]:
    """Yield the credits of an order by the data-driven models; for each model, they sum to the order's figures.

    Arguments:
        touches: The order's journey; an order without one has a single touch, of `direct` or its sales channel.
        currency: ISO 4217 code of the amounts.
        refunded: The amount refunded, in minor units; it and the order are divided by the values of the channels.
        new_customer: Whether the customer is new; None if unknown.
        values: The value of each channel on the order's day, by model.
    """
    for model in DATA_DRIVEN:
        weights = weights_by_channel([touch.source.channel for touch in touches], values.get(model, {}))
        parts = zip(touches, shares(WHOLE, weights), shares(refunded, weights))
        for touch, part, back in parts:
            new, returning = (part if new_customer is which else 0 for which in (True, False))
            amounts = (touch.amounts[model], back, touch.nets[model])
            if part or any(amounts):
                yield Credited(model, touch.source, currency, *amounts, part, new, returning)


class Spent(msgspec.Struct, frozen=True):
    """Hold the spend of one campaign on a day, in minor units of `currency`."""

    platform: str
    campaign_id: str
    campaign: str
    currency: str
    amount: int
    clicks: int = 0
    impressions: int = 0


class Row(msgspec.Struct):
    """Sum the figures of one source by one model: amounts in minor units of `currency`, orders in millionths."""

    model: str
    channel: str
    platform: str
    campaign: str
    currency: str
    visits: int = 0
    orders: int = 0
    new_customers: int = 0
    returning_customers: int = 0
    revenue: int = 0
    refunded: int = 0
    net: int = 0
    spend: int = 0
    clicks: int = 0
    impressions: int = 0

    @property
    def roas(self) -> Decimal | None:
        """Return revenue per unit of spend."""
        return ratio(self.revenue, self.spend)

    @property
    def net_roas(self) -> Decimal | None:
        """Return net per unit of spend."""
        return ratio(self.net, self.spend)

    @property
    def cost_per_order(self) -> int | None:
        """Return spend per order."""
        return cost_per(self.spend, self.orders)

    @property
    def cost_per_new_customer(self) -> int | None:
        """Return spend per new customer."""
        return cost_per(self.spend, self.new_customers)


def ratio(part: int, whole: int) -> Decimal | None:
    """Return part / whole to four places, rounded half up; None if whole is 0."""
    return (Decimal(part) / whole).quantize(_RATIO, ROUND_HALF_UP) if whole else None


def cost_per(spend: int, millionths: int) -> int | None:
    """Return spend per order in minor units, rounded half up; None without orders, which are in millionths."""
    return (2 * spend * WHOLE + millionths) // (2 * millionths) if millionths else None


class Marketing(msgspec.Struct, frozen=True):
    """Hold the rows of a shop's day, and the currencies without a known rate, whose spend is not converted."""

    rows: list[Row]
    without_rate: frozenset[str] = frozenset()


def marketing_daily(
    models: Sequence[str],
    visits: Mapping[Source, int],
    credited: Sequence[Credited],
    spend: Sequence[Spent],
    currency: str,
    convert: Callable[[int, str], int | None],
) -> Marketing:
    """Return the figures of a shop's day.

    Arguments:
        models: The models to return rows for; each credit belongs to one.
        visits: The number of visits of each source.
        credited: The credits of the day's orders.
        spend: The spend of the day.
        currency: The shop's currency; visits and spend are in its rows.
        convert: Converts minor units of another currency to the shop's; returns None if no rate is known.
    """
    weights = {source: visits.get(source, 0) for source in [*visits, *(each.source for each in credited)]}
    rows = {model: _Rows(model) for model in models}
    without_rate: set[str] = set()
    for source, count in visits.items():
        for own in rows.values():
            own.of(source, currency).visits += count
    for each in spend:
        amount = convert(each.amount, each.currency)
        if amount is None:
            without_rate.add(each.currency)
        target = each.currency if amount is None else currency
        for source, part in _divided(each, each.amount if amount is None else amount, weights):
            for own in rows.values():
                _spend(own.of(source, target), part)
    for credit in credited:
        _credit(rows[credit.model].of(credit.source, credit.currency), credit)
    return Marketing([row for own in rows.values() for row in own.sorted()], frozenset(without_rate))


class _Rows:
    """Collect the rows of one model."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._rows: dict[tuple[str, str, str, str], Row] = {}

    def of(self, source: Source, currency: str) -> Row:
        key = (source.channel, source.platform, source.campaign or source.campaign_id, currency)
        return self._rows.setdefault(key, Row(self._model, *key))

    def sorted(self) -> list[Row]:
        return [self._rows[key] for key in sorted(self._rows)]


def _divided(spent: Spent, amount: int, weights: Mapping[Source, int]) -> list[tuple[Source, tuple[int, int, int]]]:
    """Return the sources that spend paid for, each with its part of amount, clicks and impressions."""
    found = sorted(source for source in weights if _paid_for(spent, source))
    found = [source for source in found if source.channel in _PAID] or found
    if not found:
        channel = _CHANNELS.get(spent.platform, UNASSIGNED)
        found = [Source(channel, spent.platform, spent.campaign, spent.campaign_id)]
    by = [weights.get(source, 0) for source in found]
    by = by if any(by) else [1] * len(found)
    parts = (shares(whole, by) for whole in (amount, spent.clicks, spent.impressions))
    return list(zip(found, zip(*parts)))


def _paid_for(spent: Spent, source: Source) -> bool:
    """Return whether a source is the campaign of the spend. A shop's links may name a campaign by its id."""
    if _family(spent.platform) != _family(source.platform):
        return False
    ids, names = {source.campaign_id, source.campaign} - {""}, {_name(source.campaign)} - {""}
    return spent.campaign_id in ids or _name(spent.campaign) in names


def _family(platform: str) -> str:
    return _FAMILIES.get(platform, platform)


def _name(campaign: str) -> str:
    """Return a campaign's name in comparable form: links encode spaces in several ways."""
    return " ".join(campaign.replace("+", " ").replace("_", " ").casefold().split())


def _spend(row: Row, part: tuple[int, int, int]) -> None:
    row.spend += part[0]
    row.clicks += part[1]
    row.impressions += part[2]


def _credit(row: Row, credit: Credited) -> None:
    row.orders += credit.orders
    row.new_customers += credit.new_customers
    row.returning_customers += credit.returning_customers
    row.revenue += credit.gross
    row.refunded += credit.refunded
    row.net += credit.net
