"""Putting the tables of a version into the folder, exactly as they were published. Making versions is elsewhere.

The branch does not move: the folder's ``params.yaml``, ``dvc.yaml``, ``dvc.lock`` and tables become those of the
version, and ``affectlake checkout latest`` brings the last one back. Files are placed by reflink where the file
system can, else by copy, and are read-only; never by hard or symbolic links, through which a program could write into
the cache that holds every version.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import LakeError
from affectlake.lake import layout
from affectlake.lake.files import clone, md5_of, sync_folder, write_whole
from affectlake.lake.git import git, git_bytes
from affectlake.lake.integrity import verify
from affectlake.lake.layout import STATE
from affectlake.lake.merges import refuse_unjoined
from affectlake.lake.stages import refuse_cut_off, refuse_edited
from affectlake.lake.versions import File, Manifest, Version, blobs, list_versions, resolve

_UNFINISHED = layout.STAGING / "checkout-of"  # holds the name of the version while its checkout goes on


class CheckedOut(NamedTuple):
    """What a checkout did: outputs whose files were put in place, kept because they were the same, and removed."""

    placed: list[str]
    kept: list[str]
    removed: list[str]


def checkout(root: Path, version: Version) -> CheckedOut:
    """Make the folder hold the tables and parameters of `version`; the caller holds the writer lock.

    A file that stands already is kept only if its bytes have the version's hash. A checkout that was cut off is
    finished by any other, or by :func:`finish_checkout`.

    Raises
    ------
    LakeError
        If the folder holds work that no version has.
    VersionError
        If a file of the version is missing or damaged; nothing is changed then.
    """
    refuse_unjoined(root)
    refuse_unpublished(root)
    verify(root, version)
    wanted, now = Manifest(root, version.commit), Manifest(root, "")
    write_whole(root / _UNFINISHED, version.name.encode())
    done = CheckedOut([], [], [])
    for output in wanted.digests:
        kept = _place(root, output, wanted.files(output))
        (done.kept if kept else done.placed).append(output)
    for output in set(now.digests) - set(wanted.digests):
        shutil.rmtree(root / layout.table_folder(output), ignore_errors=True)
        done.removed.append(output)
    _restore_state(root, version)
    (root / _UNFINISHED).unlink()
    return done


def put_over(root: Path, version: Version) -> None:
    """Do :func:`checkout` over parameters and manifests in the folder that need not be kept."""
    write_whole(root / _UNFINISHED, version.name.encode())
    _restore_state(root, version)
    checkout(root, version)


def finish_checkout(root: Path, say: Callable[[str], None]) -> None:
    """Finish a checkout that was cut off, if there was one."""
    if (root / _UNFINISHED).exists():
        version = resolve(root, (root / _UNFINISHED).read_text(encoding="utf-8"))
        say(f"finishing the checkout of {version.name}, which was cut off")
        checkout(root, version)


def _restore_state(root: Path, version: Version) -> None:
    """Make the parameters, the pipeline and the manifests in the folder those of the version."""
    kept = {path for path, _ in blobs(root, version.commit, map(str, STATE))}
    for path in kept:
        content = git_bytes(root, "show", f"{version.commit}:./{path}")
        if content is not None:
            write_whole(root / path, content)
    for path in set(_state_files(root)) - kept:
        (root / path).unlink()


def _state_files(root: Path) -> list[str]:
    """Return the paths, within the lake, of the files that say which tables it holds and how they are made."""
    found = [
        p for place in STATE for p in ((root / place).rglob("*.dvc") if (root / place).is_dir() else [root / place])
    ]
    return [str(path.relative_to(root)) for path in found if path.exists()]


def refuse_unpublished(root: Path) -> None:
    """Raise :class:`LakeError` if the folder's parameters, pipeline or tables are those of no version."""
    paths = _state_files(root)
    hashes = git(root, "hash-object", "--stdin-paths", stdin="".join(f"{path}\n" for path in paths)).split()
    now = dict(zip(paths, hashes, strict=True))
    known = [dict(blobs(root, version.commit, map(str, STATE))) for version in reversed(list_versions(root))]
    if (root / _UNFINISHED).exists():  # the folder is between two versions, each file of which must be one's
        if all(any(one.get(path) == name for one in known) for path, name in now.items()):
            return
    else:
        refuse_edited(root)
        refuse_cut_off(root)
        if now in known:
            return
    raise LakeError(
        "the folder holds work that is in no version",
        found="params.yaml, dvc.yaml or dvc.lock differ from every version's",
        todo="publish it with `affectlake run`, or give it up with `git checkout -- params.yaml dvc.yaml dvc.lock`",
    )


def _place(root: Path, output: str, files: list[File]) -> bool:
    """Put the parts of an output in place, in a new folder beside the old one and then by rename.

    Returns whether the old folder held exactly these parts, and was kept. Parts of it that are the version's, by their
    hash, move over without a copy.
    """
    target = root / layout.table_folder(output)
    same = {f.path.name for f in files if (target / f.path.name).is_file() and md5_of(target / f.path.name) == f.md5}
    if target.is_dir() and {path.name for path in target.iterdir()} == same == {f.path.name for f in files}:
        return True
    aside = root / layout.STAGING / "checkout" / output
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for file in files:
        name = file.path.name
        if name in same:
            os.link(target / name, aside / name)  # of one working file, for as long as the old folder lasts
        else:
            clone(file.cached, aside / name)
    sync_folder(aside)
    old = root / layout.STAGING / "checkout-old" / output
    shutil.rmtree(old, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        old.parent.mkdir(parents=True, exist_ok=True)
        target.rename(old)
    aside.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return False
