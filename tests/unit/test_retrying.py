"""The log lines while a call is repeated."""

from __future__ import annotations

import logging
import re

import pytest

from truepixel_dagster import retrying


def test_a_coming_try_is_logged_in_one_line(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE", 0.001)
    errors = [OSError("refused\nand more of it")]

    def call() -> str:
        if errors:
            raise errors.pop()
        return "through"

    with caplog.at_level(logging.WARNING):
        assert retrying.retrying(call, transient=lambda error: isinstance(error, OSError), attempts=3) == "through"
    (line,) = caplog.messages
    assert re.fullmatch(r"OSError: refused; trying again in [01]\.\d s", line)


def test_the_callers_words_are_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE", 0.001)

    def call() -> None:
        raise OSError("refused")

    with caplog.at_level(logging.WARNING), pytest.raises(OSError, match="refused"):
        retrying.retrying(call, transient=lambda _: True, attempts=2, words=lambda error: f"the server: {error}\x1b")
    (line,) = caplog.messages
    assert line.startswith(r"the server: refused\x1b; trying again in ")
