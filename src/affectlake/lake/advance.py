"""Advance a lake to a version from another lake: tags and branch in one Git transaction, then the folder.

A mark with the target is written before the transaction, so that after a crash :func:`finish_advance` can update the
folder to the branch. Which version to advance to is decided by the caller.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from affectlake.errors import LakeError
from affectlake.lake.checkout import put_over, refuse_unpublished
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import write_whole
from affectlake.lake.files.git import git, git_or_none, refuse_locked_index
from affectlake.lake.files.layout import STATE
from affectlake.lake.store.git_objects import blobs, content_at
from affectlake.lake.store.merges import is_fast_forwarded, merging, unpublished_commits
from affectlake.lake.store.versions import list_versions

_MARK = layout.STAGING / "moving-on"


def is_ancestor(root: Path, older: str, newer: str) -> bool:
    """Return whether `older` is an ancestor of `newer`, or the same commit."""
    return git_or_none(root, "merge-base", "--is-ancestor", older, newer) is not None


def follows(root: Path, commit: str, version: str, known: Iterable[str]) -> bool:
    """Return whether a commit has the state of a version's and follows it without a merge by Git.

    Parameters
    ----------
    root : Path
        Root of the lake.
    commit, version : str
        The commit, and the version's.
    known : iterable of str
        Commits of all versions.
    """
    if commit == version:
        return True
    state = [*map(str, STATE)]
    return (
        not unpublished_commits(root, commit, "--merges", known=known)
        and is_ancestor(root, version, commit)
        and blobs(root, commit, state) == blobs(root, version, state)
    )


def refuse_unready(root: Path) -> None:
    """Raise :class:`LakeError` if the folder differs from the branch, so that advancing would lose work."""
    refuse_locked_index(root)
    git_or_none(root, "update-index", "-q", "--refresh")  # files rewritten with the same bytes are not changes
    if git(root, "status", "--porcelain", "--untracked-files=normal", "--", *map(str, STATE)):
        refuse_unpublished(root)
        raise LakeError("the folder has an older version", todo="`affectlake checkout latest`, then do this again")


def refuse_dirty(root: Path) -> None:
    """Raise :class:`LakeError` if the parameters or manifests in the folder are not those of the branch."""
    found = git(root, "status", "--porcelain", "--", *map(str, STATE)).strip()
    if found:
        raise LakeError(
            "the folder has unpublished work",
            found=found,
            todo="stash it (`git stash`), then do this again; `git stash pop` restores it",
        )


def refuse_in_the_way(root: Path, target: str) -> None:
    """Raise :class:`LakeError` if a commit would overwrite other files that were changed in the folder."""
    try:
        git(root, "read-tree", "-m", "-u", "--dry-run", "HEAD", target)
    except LakeError as error:
        raise LakeError(
            "the new versions would overwrite files that were changed in this folder",
            found=error.found,
            todo="commit them, move them elsewhere or stash them (`git stash`), then do this again",
        ) from error


def advance(root: Path, moves: str, target: str, say: Callable[[str], None], *, always_update: bool = False) -> None:
    """Update Git references by `moves` in one transaction, then update the folder to the commit `target`.

    Parameters
    ----------
    root : Path
        Root of the lake.
    moves : str
        Lines for ``git update-ref --stdin``, the branch's among them.
    target : str
        Commit of a version, or one with a version's tables; the branch is at it after `moves`.
    say : callable
        Called with one line of progress.
    always_update : bool
        Whether to update the folder although the branch is at `target` already.
    """
    head = git(root, "rev-parse", "HEAD").strip()
    if always_update or target != head:
        params = root / layout.PARAMS
        body = {
            "from": head,
            "to": target,
            "merging": bool(merging(root)),
            "params": _hash(root) if params.exists() else "",
        }
        write_whole(root / _MARK, json.dumps(body).encode())
    git(root, "update-ref", "--stdin", stdin=f"start\n{moves}prepare\ncommit\n")
    finish_advance(root, say)


def finish_advance(root: Path, say: Callable[[str], None]) -> None:
    """Update the folder to the branch, if an advance was interrupted before that."""
    if not (root / _MARK).exists():
        return
    mark = json.loads((root / _MARK).read_text(encoding="utf-8"))
    named = mark["from"] != mark["to"] or not is_fast_forwarded(root)  # else: before the tags
    if named and git(root, "rev-parse", "HEAD").strip() == mark["to"]:
        _follow(root, mark["from"], mark["to"], mark["params"], say, merging=mark["merging"])
    (root / _MARK).unlink()


def _follow(root: Path, before: str, target: str, params: str, say: Callable[[str], None], *, merging: bool) -> None:
    if merging:
        git(root, "merge", "--quit")
    known = list_versions(root)[::-1]
    version = next((v for v in known if v.commit == target), None) or next(
        v for v in known if is_ancestor(root, v.commit, target)
    )
    if merging or any((root / layout.TABLES).glob("*")):
        _keep_edit(root, target, params, say)
        put_over(root, version, say)
        git(root, "add", "--force", "--", *(path for path, _ in blobs(root, target, map(str, STATE))))
    if merging:
        forgotten = content_at(root, target, layout.FORGOTTEN)
        if forgotten is not None:
            write_whole(root / layout.FORGOTTEN, forgotten)
        git(root, "read-tree", target)
        git_or_none(root, "update-index", "-q", "--refresh")
    else:
        try:
            git(root, "read-tree", "-m", "-u", before, target)
        except LakeError as error:
            say(f"files in this folder differ from the branch, see `git status` ({error.found})")


def _keep_edit(root: Path, target: str, params: str, say: Callable[[str], None]) -> None:
    """Move a ``params.yaml`` to quarantine that was edited after the advance was interrupted."""
    path = root / layout.PARAMS
    there = git_or_none(root, "rev-parse", "--verify", "--quiet", f"{target}:./{layout.PARAMS}")
    if path.exists() and _hash(root) not in (params, there):
        kept = root / layout.QUARANTINE / f"params-{_hash(root)[:10]}.yaml"
        write_whole(kept, path.read_bytes())
        say(f"params.yaml was edited meanwhile; the edited file is kept as {kept.relative_to(root)}")


def _hash(root: Path) -> str:
    return git(root, "hash-object", "--", str(layout.PARAMS)).strip()
