"""docs/architecture.md describes every folder and module of the package, and no others."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "truepixel_dagster"
# The tables of the document: the first cell of a row names folders (`stream/`) and modules (`flush.py`).
NAMED = re.compile(r"`([\w/]+(?:/|\.py))`")


def described() -> set[str]:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = text.split("| folder |")[1].split("\n\n")[0].splitlines()[2:]
    return {name for row in rows for name in NAMED.findall(row.split("|")[1])}


def is_package(folder: Path) -> bool:
    return (folder / "__init__.py").exists()


def test_every_folder_of_the_package_is_described() -> None:
    folders = {f"{folder.name}/" for folder in PACKAGE.iterdir() if is_package(folder)}
    local = {f"local/{folder.name}/" for folder in (PACKAGE / "local").iterdir() if is_package(folder)}
    assert sorted((folders | local) - described()) == []


def test_every_module_beside_the_folders_is_described() -> None:
    modules = {module.name for module in PACKAGE.glob("*.py") if module.name != "__init__.py"}
    assert sorted(modules - described()) == []


def test_what_is_described_exists() -> None:
    beside = {"pixel/"}
    assert sorted(name for name in described() - beside if not (PACKAGE / name).exists()) == []
