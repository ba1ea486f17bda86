"""`truepixel shops …`: parses arguments and prints."""

from truepixel_dagster.shops_cli import connect as _connect  # noqa: F401 (adds its commands)
from truepixel_dagster.shops_cli.commands import shops

__all__ = ["shops"]
