"""Attention of participants: do their answers follow an embedding of the others', and do they change the position?

Arrays in, arrays out. The embeddings are fitted elsewhere, to answers of other participants.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

STEPS = 50
"""Probabilities are rounded to multiples of 1/50 in the test, so that its distribution is exact."""

_SHARES = np.linspace(0.0, 1.0, 1001)
_LOG_LIKELIHOOD_DROP = 1.920729  # half of the 95 % quantile of chi-squared with one degree of freedom

Floats = NDArray[np.float64]


class Followed(NamedTuple):
    """How far answers follow given probabilities.

    Attributes
    ----------
    share : float
        Maximum-likelihood estimate of the share w of answers that follow them; all others are by chance (lapses).
    low, high : float
        Its 95 % interval, from the likelihood ratio.
    p_value : float
        Probability that answers by chance alone agree as much with the probabilities.
    """

    share: float
    low: float
    high: float
    p_value: float


def followed(probabilities: NDArray[np.floating], answers: NDArray[np.integer]) -> Followed:
    r"""Compare a participant's answers with the probabilities of a model that was fitted without them.

    An answer c to a triplet is taken to have the probability :math:`w q_c + (1 - w) / K`: with probability w it follows
    the model, otherwise it is one of K answers by chance (a lapse; Wichmann & Hill 2001, Percept. Psychophys. 63,
    1293-1313). The test of w = 0 has the statistic :math:`\sum q_c`: the score test, which is the locally most powerful
    one (Cox & Hinkley 1974, *Theoretical Statistics*, section 4.8). Its distribution is exact: that of a sum of
    independent values, each of the q of a triplet with probability 1 / K. It holds for whoever does not look at the
    stimuli, also if they always choose one position, provided that positions are assigned at random.

    Parameters
    ----------
    probabilities : float array (m, K)
        Probabilities of the answers by the model, m at least 1; rows sum to 1.
    answers : int array (m,)
        The answers, 0 to K - 1.

    Returns
    -------
    Followed
        A small p-value means attention. A large one does not mean that there is none: see :func:`recognised`.
    """
    m, n_answers = probabilities.shape
    chosen = probabilities[np.arange(m), answers].astype(np.float64)
    likelihood = np.zeros(len(_SHARES))
    for start in range(0, m, 10_000):
        some = chosen[start : start + 10_000, None]
        with np.errstate(divide="ignore"):
            likelihood += np.log(_SHARES * some + (1 - _SHARES) / n_answers).sum(axis=0)
    best = int(likelihood.argmax())
    inside = _SHARES[likelihood >= likelihood[best] - _LOG_LIKELIHOOD_DROP]
    scores = _scores(probabilities)
    null = _distribution(scores, np.full(scores.shape, 1 / n_answers))
    at = int(scores[np.arange(m), answers].sum())
    p_value = min(1.0, float(null[at:].sum()))
    return Followed(float(_SHARES[best]), float(inside[0]), float(inside[-1]), p_value)


def recognised(probabilities: NDArray[np.floating], share: float, level: float) -> float:
    """Return the power of the test of :func:`followed`: how often it recognises a participant with the same trials.

    Parameters
    ----------
    probabilities : float array (m, K)
        As there.
    share : float
        Share of the participant's answers that follow the model, from 0 to 1.
    level : float
        Largest p-value that counts, from 0 to 1.

    Returns
    -------
    float
        The exact probability of a p-value of at most `level`.
    """
    scores = _scores(probabilities)
    by_chance = np.full(scores.shape, 1 / scores.shape[1])
    above = _distribution(scores, by_chance)[::-1].cumsum()[::-1]
    counts = above <= level
    alternative = _distribution(scores, share * probabilities + (1 - share) * by_chance)
    return float(min(1.0, alternative[: len(counts)][counts[: len(alternative)]].sum()))


def longest_run(positions: NDArray[np.integer], groups: NDArray[np.integer]) -> int:
    """Return the largest number of successive answers on the same position, within a group.

    Parameters
    ----------
    positions : int array (m,)
        Positions of the answers in the order given.
    groups : int array (m,)
        The session of each answer; answers of a session are adjacent.
    """
    if not len(positions):
        return 0
    ends = np.flatnonzero((np.diff(positions) != 0) | (np.diff(groups) != 0))
    return int(np.diff(np.concatenate([[-1], ends, [len(positions) - 1]])).max())


def run_p_value(length: int, sizes: NDArray[np.integer], n_positions: int = 3) -> float:
    """Return the probability of a run of at least this length if each answer falls on each position equally often.

    Exact, for independent answers (Feller 1968, *An Introduction to Probability Theory*, vol. 1, section XIII.7): a run
    of L answers is one of L - 1 answers that repeat the position before, each with probability 1 / `n_positions`.

    Parameters
    ----------
    length : int
        Length of the run, at least 1.
    sizes : int array (n_groups,)
        Number of answers of each session.
    n_positions : int, default=3
        Number of positions.
    """
    if length <= 1:
        return 1.0
    return 1.0 - float(np.prod([_without_run(int(n) - 1, length - 1, 1 / n_positions) for n in sizes]))


def _without_run(n: int, length: int, p: float) -> float:
    """Return the probability that n Bernoulli trials have no run of `length` successes."""
    if n < length:
        return 1.0
    none = np.ones(n + 1)  # none[k]: the first k trials have no such run
    whole = p**length
    none[length] = 1 - whole
    for k in range(length + 1, n + 1):
        none[k] = none[k - 1] - none[k - length - 1] * (1 - p) * whole
    return float(none[n])


def _scores(probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    return np.rint(np.asarray(probabilities, np.float64) * STEPS).astype(np.int64)


def _distribution(scores: NDArray[np.int64], probabilities: Floats) -> Floats:
    """Return the distribution of a sum of independent scores, one of each row: (sum of maxima + 1,)."""
    from scipy.fft import irfft, next_fast_len, rfft  # imported late: slow

    m = len(scores)
    found = np.zeros((m, STEPS + 1))
    np.add.at(found, (np.arange(m)[:, None], scores), probabilities)
    while len(found) > 1:
        if len(found) % 2:
            one = np.zeros((1, found.shape[1]))
            one[0, 0] = 1.0
            found = np.concatenate([found, one])
        size = 2 * found.shape[1] - 1
        fast = next_fast_len(size, real=True)
        of = rfft(found, fast, axis=1)
        found = np.clip(irfft(of[::2] * of[1::2], fast, axis=1)[:, :size], 0.0, None)
    return np.asarray(found[0], np.float64)
