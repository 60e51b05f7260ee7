"""The posterior of an embedding's weights: means, deviations, intervals, and the number of dimensions.

A weight is ``max(0, w)`` with w normal (a rectified normal distribution): it is 0 with probability P(w <= 0). With
z = mean / sd, the normal density phi and distribution function Phi,

    E(weight) = mean Phi(z) + sd phi(z),
    E(weight²) = (mean² + sd²) Phi(z) + mean sd phi(z),

and its quantiles are those of w, or 0 if they are negative.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Posterior(NamedTuple):
    """Independent normal distributions of the weights of an embedding, before negative weights become 0.

    Attributes
    ----------
    mean, sd : (n_stimuli, d) float32
        Means and standard deviations.
    """

    mean: Floats
    sd: Floats

    def columns(self, chosen: NDArray[np.intp]) -> Posterior:
        """Return the chosen dimensions in this order."""
        return Posterior(np.ascontiguousarray(self.mean[:, chosen]), np.ascontiguousarray(self.sd[:, chosen]))


def positive(posterior: Posterior) -> NDArray[np.float64]:
    """Return the probability that each weight is above zero: (n_stimuli, d)."""
    from scipy.special import ndtr  # imported late: slow

    return np.asarray(ndtr(posterior.mean.astype(np.float64) / posterior.sd))


def weights(posterior: Posterior) -> Floats:
    """Return the expected weights: (n_stimuli, d) float32, C-contiguous."""
    mean, sd = (part.astype(np.float64) for part in posterior)
    expected = mean * positive(posterior) + sd * _density(mean / sd)
    return np.ascontiguousarray(np.maximum(expected, 0.0), dtype=np.float32)


def deviations(posterior: Posterior) -> Floats:
    """Return the standard deviations of the weights: (n_stimuli, d) float32."""
    mean, sd = (part.astype(np.float64) for part in posterior)
    share, density = positive(posterior), _density(mean / sd)
    expected = mean * share + sd * density
    square = (mean**2 + sd**2) * share + mean * sd * density
    return np.sqrt(np.maximum(square - expected**2, 0.0)).astype(np.float32)


def _density(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi))


def n_described(posterior: Posterior, level: float = 0.05) -> NDArray[np.intp]:
    """Return the number of stimuli with a weight above zero in each dimension: (d,).

    These are the stimuli for which P(weight = 0) is significant at `level` by the procedure of Benjamini & Hochberg
    (1995) within the dimension, the rule of Muttenthaler et al. (2022, section 3.3.4).
    """
    n = posterior.mean.shape[0]
    p = np.sort(1.0 - positive(posterior), axis=0)
    below = p <= level * np.arange(1, n + 1)[:, None] / n
    return np.asarray(np.where(below.any(axis=0), n - np.argmax(below[::-1], axis=0), 0))


def kept(posterior: Posterior, min_stimuli: int, level: float = 0.05) -> NDArray[np.intp]:
    """Return the indices of the dimensions that describe more than `min_stimuli` stimuli, by decreasing sum of weights.

    Parameters
    ----------
    posterior : Posterior
    min_stimuli : int
        5 in the published code.
    level : float
        Of the false discovery rate (:func:`n_described`).
    """
    chosen = np.flatnonzero(n_described(posterior, level) > min_stimuli)
    mass = weights(posterior)[:, chosen].sum(axis=0, dtype=np.float64)
    return chosen[np.argsort(-mass, kind="stable")]
