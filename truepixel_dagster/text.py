r"""Text from outside (campaigns, ids, headers, what a server says) as text that nothing takes for an instruction.

    >>> from truepixel_dagster.text import code, printable
    >>> print(printable("spring\x1b[31m sale"))
    spring\x1b[31m sale
    >>> print(code("a`b"))
    `a\x60b`

A terminal obeys escape sequences, a reader believes what a bidirectional override shows, a log of lines believes line
breaks. What is shown to a person therefore goes through `printable`; where it stands in Markdown, through `code`. What
programs read is JSON, which stays exact: `printable_json`.
"""

from __future__ import annotations

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


def printable(text: str, keep: str = "") -> str:
    r"""A text with every character that cannot be seen as its escape, such as `\x1b`, `\u202e`, `\n`.

    These are the control characters (C0, DEL and C1), format characters (bidirectional overrides, zero width),
    separators but the space, surrogates, and code points without a character.

    Arguments:
        text: Any text.
        keep: Characters to leave as they are, such as the line breaks of a text that is meant to have lines.
    """
    if text.isprintable() and not _INVISIBLE.search(text):
        return text
    return "".join(c if c in keep or _visible(c) else ascii(c)[1:-1] for c in text)


def printable_json(text: str) -> str:
    r"""JSON that reads the same and has no character that cannot be seen: in strings it is `\uXXXX`, as JSON has it."""
    if text.isprintable() and not _INVISIBLE.search(text):
        return text
    return "".join(c if c == "\n" or _visible(c) else _as_json(c) for c in text)


def code(text: str) -> str:
    """A text as code in Markdown, where nothing in it is markup: no link, no picture, no heading."""
    return f"`{printable(text).replace('`', _BACKTICK)}`"


def file_name(prefix: str, text: str, suffix: str) -> str:
    """A name for one file in one folder, on whatever system, of at most 128 characters beside prefix and suffix.

    Letters and digits of the text stay readable. A digest of all of it tells names of different texts apart.

    Arguments:
        prefix: What the name begins with: so it is no name that a system keeps for itself, and no hidden file.
        text: Any text.
        suffix: What the name ends with, such as `.jsonl`.
    """
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{prefix}-{_NOT_IN_NAMES.sub('-', text)[:_LONGEST_NAME]}-{digest}{suffix}"


def _visible(character: str) -> bool:
    return character.isprintable() and not _INVISIBLE.match(character)


def _as_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
