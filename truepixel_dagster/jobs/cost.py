"""Measure the cost of a part of a run: its time, its processor time and the run's memory."""

from __future__ import annotations

import os
import time

from truepixel_dagster.pipeline.run_metrics import peak_memory


class Cost:
    """Measure from now on. The processor time includes that of processes which this one has started and awaited."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._used = _processor_seconds()

    def metadata(self) -> dict[str, float]:
        """Return what to report to Dagster."""
        return {
            "seconds": round(time.monotonic() - self._began, 1),
            "processor seconds": round(_processor_seconds() - self._used, 1),
            "peak memory (MiB)": round(peak_memory() / 2**20, 1),
        }


def _processor_seconds() -> float:
    return sum(os.times()[:4])
