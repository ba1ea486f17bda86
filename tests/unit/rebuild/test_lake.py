"""Which day's rows a stream of documents gives, and how many days are in memory."""

from __future__ import annotations

from collections.abc import Iterator

from truepixel_dagster.events.event import DAY
from truepixel_dagster.rebuild.lake import in_days

START = 1_767_225_600_000  # 2026-01-01T00:00:00Z
HOUR = 3_600_000
DAYS = ["2026-01-01", "2026-01-02", "2026-01-05"]


def test_each_day_has_what_is_on_it_and_other_days_are_left_out() -> None:
    placed = [
        (START - 2 * HOUR, "2026-01-01", "far east"),
        (START, "2025-12-31", "of the day before"),
        (START + DAY, "2026-01-02", "second"),
        (START + DAY + 11 * HOUR, "2026-01-01", "far west"),
        (START + 2 * DAY, "2026-01-03", "not wanted"),
        (START + 4 * DAY, "2026-01-05", "last"),
    ]
    assert dict(in_days(DAYS, placed)) == {
        "2026-01-01": ["far east", "far west"],
        "2026-01-02": ["second"],
        "2026-01-05": ["last"],
    }
    assert list(in_days(DAYS, [])) == [(day, []) for day in DAYS]


def test_a_day_is_yielded_as_soon_as_no_shop_is_on_it_any_more() -> None:
    read: list[int] = []

    def placed() -> Iterator[tuple[int, str, int]]:
        for number in range(5):
            read.append(number)
            yield START + number * DAY, f"2026-01-0{number + 1}", number

    found = in_days([f"2026-01-0{number}" for number in range(1, 6)], placed())
    assert [next(found), read] == [("2026-01-01", [0]), [0, 1, 2]]
    assert [next(found), read] == [("2026-01-02", [1]), [0, 1, 2, 3]]
    assert len(list(found)) == 3
