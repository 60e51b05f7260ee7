"""Check what publishing will need, before requests are paid for or hours are computed.

The caller holds the writer lock, which publishing needs as well. If a check fails, nothing has been changed.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from affectlake.errors import LakeError
from affectlake.lake.files import layout
from affectlake.lake.files.git import branch_of, git_path
from affectlake.lake.recovery import recover
from affectlake.lake.repository import rehearse
from affectlake.lake.store.cache import refuse_behind
from affectlake.lake.store.versions import cache_folder

ROOM_BYTES = 64 << 20
"""Free space, in bytes, that is required on each disk before a version is begun."""

_IN_PROGRESS = {"CHERRY_PICK_HEAD": "cherry-pick", "REVERT_HEAD": "revert"}
_CANNOT_RESERVE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV)


def prepare(root: Path, say: Callable[[str], None]) -> None:
    """Recover from an interrupted writer, and check that a version can be made and would lose nothing.

    Parameters
    ----------
    root : Path
        Root of the lake.
    say : callable
        Called with one line for each task that is finished.

    Raises
    ------
    LakeError
        If a table was changed by hand, an older version is checked out that lacks collected rows, or a check of
        :func:`refuse_unpublishable` fails.
    """
    refuse_unpublishable(root)
    recover(root, say)
    refuse_behind(root)


def refuse_unpublishable(root: Path) -> None:
    """Raise :class:`LakeError` if a version cannot be made of this folder, regardless of its tables.

    These are checked: the branch; picks and reverts in progress; secrets in ``.dvc/config``; that Git stores the files
    of a version unaltered, makes a commit in the user's name, and moves branch and tag; that the folders are writable,
    and that there is enough space.
    """
    branch_of(root)
    _refuse_half_done(root)
    places = (layout.TABLES, layout.COLLECTED, layout.STAGING, Path(".dvc/tmp"))
    folders = [root, *(root / path for path in places), cache_folder(root) / "files/md5", git_path(root, "objects")]
    disks: set[int] = set()
    for folder in folders:
        _refuse_unwritable(root, folder, disks)
    rehearse(root)


def _refuse_half_done(root: Path) -> None:
    for name, doing in _IN_PROGRESS.items():
        if git_path(root, name).exists():
            raise LakeError(
                f"a {doing} is in progress in {root}",
                wanted="a branch without an unfinished operation",
                todo=f"`git {doing} --continue` or `git {doing} --abort`, then do this again",
            )


def _reserve(descriptor: int) -> None:
    """Raise :class:`OSError` unless `ROOM_BYTES` are free on the disk of an open file."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(descriptor, 0, ROOM_BYTES)
        return
    disk = os.fstatvfs(descriptor)
    if disk.f_bavail * disk.f_frsize < ROOM_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _refuse_unwritable(root: Path, folder: Path, disks: set[int]) -> None:
    """Raise :class:`LakeError` unless a folder is writable and its disk, if not yet in `disks`, has space."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            disk = os.fstat(probe.fileno()).st_dev
            if disk not in disks:
                _reserve(probe.fileno())
                disks.add(disk)
    except OSError as error:
        if error.errno in _CANNOT_RESERVE:
            return  # a file system that cannot reserve space: being writable has to be enough
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise LakeError(
                f"there is not enough space in {folder}",
                wanted=f"{ROOM_BYTES >> 20} MiB",
                found=str(error),
                todo="free some space, then do this again",
            ) from error
        raise LakeError(f"{root} cannot be written to", found=str(error), todo="check its permissions") from error
