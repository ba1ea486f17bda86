"""What can go wrong with Kafka."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException

from truepixel_dagster.retrying import retrying
from truepixel_dagster.settings import Settings

T = TypeVar("T")

# A new group's first request may meet a coordinator that is not there yet; the rest are a network or a broker away.
_TRANSIENT = frozenset(
    {
        Code.NOT_COORDINATOR,
        Code.COORDINATOR_LOAD_IN_PROGRESS,
        Code.COORDINATOR_NOT_AVAILABLE,
        Code.NOT_LEADER_FOR_PARTITION,
        Code.LEADER_NOT_AVAILABLE,
        Code.REQUEST_TIMED_OUT,
        Code.NETWORK_EXCEPTION,
        Code.NOT_ENOUGH_REPLICAS,
        Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        Code._TRANSPORT,
        Code._ALL_BROKERS_DOWN,
        Code._TIMED_OUT,
        Code._WAIT_COORD,
        Code._MSG_TIMED_OUT,
        Code._RESOLVE,
        # A client that is no member may not commit while the group still counts a dead member.
        Code.UNKNOWN_MEMBER_ID,
        Code.REBALANCE_IN_PROGRESS,
    }
)


class KafkaError(Exception):
    """Something about Kafka that an operator can put right; one line."""


class KafkaUnavailable(KafkaError):
    """Kafka does not answer: nothing is lost, offsets stay where they are."""


class NoTopic(KafkaError):
    """The topic does not exist."""


class BadRange(KafkaError):
    """A range of records that cannot be read; the message says why."""


def is_transient(error: Exception) -> bool:
    """Whether an error may pass by itself."""
    return isinstance(error, KafkaException) and error.args[0].code() in _TRANSIENT


def calling(settings: Settings, call: Callable[[], T], *, attempts: int | None = None) -> T:
    """Make one call to Kafka, again after a transient error, with jittered and growing pauses.

    Raises:
        KafkaUnavailable: Every try met a transient error.
        NoTopic: The topic is not there.
        KafkaError: Kafka refused, such as wrong credentials.
    """
    try:
        return retrying(call, transient=is_transient, attempts=attempts or settings.retries)
    except KafkaException as error:
        raise plain(settings, error) from error


def plain(settings: Settings, error: KafkaException) -> KafkaError:
    """The error in one line that names the server and the setting."""
    reason: Code = error.args[0]
    where = f"Kafka at {settings.kafka_bootstrap}"
    if reason.code() in (Code.UNKNOWN_TOPIC_OR_PART, Code._UNKNOWN_TOPIC, Code._UNKNOWN_PARTITION):
        return NoTopic(f"{where} has no topic {settings.topic}: create it with `truepixel setup`")
    kind = KafkaUnavailable if is_transient(error) else KafkaError
    return kind(f"{where}: {reason.str()} (TRUEPIXEL_KAFKA_BOOTSTRAP and the other TRUEPIXEL_KAFKA_* settings)")
