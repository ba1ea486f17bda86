"""Build a run's report to Dagster: a materialization for each asset and day, and its figures.

Only this module creates labels for people. Programs that read figures, such as the exporter, use the record under
`FIGURES`, whose keys are stable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import dagster as dg
import msgspec

from truepixel_dagster.asset_keys import EVENTS, KAFKA_TOPIC, PRODUCT_STATS_BUFFER
from truepixel_dagster.events.origin import kafka_offset
from truepixel_dagster.jobs.unreported import UNITS
from truepixel_dagster.pipeline.run_figures import RunFigures, figures_of
from truepixel_dagster.pipeline.run_metrics import WAITING, RunMetrics, percentile

FIGURES = "figures"
LATENCIES = "attribution latencies (ms)"
FRESHNESS = "freshness of micro-batches (ms)"


def materializations(metrics: RunMetrics) -> Iterator[dg.AssetMaterialization]:
    """Return one materialization for each asset and day that a run wrote."""
    ranges: dict[str, dg.MetadataValue] = {"offsets": offsets(metrics)} if metrics.ranges else {}
    for asset, unit in UNITS.items():
        for day, count in metrics.by_day(asset).items():
            counts: dict[str, dg.MetadataValue] = {unit: dg.IntMetadataValue(count)}
            written: dict[str, dg.MetadataValue] = {"written by": dg.TextMetadataValue("stream")}
            own = ranges if asset == EVENTS else {}
            yield dg.AssetMaterialization(asset_key=asset, partition=day, metadata={**written, **counts, **own})
    if metrics.counted:
        yield dg.AssetMaterialization(asset_key=PRODUCT_STATS_BUFFER, metadata={"events counted": metrics.counted})


def summary(metrics: RunMetrics) -> str:
    """Return a run's progress in one line: `4,497 messages of partitions 0–2 in 31 s`."""
    count = f"{metrics.messages:,} message{'' if metrics.messages == 1 else 's'}"
    where = f" of {_partitions(sorted(metrics.ranges))}" if metrics.ranges else ""
    return f"{count}{where} in {metrics.seconds:.0f} s"


def outcome(metrics: RunMetrics) -> str:
    """Return a run's commits in one line, with the results of the messages."""
    counts = {
        "events indexed": metrics.indexed,
        "orders": metrics.orders,
        "duplicates": metrics.duplicates,
        "redelivered": metrics.redelivered,
        "redacted": metrics.redacted,
        "dead letters": sum(metrics.dead_letters.values()),
        "left waiting": metrics.waiting,
    }
    became = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    return f"committed {summary(metrics)}" + (f": {became}" if became else "")


def _partitions(numbers: Sequence[int]) -> str:
    """`partition 1`, `partitions 0–2`, `partitions 0, 3 and 6`."""
    if len(numbers) == 1:
        return f"partition {numbers[0]}"
    if numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"partitions {numbers[0]}–{numbers[-1]}"
    return f"partitions {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def offsets(metrics: RunMetrics) -> dg.TableMetadataValue:
    """Return the offsets that a run processed, each with the command that processes them again."""
    rows = [
        dg.TableRecord(
            {
                "partition": r.partition,
                "first": kafka_offset(r.first),
                "last": kafka_offset(r.last),
                "again": (
                    f"truepixel replay --partition {r.partition}"
                    f" --offsets {kafka_offset(r.first)}:{kafka_offset(r.last)}"
                ),
            }
        )
        for _, r in sorted(metrics.ranges.items())
    ]
    return dg.MetadataValue.table(rows)


def observed(metrics: RunMetrics) -> dg.AssetObservation:
    """Return a run's figures as an observation of the topic: an asset without partitions plots them by time.

    It has the figures twice: under labels for people, and as a record under `FIGURES`.
    """
    figures = figures_of(metrics)
    ranges = {"offsets": offsets(metrics)} if metrics.ranges else {}
    if metrics.lost_ranges:
        ranges["offsets lost to retention"] = _lost(metrics)
    record = {FIGURES: dg.JsonMetadataValue(msgspec.to_builtins(figures, str_keys=True))}
    metadata = {**labelled(figures), **_times(figures), **_series(figures), **ranges, **record}
    return dg.AssetObservation(asset_key=KAFKA_TOPIC, metadata=metadata)


def figures_in(observation: dg.AssetObservation) -> RunFigures | None:
    """Return the figures that a run reported with an observation; None for an observation without figures.

    Raises:
        ValidationError: The record has another shape.
    """
    record = observation.metadata.get(FIGURES)
    return None if record is None else msgspec.convert(record.value, RunFigures, strict=False)


def labelled(figures: RunFigures) -> dict[str, int | float]:
    """Return a run's figures under the labels that Dagster's UI shows."""
    latencies, freshness = figures.attribution_latencies_ms, figures.freshness_ms
    shown: dict[str, int | float] = {
        "messages": figures.messages,
        "micro-batches": figures.micro_batches,
        "messages per minute": figures.messages_per_minute,
        "messages left waiting": figures.messages_left_waiting,
        "indexed": figures.indexed,
        "duplicates": figures.duplicates,
        "replays": figures.replays,
        "redacted": figures.redacted,
        "lost to retention": sum(figures.lost_to_retention.values()),
        "dead letters": sum(figures.dead_letters.values()),
        "order: checked": figures.order_checked,
        "order: violations": figures.order_violations,
        "contiguity: checked": figures.contiguity_checked,
        "contiguity: violations": figures.contiguity_violations,
        "users touched": figures.users_touched,
        "orders": figures.orders,
        "status changes": figures.status_changes,
        "attribution p50 (ms)": round(percentile(latencies, 50), 1),
        "attribution p95 (ms)": round(percentile(latencies, 95), 1),
        "freshness p50 (ms)": round(percentile(freshness, 50)),
        "freshness p95 (ms)": round(percentile(freshness, 95)),
        "peak memory (MiB)": round(figures.peak_memory_bytes / 2**20, 1),
    }
    shown |= {f"dead letters of {stage}": count for stage, count in figures.dead_letters.items()}
    shown |= {f"lost to retention, partition {number}": count for number, count in figures.lost_to_retention.items()}
    shown |= {f"{_stage(key)} (s)": seconds for key, seconds in figures.stage_seconds.items()}
    return shown


def _stage(key: str) -> str:
    return f"{key.removesuffix(WAITING)} (waiting)" if key.endswith(WAITING) else key


def _times(figures: RunFigures) -> dict[str, dg.TimestampMetadataValue]:
    times = {
        "lane taken": figures.lane_taken,
        "lane given back": figures.lane_given_back,
        "first messages": figures.first_messages,
        "last commit": figures.last_commit,
    }
    return {label: dg.MetadataValue.timestamp(at) for label, at in times.items() if at is not None}


def _series(figures: RunFigures) -> dict[str, dg.JsonMetadataValue]:
    return {
        LATENCIES: dg.JsonMetadataValue(figures.attribution_latencies_ms),
        FRESHNESS: dg.JsonMetadataValue(figures.freshness_ms),
    }


def _lost(metrics: RunMetrics) -> dg.TableMetadataValue:
    """Return the offsets that retention removed before they were read."""
    rows = [
        dg.TableRecord({"partition": r.partition, "first": kafka_offset(r.first), "last": kafka_offset(r.last)})
        for r in metrics.lost_ranges
    ]
    return dg.MetadataValue.table(rows)
