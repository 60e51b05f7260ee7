"""Compilation by Numba, with the compiled code in the user's cache folder.

By default, Numba writes compiled code beside the source file. In an installed package these files remain after
``pip uninstall``, so that the package's folder remains too and can shadow the next installation. Every compiled
function of this package is therefore made with :func:`njit` of this module. Functions of other packages in the same
process are not affected.

A function that another compiled function calls is inlined into it. Otherwise it would be a symbol of its own in the
machine code of each caller, and which of these copies runs would depend on the order in which they were compiled or
loaded from the cache: their sums can differ in the last bits, so that the first fit after an installation was not that
of later processes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import __version__ as numba_version
from numba import config
from numba import njit as compile_with

from affectlake.process.user_cache import user_cache

_deciding = threading.Lock()  # Numba reads the folder from its settings when a function is decorated


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function and caches the compiled code in :func:`cache_folder`.

    Parameters
    ----------
    **options
        Options of :func:`numba.njit`, except ``cache`` and ``forceinline``.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        with _deciding:
            users = config.CACHE_DIR
            folder = cache_folder(users)
            try:
                config.CACHE_DIR = "" if folder is None else str(folder)
                return compile_with(cache=folder is not None, forceinline=True, **options)(function)
            finally:
                config.CACHE_DIR = users

    return decorate


@cache
def cache_folder(users: str = "") -> Path | None:
    """Return the folder for compiled code; it is created if it does not exist.

    Parameters
    ----------
    users : str
        The user's ``NUMBA_CACHE_DIR``; empty if it is not set.

    Returns
    -------
    Path or None
        None if no folder is writable: functions are then compiled again in each process.
    """
    return user_cache(f"numba-{numba_version}", users)  # another version of Numba would replace these files
