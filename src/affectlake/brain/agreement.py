"""Reliability of stimuli without any agent: agreement of one subject's similarities with those of the other subjects.

A stimulus is selected because subjects agree on it, not because an agent predicts it. Under the null hypothesis that
the stimuli's labels do not matter to the brain, the selection is therefore independent of every agent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import SourceError
from affectlake.rsm import pearson

Array = NDArray[np.float64]

_FEWEST = 3  # other stimuli, below which a row of an RSM has no correlation


def agreement(rsms: Sequence[NDArray[np.floating]], stimuli: Sequence[NDArray[np.integer]]) -> list[Array]:
    """Return how well each stimulus's row of a subject's RSM agrees with the mean row of the other subjects.

    The value of stimulus i is Pearson's r, over all other stimuli j, of the subject's similarity of i and j with the
    mean similarity over the other subjects that have both.

    Parameters
    ----------
    rsms : sequence of float (n_s, n_s)
        RSM of each subject over its own stimuli. Rows of NaN are ignored.
    stimuli : sequence of int (n_s,)
        Stimulus of each row of the RSM.

    Returns
    -------
    list of float64 (n_s,)
        One array per subject; NaN for a stimulus that has fewer than three such pairs.

    Raises
    ------
    SourceError
        If there are fewer than two subjects.

    Notes
    -----
    The agreement is the lower bound of the noise ceiling (Nili et al. 2014), computed for one row instead of the whole
    RSM and with Pearson's correlation.
    """
    if len(rsms) < 2:
        raise SourceError("agreement with the other subjects needs at least two subjects", found=f"{len(rsms)}")
    size = 1 + max((int(index.max(initial=-1)) for index in stimuli), default=-1)
    total, count = np.zeros((size, size)), np.zeros((size, size), dtype=np.int32)
    for rsm, index in zip(rsms, stimuli, strict=True):
        at, known = np.ix_(index, index), np.isfinite(rsm)
        total[at] += np.where(known, rsm, 0.0)
        count[at] += known
    return [_of_one(np.asarray(rsm), total[np.ix_(i, i)], count[np.ix_(i, i)])
            for rsm, i in zip(rsms, stimuli, strict=True)]  # fmt: skip


def _of_one(own: NDArray[np.floating], total: Array, count: NDArray[np.int32]) -> Array:
    found, known = np.full(len(own), np.nan), np.isfinite(own)
    others = count - known
    use = known & (others > 0)
    np.fill_diagonal(use, False)
    for i, row in enumerate(use):
        if row.sum() >= _FEWEST:
            found[i] = pearson(own[i, row].astype(np.float64), (total[i, row] - own[i, row]) / others[i, row])
    return found
