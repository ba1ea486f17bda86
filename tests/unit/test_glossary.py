"""docs/glossary.md has each word once, and a meaning for each."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "glossary.md").read_text()


def test_each_word_has_one_meaning() -> None:
    rows = [row for row in re.findall(r"^\| (.+?) \| (.+?) \|$", TEXT, re.MULTILINE) if row[0] not in ("word", "---")]
    words = Counter(word for names, _ in rows for word in names.split(", "))
    assert len(rows) >= 40
    assert [word for word, count in words.items() if count > 1] == []
    assert len({meaning for _, meaning in rows}) == len(rows)
