"""Atomic writes of single files: complete, flushed to disk, read-only where DVC tracks them."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ModuleNotFoundError:  # neither Linux nor macOS: files are copied
    fcntl = None  # type: ignore[assignment]

_FICLONE = 0x40049409  # ioctl of Linux file systems that share blocks: btrfs, XFS, overlayfs on them
_CANNOT_CLONE = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS)
_READ_BYTES = 1 << 20
UNFINISHED = ".new-"  # in the name of a file that is still being written


def clone(source: Path, target: Path) -> None:
    """Copy a file, sharing its blocks where the file system supports it; the copy is flushed and read-only.

    No hard or symbolic link is made: a program that writes through a link would change the original.
    """
    with source.open("rb") as origin, target.open("wb") as sink:
        if not _shares_blocks(origin, sink):
            shutil.copyfileobj(origin, sink, _READ_BYTES)
        sink.flush()
        os.fsync(sink.fileno())
    target.chmod(0o444)


def _shares_blocks(origin: BinaryIO, sink: BinaryIO) -> bool:
    """Let an empty file share the blocks of another; return False, with the file still empty, where that cannot be."""
    if fcntl is None or sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(sink, _FICLONE, origin.fileno())
    except OSError as error:
        if error.errno not in _CANNOT_CLONE:
            raise
        return False
    return True


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write `content` to `path` atomically and durably: after a crash, `path` has its old content or all of the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}{UNFINISHED}")
    aside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as sink:
            sink.write(content)
            sink.flush()
            os.fsync(sink.fileno())
        aside.chmod(mode)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush the folder's entries to disk, so that a rename in it survives a crash."""
    sync_file(folder)


def sync_file(path: Path) -> None:
    """Flush a file's content to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def md5_of(path: Path) -> str:
    """Return the MD5 of a file's content, which is its name in DVC's cache."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as source:
        while block := source.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
