"""Which clock counts, by the data contract's section on clocks."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.events.event import DAY, EPOCH
from truepixel_dagster.events.times import MINUTE, When, to_millis, when

ARRIVED = 1_767_607_200_000  # 2026-01-05T10:00:00Z
HEADER = "2026-01-05T10:00:00.000Z"


def said(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def pixel(claimed: str | None, received: str = "", timestamp: int = ARRIVED) -> When:
    return when(claimed, received=received, timestamp=timestamp, pixel=True)


@pytest.mark.parametrize("received", ["", HEADER, "1767607200000"])
@pytest.mark.parametrize("millis", [ARRIVED, ARRIVED + 5 * MINUTE, ARRIVED - 30 * DAY])
def test_a_clock_that_may_be_right_is_believed(millis: int, received: str) -> None:
    assert pixel(said(millis), received) == When(millis, ARRIVED)


@pytest.mark.parametrize("received", ["", HEADER])
@pytest.mark.parametrize(
    "claimed",
    [
        said(ARRIVED + 5 * MINUTE + 1),
        "2087-03-14T09:26:53.000Z",
        "9999-12-31T23:59:59Z",
        "2014-12-31T23:59:59.999Z",
        "1970-01-01T00:04:10.000Z",
        "0001-01-01T00:00:00+23:00",
        "+275760-09-13T00:00:00.000Z",
        "-271821-04-20T00:00:00.000Z",
    ],
)
def test_a_clock_that_cannot_be_right_is_replaced_and_kept(claimed: str, received: str) -> None:
    assert pixel(claimed, received) == When(ARRIVED, ARRIVED, claimed)


def test_an_old_event_keeps_its_time_only_without_a_header_of_its_arrival() -> None:
    old = said(ARRIVED - 30 * DAY - 1)
    assert pixel(old).occurred_at == ARRIVED - 30 * DAY - 1
    assert pixel(old, HEADER) == When(ARRIVED, ARRIVED, old)
    assert pixel(old, "yesterday").occurred_at == ARRIVED - 30 * DAY - 1


@pytest.mark.parametrize(("days", "believed"), [(-3650, True), (30, True), (31, False)])
def test_a_webhook_may_report_orders_of_any_age_but_not_of_the_far_future(days: int, believed: bool) -> None:
    claimed = said(ARRIVED + days * DAY)
    found = when(claimed, received=HEADER, timestamp=ARRIVED, pixel=False)
    assert found == (When(ARRIVED + days * DAY, ARRIVED) if believed else When(ARRIVED, ARRIVED, claimed))


@pytest.mark.parametrize("timestamp", [-1, 0, 1, ARRIVED * 1000, 978_307_200_000, 2**63 - 1, -(2**63)])
def test_a_record_without_a_valid_time_uses_its_payloads(timestamp: int) -> None:
    assert pixel(said(ARRIVED), timestamp=timestamp) == When(ARRIVED, ARRIVED)
    assert pixel(None, HEADER, timestamp) == When(ARRIVED, ARRIVED)
    for claimed in (None, "1970-01-01T00:00:00Z", "2187-01-01T00:00:00Z"):
        with pytest.raises(ValueError, match="no time"):
            pixel(claimed, timestamp=timestamp)


def test_a_header_is_not_believed_years_ahead_of_the_record() -> None:
    assert pixel(None, said(ARRIVED + 366 * DAY)).received_at == ARRIVED + 366 * DAY
    assert pixel(None, said(ARRIVED + 367 * DAY)).received_at == ARRIVED
    assert pixel(None, "2001-01-01T00:00:00Z").received_at == ARRIVED
    assert pixel(None, "٣" * 13).received_at == ARRIVED


@pytest.mark.parametrize(
    "text", ["", "soon", "-1", "1e3", "1767607200", "1767607200000000", "2026-01-05", "2026-02-30T00:00:00Z"]
)
def test_an_invalid_time_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        to_millis(text)


def test_a_time_is_rounded_down() -> None:
    assert to_millis("2026-01-05T10:00:00.9999999Z") == ARRIVED + 999


def as_msgspec_reads(text: str) -> int | None:
    if text[4:5] != "-":
        return None
    try:
        return (msgspec.convert(text, datetime) - EPOCH) // timedelta(milliseconds=1)
    except msgspec.ValidationError:
        return None


@given(
    st.from_regex(r"\A[0-9]{4}-[0-9W]{2}-[0-9]{2}T[0-9:]{2}:[0-9]{2}:[0-6][0-9]\.[0-9,٣]{3}Z\Z")
    | st.datetimes(timezones=st.just(timezone.utc)).map(lambda t: t.isoformat(timespec="milliseconds")[:23] + "Z")
)
def test_a_time_as_javascript_writes_it_is_read_as_any_other_is(text: str) -> None:
    try:
        millis = to_millis(text)
    except ValueError:
        millis = None
    assert millis == as_msgspec_reads(text)
