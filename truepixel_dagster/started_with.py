"""Restore the variables that a process was started with, which override those of `.env`.

Dagster's command line lets the `.env` of its working folder override the environment, so that
`TRUEPIXEL_NAMESPACE=staging dagster dev` would use the namespace in the file. The operating system still has the
original environment of the process.
"""

from __future__ import annotations

import os

from dotenv import dotenv_values


def put_back() -> None:
    """Give each variable that `.env` has replaced the value that this process was started with."""
    replaced = [name for name, value in dotenv_values(".env").items() if value == os.environ.get(name) is not None]
    if not replaced:
        return
    import psutil  # imported only if it is needed

    try:
        started = psutil.Process().environ()
    except psutil.Error:  # the system does not reveal it
        return
    os.environ.update({name: started[name] for name in replaced if name in started})
