"""Decide when an event happened, and by which clock.

    >>> from truepixel_dagster.events.times import when
    >>> arrival = 1_767_607_201_000  # 2026-01-05T10:00:01Z
    >>> when("2026-01-05T10:00:00Z", received="", timestamp=arrival, pixel=True)
    When(occurred_at=1767607200000, received_at=1767607201000, client_at=None)
    >>> when("1970-01-01T00:04:10Z", received="", timestamp=arrival, pixel=True).client_at
    '1970-01-01T00:04:10Z'

A browser's clock may be wrong, and an event creates a document in the index of its month, a day of product statistics
and a week of visitors. So an implausible time is replaced by the time of arrival, and the original is kept.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import NamedTuple

import msgspec

from truepixel_dagster.events.event import DAY, EPOCH

MINUTE = 60_000
# The plausible times of events and arrivals: the years 2015 to 2099.
FIRST, LAST = 1_420_070_400_000, 4_102_444_800_000
# How long after its arrival an event may be: a browser's clock may be fast, and a shop may plan an order.
PIXEL_AHEAD, WEBHOOK_AHEAD = 5 * MINUTE, 30 * DAY
# How long before it, if the collector gives the arrival. Webhooks are about orders of any age.
PIXEL_BEHIND = 30 * DAY
# A collector's time of arrival wins over Kafka's, whose clock may be wrong, but not by years.
HEADER_AHEAD = 366 * DAY
_FAR = 10**18
# JavaScript writes years beyond 9999 and before 0 with a sign and six digits.
_EXPANDED_YEAR = re.compile(r"[+-][0-9]{6}-[0-9]{2}-[0-9]{2}T[0-9:.]{5,12}Z")
_BEYOND_MICROSECONDS = re.compile(r"(\.[0-9]{6})[0-9]+")
_MAX_SHOWN = 64


class When(NamedTuple):
    """Hold times in milliseconds since the epoch; `client_at` is the payload's own as written, if it was replaced."""

    occurred_at: int
    received_at: int
    client_at: str | None = None


def when(claimed: str | None, *, received: str, timestamp: int, pixel: bool) -> When:
    """Return when an event happened and when it arrived.

    Arguments:
        claimed: The payload's time as written; None if it has none.
        received: The header `received_at`; an invalid time counts as missing.
        timestamp: The record's own time, in milliseconds since the epoch.
        pixel: Whether a browser's clock wrote `claimed`; otherwise Shopify's.

    Raises:
        ValueError: The payload's time is invalid, or there is no plausible time.
    """
    by_record = timestamp if FIRST <= timestamp < LAST else None
    by_header = _header_time(received, (by_record or LAST) + HEADER_AHEAD)
    arrived = by_record if by_header is None else by_header
    millis = None if claimed is None else instant(claimed)
    if arrived is None:
        if millis is None or not FIRST <= millis < LAST:
            raise ValueError(
                "no time: neither payload, header received_at nor record has one of the years 2015 to 2099"
            )
        return When(millis, millis)
    if millis is None:
        return When(arrived, arrived)
    ahead = PIXEL_AHEAD if pixel else WEBHOOK_AHEAD
    is_old = pixel and by_header is not None and millis < arrived - PIXEL_BEHIND
    if is_old or not FIRST <= millis <= arrived + ahead:
        return When(arrived, arrived, (claimed or "")[:_MAX_SHOWN])
    return When(millis, arrived)


def to_millis(text: str) -> int:
    """Return an ISO 8601 time as milliseconds since the epoch, rounded down; without an offset it is UTC.

    Raises:
        ValueError: The text is not a time.
    """
    moment = _written_by_javascript(text) or _other(text)
    since = moment - EPOCH
    # Dividing a timedelta takes as long as all the rest.
    return since.days * DAY + since.seconds * 1000 + since.microseconds // 1000


def _written_by_javascript(text: str) -> datetime | None:
    """Parse a time such as `2026-01-05T10:00:00.000Z`, the form of nearly all times; None for any other."""
    # The standard library takes a quarter of msgspec's time, but it also accepts forms that are invalid here.
    if len(text) == 24 and text[4:20:3] == "--T::." and text[23] == "Z":
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            return None
    return None


def _other(text: str) -> datetime:
    try:
        # A number would be read as seconds; no date begins with so few digits.
        moment = msgspec.convert(text if len(text) <= 26 else _cut(text), datetime) if text[4:5] == "-" else None
    except msgspec.ValidationError:
        moment = None
    if moment is None:
        raise ValueError(f"time {text[:40]!r} is not ISO 8601")
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _cut(text: str) -> str:
    """Remove the digits beyond microseconds, which would be rounded up."""
    return _BEYOND_MICROSECONDS.sub(r"\1", text)


def instant(claimed: str) -> int:
    """Return a payload's time in milliseconds since the epoch; a year of six digits is long ago or far ahead.

    Raises:
        ValueError: The text is not a time.
    """
    if claimed.startswith(("+", "-")) and _EXPANDED_YEAR.fullmatch(claimed):
        return _FAR if claimed[0] == "+" else -_FAR
    return to_millis(claimed)


def _header_time(header: str, latest: int) -> int | None:
    if not header:
        return None
    try:
        millis = int(header) if header.isascii() and header.isdigit() else to_millis(header)
    except ValueError:
        return None
    return millis if FIRST <= millis < LAST and millis <= latest else None
