"""Functions that Numba compiles, and where their machine code is kept: in the user's cache folder.

Numba's own habit is to write beside the source file. In an installed package those files outlive ``pip uninstall``,
keep the package's empty folder alive, and hide the next installation. So every compiled function of this package is
made with :func:`njit` of this module. Functions of other packages in the same process are left as they are.
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

_deciding = threading.Lock()  # Numba asks its settings for the folder when a function is decorated


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function and keeps its machine code where :func:`cache_folder` says.

    Parameters
    ----------
    **options
        Those of :func:`numba.njit`, without ``cache``.
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
    """Return the folder of machine code, made where it is missing.

    It is the first of these that can be written to: the user's ``NUMBA_CACHE_DIR``; ``affectlake/numba-VERSION`` in the
    user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``, on macOS ``~/Library/Caches``); a folder that nobody else
    can write to, among the temporary files.

    Parameters
    ----------
    users : str
        The folder that the user named; empty if none.

    Returns
    -------
    Path or None
        None if nothing can be written: functions are then compiled anew in each process.
    """
    from platformdirs import user_cache_path

    name = f"numba-{numba_version}"  # another Numba would replace the files of this one
    candidates = (
        *([Path(users)] if users else []),
        user_cache_path("affectlake", appauthor=False) / name,
        Path(tempfile.gettempdir()) / f"affectlake-{os.getuid()}" / name,
    )
    own = candidates[-1].parent  # its name is known to others, and what it holds is executed
    return next((one for one in candidates if one.is_absolute() and _usable(one, own)), None)


def _usable(folder: Path, own: Path) -> bool:
    """Whether files can be written to `folder`, and nobody else could have put it there if it lies in `own`."""
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
