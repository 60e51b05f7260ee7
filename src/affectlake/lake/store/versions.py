"""Versions: resolve their names, and find their files without a checkout.

A version is one Git commit with a tag ``lake/vN``. The commit's ``dvc.lock`` has the hash of every table's content,
and DVC's cache has that content, so that old versions are read from the cache. Versions are made in
:mod:`~affectlake.lake.repository`.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta, timezone
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from affectlake.errors import LakeError, VersionError, nearest
from affectlake.lake.files import layout, names
from affectlake.lake.files.git import UNSHALLOW, git, is_shallow
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.dvc_settings import cache_folder as cache_folder  # noqa: PLC0414 (part of this interface)
from affectlake.lake.store.forgotten import withdrawn
from affectlake.lake.store.git_objects import blobs, read_blobs
from affectlake.lake.store.listings import parse_listing
from affectlake.lake.store.tags import TAGS as TAGS  # noqa: PLC0414 (part of this interface)
from affectlake.lake.store.tags import commits_of, is_version_name, number, references
from affectlake.lake.store.version_names import commit_before, version_names

_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:\d\d)?)?")
_HEAD = re.compile(r"HEAD(?:[~^]\d*)*")
_AUTHOR = re.compile(r"^author (.*?) ?<[^>\n]*> (\d{1,11}) ([+-][01]\d[0-5]\d)$", re.MULTILINE)
CODE_TRAILER = "Affectlake-Code"
STEPS_TRAILER = "Affectlake-Steps"
ENVIRONMENT_TRAILER = "Affectlake-Environment"


class Version(NamedTuple):
    """One version: its name, commit, time (ISO 8601), author, version of affectlake, and changes.

    Time and author are empty if Git does not have the commit. `steps` are those whose version changed since the
    version before, such as ``embed 3 -> 4``; `environment` are the versions of packages and the processor that
    published it (:mod:`affectlake.process.provenance`). Both are empty for versions made before 0.2.0.
    """

    name: str
    commit: str
    created: str
    author: str
    code_version: str
    changes: str
    steps: str = ""
    environment: str = ""

    @property
    def is_lost(self) -> bool:
        """Whether Git does not have its commit."""
        return not self.created


class File(NamedTuple):
    """One part of an output at a version: its path in the lake, its MD5, and its file in the cache."""

    path: Path
    md5: str
    cached: Path


class Manifest:
    """The files of every output at one commit.

    All names in a manifest are checked before a path is made of them (:mod:`~affectlake.lake.files.names`).

    Parameters
    ----------
    root : Path
        Root of the lake.
    commit : str
        Hash of the commit, or an empty string for the working ``dvc.lock``.
    texts : mapping of Path to bytes, optional
        The contents of the manifests, if they have been read already.
    """

    def __init__(self, root: Path, commit: str, texts: Mapping[Path, bytes] | None = None) -> None:
        self.root = root
        self.commit = commit
        self._texts = texts

    @property
    def digests(self) -> Mapping[Output, str]:
        """The MD5 of each output.

        Raises
        ------
        LakeError
            If Git cannot read the commit's manifests, or one of them has an output that is not a table.
        """
        return {**self.made, **self.collected}

    @cached_property
    def stages(self) -> Mapping[str, Mapping[str, Any]]:
        """The entry of each stage in ``dvc.lock``, including user-defined stages."""
        found = self._manifests.get(layout.PIPELINE_LOCK, {}).get("stages") or {}
        if not isinstance(found, dict) or not all(isinstance(entry, dict) for entry in found.values()):
            raise self._refused(layout.PIPELINE_LOCK, "its stages are not mappings")
        return found

    @cached_property
    def made(self) -> Mapping[Output, str]:
        """Those of :attr:`digests` that are made by steps. Outputs elsewhere belong to user-defined stages."""
        found = {}
        for stage, entry in self.stages.items():
            for out in outs_of(entry):
                path = str(out.get("path"))
                output = Output.at(path)
                if output is None and (names.is_step(stage, entry.get("cmd")) or layout.leads_to_tables(path)):
                    raise self._refused(layout.PIPELINE_LOCK, f"{path!r} as an output of the stage {stage!r}")
                if output is not None:
                    found[output] = self._digest(layout.PIPELINE_LOCK, out)
        return found

    @cached_property
    def collected(self) -> Mapping[Output, str]:
        """Those of :attr:`digests` that are collected, part by part (:mod:`~affectlake.lake.tables.appending`)."""
        found = {}
        for path, content in self._manifests.items():
            if path == layout.PIPELINE_LOCK:
                continue
            output, outs = Output.named(str(path.relative_to(layout.COLLECTED).with_suffix(""))), outs_of(content)
            wdir = posixpath.join(path.parent, str(content.get("wdir", ".")))
            places = [posixpath.normpath(posixpath.join(wdir, str(out.get("path")))) for out in outs]
            if not output.is_legal or places != [str(output.folder)]:
                raise self._refused(path, ", ".join(map(repr, places)) or "nothing")
            found[output] = self._digest(path, outs[0])
        return found

    def _digest(self, manifest: Path, out: Mapping[str, Any]) -> str:
        if not names.is_digest(out.get("md5")):
            raise self._refused(manifest, f"the hash {out.get('md5')!r} for {out.get('path')!r}")
        return str(out["md5"])

    def _refused(self, manifest: Path, found: str) -> LakeError:
        if not self.commit:
            return LakeError(
                f"{manifest} has an output that is not a table of this lake; nothing was removed or written",
                wanted=f"{layout.TABLES}/TABLE or {layout.TABLES}/TABLE/PARTITION, and its MD5",
                found=found,
                todo=f"remove it from {self.root / manifest}, then do this again",
            )
        return VersionError(
            f"{manifest} of {self.commit[:10]} has an output that is not a table; nothing was removed or written",
            wanted=f"{layout.TABLES}/TABLE or {layout.TABLES}/TABLE/PARTITION, and its MD5",
            found=found,
            todo="read another version (`affectlake versions`), and ask whoever published this one",
        )

    def _unreadable(self, manifest: Path, found: str) -> LakeError:
        if not self.commit:
            todo = "repair it with `affectlake restore`, which moves unpublished work to quarantine"
            return LakeError(f"{manifest} is not YAML that DVC wrote", found=found, todo=todo)
        return self._refused(manifest, f"not YAML that DVC wrote: {found}")

    @cached_property
    def _manifests(self) -> dict[Path, dict[str, Any]]:
        texts = self._texts
        if texts is None:
            texts = self._committed() if self.commit else self._working()
        return {path: self._parsed(path, text) for path, text in texts.items()}

    def _parsed(self, path: Path, text: bytes) -> dict[str, Any]:
        try:
            found = _loaded(text)
        except (yaml.YAMLError, UnicodeError) as error:
            raise self._unreadable(path, str(error)) from error
        if not isinstance(found, dict):
            raise self._unreadable(path, "not a mapping")
        return found

    def _working(self) -> dict[Path, bytes]:
        lock = self.root / layout.PIPELINE_LOCK
        paths = [*([lock] if lock.exists() else []), *sorted((self.root / layout.COLLECTED).rglob("*.dvc"))]
        return {path.relative_to(self.root): path.read_bytes() for path in paths}

    def _committed(self) -> dict[Path, bytes]:
        """Return the commit's manifests, if any; raise if one cannot be read."""
        places = (str(layout.PIPELINE_LOCK), str(layout.COLLECTED))
        found = [one for one in blobs(self.root, self.commit, places) if one[0].endswith((".lock", ".dvc"))]
        contents = read_blobs(self.root, [blob for _, blob in found])
        return {Path(name): content for (name, _), content in zip(found, contents, strict=True)}

    def files(self, output: Output) -> list[File]:
        """Return the parts of `output` at this version; their bytes are not checked.

        Raises
        ------
        VersionError
            If a file of the version is not in the cache, or the listing of its files is damaged.
        LakeError
            If the listing of the parts is not the listing of a table.
        """
        digest = self.digests[output]
        listing = cached_object(self.root, digest)
        if not listing.exists():
            raise self._missing(output)
        content = listing.read_bytes()
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != digest.removesuffix(".dir"):
            raise self.damaged(output, "the listing of its files", listing)
        found = []
        for entry in parse_listing(content, digest):
            cached = cached_object(self.root, entry.md5)
            if not cached.exists():
                raise self._withdrawn(output) if entry.md5 in withdrawn(self.root) else self._missing(output)
            found.append(File(output.folder / entry.relpath, entry.md5, cached))
        return found

    def tables(self) -> dict[str, list[Output]]:
        """Return the outputs of each table, by table name."""
        found: dict[str, list[Output]] = {}
        for output in sorted(self.digests):
            found.setdefault(output.table, []).append(output)
        return found

    def damaged(self, output: Output, what: str, cached: Path) -> VersionError:
        """Return the error for a file in the cache that is not as this version of `output` has it."""
        name = next((v.name for v in list_versions(self.root) if v.commit == self.commit), "the working version")
        return VersionError(
            f"{output} of {name} cannot be read: {what} is damaged",
            found=f"bytes that differ from the published ones in {cached}",
            todo="repair it with `affectlake fsck --repair`",
        )

    def _withdrawn(self, output: Output) -> VersionError:
        return VersionError(
            f"files of {output} were removed with the rows of a participant who was forgotten",
            found=f"a version with these rows{f', {self.commit[:10]}' if self.commit else ''}",
            todo="read a later version: `affectlake versions` lists them",
        )

    def _missing(self, output: Output) -> VersionError:
        return VersionError(
            f"files of {output} are not in the cache of {self.root}",
            found=f"no content for {self.digests[output]}",
            todo="fetch them with `affectlake pull`, or rebuild them with `affectlake run`",
        )


@lru_cache(maxsize=64)
def _loaded(text: bytes) -> Any:
    """Return the content of a manifest, which callers must not change; many versions have the same one."""
    return yaml.load(text, yaml.CSafeLoader) or {}


def last_sound(root: Path, versions: Sequence[Version]) -> Manifest | None:
    """Return the manifest of the latest of `versions` (oldest first) whose outputs are all tables."""
    for version in reversed(versions):
        manifest = Manifest(root, version.commit)
        try:
            _ = manifest.digests
        except VersionError:
            continue
        return manifest
    return None


def outs_of(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the outputs of a stage of ``dvc.lock``, or of a ``.dvc`` file."""
    found = entry.get("outs")
    return [out for out in found if isinstance(out, dict)] if isinstance(found, list) else []


def cached_object(root: Path, md5: str) -> Path:
    """Return the path in DVC's cache of the content with hash `md5` (ending in ``.dir`` for directories).

    Raises
    ------
    LakeError
        If `md5` is not a hash.
    """
    names.digest(md5)
    return cache_folder(root) / "files" / "md5" / md5[:2] / md5[2:]


def list_versions(root: Path, namespace: str = TAGS) -> list[Version]:
    """Return the lake's versions, oldest first; `namespace` is where their Git references are.

    References whose name is not ``vN``, or that do not point to a commit, are not versions. A version whose commit is
    missing in Git has an empty time and author, so that only commands that need the commit fail.
    """
    named = {name: found for name, found in references(root, namespace).items() if is_version_name(name)}
    commits = commits_of(root, list(named.values()))
    return [_version(name, *commits[named[name]]) for name in sorted(named, key=number) if named[name] in commits]


def _version(name: str, commit: str, text: str) -> Version:
    """Return the version that a commit's text describes."""
    heads, _, message = text.partition("\n\n")
    signed = _AUTHOR.search(heads)
    lines = message.strip().splitlines() or ["its commit cannot be read"]
    code, steps = _trailer(lines, CODE_TRAILER) or "unknown", _trailer(lines, STEPS_TRAILER)
    environment = _trailer(lines, ENVIRONMENT_TRAILER)
    changes = [line.strip() for line in lines[1:] if line.startswith("  ")]
    author, created = (signed[1], _iso(int(signed[2]), signed[3])) if signed else ("", "")
    return Version(name, commit, created, author, code, "; ".join(changes) or lines[0], steps, environment)


def _trailer(lines: Sequence[str], name: str) -> str:
    """Return the value of a trailer of a commit's message; empty if there is no such trailer."""
    return next((line.split(": ", 1)[1] for line in lines if line.startswith(f"{name}: ")), "")


def _iso(seconds: int, zone: str) -> str:
    """Return a time that Git keeps as ``1790000000 +0130`` in ISO 8601."""
    minutes = int(f"{zone[0]}1") * (int(zone[1:3]) * 60 + int(zone[3:5]))
    return datetime.fromtimestamp(seconds, timezone(timedelta(minutes=minutes))).isoformat()


def resolve(root: Path, name: str | Version = "") -> Version:
    """Return the version that `name` stands for.

    Parameters
    ----------
    root : Path
        Root of the lake.
    name : str or Version
        - ``v3``, also ``lake/v3``, the tag; ``latest`` or an empty string for the latest version;
        - a name that someone gave it (:mod:`~affectlake.lake.store.version_names`), such as ``submitted``;
        - a date or time (ISO 8601; local time unless it has an offset): the last version of that time; of a date, of
          its end;
        - ``HEAD~2`` and the like: the last version in the history of that commit;
        - at least four characters of its commit.

        A :class:`Version` is returned unchanged.

    Raises
    ------
    VersionError
        If there is no such version, the prefix is ambiguous, or Git does not have its commit.
    """
    if isinstance(name, Version):
        return name
    known = list_versions(root)
    _refuse_odd(root, name, known)
    if not known:
        todo = UNSHALLOW if is_shallow(root) else "make one with `affectlake run`"
        raise VersionError(f"{root} has no version yet", todo=todo)
    if name in ("", "latest"):
        return _found(root, known[-1])
    named = _named(root, name.removeprefix("lake/"), known)
    if len(named) != 1:
        raise VersionError(
            f"{name!r} {'is not a version' if not named else 'is the prefix of several versions'} of {root}",
            allowed=", ".join(
                [f"{v.name} ({v.commit[:10]})" for v in named] or [*version_names(root), *(v.name for v in known[-12:])]
            ),
            todo=(UNSHALLOW if not named and is_shallow(root) else "")
            or nearest(name, [*version_names(root), *(v.name for v in known)])
            or "list them with `affectlake versions`",
        )
    return _found(root, named[0])


def _named(root: Path, name: str, known: list[Version]) -> list[Version]:
    """Return the versions that a name may stand for."""
    if is_version_name(name):
        return [v for v in known if v.name == name]
    if name in (names := version_names(root)):
        return [v for v in known if v.commit == names[name].commit]
    if _DATE.fullmatch(name):
        return [_last_at(name, known)]
    if _HEAD.fullmatch(name):
        found = commit_before(root, name, {v.commit: v.name for v in known})
        return [v for v in known if v.name == found]
    return [v for v in known if len(name) >= 4 and v.commit.startswith(name)]


def _last_at(words: str, known: list[Version]) -> Version:
    """Return the last version of a time, or of the end of a date."""
    dated = [(datetime.fromisoformat(v.created), v) for v in known if v.created]
    try:
        until = datetime.fromisoformat(words)
    except ValueError as error:
        raise VersionError(
            f"{words!r} is not a date", found=str(error), wanted="such as 2026-11-25 or 2026-11-25T14:30"
        ) from error
    if len(words) == len("2026-11-25"):
        until = datetime.combine(until.date(), time.max)
    until = until.astimezone()  # local time, if it has no offset
    before = [one for one in dated if one[0] <= until]
    if not before:
        first = f"{known[0].name} is of {known[0].created}" if dated else ""
        raise VersionError(
            f"there was no version at {words} yet", found=first, todo="list them with `affectlake versions`"
        )
    return max(before, key=lambda one: (one[0], number(one[1].name)))[1]


def _found(root: Path, version: Version) -> Version:
    if version.is_lost:
        raise VersionError(
            f"the commit of {version.name} is not in the Git repository of {root}",
            found=version.commit,
            todo="another clone may have it: `git fetch --refetch REMOTE`",
        )
    return version


def _refuse_odd(root: Path, name: str, known: list[Version]) -> None:
    """Raise :class:`VersionError` if `name` is legal for a version, but its tag does not point to a commit."""
    if is_version_name(name) and name not in {v.name for v in known} and name in references(root, TAGS):
        kind = git(root, "cat-file", "-t", f"{TAGS}{name}^{{}}").strip()
        raise VersionError(
            f"{name} is not a version of {root}",
            found=f"the tag lake/{name} points to a {kind}",
            wanted="a commit",
            todo=f"if the tag is a mistake: `git tag --delete lake/{name}`",
        )
