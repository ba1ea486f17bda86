"""Start, find, wait for and end the processes of the stack's servers."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from truepixel_dagster.local.processes import (
    POLL_SECONDS,
    dying_with_parent,
    interrupts_delayed,
    is_alive,
    wait_for_end,
)
from truepixel_dagster.local.servers import Address, NotAnsweringError, Server, StackError
from truepixel_dagster.private_files import UMASK, open_private

START_SECONDS = 120.0
STOP_SECONDS = 20.0


class ServerProcesses:
    """The processes of servers, whichever program started them.

    Arguments:
        tied_to_parent: Whether the system kills a server when the thread that launches it ends.
    """

    def __init__(self, *, tied_to_parent: bool) -> None:
        self._tied_to_parent = tied_to_parent
        self._children: dict[Server, subprocess.Popen[bytes]] = {}

    def launch(self, server: Server, command: list[str]) -> None:
        """Start a server by its command, and note its pid.

        Raises:
            StackError: The command cannot be started.
        """
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
                    preexec_fn=dying_with_parent() if self._tied_to_parent else None,
                    umask=UMASK,
                    **server.identity,
                )
            except OSError as error:
                raise StackError(f"{server.title}: {command[0]} cannot be started: {error}") from error
        self._children[server] = child
        with open_private(server.pid_file, "w") as file:
            file.write(str(child.pid))

    def is_there(self, server: Server) -> bool:
        """Return whether a server has a process, before and after a request: a killed server keeps it for a moment."""
        if self.find(server) is None:
            return False
        with suppress(NotAnsweringError):
            server.ask()
        # A killed process exists until its last thread has ended.
        return self.find(server) is not None and not server.is_ending()

    def find(self, server: Server) -> psutil.Process | None:
        """Return a server's live process, which may still be starting."""
        # A child that is starting has no command line yet to recognize it by.
        child = self._children.get(server)
        return psutil.Process(child.pid) if child and child.poll() is None else server.process()

    def wait(self, waiting: list[Server], progress: Callable[[str], None]) -> None:
        """Wait until all servers answer; remove each from the list when it does.

        Raises:
            StackError: A server ended, or did not answer in time.
        """
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
        if not self.find(server):
            child = self._children.get(server)
            code = child.poll() if child else None
            raise StackError(f"{server.title} ended during its start (exit code {code}){_log_end(server)}")
        if seconds > START_SECONDS:
            raise StackError(f"{server.title} does not answer after {seconds:.0f} s: {reason}{_log_end(server)}")

    def end(self, servers: list[Server]) -> None:
        """End servers by their stop signals, and by SIGKILL after 20 s."""
        with interrupts_delayed():
            processes = {server: process for server in servers if (process := self.find(server))}
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


def check_port(server: Server) -> None:
    """Wait until a server's port is free: a killed server may still hold it for a moment.

    Raises:
        StackError: Another process holds the port.
    """
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


def _log_end(server: Server) -> str:
    return f"; the end of {server.log}:\n{server.log_end()}"
