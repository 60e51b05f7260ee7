"""Noise ceiling of choices from repeated answers, and the share of it that a prediction reaches."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.attainable import attainable_accuracy
from affectlake.geometry.estimates import Estimate, left_out
from affectlake.geometry.intervals import half_width


class Ceiling(NamedTuple):
    """Three noise ceilings from repeated answers to the same triplets.

    ``consistency`` is the mean share of a triplet's answers that equal its most frequent one: the ceiling of the paper,
    which no prediction of one answer per triplet can exceed on these answers, and which is too high, because the most
    frequent answer is partly so by luck. ``attainable`` is the expected accuracy, on new answers, of a perfect model of
    the agent, which does not have this bias. ``agreement`` is the probability that two answers to one triplet are the
    same.
    """

    consistency: Estimate
    attainable: Estimate
    agreement: Estimate


def noise_ceiling(answers: NDArray[np.integer], n_resamples: int = 200) -> Ceiling:
    """Return the noise ceilings of an agent that answered each triplet several times.

    consistency = mean over triplets of max_c n_c / R; agreement = mean of Σ_c n_c (n_c − 1) / (R (R − 1)), with n_c
    answers c of R. (Du et al. 2025, 'Predictive power'; the mean choice consistency.) Their intervals are
    normal, over triplets. The attainable accuracy is that of :func:`attainable_accuracy`.

    Parameters
    ----------
    answers : int array (n_triplets, n_answers)
        Number of times that each of three stimuli was the odd one, or each of two was chosen as more like the head;
        triplets with fewer than two answers are not used.
    n_resamples : int, default=200
        Number of draws for the bias and the interval of the attainable accuracy.

    Returns
    -------
    Ceiling
        ``chance`` is the value for an agent without preferences: 1 / n_answers for the agreement and the attainable
        accuracy and, for the consistency, the mean over triplets of E[max] under equal shares (100,000 draws with a
        fixed seed for each R).
    """
    counts = np.asarray(answers, np.int64)
    counts = counts[counts.sum(axis=1) >= 2]
    if len(counts) < 2:
        reason = f"{len(counts)} triplets were answered twice or more; two are needed"
        return Ceiling(*[left_out(reason, len(counts))] * 3)
    repeats = counts.sum(axis=1)
    modal = counts.max(axis=1) / repeats
    same = (counts * (counts - 1)).sum(axis=1) / (repeats * (repeats - 1))
    chance = 1 / counts.shape[1]
    lucky = lucky_consistency(repeats, counts.shape[1])
    attainable = attainable_accuracy(counts, n_resamples)._replace(chance=chance)
    return Ceiling(_mean(modal)._replace(chance=lucky), attainable, _mean(same)._replace(chance=chance))


def lucky_consistency(repeats: NDArray[np.integer], n_answers: int) -> float:
    """Return the mean share of the most frequent answer if answers are guesses, for triplets with `repeats` answers."""
    sizes, times = np.unique(repeats, return_counts=True)
    return float(np.average([_luck(int(size), n_answers) for size in sizes], weights=times))


class ExplainedShares(NamedTuple):
    """The share of explainable variance by each of the two ceilings of an accuracy."""

    consistency: Estimate
    attainable: Estimate


def explained_shares(accuracy: Estimate, ceiling: Ceiling) -> ExplainedShares:
    """Return the share of explainable variance by the paper's ceiling and by the one without its bias.

    A perfect model has a share below 1 by the former and of 1 by the latter. Both are not defined if the answers to one
    triplet agree no more than guesses do, that is, if the interval of the consistency contains its value for guesses:
    the consistency itself is above chance also for an agent that guesses.

    Parameters
    ----------
    accuracy : Estimate
        Proportion of held-out choices that are predicted, with its 95 % interval.
    ceiling : Ceiling
        From :func:`noise_ceiling`.
    """
    found = ceiling.consistency
    if not found.note and not found.ci_low > found.chance:
        reason = (
            f"the answers to one triplet agree no more than guesses do: the mean share of the most frequent answer is "
            f"{found.value:.3f}, that of guesses {found.chance:.3f}"
        )
        return ExplainedShares(left_out(reason, accuracy.n), left_out(reason, accuracy.n))
    chance = ceiling.agreement.chance
    return ExplainedShares(
        explained_share(accuracy, ceiling.consistency, chance), explained_share(accuracy, ceiling.attainable, chance)
    )


def explained_share(accuracy: Estimate, ceiling: Estimate, chance: float = 1 / 3) -> Estimate:
    """Return the share of explainable variance: (accuracy − chance) / (ceiling − chance).

    The interval combines the two half-widths by the delta method, with the errors of accuracy and ceiling taken as
    independent: they rest on different answers, of which those of the ceiling are to a small part of the held-out
    triplets. σ² = (σ_a² + share² σ_c²) / (ceiling − chance)².

    Parameters
    ----------
    accuracy, ceiling : Estimate
        Proportions with their 95 % intervals.
    chance : float, default=1/3
        Accuracy of guesses.

    Returns
    -------
    Estimate
        Not defined if either is not, or if the ceiling is not above chance.
    """
    if accuracy.note or ceiling.note:
        return left_out(accuracy.note or ceiling.note, accuracy.n)
    room = ceiling.value - chance
    if not room > 0:
        return left_out("the noise ceiling is not above chance: the answers to one triplet do not agree", accuracy.n)
    share = (accuracy.value - chance) / room
    half = np.hypot(accuracy.ci_high - accuracy.ci_low, share * (ceiling.ci_high - ceiling.ci_low)) / (2 * room)
    return Estimate(float(share), float(share - half), float(share + half), chance=0.0, n=accuracy.n)


def _mean(shares: NDArray[np.float64]) -> Estimate:
    centre, half = float(shares.mean()), half_width() * float(shares.std(ddof=1)) / len(shares) ** 0.5
    return Estimate(centre, max(0.0, centre - half), min(1.0, centre + half), n=len(shares))


@cache
def _luck(repeats: int, n_answers: int) -> float:
    drawn = np.random.default_rng(repeats).multinomial(repeats, [1 / n_answers] * n_answers, size=100_000)
    return float(drawn.max(axis=1).mean() / repeats)
