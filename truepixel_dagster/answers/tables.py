"""Define the schema of each table of the lake. No other place defines columns.

    >>> from truepixel_dagster.answers.tables import TABLES
    >>> TABLES["funnel_daily"].path
    'funnel_daily/v1'

If you change the columns of a table, raise its version. The version is part of the path: old files stay where they are,
and every day counts as stale until it is materialized in the new form.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from truepixel_dagster.answers.cohorts import AGES
from truepixel_dagster.answers.journeys import ALL_MODELS

Kind = Literal["text", "texts", "integer", "amount", "amounts", "share", "ratio", "rate", "flag", "day", "time"]
#: Each kind in words, and its type in DuckDB.
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
    "time": ("time in UTC, to the millisecond", "TIMESTAMP WITH TIME ZONE"),
}


class Column(NamedTuple):
    """Describe a column of a table; `says` is its meaning."""

    name: str
    kind: Kind
    says: str
    optional: bool = False


class LakeTable(NamedTuple):
    """Describe a table, which has a file for each shop and day. `key` identifies a row and sorts the rows of a file."""

    name: str
    version: int
    says: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def path(self) -> str:
        """Return its path below the lake's address."""
        return f"{self.name}/v{self.version}"


_SHOP = Column("shop_id", "text", "the shop")
_DAY = Column("day", "day", "the shop's day")
_CURRENCY = Column("currency", "text", "ISO 4217 code; empty if no amount is known")
_CAMPAIGN = Column("campaign", "text", "name of the campaign, else its id; empty if there is none")
_SOURCE = (
    Column("channel", "text", "GA4's default channel group, `direct`, or an order's sales channel"),
    Column("platform", "text", "the platform's canonical name"),
    _CAMPAIGN,
)
_FIGURES = (
    Column("gross", "amount", "value of the orders before refunds"),
    Column("refunded", "amount", "amount refunded for these orders, on any day"),
    Column("net", "amount", "gross minus refunded"),
    Column("orders", "share", "orders, each counted by its credited share"),
    Column("new_customers", "share", "of these, orders of new customers"),
    Column("returning_customers", "share", "of these, orders of returning customers"),
)

EVENTS = LakeTable(
    "events",
    1,
    "Every event once, without its payload, on the day when it happened.",
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
        Column("channel", "text", "channel of a touch", optional=True),
        Column("platform", "text", "platform that a visit came from", optional=True),
        Column("campaign", "text", "name of a visit's campaign", optional=True),
        Column("campaign_id", "text", "id of a visit's campaign on the platform", optional=True),
        Column("product_ids", "texts", "the products in the event"),
        Column("order_id", "text", "the order in the event", optional=True),
        Column("bot", "flag", "whether its user agent is a bot's; no figure includes such events"),
    ),
)
VISITS = LakeTable(
    "visits",
    1,
    "The visits of people by source, and those of them that reached each step.",
    ("shop_id", "day", "channel", "platform", "campaign", "campaign_id"),
    (
        _SHOP,
        _DAY,
        *_SOURCE[:2],
        Column("campaign", "text", "name of the campaign; empty if there is none"),
        Column("campaign_id", "text", "the platform's id of the campaign; empty if there is none"),
        Column("visits", "integer", "visits that began on the day"),
        Column("product_views", "integer", "of these, visits that viewed a product"),
        Column("carts", "integer", "of these, visits that put something into the cart"),
        Column("checkouts", "integer", "of these, visits that started a checkout"),
    ),
)
ORDERS = LakeTable(
    "orders",
    1,
    "Every order as in its attribution, on the day when it was placed.",
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
        Column("test", "flag", "whether it is a test order; no figure includes test orders"),
        Column("new_customer", "flag", "whether its customer is new; null if unknown", optional=True),
        _CURRENCY,
        *_FIGURES[:3],
        Column("touches", "integer", "number of touches in its journey"),
    ),
)
CREDITS = LakeTable(
    "credits",
    1,
    "The credits of each order by each model, without test orders. By each model, they sum to the orders exactly.",
    ("shop_id", "day", "model", "attribution", "position"),
    (
        _SHOP,
        _DAY,
        Column("model", "text", "the attribution model"),
        Column("attribution", "text", "the order, as in `orders`"),
        Column("position", "integer", "position of the credit among those of its order and model, from 0"),
        *_SOURCE,
        Column("campaign_id", "text", "the platform's id of the campaign", optional=True),
        _CURRENCY,
        *_FIGURES,
    ),
)
CUSTOMERS = LakeTable(
    "customers",
    1,
    "The profile of every client, on the day when it was first seen.",
    ("shop_id", "day", "client_id"),
    (
        _SHOP,
        _DAY,
        Column("client_id", "text", "the browser"),
        Column("customer_id", "text", "Shopify's customer id, if known", optional=True),
        Column("email_hash", "text", "SHA-256 of the e-mail address, if known", optional=True),
        Column("first_seen", "time", "time of its first event"),
        Column("last_seen", "time", "time of its last event"),
        Column("events", "integer", "number of its events"),
        Column("orders", "integer", "number of its orders"),
        Column("revenue", "amounts", "value of its orders"),
        Column("refunded", "amounts", "amount refunded for its orders"),
    ),
)
PRODUCT_STATS = LakeTable(
    "product_stats",
    1,
    "Views, carts, checkouts, orders and revenue of each product on a day.",
    ("shop_id", "day", "product_id"),
    (
        _SHOP,
        _DAY,
        Column("product_id", "text", "Shopify's product id"),
        Column("views", "integer", "product views"),
        Column("carts", "integer", "units put into a cart"),
        Column("checkouts", "integer", "started checkouts with the product"),
        Column("orders", "integer", "orders with the product"),
        Column("units", "integer", "units sold"),
        Column("returned_units", "integer", "units returned on this day"),
        Column("revenue", "amounts", "revenue after discounts"),
        Column("returned_revenue", "amounts", "revenue refunded on this day"),
    ),
)
AD_SPEND = LakeTable(
    "ad_spend",
    1,
    "Spend on ads, from the newest import of each shop, day, platform and campaign.",
    ("shop_id", "day", "platform", "campaign_id", "campaign"),
    (
        _SHOP,
        _DAY,
        Column("platform", "text", "the platform's canonical name"),
        Column("campaign_id", "text", "the platform's id of the campaign; empty if the file has none"),
        Column("campaign", "text", "name of the campaign; empty if the file has only its id"),
        Column("currency", "text", "ISO 4217 code of the ad account"),
        Column("amount", "amount", "amount spent"),
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
    "Visits, orders, revenue and spend of each source, by each model. Over all rows of a model and currency, orders and"
    " amounts sum to those of the attributions exactly. Each model's rows repeat visits and spend: choose one model.",
    ("shop_id", "day", "model", "channel", "platform", "campaign", "currency"),
    (
        _SHOP,
        _DAY,
        Column("model", "text", "the attribution model"),
        *_SOURCE,
        _CURRENCY,
        Column("visits", "integer", "visits that began on the day"),
        *_FIGURES[3:],
        Column("revenue", "amount", "value of the orders before refunds (gross)"),
        *_FIGURES[1:3],
        Column("spend", "amount", "spend on its ads, in this currency"),
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
    "The steps that visits reached, by the channel of the visit.",
    ("shop_id", "day", "channel"),
    (
        _SHOP,
        _DAY,
        Column("channel", "text", "GA4's default channel group, or `direct`"),
        Column("visits", "integer", "visits that began on the day"),
        Column("product_views", "integer", "of these, visits that viewed a product"),
        Column("carts", "integer", "of these, visits that put something into the cart"),
        Column("checkouts", "integer", "of these, visits that started a checkout"),
        Column("orders", "integer", "online orders of the day whose last click is of the channel"),
    ),
)

PEOPLE = LakeTable(
    "people",
    1,
    "The clients, customers, addresses and orders of each person, as currently known. The table contains no redacted"
    " persons.",
    ("shop_id", "person_id", "kind", "id"),
    (
        _SHOP,
        Column("person_id", "text", "the person, in this shop only"),
        Column("kind", "text", "`client`, `customer`, `address` (SHA-256 of the e-mail address) or `order`"),
        Column("id", "text", "client id, customer id or hash of the address; for an order, its `attribution`"),
        Column("connected", "flag", "whether the person has another client, customer or address"),
        Column("shared", "flag", "whether it has too many customers to connect persons"),
    ),
)
JOURNEYS = LakeTable(
    "journeys",
    1,
    "Every order's journey by person, across devices: a row for each touch, and one for an order without a touch. For"
    " each model, the rows of an order sum to its value and net exactly. Test orders are left out.",
    ("shop_id", "day", "attribution", "position"),
    (
        _SHOP,
        _DAY,
        Column("attribution", "text", "the order, as in `orders`"),
        Column("position", "integer", "position of the touch in the journey, from 0"),
        Column("touches", "integer", "number of touches in the journey"),
        Column("person_id", "text", "the person who placed the order, as in `people`"),
        Column("order_id", "text", "Shopify's id", optional=True),
        Column("occurred_at", "time", "when the order was placed"),
        Column("sales_channel", "text", "as in `orders`"),
        Column("new_customer", "flag", "whether its customer is new; null if unknown", optional=True),
        Column("client_id", "text", "client of the touch; without a touch, of the order", optional=True),
        Column("event_id", "text", "the touch's event; null for an order without a touch", optional=True),
        Column("touched_at", "time", "time of the touch; without a touch, of the order"),
        *_SOURCE,
        Column("campaign_id", "text", "the platform's id of the campaign", optional=True),
        _CURRENCY,
        *(Column(model, "amount", f"credit of the order's value by `{model}`") for model in ALL_MODELS),
        *(Column(f"{model}_net", "amount", f"credit of the order's net by `{model}`") for model in ALL_MODELS),
    ),
)
CHANNEL_VALUES = LakeTable(
    "channel_values",
    1,
    "The value of each channel by the data-driven models, from the paths of the 90 days until the end of the day.",
    ("shop_id", "day", "model", "channel"),
    (
        _SHOP,
        _DAY,
        Column("model", "text", "`markov` (removal effect) or `shapley` (Shapley value)"),
        Column("channel", "text", "GA4's default channel group"),
        Column("value", "rate", "share of the channel; the shares of a model sum to 1"),
        Column("converted", "integer", "paths through the channel with an order"),
        Column("lost", "integer", "paths through the channel without an order"),
    ),
)
COHORTS = LakeTable(
    "cohorts",
    1,
    "The persons who first ordered in a month, by the channel of that order, and the net of their orders. An amount is"
    " null until that many days have passed for all persons of the month.",
    ("shop_id", "day", "channel", "currency"),
    (
        _SHOP,
        Column("day", "day", "the first day of the month"),
        Column("channel", "text", "last click of the first order by person, `direct`, or its sales channel"),
        _CURRENCY,
        Column("customers", "integer", "persons who first ordered in the month, in that order's currency"),
        Column("repeat_customers", "integer", "of these, persons with another order"),
        Column("repeat_rate", "ratio", "`repeat_customers` / `customers`; null without customers", optional=True),
        *(
            Column(f"net_{age}", "amount", f"net of the orders in the {age} days after each first order", optional=True)
            for age in AGES
        ),
        Column("net_to_date", "amount", "net of all orders so far"),
    ),
)

#: All tables, by name.
TABLES: dict[str, LakeTable] = {
    table.name: table
    for table in (
        EVENTS,
        VISITS,
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
    """Return the description of all tables, as in docs/tables.md."""
    return "\n\n".join(_as_markdown(table) for table in TABLES.values())


def _as_markdown(table: LakeTable) -> str:
    rows = [
        f"| `{each.name}` | {KINDS[each.kind][0]}{', or null' if each.optional else ''} | {each.says} |"
        for each in table.columns
    ]
    head = [f"### {table.name}", "", table.says, "", f"Files: `{table.path}`. Key: {', '.join(table.key)}.", ""]
    return "\n".join([*head, "| column | kind | meaning |", "| --- | --- | --- |", *rows])
