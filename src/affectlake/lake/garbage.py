"""Cached objects that nothing refers to any more. Found first; removed only on request; in doubt, kept.

An object stays if any commit of any branch, tag or stash names it, if the working ``dvc.lock`` or any ``.dvc`` file
does, if an MLflow run was fitted on it, or if it is young (a writer may be about to name it). Where the cache lies
outside the lake, others may use it: they are named, and what they refer to stays too. Mapped arrays
(:mod:`~affectlake.lake.tables.memmaps`) stay as long as the listing that they were made from.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import UsageError
from affectlake.lake.files.names import is_digest
from affectlake.lake.store.dvc_settings import cache_folder, is_shared
from affectlake.lake.store.references import referred
from affectlake.lake.tables.memmaps import mapped_files

YOUNG_S = 24 * 3600.0
YOUNG_SHARED_S = 14 * YOUNG_S


class Unreferred(NamedTuple):
    """One cached object that nothing refers to: its MD5, path and size in bytes."""

    md5: str
    path: Path
    n_bytes: int


def unreferred(
    root: Path, *, now_s: float | None = None, young_s: float = YOUNG_S, others: Sequence[Path] = ()
) -> list[Unreferred]:
    """Return the objects that may go.

    Parameters
    ----------
    root : Path
        Root of the lake.
    now_s : float, optional
        The time, in seconds since 1970.
    young_s : float
        What is younger than this stays, in seconds.
    others : sequence of Path
        Roots of other DVC repositories that use the same cache.

    Raises
    ------
    LakeError
        If a listing that some commit names is missing or damaged: what it names cannot be known, so nothing may go.
    """
    keep = set[str]().union(*(referred(one, root) for one in (root, *others)))
    now_s = time.time() if now_s is None else now_s
    found = []
    for path in sorted((cache_folder(root) / "files" / "md5").glob("??/*")):
        md5 = path.parent.name + path.name
        # besides objects there are files that a write cut off left, which begin with a dot
        if path.is_file() and (path.name.startswith(".") or is_digest(md5)) and md5 not in keep:
            found.append(Unreferred(md5, path, path.stat().st_size))
    for md5, path in mapped_files(root):
        if path.is_file() and f"{md5}.dir" not in keep:
            found.append(Unreferred(md5, path, path.stat().st_size))
    return [one for one in found if now_s - one.path.stat().st_mtime > young_s]


def users_of_cache(root: Path, named: Sequence[Path]) -> list[Path]:
    """Return the roots of the DVC repositories that `named` are, each seen to use the lake's cache.

    Raises
    ------
    UsageError
        If one is not a DVC repository, or uses another cache.
    """
    found = []
    for folder in (one.resolve() for one in named):
        if not (folder / ".dvc").is_dir():
            raise UsageError(f"{folder} is not a DVC repository", wanted="a folder with .dvc in it")
        if cache_folder(folder) != cache_folder(root):
            raise UsageError(
                f"{folder} does not use the cache of {root}",
                wanted=str(cache_folder(root)),
                found=str(cache_folder(folder)),
                todo="leave it out",
            )
        found.append(folder)
    return found


def refuse_shared(root: Path, named: Sequence[Path]) -> None:
    """Raise :class:`UsageError` if others may use the lake's cache, and none of them is named."""
    if is_shared(root) and not named:
        raise UsageError(
            f"the cache lies outside {root}, so others may use it; nothing was removed",
            found=str(cache_folder(root)),
            todo="name every other repository that uses it (--shared-with DIR, repeatable), or say --not-shared",
        )


def remove(found: list[Unreferred]) -> int:
    """Remove the objects and return the bytes freed."""
    for one in found:
        one.path.unlink()
    return sum(one.n_bytes for one in found)
