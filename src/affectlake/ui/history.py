"""The versions of a lake as a timeline, and the differences of two of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from affectlake.lake.diff import OutputDiff, changed_outputs, diff
from affectlake.lake.store.version_names import VersionName, version_names
from affectlake.lake.store.versions import Manifest, Version, list_versions, resolve

LARGEST_BYTES = 200_000_000
"""Size of the changed tables of two versions beyond which rows are counted only for a table that is asked for."""


class Entry(NamedTuple):
    """A version of the timeline, its names, and what changed in it, one phrase for each output."""

    version: Version
    names: list[VersionName]
    changes: list[str]


class Comparison(NamedTuple):
    """The differences of two versions.

    Attributes
    ----------
    before, after : Version
        The versions.
    tables : list of str
        Tables that differ.
    differences : list of OutputDiff
        The differences that were counted.
    uncounted : bool
        Whether they were not counted because the tables are large.
    """

    before: Version
    after: Version
    tables: list[str]
    differences: list[OutputDiff]
    uncounted: bool


def timeline(root: Path) -> list[Entry]:
    """Return the versions, newest first."""
    names: dict[str, list[VersionName]] = {}
    for one in version_names(root).values():
        names.setdefault(one.commit, []).append(one)
    return [
        Entry(version, names.get(version.commit, []), version.changes.split("; "))
        for version in reversed(list_versions(root))
    ]


def compare(root: Path, before: str, after: str, table: str = "") -> Comparison:
    """Return the differences of two versions; rows are matched by the key of each table.

    Parameters
    ----------
    root : Path
        Root of the lake.
    before, after : str
        The versions.
    table : str
        Only this table; all if empty.
    """
    old, new = resolve(root, before), resolve(root, after)
    outputs = changed_outputs(root, old, new)
    n_bytes = sum(
        file.cached.stat().st_size
        for manifest in (Manifest(root, old.commit), Manifest(root, new.commit))
        for output in outputs
        if output in manifest.digests
        for file in manifest.files(output)
        if file.cached.exists()
    )
    uncounted = not table and n_bytes > LARGEST_BYTES
    found = [] if uncounted else diff(root, old, new, table)
    return Comparison(old, new, sorted({output.table for output in outputs}), found, uncounted)
