"""Check that Git stores the files of a version unaltered: it may filter content, and stores symbolic links as links."""

from __future__ import annotations

from pathlib import Path

from affectlake.errors import LakeError
from affectlake.lake.files.git import git
from affectlake.lake.store.git_objects import read_blobs


def refuse_altered(root: Path, staged: str) -> None:
    """Raise :class:`LakeError` if Git would store anything other than a file's content, except for line endings.

    Parameters
    ----------
    root : Path
        Root of the lake.
    staged : str
        The entries that Git would store, as ``git ls-files --stage -z`` lists them.
    """
    kept = {}
    for line in filter(None, staged.split("\0")):
        entry, path = line.split("\t", 1)
        mode, kept[path], _stage = entry.split()
        if mode not in ("100644", "100755"):
            raise LakeError(
                f"{path} is a symbolic link, so a version would not hold its content",
                wanted="a file",
                todo=f"replace it by a copy: `cp --remove-destination -- $(readlink -f {path}) {path}`",
            )
    here = [path for path in kept if (root / path).exists()]
    raw = git(root, "hash-object", "--no-filters", "--stdin-paths", stdin="".join(f"{path}\n" for path in here)).split()
    odd = [path for path, name in zip(here, raw, strict=True) if kept[path] != name]
    for path, content in zip(odd, read_blobs(root, [kept[path] for path in odd]), strict=True):
        if content != (root / path).read_bytes().replace(b"\r\n", b"\n"):
            raise LakeError(
                f"Git would store other bytes for {path} than the folder has",
                found="a filter in .gitattributes or in the settings of Git",
                todo=f"add the line `/{path} -filter -ident -working-tree-encoding` to .gitattributes",
            )
