"""A command cleans up, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# A subcommand that ends itself after the group's own work.
PROGRAM = """
import os, signal, sys
name, before = getattr(signal, sys.argv[1]), sys.argv[2]
if before == "ignored":
    signal.signal(name, signal.SIG_IGN)
import click
from truepixel_dagster.cli.main import main

@main.command()
def end():
    try:
        os.kill(os.getpid(), name)
        print("went on")
    finally:
        print("cleaned up")

main(["end"])
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize(("before", "said"), [("default", ["cleaned up"]), ("ignored", ["went on", "cleaned up"])])
def test_a_command_that_is_ended_cleans_up(name: str, before: str, said: list[str]) -> None:
    if not hasattr(signal, name):
        pytest.skip(f"this platform has no {name}")
    done = subprocess.run([sys.executable, "-c", PROGRAM, name, before], capture_output=True, text=True)
    assert done.stdout.split("\n")[:-1] == said, done.stderr
