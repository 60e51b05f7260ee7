"""Read files of commits. What Git has under a hash never changes, so it is read once in a process.

Names that can move, such as ``HEAD``, are looked up in every call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from affectlake.errors import LakeError
from affectlake.lake.files.git import git, git_bytes, git_or_none
from affectlake.lake.store.git_memory import is_hash, recall, remember


def blobs(root: Path, commit: str, paths: Iterable[str]) -> list[tuple[str, str]]:
    """Return the files of a commit or tree that are in `paths` or below: each path within `root`, and its blob."""
    wanted = tuple(paths)
    key = ("blobs", root, commit, *wanted)
    known: list[tuple[str, str]] | None = recall(key)
    if known is not None:
        return list(known)
    listed = git(root, "ls-tree", "-r", "-z", commit, "--", *wanted)
    found = [(path, entry.split()[2]) for line in listed.split("\0") if line for entry, path in [line.split("\t", 1)]]
    if is_hash(commit):
        remember(key, list(found), len(listed))
    return found


def content_at(root: Path, commit: str, path: Path) -> bytes | None:
    """Return the content of a file of a commit or tree; None if the commit or the file does not exist."""
    is_known = recall(("blobs", root, commit, str(path))) is not None
    if not is_known and git_or_none(root, "rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}") is None:
        return None
    found = [name for at, name in blobs(root, commit, [str(path)]) if at == str(path)]
    return read_blobs(root, found)[0] if found else None


def read_blobs(root: Path, names: Sequence[str]) -> list[bytes]:
    """Return the contents of Git blobs, using at most one command.

    Raises
    ------
    LakeError
        If Git cannot read one of them.
    """
    contents: dict[str, bytes] = {
        name: known for name in names if (known := recall(("content", root, name))) is not None
    }
    new = [name for name in names if name not in contents]
    for name, content in zip(new, _read(root, new) if new else [], strict=True):
        contents[name] = content
        remember(("content", root, name), content, len(content))
    return [contents[name] for name in names]


def _read(root: Path, names: Sequence[str]) -> list[bytes]:
    """Return the contents of Git blobs, using one command."""
    rest = git_bytes(root, "cat-file", "--batch", stdin="".join(f"{name}\n" for name in names).encode())
    contents = []
    for name in names:
        head, _, rest = rest.partition(b"\n")  # NAME blob SIZE, or NAME missing
        if head.split()[1:2] != [b"blob"]:
            raise LakeError(
                f"Git cannot read {name}, which is part of a version",
                found=head.decode() or "nothing",
                todo="list the damage with `affectlake fsck`; another clone of the lake may have an intact copy",
            )
        size = int(head.split()[2])
        contents.append(rest[:size])
        rest = rest[size + 1 :]
    return contents
