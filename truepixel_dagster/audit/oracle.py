"""What the stores must hold after a topic has been worked off: slow, obvious, and written from the design alone.

It shares no code with the pipeline, not even the decoding, so that one mistake cannot hide on both sides. It reads from
top to bottom as the design does: decode, drop duplicates, touches, orders and credits, customers, products, visitors.

    expected(records).attributions["shop-1:checkout-token"]["credits"]["linear"]
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation, localcontext
from fractions import Fraction
from typing import Any
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

Doc = dict[str, Any]
Origin = tuple[int, int]

LARGEST_VALUE = 40 * 1024 * 1024
DEEPEST = 128
LARGEST_AMOUNT = 10**15
LARGEST_QUANTITY = 1_000_000
MOST_LINE_ITEMS = 2_000
LONGEST_PARAMETER = 512
LONGEST_NUMBER = 1_000
LONGEST_TEXT = 4_096
LONGEST_ID = LONGEST_NAME = 256
LARGEST_SUM = 2**63 - 1

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - all times here are UTC
YEAR_2015_MS = 1_420_070_400_000
YEAR_2100_MS = 4_102_444_800_000
LONG_AGO_MS, LONG_AFTER_MS = -(10**18), 10**18

STATUSES = ("open", "paid", "cancelled", "refunded")
SIGHTINGS = ("checkout_completed", "orders/create", "orders/paid")

CLICK_IDS = {
    "gclid": "google",
    "gbraid": "google",
    "wbraid": "google",
    "fbclid": "facebook",
    "ttclid": "tiktok",
    "msclkid": "microsoft",
    "ScCid": "snapchat",
    "epik": "pinterest",
    "twclid": "twitter",
}
UTM = ("source", "medium", "campaign", "content", "term")

CURRENCIES_BY_DECIMALS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
# ISO 4217 by the letter that a code begins with, Shopify's withdrawn ones and Jersey's among them.
CURRENCIES = {
    first + rest
    for first, all_rests in {
        "A": "ED FN LL MD NG OA RS UD WG ZN",
        "B": "AM BD DT GN HD IF MD ND OB OV RL SD TN WP YN YR ZD",
        "C": "AD DF HE HF HW LF LP NY OP OU RC UC UP VE ZK",
        "D": "JF KK OP ZD",
        "E": "EK GP RN TB UR",
        "F": "JD KP",
        "G": "BP EL HS IP MD NF TQ YD",
        "H": "KD NL RK TG UF",
        "I": "DR LS NR QD RR SK",
        "J": "EP MD OD PY",
        "K": "ES GS HR MF PW RW WD YD ZT",
        "L": "AK BP KR RD SL TL VL YD",
        "M": "AD DL GA KD MK NT OP RO RU UR VR WK XN XV YR ZN",
        "N": "AD GN IO OK PR ZD",
        "O": "MR",
        "P": "AB EN GK HP KR LN YG",
        "Q": "AR",
        "R": "ON SD UB WF",
        "S": "AR BD CR DG EK GD HP LE LL OS RD SP TD TN VC YP ZL",
        "T": "HB JS MT ND OP RY TD WD ZS",
        "U": "AH GX SD SN YI YU YW ZS",
        "V": "ED EF ES ND UV",
        "W": "ST",
        "X": "AD AF AG AU BA BB BC BD CD CG DR OF PD PF PT SU TS UA XX",
        "Y": "ER",
        "Z": "AR MK MW WG WL",
    }.items()
    for rest in all_rests.split()
}
DECIMALS = {code: decimals for decimals, codes in CURRENCIES_BY_DECIMALS.items() for code in codes.split()}


@dataclass(frozen=True)
class Record:
    """A Kafka record. `timestamp_ms` is in milliseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)


@dataclass
class Expected:
    """The final state, by document id. `dead` maps (partition, offset) to the reason; visitors are exact counts."""

    events: dict[str, Doc] = field(default_factory=dict)
    duplicate_origins: set[Origin] = field(default_factory=set)
    dead: dict[Origin, str] = field(default_factory=dict)
    ad_leads: dict[str, Doc] = field(default_factory=dict)
    attributions: dict[str, Doc] = field(default_factory=dict)
    customers: dict[str, Doc] = field(default_factory=dict)
    product_stats: dict[str, Doc] = field(default_factory=dict)
    weekly_visitors: dict[str, int] = field(default_factory=dict)

    @property
    def duplicates(self) -> int:
        """How many records repeat the event id of another record."""
        return len(self.duplicate_origins)


def expected(
    records: Iterable[Record],
    *,
    window_days: int = 30,
    half_life_days: float = 7.0,
    touches_kept: int = 50,
    touch_repeat_seconds: float = 1800,
    sightings_kept: int = 50,
    products_per_event: int = 2_000,
    zones: Mapping[str, str] | None = None,
    firsts: Mapping[str, Origin] | None = None,
    winners: Mapping[str, Origin] | None = None,
    late: AbstractSet[Origin] = frozenset(),
) -> Expected:
    """Work out the final state.

    Arguments:
        records: The topic, each partition in offset order; a record that comes twice counts once.
        window_days: Age up to which a touch counts for an order.
        half_life_days: Age at which time decay halves a touch's weight.
        touches_kept: Newest touches kept for a user.
        touch_repeat_seconds: Time in which the same ad again is the same touch.
        sightings_kept: Sightings that an order's document names, besides those that it cannot do without.
        products_per_event: Products of one event that count for product statistics, the first ones.
        zones: Shop id → IANA time zone, as far as they are known: days and weeks of all other shops are UTC's.
        firsts: Attribution id → (partition, offset) of the sighting that came first, where partitions raced.
        winners: Event id with its shop → (partition, offset) of the record that was indexed, where partitions raced.
            Of both, an origin that cannot have come first is not believed.
        late: Records that came back from the dead letters: later ones of their partition may have come before them.
    """
    result = Expected()
    decoded = list(_decoded(records, result.dead))
    events = _without_duplicates(decoded, winners or {}, late, result.duplicate_origins)
    result.events = {event.id: _event_doc(event) for event in events}

    touches = _touches_of_users(events, touch_repeat_seconds * 1000)
    result.ad_leads = {user: {"touches": _lead_touches(own[-touches_kept:])} for user, own in touches.items()}

    orders = _orders(events)
    first = {id_: _first(sightings, (firsts or {}).get(id_), late) for id_, sightings in orders.items()}
    counted = {sighting.id for sighting in first.values()}
    journeys = _Journeys(touches, touches_kept, window_days * DAY_MS)
    statuses = _Statuses(events)
    for id_, sightings in orders.items():
        result.attributions[id_] = _attribution(
            sightings, first[id_], journeys, statuses, window_days, half_life_days, sightings_kept
        )

    result.customers = _customers(events, counted)
    in_shops = [replace(event, occurred_at=_by_the_shops_clock(event, zones or {})) for event in events]
    result.product_stats = _product_stats(in_shops, counted, products_per_event)
    result.weekly_visitors = _weekly_visitors(in_shops)
    return result


# --- An event ---


class DeadLetter(Exception):
    """A record that cannot be understood, and why."""


@dataclass(frozen=True)
class Line:
    """A line item. `revenue` is price × quantity − discounts in minor units, None without price or currency."""

    product: str | None
    quantity: int
    revenue: int | None
    currency: str | None


@dataclass(frozen=True)
class Content:
    """What the payload says besides who and when."""

    url: str | None = None
    referrer: str | None = None
    ad: Doc | None = None
    product_ids: list[str] = field(default_factory=list)
    order_id: str | None = None
    token: str | None = None
    value: Doc | None = None
    lines: list[Line] = field(default_factory=list)
    quantity: int = 1
    status: str | None = None
    email_hash: str | None = None
    customer_id: str | None = None


@dataclass(frozen=True)
class Event:
    """A record that was understood. Times are milliseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    shop: str
    client: str
    event_id: str
    name: str
    source: str
    occurred_at: int
    received_at: int
    content: Content
    client_at: str | None = None

    @property
    def id(self) -> str:
        return f"{self.shop}:{self.event_id}"

    @property
    def user(self) -> str:
        return f"{self.shop}:{self.client}"

    @property
    def origin(self) -> Origin:
        return self.partition, self.offset

    @property
    def order(self) -> str | None:
        """The id of the order's attribution, if this event is a sighting of an order."""
        identity = self.content.token or self.content.order_id
        return f"{self.shop}:{identity}" if self.name in SIGHTINGS and identity else None


def _event_doc(event: Event) -> Doc:
    content = event.content
    return _present(
        shop_id=event.shop,
        client_id=event.client,
        event_id=event.event_id,
        name=event.name,
        source=event.source,
        occurred_at=_iso(event.occurred_at),
        received_at=_iso(event.received_at),
        url=content.url,
        referrer=content.referrer,
        ad=content.ad,
        product_ids=content.product_ids or None,
        order_id=content.order_id if content.status is not None else None,
        value=content.value,
        client_at=event.client_at,
        kafka=_kafka(event),
    )


def _kafka(event: Event) -> Doc:
    return {"topic": event.topic, "partition": event.partition, "offset": event.offset}


def _present(**fields: Any) -> Doc:
    return {name: value for name, value in fields.items() if value is not None}


# --- Decoding ---


def _decoded(records: Iterable[Record], dead: dict[Origin, str]) -> Iterator[Event]:
    seen: set[Origin] = set()
    for record in records:
        origin = (record.partition, record.offset)
        if origin in seen:
            continue
        seen.add(origin)
        try:
            yield decode(record)
        except DeadLetter as reason:
            dead[origin] = str(reason)


def decode(record: Record) -> Event:
    """The event of a record.

    Raises:
        DeadLetter: The record cannot be understood.
    """
    shop, client = _shop_and_client(record.key)
    headers = _our_headers(record.headers)
    payload = _payload(record.value)
    source = _source(headers, payload)
    if source == "pixel":
        _check_types(payload, _PIXEL)
        name = _text(payload.get("name"), "name")
        moment = payload.get("timestamp")
    else:
        name = _topic(headers) or _topic_by_shape(payload)
        _check_types(payload, _webhook_types(name))
        moment = _webhook_moment(name, payload)
    if not name:
        raise DeadLetter("no event name")
    if len(name.encode("utf-8")) > LONGEST_NAME:
        raise DeadLetter("event name: too long")
    occurred_at, received_at, client_at = _times(moment, source, headers.get("received_at"), record.timestamp_ms)
    return Event(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        shop=shop,
        client=client,
        event_id=_event_id(headers, source, name, payload),
        name=name,
        source=source,
        occurred_at=occurred_at,
        received_at=received_at,
        content=_pixel_content(name, payload) if source == "pixel" else _webhook_content(name, payload),
        client_at=client_at,
    )


def _shop_and_client(key: bytes | None) -> tuple[str, str]:
    try:
        text = (key or b"").decode("utf-8")
    except UnicodeDecodeError:
        raise DeadLetter("key: not UTF-8") from None
    shop, colon, client = text.partition(":")
    if not shop or not colon:
        raise DeadLetter("key: not shop:client")
    if len(shop.encode()) > 128 or len(client.encode()) > 256:
        raise DeadLetter("key: too long")
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise DeadLetter("key: control character")
    return shop, client


def _payload(value: bytes | None) -> Doc:
    if not value:
        raise DeadLetter("value: empty")
    if len(value) > LARGEST_VALUE:
        raise DeadLetter("value: too large")
    try:
        payload = json.loads(
            value.decode("utf-8-sig"),
            parse_float=_json_number,
            parse_int=_json_number,
            parse_constant=_no_constant,
            object_pairs_hook=_json_object,
        )
    except UnicodeDecodeError:
        raise DeadLetter("value: not UTF-8") from None
    except RecursionError:
        raise DeadLetter("value: nested too deep") from None
    except ValueError:
        raise DeadLetter("value: not JSON") from None
    if not isinstance(payload, dict):
        raise DeadLetter("value: not an object")
    if _deeper_than(payload, DEEPEST):
        raise DeadLetter("value: nested too deep")
    return payload


def _json_number(text: str) -> Decimal | int:
    # Neither the event history nor Python reads longer ones.
    if sum(character.isdigit() for character in text) > LONGEST_NUMBER:
        raise DeadLetter("value: a number of more than 1,000 digits")
    if text.lstrip("-").isdigit():
        return int(text)
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond what Decimal can hold
        return Decimal("Infinity")


def _json_object(pairs: list[tuple[str, Any]]) -> Doc:
    # The event history refuses an object that names something twice.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise DeadLetter("value: a name comes twice in one object")
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _deeper_than(payload: Doc, limit: int) -> bool:
    level: list[Any] = [payload]
    for _ in range(limit):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def _children(parent: Any) -> list[Any]:
    values = parent.values() if isinstance(parent, dict) else parent
    return [value for value in values if isinstance(value, (dict, list))]


_SHOPIFYS_HEADERS = {"topic": "topic", "webhook-id": "event_id", "triggered-at": "received_at"}


def _our_headers(given: Iterable[tuple[str, bytes | None]]) -> dict[str, bytes | None]:
    """Headers by our names, the last one of a name; Shopify's (`X-Shopify-Webhook-Id`) where ours says nothing."""
    by_name = {name.lower(): value for name, value in given}
    found = {name: by_name.get(name) for name in ("source", "topic", "event_id", "received_at")}
    for theirs, ours in _SHOPIFYS_HEADERS.items():
        found[ours] = found[ours] or by_name.get(f"x-shopify-{theirs}") or by_name.get(f"shopify-{theirs}")
    return found


# Of topics that come in upper case, `ORDERS_PAID`: what stands before the slash of `orders/paid`.
_RESOURCES = re.compile(
    "(app|app_purchases_one_time|app_subscriptions|audit_events|bulk_operations|carts|channels|checkouts|collections|"
    "checkout_and_accounts_configurations|collection_listings|collection_publications|companies|company_contact_roles|"
    "company_contacts|company_locations|customer|customer_tags|customer_account_settings|customer_groups|customer_payment_methods|customers|"
    "customers_email_marketing_consent|customers_marketing_consent|delivery_promise_settings|discounts|disputes|domains|"
    "draft_orders|finance_app_staff_member|finance_kyc_information|fulfillment_events|fulfillment_holds|"
    "fulfillment_orders|fulfillments|inventory_items|inventory_levels|inventory_shipments|"
    "inventory_transfers|locales|locations|markets|markets_backup_region|metafield_definitions|metaobjects|"
    "order_transactions|orders|payment_schedules|payment_terms|product_feeds|product_listings|"
    "product_publications|products|profiles|publications|refunds|returns|reverse_deliveries|"
    "reverse_fulfillment_orders|scheduled_product_listings|segments|selling_plan_groups|shipping_addresses|shop|"
    "subscription_billing_attempts|subscription_billing_cycle_edits|subscription_billing_cycles|"
    "subscription_contracts|tax_partners|tax_services|tax_summaries|tender_transactions|themes|variants)"
)


def _topic(headers: Mapping[str, bytes | None]) -> str | None:
    name = (_header(headers, "topic") or "").strip().lower()
    if "/" in name or "_" not in name:
        return name or None
    # The longest resource.
    for end in range(len(name), 0, -1):
        if name[end - 1] == "_" and _RESOURCES.fullmatch(name, 0, end - 1):
            return f"{name[: end - 1]}/{name[end:]}"
    return "/".join(name.rsplit("_", 1))


def _header(headers: Mapping[str, bytes | None], name: str) -> str | None:
    """The header's text, None where it is missing or empty."""
    try:
        return (headers.get(name) or b"").decode("utf-8") or None
    except UnicodeDecodeError:
        raise DeadLetter(f"header {name}: not UTF-8") from None


def _source(headers: Mapping[str, bytes | None], payload: Doc) -> str:
    if source := _header(headers, "source"):
        if source not in ("pixel", "webhook"):
            raise DeadLetter("header source: neither pixel nor webhook")
        return source
    if _header(headers, "topic"):
        return "webhook"
    if "clientId" in payload or ("name" in payload and "context" in payload):
        return "pixel"
    return "webhook"


def _topic_by_shape(payload: Doc) -> str:
    if "refund_line_items" in payload:
        return "refunds/create"
    if "financial_status" in payload or "order_number" in payload:
        return "orders/create" if payload.get("cancelled_at") is None else "orders/cancelled"
    if "abandoned_checkout_url" in payload:
        return "checkouts/create"
    if "token" in payload and "line_items" in payload:
        return "carts/update"
    raise DeadLetter("webhook: unknown shape")


def _event_id(headers: Mapping[str, bytes | None], source: str, name: str, payload: Doc) -> str:
    own = _id_as_it_is(payload.get("id"), "id") if source == "pixel" else _webhook_event_id(name, payload)
    event_id = _header(headers, "event_id") or own
    if source == "webhook" and event_id is not None:
        event_id = event_id.removeprefix(f"{name}:")
    if not event_id:
        raise DeadLetter("no event id")
    if len(event_id.encode("utf-8")) > 256:
        raise DeadLetter("event id: too long")
    return f"{name}:{event_id}" if source == "webhook" else event_id


def _webhook_event_id(topic: str, payload: Doc) -> str | None:
    id_ = _id(payload.get("id"), "id")
    if id_ is None:
        return None
    updated_at = payload.get("updated_at")
    if updated_at and topic not in ("orders/create", "orders/paid", "orders/cancelled"):
        return f"{topic}:{id_}:{_text(updated_at, 'updated_at')}"
    return f"{topic}:{id_}"


# --- Times ---

_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.]([0-9]+))?"
    r"(?:([Zz])|([+-])([0-9]{2}):?([0-9]{2}))?"
)
_SIX_DIGIT_YEAR = re.compile(r"([+-])[0-9]{6}-[0-9]{2}-[0-9]{2}T[0-9:.]{5,12}Z")


def _milliseconds(text: str) -> int | None:
    """Milliseconds since the epoch of an ISO 8601 time, rounded down; None for what is no time.

    JavaScript writes years before 0 and beyond 9999 with a sign and six digits: long ago, and far ahead.
    """
    if beyond := _SIX_DIGIT_YEAR.fullmatch(text):
        return LONG_AFTER_MS if beyond.group(1) == "+" else LONG_AGO_MS
    found = _TIME.fullmatch(text)
    if not found:
        return None
    *parts, fraction, _, sign, hours, minutes = found.groups()
    try:
        wall = datetime(*map(int, parts))  # type: ignore[arg-type]  # noqa: DTZ001 - the offset is subtracted below
    except ValueError:
        return None
    offset = int(hours or 0) * 60 + int(minutes or 0)
    if int(hours or 0) > 23 or int(minutes or 0) > 59:
        return None
    millis = (wall - EPOCH) // timedelta(milliseconds=1) + int(((fraction or "") + "000")[:3])
    return millis - (-offset if sign == "-" else offset) * MINUTE_MS


def _in_range(millis: int | None) -> int | None:
    return millis if millis is not None and YEAR_2015_MS <= millis < YEAR_2100_MS else None


def _times(
    moment: Any, source: str, received_at_header: bytes | None, record_timestamp: int
) -> tuple[int, int, str | None]:
    """When the event happened, when it arrived, and what its own clock said if that is not believed.

    A pixel's clock is not believed more than 5 minutes ahead of the arrival, before 2015, or more than 30 days behind
    an arrival that a header tells; a webhook's not more than 30 days ahead, or before 2015. The header is not believed
    more than 366 days ahead of the record's own time.
    """
    text = (received_at_header or b"").decode("utf-8", "replace")
    told = _in_range(int(text) if re.fullmatch("[0-9]{1,15}", text) else _milliseconds(text))
    arrival = _in_range(record_timestamp)
    if told is not None and arrival is not None and told - arrival > 366 * DAY_MS:
        told = None
    arrival = arrival if told is None else told
    said = _text(moment, "time of the event")
    happened = None if said is None else _milliseconds(said)
    if said is not None and happened is None:
        raise DeadLetter("time of the event: not a time")
    if arrival is None:
        if _in_range(happened) is None:
            raise DeadLetter("time of the event: none of the years 2015 to 2099, and no time of arrival either")
        return happened or 0, happened or 0, None
    if happened is None:
        return arrival, arrival, None
    believed = YEAR_2015_MS <= happened <= arrival + (5 * MINUTE_MS if source == "pixel" else 30 * DAY_MS)
    if source == "pixel" and told is not None and happened < told - 30 * DAY_MS:
        believed = False
    return (happened, arrival, None) if believed else (arrival, arrival, (said or "")[:64])


def _webhook_moment(topic: str, payload: Doc) -> Any:
    if topic == "orders/cancelled":
        names = ["cancelled_at", "updated_at", "created_at"]
    elif topic == "orders/paid" or topic.endswith("/create"):
        names = ["created_at"]
    else:
        names = ["updated_at", "created_at"]
    given = [payload[name] for name in names if payload.get(name) is not None]
    return given[0] if given else None


def _iso(millis: int) -> str:
    return (EPOCH + timedelta(milliseconds=millis)).isoformat(timespec="milliseconds") + "Z"


def _day(millis: int) -> str:
    return _iso(millis)[:10]


def _week(millis: int) -> str:
    year, week, _ = (EPOCH + timedelta(milliseconds=millis)).isocalendar()
    return f"{year:04d}-W{week:02d}"


# --- Values of the expected type ---

# What is read of a payload, and of which type it has to be: text, an id, a number, or an object or list of such. Null
# and nothing are always understood, and what is not named here may be anything.
_TEXT, _ID, _NUMBER, _COUNT = "text", "id", "number", "count"
_PRICE = {"amount": _NUMBER, "currencyCode": _TEXT}
_VARIANT = {"product": {"id": _ID}}
_PIXEL_LINE = {
    "quantity": _COUNT,
    "variant": {**_VARIANT, "price": _PRICE},
    "discountAllocations": [{"amount": {"amount": _NUMBER}}],
}
_PIXEL = {
    "id": _ID,
    "name": _TEXT,
    "timestamp": _TEXT,
    "context": {"document": {"location": {"href": _TEXT, "search": _TEXT}, "referrer": _TEXT}},
}
_PIXEL_CHECKOUT = {
    "token": _ID,
    "currencyCode": _TEXT,
    "email": _TEXT,
    "totalPrice": _PRICE,
    "lineItems": [_PIXEL_LINE],
    "order": {"id": _ID, "customer": {"id": _ID}},
}
_WEBHOOK = {
    "id": _ID,
    "created_at": _TEXT,
    "updated_at": _TEXT,
    "landing_site": _TEXT,
    "referring_site": _TEXT,
    "customer": {"id": _ID},
}
_PERSON = {"customer": {"id": _ID, "email": _TEXT}, "email": _TEXT, "contact_email": _TEXT}
_WEBHOOK_LINES = {
    "line_items": [
        {
            "product_id": _ID,
            "quantity": _COUNT,
            "price": _NUMBER,
            "total_discount": _NUMBER,
            "discount_allocations": [{"amount": _NUMBER}],
        }
    ]
}
_SALE = {**_PERSON, **_WEBHOOK_LINES, "currency": _TEXT, "presentment_currency": _TEXT, "total_price": _NUMBER}


def _webhook_types(topic: str) -> Any:
    if topic == "refunds/create":
        return {**_WEBHOOK, "order_id": _ID}
    if topic.startswith("orders/"):
        return {**_WEBHOOK, **_SALE, "checkout_token": _ID, "cancelled_at": _TEXT, "financial_status": _TEXT}
    if topic.startswith("checkouts/"):
        return {**_WEBHOOK, **_SALE}
    if topic.startswith("carts/"):
        return {**_WEBHOOK, **_WEBHOOK_LINES}
    return {**_WEBHOOK, **_PERSON} if topic.startswith("customers/") else _WEBHOOK


def _check_types(value: Any, wanted: Any, name: str = "value") -> None:
    if value is None or (value == [] and isinstance(wanted, dict)) or (value == "" and wanted in (_NUMBER, _COUNT)):
        return
    if wanted == _TEXT:
        _text(value, name)
    elif wanted == _ID:
        _id_as_it_is(value, name)
    elif wanted == _NUMBER:
        _decimal(value)
    elif wanted == _COUNT:
        _whole(value)
    elif isinstance(wanted, list):
        for item in _objects(value, name):
            _check_types(item, wanted[0], name)
    else:
        for inner, type_ in wanted.items():
            _check_types(_object(value, name).get(inner), type_, inner)


def _object(value: Any, name: str) -> Doc:
    if value is None or value == []:
        return {}
    if not isinstance(value, dict):
        raise DeadLetter(f"{name}: not an object")
    return value


def _inside(payload: Doc, *path: str) -> Doc:
    for name in path:
        payload = _object(payload.get(name), name)
    return payload


def _objects(value: Any, name: str) -> list[Doc]:
    """A list of objects; nulls in it are passed over."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(item in (None, []) or isinstance(item, dict) for item in value):
        raise DeadLetter(f"{name} is not a list of objects")
    return [item for item in value if item not in (None, [])]


def _text(value: Any, name: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise DeadLetter(f"{name}: not a string")
    # Half a surrogate pair and NUL are no text: U+FFFD stands in their place.
    return re.sub("[\ud800-\udfff\0]", "\ufffd", value)


def _id_as_it_is(value: Any, name: str) -> str | None:
    """An integer or a string as a string; None where it is null or empty."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise DeadLetter(f"{name}: not an id")
    return _text(value, name) or None


def _id(value: Any, name: str) -> str | None:
    """As `_id_as_it_is`, with `gid://shopify/Product/123?query` as `123`."""
    text = _id_as_it_is(value, name)
    found = re.fullmatch(r"gid://shopify/[^/?]+/([^/?]+)(?:\?.*)?", text or "", re.DOTALL)
    id_ = found.group(1) if found else text
    if len((id_ or "").encode("utf-8")) > LONGEST_ID:
        raise DeadLetter(f"{name}: too long")
    return id_


def _quantity(value: Any) -> int:
    if value is None or value == "":
        return 1
    if not 0 <= _whole(value) <= LARGEST_QUANTITY:
        raise DeadLetter("quantity: not a whole number of 0 to 1,000,000")
    return _whole(value)


def _whole(value: Any) -> int:
    """A whole number, or the text of one."""
    number = _decimal(value)
    if not number.is_finite() or not -1 <= number <= LARGEST_QUANTITY or number != int(number):
        raise DeadLetter("quantity: not a whole number of 0 to 1,000,000")
    return int(number)


def _distinct(ids: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(id_ for id_ in ids if id_ is not None))


# --- Money ---


def _number(value: Any) -> Decimal | None:
    if value is None or value == "":
        return None
    number = _decimal(value)
    if not number.is_finite() or number < 0:
        raise DeadLetter("amount: infinite or negative")
    if number > LARGEST_AMOUNT:
        raise DeadLetter("amount: too large")
    return number


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal, str)):
        raise DeadLetter("amount: not a number")
    try:
        return Decimal(value)
    except InvalidOperation:
        raise DeadLetter("amount: not a number") from None


def _currency(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not re.fullmatch("[A-Za-z]{3}", value) or value.upper() not in CURRENCIES:
        raise DeadLetter("currency: not in ISO 4217")
    return value.upper()


def _minor(number: Decimal, currency: str) -> int:
    """The amount in the currency's minor units, halves rounded up."""
    decimals = DECIMALS.get(currency, 2)
    rounded = number.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP, context=Context(prec=60))
    minor = int(rounded * 10**decimals)
    if minor > LARGEST_AMOUNT:
        raise DeadLetter("amount: too large")
    return minor


def _value(amount: Any, currency: str | None) -> Doc | None:
    number = _number(amount)
    if number is None or currency is None:
        return None
    return {"amount": _minor(number, currency), "currency": currency}


def _line(product: str | None, quantity: Any, price: Any, discounts: list[Any], currency: str | None) -> Line:
    count = _quantity(quantity)
    unit_price = _number(price)
    taken_off = [number for number in map(_number, discounts) if number is not None]
    revenue = None
    if unit_price is not None and currency is not None:
        revenue = _minor(unit_price, currency) * count - sum(_minor(number, currency) for number in taken_off)
        if product is not None and abs(revenue) > 10**15:
            raise DeadLetter("a line's revenue is beyond 10^15 minor units")
    return Line(product, count, revenue, currency)


def _line_items(value: Any) -> list[Doc]:
    items = _objects(value, "line items")
    if len(value or ()) > MOST_LINE_ITEMS:
        raise DeadLetter("line items: too many")
    return items


# --- Ads ---


def _ad(query: str) -> Doc | None:
    """The ad that a URL's query string names, if it names one."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(query):
        value = value.strip()[:LONGEST_PARAMETER]
        if value:
            found.setdefault(name.lower(), value)
    ad = {name: found.get(f"utm_{name}") for name in UTM}
    for click_id_type, platform in CLICK_IDS.items():
        if click_id_type.lower() in found:
            click_id = found[click_id_type.lower()]
            return _present(platform=platform, **ad, click_id=click_id, click_id_type=click_id_type)
    if not any(ad.values()):
        return None
    return _present(platform=(ad["source"] or "unknown").lower(), **ad)


def _cut(text: str | None) -> str | None:
    """A free text as the event's document holds it."""
    return (text or "")[:LONGEST_TEXT] or None


def _query(url: str | None) -> str:
    return (url or "").partition("#")[0].partition("?")[2]


# --- Pixel events ---


def _pixel_content(name: str, payload: Doc) -> Content:
    page = _inside(payload, "context", "document")
    location = _inside(page, "location")
    url = _text(location.get("href"), "href")
    search = _text(location.get("search"), "search") or ""
    return replace(
        _pixel_data(name, payload),
        url=_cut(url),
        referrer=_cut(_text(page.get("referrer"), "referrer")),
        ad=_ad(_query(url) or _query("?" + search.lstrip("?"))),
    )


def _pixel_data(name: str, payload: Doc) -> Content:
    if name == "product_viewed":
        return _viewed_product(_inside(payload, "data", "productVariant"))
    if name in ("product_added_to_cart", "product_removed_from_cart"):
        return _cart_line(_inside(payload, "data", "cartLine"))
    if name == "cart_viewed":
        return _viewed_cart(_inside(payload, "data", "cart"))
    if name == "collection_viewed":
        return _viewed_products(_inside(payload, "data", "collection"))
    if name == "search_submitted":
        return _viewed_products(_inside(payload, "data", "searchResult"))
    if name.startswith("checkout_") or name == "payment_info_submitted":
        _check_types(_inside(payload, "data").get("checkout"), _PIXEL_CHECKOUT, "checkout")
        return _pixel_checkout(name, _inside(payload, "data", "checkout"))
    return Content()


def _product_of(variant: Doc) -> str | None:
    return _id(_inside(variant, "product").get("id"), "product id")


def _pixel_value(price: Doc) -> Doc | None:
    return _value(price.get("amount"), _currency(price.get("currencyCode")))


def _viewed_product(variant: Doc) -> Content:
    return Content(product_ids=_distinct([_product_of(variant)]), value=_pixel_value(_inside(variant, "price")))


def _cart_line(line: Doc) -> Content:
    return Content(
        product_ids=_distinct([_product_of(_inside(line, "merchandise"))]),
        value=_pixel_value(_inside(line, "cost", "totalAmount")),
        quantity=_quantity(line.get("quantity")),
    )


def _viewed_cart(cart: Doc) -> Content:
    lines = _line_items(cart.get("lines"))
    return Content(
        product_ids=_distinct(_product_of(_inside(line, "merchandise")) for line in lines),
        value=_pixel_value(_inside(cart, "cost", "totalAmount")),
    )


def _viewed_products(shown: Doc) -> Content:
    variants = _line_items(shown.get("productVariants"))
    return Content(product_ids=_distinct(map(_product_of, variants)))


def _pixel_checkout(name: str, checkout: Doc) -> Content:
    total = _inside(checkout, "totalPrice")
    currency = _currency(total.get("currencyCode")) or _currency(checkout.get("currencyCode"))
    lines = [_pixel_line(item, currency) for item in _line_items(checkout.get("lineItems"))]
    order = _inside(checkout, "order")
    return Content(
        product_ids=_distinct(line.product for line in lines),
        order_id=_id(order.get("id"), "order id"),
        token=_id(checkout.get("token"), "checkout token"),
        value=_value(total.get("amount"), currency),
        lines=lines,
        status="open" if name == "checkout_completed" else None,
        email_hash=_email_hash([checkout.get("email")]),
        customer_id=_id(_inside(order, "customer").get("id"), "customer id"),
    )


def _pixel_line(item: Doc, currency: str | None) -> Line:
    variant = _inside(item, "variant")
    price = _inside(variant, "price")
    allocations = _objects(item.get("discountAllocations"), "discount allocations")
    return _line(
        product=_product_of(variant),
        quantity=item.get("quantity"),
        price=price.get("amount"),
        discounts=[_inside(allocation, "amount").get("amount") for allocation in allocations],
        currency=currency or _currency(price.get("currencyCode")),
    )


def _email_hash(candidates: list[Any]) -> str | None:
    for candidate in candidates:
        address = (_text(candidate, "email") or "").strip().lower()
        if address:
            return hashlib.sha256(address.encode("utf-8")).hexdigest()
    return None


# --- Webhooks ---


def _webhook_content(topic: str, payload: Doc) -> Content:
    is_order = topic.startswith("orders/")
    is_checkout = topic.startswith("checkouts/")
    url = _text(payload.get("landing_site"), "landing_site")
    currency = None
    lines: list[Line] = []
    if is_order or is_checkout:
        currency = _currency(payload.get("currency")) or _currency(payload.get("presentment_currency"))
    if is_order or is_checkout or topic.startswith("carts/"):
        lines = [_webhook_line(item, currency) for item in _line_items(payload.get("line_items"))]
    return Content(
        url=_cut(url),
        referrer=_cut(_text(payload.get("referring_site"), "referring_site")),
        ad=_ad(_query(url)),
        product_ids=_distinct(line.product for line in lines),
        order_id=_webhook_order_id(topic, payload),
        token=_webhook_token(topic, payload),
        value=_value(payload.get("total_price"), currency) if is_order or is_checkout else None,
        lines=lines,
        status=_webhook_status(topic, payload),
        email_hash=_webhook_email_hash(topic, payload),
        customer_id=_id(_inside(payload, "customer").get("id"), "customer id"),
    )


def _webhook_line(item: Doc, currency: str | None) -> Line:
    if item.get("discount_allocations") is None:
        discounts = [item.get("total_discount")]
    else:
        allocations = _objects(item["discount_allocations"], "discount_allocations")
        discounts = [allocation.get("amount") for allocation in allocations]
    product = _id(item.get("product_id"), "product_id")
    return _line(product, item.get("quantity"), item.get("price"), discounts, currency)


def _webhook_order_id(topic: str, payload: Doc) -> str | None:
    if topic.startswith("orders/"):
        return _id(payload.get("id"), "id")
    if topic == "refunds/create":
        return _id(payload.get("order_id"), "order_id")
    return None


def _webhook_token(topic: str, payload: Doc) -> str | None:
    if topic.startswith("orders/"):
        return _id(payload.get("checkout_token"), "checkout_token")
    return None


def _webhook_status(topic: str, payload: Doc) -> str | None:
    """The highest status that the event tells of its order; None where it tells none."""
    if topic == "refunds/create":
        return "refunded"
    if not topic.startswith("orders/"):
        return None
    financial_status = _text(payload.get("financial_status"), "financial_status")
    cancelled_at = _text(payload.get("cancelled_at"), "cancelled_at")
    if financial_status == "refunded":
        return "refunded"
    if cancelled_at is not None or topic == "orders/cancelled":
        return "cancelled"
    if financial_status in ("paid", "partially_refunded") or topic == "orders/paid":
        return "paid"
    return "open"


def _webhook_email_hash(topic: str, payload: Doc) -> str | None:
    if not topic.startswith(("orders/", "checkouts/", "customers/")):
        return None
    return _email_hash([payload.get("email"), payload.get("contact_email"), _inside(payload, "customer").get("email")])


# --- Duplicates ---


def _without_duplicates(
    decoded: list[Event], winners: Mapping[str, Origin], late: AbstractSet[Origin], duplicate_origins: set[Origin]
) -> list[Event]:
    """The record of each event id that was there first; the origins of the others go to `duplicate_origins`."""
    same_id: dict[str, list[Event]] = defaultdict(list)
    for event in decoded:
        same_id[event.id].append(event)
    kept = {id_: _first(events, winners.get(id_), late).origin for id_, events in same_id.items()}
    duplicate_origins.update(event.origin for event in decoded if event.origin != kept[event.id])
    return [event for event in decoded if event.origin == kept[event.id]]


def _first(events: list[Event], told: Origin | None, late: AbstractSet[Origin]) -> Event:
    """The event that came first: the one that we are told, if it is late or the first of its partition; else the first
    read."""
    first_of_partition: dict[int, Event] = {}
    for event in events:
        if event.origin not in late:
            first_of_partition.setdefault(event.partition, event)
    for event in (*first_of_partition.values(), *(event for event in events if event.origin in late)):
        if event.origin == told:
            return event
    return events[0]


# --- Touches ---


@dataclass(frozen=True)
class Touch:
    """An event that brought its user from an ad."""

    event_id: str
    at: int
    ad: Doc
    origin: Origin


def _touches_of_users(events: list[Event], repeat_ms: float) -> dict[str, list[Touch]]:
    """All touches of each user, in the order of offsets."""
    touches: dict[str, list[Touch]] = {}
    for event in events:
        if event.content.ad is None:
            continue
        touch = Touch(event.event_id, event.occurred_at, event.content.ad, event.origin)
        own = touches.setdefault(event.user, [])
        if not own or not _is_repeat(own[-1], touch, repeat_ms):
            own.append(touch)
    return touches


def _is_repeat(previous: Touch, touch: Touch, repeat_ms: float) -> bool:
    return _same_ad(previous.ad, touch.ad) and abs(touch.at - previous.at) <= repeat_ms


def _same_ad(one: Doc, other: Doc) -> bool:
    if "click_id" in one or "click_id" in other:
        return all(one.get(name) == other.get(name) for name in ("click_id", "click_id_type"))
    return all(one.get(name) == other.get(name) for name in ("source", "medium", "campaign"))


def _lead_touches(touches: list[Touch]) -> list[Doc]:
    return [{**_touch_doc(touch), "partition": touch.origin[0], "offset": touch.origin[1]} for touch in touches]


def _touch_doc(touch: Touch) -> Doc:
    return {"event_id": touch.event_id, "at": _iso(touch.at), "ad": touch.ad}


@dataclass(frozen=True)
class _Journeys:
    touches: dict[str, list[Touch]]
    kept: int
    window_ms: int

    def of(self, sighting: Event) -> list[Touch]:
        """The user's touches up to the sighting's own offset, newest kept; of these those within the window."""
        own = self.touches.get(sighting.user, [])
        known = [touch for touch in own if touch.origin <= sighting.origin][-self.kept :]
        earliest = sighting.occurred_at - self.window_ms
        return [touch for touch in known if earliest <= touch.at <= sighting.occurred_at]


# --- Orders ---


def _orders(events: list[Event]) -> dict[str, list[Event]]:
    """Attribution id → the sightings of that order."""
    orders: dict[str, list[Event]] = {}
    for event in events:
        if event.order is not None:
            orders.setdefault(event.order, []).append(event)
    return orders


class _Statuses:
    """The highest status that any event told of an order, under its checkout token or its order id."""

    def __init__(self, events: list[Event]) -> None:
        self._told: dict[tuple[str, str, str], int] = {}
        self._linked: dict[tuple[str, str, str], set[tuple[str, str, str]]] = defaultdict(set)
        for event in events:
            if event.content.status is None:
                continue
            names = _order_names(event)
            rank = STATUSES.index(event.content.status)
            for name in names:
                self._linked[name] |= names
                self._told[name] = max(rank, self._told.get(name, 0))

    def of(self, sightings: list[Event]) -> str:
        own = {name for sighting in sightings for name in _order_names(sighting)}
        names = own.union(*(self._linked[name] for name in own))
        return STATUSES[max(self._told.get(name, 0) for name in names)]


def _order_names(event: Event) -> set[tuple[str, str, str]]:
    names = {("token", event.shop, event.content.token), ("order id", event.shop, event.content.order_id)}
    return {(kind, shop, name) for kind, shop, name in names if name is not None}


def _attribution(
    sightings: list[Event],
    first: Event,
    journeys: _Journeys,
    statuses: _Statuses,
    window_days: int,
    half_life_days: float,
    sightings_kept: int,
) -> Doc:
    preferred = sorted(sightings, key=lambda sighting: _preference(sighting, journeys))
    deciding = preferred[0]
    journey = journeys.of(deciding)
    value = _first_present(sighting.content.value for sighting in preferred)
    amount = value["amount"] if value else 0
    return _present(
        shop_id=deciding.shop,
        order_id=_first_present(sighting.content.order_id for sighting in preferred),
        checkout_token=_first_present(sighting.content.token for sighting in preferred),
        client_id=deciding.client,
        occurred_at=_iso(deciding.occurred_at),
        value=value,
        status=statuses.of(sightings),
        touches=[_touch_doc(touch) for touch in journey],
        window_days=window_days,
        credits=_credits(journey, deciding.occurred_at, amount, half_life_days),
        sightings=[
            {"source": sighting.source, "event_id": sighting.event_id, "kafka": _kafka(sighting)}
            for sighting in sightings
            if sighting in _named(first, preferred, sightings_kept)
        ],
    )


def _named(first: Event, preferred: list[Event], kept: int) -> list[Event]:
    """The sightings that the document of an order names, where there are more than are kept."""
    if len(preferred) <= kept:
        return preferred
    with_value = [sighting for sighting in preferred if sighting.content.value]
    with_order_id = [sighting for sighting in preferred if sighting.content.order_id]
    with_token = [sighting for sighting in preferred if sighting.content.token]
    return [first, *preferred[:kept], *with_value[:1], *with_order_id[:1], *with_token[:1]]


def _preference(sighting: Event, journeys: _Journeys) -> tuple[int, bool, str]:
    """Lowest first: most touches, then pixel before webhook, then the lower event id."""
    return -len(journeys.of(sighting)), sighting.source != "pixel", sighting.event_id


def _first_present(values: Iterable[Any]) -> Any:
    return next((value for value in values if value is not None), None)


# --- Credits ---


def _credits(journey: list[Touch], ordered_at: int, amount: int, half_life_days: float) -> dict[str, list[Doc]]:
    if not journey:
        models = ("last_click", "first_click", "linear", "time_decay", "position_based")
        return {model: [{"platform": "direct", "amount": amount}] for model in models}
    ages = [ordered_at - touch.at for touch in journey]
    return {
        "last_click": [_credit(journey[-1], amount)],
        "first_click": [_credit(journey[0], amount)],
        "linear": _credit_each(journey, split(amount, [Fraction(1)] * len(journey))),
        "time_decay": _credit_each(journey, split(amount, decay_weights(ages, half_life_days))),
        "position_based": _credit_each(journey, split(amount, position_weights(len(journey)))),
    }


def _credit_each(journey: list[Touch], amounts: list[int]) -> list[Doc]:
    return [_credit(touch, amount) for touch, amount in zip(journey, amounts)]


def _credit(touch: Touch, amount: int) -> Doc:
    campaign = touch.ad.get("campaign")
    return _present(event_id=touch.event_id, platform=touch.ad["platform"], campaign=campaign, amount=amount)


def decay_weights(ages_ms: list[int], half_life_days: float) -> list[Fraction]:
    """2^(−age / half-life) for each age, to 60 digits and a common factor: the youngest weighs 1."""
    youngest = min(ages_ms)
    with localcontext() as context:
        context.prec = 60
        half_life_ms = Decimal(str(half_life_days)) * DAY_MS
        return [Fraction(Decimal(2) ** ((youngest - age) / half_life_ms)) for age in ages_ms]


def position_weights(touches: int) -> list[Fraction]:
    """40 % for the first, 40 % for the last, 20 % shared by the rest; half each for two; all for one."""
    if touches <= 2:
        return [Fraction(1)] * touches
    rest = touches - 2
    return [Fraction(40), *[Fraction(20, rest)] * rest, Fraction(40)]


def split(amount: int, weights: list[Fraction]) -> list[int]:
    """Split minor units by weight, the units left over to the largest remainders, ties to the earlier weight."""
    total = sum(weights)
    # To 40 digits: powers of two are not exact beyond, and equal remainders have to be seen as equal.
    shares = [round(amount * weight / total, 40) for weight in weights]
    amounts = [share.numerator // share.denominator for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda place: amounts[place] - shares[place])
    for place in by_remainder[: amount - sum(amounts)]:
        amounts[place] += 1
    return amounts


# --- Customers ---


def _customers(events: list[Event], counted: set[str]) -> dict[str, Doc]:
    customers: dict[str, Doc] = {}
    for event in events:
        at = _iso(event.occurred_at)
        new = {"first_seen": at, "last_seen": at, "events": 0, "orders": 0, "revenue": {}}
        customer = customers.setdefault(event.user, new)
        customer["first_seen"] = min(customer["first_seen"], at)
        customer["last_seen"] = max(customer["last_seen"], at)
        customer["events"] += 1
        if event.id in counted:
            customer["orders"] += 1
            _add(customer["revenue"], event.content.value)
        newest = {
            "last_ad": event.content.ad,
            "email_hash": event.content.email_hash,
            "customer_id": event.content.customer_id,
        }
        customer.update(_present(**newest))
    return customers


def _add(revenue: dict[str, int], value: Doc | None) -> None:
    if value is not None:
        total = revenue.get(value["currency"], 0) + value["amount"]
        # Every store keeps a sum in 64 bits.
        revenue[value["currency"]] = min(max(total, -LARGEST_SUM - 1), LARGEST_SUM)


# --- Products and visitors ---


def _by_the_shops_clock(event: Event, zones: Mapping[str, str]) -> int:
    """When an event happened, as milliseconds that UTC would show as the shop's clock did."""
    if event.shop not in zones:
        return event.occurred_at
    moment = datetime.fromtimestamp(event.occurred_at // 1000, timezone.utc).astimezone(ZoneInfo(zones[event.shop]))
    offset = moment.utcoffset() or timedelta()
    return event.occurred_at + offset // timedelta(milliseconds=1)


def _product_stats(events: list[Event], counted: set[str], products_per_event: int = 2_000) -> dict[str, Doc]:
    stats: dict[str, Doc] = {}
    for event in (_first_products(whole, products_per_event) for whole in events):
        content = event.content
        if event.name == "product_viewed":
            for product in content.product_ids:
                _product_day(stats, event, product)["views"] += 1
        if event.name == "product_added_to_cart":
            for product in content.product_ids:
                _product_day(stats, event, product)["carts"] += content.quantity
        if event.name == "checkout_started":
            for product in content.product_ids:
                _product_day(stats, event, product)["checkouts"] += 1
        if event.id in counted:
            _count_order(stats, event)
    return stats


def _first_products(event: Event, most: int) -> Event:
    products = event.content.product_ids[:most]
    lines = [line for line in event.content.lines if line.product is None or line.product in products]
    return replace(event, content=replace(event.content, product_ids=products, lines=lines))


def _count_order(stats: dict[str, Doc], event: Event) -> None:
    for product in event.content.product_ids:
        _product_day(stats, event, product)["orders"] += 1
    for line in event.content.lines:
        if line.product is None:
            continue
        day = _product_day(stats, event, line.product)
        day["units"] += line.quantity
        if line.revenue is not None:
            _add(day["revenue"], {"currency": line.currency, "amount": line.revenue})


def _product_day(stats: dict[str, Doc], event: Event, product: str) -> Doc:
    day = _day(event.occurred_at)
    new = {"shop_id": event.shop, "product_id": product, "day": day}
    counters = {"views": 0, "carts": 0, "checkouts": 0, "orders": 0, "units": 0, "revenue": {}}
    return stats.setdefault(f"{event.shop}:{product}:{day}", {**new, **counters})


def _weekly_visitors(events: list[Event]) -> dict[str, int]:
    clients: dict[str, set[str]] = defaultdict(set)
    for event in events:
        if event.source == "pixel":
            clients[f"{event.shop}:{_week(event.occurred_at)}"].add(event.client)
    return {id_: len(distinct) for id_, distinct in clients.items()}
