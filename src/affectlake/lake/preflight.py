"""What publishing will need, looked at before anything is paid for: answers asked, or hours of work.

The caller holds the writer lock, which publishing needs as well. What is refused here is refused with nothing changed.
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
"""Room that must be left on each disk for a version to be begun."""

_GOES_ON = {"CHERRY_PICK_HEAD": "cherry-pick", "REVERT_HEAD": "revert"}
_CANNOT_RESERVE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV)


def prepare(root: Path, say: Callable[[str], None]) -> None:
    """Go on after a writer that was cut off, and see that a version could be made and would lose nothing.

    Parameters
    ----------
    root : Path
        Root of the lake.
    say : callable
        Takes one line for each thing that is finished.

    Raises
    ------
    LakeError
        If a table was changed by hand, an older version is checked out that lacks collected rows, or for what
        :func:`refuse_unpublishable` looks at.
    """
    refuse_unpublishable(root)
    recover(root, say)
    refuse_behind(root)


def refuse_unpublishable(root: Path) -> None:
    """Raise :class:`LakeError` if a version could not be made of this folder, whatever its tables will be.

    Looked at are: the branch; picks and reverts that go on; secrets in ``.dvc/config``; that Git takes the files of a
    version as they are, a commit signed with the user's name, and the move of branch and tag; that the folders that
    are written to can be, and that there is room.
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
    for name, doing in _GOES_ON.items():
        if git_path(root, name).exists():
            raise LakeError(
                f"a {doing} goes on in {root}",
                wanted="a branch with nothing half done",
                todo=f"`git {doing} --continue` or `git {doing} --abort`, then do this again",
            )


def _refuse_unwritable(root: Path, folder: Path, disks: set[int]) -> None:
    """Raise :class:`LakeError` unless a file can be made in a folder; on a disk not among `disks`, one of some size."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            disk = os.fstat(probe.fileno()).st_dev
            if disk not in disks:
                os.posix_fallocate(probe.fileno(), 0, ROOM_BYTES)
                disks.add(disk)
    except OSError as error:
        if error.errno in _CANNOT_RESERVE:
            return  # a file system that reserves no room: it was written to, and has to do
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise LakeError(
                f"there is not enough room in {folder}",
                wanted=f"{ROOM_BYTES >> 20} MiB",
                found=str(error),
                todo="make room, then do this again",
            ) from error
        raise LakeError(f"{root} cannot be written to", found=str(error), todo="check its permissions") from error
