"""`truepixel …`: parse arguments and print; other packages do the work. Each group of commands has a module."""

from truepixel_dagster.cli.main import main

__all__ = ["main"]
