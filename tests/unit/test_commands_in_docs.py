"""Every command that the documentation names exists, with the options that it gives."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from truepixel_dagster.cli import main

ROOT = Path(__file__).parents[2]
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# `./run` does these itself; everything else is a command of `truepixel`.
OF_RUN = {"test", "bench", "pixels", "check", "audit-dependencies", "help"}
# In a code block, or in a sentence.
COMMAND = re.compile(r"(?:^(?: {4}|\$ )|`|exec |-- )((?:\./run|truepixel) [a-z-][^`\n]*)", re.MULTILINE)


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command, without comments, pipes and what follows them."""
    for line in COMMAND.findall(text.replace("\\\n", " ")):
        words = shlex.split(re.split(r"\s#|[|;>]|&&", line)[0].replace("'", "").replace('"', "").replace("…", ""))
        if words[0] == "./run" and (words[1] in OF_RUN or words[1].startswith("-")):
            continue
        yield words[1:]


def mistakes(words: list[str]) -> list[str]:
    """The parts of a command that do not exist: its name, or options."""
    command: click.Command = main
    taken = 0
    while isinstance(command, click.Group) and taken < len(words) and not words[taken].startswith("-"):
        found = command.commands.get(words[taken].rstrip(".,)"))
        if found is None:
            return [f"no command {' '.join(words[: taken + 1])}"]
        command, taken = found, taken + 1
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    if command.ignore_unknown_options or command.context_settings.get("ignore_unknown_options"):
        return []
    given = {word.partition("=")[0].rstrip(".,)") for word in words[taken:] if re.match(r"--?[a-z]", word)}
    return [f"{command.name} has no option {name}" for name in sorted(given - known - {"--help", "-h", "--version"})]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_commands_exist(path: Path) -> None:
    found = [(" ".join(words), said) for words in commands(path.read_text()) if words for said in mistakes(words)]
    assert found == []


def test_documentation_has_commands() -> None:
    assert sum(1 for path in DOCS for _ in commands(path.read_text())) > 150


def test_a_command_that_does_not_exist_is_named() -> None:
    assert mistakes(["stack", "upp"]) == ["no command stack upp"]
    assert mistakes(["report", "--shopp", "7"]) == ["report has no option --shopp"]
