"""Call Dagster's GraphQL API on this machine, as the UI does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import requests

_READY = "{ repositoriesOrError { __typename } }"
_LAUNCH = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
_STATE = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    __typename
    ... on PartitionBackfill {
      status
      assetBackfillData { assetBackfillStatuses { ... on AssetPartitionsStatusCounts {
        assetKey { path } numPartitionsTargeted numPartitionsMaterialized numPartitionsFailed
      } } }
    }
  }
}
"""


class GraphQLError(Exception):
    """Dagster's API refused a request, or the requested work failed; the message says why."""


class GraphQL:
    """Call a webserver on loopback."""

    def __init__(self, address: str) -> None:
        self._address = f"{address}/graphql"

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Return the answer to a query of one field.

        Raises:
            GraphQLError: The webserver refused the query.
            requests.ConnectionError: The webserver does not answer.
        """
        answer = requests.post(self._address, json={"query": query, "variables": variables}, timeout=60).json()
        if "errors" in answer:
            raise GraphQLError(str(answer["errors"]))
        (data,) = answer["data"].values()
        return dict(data)

    def wait(self, seconds: float = 180) -> None:
        """Wait until the webserver answers and has loaded the definitions.

        Raises:
            GraphQLError: The webserver has not answered in that time.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if self.ask(_READY)["__typename"] == "RepositoryConnection":
                    return
            except requests.ConnectionError:
                pass
            time.sleep(0.5)
        raise GraphQLError(f"{self._address} has not answered for {seconds:.0f} s")

    def launch_backfill(self, assets: Sequence[str], partitions: Sequence[str]) -> str:
        """Launch a backfill of assets; return its id.

        Raises:
            GraphQLError: Dagster refused the backfill.
        """
        params = {"assetSelection": [{"path": [asset]} for asset in assets], "partitionNames": list(partitions)}
        launched = self.ask(_LAUNCH, params=params)
        if launched["__typename"] != "LaunchBackfillSuccess":
            raise GraphQLError(f"the backfill was refused: {launched.get('message', launched)}")
        return str(launched["backfillId"])

    def backfill(
        self,
        assets: Sequence[str],
        partitions: Sequence[str],
        seconds: float = 600,
        on_wait: Callable[[], None] = lambda: None,
    ) -> list[dict[str, Any]]:
        """Backfill assets and wait for the end.

        Arguments:
            assets: The keys of the assets.
            partitions: The keys of their partitions.
            seconds: The time limit.
            on_wait: Called about once a second.

        Returns:
            For each asset its key, and how many partitions were requested, materialized and failed.

        Raises:
            GraphQLError: Dagster refused the backfill, it failed, or it took longer.
        """
        launched = self.launch_backfill(assets, partitions)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            state = self.ask(_STATE, id=launched)
            if state["status"] == "COMPLETED_SUCCESS":
                return list(state["assetBackfillData"]["assetBackfillStatuses"])
            if state["status"] not in ("REQUESTED", "COMPLETING"):
                raise GraphQLError(f"the backfill {launched} ended as {state['status']}: {state}")
            on_wait()
            time.sleep(1)
        raise GraphQLError(f"the backfill {launched} did not end within {seconds:.0f} s")
