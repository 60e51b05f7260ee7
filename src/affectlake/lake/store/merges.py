"""Detect merges of two lakes' histories by Git, which can merge text but not tables.

A merge in progress (MERGE_HEAD), a merge commit that lost collected parts or mixed two manifests, and a fast-forward
are repaired by ``affectlake join``. Until then nothing can be run, collected, published or checked out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from affectlake.errors import LakeError
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import md5_of
from affectlake.lake.files.checksums import examine
from affectlake.lake.files.git import git, git_or_none, git_path
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.cache import read_listing
from affectlake.lake.store.git_objects import blobs, read_blobs
from affectlake.lake.store.unrecorded import marked
from affectlake.lake.store.versions import CODE_TRAILER, Manifest, Version, cached_object, list_versions


def refuse_unjoined(root: Path) -> None:
    """Raise :class:`LakeError` if Git fetched the history of another lake and the lakes are not joined."""
    refuse_merging(root)
    if is_fast_forwarded(root):
        raise LakeError(
            "Git moved the branch to versions of another lake, whose names and tables are not here yet",
            found=", ".join(
                f"{v.commit[:10]} ({v.name} there)" for v in untagged_versions(root, ["HEAD"], list_versions(root))
            ),
            todo="fetch them with `affectlake join`",
        )


def refuse_merging(root: Path) -> None:
    """Raise :class:`LakeError` if Git merged, or is merging, two lakes' histories and the lakes are not joined."""
    heads = merging(root)
    if heads or has_unjoined_merge(root):
        give_up = " (or abort the merge: `git merge --abort`)" if heads else ""
        raise LakeError(
            "Git merged the history of another lake into this one, and their tables are not joined yet",
            found=f"a merge with {', '.join(head[:10] for head in heads)} in progress"
            if heads
            else "a merge commit that is not a version",
            todo=f"join them with `affectlake join`{give_up}",
        )


def merging(root: Path) -> list[str]:
    """Return the commits of a merge in progress; an empty list if there is none."""
    path = git_path(root, "MERGE_HEAD")
    return path.read_text(encoding="ascii").split() if path.is_file() else []


def has_unjoined_merge(root: Path) -> bool:
    """Return whether merge commits since the last version need ``affectlake join``.

    A merge by Git may lose parts of a collected output, select a manifest that is not that of the folder's tables, or
    bring versions without their tags or without their answers.
    """
    merges = unpublished_commits(root, "HEAD", "--merges")
    if not merges:
        return False
    now, ours = pointers(root, "HEAD"), ours_of(root)
    before = pointers(root, ours)
    if any(digest != before.get(output) and not _is_here(root, digest) for output, digest in now.items()):
        return True
    if _lock(root, "HEAD") != _lock(root, ours) or untagged_versions(root, ["HEAD"], list_versions(root)):
        return True
    parents = {parent for merge in merges for parent in git(root, "rev-parse", f"{merge}^@").split()}
    named = [item for parent in parents for item in pointers(root, parent).items()]
    return any(not _holds(root, now.get(output), digest) for output, digest in named)


def is_fast_forwarded(root: Path) -> bool:
    """Return whether the branch contains versions that have no tag here, as after a fast-forward by Git."""
    if git_or_none(root, "rev-parse", "--verify", "--quiet", "HEAD") is None:
        return False
    known = list_versions(root)
    return bool(known) and bool(untagged_versions(root, ["HEAD"], known))


def ours_of(root: Path) -> str:
    """Return the commit of this lake's side before the merges since the last version."""
    merges = unpublished_commits(root, "HEAD", "--merges", "--first-parent")
    return git(root, "rev-parse", f"{merges[-1]}^1" if merges else "HEAD").strip()


def unpublished_commits(root: Path, commit: str, *options: str, known: Iterable[str] | None = None) -> list[str]:
    """Return the ancestors of `commit` that are not in any version (or not in `known`), newest first."""
    if git_or_none(root, "rev-parse", "--verify", "--quiet", commit) is None:
        return []
    done = [version.commit for version in list_versions(root)] if known is None else known
    return git(
        root,
        "rev-list",
        "--ignore-missing",
        *options,
        "--stdin",
        stdin="".join(f"{c}\n" for c in [commit, *(f"^{d}" for d in done)]),
    ).split()


def refuse_conflicts(root: Path) -> None:
    """Raise :class:`LakeError` if Git's merge left conflicts in files that do not belong to the lake."""
    found = git(root, "diff", "--name-only", "--diff-filter=U", "-z").split("\0")
    others = [path for path in found if path and not is_manifest(path)]
    if others:
        raise LakeError(
            "files that do not belong to the lake have merge conflicts",
            found=", ".join(others),
            todo="resolve them, `git add` them, then run `affectlake join` again",
        )


def refuse_changed(root: Path) -> None:
    """Raise :class:`LakeError` if the folder has tables that neither side has: a join would replace them.

    Tables of an interrupted run are rebuilt, so they are not checked.
    """
    commits = ["HEAD", ours_of(root), *merging(root), *(version.commit for version in list_versions(root)[-1:])]
    for merge in unpublished_commits(root, "HEAD", "--merges"):
        commits += git(root, "rev-parse", f"{merge}^@").split()
    digests = {digest for commit in ["", *dict.fromkeys(commits)] for digest in _digests(root, commit)}
    whole = [digest for digest in digests if examine(cached_object(root, digest), digest) is None]
    known = {one.md5 for digest in whole for one in read_listing(root, digest)}
    cut_off = {output.folder for output in marked(root)}
    found = [path.relative_to(root) for path in (root / layout.TABLES).rglob("*.parquet")]
    changed = sorted(str(p) for p in found if p.parent not in cut_off and md5_of(root / p) not in known)
    if changed:
        raise LakeError(
            "the folder has tables that are not in any version",
            found=", ".join(changed[:5]),
            todo="move them elsewhere, then run `affectlake join` again: it restores those of the version",
        )


def _digests(root: Path, commit: str) -> list[str]:
    """Return the hashes of the listings of a commit (of the folder, if empty), as far as they can be read."""
    found = [digest for digest in pointers(root, commit).values() if digest is not None]
    with suppress(LakeError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError):
        found += Manifest(root, commit).digests.values()
    return found


def is_manifest(path: str) -> bool:
    """Return whether a join makes a file's content itself, in place of the merge by Git."""
    return any(Path(path).is_relative_to(place) for place in (*layout.MANIFEST, layout.FORGOTTEN))


def untagged_versions(root: Path, heads: Iterable[str], known: Iterable[Version]) -> list[Version]:
    """Return the versions among the ancestors of `heads` that have no tag: Git fetched only their commits."""
    done = [version.commit for version in known]
    found = []
    for commit in dict.fromkeys(commit for head in heads for commit in unpublished_commits(root, head, known=done)):
        created, author, message = git(root, "show", "--no-patch", "--format=%aI%x00%an%x00%B", commit).split("\0")
        named = re.match(r"(v[1-9][0-9]*): ", message)
        if named and f"\n{CODE_TRAILER}: " in message:
            found.append(Version(named[1], commit, created, author, "", ""))
    return sorted(found, key=lambda version: (int(version.name[1:]), version.commit))


def pointers(root: Path, commit: str) -> dict[Output, str | None]:
    """Return the listing that each pointer of a commit (of the folder, if empty) names; None for an invalid pointer."""
    if commit:
        found = blobs(root, commit, [str(layout.COLLECTED)])
        texts = dict(zip([path for path, _ in found], read_blobs(root, [name for _, name in found]), strict=True))
    else:
        files = sorted((root / layout.COLLECTED).rglob("*.dvc"))
        texts = {str(path.relative_to(root)): path.read_bytes() for path in files}
    relative = {path: Path(path).relative_to(layout.COLLECTED).with_suffix("") for path in texts}
    return {Output.named(str(relative[path])): _digest(text) for path, text in texts.items()}


def _digest(text: bytes) -> str | None:
    try:
        body: Any = yaml.load(text, yaml.CSafeLoader)
        return str(body["outs"][0]["md5"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, IndexError):
        return None


def _is_here(root: Path, digest: str | None) -> bool:
    """Return whether the cache has a listing and every part in it."""
    if digest is None or examine(cached_object(root, digest), digest):
        return False
    return all(cached_object(root, one.md5).exists() for one in read_listing(root, digest))


def _holds(root: Path, digest: str | None, other: str | None) -> bool:
    """Return whether the listing `digest` has every part of `other`; False if one of them cannot be read."""
    if digest == other:
        return digest is not None
    if digest is None or other is None or any(examine(cached_object(root, one), one) for one in (digest, other)):
        return False
    return set(read_listing(root, other)) <= set(read_listing(root, digest))


def _lock(root: Path, commit: str) -> list[tuple[str, str]]:
    return blobs(root, commit, [str(layout.PIPELINE_LOCK)])
