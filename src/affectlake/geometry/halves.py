"""Agreement of two similarity matrices without the noise of their trials: halves are compared with halves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import AffectlakeError
from affectlake.geometry.estimates import Estimate, left_out, percentile_interval, resampled_counts
from affectlake.geometry.pairs import pair_matrix, weighted_r

LARGEST_STIMULUS = 2**21  # three indices fit in 63 bits
MAX_SPLITS = 64  # one bit of a 64-bit hash for each


class Halves(NamedTuple):
    """The similarity matrices of an agent's two halves in each split of the trials.

    ``matrices`` (n_splits, 2, n, n) contains NaN for a pair without trials in a half. The splits are those of the
    triplets themselves: a triplet is in the same half for every agent.
    """

    matrices: NDArray[np.float64]


def split_halves(
    triplets: NDArray[np.int32], p_odd: NDArray[np.floating], items: NDArray[np.integer], seed: int, n_splits: int = 20
) -> Halves:
    """Return the matrices of the two halves of the trials in several random splits.

    Parameters
    ----------
    triplets : int32 (m, 3)
        Stimulus indices in any order. All trials with one triplet are in one half.
    p_odd, items
        As in :func:`affectlake.geometry.pairs.pair_matrix`.
    seed : int
        Seed of the splits, one and the same for the agents that are compared, from 0 to 2⁶⁴ - 1.
    n_splits : int, default=20
        Number of splits, 1 to 64.

    Raises
    ------
    AffectlakeError
        If there are too many splits, or a stimulus index is too large.
    """
    if not 1 <= n_splits <= MAX_SPLITS:
        raise AffectlakeError("invalid number of splits", wanted=f"1 to {MAX_SPLITS}", found=str(n_splits))
    bits = _hash(triplets, seed)
    found = np.empty((n_splits, 2, len(items), len(items)))
    for split in range(n_splits):
        first = (bits >> np.uint64(split)) & np.uint64(1) == 1
        for half, part in enumerate((first, ~first)):
            found[split, half] = pair_matrix(triplets[part], p_odd[part], items)
    return Halves(found)


def halves_correlation(one: Halves, other: Halves, rng: np.random.Generator, n_resamples: int = 1000) -> Estimate:
    """Return the correlation that two agents' matrices would have without the noise of their trials.

    For agents m and h and the halves 1 and 2 of the triplets, ρ̃ = (ρ(m₁, h₂) + ρ(m₂, h₁)) / (2 √(ρ(m₁, m₂) ρ(h₁, h₂))),
    with each correlation averaged over the splits. All four correlations are of matrices from half the trials, and of
    different triplets, so that a common sample of triplets does not make the agents more similar than their own halves
    are. Two agents with the same preferences have an expected value of 1 for any numbers of trials. (The attenuation of
    correlations: Spearman 1904, Am. J. Psychol. 15, 72-101; with halves in the numerator: Rajalingham et al. 2018,
    J. Neurosci. 38, 7255-7269.)

    The interval is a percentile interval over resamples of the stimuli, each with its own resample of the splits. A
    pair is weighted by the product of the counts of its two stimuli, and a stimulus is never paired with its own copy.

    Parameters
    ----------
    one, other : Halves
        From :func:`split_halves` with the same seed, stimuli and number of splits.
    rng : numpy.random.Generator
    n_resamples : int, default=1000
        With 0, there is no interval.

    Returns
    -------
    Estimate
        ``n`` is the median number of pairs that are defined in both halves of both agents. Not defined, with the
        reason, if there are fewer than three of these pairs, or if a mean correlation of halves is not positive.

    Raises
    ------
    AffectlakeError
        If the two differ in shape.
    """
    if one.matrices.shape != other.matrices.shape:
        raise AffectlakeError(
            "the halves of the two agents differ in shape", found=f"{one.matrices.shape} and {other.matrices.shape}"
        )
    n_splits, _, n, _ = one.matrices.shape
    counts = resampled_counts(n, n_resamples, rng)
    whole = np.empty((n_splits, 3))  # between the agents, within the one, within the other
    drawn = np.empty((n_splits, 3, n_resamples))
    sizes = []
    for split in range(n_splits):
        (m1, m2), (h1, h2) = one.matrices[split], other.matrices[split]
        a, b = np.nonzero(np.triu(~np.isnan(m1 + m2 + h1 + h2), 1))
        sizes.append(len(a))
        if len(a) < 3:
            return left_out(f"{len(a)} pairs of stimuli were judged in both halves of both, three are needed", len(a))
        weights = np.vstack([np.ones(len(a)), counts[:, a] * counts[:, b]])
        across = weighted_r(m1[a, b], h2[a, b], weights) + weighted_r(m2[a, b], h1[a, b], weights)
        every = np.stack(
            [across / 2, weighted_r(m1[a, b], m2[a, b], weights), weighted_r(h1[a, b], h2[a, b], weights)]
        )  # (3, 1 + n_resamples)
        whole[split], drawn[split] = every[:, 0], every[:, 1:]
    size = int(np.median(sizes))
    means = whole.mean(axis=0)
    if np.isnan(means).any():
        return left_out("every pair of stimuli is equally similar in a half of the trials", size)
    if not means[1:].min() > 0:
        return left_out(f"the mean correlation of halves is {means[1:].min():.3g}; it must be above 0", size)
    chosen = rng.integers(0, n_splits, (n_resamples, n_splits))
    rows = np.arange(n_resamples)[:, None]
    between, within_one, within_other = (drawn[chosen, at, rows].mean(axis=1) for at in range(3))
    product = within_one * within_other
    usable = (within_one > 0) & (within_other > 0)
    ratios = np.where(usable, between / np.sqrt(np.where(usable, product, 1.0)), np.nan)
    return Estimate(float(means[0] / np.sqrt(means[1] * means[2])), *percentile_interval(ratios), n=size)


def _hash(triplets: NDArray[np.int32], seed: int) -> NDArray[np.uint64]:
    """Return 64 random bits for each unordered triplet (SplitMix64; Steele, Lea & Flood 2014, OOPSLA)."""
    if triplets.size and int(triplets.max()) >= LARGEST_STIMULUS:
        raise AffectlakeError(
            "a stimulus index is too large to split the trials", wanted=f"below {LARGEST_STIMULUS:,}",
            found=f"{int(triplets.max()):,}",
        )  # fmt: skip
    low, middle, high = np.sort(triplets, axis=1).astype(np.uint64).reshape(-1, 3).T
    key = (low << np.uint64(42)) | (middle << np.uint64(21)) | high
    with np.errstate(over="ignore"):
        for start in (np.uint64(seed), np.uint64(0)):
            key = (key ^ start) + np.uint64(0x9E3779B97F4A7C15)
            key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            key = key ^ (key >> np.uint64(31))
    return np.asarray(key, np.uint64)
