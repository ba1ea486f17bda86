"""The result of a health check."""

from __future__ import annotations

import msgspec

from truepixel_dagster.text import label_of, printable

EXAMPLES = 20
Figure = int | float | str | list[str]


class Verdict(msgspec.Struct, frozen=True):
    """Hold whether a check passed, what is wrong and what to do otherwise, and the checked figures."""

    passed: bool
    description: str
    figures: dict[str, Figure]


def verdict(wrong: str, advice: str, **figures: Figure) -> Verdict:
    """Return a verdict, which passes if nothing is wrong.

    Arguments:
        wrong: What is wrong, as Markdown: text from outside as `code`. Empty if nothing is wrong.
        advice: What to do about it, as Markdown too.
        figures: The checked figures.
    """
    named = {label_of(name): _shown(value) for name, value in figures.items()}
    return Verdict(not wrong, printable(f"{wrong}. {advice}") if wrong else "", named)


def _shown(value: Figure) -> Figure:
    if isinstance(value, list):
        return [printable(each) for each in value]
    return printable(value) if isinstance(value, str) else value
