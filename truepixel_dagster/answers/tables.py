"""The schema of every table of the lake, the only place that says which columns there are.

Whoever changes the columns of a table raises its version. The version is part of the path: old files stay where they
are, and every day counts as stale until it is materialized in the new form.

    >>> from truepixel_dagster.answers.tables import TABLES
    >>> TABLES["funnel_daily"].path
    'funnel_daily/v1'
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from truepixel_dagster.answers.cohorts import AGES
from truepixel_dagster.answers.journeys import ALL_MODELS

Kind = Literal["text", "texts", "integer", "amount", "amounts", "share", "ratio", "rate", "flag", "day", "time"]
#: What each kind is: in words, and as DuckDB names it.
KINDS: dict[Kind, tuple[str, str]] = {
    "text": ("text", "VARCHAR"),
    "texts": ("list of text", "VARCHAR[]"),
    "integer": ("whole number", "BIGINT"),
    "amount": ("whole number of minor units of `currency`", "BIGINT"),
    "amounts": ("minor units by currency", "MAP(VARCHAR, BIGINT)"),
    "share": ("exact decimal, in millionths", "DECIMAL(18,6)"),
    "ratio": ("exact decimal, rounded half up to 4 places", "DECIMAL(18,4)"),
    "rate": ("exact decimal of up to 12 places", "DECIMAL(30,12)"),
    "flag": ("true or false", "BOOLEAN"),
    "day": ("calendar day in the shop's time zone", "DATE"),
    "time": ("moment, UTC, to the millisecond", "TIMESTAMP WITH TIME ZONE"),
}


class Column(NamedTuple):
    """A column of a table. `says` is what it means."""

    name: str
    kind: Kind
    says: str
    optional: bool = False


class LakeTable(NamedTuple):
    """A table: a file for each shop and day. `key` identifies a row and is the order of rows in a file."""

    name: str
    version: int
    says: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def path(self) -> str:
        """Where it is below the lake's address."""
        return f"{self.name}/v{self.version}"


_SHOP = Column("shop_id", "text", "the shop")
_DAY = Column("day", "day", "the shop's day")
_CURRENCY = Column("currency", "text", "ISO 4217 code; empty where no amount is known")
_CAMPAIGN = Column("campaign", "text", "name of the campaign, else its id; empty where there is none")
_SOURCE = (
    Column("channel", "text", "GA4's default group, `direct`, or where an order was placed"),
    Column("platform", "text", "the platform's one name"),
    _CAMPAIGN,
)
_FIGURES = (
    Column("gross", "amount", "what orders were worth"),
    Column("refunded", "amount", "what went back of them, on whichever day"),
    Column("net", "amount", "what stays"),
    Column("orders", "share", "orders, each by the share that is credited"),
    Column("new_customers", "share", "of these, orders of new customers"),
    Column("returning_customers", "share", "of these, orders of returning customers"),
)

EVENTS = LakeTable(
    "events",
    1,
    "Every event once, without its payload, on the day on which it happened.",
    ("shop_id", "day", "event_id"),
    (
        _SHOP,
        _DAY,
        Column("event_id", "text", "the event"),
        Column("client_id", "text", "the browser, or the key of a webhook"),
        Column("name", "text", "what happened, such as `product_viewed` or `orders/paid`"),
        Column("source", "text", "`pixel` or `webhook`"),
        Column("occurred_at", "time", "when it happened"),
        Column("received_at", "time", "when it arrived"),
        Column("channel", "text", "of a touch, its channel", optional=True),
        Column("platform", "text", "of a visit, where it came from", optional=True),
        Column("campaign", "text", "of a visit, the campaign's name", optional=True),
        Column("campaign_id", "text", "of a visit, the platform's number of the campaign", optional=True),
        Column("product_ids", "texts", "the products that it names"),
        Column("order_id", "text", "the order that it names", optional=True),
        Column("bot", "flag", "whether its user agent is a bot's; such events count nowhere"),
    ),
)
ORDERS = LakeTable(
    "orders",
    1,
    "Every order as its attribution says, on the day on which it was placed.",
    ("shop_id", "day", "attribution"),
    (
        _SHOP,
        _DAY,
        Column("attribution", "text", "checkout token, else order id, else cart token"),
        Column("order_id", "text", "Shopify's id", optional=True),
        Column("client_id", "text", "the client whose order it is", optional=True),
        Column("occurred_at", "time", "when it was placed"),
        Column("status", "text", "`open`, `paid`, `partially_refunded`, `refunded`, `cancelled` or `voided`"),
        Column("sales_channel", "text", "`online`, `pos`, `draft`, `subscription`, `import` or `other`"),
        Column("test", "flag", "whether it is a test order, which counts nowhere"),
        Column("new_customer", "flag", "whether it is of a new customer; null where that is not known", optional=True),
        _CURRENCY,
        *_FIGURES[:3],
        Column("touches", "integer", "steps of its journey"),
    ),
)
CREDITS = LakeTable(
    "credits",
    1,
    "What each model credits of each order, test orders aside. By each model they sum to the orders exactly.",
    ("shop_id", "day", "model", "attribution", "position"),
    (
        _SHOP,
        _DAY,
        Column("model", "text", "the attribution model"),
        Column("attribution", "text", "the order, as in `orders`"),
        Column("position", "integer", "of the credit among those of its order and model, from 0"),
        *_SOURCE,
        Column("campaign_id", "text", "the platform's number of the campaign", optional=True),
        _CURRENCY,
        *_FIGURES,
    ),
)
CUSTOMERS = LakeTable(
    "customers",
    1,
    "The profile of every client, on the day on which it was first seen.",
    ("shop_id", "day", "client_id"),
    (
        _SHOP,
        _DAY,
        Column("client_id", "text", "the browser"),
        Column("customer_id", "text", "Shopify's customer, where that is known", optional=True),
        Column("email_hash", "text", "SHA-256 of the address, where that is known", optional=True),
        Column("first_seen", "time", "its first event"),
        Column("last_seen", "time", "its last event"),
        Column("events", "integer", "events of it"),
        Column("orders", "integer", "orders of it"),
        Column("revenue", "amounts", "what these were worth"),
        Column("refunded", "amounts", "what went back of them"),
    ),
)
PRODUCT_STATS = LakeTable(
    "product_stats",
    1,
    "What each product did on a day.",
    ("shop_id", "day", "product_id"),
    (
        _SHOP,
        _DAY,
        Column("product_id", "text", "Shopify's product"),
        Column("views", "integer", "views of it"),
        Column("carts", "integer", "units put into a cart"),
        Column("checkouts", "integer", "checkouts with it that were started"),
        Column("orders", "integer", "orders with it"),
        Column("units", "integer", "units sold"),
        Column("returned_units", "integer", "units that came back on this day"),
        Column("revenue", "amounts", "what it brought after discounts"),
        Column("returned_revenue", "amounts", "what of that went back on this day"),
    ),
)
AD_SPEND = LakeTable(
    "ad_spend",
    1,
    "What was spent on ads: the newest import of each shop, day, platform and campaign.",
    ("shop_id", "day", "platform", "campaign_id", "campaign"),
    (
        _SHOP,
        _DAY,
        Column("platform", "text", "the platform's one name"),
        Column("campaign_id", "text", "the platform's number of the campaign; empty where the file names none"),
        Column("campaign", "text", "its name; empty where the file names only its number"),
        Column("currency", "text", "ISO 4217 code of the ad account"),
        Column("amount", "amount", "what was spent"),
        Column("clicks", "integer", "clicks, as the platform counts them"),
        Column("impressions", "integer", "impressions, as the platform counts them"),
    ),
)
RATES = LakeTable(
    "rates",
    1,
    "Exchange rates: how much of `to_currency` one unit of `from_currency` was worth. `shop_id` is `all`.",
    ("shop_id", "day", "from_currency", "to_currency"),
    (
        _SHOP,
        _DAY,
        Column("from_currency", "text", "ISO 4217 code"),
        Column("to_currency", "text", "ISO 4217 code"),
        Column("rate", "rate", "major units of `to_currency` for one of `from_currency`"),
    ),
)
MARKETING_DAILY = LakeTable(
    "marketing_daily",
    1,
    "What each source brought and cost, by each model. Over all rows of a model and currency, orders and amounts sum to"
    " those of the attributions exactly. Visits and spend stand in the rows of every model: choose one.",
    ("shop_id", "day", "model", "channel", "platform", "campaign", "currency"),
    (
        _SHOP,
        _DAY,
        Column("model", "text", "the attribution model"),
        *_SOURCE,
        _CURRENCY,
        Column("visits", "integer", "visits that began on the day"),
        *_FIGURES[3:],
        Column("revenue", "amount", "what the orders were worth (gross)"),
        *_FIGURES[1:3],
        Column("spend", "amount", "what its ads cost, in this currency"),
        Column("clicks", "integer", "clicks, as the platform counts them"),
        Column("impressions", "integer", "impressions, as the platform counts them"),
        Column("roas", "ratio", "revenue for each unit spent; null without spend", optional=True),
        Column("net_roas", "ratio", "net for each unit spent; null without spend", optional=True),
        Column("cost_per_order", "amount", "spend for each order, rounded half up; null without orders", optional=True),
        Column(
            "cost_per_new_customer",
            "amount",
            "spend for each new customer, rounded half up; null without any",
            optional=True,
        ),
    ),
)
FUNNEL_DAILY = LakeTable(
    "funnel_daily",
    1,
    "How far visits came, by the channel that they began with.",
    ("shop_id", "day", "channel"),
    (
        _SHOP,
        _DAY,
        Column("channel", "text", "GA4's default group, or `direct`"),
        Column("visits", "integer", "visits that began on the day"),
        Column("product_views", "integer", "of these, visits that viewed a product"),
        Column("carts", "integer", "of these, visits that put something into the cart"),
        Column("checkouts", "integer", "of these, visits that started a checkout"),
        Column("orders", "integer", "online orders of the day whose last click was of the channel"),
    ),
)

PEOPLE = LakeTable(
    "people",
    1,
    "Who is who: the clients, customers, addresses and orders of each person, as they are known now. A person who was"
    " redacted is not in it.",
    ("shop_id", "person_id", "kind", "id"),
    (
        _SHOP,
        Column("person_id", "text", "the person, in this shop only"),
        Column("kind", "text", "`client`, `customer`, `address` (SHA-256 of the e-mail address) or `order`"),
        Column("id", "text", "the client's, the customer's, the address's; of an order, `attribution` in `orders`"),
        Column("connected", "flag", "whether the person has another client, customer or address"),
        Column("shared", "flag", "whether it has too many customers to connect anybody"),
    ),
)
JOURNEYS = LakeTable(
    "journeys",
    1,
    "Every order's journey by person, across devices: a row for each touch, and one for an order without a touch. By"
    " every model the rows of an order sum to its value and net exactly. Test orders are left out.",
    ("shop_id", "day", "attribution", "position"),
    (
        _SHOP,
        _DAY,
        Column("attribution", "text", "the order, as in `orders`"),
        Column("position", "integer", "of the touch in the journey, from 0"),
        Column("touches", "integer", "touches of the journey"),
        Column("person_id", "text", "who placed the order, as in `people`"),
        Column("order_id", "text", "Shopify's id", optional=True),
        Column("occurred_at", "time", "when the order was placed"),
        Column("sales_channel", "text", "as in `orders`"),
        Column("new_customer", "flag", "whether it is of a new customer; null where that is not known", optional=True),
        Column("client_id", "text", "whose touch it is; of an order without a touch, whose order", optional=True),
        Column("event_id", "text", "the touch's event; null for an order without a touch", optional=True),
        Column("touched_at", "time", "when the touch was; the order's time without a touch"),
        *_SOURCE,
        Column("campaign_id", "text", "the platform's number of the campaign", optional=True),
        _CURRENCY,
        *(Column(model, "amount", f"what `{model}` credits of the order's value") for model in ALL_MODELS),
        *(Column(f"{model}_net", "amount", f"what `{model}` credits of its net") for model in ALL_MODELS),
    ),
)
CHANNEL_VALUES = LakeTable(
    "channel_values",
    1,
    "What each channel is worth by the data-driven models of a day: what the 90 days until its end show.",
    ("shop_id", "day", "model", "channel"),
    (
        _SHOP,
        _DAY,
        Column("model", "text", "`markov` (removal effect) or `shapley` (Shapley value)"),
        Column("channel", "text", "GA4's default group"),
        Column("value", "rate", "its share; of a model they sum to 1"),
        Column("converted", "integer", "paths that met the channel and ended with an order"),
        Column("lost", "integer", "paths that met the channel and did not"),
    ),
)
COHORTS = LakeTable(
    "cohorts",
    1,
    "The persons who first ordered in a month, by the channel of that order, and what they brought. An amount is null"
    " until all persons of the month are that old.",
    ("shop_id", "day", "channel", "currency"),
    (
        _SHOP,
        Column("day", "day", "the first day of the month"),
        Column("channel", "text", "of the first order's last click, by person; `direct`, or where it was placed"),
        _CURRENCY,
        Column("customers", "integer", "persons whose first order it was; in the row of that order's currency"),
        Column("repeat_customers", "integer", "of these, persons who have ordered again"),
        Column("repeat_rate", "ratio", "`repeat_customers` / `customers`; null without customers", optional=True),
        *(
            Column(f"net_{age}", "amount", f"net of the {age} days after each first order", optional=True)
            for age in AGES
        ),
        Column("net_to_date", "amount", "net of all orders that are known"),
    ),
)

#: All tables, by name.
TABLES: dict[str, LakeTable] = {
    table.name: table
    for table in (
        EVENTS,
        ORDERS,
        CREDITS,
        CUSTOMERS,
        PRODUCT_STATS,
        AD_SPEND,
        RATES,
        MARKETING_DAILY,
        FUNNEL_DAILY,
        PEOPLE,
        JOURNEYS,
        CHANNEL_VALUES,
        COHORTS,
    )
}


def as_markdown() -> str:
    """Return the description of all tables, as docs/tables.md has it."""
    return "\n\n".join(_as_markdown(table) for table in TABLES.values())


def _as_markdown(table: LakeTable) -> str:
    rows = [
        f"| `{each.name}` | {KINDS[each.kind][0]}{', or null' if each.optional else ''} | {each.says} |"
        for each in table.columns
    ]
    head = [f"### {table.name}", "", table.says, "", f"Files: `{table.path}`. Key: {', '.join(table.key)}.", ""]
    return "\n".join([*head, "| column | kind | meaning |", "| --- | --- | --- |", *rows])
