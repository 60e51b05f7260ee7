"""Whether a fit predicts judgments better than chance."""

from __future__ import annotations

import math

from affectlake.spose.curve import Score
from affectlake.tasks import Task, chance

LEVEL = 0.01
"""Level of the test: the largest probability with which a fit to random judgments is said to have learned something."""


def chance_level(score: Score, n_considered: int = 1, task: Task = "odd-one-out") -> float:
    """Return the p-value of the accuracy of a fit on validation judgments, if all judgments are made at random.

    Judgments made at random are independent of any prediction, so that the number of right predictions is binomial.
    The one-sided exact level is multiplied by the number of embeddings that the same judgments chose from (epochs of
    early stopping, candidate priors; Bonferroni), because the chosen one predicts these judgments best.

    Parameters
    ----------
    score : Score
        On the validation judgments; a fraction of a right prediction, from ties, is rounded down.
    n_considered : int, default=1
        Number of embeddings that the validation judgments chose from.
    task : {"odd-one-out", "anchored"}
        Task of the judgments: guesses are right in 1/3 or in 1/2 of them.
    """
    from scipy.stats import binom  # imported late: slow

    right = math.floor(score.accuracy * score.n + 1e-6)
    return min(1.0, n_considered * float(binom.sf(right - 1, score.n, chance(task))))
