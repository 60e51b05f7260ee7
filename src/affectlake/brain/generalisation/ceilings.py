"""Noise ceilings against chance: whether subjects share any geometry of the stimuli that a model could explain."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import SourceError
from affectlake.rsm import pairs, ranks

Array = NDArray[np.float64]


class CeilingTest(NamedTuple):
    """The lower noise ceiling against relabelled stimuli.

    Parameters
    ----------
    lower : float
        The lower noise ceiling.
    p : float
        Share of relabellings, and of the data, whose ceiling is as high: one-tailed.
    null : float64 (n_relabellings,)
        The lower noise ceiling under relabelled stimuli.
    """

    lower: float
    p: float
    null: Array


def ceiling_against_chance(
    rsms: NDArray[np.floating], n_relabellings: int, rng: np.random.Generator, *, workers: int = 1
) -> CeilingTest:
    """Test whether the lower noise ceiling, for Spearman's correlation, is above that of subjects that share nothing.

    The stimuli of every subject but the first are relabelled at random, each subject with an order of its own. Rows and
    columns are permuted together, so that the dependence between pairs is kept. The test is exact if subjects share
    nothing; it is about these subjects and stimuli.

    Parameters
    ----------
    rsms : float (n_subjects, n, n)
        RSMs of at least two subjects.
    n_relabellings : int
    rng : numpy.random.Generator
    workers : int
        Number of threads. The result does not depend on it.

    Raises
    ------
    SourceError
        If there are fewer than two subjects.
    """
    from affectlake.brain.generalisation import kernels  # late: they are compiled

    n_subjects, n = len(rsms), rsms.shape[-1]
    if n_subjects < 2:
        raise SourceError("a noise ceiling needs at least two subjects", found=f"{n_subjects}")
    ranked = np.zeros((n_subjects, n, n))
    above = np.triu_indices(n, 1)
    for s, rsm in enumerate(rsms):
        ranked[s][above] = 2 * ranks(pairs(rsm)) - (len(above[0]) + 1)
    ranked += ranked.transpose(0, 2, 1)
    first = np.arange(n)
    orders = np.array([[first] + [rng.permutation(n) for _ in range(n_subjects - 1)] for _ in range(n_relabellings)])
    found = np.empty((1 + n_relabellings, 2))

    def one(at: int) -> None:
        order = np.stack([first] * n_subjects) if at == 0 else orders[at - 1]
        kernels.relabelled_ceiling(ranked, order, found[at])

    with ThreadPoolExecutor(workers, thread_name_prefix="ceilings") as pool:
        list(pool.map(one, range(len(found))))
    lower, null = float(found[0, 0]), found[1:, 0]
    p = float((1 + np.sum(null >= lower - 1e-12)) / (1 + n_relabellings))
    return CeilingTest(lower, p if np.isfinite(lower) else float("nan"), null)
