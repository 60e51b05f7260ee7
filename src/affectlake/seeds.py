"""Independent random generators, each identified by a root seed and a name. No numbers are drawn here.

A name is a sequence of words, such as ``("choices", "human-category")``. The same root seed and name give the same
numbers on every machine, and different names give independent ones, so a new use never changes the numbers of another.
"""

from __future__ import annotations

import hashlib

import numpy as np


def _sequence(root: int, names: tuple[str | int, ...]) -> np.random.SeedSequence:
    digest = hashlib.sha256("\x1f".join(map(str, names)).encode()).digest()
    return np.random.SeedSequence([root, *np.frombuffer(digest, dtype="<u4").tolist()])


def generator(root: int, *names: str | int) -> np.random.Generator:
    """Return the PCG64 generator of a root seed and a name.

    Parameters
    ----------
    root : int
        The study's root seed, at least 0.
    *names : str or int
        The name: words that say what the numbers are used for.
    """
    return np.random.Generator(np.random.PCG64(_sequence(root, names)))


def integer(root: int, *names: str | int) -> int:
    """Return a seed in [0, 2**31) for a library that takes an integer, such as scikit-learn's ``random_state``."""
    return int(_sequence(root, names).generate_state(1)[0] >> 1)
