"""Find cached objects without any reference, and remove them on request. In doubt, an object is kept.

An object is kept if any commit of any branch, tag or stash refers to it, if the working ``dvc.lock`` or any ``.dvc``
file does, if an MLflow run was fitted on it, or if it is new (a writer may be about to refer to it). Where the cache is
outside the lake, the user names the other repositories that use it, and their objects are kept too. Mapped arrays
(:mod:`~affectlake.lake.tables.memmaps`) are kept as long as the listing that they were made from.
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
    """One cached object without any reference: its MD5, path and size in bytes."""

    md5: str
    path: Path
    n_bytes: int


def unreferred(
    root: Path, *, now_s: float | None = None, young_s: float = YOUNG_S, others: Sequence[Path] = ()
) -> list[Unreferred]:
    """Return the objects that can be removed.

    Parameters
    ----------
    root : Path
        Root of the lake.
    now_s : float, optional
        The time, in seconds since 1970.
    young_s : float
        Objects newer than this, in seconds, are kept.
    others : sequence of Path
        Roots of other DVC repositories that use the same cache.

    Raises
    ------
    LakeError
        If a listing that a commit refers to is missing or damaged: its entries are unknown, so nothing can be removed.
    """
    keep = set[str]().union(*(referred(one, root) for one in (root, *others)))
    now_s = time.time() if now_s is None else now_s
    found = []
    for path in sorted((cache_folder(root) / "files" / "md5").glob("??/*")):
        md5 = path.parent.name + path.name
        # besides objects there are files of interrupted writes, whose names begin with a dot
        if path.is_file() and (path.name.startswith(".") or is_digest(md5)) and md5 not in keep:
            found.append(Unreferred(md5, path, path.stat().st_size))
    for md5, path in mapped_files(root):
        if path.is_file() and f"{md5}.dir" not in keep:
            found.append(Unreferred(md5, path, path.stat().st_size))
    return [one for one in found if now_s - one.path.stat().st_mtime > young_s]


def users_of_cache(root: Path, named: Sequence[Path]) -> list[Path]:
    """Return the roots of the DVC repositories `named`, after checking that each uses the lake's cache.

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
    """Raise :class:`UsageError` if other repositories may use the lake's cache, and `named` is empty."""
    if is_shared(root) and not named:
        raise UsageError(
            f"the cache is outside {root}, so other repositories may use it; nothing was removed",
            found=str(cache_folder(root)),
            todo="name every other repository that uses it (--shared-with DIR, repeatable), or pass --not-shared",
        )


def remove(found: list[Unreferred]) -> int:
    """Remove the objects and return the bytes freed."""
    for one in found:
        one.path.unlink()
    return sum(one.n_bytes for one in found)
