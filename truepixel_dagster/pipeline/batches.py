"""A micro-batch on its way through the stages: what each stage passes to the next."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.orders.counts import Counted
from truepixel_dagster.stages import ad_lead, attribution
from truepixel_dagster.stream.micro_batch import MicroBatch


class FetchedBatch(NamedTuple):
    """Hold a micro-batch as received, its messages after redaction, and their events.

    `fetched_at` is a value of `time.perf_counter`, in seconds.
    """

    batch: MicroBatch
    messages: tuple[Message, ...]
    events: tuple[Event, ...]
    fetched_at: float


class Prefetched(NamedTuple):
    """Hold the stored documents of a micro-batch's users and orders, read before its stages 2 and 3."""

    leads: Mapping[str, dict[str, Any]]
    orders: attribution.Prefetched


class IndexedBatch(NamedTuple):
    """Hold the result of stage 1: the events that continue, and the data that is being read for the next stages."""

    fetched: FetchedBatch
    events: tuple[Event, ...]
    prefetched: Future[Prefetched]


class TouchedBatch(NamedTuple):
    """Hold the result of stage 2: the events that continue, and the touches of their users."""

    fetched: FetchedBatch
    events: tuple[Event, ...]
    leads: ad_lead.Leads
    prefetched: Prefetched


class AttributedBatch(NamedTuple):
    """Hold the result of stage 3: events that continue, changes to product statistics, and users with changed orders.

    `changes` is by record, `concerns` by user.
    """

    fetched: FetchedBatch
    events: tuple[Event, ...]
    changes: Mapping[Origin, Counted]
    concerns: Mapping[str, attribution.Concern]
