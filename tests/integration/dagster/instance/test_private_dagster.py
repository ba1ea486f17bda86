"""Dagster's private modules, which may change with each version, are imported in `instance/` and nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from truepixel_dagster.instance.process import ROOT

INSTANCE = ROOT / "truepixel_dagster" / "instance"
FOLDERS = ("truepixel_dagster", "assets", "sensors", "benchmarks")
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def private_names(path: Path) -> Iterator[str]:
    """Dagster's modules that a file imports and that Dagster's documentation does not name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.startswith(("dagster._", "dagster_shared")))


def test_nothing_outside_of_instance_imports_them() -> None:
    found = {str(path.relative_to(ROOT)): list(private_names(path)) for path in SOURCES if INSTANCE not in path.parents}
    assert len(found) > 300
    assert {path: names for path, names in found.items() if names} == {}


USERS = [path for path in SOURCES if INSTANCE in path.parents and list(private_names(path))]


@pytest.mark.parametrize("path", USERS, ids=lambda path: path.stem)
def test_a_module_that_imports_them_says_why_and_which_public_way_there_is(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert "Private: " in text
    assert " public " in text


def test_some_modules_import_them() -> None:
    assert {path.stem for path in USERS} >= {"event_log", "executor", "operator_error", "run_events"}
