"""Intervals of weights whose width is found on simulated judgments, because those of the posterior are too narrow.

A variational posterior of independent weights is too narrow, and the prior pulls large weights towards zero: its 95 %
intervals hold 30 to 80 % of large planted weights (`docs/validity.md`). Both errors are measured by fitting judgments
of the same triplets that are drawn from known weights:

1. The known weights are those of the fit that are above zero; the others are 0. Judgments of the training triplets are
   drawn from their choice probabilities and fitted with the same settings.
2. The fit to them shows how much the prior shrinks weights of each size. The known weights of the next simulation are
   those of the fit with this shrinkage removed, so that a fit to them has weights of the size found in the real one.
3. In the last two simulations, ``(known weight - mean) / sd`` has quantiles of 2.5 % and 97.5 %, for groups of weights
   by their mean. The interval of a weight of the real fit is its mean plus these quantiles times its sd.

This is a parametric bootstrap whose residuals are studentised (Davison & Hinkley 1997, chapter 2), with an iterated
bias correction. It knows the noise of judgments and the bias of the fit, not errors of the choice model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.spose.data import TrainingData
from affectlake.spose.model import anchored_probabilities, choice_probabilities
from affectlake.spose.vice import posterior as posteriors
from affectlake.spose.vice.fitting import fit_posterior
from affectlake.spose.vice.posterior import Posterior
from affectlake.spose.vice.settings import ViceSettings

N_SIMULATIONS = 3
"""Simulated sets of judgments; the residuals are those of all but the first."""

_SURE = 0.975  # probability above zero from which a weight is simulated as one
_SAME = 0.8  # correlation of a known dimension with its partner in a fit
_GROUPS, _GROUP_SIZE, _FEWEST = 8, 60, 100  # groups of weights, the least size of a group, and of all groups together
_STEEPEST = 3.0  # rise of known weights per unit of estimated weight, beyond the largest known one
_ROWS_OF_ODD = np.array([[1, 2, 0], [0, 2, 1], [0, 1, 2]])

Floats = NDArray[np.float64]


class Calibration(NamedTuple):
    """Quantiles of the standardised errors of simulated fits, by group of weights.

    Attributes
    ----------
    edges : (g - 2,) float64
        Means that separate the groups of weights that are probably above zero.
    low, high : (g,) float64
        Quantiles of 2.5 % and 97.5 %: of weights that are probably zero, then of the others by increasing mean.
    recovered : float
        Share of the known dimensions that the simulated fits recovered.
    """

    edges: Floats
    low: Floats
    high: Floats
    recovered: float

    def intervals(self, posterior: Posterior) -> tuple[posteriors.Floats, posteriors.Floats]:
        """Return the ends of the interval of each weight: two arrays (n_stimuli, d), not below zero."""
        group = _groups(posterior, self.edges)
        ends = (posterior.mean + quantile[group] * posterior.sd for quantile in (self.low, self.high))
        low, high = (np.maximum(end, 0.0).astype(np.float32) for end in ends)
        return low, high


def calibrate(
    posterior: Posterior, data: TrainingData, settings: ViceSettings, rng: np.random.Generator
) -> Calibration | None:
    """Return the calibration of a fit by `N_SIMULATIONS` simulated fits, or None if they do not recover dimensions.

    Parameters
    ----------
    posterior : Posterior
        The kept dimensions of the fit.
    data : TrainingData
        The judgments that were fitted. Their triplets are judged again; probabilities in place of choices are not used.
    settings : ViceSettings
        Those of the fit.
    rng : numpy.random.Generator
        Draws the judgments and the starts of the fits.

    Returns
    -------
    Calibration or None
        None if fewer than half of the known dimensions are recovered (correlation above 0.8, one to one), or fewer than
        100 weights of the recovered ones are above zero.
    """
    known = np.where(posteriors.positive(posterior) > _SURE, posterior.mean, 0.0).astype(np.float32)
    found: list[tuple[Floats, Posterior]] = []
    shares = []
    for _ in range(N_SIMULATIONS):
        simulated = replace(data, train=_judged(known, data, rng), targets=None)
        fitted = fit_posterior(simulated, settings, rng).posterior
        own, others = partners(known, posteriors.weights(fitted))
        shares.append(len(own) / max(known.shape[1], 1))
        if shares[-1] < 0.5:
            return None
        found.append((known[:, own].astype(np.float64), fitted.columns(others)))
        known = _unshrunk(known[:, own], found[-1][1].mean, posterior)
    return _quantiles(found[1:], float(np.mean(shares[1:])))


def _judged(weights: posteriors.Floats, data: TrainingData, rng: np.random.Generator) -> NDArray[np.int32]:
    """Return judgments of the training triplets, drawn from the choice probabilities of `weights`."""
    if data.task == "anchored":
        first = rng.random(len(data.train)) < anchored_probabilities(weights, data.train)[:, 0]
        return np.where(first[:, None], data.train, data.train[:, [0, 2, 1]])
    chances = choice_probabilities(weights, data.train).cumsum(axis=1)
    odd = (rng.random((len(data.train), 1)) > chances[:, :2]).sum(axis=1)
    return np.asarray(np.take_along_axis(data.train, _ROWS_OF_ODD[odd], axis=1))


def partners(known: posteriors.Floats, found: posteriors.Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the dimensions of both that are the same one, one to one by correlation."""
    from scipy.optimize import linear_sum_assignment  # imported late: slow

    own, others = (np.flatnonzero(np.ptp(part, axis=0) > 0) for part in (known, found))
    if not len(own) or not len(others):
        return own[:0], others[:0]
    units = [
        (part - part.mean(axis=0)) / part.std(axis=0)
        for part in (known[:, own].astype(np.float64), found[:, others].astype(np.float64))
    ]
    r = units[0].T @ units[1] / len(known)
    rows, columns = linear_sum_assignment(-r)
    same = r[rows, columns] > _SAME
    return own[rows[same]], others[columns[same]]


def _unshrunk(known: posteriors.Floats, estimated: posteriors.Floats, posterior: Posterior) -> posteriors.Floats:
    """Return the weights above zero of `posterior` with the shrinkage removed that `estimated` has beside `known`."""
    above = known > 0
    x, y = known[above].astype(np.float64), np.maximum(estimated[above], 0.0).astype(np.float64)
    order = np.argsort(x, kind="stable")
    parts = np.array_split(order, max(2, min(10, len(x) // 30)))
    knots = np.concatenate([[0.0], [x[part].mean() for part in parts]])
    rises = np.maximum.accumulate([y[part].mean() for part in parts]) + 1e-6 * np.arange(1, len(parts) + 1)
    shrunk = np.concatenate([[0.0], rises])
    mean = np.where(posteriors.positive(posterior) > _SURE, posterior.mean, 0.0).astype(np.float64)
    steep = min((knots[-1] - knots[-3]) / max(shrunk[-1] - shrunk[-3], 1e-3), _STEEPEST)
    beyond = np.maximum(mean - shrunk[-1], 0.0) * steep
    return np.asarray(np.interp(mean, shrunk, knots) + beyond, dtype=np.float32)


def _groups(posterior: Posterior, edges: Floats) -> NDArray[np.intp]:
    """Return the group of each weight: 0 if it is probably zero, otherwise by its mean."""
    return np.where(posteriors.positive(posterior) > 0.5, np.searchsorted(edges, posterior.mean) + 1, 0)


def _quantiles(found: list[tuple[Floats, Posterior]], recovered: float) -> Calibration | None:
    means = np.concatenate([fitted.mean[posteriors.positive(fitted) > 0.5] for _, fitted in found]).astype(np.float64)
    if len(means) < _FEWEST:
        return None
    n_groups = max(1, min(_GROUPS, len(means) // _GROUP_SIZE))
    edges = np.quantile(means, np.linspace(0.0, 1.0, n_groups + 1)[1:-1])
    errors = np.concatenate([((known - fitted.mean) / fitted.sd).ravel() for known, fitted in found])
    groups = np.concatenate([_groups(fitted, edges).ravel() for _, fitted in found])
    ends = np.array([_ends(errors[groups == group]) for group in range(n_groups + 1)])
    return Calibration(edges, ends[:, 0], ends[:, 1], recovered)


def _ends(errors: Floats) -> Floats:
    """Return the quantiles of 2.5 % and 97.5 %; without errors, those of a normal distribution."""
    return np.quantile(errors, [0.025, 0.975]) if len(errors) else np.array([-1.96, 1.96])
