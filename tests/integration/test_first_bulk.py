"""A process sends its first bulk request in two parts side by side, so two threads read its replies at once.

Once, msgspec examined a type at its first use in both threads, and the process crashed without a message.
"""

from __future__ import annotations

import subprocess
import sys

from truepixel_dagster.instance.process import environment
from truepixel_dagster.settings import Settings

# Each import creates the types of the stores' modules again, so that each bulk request is a first one.
FIRST_BULKS = """
import importlib, sys
from truepixel_dagster.settings import load_settings

sys.setswitchinterval(1e-6)
for _ in range(100):
    for name in [name for name in sys.modules if name.startswith("truepixel_dagster.stores")]:
        del sys.modules[name]
    elasticsearch = importlib.import_module("truepixel_dagster.stores.elasticsearch")
    store = elasticsearch.ElasticsearchStore(load_settings().elasticsearch())
    deletions = [elasticsearch.Action("delete", store.index("attributions"), str(n)) for n in range(128)]
    assert {outcome.status for outcome in store.bulk(deletions)} == {404}
    store.close()
"""


def test_the_first_bulk_request_of_a_process_is_safe_in_two_threads(settings: Settings) -> None:
    command = [sys.executable, "-c", FIRST_BULKS]
    done = subprocess.run(command, env=environment(settings), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
