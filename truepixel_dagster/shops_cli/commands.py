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
    "from now on events are counted by this time zone; for the past materialize attributions, product_stats and"
    " weekly_visitors of all days and weeks, see docs/shops.md"
)


@click.group()
def shops() -> None:
    """Which shops send to the collector, and what is known of each: time zone, currency, domains, names of platforms.

    Shopify's webhook shop/update says it, and an operator's word stands over that. Product statistics and weekly
    visitors go by the shop's day, which is UTC where no time zone is known.
    """


@shops.command(name="list")
@as_json
def list_shops(as_json: bool) -> None:
    """Every shop of which something is known."""
    from truepixel_dagster.stores.connections import all_of
    from truepixel_dagster.stores.shops import Known, known

    with registry() as store:
        connected, named = dict(all_of(store)), dict(known(store))
    every = sorted({*connected, *named})
    found = [as_row(id_, named.get(id_, Known()), connected.get(id_)) for id_ in every]
    if as_json:
        return print_json(found)
    if not found:
        return say("nothing is known of any shop: all days are UTC")
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
    """What is known of one shop, and who said it."""
    with registry() as store:
        show_shop(store, shop, as_json)


@shops.command(name="set")
@click.argument("shop", callback=options.shop)
@click.option("--time-zone", callback=options.time_zone, help="IANA name, such as America/New_York.")
@click.option("--currency", callback=options.currency, help="ISO 4217 code.")
@click.option(
    "--domain", "domains", multiple=True, callback=options.hosts, help="A domain of the shop's own; may be repeated."
)
@click.option(
    "--alias",
    "aliases",
    multiple=True,
    metavar="SOURCE=PLATFORM",
    callback=options.aliases,
    help="A name that the shop's links have for a platform, such as fb2=facebook; may be repeated.",
)
@click.option(
    "--payment-host",
    "payment_hosts",
    multiple=True,
    callback=options.hosts,
    help="A host from which buyers come back after paying: not outside of the shop; may be repeated.",
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
    """Say something of a shop: it stands over what webhooks say. Domains, aliases and hosts add to those there are."""
    import msgspec

    if not (time_zone or currency or domains or aliases or payment_hosts):
        raise click.UsageError("say what to set: --time-zone, --currency, --domain, --alias or --payment-host")

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
@click.option("--time-zone", is_flag=True, help="What webhooks say of it counts again.")
@click.option("--currency", is_flag=True, help="What webhooks say of it counts again.")
@click.option("--domain", "domains", multiple=True, callback=options.hosts, help="May be repeated.")
@click.option("--alias", "aliases", multiple=True, metavar="SOURCE", callback=options.sources, help="May be repeated.")
@click.option("--payment-host", "payment_hosts", multiple=True, callback=options.hosts, help="May be repeated.")
@click.option("--all", "everything", is_flag=True, help="Everything that is known of the shop, by webhooks, too.")
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
    """Take back what was set. What webhooks say stays, and counts again; with --all it goes, until the next one."""
    import msgspec

    from truepixel_dagster.stores.shops import remove

    if everything:
        with registry() as store:
            if not remove(store, shop):
                say(f"nothing was known of shop {shop}")
            return show_shop(store, shop, as_json)
    if not (time_zone or currency or domains or aliases or payment_hosts):
        raise click.UsageError("say what to unset: --time-zone, --currency, --domain, --alias, --payment-host or --all")

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
            say("nothing to do: it is so")
        after = known_of(store, shop)
        show_shop(store, shop, as_json)
    if before.shop.time_zone != after.shop.time_zone:
        say(_PAST)


def _bounded(values: Any, most: int, what: str) -> Any:
    if len(values) > most:
        raise click.ClickException(f"a shop has at most {most} {what}: unset some first")
    return tuple(values) if isinstance(values, list) else values
