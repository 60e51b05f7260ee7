"""One root seed, many named independent generators. Nothing here draws a number itself.

A name is a path of words, such as ``("choices", "human-category")``. The same root and name give the same
stream on every machine, and no two names share one, so adding a consumer never shifts another's numbers.
"""

from __future__ import annotations

import hashlib

import numpy as np


def _sequence(root: int, names: tuple[str | int, ...]) -> np.random.SeedSequence:
    digest = hashlib.sha256("\x1f".join(map(str, names)).encode()).digest()
    return np.random.SeedSequence([root, *np.frombuffer(digest, dtype="<u4").tolist()])


def generator(root: int, *names: str | int) -> np.random.Generator:
    """Return the PCG64 generator of `names` under the root seed.

    Parameters
    ----------
    root : int
        The study's root seed, at least 0.
    *names : str or int
        The path of words that says what the numbers are for.
    """
    return np.random.Generator(np.random.PCG64(_sequence(root, names)))


def integer(root: int, *names: str | int) -> int:
    """Return a seed in [0, 2**31) for a library that takes an integer, such as scikit-learn's ``random_state``."""
    return int(_sequence(root, names).generate_state(1)[0] >> 1)
