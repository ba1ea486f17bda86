"""Create files and folders that only their owner may read and enter, whatever the umask.

The pipeline's files contain personal data: Dagster's home, logs, answers to data requests, local servers' data. New
files get these permissions at once, and existing ones when a program that uses them starts.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

# For child processes: only the owner can access the files that they create.
UMASK = 0o077
_FOLDER, _FILE, _OTHERS = 0o700, 0o600, 0o077


def private_folder(folder: Path) -> Path:
    """Create a folder with its missing parents, and make it and its contents accessible to its owner only.

    Raises:
        OSError: A folder cannot be created, or belongs to another user and is open to others.
    """
    if not folder.is_dir():
        private_folder_above(folder)
        with suppress(FileExistsError):
            folder.mkdir(_FOLDER)
    tighten(folder)
    return folder


def private_folder_above(path: Path) -> None:
    """Create the missing parents of a file or folder; existing ones stay as they are."""
    missing = [parent for parent in path.parents if not parent.exists()]
    for parent in reversed(missing):
        with suppress(FileExistsError):
            parent.mkdir(_FOLDER)
            # The umask may have removed permissions.
            parent.chmod(_FOLDER)


def open_private(path: Path, mode: str) -> IO[Any]:
    """Open a file, such as a log, that only its owner may read; an existing file gets these permissions.

    Raises:
        OSError: It cannot be opened, or belongs to another user and is open to others.
    """
    file = open(path, mode, opener=lambda name, flags: os.open(name, flags, _FILE))  # noqa: SIM115
    try:
        _tighten(path, os.fstat(file.fileno()).st_mode)
    except BaseException:
        file.close()
        raise
    return file


def tighten(folder: Path) -> None:
    """Remove all permissions of others on a folder and its contents; links stay.

    Raises:
        OSError: One of them belongs to somebody else and is open to others.
    """
    # Files that are created meanwhile have the right permissions, because their processes use `UMASK`.
    with suppress(FileNotFoundError):
        _tighten(folder, folder.lstat().st_mode)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_symlink():
                    continue
                if entry.is_dir(follow_symlinks=False):
                    tighten(Path(entry.path))
                else:
                    with suppress(FileNotFoundError):
                        _tighten(Path(entry.path), entry.stat(follow_symlinks=False).st_mode)


def _tighten(path: Path, mode: int) -> None:
    if mode & _OTHERS and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        try:
            path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
        except PermissionError as error:
            raise PermissionError(
                f"{path} is open to others and belongs to somebody else: have its owner run `chmod -R go= {path}`"
            ) from error
