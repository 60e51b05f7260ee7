"""Tests of affectlake.process.blas_threads: the threads of the libraries inside and outside of its contexts."""

from __future__ import annotations

import subprocess
import sys

import numpy as np  # noqa: F401  its BLAS is one of the libraries
from threadpoolctl import threadpool_info

from affectlake.process.blas_threads import one_blas_thread, one_thread


def _threads(api: str) -> list[int]:
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == api]


def test_one_blas_thread_limits_blas_and_restores_it() -> None:
    """Inside, every BLAS library has one thread; afterwards as many as before."""
    before = _threads("blas")
    assert before
    for _ in range(2):  # the second time, the libraries are known already
        with one_blas_thread():
            assert set(_threads("blas")) == {1}
        assert _threads("blas") == before


def test_libraries_loaded_later_are_limited_as_well() -> None:
    """A library that is imported after the first use is limited at the next use."""
    code = (
        "import os; os.environ.update(OMP_NUM_THREADS='2', OPENBLAS_NUM_THREADS='2')\n"
        "from threadpoolctl import threadpool_info\n"
        "from affectlake.process.blas_threads import one_thread\n"
        "with one_thread(): pass\n"
        "n = len(threadpool_info())\n"
        "import scipy.linalg, sklearn.cluster\n"
        "assert len(threadpool_info()) > n\n"
        "with one_thread(): print({one['num_threads'] for one in threadpool_info()})\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "{1}"


def test_one_thread_limits_openmp_as_well() -> None:
    """Both kinds of libraries have one thread inside."""
    import sklearn.cluster  # noqa: F401  loads OpenMP

    with one_thread():
        assert {*_threads("blas"), *_threads("openmp")} == {1}
