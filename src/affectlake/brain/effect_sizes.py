"""Effect sizes and Bayes factors of paired t-tests across subjects.

Arrays in, arrays out. NaN is a value that is not defined. Both take the t statistic and the number of subjects, so that
they are about the same hypothesis as the t-test: they take the stimuli as fixed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affectlake.errors import AffectlakeError

Array = NDArray[np.float64]

SCALE = float(np.sqrt(0.5))
"""Scale of the Cauchy prior of the standardised effect: the default of Rouder et al., of JASP and of pingouin."""

_STEP = 0.05  # of the trapezoid rule, in the logarithm of the integration variable
_LARGE = 30.0  # |t| beyond which SciPy's quantile of the noncentral t is imprecise
_HALVINGS = 40
_LOG_MAX = float(np.log(np.finfo(np.float64).max))


class EffectSizes(NamedTuple):
    """Standardised mean differences of paired tests and their confidence intervals.

    Parameters
    ----------
    d : float64, any shape
        Cohen's d_z: mean of the differences divided by their standard deviation, t / √n.
    g : float64, same shape
        Hedges' g: d without its bias, d Γ(ν/2) / (√(ν/2) Γ((ν − 1)/2)) with ν = n − 1; with five subjects 0.798 d. NaN
        for two subjects, where no unbiased estimate exists.
    low, high : float64, same shape
        Ends of the interval of the population's mean difference divided by its standard deviation.
    """

    d: Array
    g: Array
    low: Array
    high: Array


def effect_sizes(t: ArrayLike, n: ArrayLike, level: float = 0.95) -> EffectSizes:
    """Return the standardised mean differences of paired (or one-sample) t-tests, with exact intervals.

    The ends of the interval are δ / √n of the noncentral t-distributions with n − 1 degrees of freedom and
    noncentrality δ of which the observed t is the upper and the lower (1 − level)/2 quantile (Steiger & Fouladi 1997;
    Cumming & Finch 2001). It contains 0 if and only if the two-tailed t-test gives p > 1 − `level`. It is exact if the
    differences are normal.

    Parameters
    ----------
    t : array_like of float, any shape
        t statistics; NaN gives NaN.
    n : array_like of int, broadcast against `t`
        Numbers of subjects; fewer than 2 give NaN.
    level : float, default=0.95
        Confidence level, between 0 and 1.

    Returns
    -------
    EffectSizes
        Of the broadcast shape. The ends are precise to four digits after the point, or five significant digits.

    Raises
    ------
    AffectlakeError
        If the level is not between 0 and 1.

    Notes
    -----
    Hedges 1981, 'Distribution theory for Glass's estimator of effect size', for the factor of g; with it, the mean of g
    over many studies is the population's value.
    """
    from scipy import special  # late: slow to import

    if not 0 < level < 1:
        raise AffectlakeError("the confidence level is not a proportion", wanted="0 < level < 1", found=str(level))
    value, count = _tests(t, n)
    df, root = count - 1, np.sqrt(count)
    with np.errstate(invalid="ignore"):
        factor = np.exp(special.gammaln(df / 2) - special.gammaln((df - 1) / 2)) / np.sqrt(df / 2)
    d = value / root
    ends = [_noncentrality(value, df, share) / root for share in ((1 + level) / 2, (1 - level) / 2)]
    return EffectSizes(d, np.where(count > 2, d * factor, np.nan), *ends)


def _noncentrality(t: Array, df: Array, share: float) -> Array:
    """Return the noncentrality δ at which a share of the noncentral t-distribution is at most t."""
    from scipy import special

    # computed for |t|: P(T(δ) ≤ t) = 1 - P(T(-δ) ≤ -t)
    size, shares = np.abs(t), np.where(t < 0, 1 - share, share)
    found = np.array(special.nctdtrinc(df, shares, np.minimum(size, _LARGE)))
    for at in np.flatnonzero(size > _LARGE):
        found.flat[at] = _large_noncentrality(float(size.flat[at]), float(df.flat[at]), float(shares.flat[at]))
    return np.asarray(np.where(t < 0, -found, found))


def _large_noncentrality(t: float, df: float, share: float) -> float:
    """Return the same for a large t, for which SciPy's function loses its precision.

    T ≤ t if χ² / df, of the denominator, is at least ((z + δ) / t)²: the mean of this probability over the normal z.
    """
    from scipy import special

    z = np.arange(-8.0, 8.0, 0.05)
    weights = np.exp(-(z**2) / 2)
    weights /= weights.sum()
    middle = float(t * np.sqrt(special.chdtri(df, share) / df))  # without z
    low, high = middle - 8.0, middle + 8.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        reached = float(weights @ special.chdtrc(df, df * (np.maximum(z + middle, 0.0) / t) ** 2))
        low, high = (middle, high) if reached > share else (low, middle)
    return (low + high) / 2


def bayes_factors(t: ArrayLike, n: ArrayLike, scale: float = SCALE) -> Array:
    """Return the JZS Bayes factors BF₁₀ of paired (or one-sample) t-tests.

    The standardised effect is 0 under H₀ and has a Cauchy distribution of scale r around 0 under H₁; the variance has
    Jeffreys' prior under both. With ν = n − 1,

        BF₁₀ = ∫₀^∞ (1 + n g r²)^(−½) (1 + t² / ((1 + n g r²) ν))^(−(ν + 1)/2) p(g) dg / (1 + t²/ν)^(−(ν + 1)/2),

    where p(g) = (2π)^(−½) g^(−3/2) e^(−1/(2g)) (Rouder, Speckman, Sun, Morey & Iverson 2009, equation 1).

    Parameters
    ----------
    t : array_like of float, any shape
        t statistics; NaN gives NaN. The sign does not matter.
    n : array_like of int, broadcast against `t`
        Numbers of subjects; fewer than 2 give NaN.
    scale : float, default=√½
        Scale r of the Cauchy prior, above 0.

    Returns
    -------
    float64 of the broadcast shape
        How much more likely the data are under H₁ than under H₀: above 1 for an effect, below 1 for none. Never
        infinite: at most the largest number of this type.

    Raises
    ------
    AffectlakeError
        If the scale is not above 0.

    Notes
    -----
    With g = 1/z², z has a standard normal distribution, and with z = eˣ the integrand is smooth and vanishes
    exponentially at both ends: the trapezoid rule then has the precision of the arithmetic. Sums are of logarithms.
    """
    if not scale > 0:
        raise AffectlakeError("the scale of a Cauchy prior must be above 0", found=str(scale))
    value, count = _tests(t, n)
    found = np.full(value.shape, np.nan)
    known = ~np.isnan(value)
    for size in np.unique(count[known]).tolist():
        own = known & (count == size)
        found[own] = np.exp(np.minimum(_log_bayes_factors(value[own], size, scale), _LOG_MAX))
    return found


def _log_bayes_factors(t: Array, n: float, scale: float) -> Array:
    """Return the natural logarithms of the Bayes factors of tests (m,) with the same number of subjects."""
    df, spread = n - 1, n * scale**2
    step = min(_STEP, 0.5 / np.sqrt(n))
    lowest = min(0.0, 0.5 * np.log(spread)) - np.log1p(np.abs(t).max()) - 22
    x = np.arange(lowest, np.log(40.0), step)  # (k,) the logarithm of z; e^(-44) and e^(-800) at the ends
    square = np.exp(2 * x)
    prior = 0.5 * np.log(2 / np.pi) - square / 2 + x  # of x
    log_ratio = np.log(square) - np.log(square + spread)  # log 1 / (1 + n g r²)
    found = np.empty(len(t))
    for at, own in enumerate(t.tolist()):
        against = np.log1p(own**2 / df * np.exp(log_ratio)) - np.log1p(own**2 / df)
        terms = prior + 0.5 * log_ratio - (df + 1) / 2 * against
        top = terms.max()
        found[at] = top + np.log(np.exp(terms - top).sum() * step)
    return found


def _tests(t: ArrayLike, n: ArrayLike) -> tuple[Array, Array]:
    """Return t and n, broadcast; both NaN where there is no test."""
    value, count = np.broadcast_arrays(np.asarray(t, np.float64), np.asarray(n, np.float64))
    tested = np.isfinite(value) & (count >= 2)
    return np.where(tested, value, np.nan), np.where(tested, count, np.nan)
