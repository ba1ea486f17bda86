"""The one line of a failure."""

from __future__ import annotations

import pytest

from truepixel_dagster.instance.one_line import OneLine
from truepixel_dagster.jobs.plainly import plainly
from truepixel_dagster.stores.epoch import StateLost
from truepixel_dagster.stores.errors import Unavailable

HINT = ". Nothing is lost: the next flush continues"


def test_a_hint_follows_what_passes_by_itself_and_not_what_redis_has_lost() -> None:
    with pytest.raises(OneLine, match=r"away\. Nothing is lost"), plainly(HINT):
        raise Unavailable("Redis is away")
    with pytest.raises(OneLine) as failed, plainly(HINT):
        raise StateLost("Redis has lost its data")
    assert failed.value.description == "Redis has lost its data"
