"""What Dagster sees: a change of an asset, dependency, job, sensor or schedule shows in review, in the snapshot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from truepixel_dagster.definitions import definitions

SNAPSHOT = Path(__file__).parents[2] / "__snapshots__" / "definitions.json"


def seen() -> dict[str, Any]:
    repository = definitions.get_repository_def()
    assets = {
        spec.key.to_user_string(): {
            "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
            "group": spec.group_name,
            "kinds": sorted(spec.kinds),
            "owners": list(spec.owners),
        }
        for spec in definitions.resolve_all_asset_specs()
    }
    jobs = {
        job.name: sorted(node.name for node in job.graph.nodes)
        for job in repository.get_all_jobs()
        if not job.name.startswith("__")
    }
    return {
        "assets": assets,
        "jobs": jobs,
        "sensors": {s.name: s.default_status.value for s in repository.sensor_defs},
        "schedules": {s.name: [s.cron_schedule, s.default_status.value] for s in repository.schedule_defs},
    }


def test_the_definitions_are_those_of_the_snapshot() -> None:
    now = json.dumps(seen(), indent=2, sort_keys=True) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.parent.mkdir(exist_ok=True)
        SNAPSHOT.write_text(now)
    assert now == SNAPSHOT.read_text(), "run with UPDATE_SNAPSHOTS=1 if the change is meant"


def test_the_assets_are_one_connected_graph_with_descriptions_owners_and_kinds() -> None:
    specs = {spec.key: spec for spec in definitions.resolve_all_asset_specs()}
    assert all(spec.description and spec.owners and spec.kinds for spec in specs.values())
    reached, waiting = set(), [next(iter(specs))]
    neighbours = {key: {dep.asset_key for dep in spec.deps} for key, spec in specs.items()}
    while waiting:
        key = waiting.pop()
        reached.add(key)
        near = neighbours[key] | {other for other, deps in neighbours.items() if key in deps}
        waiting += near - reached
    assert reached == set(specs)


def test_every_stored_asset_shows_its_name_columns_page_and_command() -> None:
    docs = Path(__file__).parents[3] / "docs"
    stored = [s for s in definitions.resolve_all_asset_specs() if s.kinds & {"elasticsearch", "mongodb", "parquet"}]
    assert len(stored) > 10
    for spec in stored:
        assert spec.metadata["dagster/table_name"]
        assert len(spec.metadata["dagster/column_schema"].columns) >= 5
        assert spec.metadata["command that repeats the figures"].startswith("truepixel ")
        page, _, section = spec.metadata["documentation"].path.removeprefix("docs/").partition("#")
        assert f"\n### {section}\n" in (docs / page).read_text(), spec.key


def test_importing_the_definitions_opens_no_connection_and_imports_nothing_that_no_worker_needs() -> None:
    program = (
        "import socket, sys\n"
        "def refuse(*args): raise AssertionError('a connection at import')\n"
        "socket.socket.connect = refuse\n"
        "import truepixel_dagster.definitions\n"
        "needless = {'pandas', 'numpy', 'aiohttp', 'requests', 'cryptography', 'kubernetes', 'jpype',"
        "'pyarrow', 'duckdb', 'fsspec', 'truepixel_dagster.audit.oracle'}\n"
        "assert not needless & sys.modules.keys(), needless & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[3])
