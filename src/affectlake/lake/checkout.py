"""Putting the tables of a version into the folder, exactly as they were published. Making versions is elsewhere.

The branch does not move: the folder's ``params.yaml``, ``dvc.yaml``, ``dvc.lock`` and tables become those of the
version, and ``affectlake checkout latest`` brings the last one back. Files are placed by reflink where the file
system can, else by copy, and are read-only; never by hard or symbolic links, through which a program could write into
the cache that holds every version.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import LakeError
from affectlake.lake import layout
from affectlake.lake.git import git, git_bytes, git_or_none
from affectlake.lake.integrity import verify
from affectlake.lake.parts import sync_folder
from affectlake.lake.stages import refuse_cut_off, refuse_edited
from affectlake.lake.versions import File, Manifest, Version, list_versions

_FICLONE = 0x40049409  # ioctl of Linux file systems that share blocks: btrfs, XFS, overlayfs on them
_STATE = (layout.PARAMS, layout.PIPELINE, layout.PIPELINE_LOCK)


class CheckedOut(NamedTuple):
    """What a checkout did: outputs whose files were put in place, kept because they were the same, and removed."""

    placed: list[str]
    kept: list[str]
    removed: list[str]


def checkout(root: Path, version: Version) -> CheckedOut:
    """Make the folder hold the tables and parameters of `version`.

    Raises
    ------
    LakeError
        If the folder holds work that no version has.
    VersionError
        If a file of the version is missing or damaged; nothing is changed then.
    """
    refuse_unpublished(root)
    verify(root, version)
    wanted, now = Manifest(root, version.commit), Manifest(root, "")
    done = CheckedOut([], [], [])
    for output, digest in wanted.digests.items():
        folder = root / layout.table_folder(output)
        if now.digests.get(output) == digest and folder.is_dir():
            done.kept.append(output)
            continue
        _place(root, output, wanted.files(output))
        done.placed.append(output)
    for output in set(now.digests) - set(wanted.digests):
        shutil.rmtree(root / layout.table_folder(output), ignore_errors=True)
        done.removed.append(output)
    for path in _STATE:
        content = git_bytes(root, "show", f"{version.commit}:./{path}")
        if content is not None:
            _write(root / path, content)
    return done


def refuse_unpublished(root: Path) -> None:
    """Raise :class:`LakeError` if the folder's parameters, pipeline or tables are those of no version."""
    refuse_edited(root)
    refuse_cut_off(root)
    now = [git(root, "hash-object", "--", str(path)).strip() if (root / path).exists() else "" for path in _STATE]
    for version in reversed(list_versions(root)):
        names = [git_or_none(root, "rev-parse", f"{version.commit}:./{path}") or "" for path in _STATE]
        if names == now:
            return
    raise LakeError(
        "the folder holds work that is in no version",
        found="params.yaml, dvc.yaml or dvc.lock differ from every version's",
        todo="publish it with `affectlake run`, or give it up with `git checkout -- params.yaml dvc.yaml dvc.lock`",
    )


def _place(root: Path, output: str, files: list[File]) -> None:
    """Put the parts of an output in place: a new folder beside the old one, then by rename."""
    target = root / layout.table_folder(output)
    aside = root / layout.STAGING / "checkout" / output
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for file in files:
        _clone(file.cached, aside / file.path.name)
    sync_folder(aside)
    old = root / layout.STAGING / "checkout-old" / output
    shutil.rmtree(old, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        old.parent.mkdir(parents=True, exist_ok=True)
        target.rename(old)
    aside.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _clone(source: Path, target: Path) -> None:
    """Copy a file, sharing its blocks where the file system can; flushed and read-only."""
    with source.open("rb") as origin, target.open("wb") as sink:
        try:
            fcntl.ioctl(sink, _FICLONE, origin.fileno())
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS):
                raise
            shutil.copyfileobj(origin, sink, 1 << 22)
        sink.flush()
        os.fsync(sink.fileno())
    target.chmod(0o444)


def _write(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.new")
    aside.write_bytes(content)
    aside.replace(path)
