"""Folders for files that can be made again at any time, outside every lake."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def user_cache(name: str, first: str = "") -> Path | None:
    """Return a folder for cached files; it is created if it does not exist.

    It is the first of these that is writable: `first`; ``affectlake/NAME`` in the user's cache folder
    (``$XDG_CACHE_HOME`` or ``~/.cache``, on macOS ``~/Library/Caches``); a folder in the temporary folder to which no
    other user can write.

    Parameters
    ----------
    name : str
        Name of the folder.
    first : str
        A folder that the user chose; empty if none.

    Returns
    -------
    Path or None
        None if no folder is writable.
    """
    from platformdirs import user_cache_path

    candidates = (
        *([Path(first)] if first else []),
        user_cache_path("affectlake", appauthor=False) / name,
        Path(tempfile.gettempdir()) / f"affectlake-{os.getuid()}" / name,
    )
    own = candidates[-1].parent  # other users can guess its name, and its contents are trusted
    return next((one for one in candidates if one.is_absolute() and _usable(one, own)), None)


def _usable(folder: Path, own: Path) -> bool:
    """Return whether `folder` is writable and, if it is in `own`, cannot have been made by another user."""
    try:
        if folder.parent == own:
            own.mkdir(mode=0o700, exist_ok=True)
            found = own.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
                return False
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True
