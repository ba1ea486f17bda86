"""`truepixel open` finds the running UI, and no other."""

from __future__ import annotations

import socket
from pathlib import Path

from click.testing import CliRunner

from truepixel_dagster.cli.main import main
from truepixel_dagster.local.demo import running_ui


def test_a_ui_is_found_while_it_answers(tmp_path: Path) -> None:
    assert running_ui(tmp_path) is None
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (tmp_path / "ui-port").write_text(str(port))
        assert running_ui(tmp_path) == f"http://127.0.0.1:{port}"
    assert running_ui(tmp_path) is None


def test_open_says_what_to_start_where_nothing_runs(tmp_path: Path) -> None:
    found = CliRunner().invoke(main, ["open"], env={"TRUEPIXEL_DATA_DIR": str(tmp_path)})
    assert found.exit_code == 1
    assert "neither `truepixel demo` nor `truepixel dev` runs" in found.output
