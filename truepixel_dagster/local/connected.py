"""Run the demo's collector: connect its shops, start its process, and write the file for other terminals."""

from __future__ import annotations

import secrets
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from truepixel_dagster.instance.process import environment
from truepixel_dagster.local.payloads.model import Shop
from truepixel_dagster.local.processes import dying_with_parent
from truepixel_dagster.local.programs import Program, log_end
from truepixel_dagster.private_files import open_private
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.connections import Connection, change, new_pixel_token
from truepixel_dagster.stores.mongodb import MongoStore

ENVIRONMENT_FILE = "env"
_SECRETS = "app-secrets"
_START_SECONDS = 60.0


class CollectorDown(Exception):
    """The collector did not start; the message contains the end of its log."""


class ShopDoor(NamedTuple):
    """Hold how a shop sends its events: its `….myshopify.com` and its pixel token."""

    domain: str
    pixel_token: str


class Connected(NamedTuple):
    """Hold the running collector: its address, how each shop sends its events, and the app's secret."""

    address: str
    doors: Mapping[str, ShopDoor]
    secret: bytes
    program: Program


def connect(settings: Settings, shops: Sequence[Shop]) -> dict[str, ShopDoor]:
    """Register shops, as `truepixel shops add` does; return how each sends its events, by id.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    doors = {shop.id: ShopDoor(shop.domain, new_pixel_token()) for shop in shops}
    now = int(time.time() * 1000)
    with closing(MongoStore(settings.mongodb())) as store:
        for id_, door in doors.items():
            _connect(store, id_, Connection(door.domain, door.pixel_token, now))
    return doors


def _connect(store: MongoStore, shop: str, connection: Connection) -> None:
    change(store, shop, lambda _: connection)


def start_collector(settings: Settings, port: int, doors: Mapping[str, ShopDoor]) -> Connected:
    """Start `truepixel collector` on loopback and wait until it is ready.

    The demo sends the visitors' requests, and forwards their addresses like a proxy.

    Arguments:
        settings: The pipeline's settings; the secret goes into their data folder.
        port: The port to listen on.
        doors: How each shop sends its events, by id.

    Raises:
        CollectorDown: It did not become ready.
    """
    secret = secrets.token_hex(16)
    file = settings.data_dir / _SECRETS
    with open_private(file, "w") as opened:
        opened.write(f"{secret}\n")
    own = settings.model_copy(
        update={"collector_app_secrets_file": str(file), "collector_proxies": "127.0.0.0/8", "collector_shop_rate": 1e6}
    )
    command = [sys.executable, "-m", "truepixel_dagster.cli", "collector", "--host", "127.0.0.1", "--port", str(port)]
    log = settings.data_dir / "logs" / "collector.log"
    variables = {**environment(own), "PYTHONUNBUFFERED": "1"}
    program = Program("the collector", command, variables, settings.data_dir, log, dying_with_parent())
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(address, program)
    except BaseException:
        program.end()
        raise
    return Connected(address, doors, secret.encode(), program)


def write_environment(settings: Settings, connected: Connected, shop: Shop) -> Path:
    """Write a file that a shell reads to use the demo: its servers for `truepixel`, its collector for `curl`.

    Returns:
        The file, which only its owner can read.
    """
    variables = {name: value for name, value in environment(settings).items() if name.startswith("TRUEPIXEL_")}
    variables |= {
        "COLLECTOR": connected.address,
        "APP_SECRET": connected.secret.decode(),
        "SHOP": shop.id,
        "SHOP_DOMAIN": shop.domain,
        "PIXEL_TOKEN": connected.doors[shop.id].pixel_token,
    }
    file = settings.data_dir / ENVIRONMENT_FILE
    with open_private(file, "w") as opened:
        opened.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    return file


def _wait_until_ready(address: str, program: Program) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and program.process.poll() is None:
        try:
            urlopen(f"{address}/readyz", timeout=2).close()  # noqa: S310 (our own address)
            return
        except (URLError, OSError):
            time.sleep(0.1)
    raise CollectorDown(f"the collector did not start; the end of {program.log}:\n{log_end(program.log)}")
