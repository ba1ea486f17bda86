"""Fail an op with an error that Dagster shows as one line.

Private: Dagster shows a `DagsterUserCodeProcessError` with the message that the error carries. The public way,
`dagster.Failure`, shows the stack trace too, and those of its causes; an operator has to search them for the line.
"""

from __future__ import annotations

import dagster as dg
from dagster._core.errors import DagsterUserCodeProcessError
from dagster_shared.error import SerializableErrorInfo

from truepixel_dagster.text import printable


class OperatorError(DagsterUserCodeProcessError, dg.Failure):
    """A failure that an operator can correct; Dagster shows its one line without a stack trace."""

    def __init__(self, line: str) -> None:
        # A server's message may quote text from outside.
        line = printable(line)
        shown = SerializableErrorInfo(message=line, stack=[], cls_name=None)
        super().__init__(line, allow_retries=False, user_code_process_error_infos=[shown])  # type: ignore[no-untyped-call]
