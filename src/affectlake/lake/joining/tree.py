"""The Git tree of a version that joins two histories: the lake's own files as given, all others merged by Git.

Of a file that both sides changed, ours is kept and reported. The folder and Git's index are not changed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from affectlake.lake.files.git import git, git_path
from affectlake.lake.files.layout import FORGOTTEN, MANIFEST
from affectlake.lake.store.merges import is_manifest, merging

_FILE = "100644"


class Merged(NamedTuple):
    """A tree, and the files for which it has our version although theirs differs."""

    tree: str
    kept: list[str]


def merged_tree(root: Path, ours: str, theirs: Sequence[str], files: Mapping[Path, bytes]) -> Merged:
    """Return the tree of a version that joins the commit `ours` with `theirs` and has `files` for the lake's own.

    Where a merge by Git is in progress, other files are taken from Git's index.
    """
    with _index() as env:
        kept: list[str] = []
        if merging(root):
            shutil.copyfile(git_path(root, "index"), env["GIT_INDEX_FILE"])
        else:
            git(root, "read-tree", ours, env=env)
            for other in theirs:
                kept += _merge(root, ours, other, env)
        entries = git(root, "ls-files", "-z", "--", *map(str, (*MANIFEST, FORGOTTEN)), env=env).split("\0")
        no_object = "0" * len(ours)
        lines = [f"0 {no_object}\t{path}" for path in dict.fromkeys(filter(None, entries))]
        for path, content in files.items():
            blob = git(root, "hash-object", "-w", "--stdin", stdin=content.decode()).strip()
            lines.append(f"{_FILE} {blob}\t{path}")
        git(root, "update-index", "-z", "--index-info", stdin="".join(f"{line}\0" for line in lines), env=env)
        return Merged(git(root, "write-tree", env=env).strip(), sorted(set(kept)))


@contextmanager
def _index() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        yield {"GIT_INDEX_FILE": str(Path(folder) / "index")}


def _merge(root: Path, ours: str, theirs: str, env: Mapping[str, str]) -> list[str]:
    """Merge `theirs` into the index; return the files that both sides changed, of which ours are kept."""
    base = git(root, "merge-base", ours, theirs).split()[0]
    before = git(root, "write-tree", env=env).strip()
    git(root, "read-tree", "-i", "-m", "--aggressive", base, before, theirs, env=env)
    stages: dict[str, dict[str, str]] = {}
    for line in filter(None, git(root, "ls-files", "--unmerged", "-z", env=env).split("\0")):
        entry, path = line.split("\t", 1)
        mode, blob, stage = entry.split()
        stages.setdefault(path, {})[stage] = f"{mode} {blob}"
    lines = []
    for path, found in stages.items():
        lines.append(f"0 {'0' * len(ours)}\t{path}")
        if "2" in found or "3" in found:  # a file that one side removed and the other changed is kept
            lines.append(f"{found.get('2') or found['3']}\t{path}")
    git(root, "update-index", "-z", "--index-info", stdin="".join(f"{line}\0" for line in lines), env=env)
    return [path for path, found in stages.items() if "2" in found and "3" in found and not is_manifest(path)]
