"""Compare what a worker may hold with the memory that its control group allows."""

from __future__ import annotations

from pathlib import Path

from truepixel_dagster.settings import MIB, Settings, SettingsError

# What a worker holds before its first message: the interpreter, Dagster and the four clients.
WORKER_BASE_MIB = 140
# A micro-batch is in memory as received, as its documents, and as the bulk bodies that they make.
COPIES_OF_A_BATCH = 3


def memory_limit() -> int | None:
    """Return the process's memory limit in bytes from its control group (v2, then v1); None if there is none."""
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        # v1 says "no limit" with a number close to 2**63
        if text.isdigit() and int(text) < 2**60:
            return int(text)
    return None


def check_memory(settings: Settings, limit: int | None) -> None:
    """Compare what a worker may hold with the memory limit of its process.

    Arguments:
        settings: The settings with the budgets.
        limit: Bytes, as `memory_limit` gives it; None is not checked.

    Raises:
        SettingsError: The budgets do not fit.
    """
    if limit is None:
        return
    need = WORKER_BASE_MIB * MIB + settings.prefetch_bytes + COPIES_OF_A_BATCH * settings.batch_bytes
    if need > limit:
        raise SettingsError(
            f"memory limit {limit // MIB} MiB is under the {need // MIB} MiB that a worker may need"
            f" ({WORKER_BASE_MIB} MiB base + TRUEPIXEL_PREFETCH_BYTES + {COPIES_OF_A_BATCH} x TRUEPIXEL_BATCH_BYTES):"
            " lower one of them or raise the limit"
        )
