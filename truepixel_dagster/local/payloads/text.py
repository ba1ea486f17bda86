"""Shopify's formats of amounts (given in minor units) and of times (given in milliseconds since the epoch)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
DECIMALS = {"JPY": 0, "KRW": 0, "KWD": 3}


def number(units: int, currency: str) -> int | float:
    """Return minor units as the JSON number that JavaScript would write: 1999 USD is 19.99, 2000 USD is 20."""
    scale: int = 10 ** DECIMALS.get(currency, 2)
    return units / scale if units % scale else units // scale


def decimal(units: int, currency: str) -> str:
    """Return minor units as a decimal string: 1999 USD is "19.99", -5 USD is "-0.05", 1999 JPY is "1999"."""
    decimals = DECIMALS.get(currency, 2)
    if not decimals:
        return str(units)
    if units < 0:
        return "-" + decimal(-units, currency)
    whole, part = divmod(units, 10**decimals)
    return f"{whole}.{part:0{decimals}d}"


def amount(units: int, currency: str) -> dict[str, Any]:
    """Return an amount as in pixel events."""
    return {"amount": number(units, currency), "currencyCode": currency}


def iso_utc(millis: int) -> str:
    """Return a time as `2026-01-05T09:30:00.000Z`."""
    return (EPOCH + timedelta(milliseconds=millis)).isoformat(timespec="milliseconds")[:-6] + "Z"


def iso_local(millis: int, offset: int) -> str:
    """Return a time with an offset from UTC in minutes, as `2026-01-05T04:30:00-05:00`."""
    clock = timezone(timedelta(minutes=offset))
    return (EPOCH + timedelta(milliseconds=millis)).astimezone(clock).isoformat(timespec="seconds")
