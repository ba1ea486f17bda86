"""Cursors that other versions of a sensor may have written."""

from __future__ import annotations

CURSORS = [
    "garbage",
    "",
    "5",
    "null",
    "[]",
    '"text"',
    "{",
    "{}",
    '{"observed_at": "yesterday"}',
    '{"observed_at": NaN}',
    '{"observed_at": 1e400}',
    '{"held": 5, "committed": []}',
    '{"committed": {"zero": [1, 2]}}',
    '{"committed": {"0": 7}}',
    '{"committed": {"0": [7, 1, 2]}}',
    '{"denials": 99999999999, "denied_at": 1}',
    '{"denials": -1}',
    '{"silent_since": null}',
    "[" * 5000,
    '{"held": ["a"], "from": "a newer version"}',
]
