"""Compare what the stores hold with what the oracle expects, document by document and field by field.

for difference in differences(expected, actual):
    print(difference)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import zip_longest
from typing import Any, Literal

from truepixel_dagster.audit.oracle import Expected

Doc = Mapping[str, Any]
Docs = Mapping[str, Doc]
Reader = Callable[[Any], Any]

# An approximate count of visitors may be off by 3 %, and by 2 where that is more.
VISITORS_OFF_PERCENT = 3
VISITORS_OFF = 2
EITHER = "true or false"


@dataclass(frozen=True)
class Actual:
    """Hold the documents of the stores by id, and the reason of each dead letter by its origin."""

    events: Docs = field(default_factory=dict)
    dead: Mapping[tuple[int, int], str] = field(default_factory=dict)
    ad_leads: Docs = field(default_factory=dict)
    attributions: Docs = field(default_factory=dict)
    customers: Docs = field(default_factory=dict)
    product_stats: Docs = field(default_factory=dict)
    weekly_visitors: Docs = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """Hold one difference between a store and the expectation; `str` makes it one line.

    `path` names the field (`credits.linear[0].amount`); it is empty if the whole document is missing or unexpected.
    """

    store: str
    id: str
    kind: Literal["missing", "unexpected", "differs"]
    path: str = ""
    expected: Any = None
    actual: Any = None

    @property
    def top_field(self) -> str:
        """Return the field of the document that the path begins with."""
        return re.split(r"[.\[]", self.path)[0]

    def __str__(self) -> str:
        where = f"{self.store} {self.id!r}"
        if self.kind != "differs":
            return f"{where}: {self.kind}"
        return f"{where}: {self.path} is {self.actual!r}, expected {self.expected!r}"


def differences(expected: Expected, actual: Actual) -> list[Difference]:
    """Return every difference, by store and then by id; empty if the stores are as expected.

    - Fields outside of the contract are ignored.
    - Null, an empty string, list or object, and a missing field are equal. So are a count of 0 and no count, false and
      a missing mark, a refunded or summed amount of 0 and no amount, and an empty document of a product's day or a
      customer and no such document.
    - Times are compared as instants, sightings as a set of event id, partition and offset.
    - Visitors may differ by 3 %, or by 2 if that is more, if the document says that they are not exact.
    - Dead letters are compared by origin, not by the text of the reason.
    - An order id that no record names was imported, and is not a difference.
    - Duplicates have no document: if a duplicate was indexed instead of the first record, the event's `kafka` differs.
    """
    weeks = {id_: _week_doc(id_, visitors) for id_, visitors in expected.weekly_visitors.items()}
    stores: list[tuple[str, Reader, Docs, Docs]] = [
        ("events", EVENT, expected.events, actual.events),
        ("dead", _record(), _by_name(expected.dead), _by_name(actual.dead)),
        ("ad_leads", AD_LEAD, expected.ad_leads, actual.ad_leads),
        ("attributions", ATTRIBUTION, expected.attributions, _without_imported(expected, actual)),
        (
            "customers",
            CUSTOMER,
            _known(expected.customers, actual.customers),
            _known(actual.customers, expected.customers),
        ),
        (
            "product_stats",
            PRODUCT_DAY,
            _counted(expected.product_stats, actual.product_stats),
            _counted(actual.product_stats, expected.product_stats),
        ),
        ("weekly_visitors", WEEK, weeks, _settled(actual.weekly_visitors, expected.weekly_visitors)),
    ]
    return [difference for store in stores for difference in _compare(*store)]


def _compare(store: str, read: Reader, expected: Docs, actual: Docs) -> Iterator[Difference]:
    for id_ in sorted(expected.keys() | actual.keys()):
        if id_ not in actual:
            yield Difference(store, id_, "missing", expected=expected[id_])
        elif id_ not in expected:
            yield Difference(store, id_, "unexpected", actual=actual[id_])
        else:
            wanted, found = read(expected[id_]), read(actual[id_])
            # Most documents are as expected, and comparing their texts takes a fraction of the time.
            if repr(wanted) != repr(found):
                for path, one, other in _unequal("", wanted, found):
                    yield Difference(store, id_, "differs", path, one, other)


def _unequal(path: str, expected: Any, actual: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield path, expected and actual value of each leaf that differs."""
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        for name in sorted(expected.keys() | actual.keys()):
            yield from _unequal(f"{path}.{name}" if path else name, expected.get(name), actual.get(name))
    elif isinstance(expected, list) and isinstance(actual, list):
        for place, (one, other) in enumerate(zip_longest(expected, actual)):
            yield from _unequal(f"{path}[{place}]", one, other)
    elif not _same(expected, actual):
        yield path, expected, actual


def _same(expected: Any, actual: Any) -> bool:
    # 1, 1.0 and True are equal in Python; an amount that became a float is a difference.
    is_of_type = isinstance(actual, type(expected)) and isinstance(actual, bool) is isinstance(expected, bool)
    return is_of_type and bool(expected == actual)


# --- Readers: how each kind of field is compared ---


def _as_is(value: Any) -> Any:
    return value


def _record(**readers: Reader) -> Reader:
    """Return a reader of an object's named fields, without the empty ones."""

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        fields = {name: reader(value.get(name)) for name, reader in readers.items()}
        return {name: content for name, content in fields.items() if content not in (None, "", [], {})}

    return read


def _list_of(reader: Reader) -> Reader:
    def read(value: Any) -> Any:
        return [reader(item) for item in value] if isinstance(value, list) else value

    return read


def _instant(value: Any) -> Any:
    """Return an ISO 8601 string or a datetime, in UTC by default, as a datetime in UTC; other values unchanged."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            return value
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc) if value.tzinfo else value.replace(tzinfo=timezone.utc)
    return value


def _count(value: Any) -> Any:
    """Read a number of things; 0 equals no number."""
    return None if value == 0 and isinstance(value, int) and not isinstance(value, bool) else value


def _mark(value: Any) -> Any:
    """Read a mark; false equals no mark."""
    return None if value is False else value


def _given_back(value: Any) -> Any:
    """Read an amount of money; 0 equals no amount."""
    read = MONEY(value)
    return None if isinstance(read, Mapping) and _count(read.get("amount")) is None else read


def _amounts(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {currency: amount for currency, amount in value.items() if amount != 0}


def _sightings(value: Any) -> Any:
    """Read what identifies sightings, in an order of its own."""
    if not isinstance(value, list):
        return value
    read = _record(event_id=_as_is, kafka=_record(partition=_as_is, offset=_as_is))
    return tuple(sorted({str(read(sighting)) for sighting in value}))


AD = _record(
    platform=_as_is,
    source=_as_is,
    medium=_as_is,
    campaign=_as_is,
    content=_as_is,
    term=_as_is,
    click_id=_as_is,
    click_id_type=_as_is,
    campaign_id=_as_is,
    channel=_as_is,
)
MONEY = _record(amount=_as_is, currency=_as_is)
CREDITS = _list_of(
    _record(
        event_id=_as_is,
        platform=_as_is,
        channel=_as_is,
        source=_as_is,
        medium=_as_is,
        campaign=_as_is,
        campaign_id=_as_is,
        amount=_as_is,
        net=_as_is,
    )
)
EVENT = _record(
    shop_id=_as_is,
    client_id=_as_is,
    event_id=_as_is,
    name=_as_is,
    source=_as_is,
    occurred_at=_instant,
    received_at=_instant,
    url=_as_is,
    referrer=_as_is,
    ad=AD,
    channel=_as_is,
    product_ids=_as_is,
    order_id=_as_is,
    value=MONEY,
    client_at=_as_is,
    bot=_mark,
    sales_channel=_as_is,
    test=_mark,
    kafka=_record(topic=_as_is, partition=_as_is, offset=_as_is),
)
AD_LEAD = _record(
    touches=_list_of(
        _record(
            event_id=_as_is,
            at=_instant,
            ad=AD,
            referrer=_as_is,
            partition=_as_is,
            offset=_as_is,
        )
    ),
)
ATTRIBUTION = _record(
    shop_id=_as_is,
    order_id=_as_is,
    checkout_token=_as_is,
    cart_token=_as_is,
    client_id=_as_is,
    occurred_at=_instant,
    value=MONEY,
    value_from=_as_is,
    net=MONEY,
    refunded=_given_back,
    status=_as_is,
    test=_mark,
    sales_channel=_as_is,
    new_customer=_as_is,
    touches=_list_of(_record(event_id=_as_is, at=_instant, ad=AD, channel=_as_is, referrer=_as_is)),
    window_days=_as_is,
    credits=_record(
        last_click=CREDITS,
        first_click=CREDITS,
        linear=CREDITS,
        time_decay=CREDITS,
        position_based=CREDITS,
    ),
    sightings=_sightings,
)
CUSTOMER = _record(
    first_seen=_instant,
    last_seen=_instant,
    events=_count,
    orders=_count,
    revenue=_amounts,
    refunded=_amounts,
    last_ad=AD,
    email_hash=_as_is,
    customer_id=_as_is,
)
PRODUCT_DAY = _record(
    shop_id=_as_is,
    product_id=_as_is,
    day=_as_is,
    views=_count,
    carts=_count,
    checkouts=_count,
    orders=_count,
    units=_count,
    revenue=_amounts,
    returned_units=_count,
    returned_revenue=_amounts,
)
WEEK = _record(
    shop_id=_as_is,
    week=_as_is,
    visitors=_as_is,
    exact=lambda value: EITHER if isinstance(value, bool) else value,
)


# --- Documents that are converted before the comparison ---


def _without_imported(expected: Expected, actual: Actual) -> Docs:
    """Return the attributions without imported order ids: those that no record names."""
    named = {(event["shop_id"], event.get("order_id")) for event in expected.events.values()}

    def is_imported(id_: str, doc: Mapping[str, Any]) -> bool:
        told = expected.attributions.get(id_, {}).get("order_id")
        return not told and (doc.get("shop_id"), doc.get("order_id")) not in named

    return {
        id_: {**doc, "order_id": None} if is_imported(id_, doc) else doc for id_, doc in actual.attributions.items()
    }


def _by_name(dead: Mapping[tuple[int, int], str]) -> Docs:
    return {f"{partition}/{offset}": {"reason": reason} for (partition, offset), reason in dead.items()}


def _counted(days: Docs, others: Docs) -> Docs:
    """Drop the days on which nothing was counted, unless the other side has them too."""
    naming = ("shop_id", "product_id", "day")
    return {id_: day for id_, day in days.items() if id_ in others or PRODUCT_DAY(day).keys() - naming}


def _known(customers: Docs, others: Docs) -> Docs:
    """Drop the customers without data, unless the other side has them too."""
    return {id_: doc for id_, doc in customers.items() if id_ in others or CUSTOMER(doc)}


def _week_doc(id_: str, visitors: int) -> Doc:
    shop, _, week = id_.rpartition(":")
    return {"shop_id": shop, "week": week, "visitors": visitors, "exact": EITHER}


def _settled(weeks: Docs, expected: Mapping[str, int]) -> Docs:
    """Return the documents, with the exact count instead of an approximate one that is close enough."""
    return {
        id_: {**week, "visitors": expected[id_]} if id_ in expected and _is_near(week, expected[id_]) else week
        for id_, week in weeks.items()
    }


def _is_near(week: Doc, exact: int) -> bool:
    visitors = week.get("visitors")
    if week.get("exact") is not False or not isinstance(visitors, int):
        return False
    return abs(visitors - exact) * 100 <= max(VISITORS_OFF * 100, VISITORS_OFF_PERCENT * exact)
