"""Kafka's errors: classify them, and explain them in one line with the next step."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException

from truepixel_dagster.access import KafkaAccess
from truepixel_dagster.events.origin import offset_text
from truepixel_dagster.retrying import retrying
from truepixel_dagster.text import with_advice

T = TypeVar("T")

# The coordinator of a new group may not exist yet; the other codes mean a network or a broker that is unreachable.
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
        # A client that is not a member of the group may not commit while the group still counts a dead member.
        Code.UNKNOWN_MEMBER_ID,
        Code.REBALANCE_IN_PROGRESS,
    }
)


_PERMISSION_DENIED = frozenset(
    {
        Code.TOPIC_AUTHORIZATION_FAILED,
        Code.GROUP_AUTHORIZATION_FAILED,
        Code.CLUSTER_AUTHORIZATION_FAILED,
        Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
# docs/security.md has the same list; Kafka's own message does not name the missing permission.
_RIGHTS = (
    "create (for `truepixel setup`), describe, describe-configs, read and write of the topics <namespace>.events and"
    " <namespace>.events.dead, and describe and read of the groups <namespace>.process-events*"
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
    """An error of Kafka that an operator can correct, in one line."""


class KafkaUnavailable(KafkaError):
    """Kafka does not answer. Nothing is lost, and no offset is committed."""


class KafkaDenied(KafkaError):
    """Kafka denies access. Nothing is lost, and no offset is committed; a retry would not help."""


class WrongCluster(KafkaDenied):
    """Kafka is not the cluster that the settings name."""


class NoTopic(KafkaError):
    """The topic does not exist."""


class LogChanged(KafkaError):
    """The topic is not the log that was processed, so its offsets do not identify the same records."""


class BadRange(KafkaError):
    """A range of records cannot be read; the message says why."""


class Denials:
    """Capture denials as a client's `error_cb`: librdkafka reports them only there; the call times out."""

    def __init__(self, kafka: KafkaAccess) -> None:
        self._kafka = kafka
        #: The last denial that was reported.
        self.heard: Code | None = None

    def __call__(self, error: Code) -> None:
        """Keep the error if it is a denial."""
        if denial(error):
            self.heard = error

    def check(self) -> None:
        """Raise the denial instead of the timeout that it caused.

        Raises:
            KafkaDenied: One was reported; it is then forgotten.
        """
        heard, self.heard = self.heard, None
        if heard is not None:
            raise plain(self._kafka, KafkaException(heard))


class DisconnectLog(logging.Handler):
    """Keep the last line of librdkafka's log about a failed connection: only the log says how a broker disconnects."""

    def __init__(self) -> None:
        super().__init__()
        self._line = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line if it is about a failed connection."""
        line = record.getMessage()
        if line.startswith("FAIL"):
            self._line = line

    def check(self) -> None:
        """Recognize a broker that hangs up because it expects another protocol, as librdkafka's manual describes.

        Raises:
            KafkaException: The last connection ended like that.
        """
        if _HANGS_UP.search(self._line):
            reason = self._line.rpartition("Disconnected: ")[2]
            raise KafkaException(
                Code(Code._TRANSPORT, f"it closed the connection, as for a wrong security.protocol: {reason}")
            )


def denial(error: Code) -> str | None:
    """Return why a broker denies access, and the setting to check; None for any other error."""
    words = " ".join(error.str().split())[:300]
    # A broker that expects another protocol closes the connection, and librdkafka guesses the reason.
    if "security.protocol" in words or error.code() == Code.SECURITY_DISABLED:
        return with_advice("it expects another protocol", words, "Check TRUEPIXEL_KAFKA_SECURITY_PROTOCOL")
    if error.code() in _CREDENTIALS:
        credentials = "TRUEPIXEL_KAFKA_SASL_USERNAME, TRUEPIXEL_KAFKA_SASL_PASSWORD and TRUEPIXEL_KAFKA_SASL_MECHANISM"
        return with_advice("authentication failed", words, f"Check {credentials}")
    if "certificate verify failed" in words:
        return with_advice("its certificate is not trusted", words, "Check TRUEPIXEL_KAFKA_SSL_CA_LOCATION")
    # librdkafka reports a TLS 1.3 refusal after the handshake as a lost connection.
    if error.code() == Code._SSL or "SSL routines" in words:
        step = "Check TRUEPIXEL_KAFKA_SECURITY_PROTOCOL and TRUEPIXEL_KAFKA_SSL_*"
        return with_advice("the TLS connection failed", words, step)
    if error.code() in _PERMISSION_DENIED:
        step = f"Check the ACLs of TRUEPIXEL_KAFKA_SASL_USERNAME: it needs {_RIGHTS}"
        return with_advice("permission denied", words, step)
    return None


def is_transient(error: Exception) -> bool:
    """Return whether a later try may succeed."""
    return isinstance(error, KafkaException) and error.args[0].code() in _TRANSIENT and not denial(error.args[0])


def calling(kafka: KafkaAccess, call: Callable[[], T], *, attempts: int | None = None) -> T:
    """Make one call to Kafka, and repeat it after a transient error, with jittered and growing pauses.

    Raises:
        KafkaUnavailable: Every try met a transient error.
        KafkaDenied: Kafka denies access.
        NoTopic: The topic is not there.
        KafkaError: Kafka rejected the call for another reason.
    """

    def words(error: Exception) -> str:
        return str(plain(kafka, error) if isinstance(error, KafkaException) else error)

    try:
        return retrying(call, transient=is_transient, attempts=attempts or kafka.retries, words=words)
    except KafkaException as error:
        raise plain(kafka, error) from error


ADOPT = (
    "Nothing is read or written until you correct it: point TRUEPIXEL_KAFKA_BOOTSTRAP and TRUEPIXEL_NAMESPACE to the"
    " intended topic, or accept this one with `truepixel adopt-topic`"
)


def truncated(kafka: KafkaAccess, partition: int, reached: int, high: int) -> str:
    """Return the message for a partition that ends below what was processed; offsets are Kafka's."""
    return (
        f"Kafka topic {kafka.topic} at {kafka.bootstrap} was truncated: partition {partition} ends at offset"
        f" {high}, and records up to {offset_text(reached - 1)} were processed. {ADOPT}"
    )


def plain(kafka: KafkaAccess, error: KafkaException) -> KafkaError:
    """Return the error in one line that names the server and the setting."""
    reason: Code = error.args[0]
    where = f"Kafka at {kafka.bootstrap}"
    if reason.code() in (Code.UNKNOWN_TOPIC_OR_PART, Code._UNKNOWN_TOPIC, Code._UNKNOWN_PARTITION):
        return NoTopic(f"{where} has no topic {kafka.topic}: create it with `truepixel setup`")
    if said := denial(reason):
        return KafkaDenied(f"{where}: {said}")
    kind = KafkaUnavailable if is_transient(error) else KafkaError
    return kind(f"{where}: {reason.str()} (TRUEPIXEL_KAFKA_BOOTSTRAP and the other TRUEPIXEL_KAFKA_* settings)")
