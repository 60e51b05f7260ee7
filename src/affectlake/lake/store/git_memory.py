"""What this process has read of Git's objects, which never change: the last 64 MiB.

:mod:`~affectlake.lake.fsck`, which looks for damage, forgets everything first.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from typing import Any

_MOST_BYTES = 64 << 20
_HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


class _Memory:
    """Values by key, in the order of their last use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[object, ...], tuple[Any, int]] = OrderedDict()
        self._n_bytes = 0

    def recall(self, key: tuple[object, ...]) -> Any:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def remember(self, key: tuple[object, ...], value: object, n_bytes: int) -> None:
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = value, n_bytes
            self._n_bytes += n_bytes
            while self._n_bytes > _MOST_BYTES:
                self._n_bytes -= self._kept.popitem(last=False)[1][1]

    def forget(self) -> None:
        with self._lock:
            self._kept.clear()
            self._n_bytes = 0


_MEMORY = _Memory()


def is_hash(name: str) -> bool:
    """Return whether `name` is the full hash of an object, and not a name that can move."""
    return _HASH.fullmatch(name) is not None


def recall(key: tuple[object, ...]) -> Any:
    """Return what was remembered under `key`; None if nothing was."""
    return _MEMORY.recall(key)


def remember(key: tuple[object, ...], value: object, n_bytes: int) -> None:
    """Remember `value`, which is about `n_bytes` large and must not be changed; the oldest values are forgotten."""
    _MEMORY.remember(key, value, n_bytes)


def forget() -> None:
    """Forget everything, so that damage since it was read is noticed."""
    _MEMORY.forget()
