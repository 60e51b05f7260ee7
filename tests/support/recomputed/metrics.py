"""The rows of `metrics`, by analysis."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import permutations

import numpy as np
import polars as pl
from scipy import stats
from scipy.spatial.distance import cdist

from tests.support.recomputed.arithmetic import (
    DRAWS,
    best,
    correlations,
    matrix_correlation,
    measured,
    odd_probabilities,
    own_rng,
    pairs_of,
    scored,
    wilson,
)
from tests.support.recomputed.cells import Cells, Level, Mean, Near, Rows, between, estimate, impossible
from tests.support.recomputed.structure import graph, label_shares
from tests.support.recomputed.world import TRIPLET, Array, Ints, World

SHARES = (0.95, 0.96, 0.97, 0.98, 0.99)
N_SHUFFLES = 100
"""The product's number of shuffles for the reproducibility of a dimension."""


def metrics(world: World) -> Rows:
    """Yield the rows of `metrics`."""
    for agent in world.agents:
        for analysis, rows in (("noise_ceiling", ceilings(world, agent)), ("saturation", saturations(world, agent))):
            yield from (((agent, None, analysis, *key), row) for key, row in rows)
        for seed in world.params.fit_seeds:
            if not world.weights(agent, seed).shape[1]:
                note = world.of("fits", agent=agent, seed=seed)["note"].item()
                yield (agent, seed, "held_out", "accuracy", None, None, None), estimate(None, 0, note=note)
                continue
            for analysis, compute in ANALYSES.items():
                yield from (((agent, seed, analysis, *key), row) for key, row in compute(world, agent, seed))


def ceilings(world: World, agent: str) -> Rows:
    """Yield the noise ceilings, from the counts of repeated answers."""
    rows = world.of("choices", agent=agent, trial_set="noise_ceiling")
    odd = [(pl.col("odd") == pl.col(name)).sum().alias(f"n_{name}") for name in TRIPLET]
    counts = rows.group_by(TRIPLET).agg(odd).sort(TRIPLET).select("n_i", "n_j", "n_k").to_numpy().astype(np.int64)
    counts = counts[counts.sum(axis=1) >= 2]
    n, repeats = len(counts), counts.sum(axis=1)
    modal, same = counts.max(axis=1) / repeats, stats.hypergeom.pmf(2, repeats[:, None], counts, 2).sum(axis=1)
    luck = {size: _expected_maximum(size) / size for size in set(repeats.tolist())}
    lucky = float(np.mean([luck[size] for size in repeats.tolist()]))  # the product's is a mean of 100,000 draws
    yield ("consistency", None, None, None), estimate(float(modal.mean()), n, _normal(modal), Near(lucky, 1.5e-3))
    yield ("agreement", None, None, None), estimate(float(same.mean()), n, _normal(same), 1 / 3)
    yield ("attainable", None, None, None), _attainable(counts[repeats >= 10])


def _normal(shares: Array) -> tuple[float, float]:
    half = stats.norm.ppf(0.975) * stats.sem(shares)
    return max(0.0, float(shares.mean() - half)), min(1.0, float(shares.mean() + half))


def _expected_maximum(repeats: int) -> float:
    every = np.array([(a, b, repeats - a - b) for a in range(repeats + 1) for b in range(repeats + 1 - a)])
    return float(stats.multinomial.pmf(every, repeats, [1 / 3] * 3) @ every.max(axis=1))


def _attainable(counts: Ints) -> Cells:
    """Return E[max p] under the most likely distribution of probabilities p (EM on a grid), minus its bias."""
    grid = np.array([(a, b, 60 - a - b) for a in range(61) for b in range(61 - a) if a >= b >= 60 - a - b]) / 60
    patterns, times = np.unique(np.sort(counts, axis=1), axis=0, return_counts=True)
    likelihood = np.array([
        np.sum([stats.multinomial.pmf(order, sum(order), grid) for order in set(permutations(row))], axis=0)
        for row in patterns.tolist()
    ])  # fmt: skip

    def distribution(shares: Array) -> Array:
        weights = np.full(len(grid), 1 / len(grid))
        for _ in range(500):
            weights = weights * (likelihood.T @ (shares / (likelihood @ weights)))
        return weights

    top, n, draws = grid.max(axis=1), len(counts), 40
    weights = distribution(times / n)
    fitted = likelihood @ weights
    drawn = own_rng("attainable", n).multinomial(n, fitted / fitted.sum(), draws)
    again = np.array([distribution(row / n) @ top for row in drawn])
    bias = float(again.mean() - weights @ top)
    corrected = []
    for row, found in zip(drawn[:20], again, strict=False):  # each draw, corrected by draws of its own
        shares = likelihood @ distribution(row / n)
        own = own_rng("attainable", n, int(row @ row)).multinomial(n, shares / shares.sum(), 6)
        corrected.append(2 * found - np.mean([distribution(one / n) @ top for one in own]))
    spread = float(np.std(corrected, ddof=1))
    half, value = float(stats.norm.ppf(0.975)) * spread + abs(bias), float(weights @ top) - bias
    off = 1e-5 + 6 * spread / math.sqrt(draws)
    low, middle, high = (
        Near(min(max(one, 1 / 3), 1.0), off + more)
        for one, more in ((value - half, spread), (value, 0.0), (value + half, spread))
    )
    return estimate(middle, n, (low, high), 1 / 3)


def saturations(world: World, agent: str) -> Rows:
    """Yield the settings from which the sweeps no longer improve."""
    for sweep, column in (("dimensions", "test_accuracy"), ("judgments", "n_recovered")):
        rows = world.of("sweeps", agent=agent, sweep=sweep)
        settings = sorted(rows["setting"].unique().to_list())
        values = [rows.filter(setting=setting)[column].to_numpy().astype(float) for setting in settings]
        yield (sweep, None, None, None), _saturation(settings, values, world.params.sweeps.share, own_rng(agent, sweep))


def _saturation(settings: list[float], values: list[Array], share: float, rng: np.random.Generator) -> Cells:
    def first(means: list[float]) -> float:
        return next(setting for setting, mean in zip(settings, means, strict=True) if mean >= share * max(means))

    if len(settings) < 3:
        return impossible(f"{len(settings)} settings were tried" if settings else "no such sweep was run")
    value = first([float(own.mean()) for own in values])
    if value == settings[-1]:
        return impossible(f"still rising at {settings[-1]:,.0f}", len(settings))
    pool = [(one - own.mean()) * math.sqrt(len(own) / (len(own) - 1)) for own in values if len(own) > 1 for one in own]
    if not pool:
        return estimate(value, len(settings))
    draws = np.array(
        [first([float(own.mean() + rng.choice(pool, len(own)).mean()) for own in values]) for _ in range(1000)]
    )
    return estimate(value, len(settings), between(draws, 1000))


def held_out(world: World, agent: str, seed: int) -> Rows:
    """Yield accuracy, loss and explained shares on the test triplets of the main set."""
    weights, answers = world.weights(agent, seed), world.answers(agent, "main", "test")
    found, n = scored(weights, answers), len(answers)
    yield ("accuracy", None, None, None), _accuracy(weights, answers)
    yield ("cross_entropy", None, None, None), estimate(Near(found.loss, 2e-6), n, chance=math.log(3))
    ceilings = {row["measure"]: row for row in world.of("metrics", agent=agent, analysis="noise_ceiling").to_dicts()}
    for measure, name in (("explained_share", "consistency"), ("attainable_share", "attainable")):
        key = (measure, None, None, None)
        if ceilings["consistency"]["ci_low"] <= ceilings["consistency"]["chance"]:
            yield key, impossible("agree no more than guesses do", n)
            continue
        ceiling, (low, high) = ceilings[name], wilson(found.accuracy * n, n)
        room = ceiling["value"] - 1 / 3
        share, off = (found.accuracy - 1 / 3) / room, 1e-9 + 4 * found.slack / room
        half = math.hypot(high - low, share * (ceiling["ci_high"] - ceiling["ci_low"])) / (2 * room)
        yield key, estimate(Near(share, off), n, (Near(share - half, off), Near(share + half, off)), 0.0)


def _accuracy(weights: Array, answers: Ints) -> Cells:
    found, n = scored(weights, answers), len(answers)
    off = 1e-9 + 2 * found.slack
    ends = [Near(end, off) for end in wilson(found.accuracy * n, n)]
    return estimate(Near(found.accuracy, off), n, ends, 1 / 3)


def nearest_centroid(world: World, agent: str, seed: int) -> Rows:
    """Yield the accuracies of the nearest centroid, with and without stimuli whose highest categories are tied."""
    weights, geometry = world.weights(agent, seed), world.params.geometry
    tied = np.array([row.max() > 0 and (row == row.max()).sum() > 1 for row in world.ratings.of("category")])
    yield ("n_tied", None, None, None), estimate(float(tied.sum()), world.n_stimuli)
    names = world.tables["stimuli"].sort("stimulus_index")["category"].to_list()
    untied = [None if more else name for name, more in zip(names, tied, strict=True)]
    for suffix, own in (("", names), *([("_untied", untied)] if tied.any() else [])):
        sizes = Counter(name for name in own if name is not None)
        large = sorted(name for name, size in sizes.items() if size >= geometry.min_category_size)
        rows = np.flatnonzero([name in large for name in own])
        if not suffix:
            yield ("n_categories", None, None, None), estimate(float(len(large)), len(rows))
        if len(large) < 2:
            if not suffix:
                yield ("top3_accuracy", None, None, None), impossible("two are needed", len(rows))
            continue
        labels = np.array([large.index(own[row]) for row in rows])
        hits, rng = _hits(weights[rows], labels), own_rng("centroid", agent, seed)
        null = np.array([_hits(weights[rows], rng.permutation(labels)) for _ in range(DRAWS)]) / len(rows)
        for top in range(1, min(3, len(large) - 1) + 1):
            share, drawn, m = hits[top - 1] / len(rows), null[:, top - 1], geometry.permutations
            ends = _of_dependent(hits[top - 1], len(rows), drawn, m)
            row = estimate(share, len(rows), ends, Mean(drawn, m), Level(share, drawn, m))
            yield (f"top{top}_accuracy{suffix}", None, None, None), row


def _of_dependent(hits: int, n: int, null: Array, permutations: int) -> tuple[Near, Near]:
    """Return the Wilson interval of fewer stimuli, by the excess of the variance under the null hypothesis."""
    chance = null.mean()
    ratio = null.var() / (chance * (1 - chance) / n) if 0 < chance < 1 else 1.0
    error = 6 * math.sqrt(2 / permutations + 2 / len(null))  # six standard errors of the logarithm of the ratio
    most, least = max(1.0, ratio * math.exp(error)), max(1.0, ratio * math.exp(-error))
    both = zip(wilson(hits / most, n / most), wilson(hits / least, n / least), strict=True)
    low, high = (Near((a + b) / 2, abs(a - b) / 2 + 1e-9) for a, b in both)
    return low, high


def _hits(points: Array, labels: Ints) -> list[int]:
    """Return how often the own category is among the 1, 2, 3 nearest; own centroids leave the stimulus out."""
    member = np.eye(labels.max() + 1)[labels]
    sums, sizes, rank = member.T @ points, member.sum(axis=0), []
    for point, own, label in zip(points, member, labels, strict=True):
        distance = cdist(point[None], (sums - np.outer(own, point)) / (sizes - own)[:, None])[0]
        rank.append((distance <= distance[label]).sum())
    return [int((np.array(rank) <= top).sum()) for top in (1, 2, 3)]


def rating_correlation(world: World, agent: str, seed: int) -> Rows:
    """Yield the correlation of each dimension with each rating."""
    found = correlations(world.weights(agent, seed), world.ratings.scores)
    for (d, column), r in np.ndenumerate(found.r):
        row = estimate(float(r), world.n_stimuli, (float(found.low[d, column]), float(found.high[d, column])))
        if np.isnan(r):
            row = impossible("is the same for every stimulus", world.n_stimuli)
        yield ("pearson_r", d + 1, world.ratings.names[column], None), row


def generalisation(world: World, agent: str, seed: int) -> Rows:
    """Yield the correlation of predicted with measured similarities of the prototypes."""
    answers, n, key = world.answers(agent, "validation"), len(world.prototypes), ("rsm_pearson_r", None, None, None)
    if not len(answers):
        yield key, impossible("no validation choices")
        return
    predicted = pairs_of(world, answers, odd_probabilities(world.weights(agent, seed), answers)).matrix(n)
    rng = own_rng("generalisation", agent, seed)
    row = matrix_correlation(measured(world, agent).matrix(n), predicted, world, rng)
    yield key, row | {"value": Near(row["value"], 1e-6)}  # the product's probabilities have 32 bits


def reproducibility(world: World, agent: str, seed: int) -> Rows:
    """Yield the mean of the best matches in the other fits, of the fit and of each dimension."""
    weights, n = world.weights(agent, seed), world.n_stimuli
    others = [other for number, other in world.fitted(agent).items() if number != seed]
    if not others:
        yield ("mean_pearson_r", None, None, None), impossible("there is one fit")
        return
    z = np.array([best(weights, other) for other in others])  # (n_others, d)
    yield ("mean_pearson_r", None, None, None), _student(np.nanmean(z, axis=1))
    rng, null = own_rng("reproducibility", agent, seed), np.empty((DRAWS, weights.shape[1]))
    for row in null:
        row[:] = np.tanh(np.mean([best(weights, other[rng.permutation(n)]) for other in others], axis=0))
    for d in range(weights.shape[1]):
        cells = impossible("the same for every stimulus", len(others))
        if not np.isnan(z[:, d]).any():
            cells = _student(z[:, d])
            cells |= {"chance": Mean(null[:, d], N_SHUFFLES), "p_value": Level(cells["value"], null[:, d], N_SHUFFLES)}
        yield ("pearson_r", d + 1, None, None), cells


def _student(z: Array) -> Cells:
    ends: tuple[float | None, float | None] = (None, None)
    if len(z) > 1:
        low, high = stats.t.interval(0.95, len(z) - 1, z.mean(), stats.sem(z))
        ends = float(np.tanh(low)), float(np.tanh(high))
    return estimate(float(np.tanh(z.mean())), len(z), ends)


def components(world: World, agent: str, seed: int) -> Rows:
    """Yield accuracies with the k largest weights of each stimulus, and the numbers that are necessary."""
    weights, answers = world.weights(agent, seed), world.answers(agent, "main", "test")
    rank = stats.rankdata(-weights, method="ordinal", axis=1)
    reduced = [np.where(rank <= k, weights, 0.0) for k in range(1, weights.shape[1] + 1)]
    for k, one in enumerate(reduced, 1):
        yield ("accuracy", None, None, float(k)), _accuracy(one, answers)
    accuracies = np.array([scored(one, answers).accuracy for one in reduced])
    for share in SHARES:
        yield ("n_components", None, None, share), _necessary(accuracies, len(answers), share, _first_reached)
    among = world.answers(agent, "validation")
    among = among[np.isin(among, world.prototypes).all(axis=1)]
    if not len(among):
        row = impossible("no validation choices among three prototypes")
        yield ("n_components_of_prototypes", None, None, None), row
        return
    accuracies = np.array([scored(one, among).accuracy for one in reduced])
    for share, rule in ((SHARES[0], _first_reached), (SHARES[-1], _last_below)):
        yield ("n_components_of_prototypes", None, None, share), _necessary(accuracies, len(among), share, rule)


def _first_reached(reached: list[bool]) -> int:
    return min((k for k, one in enumerate(reached, 1) if one), default=len(reached))


def _last_below(reached: list[bool]) -> int:
    return max((k for k, one in enumerate(reached, 1) if not one), default=1)


def _necessary(accuracies: Array, n: int, share: float, rule: Callable[[list[bool]], int]) -> Cells:
    """Return the number of components by a rule, and by the upper and lower ends of the accuracies' intervals."""
    low, high = np.array([wilson(accuracy * n, n) for accuracy in accuracies]).T
    found = [float(rule((curve >= share * accuracies[-1]).tolist())) for curve in (accuracies, high, low)]
    return estimate(found[0], n, found[1:])


ANALYSES: dict[str, Callable[[World, str, int], Rows]] = {
    "held_out": held_out,
    "nearest_centroid": nearest_centroid,
    "rating_correlation": rating_correlation,
    "labels": label_shares,
    "generalisation": generalisation,
    "reproducibility": reproducibility,
    "graph": graph,
    "components": components,
}
