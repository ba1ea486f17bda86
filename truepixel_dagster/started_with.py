"""The variables that a process was started with, which go before those of `.env`.

Dagster's command line loads the `.env` of its working folder over its environment, so that
`TRUEPIXEL_NAMESPACE=staging dagster dev` would work on the namespace of the file. The system still knows what the
process was started with.
"""

from __future__ import annotations

import os

from dotenv import dotenv_values


def put_back() -> None:
    """Give each variable that `.env` has replaced the value that this process was started with."""
    replaced = [name for name, value in dotenv_values(".env").items() if value == os.environ.get(name) is not None]
    if not replaced:
        return
    import psutil  # not every process that reads settings pays for it

    try:
        started = psutil.Process().environ()
    except psutil.Error:  # the system does not reveal it
        return
    os.environ.update({name: started[name] for name in replaced if name in started})
