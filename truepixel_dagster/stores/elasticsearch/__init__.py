"""Adapt Elasticsearch: read and write documents by mget and bulk, as ready-made JSON bytes.

>>> from truepixel_dagster.stores.elasticsearch import Action
>>> place = (stores.elasticsearch.index("weekly-visitors"), "shop:2026-W02")
>>> document = b'{"shop_id": "shop", "week": "2026-W02", "visitors": 3, "exact": false}'
>>> [outcome.status for outcome in stores.elasticsearch.bulk([Action("create", *place, document)])]
[201]
>>> (found,) = stores.elasticsearch.mget([place])
>>> found.source["visitors"]
3
"""

from __future__ import annotations

import msgspec

from truepixel_dagster.chunks import chunks
from truepixel_dagster.stores import client_libraries  # noqa: F401
from truepixel_dagster.stores.elasticsearch.actions import (
    CONFLICT,
    Action,
    Found,
    Outcome,
    Place,
    Written,
    replacing,
)
from truepixel_dagster.stores.elasticsearch.connection import denial, whole
from truepixel_dagster.stores.elasticsearch.documents import Documents
from truepixel_dagster.stores.elasticsearch.stamps import Stamps
from truepixel_dagster.stores.errors import ServerRefuses

__all__ = [
    "CONFLICT",
    "Action",
    "ElasticsearchStore",
    "Found",
    "Outcome",
    "Place",
    "Written",
    "denial",
    "replacing",
]

_COPIED_AT_ONCE = 250
# Write decimals in their original form.
_ENCODER = msgspec.json.Encoder(decimal_format="number")


class ElasticsearchStore(Stamps, Documents):
    """Adapt Elasticsearch. The first call connects.

    Arguments:
        access: Address, credentials, names and time limit.
        exact: Read numbers with a fraction as decimals.
    """

    def copy(self, source: str, target: str) -> int:
        """Copy the documents of one index to another, which keeps its own; return how many documents there are.

        Both are full names, and neither index is checked. Numbers stay unchanged only with `exact`.

        Raises:
            ServerRefuses: A document does not fit the target's mapping; those before it are copied.
            Unavailable: No answer after all tries.
        """
        self._call(lambda: whole(self.client.indices.refresh(index=source)))
        count = 0
        for hits in chunks(self._scan(source), _COPIED_AT_ONCE):
            actions = [Action("create", target, hit["_id"], _ENCODER.encode(hit["_source"])) for hit in hits]
            for action, outcome in zip(actions, self._bulk(actions)):
                if outcome.refused:
                    raise ServerRefuses(f"{self._server}: {action.id} does not fit {target}: {outcome.error}")
            count += len(actions)
        return count
