"""`truepixel shops …`: parses arguments and prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from truepixel_dagster.shops_cli import options
from truepixel_dagster.shops_cli.options import as_json
from truepixel_dagster.shops_cli.shown import as_row, known_of, registry, show_shop
from truepixel_dagster.terminal import out, print_json, say, table

if TYPE_CHECKING:
    from truepixel_dagster.stores.shops import ByOperator

# The most entries that an operator may set for one shop: every micro-batch with the shop's events reads all of them.
MOST_HOSTS, MOST_ALIASES = 200, 500
_PAST = (
    "new events use this time zone. For earlier events, materialize attributions, product_stats and weekly_visitors of"
    " all days and weeks: see docs/shops.md"
)


@click.group()
def shops() -> None:
    """Manage the shops that send to the collector, and their time zones, currencies, domains and platform names.

    Shopify's webhook shop/update provides these values; values that an operator sets take precedence. Product
    statistics and weekly visitors use the shop's day, which is UTC if the time zone is unknown.
    """


@shops.command(name="list")
@as_json
def list_shops(as_json: bool) -> None:
    """List all known shops."""
    from truepixel_dagster.stores.connections import all_of
    from truepixel_dagster.stores.shops import Known, known

    with registry() as store:
        connected, named = dict(all_of(store)), dict(known(store))
    every = sorted({*connected, *named})
    found = [as_row(id_, named.get(id_, Known()), connected.get(id_)) for id_ in every]
    if as_json:
        return print_json(found)
    if not found:
        return say("no shop is known: all days are UTC")
    columns = ("shop", "connected as", "time zone", "currency", "domains")
    out.print(table(columns, [_cells(row) for row in found]))
    return None


def _cells(row: Mapping[str, Any]) -> list[str | None]:
    connection = row.get("connection")
    domain = connection and f"{connection['domain']}{' (uninstalled)' if connection['uninstalled_at'] else ''}"
    return [row["shop"], domain, row["time_zone"], row["currency"], ", ".join(row["domains"])]


@shops.command()
@click.argument("shop", callback=options.shop)
@as_json
def show(shop: str, as_json: bool) -> None:
    """Show one shop, and who set each value."""
    with registry() as store:
        show_shop(store, shop, as_json)


@shops.command(name="set")
@click.argument("shop", callback=options.shop)
@click.option("--time-zone", callback=options.time_zone, help="IANA name, such as America/New_York.")
@click.option("--currency", callback=options.currency, help="ISO 4217 code.")
@click.option(
    "--domain", "domains", multiple=True, callback=options.hosts, help="A domain of the shop; may be repeated."
)
@click.option(
    "--alias",
    "aliases",
    multiple=True,
    metavar="SOURCE=PLATFORM",
    callback=options.aliases,
    help="A name for a platform in the shop's links, such as fb2=facebook; may be repeated.",
)
@click.option(
    "--payment-host",
    "payment_hosts",
    multiple=True,
    callback=options.hosts,
    help="A payment host: a return from it is not a new visit; may be repeated.",
)
@as_json
def set_(
    shop: str,
    time_zone: str | None,
    currency: str | None,
    domains: tuple[str, ...],
    aliases: Mapping[str, str],
    payment_hosts: tuple[str, ...],
    as_json: bool,
) -> None:
    """Set values of a shop, which take precedence over webhooks. Domains, aliases and hosts are added."""
    import msgspec

    if not (time_zone or currency or domains or aliases or payment_hosts):
        raise click.UsageError("give one of --time-zone, --currency, --domain, --alias, --payment-host")

    def change(before: ByOperator) -> ByOperator:
        return msgspec.structs.replace(
            before,
            time_zone=time_zone or before.time_zone,
            currency=currency or before.currency,
            domains=_bounded(sorted({*before.domains, *domains}), MOST_HOSTS, "domains"),
            aliases=_bounded({**before.aliases, **aliases}, MOST_ALIASES, "aliases"),
            payment_hosts=_bounded(sorted({*before.payment_hosts, *payment_hosts}), MOST_HOSTS, "payment hosts"),
        )

    _change(shop, change, as_json)


@shops.command()
@click.argument("shop", callback=options.shop)
@click.option("--time-zone", is_flag=True, help="Use the time zone from webhooks again.")
@click.option("--currency", is_flag=True, help="Use the currency from webhooks again.")
@click.option("--domain", "domains", multiple=True, callback=options.hosts, help="May be repeated.")
@click.option("--alias", "aliases", multiple=True, metavar="SOURCE", callback=options.sources, help="May be repeated.")
@click.option("--payment-host", "payment_hosts", multiple=True, callback=options.hosts, help="May be repeated.")
@click.option("--all", "everything", is_flag=True, help="Also the values from webhooks.")
@as_json
def unset(
    shop: str,
    time_zone: bool,
    currency: bool,
    domains: tuple[str, ...],
    aliases: tuple[str, ...],
    payment_hosts: tuple[str, ...],
    everything: bool,
    as_json: bool,
) -> None:
    """Remove values that an operator set. Those from webhooks stay, except with --all."""
    import msgspec

    from truepixel_dagster.stores.shops import remove

    if everything:
        with registry() as store:
            if not remove(store, shop):
                say(f"shop {shop} was unknown")
            return show_shop(store, shop, as_json)
    if not (time_zone or currency or domains or aliases or payment_hosts):
        raise click.UsageError("give one of --time-zone, --currency, --domain, --alias, --payment-host, --all")

    def change(before: ByOperator) -> ByOperator:
        return msgspec.structs.replace(
            before,
            time_zone=None if time_zone else before.time_zone,
            currency=None if currency else before.currency,
            domains=tuple(each for each in before.domains if each not in domains),
            aliases={source: platform for source, platform in before.aliases.items() if source not in aliases},
            payment_hosts=tuple(each for each in before.payment_hosts if each not in payment_hosts),
        )

    return _change(shop, change, as_json)


def _change(shop: str, change: Any, as_json: bool) -> None:
    from truepixel_dagster.stores.shops import set_by_operator

    with registry() as store:
        before = known_of(store, shop)
        if not set_by_operator(store, shop, change):
            say("nothing changed: the shop already has these values")
        after = known_of(store, shop)
        show_shop(store, shop, as_json)
    if before.shop.time_zone != after.shop.time_zone:
        say(_PAST)


def _bounded(values: Any, most: int, what: str) -> Any:
    if len(values) > most:
        raise click.ClickException(f"a shop has at most {most} {what}: unset some first")
    return tuple(values) if isinstance(values, list) else values
