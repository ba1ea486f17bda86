"""The examples in the docstrings of modules with I/O run on the real servers, and give what they show."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

from tests.unit.test_examples import WITH_SERVERS
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings


@pytest.mark.parametrize("name", WITH_SERVERS)
def test_an_example_runs_on_the_servers(name: str, settings: Settings, stores: Stores) -> None:
    ran = doctest.testmod(
        import_module(f"truepixel_dagster.{name}"), extraglobs={"settings": settings, "stores": stores}
    )
    assert ran.attempted > 0
    assert ran.failed == 0
