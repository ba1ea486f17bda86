"""Which user agents are bots: the kept list of crawlerdetect, which the pipeline reads too."""

from __future__ import annotations

from functools import lru_cache

from crawlerdetect import CrawlerDetect

LONGEST_LOOKED_AT = 1_024
_LIST = CrawlerDetect()


@lru_cache(maxsize=10_000)
def is_bot(user_agent: str | None) -> bool:
    """Whether a program that is no browser of a visitor says that it is one."""
    return bool(user_agent and _LIST.isCrawler(user_agent[:LONGEST_LOOKED_AT]))
