"""What each source brought and cost: by hand, and sums that hold whatever the rows are."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.answers.funnel import ChannelFunnel, funnel_daily
from truepixel_dagster.answers.marketing import WHOLE, Credited, Row, Spent, Touched, data_driven, marketing_daily
from truepixel_dagster.answers.rates import Rate, Rates
from truepixel_dagster.answers.visits import SeenEvent, Source, SourceVisits, by_source, visits_of

DAY = date(2026, 1, 12)
SEARCH = Source("paid_search", "google", "brand", "11")
SHOPPING = Source("paid_shopping", "google", "brand", "11")
SOCIAL = Source("paid_social", "instagram", "spring+sale")
NOON = datetime(2026, 1, 12, 12, tzinfo=timezone.utc)


def credited(source: Source, gross: int, refunded: int = 0, new: int = 0, parts: int = WHOLE) -> Credited:
    return Credited("linear", source, "USD", gross, refunded, gross - refunded, parts, new, 0)


def figures(visits: list[Source], sold: list[Credited], spend: list[Spent], rates: Rates | None = None) -> list[Row]:
    known, counted = rates or Rates([]), Counter(visits)
    return marketing_daily(
        ["linear"], counted, sold, spend, "USD", lambda amount, source: known.convert(amount, source, "USD", DAY)
    ).rows


def test_three_currencies_a_refund_and_a_new_customer_by_hand() -> None:
    rates = Rates([Rate(DAY, "EUR", "USD", Decimal("1.10")), Rate(DAY, "USD", "GBP", Decimal("0.8"))])
    spend = [
        Spent("google", "11", "Brand", "EUR", 2000, 100, 1000),
        Spent("facebook", "", "Spring Sale", "GBP", 800),
        Spent("tiktok", "", "dances", "USD", 500),
    ]
    half = WHOLE // 2
    sold = [credited(SEARCH, 10000, 2000, new=WHOLE), credited(SOCIAL, 5000, parts=half)]
    search, social, dances = figures([SEARCH, SEARCH, SOCIAL], sold, spend, rates)
    # 20.00 EUR × 1.10 = 22.00 USD: 100 / 22 = 4.5455, 80 / 22 = 3.6364, 22.00 an order and a new customer.
    assert (search.visits, search.spend, search.roas, search.net_roas) == (
        2,
        2200,
        Decimal("4.5455"),
        Decimal("3.6364"),
    )
    assert (search.cost_per_order, search.cost_per_new_customer) == (2200, 2200)
    # 8.00 GBP / 0.8 = 10.00 USD: 50 / 10 = 5; half an order costs 20.00.
    assert (social.spend, social.roas, social.cost_per_order, social.cost_per_new_customer) == (
        1000, Decimal(5), 2000, None,
    )  # fmt: skip
    assert (dances.channel, dances.campaign, dances.spend, dances.roas, dances.cost_per_order) == (
        "paid_social", "dances", 500, Decimal(0), None,
    )  # fmt: skip


def test_spend_of_a_campaign_of_two_channels_is_divided_by_visits_to_the_cent() -> None:
    rows = figures([SEARCH, SEARCH, SHOPPING], [], [Spent("google", "11", "", "USD", 1000, 10, 100)])
    assert {row.channel: (row.spend, row.clicks, row.impressions) for row in rows} == {
        "paid_search": (667, 7, 67),
        "paid_shopping": (333, 3, 33),
    }


def test_spend_for_which_no_rate_is_known_stays_in_its_currency_and_is_named() -> None:
    spend = [Spent("google", "11", "", "SEK", 1000)]
    found = marketing_daily(["linear"], {SEARCH: 1}, [], spend, "USD", lambda *_: None)
    assert [(row.currency, row.visits, row.spend, row.roas) for row in found.rows] == [
        ("SEK", 0, 1000, Decimal(0)),
        ("USD", 1, 0, None),
    ]
    assert found.without_rate == {"SEK"}


sources = st.sampled_from([SEARCH, SHOPPING, SOCIAL, Source("direct", "direct"), Source("email", "klaviyo", "brand")])


@given(
    st.lists(sources),
    st.lists(st.builds(credited, sources, st.integers(0, 10**9), st.just(0), st.just(0), st.integers(0, WHOLE))),
    st.lists(
        st.builds(
            Spent,
            st.sampled_from(["google", "facebook", "tiktok"]),
            st.sampled_from(["", "11", "12"]),
            st.sampled_from(["brand", "spring sale", "x"]),
            st.just("USD"),
            st.integers(0, 10**9),
        )
    ),
)
def test_sums_over_rows_equal_the_sums_of_visits_orders_and_spend(
    visits: list[Source], sold: list[Credited], spend: list[Spent]
) -> None:
    rows = figures(visits, sold, spend)
    assert sum(row.visits for row in rows) == len(visits)
    assert sum(row.spend for row in rows) == sum(each.amount for each in spend)
    assert sum(row.revenue for row in rows) == sum(each.gross for each in sold)
    assert sum(row.orders for row in rows) == sum(each.orders for each in sold)
    keys = Counter((row.channel, row.platform, row.campaign, row.currency) for row in rows)
    assert set(keys.values()) <= {1}


def seen(minutes: float, name: str = "page_viewed", source: Source | None = None, client: str = "c") -> SeenEvent:
    at = NOON + timedelta(minutes=minutes)
    parts = (source.channel, source.platform, source.campaign) if source else ()
    return SeenEvent(f"{client}-{minutes}", client, name, at, *parts)


def test_a_visit_ends_after_half_an_hour_and_where_another_source_begins() -> None:
    brand = Source("paid_search", "google", "brand")
    events = [
        seen(0, source=brand),
        seen(5, source=brand),
        seen(29, "product_viewed"),
        seen(58, "product_added_to_cart"),
        seen(88, "checkout_started"),  # 30 minutes later
        seen(90, source=SOCIAL),
        seen(1, client="other"),
    ]
    visits = visits_of(reversed(events))
    assert [(visit.source.channel, visit.viewed, visit.put_into_cart, visit.started_checkout) for visit in visits] == [
        ("paid_search", True, True, False),
        ("direct", False, False, True),
        ("paid_social", False, False, False),
        ("direct", False, False, False),
    ]
    assert by_source(visits) == [
        SourceVisits(Source("direct", "direct"), 2, 0, 0, 1),
        SourceVisits(brand, 1, 1, 1, 0),
        SourceVisits(SOCIAL, 1, 0, 0, 0),
    ]
    assert funnel_daily(by_source(visits), ["email", "paid_search"]) == [
        ChannelFunnel("direct", 2, 0, 0, 1, 0),
        ChannelFunnel("email", 0, 0, 0, 0, 1),
        ChannelFunnel("paid_search", 1, 1, 1, 0, 1),
        ChannelFunnel("paid_social", 1),
    ]


def test_the_data_driven_models_divide_an_order_by_the_values_of_its_channels() -> None:
    touches = [
        Touched(SEARCH, {"markov": 7500, "shapley": 5000}, {"markov": 6000, "shapley": 4000}),
        Touched(SOCIAL, {"markov": 2500, "shapley": 5000}, {"markov": 2000, "shapley": 4000}),
    ]
    values = {"markov": {"paid_search": Fraction(3, 4), "paid_social": Fraction(1, 4)}}
    found = list(data_driven(touches, "USD", 2000, True, values))
    assert [(each.model, each.source, each.gross, each.refunded, each.net) for each in found] == [
        ("markov", SEARCH, 7500, 1500, 6000),
        ("markov", SOCIAL, 2500, 500, 2000),
        # Without any value, touches weigh the same.
        ("shapley", SEARCH, 5000, 1000, 4000),
        ("shapley", SOCIAL, 5000, 1000, 4000),
    ]
    assert [each.orders for each in found] == [750_000, 250_000, 500_000, 500_000]
    assert [each.new_customers for each in found] == [each.orders for each in found]
    assert not any(each.returning_customers for each in found)


def test_a_touch_without_any_credit_has_no_row() -> None:
    touches = [
        Touched(SEARCH, {"markov": 100, "shapley": 50}, {"markov": 100, "shapley": 50}),
        Touched(SOCIAL, {"markov": 0, "shapley": 50}, {"markov": 0, "shapley": 50}),
    ]
    found = list(data_driven(touches, "USD", 0, None, {"markov": {"paid_search": Fraction(1)}}))
    assert [(each.model, each.source) for each in found] == [
        ("markov", SEARCH),
        ("shapley", SEARCH),
        ("shapley", SOCIAL),
    ]
