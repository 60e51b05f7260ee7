"""Where the rows of a forgotten participant remain: cached objects of older versions, remotes, files, Git's history.

Tables are compressed, so that objects are opened and their column of participants is read. Other files and Git's
objects are searched for the bytes of the id, if it is long enough not to be found by accident.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from affectlake.errors import AffectlakeError, LakeError
from affectlake.lake.files import layout
from affectlake.lake.files.git import git, git_bytes
from affectlake.lake.files.names import is_digest
from affectlake.lake.fsck import users
from affectlake.lake.store.cache import read_listing
from affectlake.lake.store.dvc_settings import cache_folder, is_shared
from affectlake.lake.store.forgotten import withdrawn
from affectlake.lake.store.remote_settings import settings_here
from affectlake.lake.store.remotes import open_remote
from affectlake.lake.store.versions import Manifest, list_versions
from affectlake.lake.tables.removing import PARTICIPANT
from affectlake.lake.tables.scanning import scan_files

SHORTEST = 4
"""Characters of the shortest id that is searched for in files other than tables."""

REMADE = (layout.REPORTS, layout.SCRATCH, layout.STAGING)
"""Folders whose files can be made again, so that a purge may remove them."""

_LARGEST_BLOB = 8 << 20
_PER_CALL = 500


class Held(NamedTuple):
    """A cached object with rows of the participant: its path in the lake and its versions, if it is in any."""

    md5: str
    path: str
    versions: list[str]


class Away(NamedTuple):
    """A DVC remote: its name and URL, the path of each object there, and why it could not be asked, if so."""

    name: str
    url: str
    paths: list[str]
    note: str


class Remains(NamedTuple):
    """Where rows of a participant remain.

    Attributes
    ----------
    current : list of str
        Outputs of the folder or the latest version that have the participant.
    objects : list of Held
        Other objects in the cache.
    remotes : list of Away
        DVC remotes that have one of those objects.
    files : list of Path
        Files in the folder that contain the id, within the lake.
    git : list of str
        Paths of files of Git's history, or hashes of commits and tags, that contain the id.
    is_searched : bool
        Whether the id was long enough to be searched for in files and Git.
    """

    current: list[str]
    objects: list[Held]
    remotes: list[Away]
    files: list[Path]
    git: list[str]
    is_searched: bool


def find_remains(root: Path, agent: str, participant: str) -> Remains:
    """Search the cache, the DVC remotes, the folder and Git's history for a participant; nothing is changed."""
    holding = {md5 for md5, path in _cached(root) if holds(path, participant, agent)}
    known = users(root, list_versions(root))
    present = {md5: output for output, md5s in _present(root) for md5 in md5s}
    current = sorted({present[md5] for md5 in holding & present.keys()})
    objects = [
        Held(md5, known[md5].path if md5 in known else "", known[md5].versions if md5 in known else [])
        for md5 in sorted(holding - present.keys())
    ]
    is_searched = len(participant) >= SHORTEST
    pattern = re.compile(rb"(?<![\w-])" + re.escape(participant.encode()) + rb"(?![\w-])")
    found = [path for path in _files(root) if _contains(path, participant, agent, pattern, is_searched)]
    files = sorted(path.relative_to(root) for path in found)
    in_git = list(dict.fromkeys(_in_history(root, pattern))) if is_searched else []
    away = _remotes(root, {*holding, *withdrawn(root)} - present.keys())
    return Remains(current, objects, away, files, in_git, is_searched)


def holds(path: Path, participant: str, agent: str) -> bool:
    """Return whether a Parquet file has a row of a participant of an agent; False for other files."""
    with path.open("rb") as source:
        if source.read(4) != b"PAR1":
            return False
    try:
        rows = scan_files([path])
        names = rows.collect_schema().names()
    except (AffectlakeError, pl.exceptions.PolarsError, OSError):
        return False
    if PARTICIPANT not in names:
        return False
    wanted = pl.col(PARTICIPANT) == participant
    if "agent" in names:
        wanted &= pl.col("agent") == agent
    return not rows.filter(wanted).select(PARTICIPANT).head(1).collect().is_empty()


def purge(root: Path, remains: Remains) -> int:
    """Remove what is on this machine and in no present table: cached objects, those in ``storage/remote``, and files.

    Parameters
    ----------
    root : Path
        Root of the lake.
    remains : Remains
        From :func:`find_remains`. Files are removed from folders whose files can be made again (:data:`REMADE`).

    Returns
    -------
    int
        Number of files removed.

    Raises
    ------
    LakeError
        If the cache is outside the lake, so that other repositories may need its objects.
    """
    refuse_shared_cache(root)
    own = root / layout.REMOTE / "files" / "md5"
    places = [cache_folder(root) / "files" / "md5" / one.md5[:2] / one.md5[2:] for one in remains.objects]
    current = {md5 for _, md5s in _present(root) for md5 in md5s}
    gone = {*(one.md5 for one in remains.objects), *withdrawn(root)} - current
    places += [own / md5[:2] / md5[2:] for md5 in gone]
    places += [root / path for path in remains.files if any(path.is_relative_to(folder) for folder in REMADE)]
    found = [path for path in places if path.exists()]
    for path in found:
        path.unlink()
    return len(found)


def refuse_shared_cache(root: Path) -> None:
    """Raise :class:`LakeError` if the cache is outside the lake."""
    if is_shared(root):
        raise LakeError(
            f"the cache is outside {root}, so other repositories may use it; nothing was removed",
            found=str(cache_folder(root)),
            todo="remove the listed files yourself, after asking the owners of those repositories",
        )


def _cached(root: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted((cache_folder(root) / "files" / "md5").glob("??/*")):
        md5 = path.parent.name + path.name
        if is_digest(md5) and not md5.endswith(".dir") and path.is_file():
            yield md5, path


def _present(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each output of the folder and of the latest version, with its parts."""
    versions = list_versions(root)
    for commit in ("", *(version.commit for version in versions[-1:])):
        for output, digest in Manifest(root, commit).digests.items():
            try:
                yield str(output), [one.md5 for one in read_listing(root, digest)]
            except LakeError:  # never fetched
                continue


def _remotes(root: Path, md5s: Iterable[str]) -> list[Away]:
    wanted, found = sorted(md5s), list[Away]()
    for name, settings in sorted(settings_here(root).remotes.items()):
        url = settings.get("url", "")
        try:
            away = open_remote(root, name)
            there = [away.at(md5) for md5 in away.sizes(wanted)] if away.has_place() else []
            note = ""
        except AffectlakeError as error:
            there, note = [f"files/md5/{md5[:2]}/{md5[2:]}" for md5 in wanted], error.summary
        if there:
            found.append(Away(name, url, there, note))
    return found


def _files(root: Path) -> Iterator[Path]:
    skipped = {root / ".git", cache_folder(root), root / layout.TABLES, root / layout.REMOTE, root / ".venv"}
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if here / name not in skipped and name != ".git")
        yield from (path for name in names if (path := here / name).is_file() and not path.is_symlink())


def _contains(path: Path, participant: str, agent: str, pattern: re.Pattern[bytes], is_searched: bool) -> bool:
    if path.suffix == ".parquet":
        return holds(path, participant, agent)
    if not is_searched or not path.stat().st_size:
        return False
    try:
        with path.open("rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return pattern.search(content) is not None
    except OSError:
        return False


def _in_history(root: Path, pattern: re.Pattern[bytes]) -> Iterator[str]:
    listed = git(root, "rev-list", "--objects", "--all", "--reflog", f"--filter=blob:limit={_LARGEST_BLOB}")
    paths = {name: path for name, _, path in (line.partition(" ") for line in listed.splitlines())}
    tags = git(root, "for-each-ref", "--format=%(objectname)").split()
    wanted = list(dict.fromkeys([*paths, *tags]))
    for start in range(0, len(wanted), _PER_CALL):
        for name, kind, content in _objects(root, wanted[start : start + _PER_CALL]):
            if kind != "tree" and pattern.search(content):
                yield paths.get(name) or f"{kind} {name[:12]}"


def _objects(root: Path, names: list[str]) -> Iterator[tuple[str, str, bytes]]:
    printed = git_bytes(root, "cat-file", "--batch", stdin="".join(f"{name}\n" for name in names).encode())
    at = 0
    while at < len(printed):
        end = printed.index(b"\n", at)
        words = printed[at:end].decode().split()
        at = end + 1
        if len(words) == 3 and words[2].isdigit():
            yield words[0], words[1], printed[at : at + int(words[2])]
            at += int(words[2]) + 1
