"""Means over triplets with stimuli as random effects: the mixed model of a number that every triplet has.

What the numbers are does not belong here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import AffectlakeError

Array = NDArray[np.float64]

FEWEST_TRIPLETS = 20
"""Smallest number of triplets of a model."""

N_ROUNDS = 6
"""Number of grids, each around the best point of the last, from which the variance ratio is chosen."""

_ROUNDING, _TINY = 1e-9, 1e-300
_GRID = np.concatenate([[-np.inf], np.linspace(np.log(1e-7), np.log(10.0), 48)])


class Means(NamedTuple):
    """Means over triplets with their errors over stimuli: each float64 (n_numbers,).

    Parameters
    ----------
    value : float64 (n_numbers,)
        Mean over the triplets.
    error : float64 (n_numbers,)
        Its standard error; 0 if the number is the same for every triplet.
    df : float64 (n_numbers,)
        Degrees of freedom of Student's t; infinite where the error is 0.
    of_stimuli, of_triplets : float64 (n_numbers,)
        The variances σ_u² of the stimuli's effects and σ_e² of the rest.
    """

    value: Array
    error: Array
    df: Array
    of_stimuli: Array
    of_triplets: Array


class Moments(NamedTuple):
    """What the models of several numbers of the same triplets need: sums in the eigenvectors of the design.

    With Z (n_triplets, n_stimuli), 1 where a stimulus is in a triplet, and Z Zᵀ = Σ s v vᵀ.

    Parameters
    ----------
    n : int
        Number of triplets.
    s : float64 (n_eigenvalues,)
        Eigenvalues above 0.
    ones : float64 (n_eigenvalues,)
        vᵀ1.
    values : float64 (n_eigenvalues, n_numbers)
        vᵀy of each number.
    sums : float64 (n_numbers,)
        1ᵀy.
    products : float64 (n_numbers, n_numbers)
        yᵀy' of each pair of numbers.
    """

    n: int
    s: Array
    ones: Array
    values: Array
    sums: Array
    products: Array


def moments(triplets: NDArray[np.integer], values: NDArray[np.floating]) -> Moments:
    """Return the sums of numbers of triplets from which :func:`stimulus_means` computes.

    Parameters
    ----------
    triplets : int (m, 3)
        The three stimuli of each triplet.
    values : float array (m, n_numbers)
        The numbers of each triplet.

    Raises
    ------
    AffectlakeError
        If the shapes do not match, there are too few triplets, or a value is not finite.
    """
    if triplets.ndim != 2 or triplets.shape[1] != 3 or values.ndim != 2 or len(values) != len(triplets):
        raise AffectlakeError(
            "the numbers are not those of the triplets",
            wanted="triplets (m, 3) and values (m, n)",
            found=f"shapes {triplets.shape} and {values.shape}",
        )
    m = len(triplets)
    if m < FEWEST_TRIPLETS:
        raise AffectlakeError("too few triplets for a model", wanted=f"{FEWEST_TRIPLETS} or more", found=str(m))
    if not np.isfinite(values).all():
        raise AffectlakeError("a number of a triplet is not finite")
    stimuli, rows = np.unique(triplets, return_inverse=True)
    rows, n = rows.reshape(m, 3), len(stimuli)
    together = np.zeros(n * n)
    for a in range(3):
        for b in range(3):
            together += np.bincount(rows[:, a] * n + rows[:, b], minlength=n * n)
    y = np.asarray(values, np.float64)
    sums = np.stack([_by_stimulus(rows, column, n) for column in (np.ones(m), *y.T)], axis=1)  # Zᵀ(1, y)
    s, u = np.linalg.eigh(together.reshape(n, n))
    kept = s > _ROUNDING * s[-1]
    turned = (u[:, kept].T @ sums) / np.sqrt(s[kept])[:, None]
    return Moments(m, s[kept], turned[:, 0], turned[:, 1:], y.sum(axis=0), y.T @ y)


def _by_stimulus(rows: NDArray[np.intp], column: Array, n: int) -> Array:
    return np.asarray(sum(np.bincount(rows[:, at], weights=column, minlength=n) for at in range(3)))


def combined(found: Moments, weights: NDArray[np.floating]) -> Moments:
    """Return the moments of sums of the numbers, such as differences.

    Parameters
    ----------
    found : Moments
    weights : float array (n_sums, n_numbers)
        Each sum is Σ weight x number.
    """
    w = np.asarray(weights, np.float64)
    return found._replace(values=found.values @ w.T, sums=w @ found.sums, products=w @ found.products @ w.T)


def stimulus_means(found: Moments) -> Means:
    """Return the mean of each number over the triplets, and its error if stimuli are random effects.

    Each number has a mixed model of its own,

    y_t = μ + u_i + u_j + u_k + e_t for the triplet t = {i, j, k}, u ~ N(0, σ_u²), e ~ N(0, σ_e²),

    in which a stimulus has one effect in all its triplets (multiple membership: Browne, Goldstein & Rasbash 2001, Stat.
    Modelling 1, 103-124). The variances are those of the highest restricted likelihood, with σ_u² / σ_e² either 0 or
    within 10⁻⁷ and 10. μ is estimated by the mean of all triplets, so that the difference of two means is the mean of
    the differences; its variance is 1ᵀV1 / m² with V = σ_u² Z Zᵀ + σ_e² I, and its degrees of freedom are
    Satterthwaite's (Fai & Cornelius 1996, J. Stat. Comput. Simul. 54, 363-378).

    For the difference of two agents, this is what a model of all agents says in which the effects of a stimulus have
    any variances of agents and any correlations between them, and likewise those of a triplet.

    Parameters
    ----------
    found : Moments
        From :func:`moments` or :func:`combined`.

    Returns
    -------
    Means
    """
    square, mean = np.diag(found.products), found.sums / found.n
    constant = square - found.n * mean**2 <= _ROUNDING * np.maximum(square, _TINY)
    ratio = _ratios(found)
    rest = _quadratics(found, ratio)[1] / (found.n - 1)
    of_stimuli, of_triplets = np.where(constant, 0.0, ratio * rest), np.where(constant, 0.0, rest)
    error = np.sqrt(of_stimuli * (found.s @ found.ones**2) + of_triplets * found.n) / found.n
    df = np.array(
        [
            np.inf if one else _freedom(found, *both)
            for one, *both in zip(constant, of_stimuli, of_triplets, strict=True)
        ]
    )
    return Means(mean, error, df, of_stimuli, of_triplets)


def _ratios(found: Moments) -> Array:
    """Return the ratio σ_u² / σ_e² of each number that has the highest restricted likelihood."""
    n_numbers = found.values.shape[1]
    grid = np.broadcast_to(_GRID[:, None], (len(_GRID), n_numbers))
    step, best = _GRID[2] - _GRID[1], _GRID
    for _ in range(N_ROUNDS):
        losses = np.array([_loss(found, np.exp(point)) for point in grid])
        best = np.take_along_axis(grid, losses.argmin(axis=0)[None], axis=0)[0]
        around = np.minimum(best + step * np.linspace(-1, 1, 9)[:, None], _GRID[-1])
        grid, step = np.vstack([np.full(n_numbers, -np.inf), around]), step / 4
    return np.asarray(np.exp(best))


def _loss(found: Moments, ratio: Array) -> Array:
    """Return -2 times the restricted log-likelihood of each number, without constants."""
    a, q = _quadratics(found, ratio)
    determinant = np.log1p(ratio[:, None] * found.s).sum(axis=1)
    return np.asarray(determinant + np.log(a) + (found.n - 1) * np.log(q))


def _quadratics(found: Moments, ratio: Array) -> tuple[Array, Array]:
    """Return 1ᵀV⁻¹1, and the quadratic form of the residuals, with V = I + ratio Z Zᵀ."""
    less = 1 / (1 + ratio[:, None] * found.s) - 1  # V⁻¹ - I in the eigenvectors
    a = found.n + less @ found.ones**2  # 1 is Z1 / 3, so it has no part outside of the eigenvectors
    b = found.sums + (less * found.ones * found.values.T).sum(axis=1)
    square = np.diag(found.products) + (less * found.values.T**2).sum(axis=1)
    return a, np.maximum(square - b**2 / a, _TINY)


def _freedom(found: Moments, of_stimuli: float, of_triplets: float) -> float:
    """Return 2 f² / (gᵀ C g) with the variance f of a mean, its derivatives g, and the covariance C of the variances.

    C is the inverse of the expected information of the restricted likelihood.
    """
    s, w, h = found.s, found.ones**2, 1 / (of_stimuli * found.s + of_triplets)
    powers = (s, np.ones_like(s))  # eigenvalues of the derivatives of V
    a = float(w @ h)
    first = np.array([w @ (one * h**2) for one in powers])
    second = np.array([[w @ (one * other * h**3) for other in powers] for one in powers])
    trace = np.array([[(one * other) @ h**2 for other in powers] for one in powers])
    trace[1, 1] += (found.n - len(s)) / of_triplets**2
    information = (trace - 2 * second / a + np.outer(first, first) / a**2) / 2
    gradient = np.array([w @ one for one in powers])
    variance = gradient @ (of_stimuli, of_triplets)
    return float(2 * variance**2 / (gradient @ np.linalg.pinv(information, _ROUNDING, hermitian=True) @ gradient))
