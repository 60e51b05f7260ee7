"""Read files of commits. What Git has under a hash never changes, so it is read once in a process and remembered.

Names that can move, such as ``HEAD``, are looked up in every call. :mod:`~affectlake.lake.fsck`, which looks for
damage, forgets everything first.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

from affectlake.errors import LakeError
from affectlake.lake.files.git import git, git_bytes, git_or_none

_MOST_BYTES = 64 << 20
_HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")

_Listed = list[tuple[str, str]]


class _Memory:
    """The contents and listings that were used last, up to `_MOST_BYTES` (a listing counts by its text)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[object, ...], tuple[bytes | _Listed, int]] = OrderedDict()
        self._n_bytes = 0

    def get(self, key: tuple[object, ...]) -> bytes | _Listed | None:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: tuple[object, ...], value: bytes | _Listed, n_bytes: int) -> None:
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = value, n_bytes
            self._n_bytes += n_bytes
            while self._n_bytes > _MOST_BYTES:
                self._n_bytes -= self._kept.popitem(last=False)[1][1]

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._n_bytes = 0


_MEMORY = _Memory()


def forget() -> None:
    """Forget everything that was read, so that damage since then is noticed."""
    _MEMORY.clear()


def blobs(root: Path, commit: str, paths: Iterable[str]) -> list[tuple[str, str]]:
    """Return the files of a commit or tree that are in `paths` or below: each path within `root`, and its blob."""
    wanted = tuple(paths)
    key = ("blobs", root, commit, *wanted)
    known = _MEMORY.get(key)
    if isinstance(known, list):
        return list(known)
    listed = git(root, "ls-tree", "-r", "-z", commit, "--", *wanted)
    found = [(path, entry.split()[2]) for line in listed.split("\0") if line for entry, path in [line.split("\t", 1)]]
    if _HASH.fullmatch(commit):
        _MEMORY.put(key, list(found), len(listed))
    return found


def content_at(root: Path, commit: str, path: Path) -> bytes | None:
    """Return the content of a file of a commit or tree; None if the commit or the file does not exist."""
    is_known = _MEMORY.get(("blobs", root, commit, str(path))) is not None
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
    known = {name: _MEMORY.get(("content", root, name)) for name in names}
    new = [name for name, content in known.items() if content is None]
    contents = {name: content for name, content in known.items() if isinstance(content, bytes)}
    contents |= dict(zip(new, _read(root, new), strict=True)) if new else {}
    for name in new:
        _MEMORY.put(("content", root, name), contents[name], len(contents[name]))
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
