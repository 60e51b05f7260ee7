"""A power switch: code runs until its nth change to a folder, and from then on nothing changes there any more.

Python's audit events tell of every file opened for writing, every rename, link, removal, new folder, change of mode
and started process, whoever makes it, DVC included; ``os.fsync`` is wrapped. At the switch the event does not happen
and :class:`Off` is raised; every later change is refused as well, so that no ``finally`` can tidy up. With `torn`, what
was written and not flushed is cut to half, as a power failure may leave it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from affectlake.lake.store.git_memory import forget

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NO_STATE = ("/.dvc/tmp/", "/storage/scratch")  # files that may be lost; some are written only if others are old enough
PATHS = {  # audit event -> which of its arguments are paths that change
    "os.rename": (0, 1),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.remove": (0,),
    "os.mkdir": (0,),
    "os.rmdir": (0,),
    "os.chmod": (0,),
    "os.truncate": (0,),
    "os.utime": (0,),
}


class Off(BaseException):
    """The power is off."""


class Switch:
    """Counts the changes to `folder`, and turns the power off at one of them.

    Parameters
    ----------
    folder : Path
        What is watched.
    at : int
        The change at which the power goes, from 1; 0 for never.
    torn : bool
        Whether unflushed files lose their second half.
    """

    def __init__(self, folder: Path, at: int, *, torn: bool = False) -> None:
        self.folder, self.at, self.torn = str(folder), at, torn
        self.events: list[str] = []
        self.off = False
        self.unflushed: set[str] = set()

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take an audit event."""
        if event == "open":
            path, _mode, flags = arguments
            if isinstance(path, str) and isinstance(flags, int) and flags & WRITING and self._within(path):
                self._happen(f"open {path}")
                self.unflushed.add(str(Path(path).absolute()))
        elif event == "subprocess.Popen":
            if self._within(str(arguments[2] or "")):
                words = [str(word) for word in arguments[1]]
                self._happen(f"run {' '.join(words[:1] + _command(words[1:])[:2])}")
        elif event in PATHS:
            paths = [os.fspath(arguments[n]) for n in PATHS[event] if not isinstance(arguments[n], int)]
            texts = [os.fsdecode(path) for path in paths]
            if any(self._within(path) for path in texts):
                self._happen(f"{event} {' '.join(texts)}")
                if event == "os.rename" and str(Path(texts[0]).absolute()) in self.unflushed:
                    self.unflushed.add(str(Path(texts[1]).absolute()))

    def flush(self, descriptor: int) -> None:
        """Take a call of ``os.fsync``."""
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if self._within(path):
            self._happen(f"fsync {path}")
            self.unflushed.discard(path)

    def _within(self, path: str) -> bool:
        whole = str(Path(path).absolute())
        return whole.startswith(self.folder) and not any(folder in whole for folder in NO_STATE)

    def _happen(self, what: str) -> None:
        if not self.off:
            self.events.append(what.replace(self.folder, "."))
            self.off = len(self.events) == self.at
        if self.off:
            raise Off(self.events[-1])


_current: Switch | None = None
_fsync = os.fsync


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _current is not None and (event in PATHS or event in ("open", "subprocess.Popen")):
        _current.see(event, arguments)


def _watched_fsync(descriptor: int) -> None:
    if _current is not None:
        _current.flush(descriptor)
    _fsync(descriptor)


sys.addaudithook(_hook)


@contextmanager
def power(switch: Switch) -> Iterator[Switch]:
    """Run what is within under the switch, as a new process would; swallow :class:`Off`."""
    global _current
    forget()
    _current, os.fsync = switch, _watched_fsync
    try:
        yield switch
    except Off:
        pass
    finally:
        _current, os.fsync = None, _fsync
        if switch.off and switch.torn:
            for path in map(Path, switch.unflushed):
                if path.is_file() and "/.git/" not in str(path):
                    os.truncate(path, path.stat().st_size // 2)


def lasting(event: str) -> bool:
    """Whether an event changes what the next command finds; kills between two of these leave no more than stray files.

    Renames and Git's writes are such events. Opening, flushing and chmod are not: what they concern is found by its
    name only after a rename.
    """
    writes = ("fetch", "update-ref", "read-tree", "update-index", "commit-tree", "add", "merge --quit", "reset")
    return event.startswith(("os.rename", "os.remove ./storage")) or event.startswith(
        tuple(f"run git {word}" for word in writes)
    )


def points(events: list[str], every: bool) -> list[int]:
    """Return the numbers, from 1, of the events at which to turn the power off: of those that last, or of every one."""
    return [at for at, event in enumerate(events, start=1) if every or lasting(event)]


def _command(words: list[str]) -> list[str]:
    """Return the words of a Git command without the settings before it."""
    return _command(words[2:]) if words[:1] == ["-c"] else words
