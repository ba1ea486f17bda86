"""Start the job `import_spend` for files in the watched folder that are new or were replaced."""

from __future__ import annotations

import hashlib

import dagster as dg
import msgspec

from truepixel_dagster.jobs.import_spend import import_spend, import_spend_file
from truepixel_dagster.lake.errors import LakeError
from truepixel_dagster.settings import SettingsError, load_settings
from truepixel_dagster.text import printable

_AT_ONCE = 20


@dg.sensor(
    job=import_spend,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Imports files of spend and exchange rates that are new in TRUEPIXEL_SPEND_URL; checks every minute.",
)
def spend_files(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Find new files. The cursor holds a digest of each requested file, with its version."""
    try:
        settings = load_settings()
        if not settings.spend_url:
            return dg.SkipReason("TRUEPIXEL_SPEND_URL is not set: no folder is watched")
        # Import fsspec only if a folder is watched.
        from truepixel_dagster.rebuild.spend_files import watched

        try:
            found = {_digest(file.path, file.version): file.path for file in watched(settings)}
        except (LakeError, OSError) as error:
            return dg.SkipReason(printable(f"the watched folder cannot be read: {error}"))
    except SettingsError as error:
        return dg.SkipReason(printable(str(error)))
    known = set(msgspec.json.decode(context.cursor, type=list[str])) if context.cursor else set()
    new = {digest: path for digest, path in found.items() if digest not in known}
    asked = dict(list(new.items())[:_AT_ONCE])
    requests = [
        dg.RunRequest(
            run_key=digest,
            run_config=dg.RunConfig(ops={import_spend_file.name: {"config": {"path": path}}}),
            tags={"truepixel/file": printable(path)[:200]},
        )
        for digest, path in asked.items()
    ]
    # The cursor can drop files that are gone from the folder.
    cursor = msgspec.json.encode(sorted((known & found.keys()) | asked.keys())).decode()
    return dg.SensorResult(run_requests=requests, cursor=cursor, skip_reason=None if requests else "no file is new")


def _digest(path: str, version: str) -> str:
    return hashlib.sha256(f"{path}\n{version}".encode()).hexdigest()[:24]
