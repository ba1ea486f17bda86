"""Find, kill, freeze and terminate the workers of a pipeline under chaos."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from random import Random

import psutil
import redis

from truepixel_dagster.instance.process import dagster_home
from truepixel_dagster.local.chaos import failpoints
from truepixel_dagster.local.chaos.waiting import FIRST_WORK_SECONDS, until
from truepixel_dagster.resources import open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.redis.leases import holders


class Workers:
    """The workers of a pipeline, and the one that holds its lane.

    Arguments:
        settings: The pipeline's settings.
        daemon_log: The log to name if there is no worker.
    """

    def __init__(self, settings: Settings, daemon_log: Path) -> None:
        self._settings = settings
        self._daemon_log = daemon_log

    def live(self) -> psutil.Process:
        """Wait for a live worker and return it.

        Raises:
            ChaosFailed: There was none in time.
        """
        return until(self._find, FIRST_WORK_SECONDS, f"a worker; see {self._daemon_log}")

    def _find(self) -> psutil.Process | None:
        for file in failpoints.workers(self._settings.data_dir).glob("*"):
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(file.name))
                if process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= file.stat().st_mtime:
                    return process
            file.unlink(missing_ok=True)
        return None

    def kill(self, rng: Random) -> None:
        """Kill a worker with SIGKILL, up to a second after it was found."""

        def killed() -> bool:
            worker = self.live()
            time.sleep(rng.uniform(0, 1))
            with suppress(psutil.NoSuchProcess):  # it ended by itself meanwhile
                worker.kill()
                return True
            return False

        until(killed, FIRST_WORK_SECONDS, "a worker to kill")

    def owner(self) -> str | None:
        """Return the run that holds the lane's first partition; None if there is none or Redis does not answer."""
        with open_stores(self._settings) as stores, suppress(Unavailable, redis.RedisError):
            return holders(stores.redis.client, self._settings.namespace, [0]).get(0)
        return None

    def freeze_owner(self) -> tuple[psutil.Process, str]:
        """Stop a worker with SIGSTOP while it holds the lane; return the worker and its run."""

        def frozen() -> tuple[psutil.Process, str] | None:
            worker = self.live()
            with suppress(psutil.NoSuchProcess):
                worker.suspend()
                # A worker that has just given its lane back does not count.
                if owner := self.owner():
                    return worker, owner
                worker.resume()
            return None

        return until(frozen, FIRST_WORK_SECONDS, "a worker that has the lane")

    def terminate_owner(self) -> str:
        """Terminate the run that holds the lane through Dagster; return the run's id."""
        import dagster as dg

        def terminated() -> str | None:
            owner = self.owner()
            with dg.DagsterInstance.from_config(str(dagster_home(self._settings))) as instance:
                return owner if owner and instance.run_coordinator.cancel_run(owner) else None

        return until(terminated, FIRST_WORK_SECONDS, "a run that has the lane and can be terminated")
