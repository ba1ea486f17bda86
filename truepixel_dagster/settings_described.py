"""Describe settings to an operator: the source of a value, its bounds, and variables that are not settings."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, get_args, get_origin

from dotenv import dotenv_values

from truepixel_dagster.settings import SECRETS_DIR, Settings

_PREFIX = "TRUEPIXEL_"
_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than", "pattern": ""}


def unknown_variables() -> list[tuple[str, str | None]]:
    """Return the TRUEPIXEL_ variables of the environment and of `.env` that are not settings, each with the setting of
    the most similar name."""
    known = {name.upper() for name in Settings.model_fields}
    others = {name.removeprefix(_PREFIX) for name in (SECRETS_DIR, "TRUEPIXEL_CALLED_AS")}
    variables = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    named = {name.removeprefix(_PREFIX) for name in variables if name.startswith(_PREFIX)}
    nearest = {name: get_close_matches(name, known, 1) for name in sorted(named - known - others)}
    return [(_PREFIX + name, _PREFIX + found[0] if found else None) for name, found in nearest.items()]


def source_of(field: str) -> str:
    """Return where the value of a setting comes from: `environment`, `.env`, `file` or `default`."""
    name = f"TRUEPIXEL_{field.upper()}"
    if name in {variable.upper() for variable in os.environ}:
        return "environment"
    if name in {variable.upper() for variable in dotenv_values(".env")}:
        return ".env"
    folder = Path(os.environ.get(SECRETS_DIR) or os.devnull)
    return "file" if any((folder / each).is_file() for each in (name, name.lower())) else "default"


def bounds_of(field: str) -> str:
    """Return the values that a setting may have, in words; empty if its type alone decides."""
    info = Settings.model_fields[field]
    if get_origin(info.annotation) is Literal:
        return " or ".join(get_args(info.annotation))
    found = {name: getattr(each, name) for each in info.metadata for name in _BOUNDS if hasattr(each, name)}
    return ", ".join(f"{_BOUNDS[name]} {value:,}" if name != "pattern" else f"{value}" for name, value in found.items())
