"""Whether the files of a version are the bytes that were published, in the cache and in the remote; mending them.

Every object is named by the MD5 of its content, in DVC's cache and in a remote alike, so that reading it tells whether
it is whole. Git's own objects, which hold the manifests, are checked by Git.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from affectlake.errors import LakeError, VersionError
from affectlake.lake import layout
from affectlake.lake.git import git_bytes, git_or_none
from affectlake.lake.versions import Manifest, Version, blobs, cached_object, dvc_config

State = Literal["missing", "damaged", "zero-filled"]
_READ_BYTES = 1 << 20


class Finding(NamedTuple):
    """One object that is not as it was published: which, where, what is wrong, and whether it was mended."""

    version: str
    path: str
    md5: str
    where: Literal["cache", "remote", "git"]
    state: State
    repaired: bool

    def __str__(self) -> str:
        end = "repaired from the other copy" if self.repaired else "not repaired"
        return f"{self.version} {self.path}: {self.state} in the {self.where} ({self.md5}): {end}"


class Wanted(NamedTuple):
    """One object of a version: the lake's path it belongs to, and its MD5 (of a listing: ending in ``.dir``)."""

    path: str
    md5: str


def examine(path: Path, md5: str) -> State | None:
    """Return what is wrong with the object at `path`, or None if its bytes have the hash `md5`."""
    digest = hashlib.md5(usedforsecurity=False)
    only_zeros = True
    try:
        with path.open("rb") as source:
            while block := source.read(_READ_BYTES):
                digest.update(block)
                only_zeros = only_zeros and not any(block)
    except OSError:
        return "missing"
    if digest.hexdigest() == md5.removesuffix(".dir"):
        return None
    return "zero-filled" if only_zeros else "damaged"


def objects(manifest: Manifest) -> Iterator[Wanted]:
    """Yield the objects of a version, each listing before the files it names. A damaged listing ends at itself."""
    for output, digest in sorted(manifest.digests.items()):
        folder = str(layout.table_folder(output))
        yield Wanted(folder, digest)
        listing = cached_object(manifest.root, digest)
        if examine(listing, digest) is None:
            for entry in json.loads(listing.read_bytes()):
                yield Wanted(f"{folder}/{entry['relpath']}", entry["md5"])


def verify(root: Path, version: Version) -> None:
    """Raise :class:`VersionError` unless every object of `version` is in the cache, whole."""
    found = [f for f in check(root, version, repair=False) if f.where != "remote"]
    if found:
        raise VersionError(
            f"{len(found)} files of {version.name} are not as they were published",
            found="\n         ".join(map(str, found[:5])),
            todo=f"`affectlake fsck {version.name}` repairs what the remote still has",
        )


def check(root: Path, version: Version, *, repair: bool) -> list[Finding]:
    """Hash every object of a version in the cache, and in the remote if that is a folder.

    Parameters
    ----------
    root : Path
        Root of the lake.
    version : Version
        Which version.
    repair : bool
        Replace an object that is missing or damaged by the other place's copy, where that is whole.

    Returns
    -------
    list of Finding
        Empty when all is well. An object that the remote does not have is no finding: it was not pushed.
    """
    found = _git_findings(root, version)
    if found:
        return found
    remote = remote_folder(root)
    for wanted in objects(Manifest(root, version.commit)):
        local = cached_object(root, wanted.md5)
        away = remote / "files" / "md5" / wanted.md5[:2] / wanted.md5[2:] if remote else None
        here = examine(local, wanted.md5)
        there = examine(away, wanted.md5) if away and away.exists() else "missing"
        if here:
            mended = repair and away is not None and there is None and _copy(away, local, wanted.md5)
            found.append(Finding(version.name, *wanted, "cache", here, mended))
        if away and away.exists() and there:
            mended = repair and here is None and _copy(local, away, wanted.md5)
            found.append(Finding(version.name, *wanted, "remote", there, mended))
    return found


def remote_folder(root: Path) -> Path | None:
    """Return the folder of the default remote, or None if it is not a folder on this machine."""
    config = dvc_config(root)
    name = config.get("core", "remote", fallback="")
    url = config.get(f"'remote \"{name}\"'", "url", fallback="")
    return None if not url or "://" in url else (root / ".dvc" / url).resolve()


def _git_findings(root: Path, version: Version) -> list[Finding]:
    """Hash the files that the version's commit itself holds: its parameters, pipeline and manifest."""
    if git_or_none(root, "cat-file", "-e", version.commit) is None:
        return [Finding(version.name, "the commit", version.commit, "git", "missing", repaired=False)]
    places = (layout.PARAMS, layout.PIPELINE, layout.PIPELINE_LOCK, layout.COLLECTED)
    found = []
    for path, name in blobs(root, version.commit, map(str, places)):
        state = _blob_state(root, name)
        if state:
            found.append(Finding(version.name, path, name, "git", state, repaired=False))
    return found


def _blob_state(root: Path, name: str) -> State | None:
    """Return what is wrong with a Git blob: its name is the hash of ``blob SIZE``, a zero byte and its content."""
    content = git_bytes(root, "cat-file", "blob", name)
    if content is None:
        return "missing"
    kind = hashlib.sha1 if len(name) == 40 else hashlib.sha256
    whole = kind(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == name
    return None if whole else "damaged"


def _copy(source: Path, target: Path, md5: str) -> bool:
    """Put a verified copy of `source` at `target` by rename; return whether it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".mend-")
    aside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as sink, source.open("rb") as origin:
            while block := origin.read(_READ_BYTES):
                sink.write(block)
            sink.flush()
            os.fsync(sink.fileno())
        if examine(aside, md5):
            return False
        aside.chmod(0o444)
        aside.replace(target)
    except OSError as error:
        raise LakeError(f"{target} could not be repaired", found=str(error)) from error
    finally:
        aside.unlink(missing_ok=True)
    return True
