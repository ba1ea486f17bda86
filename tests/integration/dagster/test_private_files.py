"""Files and folders are closed to other users, whatever the umask and the earlier permissions are."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

import pytest

from truepixel_dagster.instance.process import dagster_home, make_history
from truepixel_dagster.privacy.export import Held, write
from truepixel_dagster.private_files import open_private, private_folder, tighten
from truepixel_dagster.settings import Settings


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def open_to_others(folder: Path) -> list[Path]:
    """The paths that other users could read. A live server may remove a file meanwhile."""
    found = [folder] if mode(folder) & 0o077 else []
    for parent, *names in os.walk(folder):
        for path in (Path(parent, name) for name in chain(*names)):
            with suppress(FileNotFoundError):
                if not path.is_symlink() and mode(path) & 0o077:
                    found.append(path)
    return found


@pytest.mark.usefixtures("umask")
def test_new_files_are_their_owners_only(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "a" / "b" / "c")
    with open_private(folder / "log", "ab") as file:
        file.write(b"said")
    with open_private(folder / "log", "ab") as file:
        file.write(b" more")
    assert (folder / "log").read_text() == "said more"
    assert open_to_others(tmp_path / "a") == []
    assert mode(folder / "log") == 0o600
    assert {mode(path) for path in (folder, folder.parent, folder.parent.parent)} == {0o700}


@pytest.mark.usefixtures("umask")
def test_existing_permissions_are_tightened_and_links_are_left_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("another's")
    outside.chmod(0o644)
    folder = tmp_path / "home"
    (folder / "storage" / "run").mkdir(parents=True)
    (folder / "storage" / "run" / "out").write_text("")
    (folder / "program").write_text("")
    for path in (folder, folder / "storage", folder / "storage" / "run", folder / "program"):
        path.chmod(0o777)
    (folder / "storage" / "run" / "out").chmod(0o666)
    (folder / "link").symlink_to(outside)
    (folder / "link to a folder").symlink_to(tmp_path)
    (folder / "broken").symlink_to(tmp_path / "none")
    private_folder(folder)
    assert open_to_others(folder) == []
    assert mode(folder / "program") == 0o700
    assert mode(outside) == 0o644
    tighten(tmp_path / "none")


@pytest.mark.usefixtures("umask")
def test_dagsters_home_with_its_history_is_the_owners_only(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    make_history(settings)
    home = tmp_path / "data" / "dagster"
    assert sorted(home.rglob("*.db"))
    assert open_to_others(tmp_path / "data") == []
    (home / "dagster.yaml").chmod(0o644)
    (home / "storage").mkdir(exist_ok=True)
    (home / "storage").chmod(0o755)
    home.chmod(0o755)
    assert dagster_home(settings) == home
    assert open_to_others(tmp_path / "data") == []


@pytest.mark.usefixtures("umask")
def test_an_export_is_the_owners_only_with_the_folders_that_are_made_for_it(tmp_path: Path) -> None:
    path = tmp_path / "made" / "too" / "export.jsonl"
    assert write(path, iter([Held("events", {"_id": "1"})])) == {"events": 1}
    assert (mode(path), open_to_others(tmp_path / "made")) == (0o600, [])
    # Written again, over a file that others could read, in a folder that existed before.
    path.chmod(0o666)
    path.parent.chmod(0o755)
    write(path, iter([Held("events", {"_id": "2"})]))
    assert (mode(path), mode(path.parent)) == (0o600, 0o755)


def test_what_belongs_to_another_user_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, _mode: int) -> None:
        raise PermissionError(1, "Operation not permitted", str(self))

    (tmp_path / "file").touch(0o644)
    tmp_path.chmod(0o700)
    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(PermissionError, match="open to others and belongs to somebody else: have its owner run"):
        private_folder(tmp_path)
