"""Dual bootstrap: models are compared with subjects' RSMs on resamples of subjects, of stimuli, and of both.

Variances, intervals and tests follow from the resamples in :mod:`affectlake.brain.generalisation.estimates`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.generalisation.resamples import Resamples
from affectlake.errors import SourceError
from affectlake.rsm import pairs

Array = NDArray[np.float64]
Measure = Literal["spearman", "pearson", "cosine"]
FEWEST_PAIRED = 3  # stimuli: three pairs

_CHUNK = 16  # resamples that a thread computes at a time


class Evaluations(NamedTuple):
    """Mean correlations of models with subjects, and noise ceilings, on the data and on resamples.

    Parameters
    ----------
    values : float64 (n_models + 2,)
        On the data: of each model, then the lower and the upper noise ceiling; NaN for one that is not defined.
    resampled : float64 (3, n_resamples, n_models + 2)
        The same on resamples of subjects and stimuli together, of subjects alone, and of stimuli alone. NaN where a
        model or a subject has no variance in the resample, and for the ceilings where it has only one subject.
    n_subjects, n_stimuli : int
    """

    values: Array
    resampled: Array
    n_subjects: int
    n_stimuli: int


def dual_bootstrap(
    rsms: NDArray[np.floating], models: NDArray[np.floating], resamples: Resamples, *, measure: Measure = "spearman",
    workers: int = 1,
) -> Evaluations:  # fmt: skip
    """Compare models with the RSMs of subjects, on the data and on resamples of subjects and of stimuli.

    A model's value is the mean over subjects of the correlation of its pairs with those of the subject. In a resample,
    subjects and stimuli count as often as they were drawn; pairs of a stimulus with its own copy are left out. The
    upper noise ceiling is the mean correlation of each subject with the mean of all subjects, the lower that with the
    mean of the others: copies of a subject are left out with it.

    Parameters
    ----------
    rsms : float (n_subjects, n, n)
        Symmetric matrix of each subject; only the pairs above the diagonal are used. Similarities or distances.
    models : float (n_models, n, n)
        Matrix of each model, of the same stimuli.
    resamples : Resamples
        From :func:`affectlake.brain.generalisation.resamples.draw`.
    measure : {'spearman', 'pearson', 'cosine'}
        How pairs are correlated. RSMs are averaged for the ceilings as ranks, as z-scores, or divided by their root
        mean square. ``cosine`` is for distances with a meaningful zero, such as crossnobis distances.
    workers : int
        Number of threads. The result does not depend on it.

    Returns
    -------
    Evaluations
        The values.

    Raises
    ------
    SourceError
        If a matrix has a pair that is not finite, or sizes do not match.

    Notes
    -----
    Schütt, Kipnis, Diedrichsen & Kriegeskorte 2023, 'Statistical inference on representational geometries', eLife.
    Noise ceilings: Nili et al. 2014. With more than 65,536 different values, an RSM's ranks are those of 65,536 equally
    large groups of values; the correlation then differs by less than 10⁻⁶.
    """
    from affectlake.brain.generalisation import kernels  # late: they are compiled

    kinds: dict[Measure, int] = {
        "spearman": kernels.SPEARMAN, "pearson": kernels.PEARSON, "cosine": kernels.COSINE
    }  # fmt: skip
    n_subjects, n, n_models = len(rsms), rsms.shape[-1], len(models)
    _check(rsms, models, resamples)
    rows, sizes = np.array([pairs(one) for one in (*models, *rsms)]), np.ones(n_models + n_subjects, dtype=np.int64)
    if measure == "spearman":
        rows, sizes = _codes(rows, kernels.BINS)
    every = np.ones(n_subjects, dtype=np.int64)
    drawn, stimuli_drawn = (np.ascontiguousarray(one, dtype=np.int64) for one in resamples)
    count = len(drawn)

    def run(stimuli: NDArray[np.int64], subjects: NDArray[np.int64]) -> tuple[Array, Array]:
        r, ceilings = np.empty((n_models, n_subjects)), np.empty((len(subjects), 2))
        kernels.one_resample(rows, sizes, n_models, kinds[measure], stimuli, subjects, r, ceilings)
        return r, ceilings

    def mean_of(r: Array, subjects: NDArray[np.int64]) -> Array:
        known = np.where(subjects > 0, r, 0.0)  # a subject that was not drawn counts for nothing, even without a value
        return np.asarray(known @ subjects / subjects.sum())

    found = np.empty((3, count, n_models + 2))
    different, place = np.unique(np.vstack([every, drawn]), axis=0, return_inverse=True)
    whole, ceilings = run(np.ones(n, dtype=np.int64), np.ascontiguousarray(different))
    place = place.ravel()
    own = np.array(
        [[*mean_of(whole, subjects), *ceilings[at]] for at, subjects in zip(place, (every, *drawn), strict=True)]
    )
    found[1] = own[1:]

    def block(first: int) -> None:
        for b in range(first, min(first + _CHUNK, count)):
            r, ends = run(stimuli_drawn[b], np.stack([drawn[b], every]))
            found[0, b] = [*mean_of(r, drawn[b]), *ends[0]]
            found[2, b] = [*mean_of(r, every), *ends[1]]

    with ThreadPoolExecutor(workers, thread_name_prefix="resamples") as pool:
        list(pool.map(block, range(0, count, _CHUNK)))
    return Evaluations(own[0], found, n_subjects, n)


def _codes(rows: Array, size: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return whole numbers from 0 in the order of each row's values, and how many different ones each row has."""
    found, sizes = np.empty(rows.shape, dtype=np.int32), np.empty(len(rows), dtype=np.int64)
    for k, row in enumerate(rows):
        values, place = np.unique(row, return_inverse=True)
        group = -(-len(values) // size)
        found[k], sizes[k] = place // group, (len(values) - 1) // group + 1
    return found, sizes


def _check(rsms: NDArray[np.floating], models: NDArray[np.floating], resamples: Resamples) -> None:
    n = rsms.shape[-1]
    shapes = {
        "RSMs": (rsms.shape, (len(rsms), n, n)),
        "models": (models.shape, (len(models), n, n)),
        "resamples of subjects": (resamples.subjects.shape, (len(resamples.stimuli), len(rsms))),
        "resamples of stimuli": (resamples.stimuli.shape, (len(resamples.stimuli), n)),
    }
    wrong = {name: found for name, (found, wanted) in shapes.items() if found != wanted}
    if wrong or n < FEWEST_PAIRED:
        raise SourceError(
            "the arrays of a bootstrap do not fit together",
            wanted=f"matrices of the same {FEWEST_PAIRED} or more stimuli, and one count for each subject and stimulus",
            found=str(wrong or {"stimuli": n}),
        )
    for name, matrices in (("subject", rsms), ("model", models)):
        for k, one in enumerate(matrices):
            if not np.isfinite(pairs(one)).all():
                raise SourceError(
                    f"the matrix of {name} {k} has pairs without a value", wanted="finite values",
                    todo="leave the stimulus or the matrix out",
                )  # fmt: skip
