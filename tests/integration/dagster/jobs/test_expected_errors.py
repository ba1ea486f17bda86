"""An expected failure is one line."""

from __future__ import annotations

import pytest

from truepixel_dagster.instance.operator_error import OperatorError
from truepixel_dagster.jobs.expected_errors import expected_errors
from truepixel_dagster.stores.epoch import StateLost
from truepixel_dagster.stores.errors import Unavailable

HINT = ". Nothing is lost: the next flush continues"


def test_a_hint_follows_transient_errors_but_not_lost_data_of_redis() -> None:
    with pytest.raises(OperatorError, match=r"away\. Nothing is lost"), expected_errors(HINT):
        raise Unavailable("Redis is away")
    with pytest.raises(OperatorError) as failed, expected_errors(HINT):
        raise StateLost("Redis has lost its data")
    assert failed.value.description == "Redis has lost its data"
