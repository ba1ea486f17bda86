"""Reindex an index whose mapping cannot be corrected in place: create it again with the same documents."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.elasticsearch import ElasticsearchStore
from truepixel_dagster.stores.errors import ServerRefuses


def reindex(settings: Settings, index: str) -> int:
    """Reindex the documents of an index under the mapping of its template; return how many.

    The documents are copied to another index, and back after their own index was created again. After an interruption,
    the same call continues: documents are removed only when all of them have a copy. Lanes must not write meanwhile.

    Raises:
        ServerRefuses: The index is not the pipeline's, or a document does not fit the mapping.
        Unavailable: No answer; call it again.
    """
    with closing(ElasticsearchStore(settings.elasticsearch(), exact=True)) as store:
        body = store.body_of(index)
        if body is None:
            raise ServerRefuses(f"{index} is not an index of this pipeline: `truepixel setup` names indices to reindex")
        indices, aside = store.client.indices, store.index(f"aside-{index}")
        if store.wrong(index):
            _put_aside(store, index, aside, body)
            indices.delete(index=index)
        if not indices.exists(index=aside):
            return 0
        if not indices.exists(index=index):
            indices.create(index=index, **body)
        # A document that a lane has written meanwhile stays.
        count = store.copy(aside, index)
        indices.delete(index=aside)
        return count


def _put_aside(store: ElasticsearchStore, index: str, aside: str, body: dict[str, Any]) -> None:
    indices = store.client.indices
    indices.delete(index=aside, ignore_unavailable=True)
    indices.put_settings(index=index, settings={"index.blocks.write": True})
    try:
        indices.create(index=aside, **body)
        store.copy(index, aside)
    except BaseException:
        # Nothing is lost: all documents are still in the index.
        indices.put_settings(index=index, settings={"index.blocks.write": None})
        raise
