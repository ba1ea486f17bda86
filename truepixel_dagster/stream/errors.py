"""What can go wrong with Kafka."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException

from truepixel_dagster.events.origin import offset_text
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


_OUR_USER_MAY_NOT = frozenset(
    {
        Code.TOPIC_AUTHORIZATION_FAILED,
        Code.GROUP_AUTHORIZATION_FAILED,
        Code.CLUSTER_AUTHORIZATION_FAILED,
        Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
_HANGS_UP = re.compile(r"Disconnected: .*(in state APIVERSION_QUERY|SSL connection closed by peer)")
_CREDENTIALS = frozenset(
    {
        Code._AUTHENTICATION,
        Code.SASL_AUTHENTICATION_FAILED,
        Code.UNSUPPORTED_SASL_MECHANISM,
        Code.ILLEGAL_SASL_STATE,
    }
)


class KafkaError(Exception):
    """Something about Kafka that an operator can put right; one line."""


class KafkaUnavailable(KafkaError):
    """Kafka does not answer: nothing is lost, offsets stay where they are."""


class KafkaDenied(KafkaError):
    """Kafka does not let us in: nothing is lost, offsets stay where they are; trying again at once would not help."""


class WrongCluster(KafkaDenied):
    """Kafka is not the cluster that the settings are for."""


class NoTopic(KafkaError):
    """The topic does not exist."""


class LogChanged(KafkaError):
    """The topic is not the log that was processed: its records must not be told apart by the offsets of the old one."""


class BadRange(KafkaError):
    """A range of records that cannot be read; the message says why."""


class Denials:
    """A client's `error_cb`. librdkafka tells here why no broker lets it in, and the call itself only times out."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        #: The last one that was told.
        self.heard: Code | None = None

    def __call__(self, error: Code) -> None:
        """Keep it if it is a denial."""
        if denial(error):
            self.heard = error

    def check(self) -> None:
        """Tell the denial in the place of what came of it.

        Raises:
            KafkaDenied: One was heard; it is forgotten with that.
        """
        heard, self.heard = self.heard, None
        if heard is not None:
            raise plain(self._settings, KafkaException(heard))


class LastWords(logging.Handler):
    """Of librdkafka's log the last line about a connection that failed: how a broker hangs up is told nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self._line = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        line = record.getMessage()
        if line.startswith("FAIL"):
            self._line = line

    def check(self) -> None:
        """Guess, as librdkafka's documentation does, why a broker that can be reached hangs up on us.

        Raises:
            KafkaException: The last connection ended so.
        """
        if _HANGS_UP.search(self._line):
            told = self._line.rpartition("Disconnected: ")[2]
            raise KafkaException(Code(Code._TRANSPORT, f"it hangs up, as for a wrong security.protocol: {told}"))


def denial(error: Code) -> str | None:
    """Why a broker does not let us in, and the setting to look at; None for any other error."""
    words = " ".join(error.str().split())[:300]
    # A broker that expects another protocol hangs up, and librdkafka guesses why.
    if "security.protocol" in words or error.code() == Code.SECURITY_DISABLED:
        return f"it asks for another protocol: {words} (TRUEPIXEL_KAFKA_SECURITY_PROTOCOL)"
    if error.code() in _CREDENTIALS:
        return (
            f"it refuses our credentials: {words} (TRUEPIXEL_KAFKA_SASL_USERNAME, TRUEPIXEL_KAFKA_SASL_PASSWORD,"
            " TRUEPIXEL_KAFKA_SASL_MECHANISM)"
        )
    if "certificate verify failed" in words:
        return f"its certificate is not trusted: {words} (TRUEPIXEL_KAFKA_SSL_CA_LOCATION)"
    # What TLS 1.3 refuses after the handshake is told as a lost connection.
    if error.code() == Code._SSL or "SSL routines" in words:
        return f"no TLS connection: {words} (TRUEPIXEL_KAFKA_SECURITY_PROTOCOL and TRUEPIXEL_KAFKA_SSL_*)"
    if error.code() in _OUR_USER_MAY_NOT:
        return f"our user may not do this: {words} (the ACLs of TRUEPIXEL_KAFKA_SASL_USERNAME)"
    return None


def is_transient(error: Exception) -> bool:
    """Whether an error may pass by itself."""
    return isinstance(error, KafkaException) and error.args[0].code() in _TRANSIENT and not denial(error.args[0])


def calling(settings: Settings, call: Callable[[], T], *, attempts: int | None = None) -> T:
    """Make one call to Kafka, again after a transient error, with jittered and growing pauses.

    Raises:
        KafkaUnavailable: Every try met a transient error.
        KafkaDenied: Kafka does not let us in.
        NoTopic: The topic is not there.
        KafkaError: Kafka refused for another reason.
    """
    try:
        return retrying(call, transient=is_transient, attempts=attempts or settings.retries)
    except KafkaException as error:
        raise plain(settings, error) from error


ADOPT = (
    "Nothing is read or written until that is settled: point TRUEPIXEL_KAFKA_BOOTSTRAP and TRUEPIXEL_NAMESPACE to the"
    " topic that was meant, or accept this one with `truepixel adopt-topic`"
)


def truncated(settings: Settings, partition: int, reached: int, high: int) -> str:
    """What to say of a partition that ends below what was processed; offsets as Kafka counts."""
    return (
        f"Kafka topic {settings.topic} at {settings.kafka_bootstrap} was cut off: partition {partition} ends at offset"
        f" {high}, and records up to {offset_text(reached - 1)} were processed. {ADOPT}"
    )


def plain(settings: Settings, error: KafkaException) -> KafkaError:
    """The error in one line that names the server and the setting."""
    reason: Code = error.args[0]
    where = f"Kafka at {settings.kafka_bootstrap}"
    if reason.code() in (Code.UNKNOWN_TOPIC_OR_PART, Code._UNKNOWN_TOPIC, Code._UNKNOWN_PARTITION):
        return NoTopic(f"{where} has no topic {settings.topic}: create it with `truepixel setup`")
    if said := denial(reason):
        return KafkaDenied(f"{where}: {said}")
    kind = KafkaUnavailable if is_transient(error) else KafkaError
    return kind(f"{where}: {reason.str()} (TRUEPIXEL_KAFKA_BOOTSTRAP and the other TRUEPIXEL_KAFKA_* settings)")
