"""The synthetic study: stimuli with planted structure, so that tests can check what is recovered.

All data are drawn from a random generator and are marked as synthetic. They are not about real people.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import UsageError
from affectlake.stimuli.names import CATEGORY, DIMENSION, DIMENSIONS
from affectlake.stimuli.study import CAPTIONS, EXCLUSIONS, Scores, Study, assemble
from affectlake.stimuli.synthetic_words import GRAMMAR, PROFILES

FloatMatrix = NDArray[np.float64]

MIN_STIMULI = 30
N_RATERS = 12
N_CAPTIONS = 5
STRONGEST_BLEND = 0.4
"""Largest share of a neighbouring category in a stimulus."""


class SyntheticWorld(NamedTuple):
    """A synthetic study and its planted structure.

    Attributes
    ----------
    study : Study
        Its tables.
    categories : tuple of str
        The planted categories, lower case; neighbours, and the last and the first, are blended.
    mix : float64 (n_stimuli, n_categories)
        Share of each category in each stimulus; rows sum to 1.
    profiles : float64 (n_categories, 14)
        Scores of each category on the dimensions; ``mix @ profiles`` are the expected ratings.
    """

    study: Study
    categories: tuple[str, ...]
    mix: FloatMatrix
    profiles: FloatMatrix


def make_synthetic(n_stimuli: int, rng: np.random.Generator) -> SyntheticWorld:
    """Generate a study.

    Each stimulus has one of up to 12 categories and up to 40 % of a neighbouring one. Twelve simulated raters name the
    categories that they feel, twelve others rate the 14 dimensions, and five captions are composed of words of the
    categories. The raters choose among the planted categories only.

    Parameters
    ----------
    n_stimuli : int
        Number of stimuli, at least 30. There are 12 categories for 240 stimuli or more, and fewer below.
    rng : numpy.random.Generator

    Returns
    -------
    SyntheticWorld

    Raises
    ------
    UsageError
        If `n_stimuli` is too small for categories of ten stimuli.
    """
    if n_stimuli < MIN_STIMULI:
        raise UsageError(
            "too few stimuli for a synthetic study", found=f"{n_stimuli} stimuli", allowed=f"{MIN_STIMULI} or more"
        )
    n_categories = max(3, min(len(PROFILES), n_stimuli // 20))
    spread = np.arange(n_categories) * len(PROFILES) // n_categories
    names = [list(PROFILES)[at] for at in spread]
    profiles = np.array([PROFILES[name] for name in names])
    mix = _mix(n_stimuli, n_categories, rng)
    planted = tuple(name.lower() for name in names)
    scores = [
        Scores(CATEGORY, planted, _rate_categories(mix, rng)),
        Scores(DIMENSION, DIMENSIONS, _rate_dimensions(mix @ profiles, rng)),
    ]
    ids = [f"synthetic-{number:04d}" for number in range(1, n_stimuli + 1)]
    study = assemble(ids, scores, _captions(mix, names, rng), pl.DataFrame(schema=EXCLUSIONS))
    return SyntheticWorld(study, planted, mix, profiles)


def _mix(n_stimuli: int, n_categories: int, rng: np.random.Generator) -> FloatMatrix:
    main = rng.permutation(n_stimuli) % n_categories  # sizes differ by at most one
    other = (main + rng.choice([-1, 1], size=n_stimuli)) % n_categories
    blend = rng.uniform(0, STRONGEST_BLEND, size=n_stimuli)
    mix = np.zeros((n_stimuli, n_categories))
    rows = np.arange(n_stimuli)
    mix[rows, main] = 1 - blend
    mix[rows, other] += blend
    return mix


def _rate_categories(mix: FloatMatrix, rng: np.random.Generator) -> FloatMatrix:
    """Return the share of raters who felt each category; at least one felt the stimulus's own category."""
    felt = rng.binomial(N_RATERS, 0.02 + 0.9 * mix)
    rows, main = np.arange(len(mix)), mix.argmax(axis=1)
    felt[rows, main] = np.maximum(felt[rows, main], 1)
    return felt / N_RATERS


def _rate_dimensions(truth: FloatMatrix, rng: np.random.Generator) -> FloatMatrix:
    """Return the mean of the raters' integer scores from 1 to 9."""
    truth = truth + rng.normal(0, 0.3, size=truth.shape)
    answers = truth + rng.normal(0, 1.2, size=(N_RATERS, *truth.shape))  # (raters, n_stimuli, 14)
    return np.asarray(np.clip(np.rint(answers), 1, 9).mean(axis=0))


def _captions(mix: FloatMatrix, names: list[str], rng: np.random.Generator) -> pl.DataFrame:
    """Return captions; the category of each is drawn with the stimulus's shares as probabilities."""
    rows = []
    for stimulus_index, share in enumerate(mix):
        for caption_index, category in enumerate(rng.choice(len(names), size=N_CAPTIONS, p=share)):
            who, does, where = (part[rng.integers(len(part))] for part in GRAMMAR[names[category]])
            rows.append((stimulus_index, caption_index, f"In a synthetic clip, {who} {does} {where}."))
    return pl.DataFrame(rows, schema=CAPTIONS, orient="row")
