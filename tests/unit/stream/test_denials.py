"""A Kafka that denies access: librdkafka's errors, each reported in one line with its setting."""

from __future__ import annotations

import logging

import pytest
from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException

from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.errors import (
    Denials,
    DisconnectLog,
    KafkaDenied,
    KafkaUnavailable,
    denial,
    is_transient,
    plain,
)

AT = "sasl_ssl://h:9093/bootstrap: "
DENIALS = [
    (Code._AUTHENTICATION, "SASL authentication error: Authentication failed", "TRUEPIXEL_KAFKA_SASL_PASSWORD"),
    (Code._SSL, "SSL handshake failed: certificate verify failed: ...", "TRUEPIXEL_KAFKA_SSL_CA_LOCATION"),
    (Code._SSL, "SSL handshake failed: alert certificate required", "TRUEPIXEL_KAFKA_SSL_*"),
    (Code._TRANSPORT, "Receive failed: error:0A:SSL routines::alert certificate required", "TRUEPIXEL_KAFKA_SSL_*"),
    (Code._TRANSPORT, "Disconnected: verify that security.protocol is right", "TRUEPIXEL_KAFKA_SECURITY_PROTOCOL"),
    (Code.TOPIC_AUTHORIZATION_FAILED, "Topic authorization failed", "ACLs of TRUEPIXEL_KAFKA_SASL_USERNAME"),
    (Code.GROUP_AUTHORIZATION_FAILED, "Group authorization failed", "ACLs of TRUEPIXEL_KAFKA_SASL_USERNAME"),
]


@pytest.mark.parametrize(("code", "words", "setting"), DENIALS)
def test_a_denial_is_one_line_with_the_server_and_its_setting(code: int, words: str, setting: str) -> None:
    error = KafkaException(Code(code, AT + words))
    said = plain(Settings(kafka_bootstrap="h:9093").kafka(), error)
    assert isinstance(said, KafkaDenied)
    assert str(said).startswith("Kafka at h:9093: ")
    assert words in str(said)
    assert setting in str(said)
    assert not is_transient(error)


def test_an_unreachable_broker_is_no_denial() -> None:
    error = Code(Code._TRANSPORT, "h:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused")
    assert denial(error) is None
    assert isinstance(plain(Settings().kafka(), KafkaException(error)), KafkaUnavailable)


@pytest.mark.parametrize(
    ("line", "hangs_up"),
    [
        (
            "h:1/bootstrap: Disconnected: connection closed by peer (after 7ms in state APIVERSION_QUERY)",
            True,
        ),
        ("ssl://h:1/bootstrap: Disconnected: SSL connection closed by peer (after 28ms in state UP)", True),
        ("h:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)", False),
        ("h:1/1: Disconnected: connection closed by peer: receive 0 (after 7ms in state UP)", False),
    ],
)
def test_a_broker_that_hangs_up_at_once_expects_another_protocol(line: str, hangs_up: bool) -> None:
    words = DisconnectLog()
    words.handle(logging.LogRecord("", logging.INFO, "", 0, f"FAIL [c] [t]: {line}", None, None))
    words.handle(logging.LogRecord("", logging.INFO, "", 0, "CONFWARN [c]: something else", None, None))
    if not hangs_up:
        return words.check()
    with pytest.raises(KafkaException) as caught:
        words.check()
    assert "TRUEPIXEL_KAFKA_SECURITY_PROTOCOL" in str(denial(caught.value.args[0]))
    return None


def test_a_reported_denial_is_raised_once_instead_of_the_timeout() -> None:
    denials = Denials(Settings().kafka())
    denials(Code(Code._AUTHENTICATION, AT + "SASL authentication error"))
    denials(Code(Code._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    with pytest.raises(KafkaDenied, match="SASL authentication error"):
        denials.check()
    denials.check()
