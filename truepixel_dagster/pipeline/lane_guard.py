"""Stop a lane at its first failure, and measure the duration of its stages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from truepixel_dagster.pipeline.run_metrics import RunMetrics
from truepixel_dagster.stores.redis.leases import Lease


class LaneStopped(Exception):
    """An earlier failure stopped the lane."""


class LaneGuard:
    """Let a stage run only while the lane has its lease and nothing has failed.

    Attributes:
        lease: The lane's lease.
        metrics: The run's metrics.
        counting: Held while something is counted in the metrics.
        failure: The first failure, which stopped the lane.
    """

    def __init__(self, lease: Lease, metrics: RunMetrics) -> None:
        self.lease = lease
        self.metrics = metrics
        self.counting = threading.Lock()
        self.failure: BaseException | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Run a stage in the block, and note its failure and how long it took.

        Raises:
            LaneStopped: An earlier stage has failed.
            LaneLost: The lease is lost.
        """
        if self.failure is not None:
            raise LaneStopped(f"the lane was stopped by: {self.failure}") from self.failure
        started = time.perf_counter()
        try:
            self.lease.check()
            yield
        except BaseException as error:
            self.failure = error
            raise
        finally:
            with self.counting:
                self.metrics.stage_seconds[name] += time.perf_counter() - started
