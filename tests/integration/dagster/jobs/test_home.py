"""If Dagster's home is not writable, one line names the reason and the next step."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from truepixel_dagster.instance.process import HomeUnusable, dagster_home, make_history
from truepixel_dagster.settings import Settings


@contextmanager
def disk(folder: Path, options: str) -> Iterator[None]:
    """Mount a separate disk at a folder."""
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may not mount a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def refused(settings: Settings) -> str:
    with pytest.raises(HomeUnusable, match="TRUEPIXEL_DATA_DIR") as caught:
        make_history(settings)
    assert str(caught.value).startswith(f"Dagster's home {settings.data_dir / 'dagster'} cannot be written: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_in_place_of_the_home_is_reported(tmp_path: Path) -> None:
    (tmp_path / "dagster").write_text("")
    refused(Settings(data_dir=tmp_path))


def test_a_read_only_disk_is_reported(tmp_path: Path) -> None:
    with disk(tmp_path / "data", "size=4m,ro"):
        assert "Read-only file system" in refused(Settings(data_dir=tmp_path / "data"))


@pytest.mark.parametrize("size", ["4k", "64k"])
def test_a_full_disk_is_reported(tmp_path: Path, size: str) -> None:
    """The disk is full from the beginning, or once Dagster creates its databases."""
    with disk(tmp_path / "data", f"size={size}"):
        refused(Settings(data_dir=tmp_path / "data"))


def test_a_writable_home_is_used(tmp_path: Path) -> None:
    assert (dagster_home(Settings(data_dir=tmp_path)) / "dagster.yaml").exists()
