"""Find the cached objects that a DVC repository refers to: in every commit, in Git's index and in its folder.

Objects that are not found here are garbage, so every hash in any ``dvc.lock`` or ``.dvc`` file counts, also in
repositories that are not lakes.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import LakeError
from affectlake.lake.files import layout
from affectlake.lake.files.checksums import examine
from affectlake.lake.files.git import git
from affectlake.lake.files.names import is_digest
from affectlake.lake.store.git_objects import read_blobs
from affectlake.lake.store.listings import parse_listing
from affectlake.lake.store.versions import Manifest, cached_object

_HASH = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?:\.dir)?(?![0-9a-f])")


class _Named(NamedTuple):
    """All hashes, and those of tables, whose listings must exist."""

    hashes: set[str]
    tables: set[str]


def referred(root: Path, cache_of: Path) -> set[str]:
    """Return the hashes of the objects that a repository refers to, directly or in its listings.

    Parameters
    ----------
    root : Path
        Root of a DVC repository.
    cache_of : Path
        Root of the lake whose cache has the listings.

    Raises
    ------
    LakeError
        If a listing is damaged, or the listing of a table is missing: its entries are unknown.
    """
    found = _Named(_fitted_on(root, cache_of), set())
    for commit, texts in _manifests(root):
        found.hashes.update(one.decode() for text in texts.values() for one in _HASH.findall(text))
        found.tables.update(_tables(root, commit, texts))
    keep = set(found.hashes)
    for digest in found.hashes:
        if digest.endswith(".dir"):
            listing = cached_object(cache_of, digest)
            state = examine(listing, digest)
            if state == "missing" and digest not in found.tables:
                continue  # of a dependency, which DVC does not cache, or never fetched
            if state:
                raise LakeError(
                    f"the listing {digest} is {state}, so its entries are unknown; nothing was removed",
                    found=f"{root} refers to it",
                    todo="repair it with `affectlake fsck --repair` or `affectlake pull`, then run again",
                )
            keep |= {one.md5 for one in parse_listing(listing.read_bytes(), digest, nested=True)}
    return keep


def _tables(root: Path, commit: str, texts: Mapping[Path, bytes]) -> set[str]:
    mine = {
        path: text
        for path, text in texts.items()
        if path == layout.PIPELINE_LOCK or path.is_relative_to(layout.COLLECTED)
    }
    try:
        return set(Manifest(root, commit, mine).digests.values())
    except LakeError:  # has outputs that are not tables: its hashes count too
        return set()


def _manifests(root: Path) -> Iterator[tuple[str, dict[Path, bytes]]]:
    """Yield the manifests of every commit, of the index and of the folder (the last two under an empty name)."""
    yield "", _in_folder(root)
    if not _has_history(root):
        return
    commits = git(root, "rev-list", "--all", "--reflog").split()
    listed = {commit: _in_commit(root, commit) for commit in commits}
    staged = [line.split("\t", 1) for line in git(root, "ls-files", "--stage", "-z").split("\0") if line]
    listed[""] = {Path(path): entry.split()[1] for entry, path in staged if _is_manifest(path)}
    wanted = sorted({blob for blobs in listed.values() for blob in blobs.values()})
    contents = dict(zip(wanted, read_blobs(root, wanted), strict=True))
    for commit, blobs in listed.items():
        yield commit, {path: contents[blob] for path, blob in blobs.items()}


def _has_history(root: Path) -> bool:
    """Return whether the folder is in a Git repository; raise if there is one that Git cannot open."""
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return False
    git(root, "rev-parse", "--git-dir")
    return True


def _in_commit(root: Path, commit: str) -> dict[Path, str]:
    entries = [line.split("\t", 1) for line in git(root, "ls-tree", "-r", "-z", commit).split("\0") if line]
    return {Path(path): entry.split()[2] for entry, path in entries if _is_manifest(path) and " blob " in entry}


def _in_folder(root: Path) -> dict[Path, bytes]:
    found = {}
    for folder, folders, files in os.walk(root, onerror=_give):
        folders[:] = [name for name in folders if name not in (".git", ".dvc")]
        for name in filter(_is_manifest, files):
            path = Path(folder) / name
            if path.is_file():
                found[path.relative_to(root)] = path.read_bytes()
    return found


def _give(error: OSError) -> None:
    """Raise the error if a folder cannot be read, unless it was removed: its objects would count as garbage."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _is_manifest(path: str) -> bool:
    return path.endswith(".dvc") or path.rpartition("/")[2] == "dvc.lock"


def _fitted_on(root: Path, cache_of: Path) -> set[str]:
    """Return the hashes of the tables that the lake's MLflow runs read, as far as the cache has them."""
    database = root / layout.MODEL_RUNS
    if not database.exists():
        return set()
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT DISTINCT value FROM params WHERE key LIKE 'input.%'").fetchall()
    return {value for (value,) in rows if is_digest(value) and cached_object(cache_of, value).exists()}
