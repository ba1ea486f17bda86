"""The tables of the lake on the real servers: figures by hand, sums, stale days, and what Dagster shows of them."""

from __future__ import annotations

import json
import re
import shlex
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from tests.integration.driving import drain, flush, record, send, set_environment
from tests.integration.test_cli import run, truepixel
from tests.integration.test_pipeline import completed, order, pixel
from truepixel_dagster import asset_keys
from truepixel_dagster.answers.journeys import ALL_MODELS
from truepixel_dagster.answers.tables import CREDITS, EVENTS, MARKETING_DAILY, TABLES
from truepixel_dagster.definitions import definitions
from truepixel_dagster.events.times import to_millis
from truepixel_dagster.health.lake import answers_sum, days_fresh
from truepixel_dagster.lake.files import lake_of
from truepixel_dagster.lake.sql import open_sql
from truepixel_dagster.rebuild import shop_reports
from truepixel_dagster.rebuild.answers import MAKERS
from truepixel_dagster.rebuild.lake import make, making, refresh, stale_days
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings

SHOP, ZONE, DAY = "548380009", "America/New_York", "2026-01-12"
AT = "2026-01-11T23:30:00-05:00"  # the 12th in UTC, the 11th in the shop
BRAND = "?utm_source=google&utm_medium=cpc&utm_campaign=brand&gclid=G"
SPRING = "?utm_source=ig&utm_medium=paid_social&utm_campaign=spring"
DAYS = ["2026-01-10", "2026-01-11", "2026-01-12", "2026-01-13"]
SPEND = f"""shop,day,platform,campaign,amount,currency,clicks,impressions
{SHOP},{DAY},google,Brand,20.00,EUR,100,1000
{SHOP},{DAY},meta,spring,8.00,GBP,10,500
{SHOP},{DAY},tiktok,dances,5.00,USD,1,50
"""
RATES = f"day,from,to,rate\n{DAY},EUR,USD,1.10\n{DAY},USD,GBP,0.8\n"
Doc = dict[str, Any]


def bought(client: str, query: str, hour: int, total: str, **fields: Any) -> list[tuple[bytes, bytes, Any]]:
    """A visit of a client that ends in an order, as pixel and webhook report it."""
    key, at = f"{SHOP}:{client}", f"{DAY}T{hour}:00:00"
    product: Doc = {"productVariant": {"product": {"id": "1"}}}
    line: Doc = {"cartLine": {"quantity": 1, "merchandise": {"product": {"id": "1"}}}}
    seen = [
        pixel(f"{client}-1", at=f"{at}.000Z", query=query),
        pixel(f"{client}-2", "product_viewed", f"{at}.500Z", **product),
        pixel(f"{client}-3", "product_added_to_cart", f"{at}.600Z", **line),
        completed(f"{client}-4", f"token-{client}", at=f"{DAY}T{hour}:05:00.000Z"),
    ]
    made = {"created_at": f"{DAY}T{hour}:05:00Z", "updated_at": f"{DAY}T{hour}:05:00Z", "financial_status": "paid"}
    paid = order(sum(client.encode()), f"token-{client}", total_price=total, source_name="web", **{**made, **fields})
    headers = {"source": "webhook", "topic": "orders/create", "event_id": f"{client}-order"}
    return [*(record(key, {**page, "clientId": client}) for page in seen), record(key, paid, **headers)]


def money_back(amount: str) -> Doc:
    given = {"id": 1, "kind": "refund", "status": "success", "amount": amount, "currency": "USD"}
    return {"id": 1, "created_at": f"{DAY}T20:00:00Z", "refund_line_items": [], "transactions": [given]}


@pytest.fixture
def sold(settings: Settings, stores: Stores, tmp_path: Path) -> Settings:
    known = {"time_zone": ZONE, "currency": "USD"}
    stores.mongodb.collection("shops").insert_one({"_id": SHOP, "operator": known, "schema": 3})
    first, fourth = ({"customer": {"id": number, "orders_count": number}} for number in (1, 4))
    send(
        settings,
        [
            *bought("new", BRAND, 15, "100.00", refunds=[money_back("20.00")], **first),
            *bought("old", SPRING, 16, "50.00", **fourth),
            record(f"{SHOP}:looks", {**pixel("looks-1", at=f"{DAY}T17:00:00.000Z"), "clientId": "looks"}),
        ],
    )
    drain(settings)
    flush(stores)
    stores.elasticsearch.refresh()
    for name, text in (("spend.csv", SPEND), ("rates.csv", RATES)):
        (tmp_path / name).write_text(text)
        truepixel(settings, "spend", "import", str(tmp_path / name))
    return settings


def made(settings: Settings, days: list[str] = DAYS) -> int:
    """Materialize the stale days; return how many files changed."""
    with making(settings) as tools:
        return refresh(tools, MAKERS, days).changed


def stale(settings: Settings) -> dict[str, list[str]]:
    with making(settings) as tools:
        return {name: list(days) for name, days in stale_days(tools, MAKERS.values(), DAYS).items()}


def rows(settings: Settings, query: str) -> list[Doc]:
    return list(json.loads(truepixel(settings, "sql", "--json", query)))


def test_spend_in_three_currencies_with_a_refund_and_a_new_customer_gives_the_figures_by_hand(sold: Settings) -> None:
    made(sold)
    found = rows(
        sold,
        "SELECT * EXCLUDE (shop_id, day, model, clicks, impressions) FROM marketing_daily"
        " WHERE model = 'last_click' ORDER BY channel, platform",
    )
    by_platform = {row.pop("platform"): row for row in found}
    # 20 EUR are 22 USD. 8 GBP are 10 USD. 5 USD brought nothing.
    assert by_platform["google"] == {
        "channel": "paid_search", "campaign": "brand", "currency": "USD", "visits": 1,
        "orders": "1.000000", "new_customers": "1.000000", "returning_customers": "0.000000",
        "revenue": 10000, "refunded": 2000, "net": 8000, "spend": 2200,
        "roas": "4.5455", "net_roas": "3.6364", "cost_per_order": 2200, "cost_per_new_customer": 2200,
    }  # fmt: skip
    assert by_platform["instagram"] == {
        "channel": "paid_social", "campaign": "spring", "currency": "USD", "visits": 1,
        "orders": "1.000000", "new_customers": "0.000000", "returning_customers": "1.000000",
        "revenue": 5000, "refunded": 0, "net": 5000, "spend": 1000,
        "roas": "5.0000", "net_roas": "5.0000", "cost_per_order": 1000, "cost_per_new_customer": None,
    }  # fmt: skip
    assert (by_platform["tiktok"]["spend"], by_platform["tiktok"]["roas"]) == (500, "0.0000")
    assert by_platform["direct"]["visits"] == 1
    assert rows(sold, "SELECT * EXCLUDE (shop_id, day) FROM funnel_daily ORDER BY channel") == [
        {"channel": "direct", "visits": 1, "product_views": 0, "carts": 0, "checkouts": 0, "orders": 0},
        {"channel": "paid_search", "visits": 1, "product_views": 1, "carts": 1, "checkouts": 0, "orders": 1},
        {"channel": "paid_social", "visits": 1, "product_views": 1, "carts": 1, "checkouts": 0, "orders": 1},
    ]


def test_sums_are_the_attributions_and_twice_gives_the_same_bytes(sold: Settings, stores: Stores) -> None:
    made(sold)
    files = {path: path.read_bytes() for path in (sold.data_dir / "lake").rglob("*.parquet")}
    # Cohorts have a job of their own.
    assert {path.relative_to(sold.data_dir / "lake").parts[0] for path in files} == set(TABLES) - {"cohorts"}
    totals = rows(
        sold,
        "SELECT model, sum(orders) AS orders, sum(revenue) AS revenue, sum(net) AS net, sum(refunded) AS back"
        " FROM marketing_daily GROUP BY model",
    )
    documents = [hit["_source"] for hit in stores.elasticsearch.scan("attributions")]
    by_hand = {
        "orders": Decimal(len(documents)),
        "revenue": sum(each["value"]["amount"] for each in documents),
        "net": sum(each["net"]["amount"] for each in documents),
        "back": sum(each["refunded"]["amount"] for each in documents),
    }
    assert {each.pop("model") for each in totals} == set(ALL_MODELS)
    assert all({name: Decimal(value) for name, value in each.items()} == by_hand for each in totals)
    with making(sold) as tools:
        for maker in MAKERS.values():
            assert make(tools, maker, DAYS).changed == 0
    assert {path: path.read_bytes() for path in files} == files
    assert answers_sum(sold).passed


def test_a_late_record_makes_only_its_day_stale_until_it_is_materialized(sold: Settings, stores: Stores) -> None:
    made(sold)
    assert stale(sold) == {}
    assert days_fresh(sold).passed
    # Late on the 12th in UTC is the 11th in New York.
    fields = {"created_at": AT, "updated_at": AT}
    send(sold, [*bought("late", "", 18, "7.00", **fields)[-1:]])
    drain(sold)
    flush(stores)
    found = stale(sold)
    assert found["orders"] == found["credits"] == found["marketing_daily"] == ["2026-01-11"]
    assert "ad_spend" not in found
    verdict = days_fresh(sold)
    assert not verdict.passed
    assert "2026-01-11" in verdict.description
    made(sold)
    assert stale(sold) == {}
    assert rows(sold, "SELECT day, sum(revenue) AS revenue FROM marketing_daily WHERE model = 'linear' GROUP BY day"
                " ORDER BY day") == [{"day": "2026-01-11", "revenue": 700}, {"day": DAY, "revenue": 15000}]  # fmt: skip


def test_a_changed_time_zone_makes_the_days_stale_and_moves_the_figures(sold: Settings, stores: Stores) -> None:
    made(sold)
    shops = stores.mongodb.collection("shops")
    shops.update_one({"_id": SHOP}, {"$set": {"operator.time_zone": "Asia/Tokyo"}})
    assert {"events", "orders", "marketing_daily", "funnel_daily"} <= stale(sold).keys()
    made(sold)
    assert stale(sold) == {}
    # 16:00 UTC is the next day in Tokyo; 15:00 is, too, at midnight exactly.
    assert rows(sold, "SELECT DISTINCT day FROM orders") == [{"day": "2026-01-13"}]
    assert not lake_of(sold).read(CREDITS, DAY, SHOP)
    assert rows(
        sold, "SELECT sum(spend) AS spent FROM marketing_daily WHERE model = 'linear' AND day = '2026-01-12'"
    ) == [{"spent": 3700}]


def test_a_redaction_makes_the_days_of_a_person_stale_and_leaves_nothing_of_the_client(
    sold: Settings,
) -> None:
    made(sold)
    truepixel(sold, "privacy", "redact", "--shop", SHOP, "--client", "new", "--yes")
    found = stale(sold)
    assert DAY in found["events"]
    assert DAY in found["marketing_daily"]
    made(sold)
    assert stale(sold) == {}
    with open_sql(lake_of(sold)) as sql:
        for table in ("events", "orders", "customers"):
            assert sql.query(f"SELECT * FROM {table} WHERE client_id = 'new'").rows() == []
    assert answers_sum(sold).passed


def test_a_file_with_a_bad_row_imports_nothing_unless_these_are_left_out(sold: Settings, tmp_path: Path) -> None:
    before = rows(sold, "SELECT * FROM ad_spend")
    file = tmp_path / "bad.csv"
    file.write_text("Day,Campaign,Cost,Currency code\n2026-01-12,brand,9.00,EUR\n2026-01-12,second,nine,EUR\n")
    done = run(sold, "spend", "import", str(file), "--shop", SHOP)
    assert done.returncode == 1
    assert "line 3: 'nine' is not a number" in done.stderr
    assert rows(sold, "SELECT * FROM ad_spend") == before
    done = run(sold, "spend", "import", str(file), "--shop", SHOP, "--skip-bad-rows")
    assert done.returncode == 0
    assert "line 3 was skipped" in done.stderr
    amounts = rows(sold, "SELECT amount, currency FROM ad_spend WHERE platform = 'google'")
    assert amounts == [{"amount": 2000, "currency": "EUR"}, {"amount": 900, "currency": "EUR"}]


def test_the_audit_finds_tables_that_do_not_sum_to_the_attributions(sold: Settings) -> None:
    made(sold)
    lake = lake_of(sold)
    sources = {shop: each.sources for shop, each in lake.made(MARKETING_DAILY, DAY).items()}
    changed = lake.read(MARKETING_DAILY, DAY, SHOP)
    next(row for row in changed if row["model"] == "shapley" and row["platform"] == "google")["net"] += 1
    lake.write(MARKETING_DAILY, DAY, {SHOP: changed}, sources)
    verdict = answers_sum(sold)
    assert not verdict.passed
    assert f"1 days do not sum to their orders: marketing_daily of {DAY}, shop `{SHOP}`" in verdict.description


def test_the_page_and_the_cohorts_show_the_tables(sold: Settings, tmp_path: Path) -> None:
    truepixel(sold, "tables", "--refresh")
    days = ("--from", "2026-01-01", "--to", "2026-01-31")
    file = tmp_path / "report.html"
    truepixel(sold, "report", "--shop", SHOP, "--html", str(file), "--model", "markov", *days)
    page = file.read_text()
    # 20 EUR, 8 GBP and 5 USD are 37 USD: 150 / 37 = 4.05.
    for words in ("credited by markov", "150.00", "130.00", "37.00", "4.05", "2026-01-12", "brand", "paid_social"):
        assert words in page, words
    for model in ("linear", "markov", "shapley"):
        found = json.loads(truepixel(sold, "report", "--shop", SHOP, "--model", model, "--json", *days))
        # The rows of every model sum to the same orders.
        assert sum(row["gross"] for row in found["sources"]) == 15_000, model
        assert [(total["net"], total["orders"], total["spend"]) for total in found["totals"]] == [(13_000, 2, 3700)], (
            model
        )
    header, *lines = truepixel(sold, "report", "--shop", SHOP, "--by", "cohort", "--csv", *days).splitlines()
    assert header.startswith("month,channel,currency,customers,repeat_customers,repeat_rate,net_30")
    assert lines == [
        "2026-01,paid_search,USD,1,0,0.0000,80.00,80.00,80.00,80.00,80.00",
        "2026-01,paid_social,USD,1,0,0.0000,50.00,50.00,50.00,50.00,50.00",
    ]
    done = run(sold, "report", "--shop", "nobody", "--html", str(file), *days)
    assert done.returncode == 1
    assert f"Shops in the tables on these days: {SHOP}" in done.stderr


def test_the_days_are_materialized_in_one_run_with_schemas_and_rows(sold: Settings, monkeypatch: Any) -> None:
    set_environment(monkeypatch, sold)
    job = definitions.resolve_job_def("refresh_lake")
    # The pages are of the 30 days up to now.
    monkeypatch.setattr(shop_reports, "time", SimpleNamespace(time=lambda: to_millis(f"{DAY}T23:00:00Z") / 1000))
    tags = {"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[-1]}
    with dg.DagsterInstance.ephemeral() as instance:
        done = job.execute_in_process(instance=instance, tags=tags)
        assert done.success
        events = done.asset_materializations_for_node(f"rebuild_{asset_keys.MARKETING_DAILY}")
        assert events[0].metadata["dagster/row_count"].value == len(lake_of(sold).read(MARKETING_DAILY, DAY, SHOP))
        assert lake_of(sold).read(EVENTS, DAY, SHOP)
        (pages,) = done.asset_materializations_for_node(f"rebuild_{asset_keys.SHOP_REPORTS}")
        assert pages.metadata["pages"].value == 1
        table = pages.metadata["figures"]
        assert isinstance(table, dg.TableMetadataValue)
        (figures,) = (record.data for record in table.records)
        amounts = {"revenue": "150.00", "net": "130.00", "spend": "37.00", "ROAS": "4.05", "currency": "USD"}
        assert figures == {"shop": SHOP, "orders": "2", **amounts}
        assert "(data:image/png;base64," in str(pages.metadata["preview"].value)
        page = Path(str(pages.metadata["path"].value))
        assert page.parent == sold.data_dir / "lake" / "shop_reports" / f"day={DAY}" / f"shop_id={SHOP}"
        assert "150.00" in page.read_text()
    assert stale(sold) == {}
    specs = {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}
    schema = specs[asset_keys.MARKETING_DAILY].metadata["dagster/column_schema"]
    assert [column.name for column in schema.columns] == [each.name for each in MARKETING_DAILY.columns]


def test_the_ten_questions_are_answered_by_their_commands_and_by_their_sql(sold: Settings) -> None:
    made(sold)
    text = (Path(__file__).parents[2] / "docs" / "reports.md").read_text()
    questions = re.split(r"^## \d+\. ", text, flags=re.MULTILINE)[1:]
    assert len(questions) == 10
    with open_sql(lake_of(sold)) as sql:
        for question in questions:
            (query,) = re.findall(r"```sql\n(.*?)```", question, re.DOTALL)
            assert sql.query(query).rows() or "led to no order" in question, query
            (command,) = re.findall(r"^    \./run (.*)$", question, re.MULTILINE)
            assert SHOP in (printed := truepixel(sold, *shlex.split(command))) or printed.count("\n") > 1, command
