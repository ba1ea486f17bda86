"""The stages are listed once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from truepixel_dagster.stages import stage
from truepixel_dagster.stages.stage import IN_BACKGROUND, NAMES, REJECTING

ROOT = Path(__file__).resolve().parents[3]
# The oracle judges the pipeline and shares nothing with it.
APART = {ROOT / "truepixel_dagster/audit/oracle", Path(stage.__file__)}
FILES = [
    file
    for folder in ("truepixel_dagster", "assets", "sensors", "benchmarks")
    for file in sorted((ROOT / folder).rglob("*.py"))
    if APART.isdisjoint((file, *file.parents))
]


def second_lists(source: str) -> Iterator[int]:
    """The lines on which a list, a tuple, a set or a dict names two stages or more."""
    # Parsing takes most of the time, and few files name two stages.
    if sum(f"{quote}{name}{quote}" in source for name in NAMES for quote in "'\"") < 2:
        return
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Dict | ast.List | ast.Set | ast.Tuple):
            continue
        items = node.keys if isinstance(node, ast.Dict) else node.elts
        named = {item.value for item in items if isinstance(item, ast.Constant)} & set(NAMES)
        if len(named) > 1:
            yield node.lineno


def test_the_table_equals_the_contract() -> None:
    assert NAMES == ("index", "ad_lead", "attribution", "customer", "product_stats")
    assert IN_BACKGROUND == ("customer", "product_stats")
    assert REJECTING == ("decode", "index", "ad_lead", "attribution", "customer", "orders")


def test_every_stage_is_a_module_beside_the_table() -> None:
    folder = Path(stage.__file__).parent
    assert [name for name in NAMES if not (folder / f"{name}.py").exists()] == []


def test_a_second_list_would_be_found() -> None:
    assert list(second_lists("x = 1\nstages = ('index', 'customer')")) == [2]
    assert list(second_lists("{'ad_lead': 1, **more, 'product_stats': 2}")) == [1]
    assert list(second_lists("('index', 'fetch')")) == []


def test_no_other_file_lists_the_stages() -> None:
    assert len(FILES) > 300
    assert [(str(file), line) for file in FILES for line in second_lists(file.read_text())] == []
