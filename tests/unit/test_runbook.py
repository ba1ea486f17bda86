"""The messages that head the sections of docs/runbook.md are those that the code prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A message stands in several lines of the code, and `…`, N and M stand for what differs.
CODE = re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text() for path in (ROOT / "truepixel_dagster").rglob("*.py")))
HEADINGS = re.findall(r'^## (.*".*)$', (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
# SQLite's own.
OF_OTHERS = {"database is locked"}


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_message_is_one_that_the_code_prints(heading: str) -> None:
    for message in set(re.findall(r'"([^"]+)"', heading)) - OF_OTHERS:
        parts = [part.strip(" ,.:") for part in re.split(r"…|\bN\b|\bM\b", message)]
        assert [part for part in parts if part not in CODE] == []


def test_there_are_such_headings() -> None:
    assert len(HEADINGS) > 5
