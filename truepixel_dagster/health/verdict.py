"""What a look at the pipeline's health comes to."""

from __future__ import annotations

import msgspec

from truepixel_dagster.text import label_of, printable

EXAMPLES = 20
Figure = int | float | str | list[str]


class Verdict(msgspec.Struct, frozen=True):
    """Whether all is well; if not, what is wrong and what to do, in a sentence or two; and the figures looked at."""

    passed: bool
    description: str
    figures: dict[str, Figure]


def verdict(wrong: str, advice: str, **figures: Figure) -> Verdict:
    """Healthy if nothing is wrong.

    Arguments:
        wrong: What is wrong, as Markdown: text from outside as `code`. Empty where nothing is.
        advice: What to do about it, likewise.
        figures: What was looked at.
    """
    named = {label_of(name): _shown(value) for name, value in figures.items()}
    return Verdict(not wrong, printable(f"{wrong}. {advice}") if wrong else "", named)


def _shown(value: Figure) -> Figure:
    if isinstance(value, list):
        return [printable(each) for each in value]
    return printable(value) if isinstance(value, str) else value
