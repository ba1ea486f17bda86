"""Read ad spend and exchange rates from the files that ad platforms export, and from the project's plain form.

    >>> from truepixel_dagster.answers.grid import lines_of
    >>> from truepixel_dagster.answers.spend import read
    >>> found = read(lines_of(b"Day,Campaign,Cost,Currency code\\n2026-01-31,Winter,\\"1,234.50\\",EUR"), shop="7")
    >>> found.form, found.spend[0].amount
    ('Google Ads', 123450)

The columns identify the form: those that Google Ads ("Reports", and the tables of "Campaigns"), Meta Ads Manager
and TikTok Ads Manager write in English, with a row for each campaign and day.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple, TypeVar

import msgspec

from truepixel_dagster.answers.grid import Line, Numbers
from truepixel_dagster.answers.rates import Rate
from truepixel_dagster.events.money import currency_code, minor_units

T = TypeVar("T")
# Exports may begin with a title and a period, before the header.
_LINES_BEFORE = 20
_YEARS = range(2000, 2100)
_NONE = frozenset({"", "-", "--", "—"})
_TOTAL = re.compile(r"total($|:| of )", re.IGNORECASE)
_IN_CURRENCY = re.compile(r"amount spent \(([a-z]{3})\)")
_DAY_FORMS = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%b %d, %Y", "%B %d, %Y", "%Y%m%d")
_RATE_PLACES, _MOST = 12, 10**12
_MOST_COUNTED = 10**15
_COUNTS = ("clicks", "impressions")


class Form(NamedTuple):
    """Describe a kind of file: the possible names of each column, in lower case; the first one found counts."""

    name: str
    columns: Mapping[str, tuple[str, ...]]
    required: tuple[tuple[str, ...], ...]
    platform: str | None = None


_CAMPAIGN = ("campaign", "campaign_id")
FORMS = (
    Form(
        "rates",
        {"day": ("day", "date"), "from": ("from", "from_currency"), "to": ("to", "to_currency"), "rate": ("rate",)},
        (("day",), ("from",), ("to",), ("rate",)),
    ),
    Form(
        "plain",
        {name: (name,) for name in ("day", "platform", *_CAMPAIGN, "amount", "currency", *_COUNTS)}
        | {"shop": ("shop", "shop_id")},
        (("day",), ("platform",), ("amount",), _CAMPAIGN),
    ),
    Form(
        "Meta Ads",
        {
            "day": ("day", "reporting starts"),
            "last_day": ("reporting ends",),
            "campaign": ("campaign name",),
            "campaign_id": ("campaign id",),
            "amount": ("amount spent",),
            "currency": ("currency",),
            "clicks": ("link clicks", "clicks (all)"),
            "impressions": ("impressions",),
        },
        (("day",), ("amount",), _CAMPAIGN),
        "facebook",
    ),
    Form(
        "TikTok Ads",
        {
            "day": ("by day", "date"),
            "campaign": ("campaign name",),
            "campaign_id": ("campaign id",),
            "amount": ("cost", "total cost"),
            "currency": ("currency",),
            "clicks": ("clicks (destination)", "clicks (all)", "clicks"),
            "impressions": ("impressions", "impression"),
        },
        (("day",), ("amount",), _CAMPAIGN),
        "tiktok",
    ),
    Form(
        "Google Ads",
        {
            "day": ("day",),
            "campaign": ("campaign",),
            "campaign_id": ("campaign id",),
            "amount": ("cost",),
            "currency": ("currency code", "currency"),
            "clicks": ("clicks",),
            "impressions": ("impr.", "impressions"),
        },
        (("day",), ("amount",), _CAMPAIGN),
        "google",
    ),
)


class Unrecognised(ValueError):
    """The columns of a file match no form; the message lists the known ones."""


class Spend(msgspec.Struct, frozen=True):
    """Hold the spend of a shop on one campaign on a day, in minor units of `currency`."""

    shop_id: str
    day: date
    platform: str
    campaign_id: str
    campaign: str
    currency: str
    amount: int
    clicks: int = 0
    impressions: int = 0


class BadRow(msgspec.Struct, frozen=True):
    """Hold the number of a line that cannot be imported, and the reason."""

    line: int
    reason: str


class File(msgspec.Struct, frozen=True):
    """Hold the content of a file: either spend or rates, and the bad rows."""

    form: str
    spend: tuple[Spend, ...] = ()
    rates: tuple[Rate, ...] = ()
    bad: tuple[BadRow, ...] = ()


def read(
    lines: Sequence[Line],
    shop: str | None = None,
    currency: str | None = None,
    platform_of: Callable[[str], str] = str.lower,
) -> File:
    """Read the spend or the rates in a file.

    Arguments:
        lines: The lines of the file, with its header among the first twenty.
        shop: The shop's id, if no column has it.
        currency: ISO 4217 code of the amounts, if no column has it.
        platform_of: Returns the canonical name of a platform in the plain form.

    Raises:
        Unrecognised: Its columns match no form.
    """
    form, header, body = _recognised(lines)
    cells = [(line.number, {name: _cell(line, at) for name, at in header.places.items()}) for line in body]
    rows = [(number, row) for number, row in cells if not _is_summary(form, row)]
    numbers = Numbers(text for _, row in rows for name in ("amount", "rate", *_COUNTS) if (text := row.get(name, "")))
    if form.name == "rates":
        made_rates, bad = _each(rows, lambda row: _rate(row, numbers), lambda rate: rate_key(rate))
        return File(form.name, rates=tuple(made_rates), bad=tuple(bad))

    def spend(row: Mapping[str, str]) -> Spend:
        defaults = {"shop": shop or "", "currency": header.currency or currency or ""}
        said = {**defaults, **{name: text for name, text in row.items() if text}}
        return _spend(said, numbers, form.platform or platform_of(row.get("platform", "")))

    made, bad = _each(rows, spend, spend_key)
    return File(form.name, spend=tuple(made), bad=tuple(bad))


class _Header(NamedTuple):
    places: Mapping[str, int]
    currency: str | None


def spend_key(spend: Spend) -> tuple[object, ...]:
    """Return the key of a row of spend."""
    return spend.shop_id, spend.day, spend.platform, spend.campaign_id or spend.campaign


def rate_key(rate: Rate) -> tuple[object, ...]:
    """Return the key of a rate."""
    return rate.day, rate.from_currency, rate.to_currency


def merged_spend(imports: Iterable[Sequence[Spend]]) -> list[Spend]:
    """Return the newest spend of each campaign of one shop and day.

    A file may name a campaign by its id, its name or both: rows belong to one campaign if they share the id, or if they
    share the name and do not have two different ids.

    Arguments:
        imports: The rows of each import, the oldest first.
    """
    found: list[Spend] = []
    for rows in imports:
        found = [old for old in found if not any(_is_same(old, new) for new in rows)] + list(rows)
    return found


def _is_same(one: Spend, other: Spend) -> bool:
    if one.platform != other.platform:
        return False
    if one.campaign_id and other.campaign_id:
        return one.campaign_id == other.campaign_id
    return bool(one.campaign) and one.campaign == other.campaign


def _recognised(lines: Sequence[Line]) -> tuple[Form, _Header, Sequence[Line]]:
    for position, line in enumerate(lines[:_LINES_BEFORE]):
        names = [" ".join(cell.lower().split()) for cell in line.cells]
        found = next((each for name in names if (each := _IN_CURRENCY.fullmatch(name))), None)
        bare = ["amount spent" if _IN_CURRENCY.fullmatch(name) else name for name in names]
        for form in FORMS:
            places = {
                column: bare.index(known)
                for column, known_names in form.columns.items()
                if (known := next((each for each in known_names if each in bare), None))
            }
            if all(any(name in places for name in either) for either in form.required):
                return form, _Header(places, found[1].upper() if found else None), lines[position + 1 :]
    known = "; ".join(f"{form.name}: {_columns_of(form)}" for form in FORMS)
    raise Unrecognised(
        f"the first {_LINES_BEFORE} lines contain no known header. A header has at least: {known}. Export in"
        " English, with a row for each campaign and day"
    )


def _columns_of(form: Form) -> str:
    return ", ".join(" or ".join(form.columns[name][0] for name in either) for either in form.required)


def _cell(line: Line, place: int) -> str:
    text = line.cells[place] if place < len(line.cells) else ""
    return "" if text in _NONE else text


def _is_summary(form: Form, row: Mapping[str, str]) -> bool:
    """Return whether a line is a total: Google and TikTok write "Total", Meta leaves out the campaign."""
    if any(_TOTAL.match(text) for text in row.values()) and not _is_day(row.get("day", "")):
        return True
    return form.platform == "facebook" and not row.get("campaign") and not row.get("campaign_id")


def _each(
    rows: Iterable[tuple[int, Mapping[str, str]]],
    make: Callable[[Mapping[str, str]], T],
    key: Callable[[T], tuple[object, ...]],
) -> tuple[list[T], list[BadRow]]:
    """Return the rows of lines, and the lines that cannot be read or that repeat another line's key."""
    made: list[T] = []
    bad: list[BadRow] = []
    seen: dict[tuple[object, ...], int] = {}
    for number, row in rows:
        try:
            found = make(row)
        except ValueError as error:
            bad.append(BadRow(number, str(error)))
            continue
        first = seen.setdefault(key(found), number)
        if first == number:
            made.append(found)
        else:
            bad.append(
                BadRow(number, f"repeats line {first}: write one line for each day and campaign (or currencies)")
            )
    return made, bad


def _spend(row: Mapping[str, str], numbers: Numbers, platform: str) -> Spend:
    if not row["shop"]:
        raise ValueError("no column has the shop: give it with --shop, or put the file into a folder named by its id")
    if not row["currency"]:
        raise ValueError("no column has the currency: export the column, or give it with --currency")
    if not platform:
        raise ValueError("platform is empty")
    campaign, campaign_id = row.get("campaign", ""), row.get("campaign_id", "")
    if not campaign and not campaign_id:
        raise ValueError("campaign is empty")
    if "amount" not in row:
        raise ValueError("amount is empty")
    day, currency = _day(row.get("day", "")), currency_code(row["currency"])
    if "last_day" in row and _day(row["last_day"]) != day:
        raise ValueError("the row covers several days: export with the breakdown by day")
    amount = minor_units(numbers.read(row["amount"]), currency)
    clicks, impressions = (_count(row.get(name, "0"), name, numbers) for name in _COUNTS)
    return Spend(row["shop"], day, platform, campaign_id, campaign, currency, amount, clicks, impressions)


def _rate(row: Mapping[str, str], numbers: Numbers) -> Rate:
    source, target = currency_code(row.get("from", "")), currency_code(row.get("to", ""))
    if source == target:
        raise ValueError(f"the rate is from {source} to itself: remove the line")
    rate = numbers.read(row.get("rate", ""))
    if not 0 < rate < _MOST or rate != round(rate, _RATE_PLACES):
        raise ValueError(f"rate {rate} is not above 0 and below {_MOST}, with at most {_RATE_PLACES} decimals")
    return Rate(_day(row.get("day", "")), source, target, rate)


def _count(text: str, name: str, numbers: Numbers) -> int:
    number = numbers.read(text)
    if number != int(number) or not 0 <= number <= _MOST_COUNTED:
        raise ValueError(f"{name} {text[:40]!r} is not a whole number from 0")
    return int(number)


def _day(text: str) -> date:
    for form in _DAY_FORMS:
        try:
            day = datetime.strptime(text, form).date()  # noqa: DTZ007 (a day has no zone)
        except ValueError:
            continue
        if day.year in _YEARS:
            return day
    raise ValueError(f"{text[:40]!r} is not a day such as 2026-01-31")


def _is_day(text: str) -> bool:
    try:
        return bool(_day(text))
    except ValueError:
        return False
