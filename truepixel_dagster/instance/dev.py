"""Run `dagster dev` with our guarded webserver; the options are those of `dagster dev`.

    python -m truepixel_dagster.instance.dev -h 127.0.0.1 -p 3000

`dagster dev` starts the webserver and the daemon as processes and has no public option for another webserver.
Private: the function that starts them; it gets the guarded webserver's module instead of Dagster's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dagster._cli import dev

from truepixel_dagster.instance.webserver import MODULE as GUARDED

_STARTS_A_PROCESS = "open_ipc_subprocess"


def main() -> None:
    """Serve until interrupted."""
    start = vars(dev)[_STARTS_A_PROCESS]

    def start_guarded(command: Sequence[str], **options: Any) -> Any:
        return start([GUARDED if part == "dagster_webserver" else part for part in command], **options)

    vars(dev)[_STARTS_A_PROCESS] = start_guarded
    dev.dev_command()


if __name__ == "__main__":
    main()
