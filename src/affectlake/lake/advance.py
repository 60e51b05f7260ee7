"""Moving a lake on to a version that came from elsewhere: names and branch in one Git transaction, then the folder.

A mark says where the lake is moving to before the transaction, so that after a crash :func:`finish_advance` brings the
folder to where the branch is. Which version that is, is decided elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from affectlake.errors import LakeError
from affectlake.lake.checkout import put_over, refuse_unpublished
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import write_whole
from affectlake.lake.files.git import git, git_or_none, refuse_locked_index
from affectlake.lake.files.layout import STATE
from affectlake.lake.store.merges import forwarded, merging
from affectlake.lake.store.versions import blobs, list_versions

_MARK = layout.STAGING / "moving-on"


def is_ancestor(root: Path, older: str, newer: str) -> bool:
    """Return whether one commit leads to another, or is it."""
    return git_or_none(root, "merge-base", "--is-ancestor", older, newer) is not None


def refuse_unready(root: Path) -> None:
    """Raise :class:`LakeError` if the folder does not hold what the branch does, so that moving on would lose it."""
    refuse_locked_index(root)
    git_or_none(root, "update-index", "-q", "--refresh")  # files written anew with the same bytes are not changes
    if git(root, "status", "--porcelain", "--untracked-files=normal", "--", *map(str, STATE)):
        refuse_unpublished(root)
        raise LakeError("the folder holds an older version", todo="`affectlake checkout latest`, then do this again")


def refuse_dirty(root: Path) -> None:
    """Raise :class:`LakeError` if the parameters or manifests in the folder are not those of the branch."""
    found = git(root, "status", "--porcelain", "--", *map(str, STATE)).strip()
    if found:
        raise LakeError(
            "the folder holds work that is in no version",
            found=found,
            todo="put it aside (`git stash`), then do this again; `git stash pop` brings it back",
        )


def refuse_in_the_way(root: Path, target: str) -> None:
    """Raise :class:`LakeError` if other files that were changed in the folder stand in the way of a commit."""
    try:
        git(root, "read-tree", "-m", "-u", "--dry-run", "HEAD", target)
    except LakeError as error:
        raise LakeError(
            "files changed in this folder stand in the way of the new versions",
            found=error.found,
            todo="commit them, move them elsewhere or take them back (`git stash`), then do this again",
        ) from error


def advance(root: Path, moves: str, target: str, say: Callable[[str], None], *, anew: bool = False) -> None:
    """Make `moves` of Git references in one transaction, then let the folder hold the commit `target`.

    Parameters
    ----------
    root : Path
        Root of the lake.
    moves : str
        Lines for ``git update-ref --stdin``, the branch's among them.
    target : str
        A version's commit, or one whose tables are a version's; the branch's when `moves` are made.
    say : callable
        Takes one line of progress.
    anew : bool
        Whether the folder has to follow although the branch is there already.
    """
    head = git(root, "rev-parse", "HEAD").strip()
    if anew or target != head:
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
    """Bring the folder to where the branch has moved, if it was cut off before it was there."""
    if not (root / _MARK).exists():
        return
    mark = json.loads((root / _MARK).read_text(encoding="utf-8"))
    named = mark["from"] != mark["to"] or not forwarded(root)  # else it was cut off before the names were taken
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
        git(root, "read-tree", target)
        git_or_none(root, "update-index", "-q", "--refresh")
    else:
        try:
            git(root, "read-tree", "-m", "-u", before, target)
        except LakeError as error:
            say(f"files of this folder are not those of the branch, `git status` names them ({error.found})")


def _keep_edit(root: Path, target: str, params: str, say: Callable[[str], None]) -> None:
    """Keep a ``params.yaml`` aside that was edited after the move was cut off."""
    path = root / layout.PARAMS
    there = git_or_none(root, "rev-parse", "--verify", "--quiet", f"{target}:./{layout.PARAMS}")
    if path.exists() and _hash(root) not in (params, there):
        kept = root / layout.QUARANTINE / f"params-{_hash(root)[:10]}.yaml"
        write_whole(kept, path.read_bytes())
        say(f"params.yaml was edited meanwhile; the edit is kept as {kept.relative_to(root)}")


def _hash(root: Path) -> str:
    return git(root, "hash-object", "--", str(layout.PARAMS)).strip()
