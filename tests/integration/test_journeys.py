"""Persons, journeys and cohorts on the real servers, by hand; and where a person has one client, the stream's."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner

from tests.integration.driving import drain, record, send, set_environment
from tests.integration.test_pipeline import completed, order, pixel
from truepixel_dagster.answers.journeys import ALL_MODELS
from truepixel_dagster.answers.tables import CHANNEL_VALUES, COHORTS, JOURNEYS, PEOPLE, LakeTable
from truepixel_dagster.assets.cohorts import cohorts
from truepixel_dagster.assets.health import journeys_match as journeys_match_check
from truepixel_dagster.cli import main
from truepixel_dagster.definitions import definitions
from truepixel_dagster.events.shape import email_hash
from truepixel_dagster.events.shop_time import days_beside
from truepixel_dagster.health.journeys import journeys_match
from truepixel_dagster.lake.sql import open_sql
from truepixel_dagster.local.traffic import traffic
from truepixel_dagster.rebuild.cohorts import make_cohorts
from truepixel_dagster.rebuild.journeys import JOURNEYS_MAKER
from truepixel_dagster.rebuild.lake import Tools, make, making
from truepixel_dagster.rebuild.people import ALWAYS, PEOPLE_MAKER
from truepixel_dagster.settings import Settings

SHOP, OTHER = "700000001", "700000002"
CUSTOMER, EMAIL = 5550001234567, "ann.lee@example.com"
FIRST_DAY, SECOND_DAY = "2026-01-03", "2026-01-10"
SEARCH = "?utm_source=google&utm_medium=cpc&utm_campaign=winter"
MAIL, SMS = "?utm_source=newsletter&utm_medium=email", "?utm_source=sms&utm_medium=sms"
DECEMBER = int(datetime(2026, 12, 1, tzinfo=timezone.utc).timestamp() * 1000)
MARCH_2 = int(datetime(2026, 3, 2, 12, tzinfo=timezone.utc).timestamp() * 1000)

Sent = tuple[bytes | None, bytes | None, Any]


def visit(shop: str, client: str, at: str, query: str) -> Sent:
    return record(f"{shop}:{client}", {**pixel(f"{client}-{at}", at=f"{at}:00.000Z", query=query), "clientId": client})


def bought(shop: str, client: str, number: int, at: str, total: str, **fields: Any) -> list[Sent]:
    """An order of the customer, as the pixel and a webhook report it."""
    event = {**completed(f"done-{number}", f"token-{number}", f"{at}:00.000Z"), "clientId": client}
    when = {"created_at": f"{at}:00Z", "updated_at": f"{at}:30Z", "total_price": total, "current_total_price": total}
    customer = {"id": CUSTOMER, "email": EMAIL}
    paid = order(number, f"token-{number}", email=EMAIL, customer=customer, financial_status="paid", **when, **fields)
    own = record(f"{shop}:token-{number}", paid, topic="orders/paid", event_id=f"paid-{number}")
    return [record(f"{shop}:{client}", event), own]


def returned(shop: str, number: int, at: str, amount: str) -> Sent:
    refund = {
        "id": 9,
        "order_id": number,
        "created_at": f"{at}:00Z",
        "transactions": [{"id": 1, "kind": "refund", "status": "success", "amount": amount, "currency": "USD"}],
        "refund_line_items": [],
    }
    return record(f"{shop}:token-{number}", refund, topic="refunds/create", event_id=f"refund-{number}")


def two_devices() -> list[Sent]:
    """Ann orders on her phone, a week later on her laptop, and looks again on the phone; a stranger only looks.

    In the other shop the same ids are another person, who has never been on the phone.
    """
    return [
        visit(SHOP, "phone", "2026-01-03T10:00", SEARCH),
        *bought(SHOP, "phone", 1, "2026-01-03T11:00", "100.00"),
        visit(SHOP, "laptop", "2026-01-10T09:00", MAIL),
        *bought(SHOP, "laptop", 2, "2026-01-10T10:00", "50.00"),
        visit(SHOP, "phone", "2026-01-10T12:00", SMS),
        visit(SHOP, "stranger", "2026-01-10T08:00", MAIL),
        returned(SHOP, 2, "2026-02-20T10:00", "5.00"),
        visit(OTHER, "laptop", "2026-01-10T09:00", MAIL),
        *bought(OTHER, "laptop", 2, "2026-01-10T10:00", "50.00"),
    ]


@pytest.fixture
def ours(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An environment in which commands and assets find the namespace."""
    set_environment(monkeypatch, settings)
    return settings


@pytest.fixture
def tools(ours: Settings) -> Iterator[Tools]:
    with making(ours) as opened:
        yield opened


def everything(tools: Tools, days: list[str], now: int = DECEMBER) -> int:
    """Make people, journeys of days and the cohorts of January; return how many files changed."""
    done = make(tools, PEOPLE_MAKER, [ALWAYS]) + make(tools, JOURNEYS_MAKER, days)
    return (done + make_cohorts(tools, ["2026-01-01"], now)).changed


def rows(tools: Tools, table: LakeTable, day: str, shop: str = SHOP) -> list[dict[str, Any]]:
    return tools.lake.read(table, day, shop)


def test_two_devices_of_one_customer_make_one_journey(ours: Settings, tools: Tools) -> None:
    send(ours, two_devices())
    drain(ours)
    assert everything(tools, [FIRST_DAY, SECOND_DAY]) > 0

    members = rows(tools, PEOPLE, ALWAYS)
    (ann,) = {row["person_id"] for row in members if row["id"] == "phone"}
    assert {(row["kind"], row["id"]) for row in members if row["person_id"] == ann} >= {
        ("client", "phone"),
        ("client", "laptop"),
        ("customer", str(CUSTOMER)),
        ("address", email_hash(EMAIL)),
        ("order", "token-1"),
        ("order", "token-2"),
    }
    assert {row["person_id"] for row in members if row["id"] == "stranger"} != {ann}
    assert ann not in {row["person_id"] for row in rows(tools, PEOPLE, ALWAYS, OTHER)}

    first, second = rows(tools, JOURNEYS, FIRST_DAY), rows(tools, JOURNEYS, SECOND_DAY)
    assert [(row["client_id"], row["channel"], row["linear"]) for row in first] == [("phone", "paid_search", 10_000)]
    assert [(row["client_id"], row["channel"], row["campaign"]) for row in second] == [
        ("phone", "paid_search", "winter"),
        ("laptop", "email", ""),
    ]
    assert {row["person_id"] for row in first + second} == {ann}
    # Two paths of search ended with an order, one of them went on to mail; a path of mail and one of SMS were lost.
    # Markov: the order is reached by 1/2, without search by 1/8, without mail by 1/4: effects 3/4 and 1/2, so 3/5 and
    # 2/5. Shapley: search 1 + 1/2 orders, mail 1/2: 3/4 and 1/4. Value 50.00, net 45.00.
    shares = {model: [(row[model], row[f"{model}_net"]) for row in second] for model in ALL_MODELS}
    assert shares["last_click"] == [(0, 0), (5000, 4500)]
    assert shares["first_click"] == [(5000, 4500), (0, 0)]
    assert shares["linear"] == shares["position_based"] == [(2500, 2250), (2500, 2250)]
    assert shares["markov"] == [(3000, 2700), (2000, 1800)]
    assert shares["shapley"] == [(3750, 3375), (1250, 1125)]
    values = {(row["model"], row["channel"]): row["value"] for row in rows(tools, CHANNEL_VALUES, SECOND_DAY)}
    assert values == {
        ("markov", "email"): Decimal("0.4"),
        ("markov", "paid_search"): Decimal("0.6"),
        ("markov", "sms"): 0,
        ("shapley", "email"): Decimal("0.25"),
        ("shapley", "paid_search"): Decimal("0.75"),
        ("shapley", "sms"): 0,
    }
    met = {row["channel"]: (row["converted"], row["lost"]) for row in rows(tools, CHANNEL_VALUES, SECOND_DAY)}
    assert met == {"email": (1, 1), "paid_search": (2, 0), "sms": (0, 1)}
    # The other shop's order has its own touch alone.
    (alone,) = rows(tools, JOURNEYS, SECOND_DAY, OTHER)
    assert (alone["client_id"], alone["markov"], alone["shapley_net"]) == ("laptop", 5000, 5000)

    # The refund of February 20 is of day 48: after 30 days the two orders brought 150.00, after 60 days 145.00.
    (cohort,) = rows(tools, COHORTS, "2026-01-01")
    assert cohort == {
        "shop_id": SHOP,
        "day": date(2026, 1, 1),
        "channel": "paid_search",
        "currency": "USD",
        "customers": 1,
        "repeat_customers": 1,
        "repeat_rate": 1,
        "net_30": 15_000,
        "net_60": 14_500,
        "net_90": 14_500,
        "net_180": 14_500,
        "net_to_date": 14_500,
    }
    assert everything(tools, [FIRST_DAY, SECOND_DAY]) == 0
    make_cohorts(tools, ["2026-01-01"], MARCH_2)
    (cohort,) = rows(tools, COHORTS, "2026-01-01")
    assert (cohort["net_30"], cohort["net_60"], cohort["net_to_date"]) == (None, None, 14_500)


def test_a_redacted_customer_leaves_and_the_sums_stay(ours: Settings, tools: Tools) -> None:
    send(ours, two_devices())
    drain(ours)
    everything(tools, [FIRST_DAY, SECOND_DAY])
    before = [sum(row["markov_net"] for row in rows(tools, JOURNEYS, day)) for day in (FIRST_DAY, SECOND_DAY)]
    command = ["privacy", "redact", "--yes", "--shop", SHOP, "--customer", str(CUSTOMER)]
    assert CliRunner().invoke(main, command).exit_code == 0
    everything(tools, [FIRST_DAY, SECOND_DAY])

    assert {row["id"] for row in rows(tools, PEOPLE, ALWAYS)} == {"stranger"}
    kept = [row for day in (FIRST_DAY, SECOND_DAY) for row in rows(tools, JOURNEYS, day)]
    text = json.dumps(kept, default=str)
    traces = ["phone", "laptop", "token-1", "token-2", str(CUSTOMER), EMAIL, email_hash(EMAIL)]
    assert [trace for trace in traces if str(trace) in text] == []
    after = [sum(row["markov_net"] for row in rows(tools, JOURNEYS, day)) for day in (FIRST_DAY, SECOND_DAY)]
    assert after == before == [10_000, 4_500]
    assert len(rows(tools, PEOPLE, ALWAYS, OTHER)) == 5


def test_a_device_of_many_customers_connects_no_persons(ours: Settings) -> None:
    """Three customers order at one kiosk, each with a phone: at most two may share it."""
    sent = []
    for number in (1, 2, 3):
        customer = {"customer": {"id": number, "email": None}, "email": None}
        for place in (f"own-{number}", "kiosk"):
            id_ = number * 10 + (place == "kiosk")
            event, paid = bought(SHOP, place, id_, f"2026-01-0{number}T10:00", "10.00")
            payload = {**json.loads(paid[1] or b""), **customer}
            sent += [event, record(f"{SHOP}:token-{id_}", payload, topic="orders/paid", event_id=f"paid-{id_}")]
    send(ours, sent)
    drain(ours)
    with making(ours) as tools:
        make(tools, PEOPLE_MAKER, [ALWAYS])
        apart = {row["id"]: row for row in rows(tools, PEOPLE, ALWAYS)}
        assert apart["kiosk"]["shared"]
        assert len({apart[f"own-{number}"]["person_id"] for number in (1, 2, 3)}) == 3
        # A buyer at the kiosk is known by the customer of the order.
        assert apart["token-11"]["person_id"] == apart["own-1"]["person_id"]
    with making(ours.model_copy(update={"customers_per_client": 3})) as tools:
        make(tools, PEOPLE_MAKER, [ALWAYS])
        joined = {row["id"]: row["person_id"] for row in rows(tools, PEOPLE, ALWAYS)}
        assert len({joined[f"own-{number}"] for number in (1, 2, 3)}) == 1


def test_journeys_of_one_client_are_the_streams_attributions(ours: Settings, tools: Tools) -> None:
    records = list(traffic(4000, seed=7, shops=3, malformed=0.01))
    send(ours, [(r.key, r.value, r.headers) for r in records])
    drain(ours)
    tools.stores.elasticsearch.refresh()
    found = [hit["_source"] for hit in tools.stores.elasticsearch.scan("attributions", fields=["occurred_at"])]
    everything(tools, sorted(days_beside(each["occurred_at"][:10] for each in found)))

    verdict = journeys_match(tools)
    assert verdict.passed, verdict.description
    made = [
        row
        for day in tools.lake.days(JOURNEYS)
        for shop in tools.lake.shops(JOURNEYS, day)
        for row in tools.lake.read(JOURNEYS, day, shop)
    ]
    assert verdict.figures["orders"] == len({(row["shop_id"], row["attribution"]) for row in made}) > 30
    assert verdict.figures["stale files"] == 0

    day = next(day for day in tools.lake.days(JOURNEYS) if tools.lake.shops(JOURNEYS, day))
    shops = {shop: tools.lake.read(JOURNEYS, day, shop) for shop in tools.lake.shops(JOURNEYS, day)}
    next(iter(shops.values()))[0]["linear"] += 1
    tools.lake.write(
        JOURNEYS, day, shops, {shop: made.sources for shop, made in tools.lake.made(JOURNEYS, day).items()}
    )
    tampered = journeys_match(tools)
    assert not tampered.passed
    assert f"Materialize journeys for {day}" in tampered.description


def test_journeys_make_the_people_if_there_are_none_yet(ours: Settings, tools: Tools) -> None:
    send(ours, two_devices())
    drain(ours)
    make(tools, JOURNEYS_MAKER, [SECOND_DAY])
    assert [row["client_id"] for row in rows(tools, JOURNEYS, SECOND_DAY)] == ["phone", "laptop"]
    with open_sql(tools.lake) as sql:
        said = "SELECT count(DISTINCT person_id) AS persons FROM people JOIN journeys USING (shop_id, person_id)"
        assert sql.query(said).rows() == [{"persons": 2}]
        assert sql.query("SELECT sum(markov_net) AS net FROM journeys WHERE shop_id = ?", [SHOP]).rows() == [
            {"net": 4_500}
        ]


def test_the_assets_make_the_tables(ours: Settings, tools: Tools, tmp_path: Path) -> None:
    send(ours, two_devices())
    drain(ours)
    tags = {"dagster/asset_partition_range_start": FIRST_DAY, "dagster/asset_partition_range_end": SECOND_DAY}
    made = definitions.resolve_job_def("refresh_lake").execute_in_process(tags=tags)
    assert made.success
    keys = [event.asset_key for event in made.get_asset_materialization_events()]
    written = Counter(key.to_user_string() for key in keys if key)
    assert (written["people"], written["journeys"]) == (1, 8)
    assert dg.materialize([cohorts], partition_key="2026-01-01").success
    assert [row["customers"] for row in rows(tools, COHORTS, "2026-01-01")] == [1]
    assert len(rows(tools, JOURNEYS, SECOND_DAY)) == 2
    (checked,) = dg.materialize(
        [journeys_match_check], selection=dg.AssetSelection.all_asset_checks()
    ).get_asset_check_evaluations()
    assert checked.passed
    assert checked.metadata["across devices"].value == 1
