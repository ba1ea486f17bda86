"""The tests that docs/guarantees.md names exist: a guarantee whose test was renamed would have no test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.mutations import MUTATIONS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "guarantees.md").read_text()
# The section on Redis says that its tests without a file are here.
DEFAULT_FILE = "test_redis_lost.py"
NAMED = re.compile(r"`([\w/.:…]+)(?:\[[^\]`]*\])?`")


# The tests of each file, by its path below the project.
FUNCTIONS = {
    f"/{path.relative_to(ROOT)}": frozenset(re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE))
    for path in (ROOT / "tests").rglob("test_*.py")
}


@cache
def functions(file: str) -> frozenset[str]:
    """The tests of a file that is named by the end of its path; none where there is no such file."""
    return frozenset().union(*(found for path, found in FUNCTIONS.items() if path.endswith(f"/{file}")))


class Named(NamedTuple):
    """A test of one of some files, or all of a file's where the name is empty; `…` stands for a part of a name."""

    files: tuple[str, ...]
    name: str

    @property
    def exists(self) -> bool:
        if not self.name:
            return any(map(functions, self.files))
        pattern = re.escape(self.name).replace("…", r"\w*")
        return any(re.fullmatch(pattern, name) for file in self.files for name in functions(file))


def named(section: str) -> Iterator[Named]:
    """The tests that the tables of a section name."""
    above: tuple[str, ...] = ()
    for row in section.splitlines():
        here: tuple[str, ...] = (DEFAULT_FILE,)
        for text in NAMED.findall(row) if row.startswith("| ") else ():
            path, _, name = text.rpartition("::") if "::" in text else (text, "", "")
            if re.search(r"test_\w+\.py$", path):
                above += (here := (path.lstrip("…/"),))
                yield Named(here, name)
            elif name or text.startswith("…"):
                yield Named(above, name or text)
            elif text.startswith("test_"):
                yield Named(here, text)


def test_every_test_that_is_named_exists() -> None:
    found = [each for section in re.split("^##+ ", TEXT, flags=re.MULTILINE) for each in named(section)]
    assert len(found) > 200
    assert [each for each in found if not each.exists] == []


def test_names_are_read_as_they_are_written() -> None:
    first = "| `test_a.py::test_b`, `…::test_c_…`, `…d_e` `test_f[x]` `TRUEPIXEL_X=1` `truepixel lag` |"
    second = "| `…/x/test_f.py` and `test_g` | `…::test_h` |\n| `test_i` |\n`test_a.py` in a sentence"
    a, f = "test_a.py", "x/test_f.py"
    assert list(named(f"{first}\n{second}")) == [
        ((a,), "test_b"),
        ((a,), "test_c_…"),
        ((a,), "…d_e"),
        ((a,), "test_f"),
        ((f,), ""),
        ((f,), "test_g"),
        ((a, f), "test_h"),
        ((DEFAULT_FILE,), "test_i"),
    ]
    assert Named(("test_guarantees.py",), "…read_as_they…").exists
    assert not Named(("test_guarantees.py",), "test_none_such").exists
    assert not Named(("test_none_such.py",), "").exists


def test_every_test_of_a_guard_exists() -> None:
    words = {word for guard in MUTATIONS for word in guard.tests.split() if "::" in word}
    assert words
    assert [word for word in sorted(words) if not Named((word.split("::")[0],), word.split("::")[1]).exists] == []


def test_every_selection_of_a_guard_selects_a_test() -> None:
    selections = [guard.tests.split(" -k ") for guard in MUTATIONS if " -k " in guard.tests]
    assert selections
    missing = [
        (file, word)
        for file, word in selections
        if not any(word in name for name in functions(Path(file.split()[-1]).name))
    ]
    assert missing == []


def test_the_table_of_guards_has_each_guard_with_its_file_and_a_test_of_it() -> None:
    rows = [row.strip("| ").split(" | ") for row in TEXT.split("| guard | where |")[1].splitlines()[2:] if row]
    assert [(guard, file.strip("`")) for guard, file, _ in rows] == [(each.guard, each.file) for each in MUTATIONS]
    tests = {each.guard: each.tests for each in MUTATIONS}
    assert [guard for guard, _, test in rows if test.strip("`").split("::")[0] not in tests[guard]] == []
