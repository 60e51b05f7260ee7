"""Weights with which the predictions of several models are averaged so that their squared error is smallest."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_JITTER = 1e-10  # added to the diagonal, relative to its mean: equal models get equal weights


def stack_weights(products: Array) -> Array:
    """Return the weights a ≥ 0, Σ a = 1 with the smallest a' P a.

    With the errors e_b of model b, P_bc = Σ e_b e_c, and a' P a is the squared error of the averaged prediction. Models
    with an optimal weight of 0 are found by trying all combinations of models: on the models of a combination, the
    weights that need only add up to 1 are P⁻¹1 / (1'P⁻¹1).

    Parameters
    ----------
    products : float64 (n_models, n_models, n_voxels)
        Symmetric, positive semidefinite. There are 2ⁿ combinations of n models.

    Returns
    -------
    float64 (n_models, n_voxels)

    Notes
    -----
    Lin et al. 2024, 'Stacked regressions and structured variance partitioning'; Breiman 1996.
    """
    n, _, n_voxels = products.shape
    p = np.moveaxis(products, -1, 0)
    size = np.einsum("vbb->v", p) / n
    p = p + (_JITTER * size + np.finfo(float).tiny)[:, None, None] * np.eye(n)
    best, weights = np.full(n_voxels, np.inf), np.zeros((n_voxels, n))
    for some in (at for k in range(1, n + 1) for at in combinations(range(n), k)):
        solved = np.linalg.solve(p[:, some][:, :, some], np.ones((n_voxels, len(some), 1)))[..., 0]
        total = solved.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.where((solved >= 0).all(axis=1) & (total > 0), 1.0 / total, np.inf)
        better = np.flatnonzero(error < best)
        best[better] = error[better]
        weights[better] = 0.0
        weights[better[:, None], np.array(some)] = solved[better] / total[better, None]
    return weights.T
