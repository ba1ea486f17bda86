"""Import the stores' client libraries without what they import for other uses.

They also import what they find of libraries for asynchronous calls, another HTTP client, certificates revoked by OCSP
and answers as Arrow tables. Nothing here uses those, and they cost each worker 60 MiB and half a second. Each adapter
imports this module before the library.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _without(*names: str) -> Iterator[None]:
    """Have modules that are not loaded yet look as if they were not installed, while others are imported."""
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
