"""Import the stores' client libraries without the optional packages that they use if installed.

These packages are for asynchronous calls, another HTTP client, OCSP and Arrow tables. The pipeline uses none of them,
and they cost each worker 60 MiB and half a second. Each adapter imports this module before its client library.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _without(*names: str) -> Iterator[None]:
    """Make modules that are not loaded yet look uninstalled during the block."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


with _without("aiohttp", "requests", "cryptography", "pyarrow"):
    import elasticsearch as _elasticsearch  # noqa: F401
    import pymongo as _pymongo  # noqa: F401
    import redis as _redis  # noqa: F401
