"""Check out the tables of a version into the folder, exactly as published. Versions are made elsewhere.

The branch does not move: the folder's ``params.yaml``, ``dvc.yaml``, ``dvc.lock`` and tables become those of the
version, and ``affectlake checkout latest`` restores the last one. Files are placed by reflink where the file system
supports it, otherwise by copy, and are read-only. Hard or symbolic links are not used: a program could write through
them into the cache that has every version.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import LakeError, VersionError
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import clone, md5_of, sync_folder, write_whole
from affectlake.lake.files.git import git
from affectlake.lake.files.layout import STATE
from affectlake.lake.files.names import own_path
from affectlake.lake.files.outputs import Output
from affectlake.lake.fsck import verify
from affectlake.lake.store.git_objects import blobs, read_blobs
from affectlake.lake.store.merges import refuse_unjoined
from affectlake.lake.store.versions import File, Manifest, Version, cached_object, list_versions
from affectlake.lake.store.working_tables import refuse_cut_off, refuse_edited

_SHOWN = 5  # of the files that were moved to quarantine
_UNFINISHED = layout.STAGING / "checkout-of"  # has the name of the version during its checkout


class CheckedOut(NamedTuple):
    """Result of a checkout: the outputs that were placed, kept because they were the same, and removed."""

    placed: list[Output]
    kept: list[Output]
    removed: list[Output]


def checkout(root: Path, version: Version) -> CheckedOut:
    """Check out the tables and parameters of `version` into the folder; the caller holds the writer lock.

    An existing file is kept only if its bytes have the version's hash. An interrupted checkout is finished by the
    next one, or by :func:`finish_checkout`.

    Raises
    ------
    LakeError
        If the folder has unpublished work.
    VersionError
        If a file of the version is missing or damaged; nothing is changed then.
    """
    refuse_unjoined(root)
    refuse_unpublished(root)
    verify(root, version)
    _refuse_withdrawn(root, version)
    return put_in_place(root, version)


def _refuse_withdrawn(root: Path, version: Version) -> None:
    """Raise :class:`VersionError` if files of the version were removed with the rows of a forgotten participant."""
    manifest = Manifest(root, version.commit)
    for output in manifest.digests:
        manifest.files(output)


def put_in_place(root: Path, version: Version) -> CheckedOut:
    """Replace the folder's state by that of a version; the caller has verified the version and the folder."""
    wanted, present = Manifest(root, version.commit), _present(root)
    for output in {*wanted.digests, *present}:
        own_path(root, output.folder)  # before anything is changed
    write_whole(own_path(root, _UNFINISHED), version.name.encode())
    done = CheckedOut([], [], [])
    for output in wanted.digests:
        kept = _place(root, output, wanted.files(output))
        (done.kept if kept else done.placed).append(output)
    for output in sorted(present - set(wanted.digests)):
        folder = own_path(root, output.folder)
        if all(is_cached(root, path) for path in folder.iterdir()):  # else it has files of the user
            shutil.rmtree(folder)
            done.removed.append(output)
    _restore_state(root, version)
    (root / _UNFINISHED).unlink()
    return done


def put_over(root: Path, version: Version, say: Callable[[str], None]) -> None:
    """Check out a version over parameters and manifests in the folder that need not be kept."""
    verify(root, version)
    set_aside(root, edited_tables(root), "join", say)
    put_in_place(root, version)


def _present(root: Path) -> set[Output]:
    """Return the outputs that have parts in the folder."""
    tables = root / layout.TABLES
    found = {str(part.parent.relative_to(tables)) for part in tables.rglob("part-*.parquet")}
    return {output for name in found if (output := Output.named(name)).is_legal}


def finish_checkout(root: Path, say: Callable[[str], None]) -> None:
    """Finish an interrupted checkout, if there is one.

    Raises
    ------
    VersionError
        If the mark that it left does not name a version.
    """
    if (root / _UNFINISHED).exists():
        name = own_path(root, _UNFINISHED).read_text(encoding="utf-8", errors="replace")
        version = next((one for one in list_versions(root) if one.name == name), None)
        if version is None:
            raise VersionError(
                f"a checkout was interrupted, and {_UNFINISHED} does not name its version",
                found=repr(name[:80]),
                todo="restore the latest version with `affectlake restore`; it moves unpublished work to quarantine",
            )
        set_aside(root, edited_tables(root), "checkout", say)  # changed since
        say(f"finishing the interrupted checkout of {version.name}")
        checkout(root, version)


def _restore_state(root: Path, version: Version) -> None:
    """Replace the parameters, the pipeline and the manifests in the folder by those of the version."""
    kept = dict(blobs(root, version.commit, map(str, STATE)))
    for path, content in zip(kept, read_blobs(root, list(kept.values())), strict=True):
        write_whole(_own_file(root, path), content)
    for path in set(state_files(root)) - set(kept):
        _own_file(root, path).unlink()


def _own_file(root: Path, path: str) -> Path:
    """Return the path of a file of the state; if it is itself a symbolic link, the link is replaced or removed."""
    return own_path(root, Path(path).parent) / Path(path).name


def state_files(root: Path) -> list[str]:
    """Return the paths, within the lake, of the files that define its tables and how they are made."""
    found = [root / place for place in STATE if not (root / place).is_dir()]
    found += (root / layout.COLLECTED).rglob("*.dvc")
    found += (path for path in (root / layout.PROTOCOLS).rglob("*") if path.is_file())
    return [str(path.relative_to(root)) for path in found if path.exists()]


def edited_tables(root: Path) -> list[str]:
    """Return the files in the folder of tables that are not copies of a cached object, as paths within the lake."""
    files = [path for path in sorted((root / layout.TABLES).rglob("*")) if path.is_symlink() or path.is_file()]
    return [str(path.relative_to(root)) for path in files if not is_cached(root, path)]


def is_cached(root: Path, path: Path) -> bool:
    """Return whether `path` is a file with the bytes of a cached object."""
    return path.is_file() and not path.is_symlink() and cached_object(root, md5_of(path)).exists()


def set_aside(root: Path, paths: Sequence[str], what: str, say: Callable[[str], None]) -> Path | None:
    """Move files of the lake to a new folder in ``storage/quarantine``; return it, or None if there are no files."""
    if not paths:
        return None
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = root / layout.QUARANTINE / f"{stamp}-{what}"
    for path in paths:
        (aside / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(root / path, aside / path)
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    say(f"moved to {aside.relative_to(root)}: {', '.join(paths[:_SHOWN])}{more}")
    return aside


def refuse_unpublished(root: Path) -> None:
    """Raise :class:`LakeError` if the folder's parameters, pipeline or tables are not those of a version."""
    paths = state_files(root)
    hashes = git(root, "hash-object", "--stdin-paths", stdin="".join(f"{path}\n" for path in paths)).split()
    now = dict(zip(paths, hashes, strict=True))
    versions = [version for version in reversed(list_versions(root)) if not version.is_lost]
    known = [dict(blobs(root, version.commit, map(str, STATE))) for version in versions]
    if (root / _UNFINISHED).exists():  # the folder is between two versions: each file must be in one of them
        if all(any(one.get(path) == name for one in known) for path, name in now.items()):
            return
    else:
        refuse_edited(root)
        refuse_cut_off(root)
        if now in known:
            return
    cut_off = (root / _UNFINISHED).exists()
    aside = "restore the latest version with `affectlake restore`, which moves it to quarantine"
    raise LakeError(
        "the folder has unpublished work",
        found="params.yaml, dvc.yaml, dvc.lock or protocols differ from those of every version"
        + (", and a checkout was interrupted" if cut_off else ""),
        todo=aside if cut_off else f"publish it with `affectlake run`, or {aside}",
    )


def _place(root: Path, output: Output, files: list[File]) -> bool:
    """Place the parts of an output in a new folder, which then replaces the old one by rename.

    Return whether the old folder had exactly these parts and was kept. Parts of it with the hash of the version's are
    reused without a copy.
    """
    target = own_path(root, output.folder)
    same = {f.path.name for f in files if (target / f.path.name).is_file() and md5_of(target / f.path.name) == f.md5}
    if target.is_dir() and {path.name for path in target.iterdir()} == same == {f.path.name for f in files}:
        return True
    aside = own_path(root, layout.STAGING / "checkout" / output.path)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for file in files:
        name = file.path.name
        if name in same:
            os.link(target / name, aside / name)  # to a working file, and only until the old folder is removed
        else:
            clone(file.cached, aside / name)
    sync_folder(aside)
    old = own_path(root, layout.STAGING / "checkout-old" / output.path)
    shutil.rmtree(old, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        old.parent.mkdir(parents=True, exist_ok=True)
        target.rename(old)
    aside.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return False
