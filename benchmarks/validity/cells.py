"""Cells of the tables of simulated studies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.intervals import wilson_interval


def share(hits: NDArray[np.bool_] | list[bool]) -> str:
    """Return a share in per cent with its 95 % Wilson interval; a dash without a study."""
    if not len(hits):
        return "–"
    low, high = map(float, wilson_interval(int(np.sum(hits)), len(hits)))
    return f"{np.mean(hits):.1%} ({low:.1%} to {high:.1%})"


def mean_share(shares: list[float]) -> str:
    """Return the mean over studies of a share within a study, in per cent, with its 95 % interval over studies."""
    found = np.array([one for one in shares if not np.isnan(one)])
    if len(found) < 2:
        return "–"
    half = 1.96 * found.std(ddof=1) / len(found) ** 0.5
    return f"{found.mean():.1%} ± {100 * half:.1f}"
