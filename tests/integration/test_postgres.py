"""Dagster's own storage in a real PostgreSQL: the pooled event log, the pipeline on it, and the stack's part."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import psutil
import psycopg2
import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from dagster_postgres import PostgresEventLogStorage
from dagster_postgres.utils import pg_alembic_config
from pydantic import SecretStr
from sqlalchemy.pool import NullPool

from tests.event_log import EventLogPromises, batches, home, of_assets, seen
from tests.integration.driving import audited
from tests.integration.test_cli import truepixel
from truepixel_dagster.instance.postgres_event_log import KEPT_OPEN, MORE_AT_ONCE, PooledPostgresEventLogStorage
from truepixel_dagster.instance.process import dagster_home
from truepixel_dagster.instance.pruning import prune
from truepixel_dagster.jobs.drain import drain
from truepixel_dagster.local.addresses import settings_at
from truepixel_dagster.local.demo import produce
from truepixel_dagster.local.ephemeral import ephemeral_stack
from truepixel_dagster.local.server_status import ServerStatus
from truepixel_dagster.local.servers import Address, Postgres, StackError, free_ports
from truepixel_dagster.local.stack import Stack
from truepixel_dagster.provision import provision
from truepixel_dagster.resources import open_stores
from truepixel_dagster.settings import Settings

STORAGES = """
run_storage: {{module: dagster_postgres, class: PostgresRunStorage, config: {{postgres_url: "{url}"}}}}
schedule_storage: {{module: dagster_postgres, class: PostgresScheduleStorage, config: {{postgres_url: "{url}"}}}}
event_log_storage: {{module: {module}, class: {name}, config: {{postgres_url: "{url}"}}}}
"""


def closed_to_its_user() -> bool:
    """Whether root works in a folder that the user who would run PostgreSQL cannot enter."""
    program = Path(Postgres(Address("127.0.0.1", 1), Path())._program("postgres"))
    return os.geteuid() == 0 and not all(folder.stat().st_mode & 0o001 for folder in program.parents)


pytestmark = pytest.mark.skipif(
    closed_to_its_user(), reason="root's folder is closed to others: PostgreSQL does not run as root"
)
POOLED = ("truepixel_dagster.instance.postgres_event_log", "PooledPostgresEventLogStorage")
OWN = ("dagster_postgres", "PostgresEventLogStorage")


@pytest.fixture(scope="module")
def postgres(open_folder: Path) -> Iterator[Settings]:
    with ephemeral_stack(open_folder / "alone", with_postgres=True, only=(Postgres.name,)) as settings:
        yield settings


@pytest.fixture
def stack(postgres: Settings) -> Stack:
    """The module's PostgreSQL, running again whatever the previous test did to it."""
    stack = Stack(postgres, tied_to_parent=True, only=(Postgres.name,))
    stack.up(print)
    return stack


@pytest.fixture
def url(postgres: Settings) -> str:
    assert postgres.postgres_url is not None
    return postgres.postgres_url.get_secret_value()


@pytest.fixture
def fresh_url(stack: Stack, url: str) -> Iterator[Callable[[str], str]]:
    """Makes addresses of empty schemas in the database, and drops the schemas afterwards."""
    made = []

    def fresh(name: str) -> str:
        made.append(name)
        with psql(url) as cursor:
            cursor.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}")
        return f"{url}?options={quote(f'-csearch_path={name}')}&application_name={name}"

    yield fresh
    stack.up(print)
    with psql(url) as cursor:
        for name in made:
            cursor.execute(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture
def pooled(fresh_url: Callable[[str], str], tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(postgres_home(tmp_path / "pooled", fresh_url("pooled"), POOLED)) as instance:
        yield instance


@pytest.fixture
def own(fresh_url: Callable[[str], str], tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(postgres_home(tmp_path / "own", fresh_url("own"), OWN)) as instance:
        yield instance


class psql:  # noqa: N801
    """A cursor whose statements commit by themselves."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg2.connect(url.replace("+psycopg2", ""))
        self.connection.autocommit = True

    def __enter__(self) -> Any:
        return self.connection.cursor()

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def postgres_home(folder: Path, url: str, storage: tuple[str, str]) -> str:
    module, name = storage
    return home(folder, STORAGES.format(url=url, module=module, name=name).replace("{", "{{").replace("}", "}}"))


def url_of(instance: dg.DagsterInstance) -> str:
    return str(storage_of(instance).postgres_url)


def storage_of(instance: dg.DagsterInstance) -> PooledPostgresEventLogStorage:
    storage = instance.event_log_storage
    assert isinstance(storage, PooledPostgresEventLogStorage)
    return storage


def engines(instance: dg.DagsterInstance) -> list[sa.Engine]:
    storage: Any = instance.event_log_storage
    return [storage._engine, *([storage._writing] if hasattr(storage, "_writing") else ())]


def postmaster(stack: Stack) -> psutil.Process:
    pid = next(one.pid for one in stack.status() if one.name == Postgres.name)
    assert pid is not None
    return psutil.Process(pid)


def write(instance: dg.DagsterInstance, run_id: str, count: int) -> None:
    run = dg.DagsterRun("writing", run_id=run_id)
    for number in range(count):
        instance.report_engine_event(f"event {number}", run)


def events(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    return [entry.message for entry in instance.all_logs(run_id)]


class TestPostgres(EventLogPromises):
    """The guarantees of every pooled event log."""


def test_a_run_makes_one_connection_where_dagsters_own_makes_one_an_event(
    pooled: dg.DagsterInstance, own: dg.DagsterInstance
) -> None:
    made = dict.fromkeys(("pooled", "own"), 0)
    for name, instance in (("pooled", pooled), ("own", own)):

        def count(*_: object, name: str = name) -> None:
            made[name] += 1

        for engine in engines(instance):
            sa.event.listen(engine, "connect", count)
        assert batches.execute_in_process(instance=instance).success
    assert made["pooled"] <= KEPT_OPEN + 1
    assert made["own"] > 30


def test_threads_share_a_few_connections_and_their_events_keep_their_order(pooled: dg.DagsterInstance) -> None:
    run_ids = [f"run-{number}" for number in range(12)]
    writers = [threading.Thread(target=write, args=(pooled, run_id, 40)) for run_id in run_ids]
    open_at_once = []
    with psql(url_of(pooled).replace("=pooled", "=counting")) as cursor:
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pooled' AND query LIKE '%event_logs%'"
            )
            open_at_once.append(cursor.fetchone()[0])
    assert 1 <= max(open_at_once) <= KEPT_OPEN + MORE_AT_ONCE + 1
    for run_id in run_ids:
        assert events(pooled, run_id) == [f"event {number}" for number in range(40)]


def test_a_connection_that_breaks_at_any_write_costs_and_doubles_nothing(
    pooled: dg.DagsterInstance, own: dg.DagsterInstance
) -> None:
    expected = batches.execute_in_process(instance=own)
    broken: dict[str, str] = {}

    def cut(connection: Any, _cursor: Any, statement: str, parameters: object, *_: object) -> None:
        verb, *rest = statement.split()
        write = f"{statement} {parameters}"
        # The second try of each write succeeds.
        if verb in ("INSERT", "UPDATE") and write not in broken:
            broken[write] = rest[1] if verb == "INSERT" else rest[0]
            with psql(url_of(pooled)) as cursor:
                pid = connection.connection.dbapi_connection.info.backend_pid
                cursor.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))

    for engine in engines(pooled):
        sa.event.listen(engine, "before_cursor_execute", cut)
    found = batches.execute_in_process(instance=pooled)
    assert found.success
    assert seen(pooled, found.run_id) == seen(own, expected.run_id)
    assert of_assets(pooled) == of_assets(own)
    assert len(broken) > 30
    assert {"event_logs", "asset_event_tags", "asset_check_executions"} <= set(broken.values())


def test_a_reader_does_not_get_an_idle_connection_that_broke(pooled: dg.DagsterInstance) -> None:
    write(pooled, "before", 2)
    with psql(url_of(pooled).replace("=pooled", "=other")) as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'pooled'"
        )
        assert cursor.rowcount >= 1
    assert events(pooled, "before") == ["event 0", "event 1"]


def test_an_event_that_arrived_unacknowledged_is_not_written_again(pooled: dg.DagsterInstance) -> None:
    lost = 0

    def lose_the_answer(_connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        nonlocal lost
        if statement.startswith("INSERT INTO event_logs") and lost < 10:
            lost += 1
            raise psycopg2.OperationalError("server closed the connection unexpectedly")

    sa.event.listen(storage_of(pooled)._writing, "after_cursor_execute", lose_the_answer)
    write(pooled, "unanswered", 20)
    assert lost == 10
    assert events(pooled, "unanswered") == [f"event {number}" for number in range(20)]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_a_restart_of_the_server_while_a_run_writes_loses_nothing(
    pooled: dg.DagsterInstance, stack: Stack, ending: signal.Signals
) -> None:
    failures: list[BaseException] = []
    restarted, written = threading.Event(), 0

    def writing() -> None:
        nonlocal written
        try:
            while not restarted.is_set() or written < 200:
                write_one(pooled, written)
                written += 1
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=writing)
    writer.start()
    try:
        server = postmaster(stack)
        server.send_signal(ending)
        psutil.wait_procs([server], timeout=30)
        stack.up(print)
    finally:
        restarted.set()
        writer.join()
    assert failures == []
    assert events(pooled, "restarted") == [f"event {number}" for number in range(written)]


def write_one(instance: dg.DagsterInstance, number: int) -> None:
    instance.report_engine_event(f"event {number}", dg.DagsterRun("writing", run_id="restarted"))


def test_two_processes_after_a_fork_do_not_share_a_connection(pooled: dg.DagsterInstance) -> None:
    code = (
        "import dagster as dg, os, signal, sys\n"
        "from tests.integration.test_postgres import write\n"
        "with dg.DagsterInstance.from_config(sys.argv[1]) as instance:\n"
        "    write(instance, 'before', 1)\n"
        "    child = os.fork()\n"
        "    signal.alarm(100)\n"  # a process waits forever for an answer that the other one has read
        "    write(instance, 'parent' if child else 'child', 200)\n"
        "    if not child: os._exit(0)\n"
        "    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, pooled.root_directory], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for process in ("parent", "child"):
        assert events(pooled, process) == [f"event {number}" for number in range(200)]


def test_the_webservers_pool_replaces_the_first_one_and_leaves_no_connection_open(pooled: dg.DagsterInstance) -> None:
    write(pooled, "before", 1)
    assert events(pooled, "before") == ["event 0"]
    before = storage_of(pooled)._engine.pool
    assert before.checkedin() == 1  # type: ignore[attr-defined]
    pooled.optimize_for_webserver(statement_timeout=5000, pool_recycle=60, max_overflow=3)
    assert before.checkedin() == 0  # type: ignore[attr-defined]
    write(pooled, "after", 3)
    assert events(pooled, "after") == ["event 0", "event 1", "event 2"]
    with storage_of(pooled)._engine.connect() as connection:
        assert connection.scalar(sa.text("SHOW statement_timeout")) == "5s"


def test_an_instance_that_is_disposed_of_keeps_no_connection(pooled: dg.DagsterInstance) -> None:
    write(pooled, "one", 1)
    assert events(pooled, "one") == ["event 0"]
    pools: list[Any] = [engine.pool for engine in engines(pooled)]
    assert [pool.checkedin() for pool in pools] == [1, 1]
    storage_of(pooled).dispose()
    assert [pool.checkedin() for pool in pools] == [0, 0]


def test_with_an_untested_version_dagsters_own_storage_writes(
    pooled: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dg, "__version__", "9.0.0")
    calls = []
    store = PostgresEventLogStorage.store_event

    def counted(self: PostgresEventLogStorage, event: dg.EventLogEntry) -> None:
        calls.append(event)
        store(self, event)

    monkeypatch.setattr(PostgresEventLogStorage, "store_event", counted)
    with dg.DagsterInstance.from_config(pooled.root_directory) as instance:
        assert isinstance(storage_of(instance)._engine.pool, NullPool)
        run_id = batches.execute_in_process(instance=instance).run_id
        assert len(calls) == len(seen(instance, run_id)) > 30


def test_pruning_removes_runs_and_keeps_what_they_wrote_of_assets(pooled: dg.DagsterInstance) -> None:
    run_id = batches.execute_in_process(instance=pooled).run_id
    kept = of_assets(pooled)
    never, now = timedelta(days=1000), datetime.now(timezone.utc) + timedelta(hours=1)
    assert prune(pooled, now, successful=timedelta(0), failed=never, assets=never).runs == 1
    assert pooled.get_run_by_id(run_id) is None
    assert of_assets(pooled) == kept


@pytest.fixture
def settings(bare_settings: Settings, fresh_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A pipeline of its own with Dagster's storage in PostgreSQL."""
    place = fresh_url("pipeline")
    monkeypatch.setenv("TRUEPIXEL_POSTGRES_URL", place)
    return bare_settings.model_copy(update={"postgres_url": SecretStr(place)})


def test_the_pipeline_runs_with_its_history_in_postgresql(settings: Settings) -> None:
    provision(settings)
    produce(settings, 3_000, seed=11)
    drain(settings, lambda _: None)
    with open_stores(settings) as stores:
        assert audited(settings, stores).records == 3_000
    with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
        runs = instance.get_runs()
        assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
        (observed,) = instance.fetch_observations(dg.AssetKey("kafka_topic"), limit=1).records
        assert observed.run_id in {run.run_id for run in runs}
        assert storage_of(instance).postgres_url == os.environ["TRUEPIXEL_POSTGRES_URL"]
    assert list(settings.data_dir.rglob("*.db")) == []


def test_migrate_brings_an_older_storage_to_the_installed_version(settings: Settings) -> None:
    assert settings.postgres_url is not None
    with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
        newest, _ = storage_of(instance).alembic_version()
        with psql(settings.postgres_url.get_secret_value()) as cursor:
            cursor.execute("UPDATE alembic_version SET version_num = %s", (older_than(newest),))
        assert storage_of(instance).alembic_version() == (older_than(newest), newest)
        truepixel(settings, "migrate")
        assert storage_of(instance).alembic_version() == (newest, newest)


def older_than(version: Any) -> str:
    storage = sys.modules[PostgresEventLogStorage.__module__]
    revision = ScriptDirectory.from_config(pg_alembic_config(str(storage.__file__))).get_revision(version)
    assert isinstance(revision.down_revision, str)
    return revision.down_revision


def test_an_unreachable_server_is_one_line_that_says_what_to_do(settings: Settings) -> None:
    provision(settings)
    away = f"postgresql+psycopg2://truepixel:hunter2@127.0.0.1:{free_ports(1)[0]}/truepixel"
    said = truepixel(settings.model_copy(update={"postgres_url": SecretStr(away)}), "drain", code=1)
    assert "Connection refused" in said
    assert "truepixel stack up --with-postgres" in said
    assert "hunter2" not in said
    assert "Traceback" not in said


def test_postgresql_belongs_to_the_stack_once_it_was_started(postgres: Settings, stack: Stack, url: str) -> None:
    def shown() -> ServerStatus:
        (one,) = [one for one in Stack(postgres).status() if one.name == Postgres.name]
        return one

    with psql(url) as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT 7 AS number")
    assert (shown().running, shown().version, shown().pid) == (True, "18.4", postmaster(stack).pid)
    Stack(postgres).down(print)
    assert (shown().running, shown().pid) == (False, None)
    stack.up(print)
    with psql(url) as cursor:
        cursor.execute("SELECT number FROM kept")
        assert cursor.fetchone() == (7,)
        cursor.execute("DROP TABLE kept")


def test_the_stacks_commands_with_postgresql(open_folder: Path) -> None:
    own = settings_at(Settings(), *(Address("127.0.0.1", port) for port in free_ports(5)))
    own = own.model_copy(update={"data_dir": open_folder / "whole"})
    try:
        truepixel(own, "stack", "up", "--with-postgres")
        shown = json.loads(truepixel(own, "stack", "status", "--json"))
        assert [one["name"] for one in shown] == ["kafka", "elasticsearch", "mongodb", "redis", "postgres"]
        assert all(one["running"] for one in shown)
        truepixel(own, "stack", "up")
    finally:
        truepixel(own, "stack", "down")
    assert [one.running for one in Stack(own).status()] == [False] * 5


def test_down_does_not_wait_for_clients_to_leave_and_needs_no_kill(postgres: Settings, stack: Stack, url: str) -> None:
    with psql(url) as cursor:
        cursor.execute("SELECT 1")
        stack.down(print)
    log = (postgres.data_dir / "stack" / "postgres" / "server.log").read_text()
    assert "received fast shutdown request" in log
    assert "database system is shut down" in log


def test_postgresql_does_not_run_as_root_and_no_address_admits_the_superuser(stack: Stack, url: str) -> None:
    assert 0 not in postmaster(stack).uids()
    with pytest.raises(psycopg2.OperationalError, match=r"no pg_hba\.conf entry"):
        psql(url.replace("//truepixel", "//postgres"))
    with psql(url) as cursor, pytest.raises(psycopg2.errors.InsufficientPrivilege):
        cursor.execute("COPY (SELECT 1) TO PROGRAM 'true'")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts it as another user")
def test_a_folder_that_its_user_cannot_enter_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    server = Postgres(Address("127.0.0.1", 1), tmp_path / "postgres")
    server.folder.mkdir()
    with pytest.raises(StackError, match="it runs as nobody, who must be able to enter these folders") as refused:
        server.prepare()
    assert str(tmp_path) in str(refused.value)
    assert not server.data.exists()


def test_incomplete_data_are_recreated(open_folder: Path) -> None:
    server = Postgres(Address("127.0.0.1", 1), open_folder / "half")
    half_way = server.folder / "making" / "PG_VERSION"
    half_way.parent.mkdir(parents=True)
    half_way.write_text("half")
    server.prepare()
    assert (server.data / "global").is_dir()
    assert not half_way.parent.exists()
