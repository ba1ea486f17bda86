"""`dagster dev` with our guarded webserver: takes what `dagster dev` takes.

    python -m truepixel_dagster.instance.dev -h 127.0.0.1 -p 3000

It starts webserver and daemon as processes of their own and has no public option for another webserver. Private: the
function that starts them; the name of the module that it starts is replaced.
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
