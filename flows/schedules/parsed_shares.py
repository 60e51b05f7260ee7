"""Whether fewer answers of a run name a position than of the last runs of the same schedule: arithmetic alone.

Shares vary between runs by more than chance, because servers and samples differ. The rule therefore estimates the
variance from the last runs themselves: on the scale of Anscombe's arcsine, the share of this run is compared with the
lower one-sided prediction limit of Student's t distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RUNS = 5
"""Number of earlier runs that a run is compared with; with fewer, there is no comparison."""

MIN_ANSWERS = 20
"""Number of answers below which a run is not compared, and others are not compared with it."""

LEVEL = 0.01
"""Nominal probability of a false alarm of one run."""

LEAST_DROP = 0.01
"""Smaller drops of the share are not reported, however certain they are."""


class Parsed(NamedTuple):
    """Answers of a run: how many name a position, and how many there are."""

    n_parsed: int
    n_answers: int


class FewerParsed(NamedTuple):
    """A run of which fewer answers were parsed than of the last ones.

    Attributes
    ----------
    share : float
        Share parsed in this run.
    usual : float
        Share parsed in the last runs together.
    limit : float
        Lower prediction limit of the share of this run.
    """

    share: float
    usual: float
    limit: float

    def __str__(self) -> str:
        return f"{self.share:.1%} parsed, {self.usual:.1%} in the last {RUNS} runs (limit {self.limit:.1%})"


def fewer_parsed(now: Parsed, before: Sequence[Parsed]) -> FewerParsed | None:
    """Return how far the share parsed is below that of the last runs; None if it is not, or cannot be compared.

    With ``y = arcsin √((x + 3/8) / (n + 3/4))``, whose sampling variance is about ``v = 1 / (4 n + 2)``, the mean ``m``
    and the variance ``s²`` of the last runs, the limit is ``m − t √(max(s², v̄) / k + max(s² − v̄, 0) + v)``, with
    the quantile ``t`` of Student's distribution with ``k − 1`` degrees of freedom at `LEVEL`.

    Parameters
    ----------
    now : Parsed
        This run.
    before : sequence of Parsed
        Earlier runs, the latest first. The first `RUNS` with at least `MIN_ANSWERS` answers are used.
    """
    from scipy.stats import t

    used = [one for one in before if one.n_answers >= MIN_ANSWERS][:RUNS]
    if len(used) < RUNS or now.n_answers < MIN_ANSWERS:
        return None
    x, n = np.array(used, dtype=np.float64).T
    values = np.arcsin(np.sqrt((x + 3 / 8) / (n + 3 / 4)))
    variance, sampling = float(values.var(ddof=1)), float(np.mean(1 / (4 * n + 2)))
    of_mean = max(variance, sampling) / RUNS
    of_run = max(variance - sampling, 0.0) + 1 / (4 * now.n_answers + 2)
    lowest = float(values.mean()) - float(t.ppf(1 - LEVEL, RUNS - 1)) * (of_mean + of_run) ** 0.5
    found = float(np.arcsin(np.sqrt((now.n_parsed + 3 / 8) / (now.n_answers + 3 / 4))))
    share, usual = now.n_parsed / now.n_answers, float(x.sum() / n.sum())
    if found >= lowest or usual - share < LEAST_DROP:
        return None
    return FewerParsed(share, usual, float(np.sin(max(lowest, 0.0)) ** 2))
