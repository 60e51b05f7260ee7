"""The rows of ``metrics`` of one agent, by analysis. An analysis that cannot be done gives a row with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.geometry.ceiling import Ceiling, explained_shares, noise_ceiling
from affectlake.geometry.classification import NearestCentroid, TopAccuracy, nearest_centroid
from affectlake.geometry.correlations import rating_correlations
from affectlake.geometry.estimates import Estimate, left_out
from affectlake.geometry.graph_estimates import DRAWS, graph_estimates
from affectlake.geometry.intervals import wilson_interval
from affectlake.geometry.labels import label_shares
from affectlake.geometry.pairs import matrix_correlation, odd_shares, pair_matrix
from affectlake.geometry.reduction import components_below, necessary_components, saturation, strongest
from affectlake.geometry.reproducibility import mean_reproducibility, reproducibility
from affectlake.judge.vectors.ratings import RatingMatrix, kinds_of, several_tops
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.steps.arrays import Answers, Embedding
from affectlake.pipelines.steps.rows import Row, row
from affectlake.seeds import generator, integer
from affectlake.spose.model import choice_probabilities, score
from affectlake.tasks import ANSWERS, Task, chance
from affectlake.triplets import odd_last

SHARES = (0.95, 0.96, 0.97, 0.98, 0.99)  # of the full accuracy (Du et al. 2025, Fig. 7f)
NO_FIT = "this fit has no dimensions"
NO_RATINGS = "the stimuli have no ratings"
NO_PROTOTYPES = "no ratings of the stimuli are categories, so there are no prototypes"
NO_JUDGMENTS = "the agent has no held-out judgments"
NO_VALIDATION: dict[Task, str] = {
    "odd-one-out": "the agent has no validation choices",
    "anchored": "anchored triplets are not odd-one-out choices of the validation set",
}


@dataclass(frozen=True)
class Evidence:
    """The inputs of one agent's analyses: its choices, its fits, and the stimuli.

    Parameters
    ----------
    task : {'odd-one-out', 'anchored'}
        The task of its judgments.
    held_out : int32 array (m, 3)
        Test judgments of the main set, which no fit has seen, the odd one out last; of anchored triplets, the head, the
        winner and the loser.
    validation : Answers
        Choices of the validation set.
    repeated : int array (n_triplets, n_answers)
        How often each answer was given, to triplets that were asked repeatedly.
    prototypes : int32 array (n_prototypes,)
        The stimuli that are paired in the validation set.
    ratings : RatingMatrix
        All ratings.
    category_family : str
        The family of categories among the ratings; empty if there is none.
    categories : list of str or None
        Category of each stimulus.
    fits : dict
        Embedding by seed.
    notes : mapping of int to str
        Why a fit has no dimensions, by seed.
    """

    agent: str
    params: Params
    task: Task
    held_out: NDArray[np.int32]
    validation: Answers
    repeated: NDArray[np.int64]
    prototypes: NDArray[np.int32]
    ratings: RatingMatrix
    category_family: str
    categories: list[str | None]
    fits: dict[int, Embedding]
    notes: Mapping[int, str] = field(default_factory=dict)

    @cached_property
    def ceiling(self) -> Ceiling:
        """The agent's noise ceilings."""
        return noise_ceiling(self.repeated)

    def generator(self, *names: str | int) -> np.random.Generator:
        """Return the agent's random generator for one analysis."""
        return generator(self.params.seed, *names[:1], self.agent, *names[1:])


def fit_rows(evidence: Evidence, seed: int) -> list[Row]:
    """Return the rows of one fit; if it has no dimension, one row with the reason."""
    if seed not in evidence.fits:
        return [
            {
                "agent": evidence.agent,
                "seed": seed,
                **row("held_out", "accuracy", left_out(evidence.notes.get(seed, NO_FIT))),
            }
        ]
    found = [one for analysis in ANALYSES for one in analysis(evidence, seed)]
    return [{"agent": evidence.agent, "seed": seed, **one} for one in found]


def agent_rows(evidence: Evidence, sweeps: pl.DataFrame) -> list[Row]:
    """Return the rows that do not belong to one fit: the noise ceiling and the saturation points."""
    found = [
        *(row("noise_ceiling", measure, one) for measure, one in evidence.ceiling._asdict().items()),
        *_saturation(evidence, sweeps),
    ]
    return [{"agent": evidence.agent, **one} for one in found]


def _accuracy(evidence: Evidence, weights: Embedding) -> Estimate:
    if not len(evidence.held_out):
        return left_out(NO_JUDGMENTS)
    found = score(weights, evidence.held_out, evidence.task)
    low, high = map(float, wilson_interval(found.accuracy * found.n, found.n))
    return Estimate(found.accuracy, low, high, chance=chance(evidence.task), n=found.n)


def _held_out(evidence: Evidence, seed: int) -> Iterator[Row]:
    weights = evidence.fits[seed]
    accuracy = _accuracy(evidence, weights)
    yield row("held_out", "accuracy", accuracy)
    if not accuracy.note:
        loss = score(weights, evidence.held_out, evidence.task).loss
        of_guesses = float(np.log(ANSWERS[evidence.task]))
        yield row("held_out", "cross_entropy", Estimate(loss, chance=of_guesses, n=accuracy.n))
    shares = explained_shares(accuracy, evidence.ceiling)
    yield row("held_out", "explained_share", shares.consistency)
    yield row("held_out", "attainable_share", shares.attainable)


def _nearest_centroid(evidence: Evidence, seed: int) -> Iterator[Row]:
    found = _classified(evidence, seed, evidence.categories)
    yield row("nearest_centroid", "n_categories", Estimate(float(found.n_categories), n=found.n_stimuli))
    if found.reason:
        yield row("nearest_centroid", "top3_accuracy", left_out(found.reason, found.n_stimuli))
    for one in found.accuracies:
        yield row("nearest_centroid", f"top{one.top}_accuracy", _of_top(one, found.n_stimuli))
    tied = several_tops(evidence.ratings, evidence.category_family)
    yield row("nearest_centroid", "n_tied", Estimate(float(tied.sum()), n=len(tied)))
    if tied.any():
        single = [None if more else name for name, more in zip(evidence.categories, tied, strict=True)]
        found = _classified(evidence, seed, single)
        for one in found.accuracies:
            yield row("nearest_centroid", f"top{one.top}_accuracy_untied", _of_top(one, found.n_stimuli))


def _classified(evidence: Evidence, seed: int, categories: list[str | None]) -> NearestCentroid:
    wanted = evidence.params.geometry
    return nearest_centroid(
        evidence.fits[seed],
        categories,
        evidence.generator("permutations", seed),
        min_category_size=wanted.min_category_size,
        permutations=wanted.permutations,
    )


def _of_top(one: TopAccuracy, n: int) -> Estimate:
    return Estimate(one.accuracy, one.ci_low, one.ci_high, one.chance, one.p_value, n)


def _rating_correlations(evidence: Evidence, seed: int) -> Iterator[Row]:
    ratings = evidence.ratings
    if not ratings.names:
        yield row("rating_correlation", "pearson_r", left_out(NO_RATINGS))
        return
    found = rating_correlations(evidence.fits[seed], ratings.scores)
    constant = np.ptp(evidence.fits[seed], axis=0) == 0
    for (at, column), r in np.ndenumerate(found.r):
        numbers = Estimate(float(r), float(found.ci_low[at, column]), float(found.ci_high[at, column]), n=found.n)
        if np.isnan(r):
            what = f"dimension {at + 1}" if constant[at] else f"the rating {ratings.names[column]}"
            numbers = left_out(f"{what} is the same for every stimulus", found.n)
        keys = {"dimension": at + 1, "rating": ratings.names[column]}
        yield row("rating_correlation", "pearson_r", numbers, **keys)


def _label_shares(evidence: Evidence, seed: int) -> Iterator[Row]:
    ratings, wanted = evidence.ratings, evidence.params.geometry
    if not ratings.names:
        yield row("labels", "interpretable_share", left_out(NO_RATINGS))
        return
    found = label_shares(
        evidence.fits[seed],
        ratings.scores,
        kinds_of(ratings, evidence.category_family),
        evidence.generator("label-shares", seed),
        gap=wanted.label_gap,
        permutations=wanted.permutations,
    )
    for name, one in found._asdict().items():
        yield row("labels", f"{name}_share", one)


def _generalisation(evidence: Evidence, seed: int) -> Iterator[Row]:
    triplets, odd = evidence.validation
    if not len(triplets):
        yield row("generalisation", "rsm_pearson_r", left_out(NO_VALIDATION[evidence.task]))
        return
    if len(evidence.prototypes) < 3:
        yield row("generalisation", "rsm_pearson_r", left_out(NO_PROTOTYPES))
        return
    wanted = evidence.params.geometry
    measured = pair_matrix(triplets, odd_shares(triplets, odd), evidence.prototypes)
    predicted = pair_matrix(triplets, choice_probabilities(evidence.fits[seed], triplets), evidence.prototypes)
    rng = evidence.generator("generalisation", seed)
    found = matrix_correlation(predicted, measured, rng, wanted.resamples, wanted.permutations)
    yield row("generalisation", "rsm_pearson_r", found)


def _reproducibility(evidence: Evidence, seed: int) -> Iterator[Row]:
    yield row("reproducibility", "mean_pearson_r", mean_reproducibility(evidence.fits, seed))
    if len(evidence.fits) > 1:
        found = reproducibility(evidence.fits, seed, evidence.generator("reproducibility", seed))
        for at, one in enumerate(found):
            yield row("reproducibility", "pearson_r", one, dimension=at + 1)


def _graph(evidence: Evidence, seed: int) -> Iterator[Row]:
    wanted = evidence.params.geometry
    found = graph_estimates(
        evidence.fits[seed],
        integer(evidence.params.seed, "louvain", evidence.agent),
        evidence.generator("graph", seed),
        threshold=wanted.edge_threshold,
        absolute=wanted.absolute_edges,
        n_resamples=min(wanted.resamples, DRAWS),
        n_shuffled=min(wanted.permutations, DRAWS),
    )
    for measure, one in found._asdict().items():
        yield row("graph", measure, one)


def _components(evidence: Evidence, seed: int) -> Iterator[Row]:
    weights = evidence.fits[seed]
    if not len(evidence.held_out):
        yield row("components", "n_components", left_out(NO_JUDGMENTS))
    else:
        found = [_accuracy(evidence, one) for one in _reduced(weights)]
        for k, one in enumerate(found, 1):
            yield row("components", "accuracy", one, setting=float(k))
        for share in SHARES:
            needed = necessary_components([one.value for one in found], len(evidence.held_out), share)
            yield row("components", "n_components", needed, setting=share)
    triplets, odd = evidence.validation
    among = np.isin(triplets, evidence.prototypes).all(axis=1)
    if not among.any():
        reason = f"{NO_VALIDATION[evidence.task]} among three prototypes"
        yield row("components", "n_components_of_prototypes", left_out(reason))
        return
    judged = odd_last(triplets[among], odd[among])
    accuracies = [score(one, judged).accuracy for one in _reduced(weights)]
    for share, rule in ((SHARES[0], necessary_components), (SHARES[-1], components_below)):
        yield row("components", "n_components_of_prototypes", rule(accuracies, len(judged), share), setting=share)


def _reduced(weights: Embedding) -> Iterator[Embedding]:
    return (strongest(weights, k) for k in range(1, weights.shape[1] + 1))


ANALYSES: tuple[Callable[[Evidence, int], Iterator[Row]], ...] = (
    _held_out,
    _nearest_centroid,
    _rating_correlations,
    _label_shares,
    _generalisation,
    _reproducibility,
    _graph,
    _components,
)


def _saturation(evidence: Evidence, sweeps: pl.DataFrame) -> Iterator[Row]:
    """Yield the number of dimensions at which accuracy saturates, and of judgments at which dimensions do."""
    for sweep, value in (("dimensions", "test_accuracy"), ("judgments", "n_recovered")):
        rows = sweeps.filter(pl.col("sweep") == sweep).sort("setting", "replicate")
        if not len(rows):
            yield row("saturation", sweep, left_out("no such sweep was run: see `sweeps` in params.yaml"))
            continue
        wide = rows.pivot("replicate", index="setting", values=value).sort("setting")
        values = wide.drop("setting").cast(pl.Float64).to_numpy()
        rng = evidence.generator("saturation", sweep)
        found = saturation(wide["setting"].to_list(), values, rng, evidence.params.sweeps.share)
        yield row("saturation", sweep, found)
