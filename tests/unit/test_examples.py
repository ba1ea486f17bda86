"""The examples in the docstrings of modules run, and give what they show."""

from __future__ import annotations

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "truepixel_dagster"
# Modules whose examples need servers: `tests/integration/test_examples.py` runs them.
WITH_SERVERS = (
    "dead_letters.topic",
    "pipeline.lane_claim",
    "stores.elasticsearch",
    "stores.redis.leases",
    "stores.mongodb",
    "stores.redis",
    "stream.consumer",
    "stream.producer",
    "stream.reading",
    "stream.topics",
)
# The core without I/O: its modules begin with an example, except those that only hold types.
CORE = ("answers", "dead_letters", "events", "orders", "pipeline", "stages", "stream", "supervisor")
MODULES = [
    f"{folder}.{module.stem}"
    for folder in CORE
    for module in sorted((PACKAGE / folder).glob("*.py"))
    if re.search(r"^ *>>> ", module.read_text(), re.MULTILINE) and f"{folder}.{module.stem}" not in WITH_SERVERS
] + ["access", "chunks", "identity", "stores.fields", "text"]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_begins_with_an_example_that_runs(name: str) -> None:
    module = import_module(f"truepixel_dagster.{name}")
    first_line, _, rest = (module.__doc__ or "").partition("\n\n")
    assert rest.lstrip().startswith(">>> "), first_line
    ran = doctest.testmod(module)
    assert ran.attempted > 0
    assert ran.failed == 0
