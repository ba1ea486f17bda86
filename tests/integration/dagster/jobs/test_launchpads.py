"""The launchpad of each job opens with an example that runs, and explains each of its fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.snap.snap_to_yaml import default_values_yaml_from_type_snap

from truepixel_dagster.definitions import definitions

DOCS = "".join(path.read_text() for path in (Path(__file__).parents[4] / "docs").glob("*.md"))


def configured() -> Iterator[tuple[dg.JobDefinition, str, Mapping[str, Any]]]:
    """The jobs that take configuration, with an op that does and its fields."""
    for job in definitions.get_repository_def().get_all_jobs():
        if job.name.startswith("__"):
            continue
        for node in job.graph.nodes:
            schema = getattr(node.definition, "config_schema", None)
            if fields := getattr(schema and schema.config_type, "fields", None):
                yield job, node.name, fields


CONFIGURED = list(configured())


def test_the_jobs_with_configuration_are_found() -> None:
    assert {job.name for job, _, _ in CONFIGURED} == {"replay", "replay_dead_letters", "import_spend"}


@pytest.mark.parametrize(("job", "op", "fields"), CONFIGURED, ids=[op for _, op, _ in CONFIGURED])
def test_the_example_shows_every_field_and_each_is_explained(
    job: dg.JobDefinition, op: str, fields: Mapping[str, Any]
) -> None:
    example = yaml.safe_load(launchpad(job))["ops"][op]["config"]
    assert set(example) == set(fields)
    assert dg.validate_run_config(job, {"ops": {op: {"config": example}}})
    for name, field in fields.items():
        assert field.description, f"{name} has no description"
        assert f"`{name}`" in DOCS, f"no page explains `{name}`"


def launchpad(job: dg.JobDefinition) -> str:
    """The text that the launchpad of a job shows at first."""
    snapshot = job.get_job_snapshot()
    root = snapshot.mode_def_snaps[0].root_config_key
    assert root is not None
    schema = snapshot.config_schema_snapshot
    return default_values_yaml_from_type_snap(schema, schema.get_config_snap(root))
