"""Variances, intervals and tests from a dual bootstrap, for other subjects, other stimuli, or both."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.generalisation.bootstrap import Evaluations

Array = NDArray[np.float64]
Over = Literal["both", "subjects", "stimuli"]
Sides = Literal["greater", "two-sided"]

OVER: tuple[Over, ...] = ("both", "subjects", "stimuli")
"""What estimates can generalise over, in the order of :attr:`Evaluations.resampled`."""

LOWER, UPPER = -2, -1
"""Columns of the noise ceilings."""


class Estimates(NamedTuple):
    """Values with standard deviations, intervals and tests against zero, each float64 (k,); NaN if not defined.

    Parameters
    ----------
    value : float64 (k,)
    sd : float64 (k,)
        Standard deviation of the value over draws of subjects, stimuli, or both.
    low, high : float64 (k,)
        Ends of the confidence interval, by Student's t.
    p : float64 (k,)
        Level of the t-test against zero.
    """

    value: Array
    sd: Array
    low: Array
    high: Array
    p: Array


def corrected_variance(variances: NDArray[np.floating], n_subjects: int, n_stimuli: int) -> Array:
    """Return the variance over draws of subjects and stimuli, from those of three bootstraps.

    With v of the bootstraps of both (b), of subjects (s) and of stimuli (t), m subjects and n stimuli:

    v = m/(m-1) v_s + n/(n-1) v_t - m n / ((m-1)(n-1)) (v_b - v_s - v_t),

    but not below either of the first two terms, and not above v_b. A resample of both has the noise of the
    measurements twice, so that v_b alone is too large.

    Parameters
    ----------
    variances : float (3, …)
        Of both, of subjects, and of stimuli.
    n_subjects, n_stimuli : int
        At least two.

    Notes
    -----
    Schütt et al. 2023, equation of the two-factor bootstrap with correction for small samples.
    """
    both, subjects, stimuli = np.asarray(variances, dtype=np.float64)
    of_subjects, of_stimuli = n_subjects / (n_subjects - 1), n_stimuli / (n_stimuli - 1)
    found = of_subjects * subjects + of_stimuli * stimuli - of_subjects * of_stimuli * (both - subjects - stimuli)
    return np.asarray(np.minimum(np.maximum(found, np.maximum(of_subjects * subjects, of_stimuli * stimuli)), both))


def contrasts(
    found: Evaluations, first: NDArray[np.integer], second: NDArray[np.integer] | None = None, *, over: Over = "both",
    sides: Sides = "two-sided", values: Literal["data", "resamples"] = "data", level: float = 0.95,
) -> Estimates:  # fmt: skip
    """Return values of columns of the evaluations, or their differences, and test them against zero.

    Parameters
    ----------
    found : Evaluations
        From :func:`affectlake.brain.generalisation.bootstrap.dual_bootstrap`.
    first, second : int (k,)
        Columns of `found.values`: models, or :data:`LOWER` and :data:`UPPER`, the ceilings. The value is that of
        `first`, minus that of `second` if it is given.
    over : {'both', 'subjects', 'stimuli'}
        What the interval generalises over. Subjects alone: other subjects with these stimuli. Stimuli alone: these
        subjects with other stimuli.
    sides : {'two-sided', 'greater'}
        Whether p is two-tailed, or for a value above zero.
    values : {'data', 'resamples'}
        The value on the data, or the mean over all resamples of the three bootstraps.
    level : float
        Level of confidence.

    Returns
    -------
    Estimates
        The degrees of freedom are the number of subjects or of stimuli, or the smaller of the two, minus one. NaN
        except for the value where there are fewer than two of them, or fewer than two resamples with values.

    Notes
    -----
    Resamples in which a value is not defined are left out.
    """
    from scipy import stats

    numbers = {"subjects": (found.n_subjects,), "stimuli": (found.n_stimuli,)}
    n = numbers.get(over, (found.n_subjects, found.n_stimuli))
    samples, value = found.resampled[..., first], found.values[first]
    if second is not None:
        samples, value = samples - found.resampled[..., second], value - found.values[second]
    used = samples if over == "both" else samples[[OVER.index(over)]]
    known: NDArray[np.bool_] = np.asarray(np.isfinite(used).all(axis=0))  # (n_resamples, k)
    variance, middle = np.full(len(first), np.nan), value.copy()
    for at in range(len(first)):
        some = used[:, known[:, at], at]
        if some.shape[1] < 2 or min(n) < 2:
            continue
        of_each = some.var(axis=1, ddof=1)
        if over == "both":
            variance[at] = corrected_variance(of_each, *n)
        else:
            variance[at] = n[0] / (n[0] - 1) * of_each[0]
        middle[at] = samples[:, known[:, at], at].mean()
    value = middle if values == "resamples" else value
    sd = np.sqrt(variance)
    t = value / np.sqrt(np.maximum(variance, np.finfo(np.float64).eps))  # of equal models: zero
    freedom = max(min(n) - 1, 1)
    p = stats.t.sf(t, freedom) if sides == "greater" else 2 * stats.t.sf(np.abs(t), freedom)
    half = stats.t.ppf((1 + level) / 2, freedom) * sd
    return Estimates(value, sd, value - half, value + half, np.where(np.isnan(sd), np.nan, p))
