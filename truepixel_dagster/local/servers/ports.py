"""Choose free ports of the loopback interface."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

from truepixel_dagster.local.servers.server import StackError

# Linux assigns ports from 32768 on to clients. Kafka's controllers have a range of their own: when one gets its port,
# the ports of other servers are chosen and still free.
FOR_SERVERS, FOR_CONTROLLERS = range(20_000, 30_000), range(30_000, 32_768)


def free_ports(count: int, among: range = FOR_SERVERS) -> list[int]:
    """Return different free ports of the loopback interface.

    They are below the range that systems assign to clients: otherwise a client that tries to reach a stopped server may
    get that server's port, and the server could not start again.

    Raises:
        StackError: There are not that many free ports.
    """
    found: list[int] = []
    for port in random.sample(among, len(among)):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == count:
            return found
    raise StackError(f"fewer than {count} ports between {among[0]} and {among[-1]} are free")
