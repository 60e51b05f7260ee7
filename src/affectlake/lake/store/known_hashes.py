"""Hashes of files, computed when a file is first read and remembered until it changes.

A file is unchanged while its device, inode, size and times of change are. The hashes are in one file that is not part
of a version, one per line. Lines are only appended, so that several processes can write at the same time. A damaged
line is ignored; where nothing can be written, the files are hashed each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import VersionError
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import write_whole
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.versions import File, Manifest
from affectlake.process.cores import available_cores

_LARGEST = 16 << 20  # bytes, about 150,000 files; the file is then started again
_SETTLED_NS = 50_000_000  # file systems have coarse clocks: a file this new may change again without a new time
_SETTLED_COARSE_NS = 2_000_000_000  # where their resolution is one second


class _Hashed(NamedTuple):
    """A file's identity when it was hashed (empty if it was too new or changed meanwhile), and its MD5."""

    mark: bytes
    md5: str


def known_md5s(root: Path, paths: Sequence[Path]) -> list[str]:
    """Return the MD5 of each file; remembered where the file was hashed before.

    Parameters
    ----------
    root : Path
        Root of the lake, where the hashes are remembered.
    paths : sequence of Path
        The files.
    """
    memory = _remembered(root)
    marks = [_mark(path.stat()) for path in paths]
    found = {mark: md5 for mark in marks if (md5 := _intact(mark, memory.get(mark, b"")))}
    new = [path for path, mark in zip(paths, marks, strict=True) if mark not in found]
    if not new:
        return [found[mark] for mark in marks]
    hashed = dict(zip(new, _hash_all(new), strict=True))
    _remember(root, list(hashed.values()))
    return [hashed[path].md5 if path in hashed else found[mark] for path, mark in zip(paths, marks, strict=True)]


def whole_files(manifest: Manifest, *outputs: Output) -> list[File]:
    """Return the parts of `outputs` at a version, after checking that they have the bytes that were published.

    Raises
    ------
    VersionError
        If a file of the version is not in the cache, cannot be read or is damaged.
    """
    found = [(output, file) for output in outputs for file in manifest.files(output)]
    try:
        hashes = known_md5s(manifest.root, [file.cached for _, file in found])
    except OSError as error:
        raise VersionError(
            f"{', '.join(map(str, outputs))} cannot be read",
            found=str(error),
            todo="check every file with `affectlake fsck`",
        ) from error
    for (output, file), md5 in zip(found, hashes, strict=True):
        if md5 != file.md5:
            raise manifest.damaged(output, file.path.name, file.cached)
    return [file for _, file in found]


def _mark(status: os.stat_result) -> bytes:
    times = f"{status.st_mtime_ns}:{status.st_ctime_ns}"
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{times}".encode()


def _hash_all(paths: Sequence[Path]) -> list[_Hashed]:
    if len(paths) == 1:
        return [_hash(paths[0])]
    from concurrent.futures import ThreadPoolExecutor  # imported late: mostly, all hashes are known

    with ThreadPoolExecutor(available_cores()) as threads:
        return list(threads.map(_hash, paths))


def _hash(path: Path) -> _Hashed:
    with path.open("rb", buffering=0) as source:
        before, now = os.fstat(source.fileno()), time.time_ns()
        md5 = hashlib.file_digest(source, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        after = os.fstat(source.fileno())
    age = _SETTLED_NS if before.st_ctime_ns % 1_000_000_000 else _SETTLED_COARSE_NS
    lasting = now - before.st_ctime_ns > age and _mark(before) == _mark(after)
    return _Hashed(_mark(before) if lasting else b"", md5)


def _remembered(root: Path) -> dict[bytes, bytes]:
    try:
        lines = (root / layout.KNOWN_HASHES).read_bytes().split(b"\n")
    except OSError:
        return {}
    return {mark: rest for mark, _, rest in (line.partition(b" ") for line in lines)}


def _intact(mark: bytes, rest: bytes) -> str:
    """Return the MD5 of a remembered line; empty if the line is damaged."""
    md5, _, checksum = rest.partition(b" ")
    return md5.decode() if checksum and checksum == _checksum(mark, md5) else ""


def _checksum(mark: bytes, md5: bytes) -> bytes:
    return b"%08x" % zlib.crc32(mark + b" " + md5)


def _remember(root: Path, hashed: Sequence[_Hashed]) -> None:
    """Append lines in one write, after a line break; a read-only lake is left unchanged."""
    new = [(mark, md5.encode()) for mark, md5 in hashed if mark]
    if not new:
        return
    content = b"\n" + b"".join(b"%b %b %b\n" % (mark, md5, _checksum(mark, md5)) for mark, md5 in new)
    place = root / layout.KNOWN_HASHES
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists() and place.stat().st_size > _LARGEST:
            write_whole(place, content)
            return
        descriptor = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)
