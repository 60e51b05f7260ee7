"""Check that the files of a version, in the cache and in the remote, are as published, and repair them.

Every object is named by the MD5 of its content, in DVC's cache and in a remote, so that reading it shows whether it is
intact. An object that is in several versions is read once. Git's own objects, which contain the manifests, are hashed
as Git does; damaged ones can only be restored from another clone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from affectlake.errors import LakeError, VersionError
from affectlake.lake.files import layout
from affectlake.lake.files.checksums import State, examine
from affectlake.lake.files.git import git_bytes, git_or_none
from affectlake.lake.store.cache import keep_file
from affectlake.lake.store.forgotten import withdrawn
from affectlake.lake.store.git_memory import forget
from affectlake.lake.store.git_objects import blobs, read_blobs
from affectlake.lake.store.listings import parse_listing
from affectlake.lake.store.remotes import Remote, open_remote
from affectlake.lake.store.tags import announced as announced_versions
from affectlake.lake.store.tracked import tracked
from affectlake.lake.store.versions import Manifest, Version, cached_object


class Finding(NamedTuple):
    """One object that is not as published: which, where, what is wrong, and whether it was repaired."""

    version: str
    path: str
    md5: str
    where: Literal["cache", "remote", "git"]
    state: State
    repaired: bool

    def __str__(self) -> str:
        end = "repaired from another copy" if self.repaired else "not repaired"
        return f"{self.version} {self.path}: {self.state} in the {self.where} ({self.md5}): {end}"


class Wanted(NamedTuple):
    """One object of a table: its path in the lake, and its MD5 (ending in ``.dir`` for a listing)."""

    path: str
    md5: str


class Users(NamedTuple):
    """The use of an object: its path in the lake, and the names of the versions that have it."""

    path: str
    versions: list[str]

    @property
    def is_table(self) -> bool:
        """Whether it belongs to a table; otherwise, to an output of a user-defined stage."""
        return layout.leads_to_tables(self.path)


def users(root: Path, versions: Iterable[Version]) -> dict[str, Users]:
    """Return the objects of `versions` by MD5: listings before their files, tables before other outputs.

    Objects that were removed with the rows of a forgotten participant are left out.

    Raises
    ------
    LakeError
        If a manifest or a listing has an entry that is not a table.
    """
    wanted = list(versions)
    found = _listings(root, wanted)
    return found | _files(root, found, withdrawn(root, [version.commit for version in wanted[-1:]]))


def verify(root: Path, *versions: Version) -> None:
    """Raise :class:`VersionError` unless every object of the tables of `versions` is in the cache and intact."""
    found = check(root, *versions, repair=False, remote=None, tables_only=True)
    if found:
        names = ", ".join(sorted({f.version for f in found}))
        raise VersionError(
            f"{len(found)} files of {names} are not as published",
            found="\n         ".join(map(str, found[:5])),
            todo="repair those that the remote has with `affectlake fsck --repair`",
        )


def check(
    root: Path, *versions: Version, repair: bool, remote: str | None = "", tables_only: bool = False
) -> list[Finding]:
    """Hash every object of `versions`, of tables and of user-defined stages, in the cache and in a remote.

    Parameters
    ----------
    root : Path
        Root of the lake.
    *versions : Version
        The versions.
    repair : bool
        Replace a missing or damaged object by the other place's copy, if that is intact; otherwise, in the cache, by
        the file in the folder, if that has the same bytes.
    remote : str or None
        Name of the DVC remote; the default remote if empty; if None, only the cache is checked.
    tables_only : bool
        Leave out the outputs of user-defined stages.

    Returns
    -------
    list of Finding
        Empty if everything is intact. An object that is not in the remote is a finding if the Git remote ``origin`` has
        a version with it, or if the remote has a listing with it; otherwise it was not pushed.

    Raises
    ------
    LakeError
        If the remote cannot be reached.
    """
    forget()
    found = _git_findings(root, versions)
    broken = {finding.version for finding in found}
    sound = [version for version in versions if version.name not in broken]
    away = None if remote is None else open_remote(root, remote)
    announced = set(announced_versions(root)) if away else set()
    listings = {md5: use for md5, use in _listings(root, sound).items() if use.is_table or not tables_only}
    expected = {md5 for md5, use in listings.items() if announced & set(use.versions)}
    found += _compare(root, listings, away, expected, repair=repair)
    gone = withdrawn(root)
    files = _files(root, listings, gone)
    if away:
        pushed = set(away.sizes(listings))
        expected = {md5 for md5, use in files.items() if announced & set(use.versions)}
        expected |= set(_files(root, {md5: use for md5, use in listings.items() if md5 in pushed}, gone))
    return found + _compare(root, files, away, expected, repair=repair)


def _compare(
    root: Path, wanted: dict[str, Users], away: Remote | None, expected: set[str], *, repair: bool
) -> list[Finding]:
    """Examine objects in both places; of those that the remote lacks, only the `expected` ones are findings."""
    here = {md5: examine(cached_object(root, md5), md5) for md5 in wanted}
    there: dict[str, State | None] = dict.fromkeys(wanted, "missing")
    if away:
        there |= away.examine(away.sizes(wanted))
    found = []
    for md5, use in wanted.items():
        local, versions = cached_object(root, md5), ", ".join(use.versions)
        state, away_state = here[md5], there[md5]
        repaired = False
        if state:
            fetched = repair and away is not None and away_state is None and away.fetch({md5: local})[md5] is None
            repaired = fetched or (repair and use.is_table and _repair_from_folder(root, use.path, md5))
            found.append(Finding(versions, use.path, md5, "cache", state, repaired))
        if away and away_state and (away_state != "missing" or md5 in expected):
            sent = repair and (repaired or state is None)
            if sent:
                away.send({md5: local})
            found.append(Finding(versions, use.path, md5, "remote", away_state, sent))
    return found


def _repair_from_folder(root: Path, path: str, md5: str) -> bool:
    """Copy the working table's file into the cache if it has the bytes of the object."""
    whole = examine(root / path, md5) is None
    if whole:
        keep_file(root, root / path, md5)
    return whole


def _listings(root: Path, versions: Iterable[Version]) -> dict[str, Users]:
    """Return the listings of tables, then the listings and single files of other outputs that DVC tracks."""
    tables: dict[str, Users] = {}
    others: dict[str, Users] = {}
    for version in versions:
        manifest = Manifest(root, version.commit)
        for output, digest in sorted(manifest.digests.items()):
            _add(tables, str(output.folder), digest, version.name)
        for path, digest in sorted(tracked(manifest).items()):
            _add(others, path, digest, version.name)
    return tables | {md5: use for md5, use in others.items() if md5 not in tables}


def _add(found: dict[str, Users], path: str, md5: str, version: str) -> None:
    known = found.setdefault(md5, Users(path, [])).versions
    if version not in known:
        known.append(version)


def _files(root: Path, listings: dict[str, Users], gone: Collection[str]) -> dict[str, Users]:
    """Return the objects in the listings, except those that are `gone`, as far as the listings are intact."""
    found: dict[str, Users] = {}
    for digest, use in listings.items():
        for wanted in (one for one in _named(root, use.path, digest) if one.md5 not in gone):
            for name in use.versions:
                _add(found, wanted.path, wanted.md5, name)
    return found


def _named(root: Path, path: str, digest: str) -> Iterator[Wanted]:
    listing = cached_object(root, digest)
    if digest.endswith(".dir") and examine(listing, digest) is None:
        for entry in parse_listing(listing.read_bytes(), digest, nested=not layout.leads_to_tables(path)):
            yield Wanted(f"{path}/{entry.relpath}", entry.md5)


def _git_findings(root: Path, versions: Sequence[Version]) -> list[Finding]:
    """Hash the files in the versions' commits: their parameters, pipelines and manifests."""
    places = [*map(str, layout.STATE)]
    found: list[Finding] = []
    listed: list[tuple[Version, str, str]] = []
    for version in versions:
        if git_or_none(root, "cat-file", "-e", version.commit) is None:
            found.append(Finding(version.name, "the commit", version.commit, "git", "missing", repaired=False))
        else:
            listed += [(version, path, name) for path, name in blobs(root, version.commit, places)]
    states = _blob_states(root, list(dict.fromkeys(name for _, _, name in listed)))
    return found + [
        Finding(version.name, path, name, "git", state, repaired=False)
        for version, path, name in listed
        if (state := states[name])
    ]


def _blob_states(root: Path, names: list[str]) -> dict[str, State | None]:
    """Return what is wrong with each Git blob."""
    try:
        return {name: _blob_state(name, content) for name, content in zip(names, read_blobs(root, names), strict=True)}
    except LakeError:  # one of them stops the command that reads all
        return {name: _read_state(root, name) for name in names}


def _read_state(root: Path, name: str) -> State | None:
    try:
        return _blob_state(name, git_bytes(root, "cat-file", "blob", name))
    except LakeError:
        return "missing"


def _blob_state(name: str, content: bytes) -> State | None:
    """Return whether a Git blob is damaged: its name is the hash of ``blob SIZE``, a zero byte and its content."""
    kind = hashlib.sha1 if len(name) == 40 else hashlib.sha256
    whole = kind(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == name
    return None if whole else "damaged"
