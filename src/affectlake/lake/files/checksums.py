"""Check objects against their names: an object is named by the MD5 of its content, in the cache and in remotes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO, Literal

State = Literal["missing", "damaged", "zero-filled"]
_READ_BYTES = 1 << 20


def examine(path: Path, md5: str) -> State | None:
    """Return what is wrong with the object at `path`, or None if its bytes have the hash `md5`."""
    try:
        with path.open("rb") as source:
            return examine_stream(source, md5)
    except (FileNotFoundError, IsADirectoryError):
        return "missing"


def examine_stream(source: IO[bytes], md5: str) -> State | None:
    """Return what is wrong with the bytes of `source`, or None if their hash is `md5`, which may end in ``.dir``."""
    digest = hashlib.md5(usedforsecurity=False)
    only_zeros = True
    while block := source.read(_READ_BYTES):
        digest.update(block)
        only_zeros = only_zeros and not block.strip(b"\0")
    if digest.hexdigest() == md5.removesuffix(".dir"):
        return None
    return "zero-filled" if only_zeros else "damaged"
