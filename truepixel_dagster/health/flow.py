"""Check that the stream keeps up, and the share of records that cannot be processed."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from truepixel_dagster.dead_letters import topic as dead_letters
from truepixel_dagster.health.verdict import EXAMPLES, Verdict, verdict
from truepixel_dagster.resources import open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.source_log import count_of, lost_records, verified
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stream import reading, topics
from truepixel_dagster.stream.errors import LogChanged

HOUR_MS = 3_600_000
# A loss is permanent. The check fails for this many days, and then only reports the number.
LOST_DAYS = 7
# Fewer dead letters are no evidence of a high rate.
FEW_LETTERS = 10


def keeps_up(settings: Settings, now: float) -> Verdict:
    """Check how many messages wait, and the age of the oldest.

    Arguments:
        settings: `alert_lag` in messages, `alert_waiting` in seconds.
        now: Seconds since the epoch.

    Raises:
        KafkaUnavailable: Kafka does not answer.
    """
    partitions = topics.lag(settings.kafka())
    try:
        # Other checks report an unreachable store.
        with open_stores(settings) as stores, suppress(Unavailable):
            verified(settings.kafka(), stores, partitions)
    except LogChanged as changed:
        return verdict(str(changed), "", lag=sum(entry.lag for entry in partitions))
    waiting = {entry.partition: [max(entry.low, entry.committed or 0)] for entry in partitions if entry.lag}
    written = [message.timestamp / 1000 for message in reading.read_at(settings.kafka(), settings.topic, waiting)]
    total = sum(entry.lag for entry in partitions)
    age = round(max(0.0, now - min(written)), 1) if written else 0.0
    reasons = [f"{total} messages wait"] if total > settings.alert_lag else []
    reasons += [f"the oldest message has waited for {age:.0f} s"] if age > settings.alert_waiting else []
    advice = (
        "The last tick of the sensor kafka_lag says why a lane does not start, and the last run of process_events why"
        " it failed. If all lanes run, raise TRUEPIXEL_LANES"
    )
    return verdict(" and ".join(reasons), advice, lag=total, oldest_seconds=age)


def read_in_time(settings: Settings, now: float) -> Verdict:
    """Check for records that retention removed before they were read.

    Arguments:
        settings: The pipeline's settings.
        now: Seconds since the epoch.

    Raises:
        LogChanged: The topic is not the log that was processed.
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    with open_stores(settings) as stores:
        verified(settings.kafka(), stores)
        lost = lost_records(stores.mongodb)
    recent = [each for each in lost if now - each.found_at / 1000 < LOST_DAYS * 86_400]
    waiting = sum(entry.lost for entry in topics.lag(settings.kafka()))
    named = "; ".join(map(str, recent[:3]))
    reasons = [f"retention removed {count_of(recent)} records before they were read ({named})"] if recent else []
    reasons += [f"retention removed {waiting} records that no run has reached yet"] if waiting else []
    advice = (
        "They are lost to the pipeline: send them again if their sender still has them. Raise retention.ms of the"
        " topic, or TRUEPIXEL_LANES if the stream does not keep up"
    )
    ranges = [str(each) for each in lost[:EXAMPLES]]
    return verdict(" and ".join(reasons), advice, lost=count_of(lost), not_reached_yet=waiting, ranges=ranges)


def dead_letter_share(settings: Settings, now: float) -> Verdict:
    """Check the share of the last hour's records that became dead letters.

    Arguments:
        settings: `alert_dead_letter_share`.
        now: Seconds since the epoch.

    Raises:
        KafkaUnavailable: Kafka does not answer.
    """
    since = int(now * 1000) - HOUR_MS
    first = topics.offsets_at(settings.kafka(), since)
    records = sum(max(0, entry.high - first.get(entry.partition, entry.high)) for entry in topics.lag(settings.kafka()))
    letters = [dead.letter for dead in dead_letters.read(settings.kafka()) if dead.letter.written_at >= since]
    stages = Counter(letter.stage for letter in letters)
    share = len(letters) / max(records, len(letters), 1)
    too_many = len(letters) >= FEW_LETTERS and share > settings.alert_dead_letter_share
    where = ", ".join(f"{stage} {count}" for stage, count in stages.most_common())
    wrong = f"{len(letters)} of the last hour's {records} records became dead letters ({where})" if too_many else ""
    advice = "`truepixel dead-letters list` says why. Correct the cause, then run `truepixel dead-letters replay`"
    figures = {f"dead letters of stage {stage}": count for stage, count in stages.items()}
    return verdict(wrong, advice, records=records, dead_letters=len(letters), share=round(share, 4), **figures)
