"""The tables that come with the package: platforms, sources and rules of channels."""

import json
from importlib.resources import files
from typing import Any

_DATA = files("truepixel_dagster.events") / "data"


def table(name: str) -> dict[str, Any]:
    """Return a table's content."""
    found: dict[str, Any] = json.loads((_DATA / f"{name}.json").read_text())
    return found
