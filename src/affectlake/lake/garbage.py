"""Cached objects that nothing refers to any more. Found first; removed only on request; in doubt, kept.

An object stays if any commit of any branch, tag or stash names it, if the working ``dvc.lock`` does, if an MLflow run
was fitted on it, or if it is younger than a day (a writer may be about to name it). Mapped arrays
(:mod:`~affectlake.lake.mapping`) stay as long as the listing that they were made from.
"""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import LakeError
from affectlake.lake import layout
from affectlake.lake.content import examine
from affectlake.lake.git import git
from affectlake.lake.mapping import mapped_files
from affectlake.lake.versions import Manifest, cache_folder, cached_object

YOUNG_S = 24 * 3600.0


class Unreferred(NamedTuple):
    """One cached object that nothing refers to: its MD5, path and size in bytes."""

    md5: str
    path: Path
    n_bytes: int


def unreferred(root: Path, *, now_s: float | None = None) -> list[Unreferred]:
    """Return the objects that may go.

    Raises
    ------
    LakeError
        If a listing that some commit names is missing or damaged: what it names cannot be known, so nothing may go.
    """
    keep = _referred(root)
    now_s = time.time() if now_s is None else now_s
    found = []
    for path in sorted((cache_folder(root) / "files" / "md5").glob("??/*")):
        md5 = path.parent.name + path.name
        status = path.stat()
        if md5 not in keep and now_s - status.st_mtime > YOUNG_S:
            found.append(Unreferred(md5, path, status.st_size))
    for md5, path in mapped_files(root):
        status = path.stat()
        if f"{md5}.dir" not in keep and now_s - status.st_mtime > YOUNG_S:
            found.append(Unreferred(md5, path, status.st_size))
    return found


def remove(found: list[Unreferred]) -> int:
    """Remove the objects and return the bytes freed."""
    for one in found:
        one.path.unlink()
    return sum(one.n_bytes for one in found)


def _referred(root: Path) -> set[str]:
    commits = git(root, "rev-list", "--all", "--reflog").split()
    aside = [Manifest(folder, "") for folder in (root / layout.QUARANTINE).glob("*-restore")]  # kept on purpose
    manifests = [*(Manifest(root, commit) for commit in ["", *commits]), *aside]
    listings = {digest for manifest in manifests for digest in manifest.digests.values()}
    listings |= _fitted_on(root)
    keep = set(listings)
    for digest in listings:
        listing = cached_object(root, digest)
        state = examine(listing, digest)
        if state:
            raise LakeError(
                f"the listing {digest} is {state}, so what it names cannot be known; nothing was removed",
                todo="mend it with `affectlake fsck --repair` or `affectlake pull`, then run again",
            )
        if digest.endswith(".dir"):
            keep |= {entry["md5"] for entry in json.loads(listing.read_bytes())}
    return keep


def _fitted_on(root: Path) -> set[str]:
    """Return the hashes of the tables that the lake's own MLflow runs read, as far as the cache has them."""
    database = root / layout.MODEL_RUNS
    if not database.exists():
        return set()
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT DISTINCT value FROM params WHERE key LIKE 'input.%'").fetchall()
    return {value for (value,) in rows if cached_object(root, value).exists()}
