"""`truepixel shops …`: arguments and printing only."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from truepixel_dagster.events.event import iso
from truepixel_dagster.events.shop import currency_of, host_of
from truepixel_dagster.events.shop_time import is_time_zone, time_zones
from truepixel_dagster.events.user_key import parse_user_key
from truepixel_dagster.settings import load_settings
from truepixel_dagster.terminal import echo, out, print_json, say, table

if TYPE_CHECKING:
    from truepixel_dagster.stores.mongodb import MongoStore
    from truepixel_dagster.stores.shops import ByOperator, Known

OPERATOR, WEBHOOK = "operator", "webhook"
# How many of each an operator may say of one shop: all are read with every micro-batch of the shop's events.
MOST_HOSTS, MOST_ALIASES = 200, 500
_MAX_SOURCE = 100
_PLATFORM = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_PAST = (
    "from now on events are counted by this time zone; for the past materialize attributions, product_stats and"
    " weekly_visitors of all days and weeks, see docs/shops.md"
)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _shop(_context: click.Context, _option: click.Parameter, value: str) -> str:
    try:
        shop, _ = parse_user_key(f"{value}:x".encode())
    except ValueError:
        shop = ""
    if not value or shop != value:
        raise click.BadParameter(f"{value[:80]!r} is no shop id: at most 128 bytes, without a colon")
    return shop


def _time_zone(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is None or is_time_zone(value):
        return value
    near = nearest(value)
    advice = f"; did you mean {', '.join(near)}?" if near else ", such as America/New_York"
    raise click.BadParameter(f"there is no IANA time zone {value[:80]!r}{advice}")


def _currency(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    found = currency_of(value)
    if value is not None and found is None:
        raise click.BadParameter(f"{value[:80]!r} is no ISO 4217 code, such as USD")
    return found


def _hosts(_context: click.Context, _option: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    for value in values:
        if host_of(value) is None:
            raise click.BadParameter(f"{value[:80]!r} is no host name, such as shop.example.com")
    return tuple(dict.fromkeys(host for value in values if (host := host_of(value))))


def _aliases(_context: click.Context, _option: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in values:
        source, _, platform = (part.strip().lower() for part in value.rpartition("="))
        if not _is_source(source) or not _PLATFORM.fullmatch(platform):
            raise click.BadParameter(f"{value[:80]!r} is not SOURCE=PLATFORM, such as fb2=facebook")
        found[source] = platform
    return found


def _sources(_context: click.Context, _option: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    return tuple(value.strip().lower() for value in values)


def _is_source(text: str) -> bool:
    return 0 < len(text) <= _MAX_SOURCE and text.isprintable()


def nearest(name: str) -> list[str]:
    """Return the time zones whose names, or whose cities, are most like a text; at most three."""
    names: dict[str, str] = {}
    for zone in sorted(time_zones(), reverse=True):
        names[zone.lower()] = names[zone.lower().rpartition("/")[2]] = zone
    wanted = name.strip().lower().replace(" ", "_")
    found = difflib.get_close_matches(wanted, names, n=5, cutoff=0.7)
    return list(dict.fromkeys(names[each] for each in found))[:3]


@click.group()
def shops() -> None:
    """What is known of each shop: time zone, currency, domains, names of platforms.

    Shopify's webhook shop/update says it, and an operator's word stands over that. Product statistics and weekly
    visitors go by the shop's day, which is UTC where no time zone is known.
    """


@shops.command(name="list")
@as_json
def list_shops(as_json: bool) -> None:
    """Every shop of which something is known."""
    from truepixel_dagster.stores.shops import known

    with _registry() as store:
        found = [_as_row(id_, each) for id_, each in known(store)]
    if as_json:
        return print_json(found)
    if not found:
        return say("nothing is known of any shop: all days are UTC")
    rows = [[row["shop"], row["time_zone"], row["currency"], ", ".join(row["domains"])] for row in found]
    out.print(table(("shop", "time zone", "currency", "domains"), rows))
    return None


@shops.command()
@click.argument("shop", callback=_shop)
@as_json
def show(shop: str, as_json: bool) -> None:
    """What is known of one shop, and who said it."""
    with _registry() as store:
        _show(shop, _known(store, shop), as_json)


@shops.command(name="set")
@click.argument("shop", callback=_shop)
@click.option("--time-zone", callback=_time_zone, help="IANA name, such as America/New_York.")
@click.option("--currency", callback=_currency, help="ISO 4217 code.")
@click.option(
    "--domain", "domains", multiple=True, callback=_hosts, help="A domain of the shop's own; may be repeated."
)
@click.option(
    "--alias",
    "aliases",
    multiple=True,
    metavar="SOURCE=PLATFORM",
    callback=_aliases,
    help="A name that the shop's links have for a platform, such as fb2=facebook; may be repeated.",
)
@click.option(
    "--payment-host",
    "payment_hosts",
    multiple=True,
    callback=_hosts,
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
@click.argument("shop", callback=_shop)
@click.option("--time-zone", is_flag=True, help="What webhooks say of it counts again.")
@click.option("--currency", is_flag=True, help="What webhooks say of it counts again.")
@click.option("--domain", "domains", multiple=True, callback=_hosts, help="May be repeated.")
@click.option("--alias", "aliases", multiple=True, metavar="SOURCE", callback=_sources, help="May be repeated.")
@click.option("--payment-host", "payment_hosts", multiple=True, callback=_hosts, help="May be repeated.")
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
        with _registry() as store:
            if not remove(store, shop):
                say(f"nothing was known of shop {shop}")
            return _show(shop, _known(store, shop), as_json)
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

    with _registry() as store:
        before = _known(store, shop)
        if not set_by_operator(store, shop, change):
            say("nothing to do: it is so")
        after = _known(store, shop)
    _show(shop, after, as_json)
    if before.shop.time_zone != after.shop.time_zone:
        say(_PAST)


def _bounded(values: Any, most: int, what: str) -> Any:
    if len(values) > most:
        raise click.ClickException(f"a shop has at most {most} {what}: unset some first")
    return tuple(values) if isinstance(values, list) else values


def _known(store: MongoStore, shop: str) -> Known:
    from truepixel_dagster.stores.mongodb import SHOPS
    from truepixel_dagster.stores.shops import KNOWN

    return KNOWN.read(shop, store.read(SHOPS, [shop]).get(shop, {}))


def _as_row(id_: str, known: Known) -> dict[str, Any]:
    shop = known.shop
    return {
        "shop": id_,
        "time_zone": shop.time_zone,
        "currency": shop.currency,
        "domains": sorted(shop.domains),
        "aliases": dict(sorted(shop.aliases.items())),
        "payment_hosts": sorted(shop.payment_hosts),
        "set_by": _set_by(known),
        "time_zone_since": None if known.since is None else iso(known.since),
    }


def _set_by(known: Known) -> dict[str, list[str]]:
    """Who said each field: the operator, or a webhook by its event id and time."""
    found: dict[str, list[str]] = {}
    for name in ("time_zone", "currency", "domains", "aliases", "payment_hosts"):
        by_operator, word = getattr(known.operator, name), getattr(known.webhook, name, None)
        if by_operator:
            found[name] = [OPERATOR]
        if word and (not by_operator or name == "domains"):
            found.setdefault(name, []).append(f"{WEBHOOK} {word.event_id} of {iso(word.at)}")
    return found


def _show(shop: str, known: Known, as_json: bool) -> None:
    row = _as_row(shop, known)
    if as_json:
        return print_json(row)
    by = {name: ", ".join(who) for name, who in row["set_by"].items()}
    values = {
        "time_zone": row["time_zone"] or "unknown: its days are UTC",
        "currency": row["currency"],
        "domains": ", ".join(row["domains"]),
        "aliases": ", ".join(f"{source} = {platform}" for source, platform in row["aliases"].items()),
        "payment_hosts": ", ".join(row["payment_hosts"]),
    }
    rows = [(name.replace("_", " "), value, by.get(name)) for name, value in values.items()]
    out.print(table(("shop", shop, "set by"), rows))
    if row["time_zone_since"]:
        echo(f"counted by this time zone since {row['time_zone_since']}")
    return None


@contextmanager
def _registry() -> Iterator[MongoStore]:
    """MongoDB; a document that cannot be read is one line."""
    from truepixel_dagster.resources import open_stores
    from truepixel_dagster.stores.documents import Unreadable

    try:
        with open_stores(load_settings()) as stores:
            yield stores.mongodb
    except Unreadable as error:
        raise click.ClickException(f"{error}. `truepixel shops unset SHOP --all` deletes it") from error
