"""Voxel-encoded RSA: the distances of held-out predictions of a region's patterns, and those of the patterns.

An encoding model weights the dimensions differently in every voxel, so that its predictions have the distances that a
region would have if it followed the dimensions as the training stimuli show. Predictions and patterns of the stimuli of
an outer fold are compared by the Spearman correlation of their correlation distances, and the correlations are averaged
over folds: no stimulus is on both sides.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.contributions.pair_scores import correlations, ranked
from affectlake.brain.contributions.pattern_products import VOXELS, PatternProducts
from affectlake.brain.contributions.quantities import Scores
from affectlake.brain.contributions.stacked_encoding import StackedEncoding
from affectlake.brain.encoding.folds import Folds
from affectlake.brain.recordings.subjects import ZScored
from affectlake.process.blas_threads import one_blas_thread


def voxel_encoded_rsa(
    found: StackedEncoding,
    patterns: NDArray[np.floating] | ZScored,
    folds: Folds,
    region: NDArray[np.bool_],
    *,
    workers: int = 1,
) -> Scores:
    """Return the mean over folds of each model's correlation with a region's held-out distances.

    Parameters
    ----------
    found : StackedEncoding
        The models.
    patterns, folds
        As for `found`.
    region : bool (n_voxels,)
        Voxels of the region; those that are not usable are left out.
    workers : int, default=1
        Number of threads over outer folds. The result does not depend on it.

    Returns
    -------
    Scores
        Of each model. 0 for a model that predicts nothing.

    Notes
    -----
    Khaligh-Razavi et al. 2017, 'Fixed versus mixed RSA'.
    """
    voxels = np.flatnonzero(region & found.usable)
    chunks = [voxels[first : first + VOXELS] for first in range(0, len(voxels), VOXELS)]

    def of_fold(fold: int) -> Scores:
        inner = folds.inner[fold]
        train, test = inner >= 0, np.flatnonzero(inner == -1)
        centre = found.features[train].mean(axis=0)
        own = PatternProducts(len(test))
        models = [PatternProducts(len(test)) for _ in found.models]
        for some in chunks:
            block = np.asarray(patterns[:, some], dtype=np.float64)
            own.add(block[test] - block[train].mean(axis=0))
            for products, predicted in zip(models, found.predicted(fold, test, some, centre), strict=True):
                products.add(predicted)
        return correlations(ranked(own.distances()), [ranked(one.distances()) for one in models])

    with one_blas_thread(), ThreadPoolExecutor(max(workers, 1)) as pool:
        each = list(pool.map(of_fold, range(len(folds.inner))))
    influence = np.zeros((len(found.models), len(folds.outer)))
    for fold, scores in enumerate(each):
        influence[:, folds.outer == fold] = scores.influence / len(each)
    return Scores(np.mean([scores.value for scores in each], axis=0), influence)
