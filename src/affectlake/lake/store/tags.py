"""The tags that name versions: ``lake/vN``, here and in the Git remote ``origin``. Other tags are left alone.

A tag may be annotated (``git tag -a``); the version is the commit that it points to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from affectlake.errors import LakeError
from affectlake.lake.files.git import git, git_bytes, git_or_none
from affectlake.lake.store.git_memory import recall, remember

TAGS = "refs/tags/lake/"
_VERSION = re.compile(r"v[1-9][0-9]*")


def is_version_name(name: str) -> bool:
    """Return whether `name` is a valid name of a version."""
    return _VERSION.fullmatch(name) is not None


def number(name: str) -> int:
    """Return the number of the version `name`."""
    return int(name[1:])


def next_name(root: Path) -> str:
    """Return the name of the next version: the first number after every existing ``vN``, whatever it points to."""
    taken = references(root, TAGS)
    folders = {name.partition("/")[0] for name in taken if "/" in name}  # lake/v4 cannot exist beside lake/v4/x
    last = max((number(name) for name in taken if is_version_name(name)), default=0)
    return next(name for name in (f"v{n}" for n in count(last + 1)) if name not in folders)


def references(root: Path, namespace: str) -> dict[str, str]:
    """Return the object of every Git reference below `namespace`, by the rest of its name."""
    listed = git(root, "for-each-ref", "--format=%(objectname) %(refname)", namespace).splitlines()
    return {ref.removeprefix(namespace): found for found, ref in (line.split(" ", 1) for line in listed)}


def commits_of(root: Path, objects: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return the commit of each object (for a tag object, the commit it points to), and the commit's text.

    The text is empty for a commit that Git does not have. Objects that are neither commit nor tag are left out.
    """
    asked = list(objects)
    known = {name: recall(("commit", root, name)) for name in asked}
    new = [name for name in asked if known[name] is None]
    read = _read_commits(root, new) if new else {}
    for name, (commit, text) in read.items():
        if text:
            remember(("commit", root, name), (commit, text), len(text))
    return {name: found for name in asked if (found := known[name] or read.get(name)) is not None}


def _read_commits(root: Path, asked: list[str]) -> dict[str, tuple[str, str]]:
    """Read what :func:`commits_of` returns."""
    rest = git_bytes(root, "cat-file", "--batch", stdin="".join(f"{name}^{{commit}}\n" for name in asked).encode())
    found: dict[str, tuple[str, str]] = {}
    for name in asked:
        head, _, rest = rest.partition(b"\n")  # COMMIT commit SIZE, or NAME missing
        commit, kind, *size = head.decode().split()
        if kind == "commit":
            found[name] = (commit, rest[: int(size[0])].decode("utf-8", "replace"))
            rest = rest[int(size[0]) + 1 :]
    odd = [name for name in asked if name not in found]
    if odd:
        kinds = git(root, "cat-file", "--batch-check", stdin="".join(f"{name}\n" for name in odd)).splitlines()
        lost = {line.split()[0] for line in kinds if line.split()[1] in ("missing", "tag")}
        found |= {name: (name, "") for name in odd if name in lost}
    return found


def announced(root: Path) -> dict[str, str]:
    """Return the commit of each version in the Git remote ``origin``; an empty dict if there is no such remote.

    Raises
    ------
    LakeError
        If the remote cannot be read.
    """
    if not has_origin(root):
        return {}
    try:
        listed = git(root, "ls-remote", "--quiet", "origin", f"{TAGS}*").splitlines()
    except LakeError as error:
        todo = error.todo or "check `git remote get-url origin`, the network and your credentials"
        raise LakeError(
            "the versions of the Git remote origin cannot be listed", found=error.found, todo=todo
        ) from error
    found = {ref.removeprefix(TAGS): commit for commit, ref in (line.split("\t") for line in listed)}
    led_to = {name.removesuffix("^{}"): commit for name, commit in found.items() if name.endswith("^{}")}
    return {name: commit for name, commit in (found | led_to).items() if is_version_name(name)}


def has_origin(root: Path) -> bool:
    """Return whether the lake has a Git remote ``origin``."""
    return git_or_none(root, "remote", "get-url", "origin", says_no=2) is not None
