"""What all methods estimate: the score of all bands, of each alone, and what each adds to the others."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Name = Literal["all", "alone", "unique"]


class Quantity(NamedTuple):
    """A quantity and the band that it is about; for `all`, the band is ``all``."""

    name: Name
    band: str


class Scores(NamedTuple):
    """Scores, and how each stimulus influences them.

    Parameters
    ----------
    value : float64 (n_scores,)
    influence : float64 (n_scores, n_stimuli)
        For the jackknife: the variance of a value is n / (n - 1) times the sum of the squares.
    """

    value: Array
    influence: Array


def quantities_of(models: list[tuple[str, ...]]) -> tuple[list[Quantity], Array]:
    """Return the quantities, and their coefficients (n_quantities, n_models) for the scores of models.

    Parameters
    ----------
    models : list of tuple of str
        Every combination of the bands, the empty one first and all bands last, as in
        :class:`~affectlake.brain.encoding.bands.BandedEncoding`.

    Returns
    -------
    list of Quantity
        ``all``: the score of all bands; ``alone``: that of one band; both less that of no band, which is not 0 if there
        are nuisance features. ``unique``: the score of all bands less that of all others.
    """
    every, at = models[-1], {frozenset(model): n for n, model in enumerate(models)}
    empty, whole = at[frozenset[str]()], at[frozenset(every)]
    plus_minus = [(Quantity("all", "all"), whole, empty)]
    plus_minus += [(Quantity("alone", band), at[frozenset({band})], empty) for band in every]
    plus_minus += [(Quantity("unique", band), whole, at[frozenset(every) - {band}]) for band in every]
    coefficients = np.zeros((len(plus_minus), len(models)))
    for row, (_, plus, minus) in zip(coefficients, plus_minus, strict=True):
        row[plus] += 1.0
        row[minus] -= 1.0
    return [quantity for quantity, _, _ in plus_minus], coefficients
