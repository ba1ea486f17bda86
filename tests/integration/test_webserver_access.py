"""Dagster's webserver: it shows everything and changes nothing, unless it was asked for more."""

from __future__ import annotations

import pytest

from truepixel_dagster.local.demo import dagster_dev, free_port
from truepixel_dagster.local.graphql import GraphQL, GraphQLError
from truepixel_dagster.settings import Settings

_FLUSH = """
mutation { launchRun(executionParams: {
  mode: "default", selector: {
    jobName: "flush", repositoryName: "__repository__", repositoryLocationName: "truepixel"
  } }) { __typename } }
"""


def test_it_is_read_only_by_default(settings: Settings) -> None:
    port = free_port(0)
    with dagster_dev(settings, port):
        api = GraphQL(f"http://127.0.0.1:{port}")
        api.wait()
        assert api.ask(_FLUSH)["__typename"] == "UnauthorizedError"
        with pytest.raises(GraphQLError, match="refused"):
            api.launch_backfill(["customers"], ["2026-01-05"])
