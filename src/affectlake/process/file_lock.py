"""File locks between processes. The file names the holder; the kernel releases the lock when the holder ends."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from affectlake.errors import LakeError

try:
    import fcntl
except ModuleNotFoundError:  # neither Linux nor macOS: a lake can be read there
    fcntl = None  # type: ignore[assignment]


@contextmanager
def file_lock(
    path: Path,
    what: str,
    *,
    busy: str,
    todo: str,
    wait_s: float = 0.0,
    log: Callable[[str], None] = lambda _line: None,
) -> Iterator[None]:
    """Hold the lock of a file.

    Parameters
    ----------
    path : Path
        The file; it is created if it does not exist, and is not removed.
    what : str
        What the holder is doing. It is written to the file, with the process, while the lock is held.
    busy, todo : str
        Summary of the error if another process holds the lock, and what to do.
    wait_s : float
        Longest time to wait for another holder, in seconds; may be infinite.
    log : callable
        Called with a line that names the holder, once for each holder that is waited for.

    Raises
    ------
    LakeError
        If another process (named in the message) still holds the lock after `wait_s`, if the file cannot be opened
        for writing, or if the system has no such locks.
    """
    if fcntl is None:
        raise LakeError(
            f"{path.name} cannot be locked on this system",
            wanted="Linux or macOS, where the lock of a process ends with the process",
            todo="read the lake here, and write to it there; on Windows, in WSL",
        )
    try:
        handle = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise LakeError(f"{path} cannot be written to", found=str(error), todo="check its permissions") from error
    with handle:
        deadline = time.monotonic() + wait_s
        pause_s, named = 0.01, ""
        while not take_lock(handle):
            handle.seek(0)
            holder = handle.read().strip() or "a process that has just started"
            if time.monotonic() >= deadline:
                raise LakeError(busy, found=holder, todo=todo)
            if holder != named:
                log(f"waiting for {holder}")
                named = holder
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.5)
        handle.truncate(0)
        handle.write(f"{what}, process {os.getpid()} on {socket.gethostname()}\n")
        handle.flush()
        try:
            yield
        finally:
            handle.truncate(0)


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a file; False if the file does not exist or cannot be opened."""
    try:
        with path.open(encoding="utf-8") as handle:
            return not take_lock(handle)
    except OSError:
        return False


def take_lock(handle: TextIO) -> bool:
    """Take the lock of an open file; return whether it could be taken at once."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
