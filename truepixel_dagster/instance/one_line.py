"""A failure of an op that Dagster shows as one line.

Private: an error of `DagsterUserCodeProcessError` is shown by the words that it carries. The public way, a
`dagster.Failure`, is shown with its stack trace and those of its causes, in which an operator has to look for the line.
"""

from __future__ import annotations

import dagster as dg
from dagster._core.errors import DagsterUserCodeProcessError
from dagster_shared.error import SerializableErrorInfo

from truepixel_dagster.text import printable


class OneLine(DagsterUserCodeProcessError, dg.Failure):
    """A failure that is shown as its line: Dagster takes the words of such an error as they are, and adds no trace."""

    def __init__(self, line: str) -> None:
        # What a server says may quote what anybody sent.
        line = printable(line)
        told = SerializableErrorInfo(message=line, stack=[], cls_name=None)
        super().__init__(line, allow_retries=False, user_code_process_error_infos=[told])  # type: ignore[no-untyped-call]
