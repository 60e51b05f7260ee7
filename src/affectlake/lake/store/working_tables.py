"""The tables in the folder beside the records of ``dvc.lock``: which were changed, which are missing.

A table differs from its record if its files do: they are hashed once and again when they change
(:mod:`~affectlake.lake.store.known_hashes`). User-defined outputs are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal, NamedTuple

from affectlake.errors import LakeError, VersionError
from affectlake.lake.files import layout
from affectlake.lake.files.checksums import examine
from affectlake.lake.files.names import own_path
from affectlake.lake.store.cache import read_listing
from affectlake.lake.store.dvc_lock import read_lock
from affectlake.lake.store.dvc_stages import StageRecords, dvc_repository
from affectlake.lake.store.folder_hashes import folder_hashes
from affectlake.lake.store.git_objects import content_at
from affectlake.lake.store.pinning import Pinned
from affectlake.lake.store.unrecorded import marked, unmark
from affectlake.lake.store.versions import Manifest, cached_object, outs_of


def refuse_edited(lake: Path) -> None:
    """Raise :class:`LakeError` if a table was changed after the stage that made it.

    A table that differs because a run was interrupted before DVC recorded it was not edited: its stage is stale for
    DVC, and the next run rebuilds it.
    """
    modified = _tables(lake, "modified")
    cut_off = _cut_off(lake, modified)
    edited = [path for path in modified if path not in cut_off]
    if edited:
        raise LakeError(
            "tables were changed by hand; nothing was run",
            found=", ".join(edited),
            todo="restore them with `affectlake restore` (it moves the changed ones to quarantine), or one with"
            f" `dvc checkout --force {edited[0]}` (it discards the change)",
        )


def refuse_cut_off(lake: Path) -> None:
    """Raise :class:`LakeError` if a run was interrupted between placing tables and recording them."""
    cut_off = _cut_off(lake, _tables(lake, "modified"))
    if cut_off:
        raise LakeError(
            "a run was interrupted before its tables were recorded",
            found=", ".join(cut_off),
            todo="finish it first with `affectlake run`",
        )


class FolderFault(NamedTuple):
    """A file of a table in the folder that is not as ``dvc.lock`` records it: its path in the lake, and what it is."""

    path: str
    state: Literal["changed", "missing", "unknown", "not recorded"]

    def __str__(self) -> str:
        words = {
            "changed": "changed since it was recorded",
            "missing": "missing, although other files of its table are there",
            "unknown": "not a file of its table",
            "not recorded": "of a run that was interrupted before it recorded its tables",
        }
        return f"{self.path}: {words[self.state]}"


def folder_faults(lake: Path) -> list[FolderFault]:
    """Hash every file of the tables in the folder, and return those that are not as recorded, sorted by path.

    Tables without a folder are left out: runs and checkouts place them. So are tables whose list of files is not in the
    cache, which :func:`affectlake.lake.fsck.check` reports.
    """
    manifest, interrupted, found = Manifest(lake, ""), marked(lake), list[FolderFault]()
    for output in manifest.digests:
        folder = own_path(lake, output.folder)
        try:
            expected = {str(file.path): file.md5 for file in manifest.files(output)}
        except VersionError:
            continue
        if not folder.is_dir():
            continue
        paths = {str(path.relative_to(lake)) for path in folder.rglob("*") if not path.is_dir()}
        states: dict[str, Literal["changed", "missing", "unknown"]] = dict.fromkeys(paths - set(expected), "unknown")
        for path, md5 in expected.items():
            if path not in paths:
                states[path] = "missing"
            elif examine(lake / path, md5):
                states[path] = "changed"
        found += [FolderFault(path, "not recorded" if output in interrupted else one) for path, one in states.items()]
    return sorted(found)


def _cut_off(lake: Path, modified: list[str]) -> list[str]:
    """Return the `modified` outputs that have the mark of an interrupted run; remove the marks of all others."""
    found = {str(output.folder): output for output in marked(lake)}
    for path in set(found) - set(modified):
        unmark(lake, found[path])
    return [path for path in modified if path in found]


def restore_missing(lake: Path, say: Callable[[str], None]) -> None:
    """Restore from DVC's cache the tables that are in ``dvc.lock`` and not in the folder."""
    missing = _tables(lake, "deleted")
    if not missing:
        return
    from dvc.exceptions import CheckoutError

    say(f"restoring {', '.join(missing)} from the cache")
    with dvc_repository(lake, pinned=_readable(lake)) as repo:
        try:
            repo.checkout(targets=[str(lake / path) for path in missing], force=True, allow_missing=True)
        except CheckoutError as error:
            say(f"not in the cache, to be rebuilt: {', '.join(error.target_infos)}")


class Missing(NamedTuple):
    """Stages that are current once their tables are in the folder again: from the cache, or after a pull."""

    to_restore: list[str]
    to_pull: list[str]


def unchanged_stages(lake: Path, stale: Collection[str], pinned: Pinned) -> Missing:
    """Return those of the `stale` stages that only lack tables in the folder, as in a clone.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    stale : collection of str
        Stages that are not current.
    pinned : mapping of Path to bytes
        As for :class:`~affectlake.lake.store.dvc_stages.StageRecords`.
    """
    missing = {path: digest for path, digest in _digests(lake).items() if not (lake / path).is_dir()}
    found = Missing([], [])
    if not missing:
        return found
    cached = {path for path, digest in missing.items() if _is_cached(lake, digest)}
    with StageRecords(lake, pinned) as records:
        for stage in stale:
            if records.is_unchanged(stage, missing):
                writes = {out["path"] for out in outs_of(read_lock(lake)["stages"][stage])} & missing.keys()
                (found.to_restore if writes <= cached else found.to_pull).append(stage)
    return found


def _digests(lake: Path) -> dict[str, str]:
    return {str(output.folder): digest for output, digest in Manifest(lake, "").digests.items()}


def _is_cached(lake: Path, digest: str) -> bool:
    if not cached_object(lake, digest).exists():
        return False
    return all(cached_object(lake, one.md5).exists() for one in read_listing(lake, digest))


def _tables(lake: Path, state: Literal["modified", "deleted"]) -> list[str]:
    """Return the tables that are in `state` relative to the working ``dvc.lock``."""
    digests = _digests(lake)
    found = folder_hashes(lake, digests)
    if state == "deleted":
        return [path for path in digests if path not in found]
    return [path for path, digest in digests.items() if found.get(path, digest) != digest]


def _readable(lake: Path) -> Pinned:
    """Return the last commit's parameters and pipeline, where those in the folder are not valid YAML.

    DVC reads both files on every call, also where only tables are concerned.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.serialize import load_yaml

    found = {}
    for path in (layout.PARAMS, layout.PIPELINE):
        try:
            load_yaml(str(lake / path))
        except FileNotFoundError:
            continue
        except DvcException:
            found[path] = content_at(lake, "HEAD", path) or b"{}"
    return found
