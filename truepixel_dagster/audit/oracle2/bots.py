"""Which user agents are bots."""

from __future__ import annotations

import re

# Stands in until the list of the library is in the tree.
_WORDS = re.compile("bot|crawl|spider|headless|lighthouse", re.IGNORECASE)


def is_bot(user_agent: str | None) -> bool:
    """Whether a program that is no browser of a visitor says that it is one."""
    return bool(user_agent and _WORDS.search(user_agent))
