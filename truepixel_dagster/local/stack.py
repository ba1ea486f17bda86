"""The local stack: genuine Kafka, Elasticsearch, MongoDB and a Redis-protocol server, as processes on this machine.

PostgreSQL, for Dagster's own storage, belongs to the stack after `Stack(settings, with_postgres=True).up(…)` has
created its data folder.

    stack = Stack(settings)
    stack.up(print)       # starts the servers that are not running; returns when each answers a real request
    stack.status()
    stack.down(print)     # keeps the data

Each server has a folder in the data folder's `stack`. Servers are detached from the terminal, so that Ctrl-C does not
reach them in the middle of a write; `down` ends them by pid.
"""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from truepixel_dagster.identity import make_identity
from truepixel_dagster.local.addresses import addresses_of, postgres_of, settings_at
from truepixel_dagster.local.jars import JarCache, JarsError
from truepixel_dagster.local.lock import only_one
from truepixel_dagster.local.processes import (
    POLL_SECONDS,
    dying_with_parent,
    interrupts_delayed,
    is_alive,
    wait_for_end,
)
from truepixel_dagster.local.programs import say_died
from truepixel_dagster.local.servers import (
    Address,
    Elasticsearch,
    Kafka,
    MongoDB,
    NotAnsweringError,
    Postgres,
    Redis,
    Server,
    StackError,
    free_ports,
)
from truepixel_dagster.local.steps import step
from truepixel_dagster.private_files import UMASK, open_private, private_folder
from truepixel_dagster.settings import Settings

START_SECONDS = 120.0
STOP_SECONDS = 20.0
_PASSING_THROUGH = 0o011
OWN_SERVERS = (
    "point TRUEPIXEL_KAFKA_BOOTSTRAP, TRUEPIXEL_ELASTICSEARCH_URL, TRUEPIXEL_MONGODB_URL and TRUEPIXEL_REDIS_URL"
    " to servers of your own"
)

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ServerStatus:
    """The status of a server. `data_bytes` is the disk space of its data.

    `pid` is None if it has no live process, and `version` if it does not answer; `running` means that it answers.
    """

    name: str
    address: str
    pid: int | None
    version: str | None
    data_bytes: int
    running: bool


class Stack:
    """The servers that the settings' addresses name.

    Arguments:
        settings: Every address must be on the loopback interface, without TLS or password.
        data_dir: The folder of data and logs; the settings' `data_dir` by default.
        tied_to_parent: Whether the system kills the servers when the thread that calls `up` ends, even by SIGKILL:
            call it from the main thread. For tests and the demo.
        kafka_advertised: The address that Kafka gives its clients; its own by default. For a proxy in front of it.
        replica_set: Whether MongoDB is a member of a replica set. For chaos.
        with_postgres: Whether PostgreSQL belongs to the stack, even if it was never started.
        only: The names of the servers to start; all by default. For tests.

    Raises:
        StackError: The local stack cannot serve an address.
    """

    def __init__(
        self,
        settings: Settings,
        data_dir: Path | None = None,
        *,
        tied_to_parent: bool = False,
        kafka_advertised: Address | None = None,
        replica_set: bool = False,
        with_postgres: bool = False,
        only: Collection[str] = (),
    ) -> None:
        self.data_dir = (data_dir or settings.data_dir).absolute()
        self.tied_to_parent = tied_to_parent
        folder = self.data_dir / "stack"
        self.jars = JarCache(self.data_dir / "jars")
        kafka, elasticsearch, mongodb, redis = addresses_of(settings)
        servers: list[Server] = [
            Kafka(kafka, folder / Kafka.name, self.jars, settings.group, kafka_advertised),
            Elasticsearch(elasticsearch, folder / Elasticsearch.name, self.jars),
            MongoDB(mongodb, folder / MongoDB.name, replica_set=replica_set),
            Redis(redis, folder / Redis.name),
        ]
        if with_postgres or (folder / Postgres.name / "data").exists():
            servers.append(postgres_of(settings, folder / Postgres.name))
        self.servers = [server for server in servers if not only or server.name in only]
        self._folder = folder
        self._lock = folder / "lock"
        self._children: dict[Server, subprocess.Popen[bytes]] = {}

    def up(self, progress: Progress) -> None:
        """Start the servers that are not running; return when every server answers.

        Arguments:
            progress: Receives lines about the progress.

        Raises:
            StackError: A server did not start. The message names it, the reason and the end of its log; the servers
                that this call started are ended.
        """
        _check_platform(self.servers)
        with only_one(self._lock):
            missing = [server for server in self.servers if not self._is_there(server)]
            for server in missing:
                _check_port(server)
            self._fetch_jars(missing, progress)
            self._bring_up(missing, self.servers, progress)

    def revive(self, progress: Progress) -> bool:
        """Restart the servers whose process has ended, and show the end of each one's log.

        Arguments:
            progress: Receives the lines.

        Returns:
            Whether a process had ended.

        Raises:
            StackError: A server did not start.
        """
        dead = [server for server in self.servers if self._process(server) is None]
        if not dead:
            return False
        with only_one(self._lock):
            for server in dead:
                _check_port(server)
                say_died(progress, f"{server.title} on {server.address} has died", server.log)
            self._bring_up(dead, dead, progress)
        return True

    def _bring_up(self, servers: list[Server], expected: list[Server], progress: Progress) -> None:
        """Start servers and wait until all expected ones answer; if one does not, end those that were started."""
        waiting = list(expected)
        starting = step(progress, f"starting {_titles(servers)}", lambda: f"waiting for {_titles(list(waiting))}")
        try:
            with starting if servers else nullcontext():
                self._start(servers)
                self._wait(waiting, progress)
        except BaseException:
            self._end(servers)
            raise

    @property
    def identity(self) -> str:
        """Return the identity that each server shows to its clients."""
        return make_identity(self._folder)

    def down(self, progress: Progress) -> None:
        """End every server by its stop signal, and by SIGKILL after 20 s. The data stay.

        Arguments:
            progress: Receives lines about the progress.
        """
        running = [server for server in self.servers if self._process(server)]
        if not running:
            progress("no server is running")
            return
        with only_one(self._lock):
            progress(f"stopping {_titles(running)} …")
            self._end(running)
            progress("stopped; the data are kept")

    def status(self) -> list[ServerStatus]:
        """Return the status of each server."""
        return [_status(server) for server in self.servers]

    def _fetch_jars(self, servers: list[Server], progress: Progress) -> None:
        try:
            for jars in (jars for server in servers for jars in server.needs):
                self.jars.folder(jars, progress)
        except JarsError as error:
            raise StackError(str(error)) from error

    def _start(self, servers: list[Server]) -> None:
        if servers:
            make_identity(self._folder)
        # Kafka last: its first start formats its folder, while the others boot.
        for server in reversed(servers):
            private_folder(server.folder)
            if server.identity:
                # The server runs as another user, who needs access to its data through the folders above.
                for folder in (server.folder, *server.folder.parents[:2]):
                    folder.chmod(folder.stat().st_mode | _PASSING_THROUGH)
            command = server.prepare()
            with interrupts_delayed():
                self._launch(server, command)

    def _launch(self, server: Server, command: list[str]) -> None:
        if server.log.exists():
            server.log.replace(server.log.with_suffix(".log.1"))
        with open_private(server.log, "wb") as log:
            try:
                child = subprocess.Popen(
                    command,
                    cwd=server.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=dying_with_parent() if self.tied_to_parent else None,
                    umask=UMASK,
                    **server.identity,
                )
            except OSError as error:
                raise StackError(f"{server.title}: {command[0]} cannot be started: {error}") from error
        self._children[server] = child
        with open_private(server.pid_file, "w") as file:
            file.write(str(child.pid))

    def _wait(self, waiting: list[Server], progress: Progress) -> None:
        began = time.monotonic()
        while waiting:
            for server in list(waiting):
                try:
                    version = server.ask()
                except NotAnsweringError as reason:
                    self._check_start(server, time.monotonic() - began, reason)
                    continue
                waiting.remove(server)
                seconds = time.monotonic() - began
                progress(f"{server.title} {version} answers on {server.address} ({seconds:.1f} s)")
            time.sleep(POLL_SECONDS if waiting else 0)

    def _check_start(self, server: Server, seconds: float, reason: NotAnsweringError) -> None:
        if not self._process(server):
            child = self._children.get(server)
            code = child.poll() if child else None
            raise StackError(f"{server.title} ended during its start (exit code {code}){_log_end(server)}")
        if seconds > START_SECONDS:
            raise StackError(f"{server.title} does not answer after {seconds:.0f} s: {reason}{_log_end(server)}")

    def _is_there(self, server: Server) -> bool:
        """Return whether a server has a process, before and after a request: a killed server keeps it for a moment."""
        if self._process(server) is None:
            return False
        with suppress(NotAnsweringError):
            server.ask()
        # A killed process exists until its last thread has ended.
        return self._process(server) is not None and not server.is_ending()

    def _process(self, server: Server) -> psutil.Process | None:
        # A child that is starting has no command line yet to recognize it by.
        child = self._children.get(server)
        return psutil.Process(child.pid) if child and child.poll() is None else server.process()

    def _end(self, servers: list[Server]) -> None:
        with interrupts_delayed():
            processes = {server: process for server in servers if (process := self._process(server))}
            for server, process in processes.items():
                process.send_signal(server.stop_signal)
            wait_for_end(processes.values(), STOP_SECONDS)
            for process in filter(is_alive, processes.values()):
                process.kill()
            wait_for_end(processes.values(), STOP_SECONDS)
            for server in processes:
                if child := self._children.pop(server, None):
                    child.wait()
                server.pid_file.unlink(missing_ok=True)


@contextmanager
def ephemeral_stack(
    base_dir: Path,
    settings: Settings | None = None,
    progress: Progress = lambda _: None,
    *,
    with_postgres: bool = False,
    only: Collection[str] = (),
) -> Iterator[Settings]:
    """Start a stack on free ports, for a test or a trial; its servers end with the block or with this process.

    Call it from the main thread (see `Stack`).

    Arguments:
        base_dir: The stack's data folder; it stays at the end.
        settings: Settings for everything but addresses and folders; by default from the environment, without `.env`.
        progress: Receives lines about the progress.
        with_postgres: Whether it has PostgreSQL for Dagster's own storage.
        only: As in `Stack`.

    Yields:
        The settings with the stack's addresses and data folder. `Stack(settings)` is the same stack.

    Raises:
        StackError: A server did not start.
    """
    addresses = [Address("127.0.0.1", port) for port in free_ports(5 if with_postgres else 4)]
    own = settings_at(settings or Settings(_env_file=None), *addresses)
    own = own.model_copy(update={"data_dir": base_dir.absolute()})
    stack = Stack(own, tied_to_parent=True, with_postgres=with_postgres, only=only)
    try:
        stack.up(progress)
        _prove(stack, own)
        yield own
    finally:
        stack.down(progress)


def identified(settings: Settings) -> Settings:
    """Return the settings with the stack's identity: every process then checks that its servers belong to the stack."""
    return settings.model_copy(update={"servers_identity": Stack(settings).identity})


def _prove(stack: Stack, own: Settings) -> None:
    """Check, before anything is written, that the stack's own servers answer at its addresses.

    Raises:
        HistoryUnavailable, KafkaError, Unavailable: Another server answers, or none.
    """
    from truepixel_dagster.instance.history import check_history
    from truepixel_dagster.resources import open_stores
    from truepixel_dagster.stream.client_config import client_config

    expected = identified(own)
    names = {server.name for server in stack.servers}
    if Postgres.name in names:
        check_history(expected)
    if names >= {Kafka.name, Elasticsearch.name, MongoDB.name, Redis.name}:
        client_config(expected.kafka())
        with open_stores(expected):
            pass


def _check_platform(servers: Collection[Server]) -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        here = f"{platform.system()} {platform.machine()}"
        raise StackError(f"the local stack's servers run on x86-64 Linux only, and this is {here}: {OWN_SERVERS}")
    packages = sorted({name for server in servers for name in server.packages})
    if lacking := [name for name in packages if find_spec(name) is None]:
        raise StackError(
            f"the local stack's servers are not installed (no {', '.join(lacking)}):"
            f" pip install 'truepixel-dagster[local]' (in a checkout: pip install -e '.[local]'), or {OWN_SERVERS}"
        )


def _check_port(server: Server) -> None:
    """Wait until a server's port is free: a killed server may still hold it for a moment."""
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        try:
            return socket.create_server((server.address.ip, server.address.port)).close()
        except OSError as error:
            if not server.is_ending() or time.monotonic() > deadline:
                reason = _holder(server.address) or error
                raise StackError(f"{server.title} cannot listen on {server.address}: {reason}") from None
        time.sleep(POLL_SECONDS)


def _holder(address: Address) -> str | None:
    """Return which process uses the port and the next step; None if the system does not show it."""
    try:
        listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN and one.pid]
        pid = next(one.pid for one in listening if one.laddr and one.laddr.port == address.port)
        return f"pid {pid} ({psutil.Process(pid).name()}) uses the port. End it, or set another address"
    except (StopIteration, psutil.Error):
        return None


def _status(server: Server) -> ServerStatus:
    process = server.process()
    try:
        version = server.ask() if process else None
    except NotAnsweringError:
        version = None
    pid = process.pid if process else None
    return ServerStatus(server.name, str(server.address), pid, version, _disk_bytes(server.data), version is not None)


def _disk_bytes(folder: Path) -> int:
    """Return the disk space of a folder: Kafka's index files, for example, are sparse."""
    return sum(_file_bytes(Path(parent, name)) for parent, _, names in os.walk(folder) for name in names)


def _file_bytes(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:  # a live server removes files
        return 0


def _log_end(server: Server) -> str:
    return f"; the end of {server.log}:\n{server.log_end()}"


def _titles(servers: list[Server]) -> str:
    return ", ".join(server.title for server in servers)
