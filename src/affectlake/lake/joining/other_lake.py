"""The versions of another lake: fetch their references from a Git remote or a folder, and name them here.

This module handles Git references only; files and rows are handled in :mod:`~affectlake.lake.joining.join`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from affectlake.errors import LakeError, UsageError, nearest
from affectlake.lake.advance import is_ancestor
from affectlake.lake.files.git import UNSHALLOW, branch_of, git, is_shallow
from affectlake.lake.store.remotes import Remote, open_remote
from affectlake.lake.store.root import find
from affectlake.lake.store.tags import TAGS, number
from affectlake.lake.store.versions import Version, cache_folder, list_versions

REFS = "refs/affectlake/joining/"
_VERSIONS, _TIP = f"{REFS}versions/", f"{REFS}tip"


class Theirs(NamedTuple):
    """Another lake, as described by its Git references.

    Attributes
    ----------
    name : str
        Its name in messages.
    versions : list of Version
        Its versions, under the names that they have there.
    tips : list of str
        Commits at which its history ends.
    announced : bool
        Whether its names are kept, because others may have read them; otherwise those of this lake are.
    folder : Path or None
        Its folder, if it is on this machine.
    """

    name: str
    versions: list[Version]
    tips: list[str]
    announced: bool
    folder: Path | None

    def files(self, root: Path, remote: str) -> Remote:
        """Return the source of its files: the cache of its folder, or a DVC remote of the lake at `root`."""
        if self.folder is None:
            newer = [tip for tip in self.tips[-1:] if not is_ancestor(root, tip, "HEAD")]
            return open_remote(root, remote, *newer)  # their settings say where their files are
        from dvc_objects.fs import local

        files: Any = local.LocalFileSystem
        cache = str(cache_folder(self.folder))
        return Remote(str(self.folder), files(), cache, cache)


ALREADY_FETCHED = Theirs("the other side", [], [], announced=False, folder=None)
"""The sides whose history Git has fetched already."""


def fetch_references(root: Path, source: str) -> Theirs:
    """Fetch the history of another lake under temporary references (:data:`REFS`).

    Parameters
    ----------
    root : Path
        Root of this lake.
    source : str
        Name of a Git remote, or the folder of the other lake.

    Raises
    ------
    UsageError
        If `source` is neither, or is this lake itself.
    LakeError
        If the other lake cannot be read or has no version.
    """
    remotes = git(root, "remote").split()
    folder: Path | None = None
    if source in remotes:
        address, tip = source, branch_of(root)
    elif Path(source).is_dir():
        folder = find(Path(source))
        if folder == root:
            raise UsageError(f"{source} is this lake", wanted="another lake")
        address, tip = str(folder), "HEAD"
    else:
        raise UsageError(
            f"{source!r} is neither a Git remote of this lake nor a folder",
            allowed=", ".join(remotes) or "there is no remote",
            todo=nearest(source, remotes) or "add a remote with `git remote add NAME URL`, or name an existing folder",
        )
    there = [line.split("\t")[1] for line in git(root, "ls-remote", "--quiet", address).splitlines()]
    wanted = [f"+{TAGS}*:{_VERSIONS}*", *([f"+{tip}:{_TIP}"] if tip in there else [])]
    git(root, "fetch", "--quiet", "--no-tags", "--prune", address, *wanted)
    versions = list_versions(root, _VERSIONS)
    if not versions:
        raise LakeError(f"{source} has no version yet", todo="publish a version there first")
    ends = [versions[-1].commit]
    if tip in there:
        ends.append(git(root, "rev-parse", _TIP).strip())
    return Theirs(source, versions, ends, announced=folder is None, folder=folder)


def delete_references(root: Path) -> None:
    """Delete the references that :func:`fetch_references` made."""
    found = git(root, "for-each-ref", "--format=delete %(refname)", REFS)
    if found:
        git(root, "update-ref", "--stdin", stdin=found)


class Names(NamedTuple):
    """The name of every version here after joining, and one line for each name that changed."""

    commits: dict[str, str]
    renamed: list[str]


def assign_names(ours: Sequence[Version], theirs: Theirs, untagged: Sequence[Version]) -> Names:
    """Give every version of both sides a name.

    Names that are in a Git remote are kept, and ours that conflict with them are changed; the names of a folder are
    changed where they conflict with ours. Changed names get the next free numbers, in their order.

    Parameters
    ----------
    ours : sequence of Version
        Versions of this lake.
    theirs : Theirs
        The other lake.
    untagged : sequence of Version
        Versions without a tag on either side (:func:`affectlake.lake.store.merges.untagged_versions`), under the names
        with which they were made.
    """
    first, second = (theirs.versions, ours) if theirs.announced else (ours, theirs.versions)
    commits = {version.name: version.commit for version in first}
    last = 0
    for version in sorted([*second, *untagged], key=lambda v: number(v.name)):
        if version.commit in commits.values():
            continue
        n = number(version.name)
        if version.name in commits or n <= last:
            n = max(last, *(number(name) for name in commits)) + 1
        commits[f"v{n}"], last = version.commit, n
    now = {commit: name for name, commit in commits.items()}
    here = {version.commit: version.name for version in ours}
    renamed = [
        f"your {version.name} is now {now[version.commit]}: {theirs.name} has another {version.name}"
        for version in ours
        if commits.get(version.name) != version.commit
    ]
    renamed += [
        f"their {version.name} is {now[version.commit]} here: this lake has another {version.name}"
        for version in [*theirs.versions, *untagged]
        if version.commit not in here and now[version.commit] != version.name
    ]
    return Names(commits, renamed)


def no_common_version(root: Path, theirs: Theirs) -> LakeError:
    """Return the error for histories without a common version."""
    return LakeError(
        f"this lake and {theirs.name} have no version in common",
        wanted="clones of one lake",
        todo=UNSHALLOW
        if is_shallow(root)
        else "keep the two lakes apart: answers about different stimuli cannot be joined",
    )
