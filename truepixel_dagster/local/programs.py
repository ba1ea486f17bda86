"""Run a program beside the demo, with its log and its restart; end it with everything that it started."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from truepixel_dagster.private_files import UMASK, open_private, private_folder

LOG_END_LINES, LINE_CHARACTERS = 8, 160


class Program:
    """Run a program as a child process whose output goes to a file.

    Arguments:
        title: Its name in messages.
        command: The program and its arguments.
        environment: The program's environment variables.
        folder: The program's working directory.
        log: The file for its output; a restart appends to it.
        preexec: What the child calls before the program starts.
    """

    def __init__(
        self,
        title: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        preexec: Callable[[], None] | None = None,
    ) -> None:
        self.title = title
        self.log = log
        self._command = command
        self._environment = environment
        self._folder = folder
        self._preexec = preexec
        self.process = self._start("wb")

    def restart_if_dead(self, say: Callable[[str], None]) -> bool:
        """Restart the program if it has ended, and report the end of its log; return whether it had ended."""
        code = self.process.poll()
        if code is None:
            return False
        say_died(say, f"{self.title} has died (exit code {code})", self.log)
        say(f"starting {self.title} again")
        self.process = self._start("ab")
        return True

    def end(self) -> None:
        """End the program and everything that it started."""
        end_tree(self.process)

    def _start(self, mode: str) -> subprocess.Popen[bytes]:
        private_folder(self.log.parent)
        with open_private(self.log, mode) as output:
            return subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=self._preexec,
                umask=UMASK,
            )


def say_died(say: Callable[[str], None], what: str, log: Path) -> None:
    """Report a dead server or program, and the end of its log on separate lines."""
    say(f"{what}; the end of {log}:")
    for line in log_end(log).splitlines():
        say(f"  {line}")


def log_end(log: Path) -> str:
    """Return the last lines of a log without colours; long lines are cut."""
    lines = click.unstyle(log.read_text(errors="replace")).splitlines()[-LOG_END_LINES:]
    return "\n".join(line if len(line) <= LINE_CHARACTERS else f"{line[:LINE_CHARACTERS]}…" for line in lines)


def end_tree(process: subprocess.Popen[Any]) -> None:
    """End a process and its descendants: SIGINT first, as from a terminal, and SIGKILL for those left after 20 s."""
    import psutil

    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        process.kill()
        _, alive = psutil.wait_procs(family, timeout=10)
        for left in alive:
            left.terminate()
        psutil.wait_procs(alive, timeout=5)
    finally:
        # A second Ctrl-C ends the wait, and leaves no process behind either.
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.kill()
        process.wait()
