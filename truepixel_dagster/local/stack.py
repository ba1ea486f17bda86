"""The local stack: real Kafka, Elasticsearch, MongoDB and Redis-protocol servers, as processes on this machine.

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

import platform
from collections.abc import Callable, Collection
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

from truepixel_dagster.identity import make_identity
from truepixel_dagster.local.addresses import addresses_of, postgres_of
from truepixel_dagster.local.jars import JarCache, JarsError
from truepixel_dagster.local.lock import only_one
from truepixel_dagster.local.processes import interrupts_delayed
from truepixel_dagster.local.programs import say_died
from truepixel_dagster.local.server_processes import ServerProcesses, check_port
from truepixel_dagster.local.server_status import ServerStatus, status_of
from truepixel_dagster.local.servers import (
    Address,
    Elasticsearch,
    Kafka,
    MongoDB,
    Postgres,
    Redis,
    Server,
    StackError,
)
from truepixel_dagster.local.steps import step
from truepixel_dagster.private_files import private_folder
from truepixel_dagster.settings import Settings

_PASSING_THROUGH = 0o011
OWN_SERVERS = (
    "point TRUEPIXEL_KAFKA_BOOTSTRAP, TRUEPIXEL_ELASTICSEARCH_URL, TRUEPIXEL_MONGODB_URL and TRUEPIXEL_REDIS_URL"
    " to servers of your own"
)

Progress = Callable[[str], None]


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
        self._processes = ServerProcesses(tied_to_parent=tied_to_parent)

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
            missing = [server for server in self.servers if not self._processes.is_there(server)]
            for server in missing:
                check_port(server)
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
        dead = [server for server in self.servers if self._processes.find(server) is None]
        if not dead:
            return False
        with only_one(self._lock):
            for server in dead:
                check_port(server)
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
                self._processes.wait(waiting, progress)
        except BaseException:
            self._processes.end(servers)
            raise

    @property
    def identity(self) -> str:
        """Return the identity that each server shows to its clients."""
        return make_identity(self._folder)

    def down(self, progress: Progress) -> None:
        """End every server by its stop signal, and by SIGKILL after 20 s. The data is kept.

        Arguments:
            progress: Receives lines about the progress.
        """
        running = [server for server in self.servers if self._processes.find(server)]
        if not running:
            progress("no server is running")
            return
        with only_one(self._lock):
            progress(f"stopping {_titles(running)} …")
            self._processes.end(running)
            progress("stopped; the data is kept")

    def status(self) -> list[ServerStatus]:
        """Return the status of each server."""
        return [status_of(server) for server in self.servers]

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
                self._processes.launch(server, command)


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


def _titles(servers: list[Server]) -> str:
    return ", ".join(server.title for server in servers)
