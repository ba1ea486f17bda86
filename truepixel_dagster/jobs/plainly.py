"""What an operator can put right fails a run with one line, which says what it is, and without a stack trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster._core.errors import DagsterUserCodeProcessError
from dagster_shared.error import SerializableErrorInfo

from truepixel_dagster.flush import FlushRefused
from truepixel_dagster.settings import SettingsError
from truepixel_dagster.stores.epoch import StateLost
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stream.errors import KafkaError
from truepixel_dagster.text import printable

EXPECTED: tuple[type[Exception], ...] = (SettingsError, Unavailable, KafkaError, FlushRefused)


class OneLine(DagsterUserCodeProcessError, dg.Failure):
    """A failure that is shown as its line: Dagster takes the words of such an error as they are, and adds no trace."""

    def __init__(self, line: str) -> None:
        # What a server says may quote what anybody sent.
        line = printable(line)
        told = SerializableErrorInfo(message=line, stack=[], cls_name=None)
        super().__init__(line, allow_retries=False, user_code_process_error_infos=[told])  # type: ignore[no-untyped-call]


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
