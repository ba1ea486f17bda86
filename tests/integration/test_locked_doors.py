"""Real servers with users, passwords and TLS: which credentials work, and how each wrong one is reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import dagster as dg
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._serdes import serialize_value
from pydantic import SecretStr

from tests.dagster_events import failure_of
from tests.integration.driving import audited, record, send, set_environment
from tests.integration.locked_servers import LIMITED, PASSWORD, USER, Locked, locked_servers
from tests.integration.test_pipeline import pixel
from truepixel_dagster.dead_letters.topic import read
from truepixel_dagster.definitions import definitions
from truepixel_dagster.instance.process import dagster_home, environment
from truepixel_dagster.jobs.process_events import process_events
from truepixel_dagster.provision import provision
from truepixel_dagster.resources import missing_servers, open_stores
from truepixel_dagster.sensors.kafka_lag import kafka_lag
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.errors import AccessDenied
from truepixel_dagster.stream.errors import KafkaDenied
from truepixel_dagster.stream.topics import delete_before, lag, partition_count, topic_durability

WRONG = SecretStr("canary-wrong-4712")
PROTOCOL = {"kafka_sasl_mechanism": None, "kafka_sasl_username": None, "kafka_sasl_password": None}
NO_USER: dict[str, Any] = {"elasticsearch_username": None, "elasticsearch_password": None}
NOBODY_AT_REDIS: dict[str, Any] = {"redis_username": None, "redis_password": None}
# The rights that docs/security.md lists.
ENOUGH = {
    "cluster": ["monitor", "manage_index_templates"],
    "indices": [{"names": ["truepixel-*"], "privileges": ["all"]}],
}
NOBODY = {
    f"{server}_{what}": None for server in ("elasticsearch", "mongodb", "redis") for what in ("username", "password")
}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    with locked_servers(tmp_path_factory.mktemp("locked")) as servers:
        provision(servers.settings)
        yield servers


@pytest.fixture
def events(locked: Locked) -> int:
    """Messages that wait: a denial must leave all of them where they are."""
    send(locked.settings, [record("s:c", pixel(uuid.uuid4().hex)) for _ in range(5)])
    return sum(entry.lag for entry in lag(locked.settings.kafka()))


def denied_by_kafka(settings: Settings) -> str:
    with pytest.raises(KafkaDenied) as caught:
        partition_count(settings.kafka())
    return one_line(str(caught.value), f"Kafka at {settings.kafka_bootstrap}: ")


def one_line(said: str, server: str) -> str:
    assert said.startswith(server), said
    assert "\n" not in said
    assert "canary" not in said
    return said


def test_correct_credentials_are_accepted_by_every_server(locked: Locked) -> None:
    assert missing_servers(locked.settings) == []
    assert partition_count(locked.settings.kafka()) == 3


@pytest.mark.parametrize(
    ("changed", "setting"),
    [
        ({"kafka_sasl_password": WRONG}, "TRUEPIXEL_KAFKA_SASL_PASSWORD"),
        ({"kafka_sasl_mechanism": "SCRAM-SHA-512"}, "TRUEPIXEL_KAFKA_SASL_MECHANISM"),
        ({"kafka_security_protocol": "PLAINTEXT", **PROTOCOL}, "TRUEPIXEL_KAFKA_SECURITY_PROTOCOL"),
        ({"kafka_security_protocol": "SSL", **PROTOCOL}, "TRUEPIXEL_KAFKA_SECURITY_PROTOCOL"),
    ],
    ids=["wrong password", "unknown to this mechanism", "no credentials, no TLS", "no credentials"],
)
def test_kafka_says_which_credential_it_refuses(locked: Locked, changed: dict[str, Any], setting: str) -> None:
    assert setting in denied_by_kafka(locked.but(kafka_timeout=2.0, **changed))


def test_kafkas_certificate_must_be_of_the_authority_that_is_trusted(locked: Locked) -> None:
    other = locked.but(kafka_ssl_ca_location=str(locked.certificates.other_authority))
    said = denied_by_kafka(other)
    assert "certificate verify failed" in said
    assert "TRUEPIXEL_KAFKA_SSL_CA_LOCATION" in said


def test_kafka_accepts_scram_credentials(locked: Locked) -> None:
    admin = AdminClient({"bootstrap.servers": str(locked.kafka.address)})
    kind = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    wanted = UserScramCredentialUpsertion("scrammed", kind, PASSWORD.encode())
    for future in admin.alter_user_scram_credentials([wanted]).values():
        future.result()
    scram = locked.but(kafka_sasl_mechanism="SCRAM-SHA-512", kafka_sasl_username="scrammed")
    assert partition_count(scram.kafka()) == 3
    denied_by_kafka(scram.model_copy(update={"kafka_sasl_password": WRONG}))


def test_kafka_accepts_a_client_certificate(locked: Locked) -> None:
    mutual = locked.but(kafka_bootstrap=str(locked.kafka.mutual), kafka_security_protocol="SSL", **PROTOCOL)
    assert "TRUEPIXEL_KAFKA_SSL_" in denied_by_kafka(mutual)
    client = str(locked.certificates.client)
    ours = {"kafka_ssl_certificate_location": client, "kafka_ssl_key_location": client}
    assert partition_count(mutual.model_copy(update=ours).kafka()) == 3


def allow(locked: Locked, kind: ResourceType, name: str, *operations: AclOperation) -> None:
    """Let Kafka's limited user do something; a name with a star at its end is a prefix."""
    admin = AdminClient({"bootstrap.servers": str(locked.kafka.address)})
    pattern = ResourcePatternType.PREFIXED if name.endswith("*") else ResourcePatternType.LITERAL
    which = (kind, name.rstrip("*"), pattern, f"User:{LIMITED}", "*")
    wanted = [AclBinding(*which, each, AclPermissionType.ALLOW) for each in operations]
    for future in admin.create_acls(wanted).values():
        future.result()


def test_the_acls_of_the_docs_are_enough(locked: Locked, monkeypatch: pytest.MonkeyPatch) -> None:
    limited = locked.but(namespace="limited", kafka_sasl_username=LIMITED)
    locked.mongodb.as_admin("grantRolesToUser", USER, roles=[{"role": "readWrite", "db": limited.namespace}])
    with closing(locked.redis.as_admin()) as redis:
        redis.execute_command("ACL", "SETUSER", USER, f"~{limited.namespace}:*")
    own = AclOperation
    for topic in (limited.topic, limited.dead_topic):
        allow(locked, ResourceType.TOPIC, topic, own.CREATE, own.DESCRIBE, own.DESCRIBE_CONFIGS, own.READ, own.WRITE)
    allow(locked, ResourceType.GROUP, f"{limited.group}*", own.DESCRIBE, own.READ)
    assert f"Kafka topic {limited.topic}" in provision(limited)
    assert topic_durability(limited.kafka(), limited.topic).replicas == 1
    send(limited, [record("s:c", pixel("e")), record("s:c", b"no JSON")])
    assert run(monkeypatch, limited).success
    assert len(list(read(limited.kafka()))) == 1
    with open_stores(limited) as stores:
        audited(limited, stores)
    with pytest.raises(KafkaDenied, match="permission denied"):
        delete_before(limited.kafka(), limited.dead_topic, {0: 0})
    allow(locked, ResourceType.TOPIC, limited.dead_topic, own.DELETE)
    delete_before(limited.kafka(), limited.dead_topic, {0: 0})


@pytest.mark.parametrize(
    # The user of MongoDB may write to the database of one namespace.
    ("server", "changed", "right"),
    [
        ("Kafka", {"kafka_sasl_username": LIMITED}, "create (for `truepixel setup`)"),
        ("Elasticsearch", {"elasticsearch_username": "watcher"}, "manage_index_templates (for `truepixel setup`)"),
        ("MongoDB", {"namespace": "another"}, "readWrite of the database <namespace>"),
    ],
)
def test_setup_says_which_right_is_missing(locked: Locked, server: str, changed: dict[str, Any], right: str) -> None:
    said = error_of_a_command(locked.but(**changed), "setup")
    assert said.startswith(f"Error: {server} at ")
    assert "permission denied: " in said
    assert right in said


def test_a_producer_reports_a_denial_without_waiting_for_its_timeout(locked: Locked) -> None:
    with pytest.raises(KafkaDenied, match="TRUEPIXEL_KAFKA_SASL_PASSWORD"):
        send(locked.but(kafka_sasl_password=WRONG), [record("s:c", pixel("never"))])


@pytest.mark.parametrize(
    ("server", "changed", "setting"),
    [
        ("Elasticsearch", {"elasticsearch_password": WRONG}, "TRUEPIXEL_ELASTICSEARCH_USERNAME"),
        ("Elasticsearch", NOBODY, "TRUEPIXEL_ELASTICSEARCH_USERNAME"),
        ("Elasticsearch", {**NOBODY, "elasticsearch_api_key": SecretStr("YTpi")}, "TRUEPIXEL_ELASTICSEARCH_API_KEY"),
        ("MongoDB", {"mongodb_password": WRONG}, "TRUEPIXEL_MONGODB_USERNAME and _PASSWORD"),
        ("MongoDB", NOBODY, "TRUEPIXEL_MONGODB_USERNAME and _PASSWORD"),
        ("Redis", {"redis_password": WRONG}, "TRUEPIXEL_REDIS_USERNAME and _PASSWORD"),
        ("Redis", NOBODY, "TRUEPIXEL_REDIS_USERNAME and _PASSWORD"),
    ],
)
def test_a_store_says_which_credential_it_refuses(
    locked: Locked, server: str, changed: dict[str, Any], setting: str
) -> None:
    said = [line for line in map(str, missing_servers(locked.but(**changed))) if line.startswith(server)]
    assert len(said) == 1
    assert setting in one_line(said[0], f"{server} at ")


@pytest.mark.parametrize("server", ["Elasticsearch", "MongoDB", "Redis"])
def test_a_stores_certificate_must_be_of_the_authority_that_is_trusted(locked: Locked, server: str) -> None:
    setting = f"{server.lower()}_ca_certs"
    (said,) = map(str, missing_servers(locked.but(**{setting: str(locked.certificates.other_authority)})))
    assert f"TRUEPIXEL_{setting.upper()}" in one_line(said, f"{server} at ")
    assert "certificate verify failed" in said


def test_valkey_refuses_the_credentials_that_redis_refuses(locked: Locked) -> None:
    valkey = locked.but(redis_url=SecretStr(f"redis://{locked.valkey.address}/0"), redis_ca_certs=None)
    assert missing_servers(valkey) == []
    for changed in ({"redis_password": WRONG}, NOBODY_AT_REDIS):
        (said,) = map(str, missing_servers(valkey.model_copy(update=changed)))
        assert "TRUEPIXEL_REDIS_USERNAME and _PASSWORD" in one_line(said, "Redis at ")
    reader = valkey.model_copy(update={"redis_username": "reader"})
    with open_stores(reader) as stores, pytest.raises(AccessDenied, match=r"permission denied: .* ACL"):
        stores.redis.visitors_written([("s", "2026-W01")], [1])


def test_a_user_without_permission_gets_one_line(locked: Locked) -> None:
    without_rights = locked.but(elasticsearch_username="watcher", redis_username="reader")
    with open_stores(without_rights) as stores:
        with pytest.raises(AccessDenied, match=r"permission denied: .* privileges"):
            stores.elasticsearch.indices("events-")
        with pytest.raises(AccessDenied, match=r"permission denied: .* ACL .* ~<namespace>:\* \+@all"):
            stores.redis.visitors_written([("s", "2026-W01")], [1])
    with pytest.raises(AccessDenied, match="permission denied"), open_stores(without_rights) as stores:
        stores.elasticsearch.refresh()  # by a call that does not handle denials itself


def run(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> dg.ExecuteInProcessResult:
    set_environment(monkeypatch, settings)
    monkeypatch.setenv("TRUEPIXEL_IDLE", "0.5")
    return process_events.execute_in_process(raise_on_error=False)


def by_key(locked: Locked, key: SecretStr) -> Settings:
    return locked.but(**NO_USER, elasticsearch_api_key=key)


def test_an_api_key_with_the_rights_of_the_docs_is_enough(
    locked: Locked, events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {"cluster": ENOUGH["cluster"], "indices": [{"names": ["keyed-*"], "privileges": ["all"]}]}
    fresh = by_key(locked, locked.elasticsearch.make_key("setup", ours)).model_copy(update={"namespace": "keyed"})
    with open_stores(fresh) as stores:
        assert "index keyed-attributions" in stores.elasticsearch.setup()
        assert stores.elasticsearch.setup() == []
    keyed = by_key(locked, locked.elasticsearch.make_key("pipeline", ENOUGH))
    assert missing_servers(keyed) == []
    assert provision(keyed) == []
    assert run(monkeypatch, keyed).success
    assert sum(entry.lag for entry in lag(keyed.kafka())) == 0
    with open_stores(keyed) as stores:
        audited(keyed, stores)


def test_an_invalid_or_expired_api_key_is_refused_in_one_line(locked: Locked, events: int) -> None:
    node = locked.elasticsearch
    invalidated = by_key(locked, node.make_key("invalidated", ENOUGH))
    assert missing_servers(invalidated) == []
    node.as_admin("DELETE", "/_security/api_key", {"name": "invalidated"})
    expired = by_key(locked, node.make_key("expired", ENOUGH, expiration="1ms"))
    for settings, why in ((invalidated, "invalidated"), (expired, "expired")):
        (said,) = map(str, missing_servers(settings))
        assert why in one_line(said, f"Elasticsearch at {settings.elasticsearch_url}: authentication failed: ")
        assert "TRUEPIXEL_ELASTICSEARCH_API_KEY" in said
        assert error_of_a_command(settings, "drain").startswith("Error: Elasticsearch at ")
    assert sum(entry.lag for entry in lag(locked.settings.kafka())) == events


def test_an_api_key_without_permission_gets_one_line(locked: Locked) -> None:
    without_rights = by_key(locked, locked.elasticsearch.make_key("watching", {"cluster": ["monitor"]}))
    assert missing_servers(without_rights) == []
    said = error_of_a_command(without_rights, "setup")
    assert said.startswith("Error: Elasticsearch at ")
    assert "permission denied: " in said
    assert "Check the privileges of the API key or user" in said


def error_of_a_command(settings: Settings, *arguments: str) -> str:
    """The one line that a command fails with; no secret of the settings is in it."""
    done = truepixel(settings, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    key = settings.elasticsearch_api_key
    for secret in ("canary", *([key.get_secret_value()] if key else [])):
        assert secret not in done.stdout + done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("server", "changed"),
    [
        ("Kafka", {"kafka_sasl_password": WRONG}),
        ("Elasticsearch", {"elasticsearch_password": WRONG}),
        ("MongoDB", {"mongodb_password": WRONG}),
        ("Redis", {"redis_password": WRONG}),
    ],
)
@pytest.mark.slow
def test_a_run_fails_by_one_line_and_loses_nothing(
    locked: Locked, events: int, monkeypatch: pytest.MonkeyPatch, server: str, changed: dict[str, Any]
) -> None:
    query = "?utm_source=a"
    send(locked.settings, [record("s:c", pixel(uuid.uuid4().hex, query=query))])
    result = run(monkeypatch, locked.but(**changed))
    assert not result.success
    (failed,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    one_line(failure_of(failed), f"{server} at ")
    error = failed.step_failure_data.error
    assert error is not None
    assert error.stack == []
    assert error.cause is None
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, definitions=definitions)
        skipped, again = kafka_lag(context), kafka_lag(context)
    assert isinstance(skipped, dg.SkipReason)
    assert isinstance(again, dg.SkipReason)
    assert f"{server} at " in str(skipped.skip_message)
    # The second tick asks no server.
    assert str(again.skip_message).startswith(f"{skipped.skip_message}. Next try in ")
    assert sum(entry.lag for entry in lag(locked.settings.kafka())) == events + 1


def test_the_stream_continues_once_the_password_is_corrected(
    locked: Locked, events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked.mongodb.as_admin("updateUser", USER, pwd="another")
    try:
        assert not run(monkeypatch, locked.settings).success
        assert sum(entry.lag for entry in lag(locked.settings.kafka())) == events
    finally:
        locked.mongodb.as_admin("updateUser", USER, pwd=PASSWORD)
    assert run(monkeypatch, locked.settings).success
    assert sum(entry.lag for entry in lag(locked.settings.kafka())) == 0
    assert list(read(locked.settings.kafka())) == []
    with open_stores(locked.settings) as stores:
        audited(locked.settings, stores)


@pytest.mark.parametrize(
    ("command", "changed"),
    [
        ("setup", {"mongodb_password": WRONG}),
        ("lag", {"kafka_sasl_password": WRONG}),
        ("report --shop s", {"elasticsearch_password": WRONG}),
        ("flush", {"redis_password": WRONG}),
        ("drain", {"redis_password": WRONG}),
    ],
)
def test_a_command_prints_one_line_and_fails(
    locked: Locked, events: int, command: str, changed: dict[str, Any]
) -> None:
    error_of_a_command(locked.but(**changed), *command.split())


def truepixel(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "truepixel_dagster.cli", *arguments]
    return subprocess.run(command, env=environment(settings), capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_no_secret_is_written_down_or_shown(locked: Locked, events: int, tmp_path: Any) -> None:
    """Every password is a canary: a drain that fails at each server in turn, and then one that gets through."""
    base = locked.but(data_dir=tmp_path, retries=1)
    wrong = f"{USER}:{WRONG.get_secret_value()}"
    in_urls = {
        "mongodb": f"mongodb://{wrong}@{locked.mongodb.address}",
        "redis": f"rediss://{wrong}@{locked.redis.address}/0",
    }
    denials: list[dict[str, Any]] = [{"elasticsearch_password": WRONG}]
    denials += [
        {f"{server}_url": SecretStr(url), f"{server}_username": None, f"{server}_password": None}
        for server, url in in_urls.items()
    ]
    for changed in denials:
        assert job(base.model_copy(update=changed)).returncode != 0
    logs = b"".join(path.read_bytes() for path in tmp_path.rglob("*.log"))
    assert logs.count(b": authentication failed: ") >= 3
    assert b"Traceback" not in logs
    process = job_process(base)
    lines = set()
    while process.poll() is None:
        lines |= {line for line in command_lines() if b"canary" in line}
        time.sleep(0.1)
    assert process.returncode == 0
    assert lines == set()
    assert sum(entry.lag for entry in lag(locked.settings.kafka())) == 0
    assert b"canary" not in json.dumps(truepixel(base, "settings").stdout).encode()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    assert [path for path in files if b"canary" in path.read_bytes()] == []
    # The data that the code server sends to the webserver, and so to GraphQL.
    assert "canary" not in serialize_value(RepositorySnap.from_def(definitions.get_repository_def()))
    assert "canary" not in repr(base)


def job_process(settings: Settings) -> subprocess.Popen[bytes]:
    from truepixel_dagster.instance.process import execute

    return execute(settings, "process_events", {}, settings.data_dir / "logs" / f"{os.urandom(4).hex()}.log")


def job(settings: Settings) -> subprocess.Popen[bytes]:
    dagster_home(settings)
    process = job_process(settings)
    process.wait(timeout=120)
    return process


def command_lines() -> list[bytes]:
    import psutil

    return [" ".join(process.info["cmdline"] or []).encode() for process in psutil.process_iter(["cmdline"])]
