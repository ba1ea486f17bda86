"""`truepixel privacy …`: parse arguments and print."""

from __future__ import annotations

import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from truepixel_dagster.events.privacy_request import CUSTOMER_REDACT, DATA_REQUEST, SHOP_REDACT, PrivacyRequest
from truepixel_dagster.settings import load_settings
from truepixel_dagster.terminal import echo, print_json, say
from truepixel_dagster.text import printable

if TYPE_CHECKING:
    from truepixel_dagster.privacy.person import Person
    from truepixel_dagster.privacy.requests import Outcome
    from truepixel_dagster.rebuild.context import RebuildContext

of_shop = click.option("--shop", required=True, help="The shop id.")
of_client = click.option("--client", help="A browser: the client id of the pixel, with its orders.")
of_customer = click.option("--customer", help="A customer id, with its addresses, clients and orders.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def privacy() -> None:
    """Export or redact all data of a person or a shop.

    The job `privacy` answers Shopify's webhooks customers/data_request, customers/redact and shop/redact within
    minutes.
    """


@privacy.command()
@of_shop
@of_client
@of_customer
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file that only you may read."
)
def export(shop: str, client: str | None, customer: str | None, output: Path | None) -> None:
    """Export all data of a person as JSON lines, each with its store; without a person, of the whole shop."""
    from truepixel_dagster.privacy.export import held, line, write
    from truepixel_dagster.reachable import check_servers
    from truepixel_dagster.rebuild.context import rebuilding

    settings = load_settings()
    check_servers(settings)
    with rebuilding(settings) as context:
        everything = held(context, shop, _person(context, shop, client, customer))
        if output:
            for store, count in write(output, everything).items():
                say(f"{store}: {count:,}")
            return
        for item in everything:
            click.echo(line(item))  # JSON in which nothing is unprintable


@privacy.command()
@of_shop
@of_client
@of_customer
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only count the documents.")
@as_json
def redact(shop: str, client: str | None, customer: str | None, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Redact a person in every store, dead letter and buffer, then search for remaining data; without a person, redact
    the whole shop. This cannot be undone, not even by a replay.

    Counts, revenue and credits stay correct: a person's events and orders are anonymised. A shop's data is deleted.
    Safe while the stream runs; after an interruption, run the same command again.
    """
    from truepixel_dagster.privacy.export import held
    from truepixel_dagster.privacy.requests import LeftOver, run
    from truepixel_dagster.reachable import check_servers
    from truepixel_dagster.rebuild.context import rebuilding
    from truepixel_dagster.resources import open_stores
    from truepixel_dagster.stores import privacy_requests

    settings = load_settings()
    check_servers(settings)
    if dry_run:
        with rebuilding(settings) as context:
            person = _person(context, shop, client, customer)
            counts = Counter(item.store for item in held(context, shop, person))
        return _print({"documents": dict(counts)}, as_json)
    whom = f"client {client!r} of shop {shop}" if client else f"customer {customer!r} of shop {shop}"
    if not (client or customer):
        whom = f"the whole shop {shop}"
    if not yes:
        click.confirm(printable(f"Redact {whom}? This cannot be undone."), abort=True, err=True)
    topic = CUSTOMER_REDACT if client or customer else SHOP_REDACT
    request = PrivacyRequest(topic, shop, customer_id=customer, client_id=client)
    with open_stores(settings) as stores:
        privacy_requests.keep(stores.mongodb, {f"cli/{uuid.uuid4()}": request})
    try:
        outcomes = list(run(settings, say, shop))
    except LeftOver as error:
        raise click.ClickException(str(error)) from error
    return _print({"requests": msgspec.to_builtins(outcomes)}, as_json, outcomes)


@privacy.command(name="run")
@as_json
def run_all(as_json: bool) -> None:
    """Process the waiting requests, as the job `privacy` does every few minutes."""
    from truepixel_dagster.privacy.requests import LeftOver, run
    from truepixel_dagster.reachable import check_servers

    settings = load_settings()
    check_servers(settings)
    try:
        outcomes = list(run(settings, say))
    except LeftOver as error:
        raise click.ClickException(str(error)) from error
    _print({"requests": msgspec.to_builtins(outcomes)}, as_json, outcomes)


@privacy.command(name="requests")
@as_json
def list_requests(as_json: bool) -> None:
    """List the requests, waiting or done, without the persons' data."""
    from truepixel_dagster.resources import open_stores
    from truepixel_dagster.stores.mongodb import PRIVACY_REQUESTS

    with open_stores(load_settings().quick_to_give_up()) as stores:
        documents = list(stores.mongodb.find(PRIVACY_REQUESTS, {}))
    rows = [
        {
            "id": document["_id"],
            "topic": document.get("topic"),
            "state": document.get("state"),
            "asked": _time(document.get("asked_at")),
            "done": _time(document.get("done_at")),
            "file": document.get("file"),
        }
        for document in sorted(documents, key=lambda document: str(_time(document.get("asked_at"))))
    ]
    if as_json:
        return print_json(rows)
    for row in rows:
        echo("  ".join(str(value) for value in row.values() if value))
    return None


def _time(value: object) -> str | None:
    """Return a time in milliseconds as text; any other value as its text."""
    from truepixel_dagster.events.event import iso

    return iso(int(value)) if isinstance(value, (int, float)) else value and str(value)  # type: ignore[return-value]


def _person(context: RebuildContext, shop: str, client: str | None, customer: str | None) -> Person | None:
    from truepixel_dagster.privacy.person import asked_for, find

    if client and customer:
        raise click.UsageError("--client excludes --customer: give either")
    if not (client or customer):
        return None
    return find(context, shop, asked_for(PrivacyRequest(DATA_REQUEST, shop, customer_id=customer, client_id=client)))


def _print(value: object, as_json: bool, outcomes: list[Outcome] | None = None) -> None:
    if as_json:
        return print_json(value)
    if outcomes is None:
        assert isinstance(value, dict)  # noqa: S101 (of a dry run)
        for store, count in value["documents"].items():
            echo(f"{store}: {count:,}")
        return None
    for outcome in outcomes:
        echo(f"{outcome.topic} ({outcome.id})")
        for store, count in outcome.documents.items():
            echo(f"  {store}: {count:,} {'written' if outcome.file else 'redacted'}")
        for place, searched in outcome.searched.items():
            echo(f"  searched {place}: {searched.looked_at:,} documents, {searched.found} found")
        if outcome.file:
            echo(f"  in {outcome.file}")
    if any(place.found for outcome in outcomes for place in outcome.searched.values()):
        sys.exit(1)
    return None
