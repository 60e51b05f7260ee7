"""Necessary components of an embedding, and saturation of a curve. Scoring choices does not belong here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import AffectlakeError
from affectlake.geometry.estimates import Estimate, left_out, percentile_interval
from affectlake.geometry.intervals import wilson_interval


def strongest(weights: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Return the embedding with only the `k` largest weights of each stimulus; of equal weights the first are kept.

    Parameters
    ----------
    weights : float32 (n_stimuli, d)
    k : int
        0 to d.
    """
    if not 0 <= k <= weights.shape[1]:
        raise AffectlakeError(
            "the embedding does not have this many components", wanted=f"0 to {weights.shape[1]}", found=str(k)
        )
    order = np.argsort(-weights, axis=1, kind="stable")[:, :k]
    reduced = np.zeros_like(weights)
    np.put_along_axis(reduced, order, np.take_along_axis(weights, order, axis=1), axis=1)
    return reduced


def necessary_components(accuracies: Sequence[float], n: int, share: float) -> Estimate:
    """Return the smallest number of components whose accuracy is at least `share` of the full embedding's.

    (Du et al. 2025, Fig. 7f.) The ends of the interval are the numbers for the ends of the accuracies' Wilson
    intervals, with the full accuracy held constant.

    Parameters
    ----------
    accuracies : sequence of float
        Held-out accuracy with 1, 2, … components of each stimulus; the last is that of the full embedding.
    n : int
        Number of triplets scored.
    share : float
        Above 0, at most 1; 0.95 to 0.99 in the paper.
    """
    return _counted(
        accuracies, n, share, lambda reached: int(np.argmax(reached)) + 1 if reached.any() else len(accuracies)
    )


def components_below(accuracies: Sequence[float], n: int, share: float) -> Estimate:
    """Return the largest number of components whose accuracy is below `share` of the full embedding's; at least 1.

    The upper end of the range that the published scripts of Du et al. 2025, Nat. Mach. Intell. 7, 860-875 (Fig. 4h)
    count, with a share of 0.99; the lower end is the smallest number above 0.95 (:func:`necessary_components`). It is
    one less than the smallest number that reaches the share, if the accuracy increases with each component. The ends of
    the interval are computed as in :func:`necessary_components`.

    Parameters
    ----------
    accuracies, n, share
        As in :func:`necessary_components`.
    """
    return _counted(accuracies, n, share, lambda reached: int(max(np.flatnonzero(~reached), default=0)) + 1)


def _counted(accuracies: Sequence[float], n: int, share: float, count: Callable[[NDArray[np.bool_]], int]) -> Estimate:
    """Return the count of where the accuracies, and the ends of their intervals, reach `share` of the last accuracy."""
    if not 0 < share <= 1:
        raise AffectlakeError("the share of accuracy is not a proportion", wanted="0 < share <= 1", found=str(share))
    if not len(accuracies):
        return left_out("the embedding has no dimension", n)
    found = np.asarray(accuracies, np.float64)
    low, high = wilson_interval(found * n, n)
    wanted = share * found[-1]
    value, best, worst = (count(curve >= wanted) for curve in (found, high, low))
    return Estimate(float(value), float(best), float(worst), n=n)


def saturation(settings: Sequence[float], values: NDArray[np.floating], rng: np.random.Generator,
               share: float = 0.99, n_resamples: int = 1000) -> Estimate:  # fmt: skip
    """Return the smallest setting whose mean is at least `share` of the highest mean.

    The interval is a percentile interval over resampled residuals of the replicates, pooled over all settings and
    multiplied by √(k / (k − 1)) for k replicates (Davison & Hinkley 1997, Bootstrap Methods, section 6.2.3). Two or
    three replicates of one setting would be too few to resample alone.

    Parameters
    ----------
    settings : sequence of float (n_settings,)
        In increasing order: numbers of dimensions, or of judgments.
    values : float array (n_settings, n_replicates)
        Values reached; NaN for a replicate that does not exist.
    rng : numpy.random.Generator
        Resamples the residuals for the interval.
    share : float
        Above 0, at most 1.
    n_resamples : int

    Returns
    -------
    Estimate
        Not defined if there are fewer than three settings. If only the largest setting is high enough, the curve has
        not been observed to saturate, and the estimate is not defined, with that reason.
    """
    curve = np.asarray(values, np.float64)
    if len(settings) < 3:
        return left_out(f"{len(settings)} settings were tried; three are needed")
    means = np.nanmean(curve, axis=1)
    at = _from(means, share)
    if at == len(settings) - 1:
        reason = f"still rising at {settings[-1]:,.0f}, the largest that was tried"
        return left_out(reason, len(settings))
    n_replicates = (~np.isnan(curve)).sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        residuals = (curve - means[:, None]) * np.sqrt(n_replicates / (n_replicates - 1))
    pool = residuals[np.isfinite(residuals)]
    draws = []
    for _ in range(n_resamples if len(pool) else 0):
        noise = np.where(np.isnan(curve), np.nan, rng.choice(pool, curve.shape))
        draws.append(settings[_from(means + np.nanmean(noise, axis=1), share)])
    low, high = percentile_interval(np.array(draws, np.float64))
    return Estimate(float(settings[at]), low, high, n=len(settings))


def _from(means: NDArray[np.float64], share: float) -> int:
    return int(np.argmax(means >= share * means.max()))
