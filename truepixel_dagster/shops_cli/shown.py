"""Show a shop: its values, who set them, and its connection."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from truepixel_dagster.events.event import iso
from truepixel_dagster.settings import load_settings
from truepixel_dagster.terminal import echo, out, print_json, table

if TYPE_CHECKING:
    from truepixel_dagster.stores.connections import Connection, Secret
    from truepixel_dagster.stores.mongodb import MongoStore
    from truepixel_dagster.stores.shops import Known

OPERATOR, WEBHOOK = "operator", "webhook"


def known_of(store: MongoStore, shop: str) -> Known:
    """Return the known values of a shop.

    Raises:
        Unreadable: Its document cannot be read.
        Unavailable: MongoDB does not answer.
    """
    from truepixel_dagster.stores.mongodb import SHOPS
    from truepixel_dagster.stores.shops import KNOWN

    return KNOWN.read(shop, store.read(SHOPS, [shop]).get(shop, {}))


def as_row(id_: str, known: Known, connection: Connection | None = None) -> dict[str, Any]:
    """Return a shop for JSON output, without secrets."""
    shop = known.shop
    row = {
        "shop": id_,
        "time_zone": shop.time_zone,
        "currency": shop.currency,
        "domains": sorted(shop.domains),
        "aliases": dict(sorted(shop.aliases.items())),
        "payment_hosts": sorted(shop.payment_hosts),
        "set_by": _set_by(known),
        "time_zone_since": None if known.since is None else iso(known.since),
    }
    return row if connection is None else {**row, "connection": _as_row(connection)}


def _as_row(connection: Connection) -> dict[str, Any]:
    now = int(time.time() * 1000)
    return {
        "domain": connection.domain,
        "pixel_token": connection.pixel_token,
        "older_tokens": [
            {"token": older.token, "until": iso(older.until)} for older in connection.older_tokens if older.until > now
        ],
        "connected_at": iso(connection.connected_at),
        "uninstalled_at": None if connection.uninstalled_at is None else iso(connection.uninstalled_at),
        "secrets": [_secret(secret) for secret in connection.secrets if secret.counts(now)],
    }


def _secret(secret: Secret) -> dict[str, Any]:
    return {
        "id": secret.id,
        "kept": "encrypted" if secret.file is None else f"file {secret.file}",
        "added_at": iso(secret.added_at),
        "until": None if secret.until is None else iso(secret.until),
    }


def _set_by(known: Known) -> dict[str, list[str]]:
    """Return who set each field: the operator, or a webhook by its event id and time."""
    found: dict[str, list[str]] = {}
    for name in ("time_zone", "currency", "domains", "aliases", "payment_hosts"):
        by_operator, word = getattr(known.operator, name), getattr(known.webhook, name, None)
        if by_operator:
            found[name] = [OPERATOR]
        if word and (not by_operator or name == "domains"):
            found.setdefault(name, []).append(f"{WEBHOOK} {word.event_id} of {iso(word.at)}")
    return found


def show_shop(store: MongoStore, shop: str, as_json: bool) -> None:
    """Print a shop.

    Raises:
        Unreadable: One of its documents cannot be read.
        Unavailable: MongoDB does not answer.
    """
    from truepixel_dagster.stores import connections

    row = as_row(shop, known_of(store, shop), connections.read(store, shop))
    if as_json:
        return print_json(row)
    by = {name: ", ".join(who) for name, who in row["set_by"].items()}
    values = {
        "time_zone": row["time_zone"] or "unknown: days are UTC",
        "currency": row["currency"],
        "domains": ", ".join(row["domains"]),
        "aliases": ", ".join(f"{source} = {platform}" for source, platform in row["aliases"].items()),
        "payment_hosts": ", ".join(row["payment_hosts"]),
    }
    rows = [(name.replace("_", " "), value, by.get(name)) for name, value in values.items()]
    out.print(table(("shop", shop, "set by"), rows))
    if row["time_zone_since"]:
        echo(f"this time zone applies since {row['time_zone_since']}")
    _show_connection(row.get("connection"))
    return None


def _show_connection(row: dict[str, Any] | None) -> None:
    if row is None:
        return
    since = f"uninstalled {row['uninstalled_at']}" if row["uninstalled_at"] else f"since {row['connected_at']}"
    echo(f"connected as {row['domain']}, {since}")
    echo(f"pixel token {row['pixel_token']}")
    for older in row["older_tokens"]:
        echo(f"older pixel token {older['token']}, valid until {older['until']}")
    for secret in row["secrets"]:
        until = f", valid until {secret['until']}" if secret["until"] else ""
        echo(f"secret {secret['id']}, {secret['kept']}, added {secret['added_at']}{until}")


@contextmanager
def registry() -> Iterator[MongoStore]:
    """Open MongoDB; report an unreadable document in one line."""
    from truepixel_dagster.resources import open_stores
    from truepixel_dagster.stores.documents import Unreadable

    try:
        with open_stores(load_settings().quick_to_give_up()) as stores:
            yield stores.mongodb
    except Unreadable as error:
        raise click.ClickException(
            f"{error}. Delete it: `truepixel shops unset SHOP --all`, or for a connection `truepixel shops remove SHOP`"
        ) from error
