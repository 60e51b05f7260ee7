"""Versions: naming them, and finding the files of one without checking it out.

A version is one Git commit that a tag ``lake/vN`` names. The commit's ``dvc.lock`` names every table's content by its
hash, and DVC's cache holds that content; so an old version is read where it lies. Making a version is in
:mod:`~affectlake.lake.repository`.
"""

from __future__ import annotations

import configparser
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from affectlake.errors import LakeError, VersionError, nearest
from affectlake.lake import layout
from affectlake.lake.git import UNSHALLOW, git, git_bytes, is_shallow
from affectlake.lake.tags import TAGS as TAGS  # noqa: PLC0414 (those who name versions ask for it here)
from affectlake.lake.tags import commits_of, is_version_name, number, references

_AUTHOR = re.compile(r"^author (.*?) ?<[^>\n]*> (\d{1,11}) ([+-][01]\d[0-5]\d)$", re.MULTILINE)
CODE_TRAILER = "Affectlake-Code"
_CONFIGS = ("config", "config.local")


class Version(NamedTuple):
    """One version: its name, commit, when (ISO 8601), who made it, with which affectlake, and what changed.

    Time and author are empty if Git does not have its commit.
    """

    name: str
    commit: str
    created: str
    author: str
    code_version: str
    changes: str

    @property
    def is_lost(self) -> bool:
        """Whether Git does not have its commit."""
        return not self.created


class File(NamedTuple):
    """One part of an output at a version: where it belongs in the lake, its MD5, and the cached file that has it."""

    path: Path
    md5: str
    cached: Path


class Manifest:
    """The files of every output at one commit.

    Parameters
    ----------
    root : Path
        Root of the lake.
    commit : str
        Hash of the commit, or an empty string for the working ``dvc.lock``.
    """

    def __init__(self, root: Path, commit: str) -> None:
        self.root = root
        self.commit = commit

    @property
    def digests(self) -> Mapping[str, str]:
        """The MD5 of each output, by name (``"stimuli"``, ``"choices/human-category"``).

        Raises
        ------
        LakeError
            If Git cannot read the commit's manifests.
        """
        return {**self.made, **self.collected}

    @property
    def made(self) -> Mapping[str, str]:
        """Those of :attr:`digests` that steps make."""
        content = self._manifests.get(layout.PIPELINE_LOCK, {})
        outs = [out for stage in content.get("stages", {}).values() for out in stage.get("outs", ())]
        prefix = f"{layout.TABLES}/"
        return {o["path"].removeprefix(prefix): o["md5"] for o in outs if o["path"].startswith(prefix)}

    @property
    def collected(self) -> Mapping[str, str]:
        """Those of :attr:`digests` that grow, part by part (:mod:`~affectlake.lake.growing`)."""
        return {
            str(path.relative_to(layout.COLLECTED).with_suffix("")): content["outs"][0]["md5"]
            for path, content in self._manifests.items()
            if path != layout.PIPELINE_LOCK
        }

    @cached_property
    def _manifests(self) -> dict[Path, Any]:
        texts = self._committed() if self.commit else self._working()
        return {path: yaml.load(text, yaml.CSafeLoader) or {} for path, text in texts.items()}

    def _working(self) -> dict[Path, str]:
        lock = self.root / layout.PIPELINE_LOCK
        paths = [*([lock] if lock.exists() else []), *sorted((self.root / layout.COLLECTED).rglob("*.dvc"))]
        return {path.relative_to(self.root): path.read_text(encoding="utf-8") for path in paths}

    def _committed(self) -> dict[Path, str]:
        """Return the commit's manifests, none where it has none; one that cannot be read is not taken for none."""
        places = (str(layout.PIPELINE_LOCK), str(layout.COLLECTED))
        found = blobs(self.root, self.commit, places)
        contents = read_blobs(self.root, [blob for _, blob in found])
        return {Path(name): content.decode() for (name, _), content in zip(found, contents, strict=True)}

    def files(self, output: str) -> list[File]:
        """Return the parts of `output` at this version.

        Raises
        ------
        VersionError
            If a file of the version is not in the cache.
        """
        listing = cached_object(self.root, self.digests[output])
        if not listing.exists():
            raise self._missing(output)
        found = []
        for entry in sorted(json.loads(listing.read_bytes()), key=lambda e: str(e["relpath"])):
            cached = cached_object(self.root, entry["md5"])
            if not cached.exists():
                raise self._missing(output)
            found.append(File(layout.table_folder(output) / entry["relpath"], entry["md5"], cached))
        return found

    def tables(self) -> dict[str, list[str]]:
        """Return the outputs of each table, by table name."""
        found: dict[str, list[str]] = {}
        for output in sorted(self.digests):
            found.setdefault(output.partition("/")[0], []).append(output)
        return found

    def n_rows(self, output: str) -> int:
        """Return the number of rows of `output`, from the Parquet footers."""
        import pyarrow.parquet as pq  # late: looking at versions is quick without it

        return sum(pq.read_metadata(file.cached).num_rows for file in self.files(output))

    def _missing(self, output: str) -> VersionError:
        return VersionError(
            f"files of {output} are not in the cache of {self.root}",
            found=f"no content for {self.digests[output]}",
            todo="fetch them with `affectlake pull`, or rebuild them with `affectlake run`",
        )


def blobs(root: Path, commit: str, paths: Iterable[str]) -> list[tuple[str, str]]:
    """Return the files of a commit that are, or lie under, `paths`: each path within `root`, and its blob."""
    listed = git(root, "ls-tree", "-r", "-z", commit, "--", *paths)
    return [(path, entry.split()[2]) for line in listed.split("\0") if line for entry, path in [line.split("\t", 1)]]


def read_blobs(root: Path, names: Sequence[str]) -> list[bytes]:
    """Return the contents of Git blobs, read by one command.

    Raises
    ------
    LakeError
        If Git cannot read one of them.
    """
    rest = git_bytes(root, "cat-file", "--batch", stdin="".join(f"{name}\n" for name in names).encode())
    contents = []
    for name in names:
        head, _, rest = rest.partition(b"\n")  # NAME blob SIZE, or NAME missing
        if head.split()[1:2] != [b"blob"]:
            raise LakeError(
                f"Git cannot read {name}, which a version needs",
                found=head.decode() or "nothing",
                todo="`affectlake fsck` says what is damaged; another clone of the lake may have it whole",
            )
        size = int(head.split()[2])
        contents.append(rest[:size])
        rest = rest[size + 1 :]
    return contents


def cached_object(root: Path, md5: str) -> Path:
    """Return where DVC's cache keeps the content with hash `md5` (directories end in ``.dir``)."""
    return cache_folder(root) / "files" / "md5" / md5[:2] / md5[2:]


def cache_folder(root: Path) -> Path:
    """Return the lake's DVC cache folder."""
    return _cache_folder(root, *(_stamp(root / ".dvc" / name) for name in _CONFIGS))


@lru_cache(maxsize=64)
def _cache_folder(root: Path, *_: tuple[int, ...]) -> Path:
    """Read the settings once for each state of their files: thousands of objects are asked for."""
    return (root / ".dvc" / dvc_config(root).get("cache", "dir", fallback="cache")).resolve()


def _stamp(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is written: inode, size and time in nanoseconds; nothing if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


def dvc_config(root: Path) -> configparser.ConfigParser:
    """Return the lake's DVC settings: ``.dvc/config``, and ``.dvc/config.local`` over it."""
    config = configparser.ConfigParser()
    config.read([root / ".dvc" / name for name in _CONFIGS])
    return config


def list_versions(root: Path, namespace: str = TAGS) -> list[Version]:
    """Return the lake's versions, oldest first; `namespace` is the Git references that name them.

    References that are not called ``vN``, or that name no commit, are not versions. One whose commit Git does not have
    is a version without a time and an author, so that it is missed where it is needed and nowhere else.
    """
    named = {name: found for name, found in references(root, namespace).items() if is_version_name(name)}
    commits = commits_of(root, list(named.values()))
    return [_version(name, *commits[named[name]]) for name in sorted(named, key=number) if named[name] in commits]


def _version(name: str, commit: str, text: str) -> Version:
    """Return the version that a commit's text describes."""
    heads, _, message = text.partition("\n\n")
    signed = _AUTHOR.search(heads)
    lines = message.strip().splitlines() or ["its commit cannot be read"]
    code = next((line.split(": ", 1)[1] for line in lines if line.startswith(f"{CODE_TRAILER}: ")), "unknown")
    changes = [line.strip() for line in lines[1:] if line.startswith("  ")]
    author, created = (signed[1], _iso(int(signed[2]), signed[3])) if signed else ("", "")
    return Version(name, commit, created, author, code, "; ".join(changes) or lines[0])


def _iso(seconds: int, zone: str) -> str:
    """Return a time that Git keeps as ``1790000000 +0130`` in ISO 8601."""
    minutes = int(f"{zone[0]}1") * (int(zone[1:3]) * 60 + int(zone[3:5]))
    return datetime.fromtimestamp(seconds, timezone(timedelta(minutes=minutes))).isoformat()


def resolve(root: Path, name: str = "") -> Version:
    """Return the version called `name`: ``v3``, ``latest`` (also the empty name), or a prefix of its commit.

    Raises
    ------
    VersionError
        If there is no such version, the prefix fits several, or Git does not have its commit.
    """
    known = list_versions(root)
    _refuse_odd(root, name, known)
    if not known:
        todo = UNSHALLOW if is_shallow(root) else "make one with `affectlake run`"
        raise VersionError(f"{root} has no version yet", todo=todo)
    if name in ("", "latest"):
        return _found(root, known[-1])
    named = [v for v in known if v.name == name] or [v for v in known if len(name) >= 4 and v.commit.startswith(name)]
    if len(named) != 1:
        raise VersionError(
            f"{name!r} names {'no version' if not named else 'several versions'} of {root}",
            allowed=", ".join([f"{v.name} ({v.commit[:10]})" for v in named] or [v.name for v in known[-12:]]),
            todo=(UNSHALLOW if not named and is_shallow(root) else "")
            or nearest(name, [v.name for v in known])
            or "list them with `affectlake versions`",
        )
    return _found(root, named[0])


def _found(root: Path, version: Version) -> Version:
    if version.is_lost:
        raise VersionError(
            f"the commit of {version.name} is not in the Git repository of {root}",
            found=version.commit,
            todo="another clone may have it: `git fetch --refetch REMOTE`",
        )
    return version


def _refuse_odd(root: Path, name: str, known: list[Version]) -> None:
    """Raise :class:`VersionError` if `name` is a version's and a tag has it that names no commit."""
    if is_version_name(name) and name not in {v.name for v in known} and name in references(root, TAGS):
        kind = git(root, "cat-file", "-t", f"{TAGS}{name}^{{}}").strip()
        raise VersionError(
            f"{name} is not a version of {root}",
            found=f"the tag lake/{name} names a {kind}",
            wanted="a commit",
            todo=f"if the tag is a mistake: `git tag --delete lake/{name}`",
        )
