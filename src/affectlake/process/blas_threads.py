"""One thread for linear algebra, where the callers' own threads use the cores or sums must be in a fixed order."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager[object]:
    """Return a context in which BLAS libraries use one thread.

    Finding the libraries takes 3.5 ms, which is longer than a small computation: they are looked up again only after
    modules have been imported, which may have loaded a library.
    """
    limited: AbstractContextManager[object] = _libraries(len(sys.modules)).limit(limits=1, user_api="blas")
    return limited


def one_thread() -> AbstractContextManager[object]:
    """Return a context in which BLAS and OpenMP libraries use one thread."""
    limited: AbstractContextManager[object] = _libraries(len(sys.modules)).limit(limits=1)
    return limited


@lru_cache(maxsize=1)
def _libraries(_n_modules: int) -> ThreadpoolController:
    return ThreadpoolController()
