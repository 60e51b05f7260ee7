"""Scalings of rating scores before their cosine similarities, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.judge.agents import Scaling

FloatMatrix = NDArray[np.float64]


class Scale(NamedTuple):
    """Smallest and largest possible score of a family of ratings, and the neutral one if it is declared."""

    low: float
    high: float
    neutral: float | None = None

    @property
    def middle(self) -> float:
        """The neutral score; the middle of the scale if none is declared."""
        return (self.low + self.high) / 2 if self.neutral is None else self.neutral


def raw(scores: FloatMatrix, scale: Scale) -> FloatMatrix:  # noqa: ARG001
    """Return the scores as they are.

    Parameters
    ----------
    scores : float64 (n_stimuli, n_ratings)
    scale : Scale
        Not used.
    """
    return scores


def midpoint(scores: FloatMatrix, scale: Scale) -> FloatMatrix:
    """Return the scores minus the neutral one, or the middle of their scale, so that the neutral score is 0.

    Parameters
    ----------
    scores : float64 (n_stimuli, n_ratings)
    scale : Scale
    """
    return np.asarray(scores - scale.middle)


def minmax(scores: FloatMatrix, scale: Scale) -> FloatMatrix:  # noqa: ARG001
    """Return each rating from -1 for its smallest score to 1 for its largest; 0 if it is the same for every stimulus.

    Parameters
    ----------
    scores : float64 (n_stimuli, n_ratings)
    scale : Scale
        Not used: the ends are those of the scores.
    """
    low, high = scores.min(axis=0), scores.max(axis=0)
    spread = np.where(high > low, high - low, 1.0)
    return np.asarray(np.where(high > low, 2 * (scores - low) / spread - 1, 0.0))


def zscore(scores: FloatMatrix, scale: Scale) -> FloatMatrix:  # noqa: ARG001
    """Return each rating with mean 0 and standard deviation 1 over the stimuli; 0 if it is the same for every one.

    Parameters
    ----------
    scores : float64 (n_stimuli, n_ratings)
    scale : Scale
        Not used.
    """
    varies = scores.max(axis=0) > scores.min(axis=0)
    spread = np.where(varies, scores.std(axis=0), 1.0)
    return np.asarray(np.where(varies, (scores - scores.mean(axis=0)) / spread, 0.0))


def centred(scores: FloatMatrix, scale: Scale) -> FloatMatrix:  # noqa: ARG001
    """Return each rating minus its mean over the stimuli.

    Parameters
    ----------
    scores : float64 (n_stimuli, n_ratings)
    scale : Scale
        Not used.
    """
    return np.asarray(scores - scores.mean(axis=0))


SCALINGS: dict[Scaling, Callable[[FloatMatrix, Scale], FloatMatrix]] = {
    "raw": raw,
    "midpoint": midpoint,
    "minmax": minmax,
    "zscore": zscore,
    "centred": centred,
}
