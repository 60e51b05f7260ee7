"""Partial RSA: the correlation of a band's distances with those of a region, with the other bands held constant.

Nothing is fitted: every dimension of a band counts by its variance, as in the searchlight.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.contributions.pair_scores import partial_correlations, ranked
from affectlake.brain.contributions.quantities import Array, Quantity, Scores
from affectlake.rsm import correlation_rsm

FEWEST_FEATURES = 3
"""Features below which a band has no correlation distances: those of two are 0 or 2."""


def band_distances(features: NDArray[np.floating]) -> Array:
    """Return 1 - r of the features of every pair of stimuli; NaN for a stimulus whose features are all equal.

    Parameters
    ----------
    features : float (n, d)
        At least three features.
    """
    return 1.0 - correlation_rsm(np.asarray(features, dtype=np.float64))


def squared_distances(features: NDArray[np.floating]) -> Array:
    """Return the squared Euclidean distance of every pair of stimuli, for nuisance features: float64 (n, n)."""
    x = np.asarray(features, dtype=np.float64)
    x = x - x.mean(axis=0)
    squares = (x**2).sum(axis=1)
    return np.asarray(np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0.0))


class PartialRSA:
    """Partial RSA of several regions with the same bands.

    Parameters
    ----------
    bands : mapping of str to float (n, n)
        Distances of each band (:func:`band_distances`).
    nuisance : mapping of str to float (n, n)
        Distances that are always held constant (:func:`squared_distances`).

    Notes
    -----
    The partial Spearman correlation of a band's and a region's distances (Kriegeskorte & Kievit 2013). Ranks are
    computed once, for all stimuli.
    """

    def __init__(self, bands: Mapping[str, Array], nuisance: Mapping[str, Array]) -> None:
        names, fixed = list(bands), list(range(len(bands), len(bands) + len(nuisance)))
        own = [ranked(distances) for distances in (*bands.values(), *nuisance.values())]
        others = [[other for other in range(len(names)) if other != band] for band in range(len(names))]
        # each band twice: alone, and with the others held constant
        self._models = own
        self._alone = [fixed for _ in names]
        self._unique = [[*held, *fixed] for held in others]
        self.quantities = [
            *(Quantity("alone", name) for name in names),
            *(Quantity("unique", name) for name in names),
        ]

    def scores(self, distances: Array) -> Scores:
        """Return the correlations of :attr:`quantities` with a region's distances, float64 (n, n)."""
        data = ranked(distances)
        found = [partial_correlations(data, self._models, held) for held in (self._alone, self._unique)]
        return Scores(np.concatenate([one.value for one in found]), np.concatenate([one.influence for one in found]))
