"""Compilation by Numba, with the compiled code in the user's cache folder.

By default, Numba writes compiled code beside the source file. In an installed package these files remain after
``pip uninstall``, so that the package's folder remains too and can shadow the next installation. Every compiled
function of this package is therefore made with :func:`njit` of this module. Functions of other packages in the same
process are not affected.
"""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import __version__ as numba_version
from numba import config
from numba import njit as compile_with

_deciding = threading.Lock()  # Numba reads the folder from its settings when a function is decorated


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function and caches the compiled code in :func:`cache_folder`.

    Parameters
    ----------
    **options
        Options of :func:`numba.njit`, except ``cache``.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        with _deciding:
            users = config.CACHE_DIR
            folder = cache_folder(users)
            try:
                config.CACHE_DIR = "" if folder is None else str(folder)
                return compile_with(cache=folder is not None, **options)(function)
            finally:
                config.CACHE_DIR = users

    return decorate


@cache
def cache_folder(users: str = "") -> Path | None:
    """Return the folder for compiled code; it is created if it does not exist.

    It is the first of these that is writable: the user's ``NUMBA_CACHE_DIR``; ``affectlake/numba-VERSION`` in the
    user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``, on macOS ``~/Library/Caches``); a folder in the temporary
    folder to which no other user can write.

    Parameters
    ----------
    users : str
        The folder that the user set; empty if none.

    Returns
    -------
    Path or None
        None if no folder is writable: functions are then compiled again in each process.
    """
    from platformdirs import user_cache_path

    name = f"numba-{numba_version}"  # another version of Numba would replace these files
    candidates = (
        *([Path(users)] if users else []),
        user_cache_path("affectlake", appauthor=False) / name,
        Path(tempfile.gettempdir()) / f"affectlake-{os.getuid()}" / name,
    )
    own = candidates[-1].parent  # other users can guess its name, and its contents are executed
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
