"""How much the tests try: everything in `./run test`, a tenth in the quick loop `./run test unit`.

The profile of hypothesis decides: `full`, or `quick` by `--hypothesis-profile=quick`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import pytest
from hypothesis import settings

T = TypeVar("T")
#: The profiles, by the number of examples of a property that names none.
FULL, QUICK = 100, 10


def share(number: int) -> int:
    """Return a number, or a tenth of it in the quick loop."""
    return max(1, number * _examples() // FULL)


def examples(number: int) -> settings:
    """Return the settings of a property that tries this number of examples, or the quick loop's share of it."""
    return settings(max_examples=share(number))


def sampled(cases: Sequence[T]) -> Sequence[T]:
    """Return all cases, or every tenth of them in the quick loop."""
    return cases[:: FULL // _examples()]


def thorough() -> pytest.MarkDecorator:
    """Return the mark of tests that the quick loop leaves out, because they need very many cases to say anything."""
    is_quick = _examples() == QUICK
    return pytest.mark.skipif(is_quick, reason="needs very many cases: `./run test` runs it")


def _examples() -> int:
    """Return the number of examples of the current profile."""
    assert settings.default is not None
    return settings.default.max_examples
