"""Similarity of two embeddings of the same stimuli as wholes, whatever their dimensions are: CKA and Procrustes.

Matches of single dimensions are in `matching`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import AffectlakeError
from affectlake.geometry.estimates import Estimate, left_out, permutation_level
from affectlake.geometry.intervals import half_width

Array = NDArray[np.float64]

FEWEST = 5
"""Smallest number of stimuli: without one of them, four are left, which unbiased HSIC needs."""

N_FOLDS = 10
_ALMOST_ONE = 1 - 1e-9
_ROUNDING = 1e-12
"""Share of the largest possible value below which a sum is a rounding error."""


class Alignment(NamedTuple):
    """Similarities of two embeddings, each an :class:`Estimate`; ``n`` is the number of stimuli."""

    cka: Estimate
    procrustes: Estimate
    procrustes_fitted: Estimate


def alignment(
    one: NDArray[np.floating], other: NDArray[np.floating], rng: np.random.Generator, n_permutations: int = 1000
) -> Alignment:
    """Return how similar two embeddings of the same stimuli are, up to a rotation and a scale.

    **Debiased linear CKA.** With K = X Xᵀ and L = Y Yᵀ of centred embeddings, diagonals set to 0, and n stimuli,

    HSIC(K, L) = (tr K L + 1ᵀK1 1ᵀL1 / ((n - 1)(n - 2)) - 2 / (n - 2) 1ᵀK L1) / (n (n - 3)),

    CKA = HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)) (Kornblith et al. 2019, ICML; unbiased HSIC: Song et al. 2012,
    J. Mach. Learn. Res. 13, 1393-1434). It is 0 on average for independent embeddings, and may be negative. The
    directions with the largest variances count most.

    **Procrustes similarity.** With centred X and Y of Frobenius norm 1, it is max tr(Qᵀ Xᵀ Y) over orthogonal Q, which
    is the sum of the singular values of Xᵀ Y: the correlation of all coordinates after rotation, √(1 - M²) with the
    M² of :func:`scipy.spatial.procrustes` (Schönemann 1966, Psychometrika 31, 1-10). An embedding with fewer dimensions
    has further ones of 0. ``procrustes_fitted`` is this value. Its rotation is fitted to the same stimuli, so that
    it is too high, and above 0 for independent embeddings: ``chance`` is the mean under relabelled stimuli.
    ``procrustes`` is the same with the rotation of each tenth of the stimuli fitted to the others. It is 0 on
    average for independent embeddings, and otherwise too low.

    The intervals are over stimuli, in Fisher's z. That of CKA is the jackknife's, without a stimulus each; in a
    bootstrap, a stimulus would be paired with its own copies. That of ``procrustes`` is conservative: it begins at
    the lower limit of the held-out similarity and ends at the upper limit of the fitted one, each by the delta method
    with its rotations taken as given, because the similarity lies between the means of the two; and it contains 0 if
    p is above 0.05. The p-values are those of the fitted values under relabelled stimuli.

    Parameters
    ----------
    one : float array (n_stimuli, d_one)
    other : float array (n_stimuli, d_other)
        Embedding of the same stimuli; the numbers of dimensions may differ.
    rng : numpy.random.Generator
        Draws folds and relabellings.
    n_permutations : int, default=1000
        Number of relabellings of the stimuli; with 0, there are no p-values.

    Returns
    -------
    Alignment
        Not defined, with the reason, for fewer than five stimuli, or if an embedding has only constant dimensions.

    Raises
    ------
    AffectlakeError
        If the two have different numbers of stimuli, or a value is not finite.
    """
    x, y = _scaled(one, other)
    n = len(x)
    if n < FEWEST:
        return Alignment(*[left_out(f"{n} stimuli are too few: {FEWEST} are needed", n)] * 3)
    if not (x.any() and y.any()):
        return Alignment(*[left_out("an embedding is the same for every stimulus", n)] * 3)
    held_out = _held_out(x, y, rng)
    null = _nulls(x, y, rng, n_permutations)
    fitted = _nuclear(x.T @ y)
    level = permutation_level(fitted, null[:, 1])
    chance = float(null[:, 1].mean()) if n_permutations else float("nan")
    return Alignment(
        _cka_estimate(x, y, null[:, 0]),
        _conservative(x, y, held_out, level),
        Estimate(fitted, chance=chance, p_value=level, n=n),
    )


def _cka_estimate(x: Array, y: Array, null: Array) -> Estimate:
    value, without = _cka(x, y)
    if np.isnan(value):
        return left_out("the unbiased variance of an embedding is not positive", len(x))
    return Estimate(value, *_jackknife(value, without), 0.0, permutation_level(_all_but(x, y)[0], null), len(x))


def _conservative(x: Array, y: Array, held_out: Array, level: float) -> Estimate:
    """Return the similarity of held-out stimuli; `held_out` is the product of both after rotation for each stimulus."""
    fitted = np.einsum("id,ie,de->i", x, y, _rotation(x.T @ y), optimize=True)
    sizes = (x * x).sum(axis=1) + (y * y).sum(axis=1)
    r, low, _ = _delta(held_out, sizes)
    high = _delta(fitted, sizes)[2]
    if level > 0.05:
        low = min(low, 0.0)
    return Estimate(r, low, high, 0.0, level, len(x))


def _delta(products: Array, sizes: Array) -> tuple[float, float, float]:
    """Return a correlation, which is the sum of `products`, and the ends of its interval by the delta method in z."""
    n, r = len(products), float(products.sum())
    if r > _ALMOST_ONE:
        return r, r, r
    influence = n * (products - r * sizes / 2)
    half = half_width() * float(np.sqrt((influence**2).sum() / (n * (n - 1)))) / (1 - r**2)
    return r, float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half))


def _scaled(one: NDArray[np.floating], other: NDArray[np.floating]) -> tuple[Array, Array]:
    """Return both centred and of Frobenius norm 1; 0 if every dimension is constant."""
    if one.ndim != 2 or other.ndim != 2 or len(one) != len(other):
        raise AffectlakeError(
            "the embeddings are not of the same stimuli",
            wanted="two matrices with one row per stimulus",
            found=f"shapes {one.shape} and {other.shape}",
        )
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise AffectlakeError("an embedding has values that are not finite")
    found = []
    for values in (one, other):
        columns = np.asarray(values, np.float64)
        varies = np.ptp(columns, axis=0) > 0 if len(columns) else np.zeros(columns.shape[1], bool)
        centred = np.where(varies, columns - columns.mean(axis=0) if len(columns) else columns, 0.0)
        size = np.linalg.norm(centred)
        found.append(centred / size if size > 0 else centred)
    return found[0], found[1]


def _all_but(x: Array, y: Array) -> tuple[float, Array]:
    """Return unbiased HSIC times n (n - 3), and that without each stimulus, times (n - 1)(n - 4): (n,).

    K and L without their diagonals are never formed: their products with vectors are those of X and Y.
    """
    n = len(x)
    x2, y2 = (x * x).sum(axis=1), (y * y).sum(axis=1)
    k, m = -x2, -y2  # row sums of K and L without diagonals; the columns of X and Y sum to 0
    rows = np.einsum("id,de,ie->i", x, x.T @ y, y, optimize=True) - x2 * y2  # Σ_j K_ij L_ij
    total, sums, products = rows.sum(), (k.sum(), m.sum()), float(k @ m)
    whole = total + sums[0] * sums[1] / ((n - 1) * (n - 2)) - 2 / (n - 2) * products
    # without s: every sum loses the row and the column of s
    of_m, of_k = x @ (x.T @ m) - x2 * m, y @ (y.T @ k) - y2 * k  # K m and L k
    left = products - k * m - of_m - of_k + rows
    one_less = total - 2 * rows + (sums[0] - 2 * k) * (sums[1] - 2 * m) / ((n - 2) * (n - 3)) - 2 / (n - 3) * left
    return float(whole), np.asarray(one_less)


def _cka(x: Array, y: Array) -> tuple[float, Array]:
    """Return CKA, and CKA without each stimulus; NaN where an unbiased variance is not positive."""
    (xy, xy_s), (xx, xx_s), (yy, yy_s) = _all_but(x, y), _all_but(x, x), _all_but(y, y)
    if not min(xx, yy) > _ROUNDING:
        return float("nan"), np.full(len(x), np.nan)
    usable = np.minimum(xx_s, yy_s) > _ROUNDING
    without = np.where(usable, xy_s / np.sqrt(np.where(usable, xx_s * yy_s, 1.0)), np.nan)
    return xy / float(np.sqrt(xx * yy)), without


def _jackknife(whole: float, without: Array) -> tuple[float, float]:
    """Return the interval of a correlation by the jackknife in z; both ends are `whole` if it is 1."""
    from scipy.stats import t  # late: slow

    if np.isnan(without).any():
        return float("nan"), float("nan")
    if whole > _ALMOST_ONE:
        return whole, whole
    n = len(without)
    z = np.arctanh(np.clip(without, -_ALMOST_ONE, _ALMOST_ONE))
    error = np.sqrt((n - 1) / n * ((z - z.mean()) ** 2).sum())
    centre, half = np.arctanh(max(whole, -_ALMOST_ONE)), t.ppf(0.975, n - 1) * error
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))


def _nuclear(cross: Array) -> float:
    return float(np.linalg.svd(cross, compute_uv=False).sum())


def _rotation(cross: Array) -> Array:
    """Return the matrix Q with the largest tr(Qᵀ cross)."""
    left, _, right = np.linalg.svd(cross, full_matrices=False)
    return np.asarray(left @ right)


def _nulls(x: Array, y: Array, rng: np.random.Generator, n_permutations: int) -> Array:
    """Return HSIC as in :func:`_all_but`, and the Procrustes similarity, under relabelled stimuli: (m, 2)."""
    n = len(x)
    x2, y2 = (x * x).sum(axis=1), (y * y).sum(axis=1)
    constant = x2.sum() * y2.sum() / ((n - 1) * (n - 2))
    found = np.empty((n_permutations, 2))
    for one in found:
        order = rng.permutation(n)
        sizes = np.linalg.svd(x.T @ y[order], compute_uv=False)
        one[:] = (sizes**2).sum() + constant - n / (n - 2) * float(x2 @ y2[order]), sizes.sum()
    return found


def _held_out(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Return the product of each stimulus's coordinates under the rotation that is fitted to other folds: (n,)."""
    n = len(x)
    fold = rng.permutation(n) % min(N_FOLDS, n)
    cross, found = x.T @ y, np.empty(n)
    for at in range(fold.max() + 1):
        a, b = x[fold == at], y[fold == at]
        found[fold == at] = np.einsum("id,ie,de->i", a, b, _rotation(cross - a.T @ b), optimize=True)
    return found
