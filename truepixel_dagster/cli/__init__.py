"""`truepixel …`: arguments and printing only; the work is done elsewhere. A module for each group of commands."""

from truepixel_dagster.cli.main import main

__all__ = ["main"]
