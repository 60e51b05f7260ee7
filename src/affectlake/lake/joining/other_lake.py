"""The versions of another lake: looking at them in a Git remote or a folder, and the names that they get here.

Git references only; files and rows come in :mod:`~affectlake.lake.joining.join`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from affectlake.errors import LakeError, UsageError, nearest
from affectlake.lake.files.git import UNSHALLOW, branch_of, git, is_shallow
from affectlake.lake.store.remotes import Remote, open_remote
from affectlake.lake.store.root import find
from affectlake.lake.store.tags import TAGS, number
from affectlake.lake.store.versions import Version, cache_folder, list_versions

REFS = "refs/affectlake/joining/"
_VERSIONS, _TIP = f"{REFS}versions/", f"{REFS}tip"


class Theirs(NamedTuple):
    """Another lake, as far as its Git references say.

    Attributes
    ----------
    name : str
        What it is called in messages.
    versions : list of Version
        Its versions, under its own names.
    tips : list of str
        Commits that its history ends at.
    announced : bool
        Whether its names stand, because others have read them; else those of this lake do.
    folder : Path or None
        Its folder, if it is on this machine.
    """

    name: str
    versions: list[Version]
    tips: list[str]
    announced: bool
    folder: Path | None

    def files(self, root: Path, remote: str) -> Remote:
        """Return what its files come from: the cache of its folder, or a DVC remote of the lake at `root`."""
        if self.folder is None:
            return open_remote(root, remote)
        from dvc_objects.fs import local

        files: Any = local.LocalFileSystem
        return Remote(str(self.folder), files(), str(cache_folder(self.folder)))


NOBODY = Theirs("the other side", [], [], announced=False, folder=None)
"""Nobody but those whose history Git has brought already."""


def look(root: Path, source: str) -> Theirs:
    """Fetch the history of another lake under references aside.

    Parameters
    ----------
    root : Path
        Root of this lake.
    source : str
        Name of a Git remote, or the folder of the other lake.

    Raises
    ------
    UsageError
        If it is neither, or this lake itself.
    LakeError
        If it cannot be read or has no version.
    """
    remotes = git(root, "remote").split()
    folder: Path | None = None
    if source in remotes:
        address, tip = source, branch_of(root)
    elif Path(source).is_dir():
        folder = find(Path(source))
        if folder == root:
            raise UsageError(f"{source} is this lake", wanted="another one")
        address, tip = str(folder), "HEAD"
    else:
        raise UsageError(
            f"{source!r} is neither a Git remote of this lake nor a folder",
            allowed=", ".join(remotes) or "no remote is known",
            todo=nearest(source, remotes) or "name a remote with `git remote add NAME URL`, or a folder that exists",
        )
    there = [line.split("\t")[1] for line in git(root, "ls-remote", "--quiet", address).splitlines()]
    wanted = [f"+{TAGS}*:{_VERSIONS}*", *([f"+{tip}:{_TIP}"] if tip in there else [])]
    git(root, "fetch", "--quiet", "--no-tags", "--prune", address, *wanted)
    versions = list_versions(root, _VERSIONS)
    if not versions:
        raise LakeError(f"{source} has no version yet", todo="publish one there first")
    ends = [versions[-1].commit]
    if tip in there:
        ends.append(git(root, "rev-parse", _TIP).strip())
    return Theirs(source, versions, ends, announced=folder is None, folder=folder)


def forget(root: Path) -> None:
    """Drop what :func:`look` fetched, as far as nothing else leads to it."""
    found = git(root, "for-each-ref", "--format=delete %(refname)", REFS)
    if found:
        git(root, "update-ref", "--stdin", stdin=found)


class Names(NamedTuple):
    """The name of every version here, once the lakes are joined, and a line for each that is not what it was."""

    commits: dict[str, str]
    renamed: list[str]


def named(ours: Sequence[Version], theirs: Theirs, lost: Sequence[Version]) -> Names:
    """Give every version of both sides a name.

    Names that a remote has announced stand, and ours that were never announced give way to them; the names of a folder
    give way to ours. What gives way gets the next free number, in the order it had.

    Parameters
    ----------
    ours : sequence of Version
        Versions of this lake.
    theirs : Theirs
        The other one.
    lost : sequence of Version
        Versions without a name on either side (:func:`affectlake.lake.store.merges.strays`), as they were called when
        made.
    """
    first, second = (theirs.versions, ours) if theirs.announced else (ours, theirs.versions)
    commits = {version.name: version.commit for version in first}
    last = 0
    for version in sorted([*second, *lost], key=lambda v: number(v.name)):
        if version.commit in commits.values():
            continue
        n = number(version.name)
        if version.name in commits or n <= last:
            n = max(last, *(number(name) for name in commits)) + 1
        commits[f"v{n}"], last = version.commit, n
    now = {commit: name for name, commit in commits.items()}
    here = {version.commit: version.name for version in ours}
    renamed = [
        f"your {version.name} is {now[version.commit]} now: {theirs.name} announced a {version.name}"
        for version in ours
        if commits.get(version.name) != version.commit
    ]
    renamed += [
        f"their {version.name} is {now[version.commit]} here: {version.name} is another version here"
        for version in [*theirs.versions, *lost]
        if version.commit not in here and now[version.commit] != version.name
    ]
    return Names(commits, renamed)


def no_common_version(root: Path, theirs: Theirs) -> LakeError:
    """Return what is said of histories that never were one."""
    return LakeError(
        f"this lake and {theirs.name} have no version in common",
        wanted="clones of one lake",
        todo=UNSHALLOW if is_shallow(root) else "answers of other stimuli cannot be joined; keep the two lakes apart",
    )
