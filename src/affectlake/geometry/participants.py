"""Agreement of participants' answers to the same triplets: with themselves, and with one another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.ceiling import lucky_consistency
from affectlake.geometry.estimates import Estimate, left_out

MIN_WITHIN, MIN_BETWEEN = 2, 4
MIN_ANSWERS = 2

Counts = NDArray[np.int64]


class Agreements(NamedTuple):
    """Pairs of answers to the same triplet, and how many of them are the same answer.

    Attributes
    ----------
    own_pairs, own_same : int64 (n_participants,)
        Pairs of answers of the participant.
    other_pairs, other_same : int64 (n_participants,)
        Pairs of one answer of the participant and one of another participant.
    within : Estimate
        Share of the pairs of answers of one participant that are the same, over participants.
    between : Estimate
        Share of the pairs of answers of two participants that are the same.
    """

    own_pairs: Counts
    own_same: Counts
    other_pairs: Counts
    other_same: Counts
    within: Estimate
    between: Estimate


def participant_agreements(
    question: NDArray[np.integer],
    answer: NDArray[np.integer],
    participant: NDArray[np.integer],
    n_participants: int,
    n_answers: int = 3,
) -> Agreements:
    r"""Count the pairs of answers to the same triplet that agree, and estimate both rates.

    A rate is :math:`\theta = \sum s / \sum n`, with s of n pairs the same. Its standard error is that of participants
    drawn at random. Within participants, with :math:`e_p = s_p - \theta n_p`,
    :math:`V = \frac{P}{P - 1} \sum_p e_p^2 / (\sum_p n_p)^2`. Between them, pairs of participants (p, q) that share a
    member are dependent, with :math:`e_{pq} = s_{pq} - \theta n_{pq}`,
    :math:`V = f [\sum_p (\sum_q e_{pq})^2 - \sum_{p<q} e_{pq}^2] / (\sum_{p<q} n_{pq})^2`
    (Aronow, Samii & Assenova 2015, Political Analysis 23, 564-577, doi 10.1093/pan/mpv018), where
    :math:`f = \frac{P (P - 1)}{(P - 2)(P - 3)}` removes the bias of few participants if
    :math:`e_{pq} = g_p + g_q`. A bootstrap of participants would count the independent part of a pair's error three
    times (Owen 2007, Ann. Appl. Stat. 1, 386-411). The intervals are those of Student's t with P - 1 degrees of
    freedom, P being the number of participants with such pairs.

    Parameters
    ----------
    question : int array (m,)
        What was asked, as a number: the triplet, or the triplet and its head.
    answer : int array (m,)
        The answer: a number below `n_answers`, such as which member of the triplet was the odd one.
    participant : int array (m,)
        The participant, from 0.
    n_participants : int
        Number of participants.
    n_answers : int, default=3
        Number of possible answers.

    Returns
    -------
    Agreements
        Without such pairs, a rate is missing, with a note. An interval is missing if fewer than two participants have
        pairs of their own answers, or fewer than four have pairs with others.
    """
    from scipy.sparse import csr_array, triu  # imported late: slow

    asked = np.unique(question, return_inverse=True)[1].astype(np.int64)
    n_asked = int(asked.max()) + 1 if len(asked) else 0
    ones = np.ones(len(asked), dtype=np.int64)

    def counted(row: NDArray[np.int64], n_rows: int) -> csr_array:
        return csr_array((ones, (row, participant.astype(np.int64))), shape=(max(n_rows, 1), n_participants))

    answered = counted(asked, n_asked)  # (n_asked, n_participants)
    chosen = counted(asked * n_answers + answer, n_answers * n_asked)
    own_pairs, own_same = (_own(one, n_participants) for one in (answered, chosen))
    pairs, same = (triu(one.T @ one, k=1).tocsr() for one in (answered, chosen))  # of participants p < q
    other_pairs, other_same = (np.asarray(one.sum(axis=0) + one.sum(axis=1)).ravel() for one in (pairs, same))
    return Agreements(
        own_pairs,
        own_same,
        other_pairs,
        other_same,
        _within(own_pairs, own_same, 1 / n_answers),
        _between(pairs, same, 1 / n_answers),
    )


def _own(counts: object, n_participants: int) -> Counts:
    """Return the number of pairs within each cell, summed over rows, for each participant."""
    from scipy.sparse import csr_array

    assert isinstance(counts, csr_array)
    counts.sum_duplicates()
    weights = counts.data * (counts.data - 1) // 2
    return np.bincount(counts.indices, weights, minlength=n_participants).astype(np.int64)


def _within(pairs: Counts, same: Counts, chance: float) -> Estimate:
    has = pairs > 0
    n, total = int(has.sum()), int(pairs.sum())
    if not total:
        return left_out("no participant answered a triplet twice")
    rate = float(same.sum() / total)
    if n < MIN_WITHIN:
        return Estimate(rate, chance=chance, n=n)
    errors = same[has] - rate * pairs[has]
    return _estimate(rate, n / (n - 1) * float((errors**2).sum()) / total**2, n, chance)


def _between(pairs: object, same: object, chance: float) -> Estimate:
    from scipy.sparse import csr_array

    assert isinstance(pairs, csr_array)
    assert isinstance(same, csr_array)
    total = int(pairs.sum())
    if not total:
        return left_out("no triplet was answered by two participants")
    rate = float(same.sum() / total)
    involved = int((np.asarray(pairs.sum(axis=0) + pairs.sum(axis=1)).ravel() > 0).sum())
    if involved < MIN_BETWEEN:
        return Estimate(rate, chance=chance, n=involved)
    errors = (same - rate * pairs).tocsr()
    each = np.asarray(errors.sum(axis=0) + errors.sum(axis=1)).ravel()
    alone = float((errors.data**2).sum())
    spread = max(float((each**2).sum()) - alone, alone)
    few = involved * (involved - 1) / ((involved - 2) * (involved - 3))
    return _estimate(rate, few * spread / total**2, involved, chance)


def _estimate(rate: float, variance: float, n: int, chance: float) -> Estimate:
    from scipy.special import stdtrit  # imported late: slow

    half = float(stdtrit(n - 1, 0.975)) * variance**0.5
    return Estimate(rate, max(0.0, rate - half), min(1.0, rate + half), chance=chance, n=n)


def participant_consistency(
    question: NDArray[np.integer],
    answer: NDArray[np.integer],
    participant: NDArray[np.integer],
    n_participants: int,
    n_answers: int = 3,
) -> Estimate:
    r"""Return the mean share of a triplet's answers that equal its most frequent one, over participants.

    The value is the ``consistency`` of :func:`affectlake.geometry.ceiling.noise_ceiling`, whose interval is over
    triplets. Here the triplets are given and participants are drawn: with :math:`\theta_{(p)}` the value without
    participant p, :math:`V = \frac{P - 1}{P} \sum_p (\theta_{(p)} - \bar\theta)^2` (jackknife; Efron & Stein 1981, Ann.
    Stat. 9, 586-596, who show that it is not too small on average), and Student's t with P - 1 degrees of freedom. A
    bootstrap of participants counts the answers of a participant who is drawn twice as two equal answers, so that its
    values are too high (`docs/validity.md`).

    Parameters
    ----------
    question, answer, participant, n_participants, n_answers
        As for :func:`participant_agreements`.

    Returns
    -------
    Estimate
        ``n`` is the number of participants with answers to triplets that have several; ``chance`` is the value for
        guesses. Missing, with a note, without such triplets; the interval is missing for fewer than four participants.
    """
    asked = np.unique(question, return_inverse=True)[1].astype(np.int64)
    n_asked = int(asked.max()) + 1 if len(asked) else 0
    counts = np.zeros((n_asked, n_answers), np.int64)
    np.add.at(counts, (asked, answer), 1)
    repeats = counts.sum(axis=1)
    several = repeats >= MIN_ANSWERS
    if not several.any():
        return left_out("no triplet was answered twice")
    shares = np.where(several, counts.max(axis=1, initial=0) / np.maximum(repeats, 1), 0.0)
    value = float(shares.sum() / several.sum())
    chance = lucky_consistency(repeats[several], n_answers)
    pairs, at = np.unique(asked * n_participants + participant.astype(np.int64), return_inverse=True)
    own = np.zeros((len(pairs), n_answers), np.int64)
    np.add.at(own, (at, answer), 1)
    of, who = pairs // n_participants, pairs % n_participants
    rest = counts[of] - own
    left = rest.sum(axis=1)
    keeps = left >= MIN_ANSWERS
    change = np.where(keeps, rest.max(axis=1) / np.maximum(left, 1), 0.0) - shares[of]
    changed = shares.sum() + np.bincount(who, change, minlength=n_participants)
    n_kept = several.sum() - np.bincount(who, several[of] & ~keeps, minlength=n_participants)
    involved = np.bincount(who, several[of], minlength=n_participants) > 0
    n = int(involved.sum())
    if n < MIN_BETWEEN or not (n_kept[involved] > 0).all():
        return Estimate(value, chance=chance, n=n)
    without = changed[involved] / n_kept[involved]
    return _estimate(value, (n - 1) / n * float(((without - without.mean()) ** 2).sum()), n, chance)
