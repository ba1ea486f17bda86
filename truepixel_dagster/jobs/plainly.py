"""Fail a run with one line, without a stack trace, if an operator can correct the error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from truepixel_dagster.flush import FlushRefused
from truepixel_dagster.instance.one_line import OneLine
from truepixel_dagster.settings import SettingsError
from truepixel_dagster.stores.epoch import StateLost
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
        OneLine: The block met such an error.
    """
    expected = EXPECTED + also
    try:
        yield
    except expected as error:
        # What Redis has lost does not come back by doing it again; the message says what does.
        raise OneLine(str(error) if isinstance(error, StateLost) else f"{error}{hint}") from None
