"""Agreement of two agents on the same triplets (Cohen's κ). Agreement of similarity matrices is in `pairs`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import AffectlakeError
from affectlake.geometry.estimates import Estimate, left_out
from affectlake.geometry.intervals import half_width


def cohen_kappa(counts: NDArray[np.integer]) -> Estimate:
    """Return Cohen's κ of two agents with its asymptotic confidence interval.

    κ = (p_o − p_e) / (1 − p_e) with p_o = Σ p_cc and p_e = Σ p_c. p_.c (Cohen 1960, Educ. Psychol. Meas. 20, 37-46);
    the standard error is that of Fleiss, Cohen & Everitt 1969 (Psychol. Bull. 72, 323-327, equation 13), which holds
    for any κ.

    Parameters
    ----------
    counts : int array (n_answers, n_answers)
        Number of trials in which the first agent gave the answer of the row and the second that of the column.

    Returns
    -------
    Estimate
        ``chance`` is 0. Not defined if there are no common trials, or if both always give the same single answer.

    Raises
    ------
    AffectlakeError
        If the table is not square or a count is negative.
    """
    table = np.asarray(counts, np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or np.any(table < 0):
        raise AffectlakeError("the table of answers is not square with counts", found=f"shape {table.shape}")
    n = int(table.sum())
    if n == 0:
        return left_out("the two have no triplet in common")
    p = table / n
    first, second = p.sum(axis=1), p.sum(axis=0)
    observed, expected = float(np.trace(p)), float(first @ second)
    if expected >= 1:
        return left_out("both give one and the same answer to every triplet, so agreement means nothing", n)
    kappa = (observed - expected) / (1 - expected)
    own = first + second  # (n_answers,)
    diagonal = float(np.diag(p) @ (1 - own * (1 - kappa)) ** 2)
    cross = (second[:, None] + first[None, :]) ** 2 * p  # p_.i + p_j. of cell (i, j)
    rest = (1 - kappa) ** 2 * float(cross.sum() - np.trace(cross))
    variance = (diagonal + rest - (kappa - expected * (1 - kappa)) ** 2) / (n * (1 - expected) ** 2)
    half = half_width() * max(variance, 0.0) ** 0.5
    return Estimate(kappa, max(-1.0, kappa - half), min(1.0, kappa + half), chance=0.0, n=n)
