"""What an operator can put right fails a run with one line, which says what it is: no stack trace of ours beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from truepixel_dagster.flush import FlushRefused
from truepixel_dagster.settings import SettingsError
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stream.errors import KafkaError

EXPECTED: tuple[type[Exception], ...] = (SettingsError, Unavailable, KafkaError, FlushRefused)


@contextmanager
def plainly(hint: str = "", also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Fail an op by the message of an error alone; nothing is gained by trying the op again.

    Arguments:
        hint: What to say after it.
        also: Errors that are expected here beside `EXPECTED`.

    Raises:
        Failure: The block met such an error.
    """
    expected = EXPECTED + also
    try:
        yield
    except expected as error:
        # Without the cause: its trace leads into a client library, and the message has its words.
        raise dg.Failure(description=f"{error}{hint}", allow_retries=False) from None
