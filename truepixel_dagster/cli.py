"""`truepixel …`: arguments and printing only; what is done is done elsewhere."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from truepixel_dagster.collector.command import collector
from truepixel_dagster.privacy.commands import privacy
from truepixel_dagster.private_files import UMASK
from truepixel_dagster.report.command import report
from truepixel_dagster.settings import Settings, SettingsError, load_settings
from truepixel_dagster.shops_cli import shops
from truepixel_dagster.stages.stage import REJECTING
from truepixel_dagster.stores.errors import AccessDenied, ServerRefuses, Unavailable
from truepixel_dagster.stream.errors import KafkaError, KafkaUnavailable, LogChanged
from truepixel_dagster.terminal import echo, err, out, print_crash, print_json, say, table
from truepixel_dagster.text import printable

if TYPE_CHECKING:
    from truepixel_dagster.dead_letters.inspect import Wanted
    from truepixel_dagster.events.origin import Origin

writable = click.option(
    "--writable",
    is_flag=True,
    help="The UI may launch, cancel and change things; without it, it is read-only.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def quick_to_give_up(settings: Settings) -> Settings:
    """The settings for somebody who waits for a look: seconds, not a minute, until it is told that Kafka is away."""
    return settings.model_copy(update={"retries": 2, "kafka_timeout": min(settings.kafka_timeout, 5.0)})


@contextmanager
def progress_bar(title: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A bar on a terminal, nothing elsewhere; yields a function that is told how much is done (and of how much)."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=total)

        def update(done: int, total: int | None = None, what: str | None = None) -> None:
            bar.update(task, completed=done, total=total, description=what or title)

        yield update


class Group(click.Group):
    """Errors that users can do something about are one line, and so is Ctrl-C."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        from truepixel_dagster.flush import FlushRefused
        from truepixel_dagster.instance.history import HistoryUnavailable
        from truepixel_dagster.jobs.drain import DrainFailed, HomeUnusable
        from truepixel_dagster.local.chaos.pipeline import ChaosFailed
        from truepixel_dagster.local.demo import DemoFailed
        from truepixel_dagster.local.lock import InUse
        from truepixel_dagster.local.servers import StackError

        failures = (DrainFailed, HomeUnusable, DemoFailed, ChaosFailed, InUse, FlushRefused, HistoryUnavailable)
        known = (SettingsError, Unavailable, KafkaError, StackError, OSError, *failures)
        try:
            return super().invoke(ctx)
        except known as error:
            # The end of a server's log is lines of its own.
            keep = "\n" if isinstance(error, StackError) else ""
            raise click.ClickException(printable(f"{error}{_first_aid(error)}", keep)) from error
        except click.ClickException as error:
            vars(error)["message"] = printable(error.message, keep="\n")
            raise
        except KeyboardInterrupt:
            say("stopped")
            ctx.exit(130)


def _first_aid(error: BaseException) -> str:
    """What to do about a server of this machine that is away, where the error does not say it."""
    away = isinstance(error, (Unavailable, KafkaUnavailable)) and not isinstance(error, (AccessDenied, ServerRefuses))
    here = "127.0.0.1" in str(error)
    return "; `truepixel stack up` starts the servers on this machine" if away and here else ""


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="truepixel-dagster")
def main() -> None:
    """Shopify events from Kafka to attributions, customers and product statistics, run by Dagster.

    Settings come from TRUEPIXEL_* variables and .env; `truepixel settings` lists them.
    """
    # A kill by SIGTERM cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.excepthook = print_crash
    # Whatever a command or a process that it starts writes is its owner's only.
    click.get_current_context().call_on_close(partial(os.umask, os.umask(UMASK)))


main.add_command(collector)
main.add_command(privacy)
main.add_command(report)
main.add_command(shops)


@main.command()
@as_json
def settings(as_json: bool) -> None:
    """List every setting: its variable, its value now, what it means."""
    loaded = load_settings()
    rows = []
    for name, field in Settings.model_fields.items():
        rows.append(
            {"variable": f"TRUEPIXEL_{name.upper()}", "value": str(getattr(loaded, name)), "is": field.description}
        )
    if as_json:
        return print_json(rows)
    out.print(table(("variable", "value", "what it is"), (row.values() for row in rows)))
    return None


@main.group()
def stack() -> None:
    """The local servers: Kafka, Elasticsearch, MongoDB, a Redis-protocol server, PostgreSQL if wanted, on loopback."""


@stack.command()
@click.option("--with-postgres", is_flag=True, help="With PostgreSQL, for Dagster's own storage.")
def up(with_postgres: bool) -> None:
    """Start what is not running and wait until every server answers. Safe to call twice.

    Once started, PostgreSQL belongs to the stack: `up`, `status` and `down` include it with or without the option,
    until its folder in the stack's is deleted.
    """
    from truepixel_dagster.local.servers import Postgres
    from truepixel_dagster.local.stack import Stack

    settings = load_settings()
    servers = Stack(settings, with_postgres=with_postgres)
    servers.up(say)
    postgres = next((server for server in servers.servers if isinstance(server, Postgres)), None)
    if postgres and settings.postgres_url is None:
        say(f"Dagster still keeps its history in SQLite files: set TRUEPIXEL_POSTGRES_URL={postgres.url}")


@stack.command()
def down() -> None:
    """End the servers; their data are kept."""
    from truepixel_dagster.local.stack import Stack

    Stack(load_settings()).down(say)


@stack.command()
@as_json
def status(as_json: bool) -> None:
    """Address, pid, version and data size of each server; exit 1 when one is not running."""
    from dataclasses import asdict

    from truepixel_dagster.local.stack import Stack

    servers = Stack(load_settings()).status()
    if as_json:
        print_json([asdict(server) for server in servers])
    else:
        rows = []
        for server in servers:
            size = f"{server.data_bytes / 2**20:.1f} MiB"
            running = "yes" if server.running else "no"
            rows.append((server.name, running, server.address, server.pid, server.version, size))
        out.print(table(("server", "running", "address", "pid", "version", "data"), rows))
    if not all(server.running for server in servers):
        sys.exit(1)


@main.command()
@click.option("--reindex", metavar="INDEX", help="Reindex one index under its template; stop the lanes first.")
def setup(reindex: str | None) -> None:
    """Create topics, index templates and indexes. Run twice, it changes nothing.

    Indices get the fields that they lack. One that was made without its template, or changed by hand, is named with
    what to do about it, and the exit code is 1. Says what to materialize after an upgrade from version 0.1. Warns of
    servers whose settings do not keep what they acknowledge.
    """
    from truepixel_dagster.durability import ask, warnings
    from truepixel_dagster.provision import older_documents, provision
    from truepixel_dagster.resources import open_stores
    from truepixel_dagster.source_log import verified
    from truepixel_dagster.stores import reindexing

    settings = load_settings()
    changed = provision(settings)
    for line in changed:
        echo(line)
    if not changed:
        echo("nothing to do: everything is there")
    with open_stores(settings) as stores:
        if reindex:
            echo(f"{reindex}: {reindexing.reindex(settings, reindex):,} documents reindexed")
        for line in warnings(ask(settings, stores), settings):
            say(f"warning: {line}")
        unsound = stores.elasticsearch.unsound()
        for line in unsound:
            say(line)
        try:
            verified(settings, stores)
        except LogChanged as changed:
            say(f"warning: {changed}")
        if not unsound and (older := older_documents(stores)):
            counted = ", ".join(f"{count:,} {name}" for name, count in older.items())
            say(
                f"documents of the first edition of the data contract: {counted}. They are read, and upgraded when they"
                " are next written. To have all of the past right, replay dead letters and materialize everything:"
                " docs/operations.md, Upgrading"
            )
    if unsound:
        raise click.ClickException("not all is as this version needs it, see above")


@main.command()
def migrate() -> None:
    """Bring Dagster's own storage to the version of Dagster that is installed. Run twice, it changes nothing.

    After an upgrade, before its first run, while neither daemon nor UI nor a run is at work.
    """
    import subprocess

    from truepixel_dagster.instance.history import check_history
    from truepixel_dagster.jobs.drain import environment

    settings = load_settings()
    check_history(settings)
    command, env = [sys.executable, "-m", "dagster", "instance", "migrate"], environment(settings)
    sys.exit(subprocess.run(command, cwd=env["DAGSTER_HOME"], env=env, check=False).returncode)  # noqa: S603 (our own interpreter)


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def start(program: tuple[str, ...]) -> None:
    """Become one of Dagster's programs; where its history in PostgreSQL cannot be reached, say so in one line instead.

    Such as: truepixel start dagster-webserver --read-only. The webserver refuses requests that pages of other sites
    send, and host names that TRUEPIXEL_WEBSERVER_HOSTS does not list.
    """
    from truepixel_dagster.instance.history import check_history

    check_history(load_settings())
    if program[0] == "dagster-webserver":
        program = (sys.executable, "-m", "truepixel_dagster.instance.webserver", *program[1:])
    try:
        os.execvp(program[0], program)  # noqa: S606 (what the caller asked for)
    except OSError as error:
        raise click.ClickException(f"{program[0]}: {error.strerror}") from None


@main.command()
@click.option("--events", type=click.IntRange(min=1), required=True, help="How many events to send.")
@click.option("--rate", type=click.FloatRange(min=0.1), help="Events a second; as fast as it goes by default.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same events.")
@click.option("--shops", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many shops.")
@click.option(
    "--duplicates", type=click.FloatRange(0, 1), default=0.02, show_default=True, help="Share of re-deliveries."
)
@click.option(
    "--malformed", type=click.FloatRange(0, 1), default=0.005, show_default=True, help="Share of broken messages."
)
@click.option(
    "--start",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    help="When the events begin, UTC; a fixed day by default, so that the same seed gives the same bytes.",
)
@click.option(
    "--days", type=click.FloatRange(0.01, 366), default=4, show_default=True, help="Days that they spread over."
)
@click.option(
    "--profile",
    type=click.Choice(["first", "full"]),
    default="full",
    show_default=True,
    help="`full` has everything that shops have: refunds, edits, several currencies, bots, wrong clocks and so on;"
    " `first` is what traffic was before, by which benchmarks are compared.",
)
def generate(
    events: int,
    rate: float | None,
    seed: int,
    shops: int,
    duplicates: float,
    malformed: float,
    start: Any,
    days: float,
    profile: str,
) -> None:
    """Send believable Shopify traffic to the topic."""
    from datetime import timedelta, timezone

    from truepixel_dagster.local.demo import produce
    from truepixel_dagster.local.traffic import PROFILES

    options: dict[str, Any] = {"span": timedelta(days=days), "profile": PROFILES[profile]}
    if start:
        options["start"] = start.replace(tzinfo=timezone.utc)
    with progress_bar("generating", events) as done:
        produce(
            load_settings(),
            events,
            on_sent=done,
            rate=rate,
            seed=seed,
            shops=shops,
            duplicates=duplicates,
            malformed=malformed,
            **options,
        )
    say(f"{events:,} events sent")


@main.command(name="produce")
@click.argument("file", type=click.File("rb"))
def produce_file(file: Any) -> None:
    """Send a JSON-lines FILE of {"key", "headers", "value"} to the topic; `-` reads standard input."""
    from truepixel_dagster.local.samples import BadLine, read_lines
    from truepixel_dagster.stream.producer import EventProducer

    count = 0
    try:
        with EventProducer(load_settings()) as producer:
            for key, value, headers in read_lines(file):
                producer.send(key, value, headers)
                count += 1
    except BadLine as error:
        raise click.ClickException(f"{file.name}: {error} ({count} messages before it were sent)") from error
    say(f"{count:,} messages sent")


@main.command()
@as_json
def lag(as_json: bool) -> None:
    """Messages waiting, by partition, and what retention removed before it was read.

    Exits with 1 if the topic is not the log that was processed: a lag of 0 would say nothing then.
    """
    from truepixel_dagster.resources import open_stores
    from truepixel_dagster.source_log import LostRange, lost_records, verified
    from truepixel_dagster.stream.topics import lag as read_lag

    settings = quick_to_give_up(load_settings())
    partitions = read_lag(settings)
    lost: list[LostRange] = []
    with open_stores(settings) as stores:
        try:
            verified(settings, stores, partitions)
            lost = lost_records(stores.mongodb)
        except Unavailable as error:
            say(f"whether this is the topic that was processed was not looked at: {error}")
    if as_json:
        totals = {"lag": sum(entry.lag for entry in partitions), "lost": [str(each) for each in lost]}
        return print_json({"partitions": partitions, **totals})
    rows: list[tuple[object, ...]] = []
    for entry in partitions:
        committed = "–" if entry.committed is None else entry.committed
        rows.append((entry.partition, entry.low, entry.high, committed, entry.lag, entry.lost))
    total = (sum(entry.lag for entry in partitions), sum(entry.lost for entry in partitions))
    rows.append(("all", None, None, None, *total))
    out.print(table(("partition", "low", "high", "committed", "lag", "removed unread"), rows))
    for each in lost:
        say(f"retention removed before it was read: {each}")
    return None


@main.command(name="adopt-topic")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def adopt_topic(dry_run: bool, yes: bool, as_json: bool) -> None:
    """Accept the topic of events as a new log, after it was created again, moved or cut off.

    The stores keep what they have. The new log is read from its beginning, and its records count although their offsets
    are low; one with the event id of an event that is stored is a duplicate. Does nothing where the topic is the one
    that was processed. No lane may be at work.
    """
    from truepixel_dagster.pipeline.adoption import adopt_topic as run
    from truepixel_dagster.pipeline.adoption import plan
    from truepixel_dagster.stores.leases import LaneBusy

    settings = load_settings()
    found = plan(settings)
    if as_json:
        print_json(found)
    else:
        for line in found.lines:
            echo(line)
    if dry_run or not found.due:
        return
    if not yes:
        click.confirm("Begin the new log?", abort=True)
    try:
        run(settings)
    except LaneBusy as error:
        raise click.ClickException(f"{error}: turn the sensor kafka_lag off, wait for the run, and try again") from None
    say(f"begun: `truepixel drain` or the sensor kafka_lag reads {settings.topic} from its beginning")


@main.command()
@as_json
def drain(as_json: bool) -> None:
    """Work the topic off through Dagster until the lag is 0; needs no daemon."""
    from truepixel_dagster.jobs.drain import drain as run
    from truepixel_dagster.stream.topics import lag as read_lag

    settings = load_settings()
    total = sum(entry.lag for entry in read_lag(settings))
    started = time.monotonic()
    with progress_bar("draining", total) as done:
        run(settings, lambda left: done(max(0, total - left)))
    seconds = time.monotonic() - started
    if as_json:
        return print_json({"messages": total, "seconds": round(seconds, 1), "lag": 0})
    say(f"{total:,} messages in {seconds:.1f} s; lag 0")
    return None


@main.command()
@as_json
def flush(as_json: bool) -> None:
    """Flush the buffered counters from Redis to Elasticsearch now, without Dagster."""
    from truepixel_dagster.flush import flush_product_stats, flush_weekly_visitors
    from truepixel_dagster.resources import open_stores

    with open_stores(load_settings()) as stores:
        results = {
            "product_stats": flush_product_stats(stores.redis, stores.elasticsearch),
            "weekly_visitors": flush_weekly_visitors(stores.redis, stores.elasticsearch),
        }
    if as_json:
        return print_json(results)
    for name, result in results.items():
        echo(f"{name}: {result.keys} keys in {result.batches} batches")
    return None


def age_or_time(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """An option's age or time as milliseconds since the epoch."""
    from datetime import datetime, timezone

    from truepixel_dagster.dead_letters.inspect import parse_since

    try:
        return parse_since(value, datetime.now(timezone.utc)) if value else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@main.command()
@click.option("--dry-run", is_flag=True, help="Change nothing: say what is lost and what would be rebuilt.")
@click.option(
    "--force", is_flag=True, help="Also where nothing is found to be lost, or Redis is of another installation."
)
@as_json
def restore_redis(dry_run: bool, force: bool, as_json: bool) -> None:
    """Rebuild what Redis held from the event history, exactly, after it lost its data, all or some.

    Sets applied offsets, product statistics, weekly visitors and the marks of dead letters to what the history, the
    committed offsets and the customers say. Lanes and flushes stop by themselves and go on when it is done. If it is
    interrupted, run it again. Does nothing where nothing is lost.
    """
    from truepixel_dagster.rebuild.redis import restore

    with progress_bar("restoring") as bar:
        result = restore(
            load_settings(),
            dry_run=dry_run,
            force=force,
            progress=lambda what, done, total: bar(done, total or None, what),
        )
    if as_json:
        return print_json(result)
    if not result.reason:
        echo("nothing to restore: Redis holds what the stream has counted")
        return None
    say(result.reason)
    would = "would set" if dry_run else "set"
    echo(f"{would} applied offsets: {', '.join(f'{p}: {o}' for p, o in result.applied.items()) or 'none'}")
    echo(f"{would} dead letters that came back: {result.letters:,}; refusals: {result.refusals:,}")
    for name, count, done in (
        ("product statistics", result.days, result.product_stats),
        ("weekly visitors", result.weeks, result.weekly_visitors),
    ):
        units = "days" if name == "product statistics" else "weeks"
        changed = (
            "" if dry_run else f": {done.documents:,} worked out, {done.changed:,} changed, {done.removed:,} removed"
        )
        echo(f"{'would rebuild' if dry_run else 'rebuilt'} {name} of {count:,} {units}{changed}")
    if result.older:
        say(f"{result.older:,} days and weeks are older than the events kept: their documents stay as they are")
    return None


of_stage = click.option("--stage", type=click.Choice(REJECTING), help="Only letters of this stage.")
since_time = click.option(
    "--since", callback=age_or_time, help="Only what was written since: 2026-01-31T09:30 (UTC) or an age, 2h or 3d."
)


@main.command()
@since_time
@as_json
def audit(since: int | None, as_json: bool) -> None:
    """Compare every store with what the topic says it should hold; exit 1 if anything differs.

    An independent oracle works out from the topic what should be there. Buffered counters are flushed first. The
    stream may go on: what is not committed yet is not judged.
    """
    from truepixel_dagster.audit.audit import audit as run
    from truepixel_dagster.stream.topics import lag as read_lag

    settings = load_settings()
    partitions = read_lag(settings)
    waiting = sum(entry.lag for entry in partitions)
    if waiting:
        say(f"{waiting:,} messages are not processed yet; they are not judged")
    with progress_bar("reading the topic", sum(entry.high - entry.low for entry in partitions)) as done:
        found = run(settings, done, since=since)
    if as_json:
        listed = {name: [str(item) for item in getattr(found, name)] for name in ("differences", "excused")}
        print_json({**msgspec.to_builtins(found), **listed})
    else:
        for item in found.differences:
            echo(str(item), to_stderr=True)
        if found.excused:
            say(
                f"{len(found.excused):,} differences are excused: the order of events of users whose key went to"
                " another partition when partitions were added, or a shop that became known while its events were"
                " counted: materialize its past (--json lists them)"
            )
        for lost in found.lost_ranges:
            say(f"retention removed before it was read, and so not judged: {lost}")
        echo(
            f"{found.records:,} records: {len(found.differences) or 'no'} differences".replace(
                "no differences", "no difference"
            )
        )
    if found.differences:
        sys.exit(1)


@main.group(name="dead-letters")
def dead_letters() -> None:
    """What could not be processed: look at it, and have it come back once its cause is gone."""


def selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say which dead letters; the command is given those that were used."""
    options = (
        of_stage,
        since_time,
        click.option("--shop", help="Only letters of this shop."),
        click.option("--origin", "origins", multiple=True, help="Only this record's, as `list` prints it; repeatable."),
        click.option("--error", help="Only letters with this text in their error."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def wanted_letters(settings: Settings, options: dict[str, Any]) -> Wanted:
    """The letters that the options of `selecting` name."""
    origins = {origin_of(text, settings) for text in options.pop("origins")}
    return cast("Wanted", {**options, "origins": origins})


def origin_of(text: str, settings: Settings) -> Origin:
    """A record's place, as `list` prints it."""
    from truepixel_dagster.dead_letters.topic import parse_origin

    found = parse_origin(text, settings.topic)
    if found is None:
        raise click.BadParameter(f"{text!r} is not topic/partition/offset", param_hint="ORIGIN")
    return found


def letters_table(rows: list[dict[str, Any]]) -> None:
    """Print dead letters as a table."""
    out.print(table(("origin", "stage", "tries", "time", "state", "error"), (row.values() for row in rows)))


@dead_letters.command(name="list")
@selecting
@click.option("--limit", type=click.IntRange(min=1), help="Only the newest.")
@as_json
def list_letters(limit: int | None, as_json: bool, **options: Any) -> None:
    """Dead letters, the newest first: waiting, replayed, or given up after two tries."""
    from truepixel_dagster.dead_letters.inspect import as_row, listed
    from truepixel_dagster.resources import open_stores

    settings = quick_to_give_up(load_settings())
    with open_stores(settings) as stores:
        found = [as_row(entry) for entry in listed(settings, stores, **wanted_letters(settings, options))]
    shown = found[:limit]
    if as_json:
        return print_json(shown)
    letters_table(shown)
    say(f"{len(shown):,} of {len(found):,} dead letters")
    return None


@dead_letters.command()
@click.argument("origin")
@as_json
def show(origin: str, as_json: bool) -> None:
    """One dead letter with its record. ORIGIN is topic/partition/offset or partition/offset, as `list` prints it."""
    from truepixel_dagster.dead_letters.inspect import as_document, as_text, find
    from truepixel_dagster.resources import open_stores

    settings = quick_to_give_up(load_settings())
    wanted = origin_of(origin, settings)
    with open_stores(settings) as stores:
        found = find(settings, stores, wanted)
    if found is None:
        raise click.ClickException(f"there is no dead letter of {wanted} ({settings.dead_topic})")
    if as_json:
        return print_json(as_document(*found))
    echo(as_text(*found), keep="\n")
    return None


@dead_letters.command()
@selecting
@click.option("--dry-run", is_flag=True, help="Only list the letters that would be replayed.")
@click.option("--yes", is_flag=True, help="Do not ask: for scripts.")
@as_json
def replay(dry_run: bool, yes: bool, as_json: bool, **options: Any) -> None:
    """Run the letters that wait on from the stage that refused them; each is applied exactly once.

    A letter that is refused for another reason, or at another stage, has one try less: after two it is given up, until
    `reopen`. One that is refused as before loses nothing. Safe while the stream runs.
    """
    from truepixel_dagster.dead_letters.inspect import WAITING, Listed, as_row
    from truepixel_dagster.dead_letters.reprocess import plan
    from truepixel_dagster.dead_letters.reprocess import replay as run

    settings = load_settings()
    wanted = wanted_letters(settings, options)
    if dry_run or not yes:
        ready, in_flight, given_up = plan(settings, **wanted)
        if dry_run:
            rows = [as_row(Listed(letter, WAITING)) for letter in ready]
            if as_json:
                return print_json({"letters": rows, "in_flight": in_flight, "given_up": given_up})
            letters_table(rows)
            return say(f"would replay: {len(rows):,}; in flight: {in_flight:,}; given up: {given_up:,}")
        confirm_letters("Replay", [letter.stage for letter in ready])
    with progress_bar("replaying") as bar:
        result = run(settings, on_progress=bar, **wanted)
    counts = msgspec.to_builtins(result)
    if as_json:
        return print_json(counts)
    for name, count in counts.items():
        echo(f"{name.replace('_', ' ')}: {count:,}")
    return None


@dead_letters.command()
@selecting
@click.option("--yes", is_flag=True, help="Do not ask: for scripts.")
@as_json
def reopen(yes: bool, as_json: bool, **options: Any) -> None:
    """Give letters that were given up their tries again: they wait, and the next replay runs them."""
    from truepixel_dagster.dead_letters.inspect import GIVEN_UP, listed
    from truepixel_dagster.dead_letters.reprocess import reopen as run
    from truepixel_dagster.resources import open_stores

    settings = load_settings()
    wanted = wanted_letters(settings, options)
    if not yes:
        with open_stores(settings) as stores:
            found = [entry.letter.stage for entry in listed(settings, stores, **wanted) if entry.state == GIVEN_UP]
        confirm_letters("Reopen", found)
    count = run(settings, **wanted)
    if as_json:
        return print_json({"reopened": count})
    echo(f"reopened: {count:,}")
    return None


def confirm_letters(what: str, stages: list[str]) -> None:
    """Ask before something is done to dead letters; not where there are none."""
    from collections import Counter

    by_stage = ", ".join(f"{stage} {count:,}" for stage, count in sorted(Counter(stages).items()))
    if stages:
        click.confirm(f"{what} {len(stages):,} dead letters ({by_stage})?", abort=True, err=True)


@main.command(name="replay")
@click.option("--from", "since", callback=age_or_time, help="Written to Kafka at this time (UTC), or an age: 2h.")
@click.option("--to", "until", callback=age_or_time, help="And before this time or age; now by default.")
@click.option("--partition", type=click.IntRange(min=0), help="Or: records of this partition ...")
@click.option("--offsets", metavar="FIRST:LAST", help="... from one offset to another, both included.")
@click.option("--stages", help="Only these stages, such as index,ad_lead; all by default.")
@as_json
def replay_range(
    since: int | None, until: int | None, partition: int | None, offsets: str | None, stages: str | None, as_json: bool
) -> None:
    """Run a range of Kafka through the stages again, outside of the stream's group.

    Records are indexed again, and the users, orders and days that they touch are worked out anew from the event
    history. It changes nothing where all is well, and sets right what is not; the stream may go on meanwhile. What is
    not committed yet is left to the stream.

    Stages: index, ad_lead, attribution, customer, product_stats (with weekly visitors).
    """
    from truepixel_dagster.rebuild.context import rebuilding
    from truepixel_dagster.rebuild.replay import replay, stages_of, where_of

    names = stages_of([name.strip() for name in stages.split(",")] if stages else [])
    with rebuilding(load_settings()) as tools, progress_bar("replaying") as bar:
        where = where_of(tools, since=since, until=until, partition=partition, offsets=offsets)
        result = replay(tools, where, names, lambda what, done, total: bar(done, total or None, what))
    if as_json:
        return print_json(result)
    older = f", {result.older:,} older than the events kept: passed over" if result.older else ""
    echo(f"{result.records:,} records, {result.events:,} events{older}")
    for stage, done in result.stages.items():
        echo(f"{stage}: {done.documents:,} worked out, {done.changed:,} changed, {done.removed:,} removed")
    return None


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; loopback unless told otherwise.")
@click.option("--port", type=click.IntRange(0, 65_535), default=9464, show_default=True, help="0 for any free one.")
@click.option(
    "--dagster-home",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder of Dagster's dagster.yaml; by default the one in the data folder that `truepixel dev` uses.",
)
def exporter(host: str, port: int, dagster_home: Path | None) -> None:
    """Metrics for Prometheus, at http://HOST:PORT/metrics, until Ctrl-C.

    Lag, freshness, throughput, latencies, duplicates, replays, dead letters, what is buffered, runs, checks of health,
    and whether order and contiguity were kept. A server that is away is truepixel_up 0 and a line here; the rest goes
    on. What was found is given out again for 5 seconds (Redis: 15), so that scrapes cost little. Sums are kept in
    Dagster's storage: a restart neither loses nor doubles them. deploy/ has a dashboard and alerts.
    """
    from truepixel_dagster.exporter.serve import serve

    serve(load_settings(), say, host=host, port=port, home=dagster_home)


@main.command()
@click.option("--rounds", type=click.IntRange(min=1), default=20, show_default=True, help="How many faults.")
@click.option("--seed", type=int, default=1, show_default=True, help="Which faults, in which order.")
@click.option("--rate", type=click.FloatRange(1, 2000), default=100, show_default=True, help="Events a second.")
@click.option("--kinds", default="", help="Only these kinds of fault, separated by commas.")
@click.option("--list", "list_kinds", is_flag=True, help="Name the kinds of fault, and do nothing.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report.")
def chaos(rounds: int, seed: int, rate: float, kinds: str, list_kinds: bool, json_file: Path | None) -> None:
    """Do harm to what the pipeline is made of, in every way that is known, under load, and audit what comes of it.

    It has servers of its own; nothing else on the machine is touched. About half a minute a round. Exits with 1 when
    anything is lost, doubled or different, or a round did not recover.
    """
    from truepixel_dagster.local.chaos.chaos import chaos as run
    from truepixel_dagster.local.chaos.faults import FAULTS

    if list_kinds:
        for kind, fault in FAULTS.items():
            echo(f"{kind:18}{(fault.__doc__ or '').splitlines()[0]}")
        return
    wanted = [kind.strip() for kind in kinds.split(",") if kind.strip()]
    if unknown := [kind for kind in wanted if kind not in FAULTS]:
        raise click.BadParameter(f"no such kind: {', '.join(unknown)}; --list names them", param_hint="--kinds")
    with progress_bar("rounds", rounds) as done:
        report = run(load_settings(), say, rounds=rounds, seed=seed, rate=rate, kinds=wanted, on_round=done)
    if json_file:
        json_file.write_text(json.dumps(msgspec.to_builtins(report), indent=2) + "\n")
    rows = []
    for kind, seconds in report.recovery_seconds.items():
        times = report.rounds if kind == "all" else report.kinds[kind]
        rows.append((kind, times, f"{seconds['median']:.1f} s", f"{seconds['max']:.1f} s"))
    columns = ("fault", "rounds", "median recovery", "longest")
    out.print(table(columns, rows, title=f"{report.produced:,} events"))
    if report.excused or report.lost_to_retention:
        echo(
            f"excused by the audit: {report.excused} differences in the order of users whose key moved when partitions"
            f" were added; {report.lost_to_retention} records that retention removed before they were read"
        )
    if taken := report.takeover_seconds:
        echo(f"frozen lanes were taken over after {taken['median']:.1f} s (median), {taken['max']:.1f} s at most")
    for example in report.examples:
        echo(example, to_stderr=True)
    verdict = (
        f"lost {report.lost}, doubled {report.doubled}, differences {report.differences},"
        f" not recovered {report.not_recovered}, days not shown {len(report.days_not_shown)}"
        + (f" ({', '.join(report.days_not_shown[:5])})" if report.days_not_shown else "")
    )
    if not report.passed:
        raise click.ClickException(verdict)
    echo(verdict)


@main.command()
@click.option("--events", type=click.IntRange(min=1), default=20_000, show_default=True, help="With --no-ui: how many.")
@click.option("--no-ui", is_flag=True, help="Generate, drain, flush, print the summary, exit.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="With --no-ui: write the summary."
)
@click.option(
    "--rate", type=click.FloatRange(0.1, 2000), default=40, show_default=True, help="With the UI: events a second."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same visitors.")
@click.option("--shops", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many shops.")
@writable
def demo(events: int, no_ui: bool, json_file: Path | None, rate: float, seed: int, shops: int, writable: bool) -> None:
    """The whole pipeline on fresh servers of its own, with believable traffic; Ctrl-C cleans up."""
    from truepixel_dagster.local import demo as run

    if not no_ui:
        say_access(writable=writable)
        return run.with_ui(load_settings(), say, live_summary, rate=rate, seed=seed, shops=shops, writable=writable)
    summary = run.headless(load_settings(), events, say, seed=seed, shops=shops)
    figures = summary.figures()
    rows = (
        (name.replace("_", " "), json.dumps(value) if isinstance(value, dict) else value)
        for name, value in figures.items()
    )
    out.print(table(("what", "how much"), rows, title="read back from the servers"))
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")
    if summary.account.lost or summary.account.lag:
        raise click.ClickException(f"lag {summary.account.lag}; records that are nowhere: {summary.account.lost}")
    return None


def say_access(*, writable: bool) -> None:
    """Why buttons of the UI are grey, for those who did not ask for others."""
    if not writable:
        say("Dagster's UI will be read-only; with --writable it launches runs, materializes and turns sensors off")


def live_summary(settings: Settings, address: str) -> None:
    """What the stores hold, every two seconds, until Ctrl-C."""
    from rich.live import Live

    from truepixel_dagster.local.summary import counts
    from truepixel_dagster.resources import open_stores

    say(f"Dagster's UI:   {address}")
    say(f"lineage:        {address}/asset-groups")
    say(f"runs:           {address}/runs")
    say("Ctrl-C ends everything")
    with open_stores(settings) as stores, Live(console=out, refresh_per_second=1) as live:
        while True:
            rows = ((name, f"{value:,}") for name, value in counts(settings, stores).items())
            live.update(table(("in the stores now", ""), rows))
            time.sleep(2)


@main.command()
@click.option(
    "--port", type=click.IntRange(1, 65_535), default=3000, show_default=True, help="Port of the UI, on loopback."
)
@writable
def dev(port: int, writable: bool) -> None:
    """Dagster's UI and daemon on the local stack, which is started and set up first (and ended, if it was not up)."""
    from truepixel_dagster.instance.history import check_history
    from truepixel_dagster.jobs.drain import environment
    from truepixel_dagster.local.demo import dev_command, end_tree, webserver_access
    from truepixel_dagster.local.stack import Stack
    from truepixel_dagster.provision import provision

    say_access(writable=writable)
    settings = load_settings()
    servers = Stack(settings)
    was_up = all(server.running for server in servers.status())
    servers.up(say)
    try:
        check_history(settings)
        provision(settings)
        import subprocess

        env = environment(settings) | webserver_access(writable=writable)
        process = subprocess.Popen(  # noqa: S603 (our own interpreter)
            dev_command(port),
            cwd=env["DAGSTER_HOME"],
            env=env,
            start_new_session=os.name == "posix",
        )
        try:
            process.wait()
        finally:
            end_tree(process)
    finally:
        if not was_up:
            servers.down(say)


if __name__ == "__main__":
    main()
