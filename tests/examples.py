"""How many examples hypothesis tries: all of them in `./run test`, a tenth in the quick `./run test unit`."""

from __future__ import annotations

from hypothesis import settings

#: The profiles of hypothesis, by the number of examples of a test that names none.
FULL, QUICK = 100, 10


def examples(number: int) -> settings:
    """Return the settings of a test that tries this number of examples, or the profile's share of it."""
    return settings(max_examples=max(1, number * settings.default.max_examples // FULL))
