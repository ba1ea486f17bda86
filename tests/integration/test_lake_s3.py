"""The lake in a bucket of a real S3 server, with the ordinary variables for its address and keys."""

from __future__ import annotations

import csv
import io
import itertools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import fsspec
import pytest

from tests.integration.dagster.sensors.spend_ticks import tick
from tests.integration.s3_server import S3, SECRET, forget_clients, s3_server
from truepixel_dagster.answers.tables import AD_SPEND, FUNNEL_DAILY, MARKETING_DAILY
from truepixel_dagster.jobs.import_spend import import_spend
from truepixel_dagster.lake.errors import LakeError, QueryRefused
from truepixel_dagster.lake.files import Lake
from truepixel_dagster.lake.sql import open_sql
from truepixel_dagster.sensors.spend_files import spend_files

PROJECT = Path(__file__).parents[2]
DAY, NEXT, SHOPS = "2026-01-12", "2026-01-13", ("548380009", "a shop/with: é", "007")
SPEND = "Day,Campaign,Cost,Currency code\n2026-01-12,Brand,20.00,EUR\n"
STEPS = {"visits": 3, "product_views": 2, "carts": 1, "checkouts": 1, "orders": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as started:
        yield started


@pytest.fixture
def bucket(server: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a new bucket."""
    yield from used(server, monkeypatch)


def used(server: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    name = f"b{uuid4().hex[:12]}"
    monkeypatch.setenv("TRUEPIXEL_LAKE_URL", f"s3://{name}/truepixel")
    forget_clients()
    fsspec.filesystem("s3").call_s3("create_bucket", Bucket=name)
    yield name
    forget_clients()


@pytest.fixture
def lake(bucket: str) -> Lake:
    return Lake(f"s3://{bucket}/truepixel")


def steps(shop: str, day: str = DAY, channel: str = "direct", **fields: Any) -> dict[str, Any]:
    return {"shop_id": shop, "day": date.fromisoformat(day), "channel": channel, **STEPS, **fields}


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line, with one try of a request where the server may be away."""
    return subprocess.run(
        [sys.executable, "-m", "truepixel_dagster.cli", *arguments],
        env={**os.environ, "TRUEPIXEL_DATA_DIR": str(folder), "AWS_MAX_ATTEMPTS": "1", **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def queried(folder: Path, query: str) -> list[list[str]]:
    done = run(folder, "sql", "--csv", query)
    assert done.returncode == 0, done.stderr
    return list(csv.reader(io.StringIO(done.stdout)))


def test_the_bucket_has_the_same_files_as_a_disk_and_only_those_of_the_newest_write(
    lake: Lake, server: S3, bucket: str, tmp_path: Path
) -> None:
    local = Lake(str(tmp_path))
    for each in (lake, local):
        for day in (DAY, NEXT):
            shops = {shop: [steps(shop, day, "email"), steps(shop, day)] for shop in SHOPS}
            assert each.write(FUNNEL_DAILY, day, shops, dict.fromkeys(SHOPS, "1")).changed == 3
            assert each.write(FUNNEL_DAILY, day, shops, dict.fromkeys(SHOPS, "1")).changed == 0
        less = {SHOPS[1]: [steps(SHOPS[1], visits=9)]}
        assert (done := each.write(FUNNEL_DAILY, DAY, less, dict.fromkeys(SHOPS[:2], "2"))).changed == 1
        assert done.removed == 2
        assert each.days(FUNNEL_DAILY) == [DAY, NEXT]
        assert each.shops(FUNNEL_DAILY, DAY) == [SHOPS[1]]
        assert {shop: made.sources for shop, made in each.made(FUNNEL_DAILY, DAY).items()} == dict.fromkeys(
            SHOPS[:2], "2"
        )
        assert [row["visits"] for row in each.read(FUNNEL_DAILY, DAY, SHOPS[1])] == [9]
        assert each.read(FUNNEL_DAILY, DAY, SHOPS[0]) == []
        assert each.read_day(FUNNEL_DAILY, NEXT).num_rows == 6
        assert each.has_files(FUNNEL_DAILY, SHOPS[2])
        assert not each.has_files(FUNNEL_DAILY, "nobody")
    assert contents(server.data / bucket / "truepixel") == contents(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_reader_sees_the_old_or_the_new_file_while_it_is_replaced(lake: Lake) -> None:
    def write(visits: int) -> None:
        rows = [steps(SHOPS[0], DAY, f"channel {number}", visits=visits) for number in range(5000)]
        lake.write(FUNNEL_DAILY, DAY, {SHOPS[0]: rows}, {SHOPS[0]: str(visits)})

    def write_on() -> None:
        for visits in itertools.count(1):
            if stop.is_set():
                return
            write(visits)

    stop, seen = threading.Event(), set()
    write(0)
    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        for _ in range(200):
            with open_sql(lake, SHOPS[0]) as sql:
                ((rows, low, high),) = sql.query("SELECT count(*), min(visits), max(visits) FROM funnel_daily")
            assert rows == 5000
            assert low == high
            seen.add(low)
            if len(seen) > 3:
                break
    finally:
        stop.set()
        writer.join()
    assert len(seen) > 3


def test_a_query_of_one_day_and_shop_reads_no_other_file(lake: Lake) -> None:
    days = [f"2026-01-{number}" for number in range(10, 15)]
    for day in days:
        lake.write(FUNNEL_DAILY, day, {shop: [steps(shop, day)] for shop in SHOPS}, {})
    kept = f"day={days[2]}/shop_id={SHOPS[0]}"
    # DuckDB takes the columns from the first file.
    first = f"day={days[0]}/shop_id={SHOPS[2]}"
    for path in lake.paths(FUNNEL_DAILY):
        if not path.endswith((f"{kept}/part.parquet", f"{first}/part.parquet")):
            lake.put(path, b"broken")
    with open_sql(lake) as sql:
        found = sql.query("SELECT sum(visits) FROM funnel_daily WHERE day = ? AND shop_id = ?", [days[2], SHOPS[0]])
        assert list(found) == [(3,)]
        with pytest.raises(QueryRefused):
            sql.query("SELECT sum(visits) FROM funnel_daily").rows()
    with open_sql(lake, SHOPS[2]) as sql, pytest.raises(QueryRefused):
        sql.query("SELECT sum(visits) FROM funnel_daily").rows()


@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_the_program_in_the_docs_for_a_cluster_answers_what_its_sql_does(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    if where == "disk":
        monkeypatch.setenv("TRUEPIXEL_LAKE_URL", str(tmp_path / "lake"))
    else:
        request.getfixturevalue("bucket")
    lake, numbers = Lake(os.environ["TRUEPIXEL_LAKE_URL"]), itertools.count(2**55)  # more than a float can hold
    for day in (DAY, NEXT):
        rows = {shop: [marketing(shop, day, next(numbers), *each) for each in PARTS] for shop in SHOPS}
        lake.write(MARKETING_DAILY, day, rows, {})
    text = (PROJECT / "docs" / "tables.md").read_text().partition("### A cluster")[2]
    (program,), (query, *_) = (re.findall(f"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("python", "sql"))
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = list(csv.reader(io.StringIO(done.stdout)))
    assert answer == queried(tmp_path, query)
    assert len(answer) == 1 + len([model for model, *_ in PARTS if model == "last_click"])


PARTS = [
    ("last_click", "email", "EUR"),
    ("last_click", "email", "USD"),
    ("last_click", "direct", "USD"),
    ("linear", "email", "USD"),
]


def marketing(shop: str, day: str, net: int, model: str, channel: str, currency: str) -> dict[str, Any]:
    names = {"shop_id": shop, "model": model, "channel": channel, "platform": "", "campaign": "", "currency": currency}
    none = {each.name: None if each.optional else 0 for each in MARKETING_DAILY.columns}
    return {**none, **names, "day": date.fromisoformat(day), "net": net}


def test_a_file_that_was_removed_since_it_was_listed_is_named(lake: Lake) -> None:
    for day in (DAY, NEXT):
        lake.write(FUNNEL_DAILY, day, {shop: [steps(shop, day)] for shop in SHOPS}, {})
    with open_sql(lake) as sql:
        lake.write(FUNNEL_DAILY, NEXT, {}, {})
        with pytest.raises(LakeError, match=f"day={NEXT}/shop_id=.*/part.parquet was removed meanwhile"):
            sql.query("SELECT sum(visits) FROM funnel_daily").rows()
        with pytest.raises(QueryRefused, match="nothing"):
            sql.query("SELECT nothing FROM funnel_daily")


def test_the_command_line_imports_from_the_bucket_and_queries_it(lake: Lake, bucket: str, tmp_path: Path) -> None:
    assert lake.days(AD_SPEND) == []
    lake.fs.pipe_file(f"{bucket}/exports/google.csv", SPEND.encode())
    done = run(tmp_path, "spend", "import", f"s3://{bucket}/exports/google.csv", "--shop", "7")
    assert done.returncode == 0, done.stderr
    # A write of another process is visible at once.
    assert lake.days(AD_SPEND) == [DAY]
    assert [row["amount"] for row in lake.read(AD_SPEND, DAY, "7")] == [2000]
    lake.write(FUNNEL_DAILY, DAY, {shop: [steps(shop)] for shop in SHOPS}, {})
    assert queried(tmp_path, "SELECT shop_id, day, visits FROM funnel_daily ORDER BY shop_id") == [
        ["shop_id", "day", "visits"],
        *([shop, DAY, "3"] for shop in sorted(SHOPS)),
    ]
    assert queried(tmp_path, "SELECT amount, currency FROM ad_spend") == [["amount", "currency"], ["2000", "EUR"]]
    done = run(tmp_path, "sql", f"SELECT * FROM read_csv('s3://{bucket}/exports/google.csv')")
    assert done.returncode == 1
    assert "Permission Error" in done.stderr


def test_new_and_replaced_files_of_a_watched_bucket_are_imported(
    lake: Lake, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUEPIXEL_SPEND_URL", f"s3://{bucket}/spend")
    asked, cursor = tick(None)
    assert asked == []
    for amount, expected in (("20.00", 2000), ("5000.00", 500000)):
        lake.fs.pipe_file(f"{bucket}/spend/7/google.csv", SPEND.replace("20.00", amount).encode())
        (request,), cursor = tick(cursor)
        import_spend.execute_in_process(run_config=request.run_config)
        assert [row["amount"] for row in lake.read(AD_SPEND, DAY, "7")] == [expected]
        assert tick(cursor)[0] == []
    monkeypatch.setenv("TRUEPIXEL_SPEND_URL", "s3://no-such-bucket/spend")
    skipped = spend_files(dg.build_sensor_context(cursor=cursor))
    assert isinstance(skipped, dg.SkipReason)
    assert "the bucket of s3://no-such-bucket/spend does not exist" in str(skipped.skip_message)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"TRUEPIXEL_LAKE_URL": "s3://no-such-bucket/truepixel"}, "does not exist: create it, or correct the address"),
        ({"AWS_SECRET_ACCESS_KEY": "canary-wrong-4711"}, "(signature|Forbidden).* Check its endpoint, its credentials"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "Forbidden. Check its endpoint, its credentials"),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, "Could not connect .* Check its endpoint, its credentials"),
    ],
    ids=["no bucket", "wrong secret", "unknown key", "no server"],
)
def test_a_bucket_that_cannot_be_used_is_one_line_with_the_next_step(
    bucket: str, tmp_path: Path, variables: dict[str, str], reason: str
) -> None:
    done = run(tmp_path, "sql", "SELECT 1", **variables)
    assert_one_line(done, reason)
    file = variables.get("TRUEPIXEL_LAKE_URL", f"s3://{bucket}/truepixel") + "/spend.csv"
    done = run(tmp_path, "spend", "import", file, **variables)
    assert_one_line(done, reason)
    assert file in done.stderr


def test_a_file_that_is_not_in_the_bucket_is_named(bucket: str, tmp_path: Path) -> None:
    done = run(tmp_path, "spend", "import", f"s3://{bucket}/spend.csv")
    assert_one_line(done, f"s3://{bucket}/spend.csv does not exist")


def assert_one_line(done: subprocess.CompletedProcess[str], reason: str) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert re.search(reason, done.stderr), done.stderr
    assert "canary" not in done.stderr


def test_an_unreachable_server_is_an_error_and_not_an_empty_lake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with s3_server(tmp_path / "s3") as server:
        for bucket in used(server, monkeypatch):
            lake = Lake(f"s3://{bucket}/truepixel")
            lake.write(FUNNEL_DAILY, DAY, {shop: [steps(shop)] for shop in SHOPS}, dict.fromkeys(SHOPS, "1"))
            with open_sql(lake) as sql:
                server.stop()
                with pytest.raises(LakeError, match="cannot be used: Could not connect") as error:
                    sql.query("SELECT sum(visits) FROM funnel_daily").rows()
            assert SECRET not in str(error.value)
            for ask in (lake.days, lake.has_files):
                with pytest.raises(LakeError):
                    ask(FUNNEL_DAILY)
            with pytest.raises(LakeError):
                lake.read_day(FUNNEL_DAILY, DAY)
            server.start()
            assert lake.read_day(FUNNEL_DAILY, DAY).num_rows == 3
