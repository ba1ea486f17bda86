"""Commands print any text of the stores and Kafka, and unexpected errors, without control characters."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import click
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from tests.examples import examples
from tests.unit.test_text import HOSTILE, visible
from truepixel_dagster import reachable, resources
from truepixel_dagster.cli import main
from truepixel_dagster.dead_letters import inspect
from truepixel_dagster.dead_letters.topic import Letter
from truepixel_dagster.events.event import Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.instance.operator_error import OperatorError
from truepixel_dagster.report import reading
from truepixel_dagster.report.figures import Row, Total
from truepixel_dagster.report.reading import Product, ShopReport
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.terminal import print_crash, table
from truepixel_dagster.text import printable

# Without lone surrogates: these are no text, and a terminal refuses to print them.
TEXT = HOSTILE.map(lambda text: text.encode("utf-8", "replace").decode())

# Above and below the names of the columns, and below the rows, is a line each.
LINES_OF_THREE_ROWS = 7


@contextmanager
def stores_of(_settings: Any) -> Iterator[Any]:
    yield SimpleNamespace(elasticsearch=None)


@contextmanager
def reporting(**outcome: Any) -> Iterator[None]:
    """The command `report` has this outcome, and needs no server."""
    reported = patch.object(reading, "shop_report", **outcome)
    with reported, patch.object(resources, "open_stores", stores_of), patch.object(reachable, "check_stores"):
        yield


def command(*arguments: str) -> Result:
    done = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    assert visible(done.output.replace("\n", "")), ascii(done.output)
    return done


@examples(40)
@given(TEXT, TEXT, TEXT, TEXT)
def test_any_report_is_printed_safely(shop: str, platform: str, campaign: str, product: str) -> None:
    found = ShopReport(
        shop=shop,
        model="last_click",
        by="campaign",
        period="",
        week="2026-W01",
        visitors=1,
        orders=1,
        test_orders=1,
        sources=[Row(None, platform, campaign, product, 100, 0, 100, 1, 1, 0)],
        totals=[Total(product, 100, 0, 100, 1, 1, 0)],
        products=[Product(product, 1, 1, 1, {product: 100})],
        unreadable=1,
        why_unreadable=campaign,
    )
    with reporting(return_value=found):
        command("report", "--shop", "s")
        shown = json.loads(command("report", "--shop", "s", "--json").stdout)
    assert (shown["shop"], shown["sources"][0]["campaign"]) == (shop, campaign)


@examples(40)
@given(TEXT, st.binary(max_size=60), st.lists(st.tuples(TEXT, st.binary(max_size=40)), max_size=2))
def test_any_dead_letter_is_printed_safely(error: str, data: bytes, headers: list[tuple[str, bytes]]) -> None:
    origin = Origin("truepixel.events", 0, 1)
    entry = inspect.Listed(Letter(origin, "decode", error, 0, 0, origin, 1), inspect.WAITING)
    message = Message(origin, data, data, tuple(headers), 0)
    listed = patch.object(inspect, "listed", return_value=[entry])
    found = patch.object(inspect, "find", return_value=(entry, message))
    with listed, found, patch.object(resources, "open_stores", stores_of):
        command("dead-letters", "list")
        assert json.loads(command("dead-letters", "list", "--json").stdout)[0]["error"] == error
        command("dead-letters", "show", "0/1")
        assert json.loads(command("dead-letters", "show", "0/1", "--json").stdout)["error"] == error


def test_a_missing_file_is_named_without_the_number_of_the_error() -> None:
    found = CliRunner().invoke(main, ["spend", "import", "missing.csv"])
    assert found.exit_code == 1
    assert "missing.csv: No such file or directory" in found.output
    assert "Errno" not in found.output


@examples(40)
@given(TEXT)
def test_any_error_is_printed_safely(text: str) -> None:
    for error in (Unavailable(text), OSError(text), click.ClickException(text)):
        with reporting(side_effect=error):
            assert command("report", "--shop", "s").exit_code == 1
    assert visible(str(OperatorError(text)))


@given(HOSTILE)
def test_any_table_is_printed_safely(text: str) -> None:
    made = table((text,), [(text,), (None,), (1,)], title=text)
    output = StringIO()
    Console(file=output, width=4000, force_terminal=False).print(made)
    printed = output.getvalue()
    assert visible(printed.replace("\n", ""))
    assert len(printed.splitlines()) == LINES_OF_THREE_ROWS + bool(text)
    assert [cell.plain for cell in made.columns[0].cells if isinstance(cell, Text)] == [printable(text), "", "1"]
    assert not any(cell.spans for cell in made.columns[0].cells if isinstance(cell, Text))


def test_a_crash_is_printed_with_its_trace_and_no_invisible_character(capsys: Any) -> None:
    try:
        int("\x1b[31mred\u202e\r")
    except ValueError:
        kind, _, trace = sys.exc_info()
    assert kind
    print_crash(kind, ValueError("\x1b[31mred\u202e\r"), trace)
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert r"\x1b[31mred\u202e\r" in said
    assert visible(said.replace("\n", ""))


def test_a_command_leaves_the_umask_as_it_was() -> None:
    before = os.umask(0o022)
    try:
        command("--version")
        command("report", "--help")
        with patch.object(reading, "shop_report", side_effect=Unavailable("away")):
            command("report", "--shop", "s")
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
