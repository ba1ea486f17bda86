"""Validate the arguments of `truepixel shops …`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

import click

from truepixel_dagster.events.shop import currency_of, host_of
from truepixel_dagster.events.shop_time import is_time_zone, time_zones
from truepixel_dagster.events.user_key import parse_user_key

_MAX_SOURCE = 100
_PLATFORM = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def shop(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """Return a valid shop id.

    Raises:
        click.BadParameter: The value is not one.
    """
    try:
        shop, _ = parse_user_key(f"{value}:x".encode())
    except ValueError:
        shop = ""
    if not value or shop != value:
        raise click.BadParameter(f"{value[:80]!r} is not a shop id: use at most 128 bytes, without a colon")
    return shop


def time_zone(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Return a valid name of a time zone.

    Raises:
        click.BadParameter: The value is not one.
    """
    if value is None or is_time_zone(value):
        return value
    near = nearest(value)
    advice = f"; did you mean {', '.join(near)}?" if near else ", such as America/New_York"
    raise click.BadParameter(f"{value[:80]!r} is not an IANA time zone{advice}")


def currency(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Return a valid currency code.

    Raises:
        click.BadParameter: The value is not one.
    """
    found = currency_of(value)
    if value is not None and found is None:
        raise click.BadParameter(f"{value[:80]!r} is not an ISO 4217 code, such as USD")
    return found


def hosts(_context: click.Context, _option: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    """Return hosts as browsers write them.

    Raises:
        click.BadParameter: A value is not a host.
    """
    for value in values:
        if host_of(value) is None:
            raise click.BadParameter(f"{value[:80]!r} is not a host name, such as shop.example.com")
    return tuple(dict.fromkeys(host for value in values if (host := host_of(value))))


def aliases(_context: click.Context, _option: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """Return platforms by their alias.

    Raises:
        click.BadParameter: A value is not an alias.
    """
    found: dict[str, str] = {}
    for value in values:
        source, _, platform = (part.strip().lower() for part in value.rpartition("="))
        if not _is_source(source) or not _PLATFORM.fullmatch(platform):
            raise click.BadParameter(f"{value[:80]!r} is not SOURCE=PLATFORM, such as fb2=facebook")
        found[source] = platform
    return found


def sources(_context: click.Context, _option: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    """Return names of platforms."""
    return tuple(value.strip().lower() for value in values)


def _is_source(text: str) -> bool:
    return 0 < len(text) <= _MAX_SOURCE and text.isprintable()


def nearest(name: str) -> list[str]:
    """Return up to three time zones whose names or cities are most similar to a text."""
    names: dict[str, str] = {}
    for zone in sorted(time_zones(), reverse=True):
        names[zone.lower()] = names[zone.lower().rpartition("/")[2]] = zone
    wanted = name.strip().lower().replace(" ", "_")
    found = difflib.get_close_matches(wanted, names, n=5, cutoff=0.7)
    return list(dict.fromkeys(names[each] for each in found))[:3]
