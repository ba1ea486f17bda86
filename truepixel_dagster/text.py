r"""Make text from outside (campaigns, ids, headers, servers' messages) safe to show: nothing in it is an instruction.

    >>> from truepixel_dagster.text import code, printable
    >>> print(printable("spring\x1b[31m sale"))
    spring\x1b[31m sale
    >>> print(code("a`b"))
    `a\x60b`

Escape sequences control a terminal, bidirectional overrides mislead a reader, and line breaks fake lines of a log. So
text for people goes through `printable`, in Markdown through `code`, and JSON for programs, which must stay exact,
through `printable_json`.
"""

from __future__ import annotations

import base64
import hashlib
import re

# Characters without a width that Unicode does not count among its control and format characters.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)

_BACKTICK = r"\x60"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME = 100


def label_of(key: str) -> str:
    """Return the label that people read for a figure's key: `dead_letters` → `dead letters`."""
    return key.replace("_", " ")


def with_advice(failure: str, reason: str, step: str) -> str:
    """Return an error for an operator: what failed, why, and the next step.

    >>> with_advice("authentication failed", "Authentication failed.", "Check TRUEPIXEL_REDIS_PASSWORD")
    'authentication failed: Authentication failed. Check TRUEPIXEL_REDIS_PASSWORD'
    """
    return f"{failure}: {reason.removesuffix('.')}. {step}"


def printable(text: str, keep: str = "") -> str:
    r"""Return a text with every invisible character as its escape, such as `\x1b`, `\u202e`, `\n`.

    These are the control characters (C0, DEL and C1), format characters (bidirectional overrides, zero width),
    separators but the space, surrogates, and code points without a character.

    Arguments:
        text: Any text.
        keep: Characters to keep, such as the line breaks of a text with several lines.
    """
    if text.isprintable() and not _INVISIBLE.search(text):
        return text
    return "".join(c if c in keep or _visible(c) else ascii(c)[1:-1] for c in text)


def printable_json(text: str) -> str:
    r"""Return equivalent JSON without invisible characters: in strings they become `\uXXXX`."""
    if text.isprintable() and not _INVISIBLE.search(text):
        return text
    return "".join(c if c == "\n" or _visible(c) else _as_json(c) for c in text)


def code(text: str) -> str:
    """Return a text as code in Markdown, so that nothing in it is markup: no link, no picture, no heading."""
    return f"`{printable(text).replace('`', _BACKTICK)}`"


def as_picture(png: bytes) -> str:
    """Return a picture as Markdown that contains it."""
    return f"![picture](data:image/png;base64,{base64.b64encode(png).decode()})"


def file_name(prefix: str, text: str, suffix: str) -> str:
    """Return a file name that is valid on every system, with at most 128 characters besides prefix and suffix.

    Letters and digits of the text stay readable. A digest of the text distinguishes names of different texts.

    Arguments:
        prefix: The beginning of the name, so that the name is neither reserved by a system nor hidden.
        text: Any text.
        suffix: The end of the name, such as `.jsonl`.
    """
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{prefix}-{_NOT_IN_NAMES.sub('-', text)[:_LONGEST_NAME]}-{digest}{suffix}"


def _visible(character: str) -> bool:
    return character.isprintable() and not _INVISIBLE.match(character)


def _as_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
