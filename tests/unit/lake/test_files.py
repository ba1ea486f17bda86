"""Files of the lake on a disk and in an object store: replaced as a whole, the same bytes for the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import fsspec
import pytest

from truepixel_dagster.answers.tables import FUNNEL_DAILY, PEOPLE, TABLES
from truepixel_dagster.lake.arrow import by_shop, schema_of, summed
from truepixel_dagster.lake.errors import LakeError, QueryRefused
from truepixel_dagster.lake.files import Lake
from truepixel_dagster.lake.sql import open_sql

DAY, SHOPS = "2026-01-12", ("548380009", "a shop/with: é", "007")
STEPS = {"visits": 3, "product_views": 2, "carts": 1, "checkouts": 1, "orders": 1}


def row(shop: str, channel: str = "direct", **fields: Any) -> dict[str, Any]:
    return {"shop_id": shop, "day": date.fromisoformat(DAY), "channel": channel, **STEPS, **fields}


@pytest.fixture(params=["disk", "object store"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lake]:
    if request.param == "disk":
        yield Lake(str(tmp_path / "lake"))
        return
    yield Lake("memory://bucket/lake")
    fsspec.filesystem("memory").store.clear()


def test_what_was_written_is_read_and_queried_by_shop_and_day(lake: Lake) -> None:
    shops = {shop: [row(shop, "email"), row(shop)] for shop in SHOPS}
    done = lake.write(FUNNEL_DAILY, DAY, shops, dict.fromkeys(SHOPS, "1"))
    assert (done.rows, done.files, done.changed) == (6, 3, 3)
    assert lake.shops(FUNNEL_DAILY, DAY) == sorted(SHOPS)
    assert [each["channel"] for each in lake.read(FUNNEL_DAILY, DAY, SHOPS[1])] == ["direct", "email"]
    with open_sql(lake) as sql:
        found = sql.query("SELECT shop_id, day, sum(visits) AS visits FROM funnel_daily GROUP BY ALL").rows()
        assert sql.query("SELECT count(*) FROM orders").rows() == [{"count_star()": 0}]
    assert {each["shop_id"]: (each["day"], each["visits"]) for each in found} == dict.fromkeys(
        SHOPS, (date.fromisoformat(DAY), 6)
    )


def test_a_day_is_read_at_once_and_summed_exactly(lake: Lake) -> None:
    lake.write(FUNNEL_DAILY, DAY, {shop: [row(shop, "email"), row(shop, visits=2**60)] for shop in SHOPS}, {})
    day = lake.read_day(FUNNEL_DAILY, DAY, ["shop_id", "channel", "visits"])
    own = by_shop(day.to_pylist())
    assert [[each["channel"] for each in own[shop]] for shop in SHOPS] == [["direct", "email"]] * 3
    assert summed(day, ["shop_id"], ["visits"]) == [
        {"shop_id": shop, "visits": 2**60 + 3, "rows": 2} for shop in sorted(SHOPS)
    ]
    assert lake.read_day(FUNNEL_DAILY, "2026-01-13").to_pylist() == []


def test_the_same_rows_change_no_file_and_shops_without_rows_go(lake: Lake) -> None:
    shops = {shop: [row(shop, "email"), row(shop)] for shop in SHOPS}
    lake.write(FUNNEL_DAILY, DAY, shops, dict.fromkeys(SHOPS, "1"))
    turned = {shop: rows[::-1] for shop, rows in shops.items()}
    assert lake.write(FUNNEL_DAILY, DAY, turned, dict.fromkeys(SHOPS, "2")).changed == 0
    assert {made.sources for made in lake.made(FUNNEL_DAILY, DAY).values()} == {"2"}
    done = lake.write(FUNNEL_DAILY, DAY, {SHOPS[0]: [row(SHOPS[0])]}, {})
    assert (done.changed, done.removed) == (1, 2)
    assert lake.shops(FUNNEL_DAILY, DAY) == [SHOPS[0]]
    assert lake.read(FUNNEL_DAILY, DAY, SHOPS[1]) == []


def test_a_file_that_differs_from_its_record_is_refused(lake: Lake) -> None:
    lake.write(FUNNEL_DAILY, DAY, {SHOPS[0]: [row(SHOPS[0])]}, {})
    (path,) = lake.fs.glob(f"{lake.path('funnel_daily')}/*/*/*/part.parquet")
    lake.put(path, b"other")
    with pytest.raises(LakeError, match="materialize funnel_daily of 2026-01-12 again"):
        lake.read(FUNNEL_DAILY, DAY, SHOPS[0])


def test_a_crash_between_files_leaves_whole_files_and_the_days_old_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(str(tmp_path))
    lake.write(FUNNEL_DAILY, DAY, {shop: [row(shop)] for shop in SHOPS}, dict.fromkeys(SHOPS, "1"))
    put = lake.put
    written: list[str] = []

    def crash(path: str, content: bytes) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        put(path, content)

    monkeypatch.setattr(lake, "put", crash)
    with pytest.raises(KeyboardInterrupt):
        lake.write(FUNNEL_DAILY, DAY, {shop: [row(shop, visits=9)] for shop in SHOPS}, dict.fromkeys(SHOPS, "2"))
    assert {made.sources for made in lake.made(FUNNEL_DAILY, DAY).values()} == {"1"}
    with open_sql(lake) as sql:
        visits = sql.query("SELECT visits FROM funnel_daily ORDER BY visits").rows()
    assert [each["visits"] for each in visits] == [3, 3, 9]
    assert not list(tmp_path.rglob(".*"))


def test_a_row_without_a_value_that_its_column_needs_is_refused(lake: Lake) -> None:
    with pytest.raises(ValueError, match="funnel_daily: column visits"):
        lake.write(FUNNEL_DAILY, DAY, {SHOPS[0]: [row(SHOPS[0], visits=None)]}, {})


@pytest.mark.parametrize(
    "query",
    [
        "CREATE TABLE x AS SELECT 1",
        "DROP VIEW events",
        "COPY events TO 'x.csv'",
        "EXPLAIN ANALYZE COPY events TO 'x.csv'",
        "ATTACH 'x.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT 1; SELECT 2",
        "",
        "SELECT nothing FROM events",
    ],
)
def test_sql_reads_the_lake_and_nothing_else(lake: Lake, query: str) -> None:
    lake.write(FUNNEL_DAILY, DAY, {SHOPS[0]: [row(SHOPS[0])]}, {})
    with open_sql(lake) as sql:
        with pytest.raises(QueryRefused):
            sql.query(query).rows()
        assert sql.query("SELECT count(*) AS n FROM funnel_daily WHERE shop_id = ?", [SHOPS[0]]).rows() == [{"n": 1}]


def test_every_table_has_an_arrow_schema_and_a_key_of_its_columns() -> None:
    for table in TABLES.values():
        assert set(table.key) <= set(schema_of(table).names), table.name
        # People are of no day.
        assert schema_of(table).names[:2] == ["shop_id", "person_id" if table is PEOPLE else "day"]


def test_a_file_with_the_content_of_another_writer_is_replaced(lake: Lake) -> None:
    rows = {SHOPS[0]: [row(SHOPS[0])]}
    lake.write(FUNNEL_DAILY, DAY, rows, {})
    (path,) = lake.fs.glob(f"{lake.path('funnel_daily')}/*/*/*/part.parquet")
    lake.put(path, b"other")
    assert lake.write(FUNNEL_DAILY, DAY, rows, {}).changed == 1
    assert len(lake.read(FUNNEL_DAILY, DAY, SHOPS[0])) == 1


def test_a_record_of_sources_that_cannot_be_read_is_an_error_and_not_a_day_without_rows(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.write(FUNNEL_DAILY, DAY, {SHOPS[0]: [row(SHOPS[0])]}, {})
    record = tmp_path / FUNNEL_DAILY.path / f"day={DAY}" / "_made.json"
    record.unlink()
    record.mkdir()
    with pytest.raises(OSError, match=r"_made\.json"):
        lake.read_day(FUNNEL_DAILY, DAY)


def test_an_address_is_shown_without_its_password() -> None:
    with pytest.raises(LakeError, match=r"^nothing://host/lake: Protocol not known") as error:
        Lake("nothing://me:hidden@host/lake")
    assert "hidden" not in str(error.value)
