"""Encoding with a penalty for each band of features, and how much of a voxel each band explains.

With bands X_b whose features are divided by the square root of the band's total variance, a model of the bands M is

    ŷ = Σ_{b∈M} √w_b X_b β_b,   (β, w, λ) = argmin ‖ỹ - ŷ‖² + λ Σ_b ‖β_b‖²,

so that band b has the penalty λ / w_b: banded ridge regression (Nunez-Elizalde et al. 2019, Dupré la Tour et al. 2022).
The relative weights w and λ are chosen for every voxel by the validation error of the inner folds, from candidates that
also leave out bands, and everything. R² is that of the held-out stimuli of all outer folds together,

    R²(M) = 1 - Σ_i (y_i - ŷ_i)² / Σ_i (y_i - ȳ_i)²,

where ȳ_i is the mean of the training stimuli. Leaving out bands gives R² of every combination of bands, from which
:mod:`~affectlake.brain.encoding.shares` computes what only one band explains, and what several share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.encoding.band_choices import choose
from affectlake.brain.encoding.band_gains import Regions, evaluate
from affectlake.brain.encoding.band_problem import Problem, candidates, scaled_bands, subsets
from affectlake.brain.encoding.crossvalidation import PENALTIES
from affectlake.brain.encoding.folds import Folds
from affectlake.brain.encoding.solver import Array
from affectlake.brain.recordings.subjects import ZScored
from affectlake.errors import UsageError
from affectlake.process.blas_threads import one_blas_thread


class BandedEncoding(NamedTuple):
    """Held-out variance that each combination of bands explains; NaN for voxels that are not usable.

    Parameters
    ----------
    models : list of tuple of str
        The bands of each model: first no band, last all. Nuisance features are in all of them.
    r2 : float64 (n_models, n_voxels)
    split : float64 (n_bands + n_nuisance, n_voxels)
        Parts of R² of the model with all bands, one for each band, then for each nuisance band; they add up to it
        (product measure).
    covariance : float64 (n_bands, n_bands, n_voxels)
        Covariance, over draws of stimuli (or groups of them), of what only one band explains: R² of all bands less R²
        of all others. It is that of means of independent values, for the models as they were fitted.
    losses : float64 (n_models, n_stimuli, n_regions)
        Squared error of each stimulus when it was held out, divided by the mean of (y_i - ȳ_i)² of its voxel, and
        averaged over the usable voxels of a region; 0 for a region without such voxels. R² of a region, the mean of its
        voxels, is 1 - losses.mean over stimuli.
    weights : float64 (n_outer, n_bands + n_nuisance, n_voxels)
        w of the model with all bands; 0 for a band that was left out.
    penalty : float64 (n_outer, n_voxels)
        λ of the model with all bands; NaN where it leaves out everything.
    usable : bool (n_voxels,)
        False for a voxel that is constant or has a NaN or an infinite value.
    """

    models: list[tuple[str, ...]]
    r2: Array
    split: Array
    covariance: Array
    losses: Array
    weights: Array
    penalty: Array
    usable: NDArray[np.bool_]


def encode_bands(
    bands: Mapping[str, NDArray[np.floating]],
    patterns: NDArray[np.floating] | ZScored,
    folds: Folds,
    *,
    nuisance: Mapping[str, NDArray[np.floating]] | None = None,
    regions: NDArray[np.bool_] | None = None,
    groups: NDArray[np.integer] | None = None,
    ratios: Sequence[float],
    penalties: Array = PENALTIES,
    workers: int = 1,
    checkpoint: Path | None = None,
    on_candidate: Callable[[int, int], None] | None = None,
) -> BandedEncoding:
    """Predict every voxel from every combination of bands of features.

    Parameters
    ----------
    bands : mapping of str to float (n_stimuli, n_features)
        The bands, by name. There are as many models as subsets of them.
    patterns : float (n_stimuli, n_voxels)
        An array, a memory map, or a :class:`~affectlake.brain.recordings.subjects.ZScored`; read block by block.
    folds : Folds
        Outer folds for R², inner folds for weights and penalties.
    nuisance : mapping of str to float (n_stimuli, n_features), optional
        Bands that are part of every model, so that what they explain counts for no band.
    regions : bool (n_regions, n_voxels), optional
        The voxels of each region; regions may overlap. By default, there are no regions.
    groups : int (n_stimuli,), optional
        Run in which each stimulus was shown, if stimuli of a run are not independent. By default, all are.
    ratios : sequence of float
        Candidate weights of a band, above 0 and at most 1; 1 is always one. The largest weight of a candidate is 1.
    penalties : float64 (n_penalties,)
        Candidate values of λ, above 0.
    workers : int, default=1
        Number of threads over blocks of voxels. The result does not depend on it.
    checkpoint : Path, optional
        File with the choices so far, from which a process that was killed resumes. A file of other inputs is replaced.
    on_candidate : callable, optional
        Called with the number of candidates that are finished and the number of all, which are run through twice.

    Returns
    -------
    BandedEncoding

    Raises
    ------
    SourceError
        If features and patterns are not of the same stimuli, or a feature is NaN.
    UsageError
        If there are no bands, one is also a nuisance feature, or ratios or penalties are not legal.

    Notes
    -----
    With the same candidates, weights and penalties are those of himalaya's ``GroupRidgeCV``, and `split` is its
    ``r2_score_split``.
    """
    apart = nuisance or {}
    _check(ratios)
    scaled = scaled_bands(bands, apart, patterns, folds, penalties)
    x = np.concatenate(scaled, axis=1)
    band_of = np.repeat(np.arange(len(scaled)), [part.shape[1] for part in scaled])
    models = subsets(len(bands))
    tried = candidates(len(bands), len(apart), models, sorted({*ratios, 1.0}))
    problem = Problem(x, band_of, patterns, folds, penalties, tried, models, max(workers, 1))
    progress = on_candidate or (lambda _done, _n: None)
    with one_blas_thread():
        chosen = choose(problem, checkpoint, lambda done: progress(done, 2 * len(tried)))
        some = Regions.of(regions, chosen.usable)
        labels = np.arange(len(x)) if groups is None else np.unique(groups, return_inverse=True)[1]
        found = evaluate(problem, chosen, some, labels, lambda done: progress(len(tried) + done, 2 * len(tried)))
    usable, whole, predicted = chosen.usable, chosen.candidate[-1], chosen.candidate[-1] >= 0
    table = np.array([candidate.weights for candidate in tried])
    return BandedEncoding(
        [tuple(list(bands)[b] for b in model) for model in models],
        *found,
        np.where(usable, np.where(predicted, table[whole].transpose(2, 0, 1), 0.0), np.nan).transpose(1, 0, 2),
        np.where(usable & predicted, penalties[chosen.at[-1]], np.nan),
        usable,
    )


def _check(ratios: Sequence[float]) -> None:
    wrong = [ratio for ratio in ratios if not 0 < ratio <= 1]
    if wrong or not ratios:
        raise UsageError(
            "ratios of bands are not legal",
            wanted="numbers above 0, at most 1",
            found=", ".join(map(str, wrong)) or "none",
        )
