"""The base class of the stack's servers: an address, a folder, a process, and a request that shows readiness."""

from __future__ import annotations

import signal
import socket
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import psutil

from truepixel_dagster.identity import stack_identity
from truepixel_dagster.local.jars import JarSet

ANSWER_TIMEOUT = 2.0  # seconds
LOG_END_LINES = 20


class StackError(Exception):
    """The local stack failed. The message says which server, why, and what to do."""


class NotAnsweringError(Exception):
    """A server does not answer yet, or no longer."""


@dataclass(frozen=True)
class Address:
    """The address of a server: a loopback host as clients name it, and a port."""

    host: str
    port: int

    @property
    def ip(self) -> str:
        """Return the IP address to bind; `localhost` means IPv4."""
        return "127.0.0.1" if self.host == "localhost" else self.host

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Server(ABC):
    """A server of the stack."""

    name: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[tuple[JarSet, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ()
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, address: Address, folder: Path) -> None:
        self.address = address
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "server.log"
        self.pid_file = folder / "server.pid"

    @property
    @abstractmethod
    def mark(self) -> str:
        """Return the argument of the command line that identifies this server's process."""

    @property
    def shown(self) -> str | None:
        """Return the identity of its stack, which it shows to clients; None if the stack has none."""
        return stack_identity(self.folder.parent)

    @property
    def identity(self) -> dict[str, Any]:
        """Return the arguments of `subprocess` to run the server as another user; none for most servers."""
        return {}

    @abstractmethod
    def prepare(self) -> list[str]:
        """Create what the server needs in its folder, and return its command.

        Raises:
            JarsError: Jars could not be fetched.
            StackError: The server's files cannot be used.
        """

    def ask(self) -> str:
        """Send a request that only a ready server answers, and return the server's version.

        Raises:
            NotAnsweringError: The server does not answer; the message says why.
        """
        # Connect first, because some clients wait for their whole timeout if no server listens.
        try:
            socket.create_connection((self.address.ip, self.address.port), timeout=ANSWER_TIMEOUT).close()
        except OSError as error:
            raise NotAnsweringError(str(error)) from error
        return self._version()

    @abstractmethod
    def _version(self) -> str: ...

    def log_end(self) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_END_LINES:])

    def is_ending(self) -> bool:
        """Return whether the server's process was killed and may still hold its port: it has lost its command line."""
        try:
            return not psutil.Process(int(self.pid_file.read_text())).cmdline()
        except psutil.ZombieProcess:
            return True
        except (OSError, ValueError, psutil.Error):
            return False

    def process(self) -> psutil.Process | None:
        """Return the server's live process, whichever program started it."""
        try:
            process = psutil.Process(int(self.pid_file.read_text()))
            return process if self.mark in process.cmdline() else None
        except (OSError, ValueError, psutil.Error):
            return None


def package_folder(name: str) -> Path:
    """Return the folder of an installed package.

    Raises:
        StackError: It is not installed.
    """
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise StackError(f"the package {name} is not installed")
    return Path(spec.origin).parent
