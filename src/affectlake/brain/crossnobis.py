"""Cross-validated distances of patterns (crossnobis), and the covariance of noise by which voxels are whitened.

The distance of two patterns that were measured with noise is positive even where the patterns are equal. The product of
the differences in two independent measurements has no such bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.repeats import means_of_stimuli
from affectlake.errors import SourceError

Array = NDArray[np.float64]
Shrinkage = Literal["diagonal", "identity", "none"]


class Noise(NamedTuple):
    """Covariance of the noise of voxels.

    Parameters
    ----------
    covariance : float64 (n_voxels, n_voxels)
    shrinkage : float
        Share of the target, from 0 to 1.
    """

    covariance: Array
    shrinkage: float

    @property
    def precision(self) -> Array:
        """Inverse of the covariance."""
        return np.asarray(np.linalg.inv(self.covariance))


def crossnobis(
    presentations: NDArray[np.floating], stimulus: NDArray[np.integer], fold: NDArray[np.integer],
    precision: NDArray[np.floating] | None = None,
) -> Array:  # fmt: skip
    """Return the cross-validated squared Mahalanobis distance of every two stimuli, divided by the number of voxels.

    With the mean pattern a of a stimulus in one fold and b in all other folds, d = (a_i - a_j)ᵀ P (b_i - b_j) / v,
    averaged over folds. Its expected value is zero where two stimuli have the same pattern, so that estimates can be
    below zero.

    Parameters
    ----------
    presentations : float (n_samples, n_voxels)
        One pattern per presentation.
    stimulus : int (n_samples,)
        Stimulus of each presentation, from 0 to n - 1; negative for a presentation that is not used.
    fold : int (n_samples,)
        Fold of each presentation, such as its run. Noise must be independent between folds.
    precision : float (n_voxels, n_voxels), optional
        Inverse covariance of the noise (:attr:`Noise.precision`). Default: the identity, for the squared Euclidean
        distance.

    Returns
    -------
    float64 (n, n)
        Symmetric, with zeros on the diagonal. NaN for a stimulus that is in fewer than two folds. A fold counts for
        those pairs of stimuli that are both in it and in other folds.

    Raises
    ------
    SourceError
        If there are fewer than two folds, or sizes do not match.

    Notes
    -----
    Walther et al. 2016, 'Reliability of dissimilarity measures for multi-voxel pattern analysis'; equal to rsatoolbox's
    ``calc_rdm_crossnobis`` where every stimulus is in every fold.

    The expected value is zero only if the precision is independent of the noise of the presentations. It is not if it
    comes from their own :func:`residuals`: use :func:`affectlake.brain.crossfitted.crossfitted_distances`.
    """
    used = np.asarray(stimulus) >= 0
    x, which, folds = np.asarray(presentations, dtype=np.float64)[used], stimulus[used], fold[used]
    _check(presentations, stimulus, fold, precision, folds)
    n = int(which.max()) + 1
    total, count = summed_distances(fold_means(x, which, folds), n, precision)
    with np.errstate(invalid="ignore"):
        found = np.where(count > 0, total / count, np.nan) / x.shape[1]
    np.fill_diagonal(found, np.where(np.diag(count) > 0, 0.0, np.nan))
    return np.asarray(found)


class FoldMeans(NamedTuple):
    """Mean patterns of those stimuli that are both in one fold and in others.

    Parameters
    ----------
    stimulus : int (n_both,)
    inside, outside : float64 (n_both, n_voxels)
        Means over the presentations in the fold, and in all other folds.
    """

    stimulus: NDArray[np.integer]
    inside: Array
    outside: Array


def fold_means(x: Array, stimulus: NDArray[np.integer], fold: NDArray[np.integer]) -> list[FoldMeans]:
    """Return the mean patterns of each fold, of presentations (n_samples, n_voxels) that are all used."""
    found = []
    for one in np.unique(fold):
        inside = fold == one
        both = np.intersect1d(stimulus[inside], stimulus[~inside])
        means = []
        for part in (inside, ~inside):
            rows = part & np.isin(stimulus, both)
            means.append(means_of_stimuli(x[rows], np.searchsorted(both, stimulus[rows]), len(both))[0])
        found.append(FoldMeans(both, means[0], means[1]))
    return found


def summed_distances(
    means: Sequence[FoldMeans], n: int, precision: NDArray[np.floating] | None = None,
    kept: NDArray[np.bool_] | None = None,
) -> tuple[Array, NDArray[np.int64]]:  # fmt: skip
    """Return the sums of cross-validated distances over folds, not divided by the number of voxels, and their counts.

    Parameters
    ----------
    means : sequence of FoldMeans
    n : int
        Number of stimuli.
    precision : float (n_voxels, n_voxels) or (n_voxels,), optional
        Inverse covariance of the noise, or the inverse variances of voxels whose noise is independent. Default: the
        identity.
    kept : bool (n,), optional
        Stimuli whose distances are computed; those of others have a count of 0. Default: all.

    Returns
    -------
    tuple of (float64 (n, n), int64 (n, n))
    """
    total, count = np.zeros((n, n)), np.zeros((n, n), dtype=np.int64)
    for stimulus, inside, outside in means:
        rows = slice(None) if kept is None else kept[stimulus]
        own, a, b = stimulus[rows], inside[rows], outside[rows]
        if precision is not None:
            a = a @ precision if precision.ndim == 2 else a * precision
        kernel = a @ b.T
        diagonal = np.diag(kernel)
        at = np.ix_(own, own)
        total[at] += diagonal[:, None] + diagonal[None, :] - (kernel + kernel.T)
        count[at] += 1
    return total, count


def residuals(presentations: NDArray[np.floating], stimulus: NDArray[np.integer]) -> tuple[Array, int]:
    """Return presentations minus the mean of their stimulus, and their degrees of freedom.

    Parameters
    ----------
    presentations : float (n_samples, n_voxels)
    stimulus : int (n_samples,)
        From 0 to n - 1; negative for a presentation that is not used. Stimuli that were presented once have no
        residuals and are left out.

    Raises
    ------
    SourceError
        If no stimulus was presented repeatedly.
    """
    used = np.asarray(stimulus) >= 0
    counts = np.bincount(stimulus[used], minlength=1)
    used &= counts[np.where(used, stimulus, 0)] > 1
    if not used.any():
        raise SourceError("noise cannot be estimated", wanted="stimuli that were presented repeatedly", found="none")
    _, which = np.unique(stimulus[used], return_inverse=True)
    x = np.asarray(presentations, dtype=np.float64)[used]
    means, _ = means_of_stimuli(x, which, int(which.max()) + 1)
    return x - means[which], len(x) - len(means)


def noise_covariance(
    residuals: NDArray[np.floating], freedom: int | None = None, shrinkage: Shrinkage = "diagonal"
) -> Noise:
    """Return the covariance of residuals, shrunk towards its diagonal or towards a multiple of the identity.

    Parameters
    ----------
    residuals : float (n_samples, n_voxels)
        Their mean is subtracted.
    freedom : int, optional
        Degrees of freedom of the residuals. Default: n_samples - 1.
    shrinkage : {'diagonal', 'identity', 'none'}
        Target. How far it is approached follows from the residuals.

    Returns
    -------
    Noise
        The covariance. Without shrinkage it cannot be inverted if there are more voxels than degrees of freedom.

    Raises
    ------
    SourceError
        If a voxel is constant or not finite, or there is no degree of freedom.

    Notes
    -----
    Identity: Ledoit & Wolf 2004, 'A well-conditioned estimator for large-dimensional covariance matrices'. Diagonal:
    Schäfer & Strimmer 2005, 'A shrinkage approach to large-scale covariance matrix estimation'.
    """
    x = np.asarray(residuals, dtype=np.float64)
    x = x - x.mean(axis=0)
    n = len(x)
    nu = n - 1 if freedom is None else freedom
    if nu < 1 or not np.isfinite(x).all() or (x.var(axis=0) == 0).any():
        raise SourceError(
            "the noise of voxels has no covariance", wanted="finite residuals that vary in every voxel",
            found=f"{n:,} samples with {nu} degrees of freedom", todo="leave out voxels that are not usable",
        )  # fmt: skip
    if shrinkage == "none":
        return Noise(x.T @ x / nu, 0.0)
    if shrinkage == "identity":
        from sklearn.covariance import ledoit_wolf  # late: it takes longer to import than an up-to-date run to look

        shrunk, share = ledoit_wolf(x, assume_centered=True)
        return Noise(np.asarray(shrunk) * n / nu, float(share))
    product, squares = x.T @ x, (x**2).T @ x**2
    s = product / nu
    scale = np.sqrt(np.outer(np.diag(s), np.diag(s)))
    r, second = product / scale / (n - 1), squares / scale**2 / (n - 1)
    apart = ~np.eye(len(s), dtype=bool)
    spread, size = (n / nu**2 * (second - r**2))[apart].sum(), (r[apart] ** 2).sum()
    share = float(np.clip(spread / size, 0.0, 1.0)) if size > 0 else 1.0
    return Noise(np.where(apart, (1 - share) * s, s), share)


def _check(
    presentations: NDArray[np.floating], stimulus: NDArray[np.integer], fold: NDArray[np.integer],
    precision: NDArray[np.floating] | None, folds: NDArray[np.integer],
) -> None:  # fmt: skip
    n, v = presentations.shape
    square = (v, v) if precision is None else precision.shape
    if len(stimulus) != n or len(fold) != n or square != (v, v):
        raise SourceError(
            "the arrays of a cross-validated distance do not fit together",
            wanted=f"{n:,} stimuli and folds, and a precision of {v:,} × {v:,}",
            found=f"{len(stimulus):,} stimuli, {len(fold):,} folds, a precision of {' × '.join(map(str, square))}",
        )
    n_folds = len(np.unique(folds))
    if n_folds < 2:
        raise SourceError(
            "cross-validated distances need repeated presentations",
            wanted="at least two folds",
            found=f"{n_folds}",
            todo="use correlations of mean patterns",
        )
