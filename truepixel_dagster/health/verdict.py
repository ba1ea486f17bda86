"""What a look at the pipeline's health comes to."""

from __future__ import annotations

import msgspec

EXAMPLES = 20


class Verdict(msgspec.Struct, frozen=True):
    """Whether all is well; if not, what is wrong and what to do, in a sentence or two; and the figures looked at."""

    passed: bool
    description: str
    figures: dict[str, int | float | str | list[str]]


def verdict(wrong: str, advice: str, **figures: int | float | str | list[str]) -> Verdict:
    """Healthy if nothing is wrong.

    Arguments:
        wrong: What is wrong; empty where nothing is.
        advice: What to do about it.
        figures: What was looked at.
    """
    named = {name.replace("_", " "): value for name, value in figures.items()}
    return Verdict(not wrong, f"{wrong}. {advice}" if wrong else "", named)
