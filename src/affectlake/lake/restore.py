"""Restore the folder to the latest version from any state. Unpublished work is moved to quarantine.

This works after the checkout of an older version and an edit of its parameters, after an interrupted run or checkout,
after tables were changed by hand, and at a detached commit.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import LakeError
from affectlake.lake.advance import is_ancestor
from affectlake.lake.checkout import edited_tables, put_in_place, set_aside, state_files
from affectlake.lake.files.git import git, git_or_none
from affectlake.lake.files.layout import STATE
from affectlake.lake.fsck import verify
from affectlake.lake.store.git_objects import blobs
from affectlake.lake.store.merges import refuse_unjoined
from affectlake.lake.store.versions import Version, list_versions, resolve


class Restored(NamedTuple):
    """Result of a restoration.

    Attributes
    ----------
    version : Version
        The version that the folder has now.
    aside : Path or None
        The folder with unpublished work; None if there was no such work.
    kept : list of str
        Paths, within the lake, of the files in that folder.
    branch : str
        The branch that Git was switched to; empty if it was on a branch.
    """

    version: Version
    aside: Path | None
    kept: list[str]
    branch: str


def restore(root: Path, say: Callable[[str], None]) -> Restored:
    """Restore the latest version, and move unpublished work to quarantine; the caller holds the writer lock.

    Parameters
    ----------
    root : Path
        Root of the lake.
    say : callable
        Called with one line if files were moved to quarantine.

    Raises
    ------
    VersionError
        If there is no version, or a file of the latest one is missing or damaged; nothing is changed then.
    LakeError
        If Git merged another lake's history into this one, or cannot switch to a branch.
    """
    refuse_unjoined(root)
    latest = _latest(root)
    verify(root, latest)
    edited = [*_edited_state(root), *edited_tables(root)]
    aside = set_aside(root, edited, "restore", say)
    branch = _back_to_branch(root, latest)
    put_in_place(root, latest)
    with suppress(LakeError):  # the index is a convenience: another program may hold it
        git(root, "reset", "--quiet", "HEAD", "--", *_committed_state(root))
    return Restored(latest, aside, edited, branch)


def _latest(root: Path) -> Version:
    """Return the latest version in the branch's history, else of all: another lake's may be later."""
    if git_or_none(root, "symbolic-ref", "--quiet", "HEAD") is None:
        return resolve(root)
    head = git_or_none(root, "rev-parse", "--verify", "--quiet", "HEAD") or ""
    for version in reversed(list_versions(root)):
        if version.commit == head or is_ancestor(root, version.commit, head):
            return version
    return resolve(root)


def _edited_state(root: Path) -> list[str]:
    """Return the files of the lake's state whose content is not in any version or in the last commit."""
    commits = [version.commit for version in list_versions(root)]
    head = git_or_none(root, "rev-parse", "--verify", "--quiet", "HEAD")
    known = {
        found for commit in (*commits, *([head] if head else [])) for found in blobs(root, commit, map(str, STATE))
    }
    paths = state_files(root)
    hashes = git(root, "hash-object", "--stdin-paths", stdin="".join(f"{path}\n" for path in paths)).split()
    return [path for path, name in zip(paths, hashes, strict=True) if (path, name) not in known]


def _back_to_branch(root: Path, latest: Version) -> str:
    """Switch to the branch that has the latest version, if Git is not on a branch; return the branch's name."""
    if git_or_none(root, "symbolic-ref", "--quiet", "HEAD") is not None:
        return ""
    holding = git(root, "for-each-ref", "--format=%(refname:short)", "--contains", latest.commit, "refs/heads").split()
    if not holding:
        raise LakeError(
            f"{root} is at a detached commit, and no branch has {latest.name}",
            todo=f"make one: `git switch -c restored {latest.commit[:12]}`, then `affectlake restore`",
        )
    branch = "main" if "main" in holding else holding[0]
    git(root, "checkout", "--quiet", "--force", "HEAD", "--", *_committed_state(root))
    git(root, "switch", "--quiet", branch)
    return branch


def _committed_state(root: Path) -> list[str]:
    return [path for path, _ in blobs(root, "HEAD", map(str, STATE))]
