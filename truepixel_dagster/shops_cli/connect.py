"""`truepixel shops add | rotate-secret | rotate-token | remove`: set which shops may send, and how they prove it."""

from __future__ import annotations

import time
from typing import IO, TYPE_CHECKING

import click
import msgspec

from truepixel_dagster.events.shop import host_of
from truepixel_dagster.settings import Settings, load_settings
from truepixel_dagster.shops_cli import options
from truepixel_dagster.shops_cli.commands import shops
from truepixel_dagster.shops_cli.options import as_json
from truepixel_dagster.shops_cli.shown import registry, show_shop
from truepixel_dagster.terminal import say

if TYPE_CHECKING:
    from truepixel_dagster.stores.connections import Connection, Secret
    from truepixel_dagster.stores.mongodb import MongoStore

_HOUR = 3_600_000

secret_file = click.option(
    "--secret-file", type=click.File("rb"), help="File with the secret, `-` for standard input; stored encrypted."
)
secret_ref = click.option(
    "--secret-ref", metavar="NAME", help="Name of a file in TRUEPIXEL_SHOP_SECRETS_DIR that contains the secret."
)


def _domain(_context: click.Context, _option: click.Parameter, value: str) -> str:
    host = host_of(value)
    if host is None:
        raise click.BadParameter(f"{value[:80]!r} is not a domain, such as toys.myshopify.com")
    return host


@shops.command()
@click.argument("shop", callback=options.shop)
@click.argument("domain", callback=_domain)
@secret_file
@secret_ref
@click.option("--time-zone", callback=options.time_zone, help="IANA name, such as America/New_York.")
@click.option("--currency", callback=options.currency, help="ISO 4217 code.")
@click.option(
    "--domain", "domains", multiple=True, callback=options.hosts, help="Another domain of the shop; may be repeated."
)
@as_json
def add(
    shop: str,
    domain: str,
    secret_file: IO[bytes] | None,
    secret_ref: str | None,
    time_zone: str | None,
    currency: str | None,
    domains: tuple[str, ...],
    as_json: bool,
) -> None:
    """Connect a shop, and show its pixel token. SHOP is its numeric id, DOMAIN its `….myshopify.com`.

    An app's webhooks are signed with the app's secret (TRUEPIXEL_COLLECTOR_APP_SECRETS_FILE), webhooks created in the
    shop's admin with the shop's own secret. The command also reconnects a shop that has uninstalled the app.
    """
    from truepixel_dagster.stores import connections
    from truepixel_dagster.stores.shops import set_by_operator

    settings, now = load_settings(), int(time.time() * 1000)
    secret = _secret(settings, shop, secret_file, secret_ref, now)

    def connected(before: Connection | None) -> Connection:
        if before is None:
            token = connections.new_pixel_token()
            return connections.Connection(domain, token, now, () if secret is None else (secret,))
        if before.domain != domain:
            raise click.ClickException(f"shop {shop} is connected as {before.domain}: remove it first")
        at = before.connected_at if before.uninstalled_at is None else now
        kept = before.secrets if secret is None else (*before.secrets, secret)
        return msgspec.structs.replace(before, connected_at=at, uninstalled_at=None, secrets=_bounded(kept, now))

    with registry() as store:
        _check_free(store, shop, domain)
        connections.change(store, shop, connected)
        if time_zone or currency or domains:
            set_by_operator(
                store,
                shop,
                lambda said: msgspec.structs.replace(
                    said,
                    time_zone=time_zone or said.time_zone,
                    currency=currency or said.currency,
                    domains=tuple(sorted({*said.domains, *domains})),
                ),
            )
        show_shop(store, shop, as_json)


@shops.command(name="rotate-secret")
@click.argument("shop", callback=options.shop)
@secret_file
@secret_ref
@click.option(
    "--overlap",
    type=click.FloatRange(0, 24 * 365),
    default=24.0,
    show_default=True,
    help="Hours for which the older secrets stay valid.",
)
@click.option("--end", metavar="ID", help="Remove this secret at once, instead of adding one.")
@as_json
def rotate_secret(
    shop: str, secret_file: IO[bytes] | None, secret_ref: str | None, overlap: float, end: str | None, as_json: bool
) -> None:
    """Add a secret of the shop's own; the older ones stay valid for the hours of --overlap.

    Collectors use it within five seconds. The app's secrets are lines of TRUEPIXEL_COLLECTOR_APP_SECRETS_FILE instead:
    add the new one, and remove the old one when Shopify has stopped using it.
    """
    from truepixel_dagster.stores import connections

    settings, now = load_settings(), int(time.time() * 1000)
    secret = _secret(settings, shop, secret_file, secret_ref, now)
    if (secret is None) == (end is None):
        raise click.UsageError("give one of --secret-file, --secret-ref and --end")

    def rotated(before: Connection | None) -> Connection:
        if before is None:
            raise _not_connected(shop)
        if end is not None:
            return _without(before, shop, end)
        until = now + int(overlap * _HOUR)
        older = [msgspec.structs.replace(each, until=min(each.until or until, until)) for each in before.secrets]
        kept = (*older, secret) if secret else older
        return msgspec.structs.replace(before, secrets=_bounded(tuple(kept), now))

    with registry() as store:
        connections.change(store, shop, rotated)
        show_shop(store, shop, as_json)


@shops.command(name="rotate-token")
@click.argument("shop", callback=options.shop)
@click.option(
    "--overlap",
    type=click.FloatRange(0, 24 * 365),
    default=24.0,
    show_default=True,
    help="Hours for which the older tokens stay valid.",
)
@as_json
def rotate_token(shop: str, overlap: float, as_json: bool) -> None:
    """Replace the pixel token; the older ones stay valid for the hours of --overlap.

    Write the new token into the shop's pixel within that time. With `--overlap 0` the older tokens expire at once.
    """
    from truepixel_dagster.stores import connections

    now = int(time.time() * 1000)
    until = now + int(overlap * _HOUR)

    def rotated(before: Connection | None) -> Connection:
        if before is None:
            raise _not_connected(shop)
        older = (*before.older_tokens, connections.OlderToken(before.pixel_token, until))
        kept = tuple(msgspec.structs.replace(each, until=min(each.until, until)) for each in older)
        valid = tuple(each for each in kept if each.until > now)
        if len(valid) > connections.MOST_OLDER_TOKENS:
            raise click.ClickException(
                f"a shop has at most {connections.MOST_OLDER_TOKENS} older tokens: use a shorter --overlap"
            )
        token = connections.new_pixel_token()
        return msgspec.structs.replace(before, pixel_token=token, older_tokens=valid)

    with registry() as store:
        connections.change(store, shop, rotated)
        show_shop(store, shop, as_json)


@shops.command()
@click.argument("shop", callback=options.shop)
def remove(shop: str) -> None:
    """Disconnect a shop: remove its domain, secrets and pixel token. Its other values and its events stay."""
    from truepixel_dagster.stores import connections

    with registry() as store:
        say(f"shop {shop} is disconnected" if connections.remove(store, shop) else f"shop {shop} was not connected")


def _not_connected(shop: str) -> click.ClickException:
    return click.ClickException(f"shop {shop} is not connected: connect it with `truepixel shops add`")


def _secret(settings: Settings, shop: str, file: IO[bytes] | None, name: str | None, now: int) -> Secret | None:
    """Return the given secret in its stored form; None if none is given."""
    from truepixel_dagster.shop_secrets import SecretsError, mounted, one_secret, sealer_of
    from truepixel_dagster.stores.connections import Secret, new_secret_id

    try:
        if file is not None and name is not None:
            raise click.UsageError("give --secret-file or --secret-ref, not both")
        if name is not None:
            # Check the file now, so that a wrong name fails at once.
            mounted(settings, name)
            return Secret(new_secret_id(), now, file=name)
        if file is not None:
            sealed = sealer_of(settings).seal(shop, one_secret(file.read(), "--secret-file"))
            return Secret(new_secret_id(), now, sealed=sealed)
    except SecretsError as error:
        raise click.ClickException(str(error)) from error
    return None


def _bounded(secrets: tuple[Secret, ...], now: int) -> tuple[Secret, ...]:
    """Return the valid secrets, up to the limit for one shop."""
    from truepixel_dagster.stores.connections import MOST_SECRETS

    counting = tuple(secret for secret in secrets if secret.counts(now))
    if len(counting) > MOST_SECRETS:
        raise click.ClickException(f"a shop has at most {MOST_SECRETS} secrets at once: remove one with --end")
    return counting


def _without(connection: Connection, shop: str, end: str) -> Connection:
    kept = tuple(secret for secret in connection.secrets if secret.id != end)
    if len(kept) == len(connection.secrets):
        raise click.ClickException(f"shop {shop} has no secret {end}: see `truepixel shops show {shop}`")
    return msgspec.structs.replace(connection, secrets=kept)


def _check_free(store: MongoStore, shop: str, domain: str) -> None:
    """Check that no other shop has the domain: if two shops had it, neither could send."""
    from truepixel_dagster.stores import connections

    found = connections.find(store, connections.DOMAIN, domain)
    if found is not None and found[0] != shop:
        raise click.ClickException(f"{domain} is shop {found[0]}: remove that shop first")
