"""`truepixel`: all commands together, and how their errors are shown."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from typing import Any

import click

from truepixel_dagster.cli.audit import audit
from truepixel_dagster.cli.chaos import chaos
from truepixel_dagster.cli.dead_letters import dead_letters
from truepixel_dagster.cli.demo import demo, dev, open_ui
from truepixel_dagster.cli.exporter import exporter
from truepixel_dagster.cli.installation import migrate, settings, setup, start
from truepixel_dagster.cli.lake import spend, sql, tables
from truepixel_dagster.cli.rebuilding import replay_range, restore_redis
from truepixel_dagster.cli.stack import stack
from truepixel_dagster.cli.stream import adopt_topic, drain, flush, lag
from truepixel_dagster.cli.topic import topic
from truepixel_dagster.cli.traffic import generate, produce_file
from truepixel_dagster.collector.command import collector
from truepixel_dagster.lake.errors import LakeError, NotImported, QueryRefused
from truepixel_dagster.privacy.commands import privacy
from truepixel_dagster.private_files import UMASK
from truepixel_dagster.report.command import report
from truepixel_dagster.settings import SettingsError
from truepixel_dagster.settings_described import unknown_variables
from truepixel_dagster.shops_cli import shops
from truepixel_dagster.stores.errors import AccessDenied, ServerRefuses, Unavailable
from truepixel_dagster.stream.errors import KafkaError, KafkaUnavailable
from truepixel_dagster.terminal import CALLED_AS, as_typed, print_crash, say
from truepixel_dagster.text import printable


class Group(click.Group):
    """Print errors that users can act on, and Ctrl-C, as one line."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command line, under the name that the user typed."""
        options["prog_name"] = options.get("prog_name") or os.environ.get(CALLED_AS)
        return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            vars(error)["message"] = as_typed(printable(error.message, keep="\n"))
            raise
        except click.exceptions.Exit:
            raise
        except KeyboardInterrupt:
            say("stopped")
            ctx.exit(130)
        except Exception as error:
            if line := _in_one_line(error):
                raise line from error
            raise


def _in_one_line(error: Exception) -> click.ClickException | None:
    """Return an error that users can act on as one line; None for any other.

    The modules of these errors are imported only after a failure: they take 17 MiB and a quarter second.
    """
    from truepixel_dagster.flush import FlushRefused
    from truepixel_dagster.instance.history import HistoryUnavailable
    from truepixel_dagster.instance.process import HomeUnusable
    from truepixel_dagster.jobs.drain import DrainFailed
    from truepixel_dagster.local.chaos.waiting import ChaosFailed
    from truepixel_dagster.local.connected import CollectorDown
    from truepixel_dagster.local.demo import DemoFailed
    from truepixel_dagster.local.lock import InUse
    from truepixel_dagster.local.servers import StackError
    from truepixel_dagster.local.visitors import CollectorRefused

    of_demo = (DemoFailed, CollectorDown, CollectorRefused)
    of_lake = (LakeError, NotImported, QueryRefused)
    failures = (DrainFailed, HomeUnusable, *of_demo, *of_lake, ChaosFailed, InUse, FlushRefused, HistoryUnavailable)
    if not isinstance(error, (SettingsError, Unavailable, KafkaError, StackError, OSError, *failures)):
        return None
    # The end of a server's log has several lines, and so have bad rows.
    keep = "\n" if isinstance(error, (StackError, DemoFailed, CollectorDown, NotImported, QueryRefused)) else ""
    return click.ClickException(as_typed(printable(f"{_text(error)}{_first_aid(error)}", keep)))


def _text(error: Exception) -> str:
    """Return the text of an error; for one of a file, the file and the reason, without the number of the error."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _first_aid(error: BaseException) -> str:
    """Return the next step for an unreachable server on this machine, if the error has none."""
    away = isinstance(error, (Unavailable, KafkaUnavailable)) and not isinstance(error, (AccessDenied, ServerRefuses))
    here = "127.0.0.1" in str(error)
    return ". `truepixel stack up` starts the servers on this machine" if away and here else ""


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="truepixel-dagster")
def main() -> None:
    """Shopify events from Kafka to attributions, customers and product statistics, run by Dagster.

    Settings come from TRUEPIXEL_* variables and .env; `truepixel settings` lists them.
    """
    # A kill by SIGTERM, or a terminal that closes, cleans up as Ctrl-C does; what `nohup` ignores stays ignored.
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    sys.excepthook = print_crash
    for name, nearest in unknown_variables():
        meant = f"; did you mean {nearest}?" if nearest else "."
        say(f"warning: {name} is not a setting{meant} `truepixel settings` lists all settings")
    # Only the owner may read the files that a command, or a process that it starts, writes.
    click.get_current_context().call_on_close(partial(os.umask, os.umask(UMASK)))


COMMANDS = (
    settings,
    setup,
    migrate,
    start,
    stack,
    generate,
    produce_file,
    topic,
    lag,
    adopt_topic,
    drain,
    flush,
    restore_redis,
    replay_range,
    audit,
    dead_letters,
    exporter,
    chaos,
    demo,
    dev,
    open_ui,
    collector,
    privacy,
    report,
    spend,
    tables,
    sql,
    shops,
)
for command in COMMANDS:
    main.add_command(command)
