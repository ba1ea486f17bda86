"""Which user agents are bots: the kept list of crawlerdetect, which the pipeline reads too."""

from __future__ import annotations

from functools import lru_cache

from crawlerdetect import CrawlerDetect

LONGEST_LOOKED_AT = 1_024
_LIST = CrawlerDetect()


@lru_cache(maxsize=10_000)
def is_bot(user_agent: str | None) -> bool:
    """Return whether a user agent is that of a bot and not of a visitor's browser."""
    return bool(user_agent and _LIST.isCrawler(user_agent[:LONGEST_LOOKED_AT]))
