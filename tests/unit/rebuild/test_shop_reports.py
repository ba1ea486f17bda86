"""Which of the shops' reports a run shows."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from tests.unit.report.reports import money, report_of
from truepixel_dagster.rebuild.shop_reports import largest
from truepixel_dagster.report.answers import ReportData


class Summary(dict[str, Any]):
    """A summary that a weak reference can watch."""


def test_of_many_shops_only_the_largest_stay_in_memory() -> None:
    alive: list[weakref.ref[Summary]] = []

    def pages() -> Iterator[ReportData]:
        for number in range(50):
            assert sum(each() is not None for each in alive) <= 4
            summary = Summary(money(1000, orders=str(number % 10)))
            alive.append(weakref.ref(summary))
            yield report_of(shop=f"{number:02}", summary=summary)
            del summary

    count, found = largest(pages(), 3)
    assert count == 50
    assert [each.shop for each in found] == ["09", "19", "29"]
    assert largest([], 3) == (0, [])
