"""Start, kill and stop Dagster's daemon."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from truepixel_dagster.instance.process import environment
from truepixel_dagster.local.processes import dying_with_parent
from truepixel_dagster.local.programs import end_tree
from truepixel_dagster.private_files import UMASK, open_private, private_folder
from truepixel_dagster.settings import Settings


class Daemon:
    """Dagster's daemon, which starts the code server and the workers.

    Arguments:
        data_dir: The pipeline's data folder.

    Attributes:
        log: The log of the daemon and the runs.
    """

    def __init__(self, data_dir: Path) -> None:
        self.log = data_dir / "logs" / "daemon.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._family: dict[int, psutil.Process] = {}

    def start(self, settings: Settings, folder: Path | None = None) -> None:
        """Start Dagster's daemon with definitions that have failpoints.

        Arguments:
            settings: The settings of the daemon and its workers.
            folder: Its working folder; its home by default.
        """
        command = [sys.executable, "-m", "dagster._daemon", "run", "-m", "truepixel_dagster.local.chaos.definitions"]
        env = environment(settings)
        private_folder(self.log.parent)
        with open_private(self.log, "ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=folder or env["DAGSTER_HOME"],
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=dying_with_parent(),
                umask=UMASK,
            )

    def kill(self) -> None:
        """Kill only the daemon with SIGKILL; its code server and its workers continue."""
        if self._process:
            self._remember_family()
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End the daemon and all processes that it started."""
        if self._process:
            self._remember_family()
            end_tree(self._process)
            self._process = None

    def end(self) -> None:
        """End the daemon, and the processes that its killed predecessors left behind."""
        self.stop()
        for process in self._family.values():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _remember_family(self) -> None:
        assert self._process is not None  # noqa: S101 (the callers check it)
        with suppress(psutil.NoSuchProcess):
            self._family |= {one.pid: one for one in psutil.Process(self._process.pid).children(recursive=True)}
