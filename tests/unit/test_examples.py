"""The examples in the docstrings of modules run, and give what they show."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

MODULES = (
    "answers.cohorts",
    "answers.models",
    "answers.people",
    "events.decode",
    "events.money",
    "events.shop_time",
    "events.times",
    "events.user_key",
    "events.visits",
    "orders.credit",
    "orders.order",
    "stages.ad_lead",
    "stages.product_stats",
    "stores.fields",
    "pipeline.keyed_pool",
    "stream.lane",
    "pipeline.ledger",
    "stream.micro_batch",
    "supervisor.lanes",
    "supervisor.memory",
    "text",
)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_begins_with_an_example_that_runs(name: str) -> None:
    module = import_module(f"truepixel_dagster.{name}")
    first_line, _, rest = (module.__doc__ or "").partition("\n\n")
    assert rest.lstrip().startswith(">>> "), first_line
    ran = doctest.testmod(module)
    assert ran.attempted > 0
    assert ran.failed == 0
