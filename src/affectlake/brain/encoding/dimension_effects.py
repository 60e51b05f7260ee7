"""Effects of single dimensions in the encoding models of an agent, in units that can be compared between dimensions.

With features X of covariance Σ, standard deviations σ_d, and the weights β of the models ŷ = Xβ of z-scored voxels,

    weight of d:  σ_d β_d                the change of ŷ with σ_d, at fixed values of the other dimensions
    pattern of d: (Σ β)_d / σ_d          the change of ŷ with σ_d, with what the other dimensions then are on average

Both are in standard deviations of the response per standard deviation of the dimension, and equal if dimensions do not
correlate. If they do, a weight is not an activation pattern: a dimension can be accompanied by activity where its
weight is 0 or has the opposite sign, because the voxel follows another dimension. Haufe et al. 2014 show this for the
weights of decoders; the pattern here is their equation 6 for models that predict voxels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class DimensionEffects(NamedTuple):
    """Weights and patterns float64 (n_dimensions, n_voxels); see the docstring of the module."""

    weights: Array
    patterns: Array


def dimension_effects(features: Array, weights: Array) -> DimensionEffects:
    """Return the weights and the patterns of all dimensions.

    Parameters
    ----------
    features : float (n_stimuli, n_dimensions)
        The agent's embedding.
    weights : float (n_dimensions, n_voxels)
        β of :func:`~affectlake.brain.encoding.crossvalidation.encode`: per unit of the features, of z-scored voxels.
        A voxel without a model is NaN.

    Returns
    -------
    DimensionEffects
        0 for a dimension that does not vary.
    """
    centred = np.asarray(features, np.float64) - np.mean(features, axis=0, dtype=np.float64)
    sigma = centred.std(axis=0)[:, None]
    patterns = (centred.T @ centred / len(centred)) @ weights
    return DimensionEffects(sigma * weights, patterns / np.where(sigma > 0, sigma, 1.0))
