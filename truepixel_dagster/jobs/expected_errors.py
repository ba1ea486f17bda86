"""Fail an op with one line, without a stack trace, for the errors that an operator can correct."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from truepixel_dagster.flush import FlushRefused
from truepixel_dagster.instance.operator_error import OperatorError
from truepixel_dagster.settings import SettingsError
from truepixel_dagster.stores.epoch import StateLost
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stream.errors import KafkaError

EXPECTED: tuple[type[Exception], ...] = (SettingsError, Unavailable, KafkaError, FlushRefused)


@contextmanager
def expected_errors(hint: str = "", also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Fail an op with nothing but the message of an expected error, without a retry by Dagster.

    Arguments:
        hint: What to append to the message.
        also: Errors that are expected here in addition to `EXPECTED`.

    Raises:
        OperatorError: The block raised such an error.
    """
    expected = EXPECTED + also
    try:
        yield
    except expected as error:
        # A repetition does not restore what Redis has lost; the message says what does.
        raise OperatorError(str(error) if isinstance(error, StateLost) else f"{error}{hint}") from None
