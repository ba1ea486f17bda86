"""Run Dagster's webserver behind the guard, with the options of `dagster-webserver`.

    python -m truepixel_dagster.instance.webserver --host 127.0.0.1 --port 3000

Dagster has no option for a middleware. Its command creates the application through a function of its module, which is
replaced here. A test on the running server fails if a version of Dagster no longer uses that function.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from dagster_webserver import cli

from truepixel_dagster.instance.webserver_guard import WebserverGuard
from truepixel_dagster.settings import Settings, load_settings

MODULE = "truepixel_dagster.instance.webserver"
_MAKES_THE_APPLICATION = "create_app_from_workspace_process_context"


def host_names(settings: Settings) -> list[str]:
    """Return the webserver's host names: those of the setting, and the one in links to the UI."""
    linked = urlsplit(settings.dagster_url or "").netloc.rpartition("@")[2]
    return [name for name in (*settings.webserver_hosts.split(","), linked) if name]


def main() -> None:
    """Serve until interrupted."""
    make = vars(cli)[_MAKES_THE_APPLICATION]
    hosts = host_names(load_settings())

    def make_guarded(*arguments: Any, **options: Any) -> WebserverGuard:
        return WebserverGuard(make(*arguments, **options), hosts)

    vars(cli)[_MAKES_THE_APPLICATION] = make_guarded
    cli.main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
