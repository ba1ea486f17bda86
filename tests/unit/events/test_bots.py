"""Which user agents are bots, and which are people."""

from __future__ import annotations

from pathlib import Path

import pytest
from crawlerdetect import CrawlerDetect
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples, share
from truepixel_dagster.events import bots
from truepixel_dagster.events.bots import MAX_USER_AGENT, is_bot

SAMPLES = Path(__file__).parents[2] / "samples"
BOTS = (SAMPLES / "user_agents_of_bots.txt").read_text().splitlines()
PEOPLE = (SAMPLES / "user_agents_of_people.txt").read_text().splitlines()


@pytest.mark.parametrize("user_agent", BOTS)
def test_a_program_is_a_bot(user_agent: str) -> None:
    assert is_bot(user_agent)


@pytest.mark.parametrize("user_agent", [*PEOPLE, "", " ", None])
def test_a_browser_is_no_bot(user_agent: str | None) -> None:
    assert not is_bot(user_agent)


@examples(50)
@given(st.one_of(st.sampled_from(BOTS), st.text(max_size=60), st.from_regex(r"[A-Za-z]{3,12}(bot|spider|/[0-9])")))
def test_the_result_is_that_of_the_library(user_agent: str) -> None:
    assert is_bot(user_agent) == CrawlerDetect().is_crawler(user_agent)


def test_only_the_beginning_of_a_long_user_agent_is_examined() -> None:
    browser = PEOPLE[0]
    assert is_bot("Googlebot/2.1 " + "x" * 5_000_000)
    assert not is_bot(f"{browser}{' ' * 5_000_000}Googlebot/2.1")
    assert is_bot(f"{browser}{' ' * (MAX_USER_AGENT - len(browser) - 13)}Googlebot/2.1")


def test_the_cache_stays_within_its_bound() -> None:
    cache = bots._Cache(10_000)
    for number in range(share(100)):
        assert not cache.is_bot(f"{number} " + "x" * 500)
    assert cache._bytes <= 10_000
    assert 0 < len(cache._known) <= 4
    assert cache.is_bot("curl/8.4.0") is True
