"""Every row of the analyses' tables is recomputed from the lake's other tables, by libraries that are not the product.

Values, and the intervals and levels that follow from formulas, are recomputed exactly. Where the product draws random
numbers (bootstrap intervals, permutation levels, values under the null hypothesis, split halves), the test draws its
own, and the two must agree within Monte Carlo error: counts within the beta-binomial distribution that follows from the
test's own draws, means within six standard errors. Keys and columns are recomputed as well: a row of an unknown
analysis or measure fails, and so does a missing row or a new column.

Two sets of tables are recomputed. *Published* is the demo lake. *Altered* are tables that the steps make from altered
inputs: agents answer inconsistently or not at all, a fit has no dimension, a dimension and a rating are constant,
categories are tied, voxels cannot be used, stimuli were not shown, and settings differ. These are distinctions that the
demo's perfect agents do not show.

Not recomputable, because the weights are not stored:

- `sweeps`: `test_loss`, `test_accuracy`, `n_dimensions` and `n_recovered`. Their keys, their grain (a share of the test
  triplets), their bounds and their order are checked, and what `metrics` derives from them is recomputed.
- `learning_curves`: `train_loss`, a mean over the weights of all batches of an epoch, and `match`, of the weights of two
  epochs. The other columns of the kept row are recomputed, as no dimension was pruned.

The nulls of the maps (`rsa_nulls`, `encoding_nulls`) are inputs here, of `group_stats.p_null`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, permutations, product
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, softmax
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from threadpoolctl import threadpool_limits

import affectlake
from affectlake.pipelines.engine.graph import stages
from affectlake.pipelines.params.study import Params, parse
from affectlake.pipelines.params.templates import starting_params
from affectlake.pipelines.params.text import override
from affectlake.pipelines.step import StepContext
from affectlake.pipelines.stored import NOTHING
from tests.support import demo_lakes

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Key = tuple[object, ...]
Rows = dict[Key, dict[str, object]]
Keyed = Iterator[tuple[Key, dict[str, object]]]

TRIPLET = ["i", "j", "k"]
DRAWS = 100  # the test's own
N_SPLITS, N_GRAPHS, N_REPRODUCIBILITY, N_OVERLAP = 20, 100, 100, 200  # the product's, where params have no number
SHARES = (0.95, 0.96, 0.97, 0.98, 0.99)
RARE = 1e-6  # probability below which draws are said to differ
KEYS = {
    "metrics": ("agent", "seed", "analysis", "measure", "dimension", "rating", "setting"),
    "labels": ("agent", "seed", "dimension", "label_rank"),
    "graph_nodes": ("agent", "seed", "dimension"),
    "graph_edges": ("agent", "seed", "dimension", "other_dimension"),
    "comparisons": ("agent", "against", "analysis", "measure"),
    "community_overlaps": ("agent", "community", "against", "other_community"),
    "fits": ("agent", "seed"),
    "roi_scores": ("agent", "subject", "basis", "method", "region"),
    "group_stats": ("method", "region", "agent", "other_agent"),
    "shared_stimuli": ("stimulus_index",),
}
INPUTS = ("betas", "choices", "embeddings", "encoding_maps", "encoding_nulls", "learning_curves", "ratings", "rsa_maps",
          "rsa_nulls", "stimuli", "stimulus_reliability", "sweeps", "triplets", "voxels")  # fmt: skip


# Expectations of one cell: a text, a number or None, or one of these.


@dataclass(frozen=True)
class Near:
    """A number, up to an absolute difference."""

    value: float
    within: float

    def agrees(self, found: Any) -> bool:
        return found is not None and abs(found - self.value) <= self.within


@dataclass(frozen=True)
class Says:
    """A text that contains some words."""

    words: str

    def agrees(self, found: Any) -> bool:
        return found is not None and self.words in found


@dataclass(frozen=True)
class Mean:
    """The mean of `n` draws of a distribution, of which the test has its own draws."""

    own: Array
    n: int

    def agrees(self, found: Any) -> bool:
        own = self.own[~np.isnan(self.own)]
        error = own.std(ddof=1) * math.sqrt(1 / self.n + 1 / len(own))
        return found is not None and bool(abs(found - own.mean()) <= 6 * error + 1e-9)


@dataclass(frozen=True)
class Low:
    """The 2.5 % quantile of `n` draws of a distribution, of which the test has its own draws."""

    own: Array
    n: int
    sign: int = 1
    slack: float = 1e-9  # beyond what the test's draws reach: 1 for a count

    def agrees(self, found: Any) -> bool:
        own, at = self.sign * self.own[~np.isnan(self.own)], int(0.025 * (self.n - 1))
        if found is None:
            return len(own) < 2
        found, m = self.sign * found, len(own)
        below, reached = int((own < found - 1e-9).sum()), int((own <= found + 1e-9).sum())
        few = stats.betabinom.cdf(at + 1, self.n, below + 1, m - below + 1)  # at most so many draws are below it
        many = stats.betabinom.sf(at, self.n, reached + 1, m - reached + 1)  # at least one more is not above it
        return bool(min(few, many) > RARE and found >= own.min() - 4 * own.std() - self.slack)


@dataclass(frozen=True)
class Level:
    """(1 + the number of `n` draws that reach a value) / (1 + n); the test has its own draws."""

    value: float
    own: Array
    n: int

    def agrees(self, found: Any) -> bool:
        count = -1.0 if found is None else found * (self.n + 1) - 1
        own = self.own[~np.isnan(self.own)]
        reached = int((own >= self.value - 1e-9).sum())
        expected = stats.betabinom(self.n, reached + 1, len(own) - reached + 1)
        tails = expected.cdf(round(count)), expected.sf(round(count) - 1)
        return abs(count - round(count)) < 1e-6 and 0 <= round(count) <= self.n and min(tails) > RARE


def agrees(found: Any, wanted: Any) -> bool:
    if hasattr(wanted, "agrees"):
        return bool(wanted.agrees(found))
    if isinstance(wanted, float) and found is not None and not isinstance(found, str):
        return math.isclose(found, wanted, rel_tol=1e-8, abs_tol=1e-9)
    return bool(found == wanted) and (found is None) == (wanted is None)


def assert_rows(world: World, table: str, found: Keyed) -> None:
    """Require that a table has exactly these rows and columns, each with the wanted cells."""
    names, stored = KEYS[table], world.tables[table]
    wanted: Rows = {}
    for key, row in found:
        assert key not in wanted, key
        wanted[key] = row
    rows = {tuple(row[name] for name in names): row for row in stored.to_dicts()}
    assert len(rows) == stored.height
    kinds = [name for name in ("analysis", "measure", "setting") if name in names]
    counts = [Counter(tuple(key[names.index(name)] for name in kinds) for key in keys) for keys in (rows, wanted)]
    assert counts[0] == counts[1], f"{table}: not recomputed {counts[0] - counts[1]}, missing {counts[1] - counts[0]}"
    assert rows.keys() == wanted.keys()
    columns = set(stored.columns) - set(names)
    wrong = []
    for key, row in wanted.items():
        assert row.keys() == columns, f"{table}: {columns ^ row.keys()}"
        wrong += [f"{key} {name}: found {rows[key][name]!r}, wanted {cell!r}" for name, cell in row.items()
                  if not agrees(rows[key][name], cell)]  # fmt: skip
    assert not wrong, f"{table}: {len(wrong)} cells differ\n" + "\n".join(line[:400] for line in wrong[:20])


# The tables.


@dataclass(repr=False)
class World:
    """Tables by name, and the parameters with which they were made."""

    tables: dict[str, pl.DataFrame]
    params: Params
    _known: dict[Key, Any] = field(default_factory=dict)

    def of(self, table: str, **columns: object) -> pl.DataFrame:
        """Return the rows of a table with these values."""
        return self.tables[table].filter([pl.col(name) == value for name, value in columns.items()])

    @cached_property
    def agents(self) -> list[str]:
        return list(self.params.agents)

    @cached_property
    def n_stimuli(self) -> int:
        return self.tables["stimuli"].height

    def weights(self, agent: str, seed: int) -> Array:
        """Return an embedding (n_stimuli, d)."""
        key = ("weights", agent, seed)
        if key not in self._known:
            rows = self.of("embeddings", agent=agent, seed=seed)
            found = np.zeros((self.n_stimuli, rows["dimension"].n_unique()))
            found[rows["stimulus_index"].to_numpy(), rows["dimension"].to_numpy() - 1] = rows["weight"].to_numpy()
            self._known[key] = found
        return self._known[key]

    def fitted(self, agent: str) -> dict[int, Array]:
        """Return the embeddings that have a dimension, by seed."""
        found = {seed: self.weights(agent, seed) for seed in sorted(self.params.fit_seeds)}
        return {seed: weights for seed, weights in found.items() if weights.shape[1]}

    def representative(self, agent: str) -> int:
        return int(self.of("fits", agent=agent, representative=True)["seed"].item())

    def answers(self, agent: str, trial_set: str, split: str = "") -> Ints:
        """Return all answers (m, 3): the two similar stimuli, then the odd one."""
        key = ("answers", agent, trial_set, split)
        if key not in self._known:
            rows = self.of("choices", agent=agent, trial_set=trial_set)
            if split:
                rows = rows.join(self.of("triplets", trial_set=trial_set, split=split), on=TRIPLET, how="semi")
            asked, odd = rows.select(TRIPLET).to_numpy().astype(np.int64), rows["odd"].to_numpy()[:, None]
            self._known[key] = np.hstack([asked[asked != odd].reshape(-1, 2), odd.astype(np.int64)])
        return self._known[key]

    @cached_property
    def ratings(self) -> tuple[Array, list[str], list[str]]:
        """Scores (n_stimuli, n_ratings), names and families, by name."""
        wide = self.tables["ratings"].pivot("rating", index="stimulus_index", values="score").sort("stimulus_index")
        names = sorted(set(wide.columns) - {"stimulus_index"})
        family = dict(self.tables["ratings"].select("rating", "family").iter_rows())
        return wide.select(names).to_numpy(), names, [family[name] for name in names]

    @cached_property
    def prototypes(self) -> list[int]:
        scores, _, families = self.ratings
        per, found = self.params.triplets.prototypes_per_category, set[int]()
        for column in scores[:, np.array(families) == "category"].T:
            best = np.lexsort([np.arange(len(column)), -column])[:per]
            found |= {int(one) for one in best if column[one] > 0}
        return sorted(found)


def published() -> World:
    """Return the tables of the demo lake."""
    lake = affectlake.open(demo_lakes.one_version())
    params = parse((lake.root / "params.yaml").read_text(encoding="utf-8"))
    return World({name: lake.table(name).collect() for name in sorted({*INPUTS, *KEYS})}, params)


def made_again(world: World, steps: tuple[str, ...], scratch: Path) -> World:
    """Return the tables after some steps have run again on them."""
    made: dict[str, list[pl.DataFrame]] = {}

    def read(stage_reads: tuple[Any, ...], table: str) -> pl.LazyFrame:
        frame = pl.concat(made[table]) if table in made else world.tables[table]
        agents = [output.partition for output in stage_reads if output.table == table and output.partition]
        return frame.filter(pl.col("agent").is_in(agents)).lazy() if agents else frame.lazy()

    for stage in stages(world.params, NOTHING).values():
        if stage.step.name in steps:
            place = scratch / stage.name
            place.mkdir(parents=True)
            context = StepContext(stage.agent, scratch, place, 1, lambda _: None, lambda _: None, agents=stage.agents)
            tables = {output.table: read(stage.reads, output.table) for output in stage.reads}
            for table, frame in stage.step(tables, world.params, context).items():
                made.setdefault(table, []).append(frame)
    return World(world.tables | {table: pl.concat(parts) for table, parts in made.items()}, world.params)


ALTERED = (
    "geometry.absolute_edges=true",
    "geometry.edge_threshold=0.3",
    "geometry.label_gap=0.05",
    "geometry.permutations=30",
    "geometry.resamples=16",
    "spose.seeds=[0, 1]",
    "sweeps.share=0.8",
    "triplets.prototypes_per_category=3",
    "brain.encoding.standardise=false",
    "brain.encoding.outer_folds=3",
    "brain.encoding.inner_folds=4",
    "brain.encoding.permutations=4",
    "brain.searchlight.n_stimuli=30",
    "brain.searchlight.min_voxels=8",
    "brain.searchlight.permutations=6",
    "brain.reference=human-dimension",
)
ANALYSES = ("measure", "describe", "compare", "share_stimuli", "select_stimuli", "encode_brains", "search_brains",
            "score_regions", "compare_brains")  # fmt: skip
NOTE = "the fit learned nothing: no dimension survived pruning"


def altered(base: World, scratch: Path) -> World:
    """Return the tables that the analyses make from altered inputs, under other settings."""
    params = parse(override(starting_params("demo"), (*demo_lakes.SETTINGS, *ALTERED)))
    tables = dict(base.tables)
    tables["choices"] = _inconsistent(tables["choices"])
    at = pl.col("stimulus_index")
    agent, seed, dimension = pl.col("agent"), pl.col("seed"), pl.col("dimension")
    lost = (agent == "human-dimension") & (seed == 1)
    weight = (
        pl.when((agent == "human-category") & (seed == 1) & (at == 7)).then(0.0)
        .when((agent == "caption-tfidf") & (seed == 0) & (dimension == 12)).then(0.5)
        .otherwise("weight").cast(pl.Float32)
    )  # fmt: skip
    tables["embeddings"] = tables["embeddings"].filter(~lost, seed < 2).with_columns(weight=weight)
    chosen = seed == agent.replace_strict({"human-category": 1, "human-dimension": 0, "caption-tfidf": 1})
    tables["fits"] = tables["fits"].filter(seed < 2).with_columns(
        representative=chosen,
        n_dimensions=pl.when(lost).then(0).otherwise("n_dimensions").cast(pl.Int16),
        note=pl.when(lost).then(pl.lit(NOTE)),
    )
    is_category, top = pl.col("family") == "category", pl.col("score").max().over("stimulus_index", "family")
    score = (
        pl.when(is_category & at.is_in([3, 9])).then(top)
        .when(is_category & (at == 11)).then(0.0)
        .when(pl.col("rating") == "arousal").then(5.0)
        .otherwise("score")
    )  # fmt: skip
    tables["ratings"] = tables["ratings"].with_columns(score=score)
    tables["stimuli"] = tables["stimuli"].with_columns(category=pl.when(at != 11).then("category"))
    first, second = sorted(tables["voxels"]["subject"].unique())
    bad = ((pl.col("subject") == first) & (pl.col("voxel_index") == 5)) | (
        (pl.col("subject") == second) & (pl.col("voxel_index") == 9)
    )
    tables["voxels"] = tables["voxels"].with_columns(usable=~bad)
    patterns = np.array(tables["betas"]["pattern"].to_list(), np.float32)
    is_first = (tables["betas"]["subject"] == first).to_numpy()
    patterns[is_first, 5], patterns[~is_first, 9] = 1.0, np.nan
    tables["betas"] = tables["betas"].with_columns(pattern=pl.Series(patterns.tolist(), dtype=pl.List(pl.Float32)))
    tables["betas"] = tables["betas"].filter((pl.col("subject") == first) | ~at.is_in([20, 41]))
    sweeps, sweep = tables["sweeps"], pl.col("sweep")
    tables["sweeps"] = sweeps.filter(
        ~((agent == "human-dimension") & (sweep == "judgments"))
        & ~((agent == "caption-tfidf") & (sweep == "judgments") & (pl.col("setting") == 500))
        & ~((agent == "human-category") & (pl.col("setting") == 3) & (pl.col("replicate") == 1))
    )
    return made_again(World(tables, params), ANALYSES, scratch)


def _inconsistent(choices: pl.DataFrame) -> pl.DataFrame:
    """Return choices of which some are guesses, and some are missing."""
    rng = np.random.default_rng(1)
    guesses = {
        ("human-category", "noise_ceiling"): 0.3, ("human-category", "validation"): 0.1,
        ("human-dimension", "noise_ceiling"): 1.0, ("human-dimension", "main"): 0.1,
        ("caption-tfidf", "noise_ceiling"): 0.6, ("caption-tfidf", "validation"): 0.2,
    }  # fmt: skip
    drawn = choices.with_columns(
        guess=pl.Series(rng.random(len(choices))), place=pl.Series(rng.integers(0, 3, len(choices))),
        lost=pl.Series(rng.random(len(choices)) < 0.1),
    )  # fmt: skip
    share = pl.lit(0.0)
    for (agent, trial_set), p in guesses.items():
        share = pl.when((pl.col("agent") == agent) & (pl.col("trial_set") == trial_set)).then(p).otherwise(share)
    other = pl.when(pl.col("place") == 0).then("i").when(pl.col("place") == 1).then("j").otherwise("k")
    found = drawn.with_columns(odd=pl.when(pl.col("guess") < share).then(other).otherwise("odd"))
    missing = (pl.col("agent") == "human-dimension") & (pl.col("trial_set") == "validation")
    return found.filter(~(pl.col("lost") & (pl.col("agent") == "caption-tfidf")) & ~missing).select(choices.columns)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices are small: threads of BLAS would only wait for one another."""
    with threadpool_limits(1, "blas"):
        yield


@pytest.fixture(scope="module")
def base() -> World:
    return published()


@pytest.fixture(scope="module", params=["published", "altered"])
def world(request: pytest.FixtureRequest, base: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    return base if request.param == "published" else altered(base, tmp_path_factory.mktemp("altered"))


def own_rng(*names: object) -> np.random.Generator:
    return np.random.default_rng([sum(map(ord, str(name))) for name in names])


# Arithmetic that several tables share.


def estimate(
    value: object, n: object, ends: object = (None, None), chance: object = None, p_value: object = None, note: object = None
) -> dict[str, object]:
    low, up = ends  # type: ignore[misc]
    return {"value": value, "ci_low": low, "ci_high": up, "chance": chance, "p_value": p_value, "n": n, "note": note}


def impossible(words: str, n: object = 0) -> dict[str, object]:
    return estimate(None, n, note=Says(words))


def between(draws: Array, n: int, slack: float = 1e-9) -> tuple[Low, Low]:
    """Return what the ends of a percentile interval of `n` draws must be."""
    return Low(draws, n, 1, slack), Low(draws, n, -1, slack)


def wilson(hits: float, n: int) -> tuple[float, float]:
    low, up = proportion_confint(hits, n, method="wilson")
    return float(low), float(up)


def correlations(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Return Pearson's r of every column of x with every column of y, and its Fisher interval."""
    varies = np.outer(np.ptp(x, axis=0) > 0, np.ptp(y, axis=0) > 0)
    r, low, up = (np.full(varies.shape, np.nan) for _ in range(3))
    for a, b in np.argwhere(varies):
        found = stats.pearsonr(x[:, a], y[:, b])
        ends = found.confidence_interval()
        r[a, b], low[a, b], up[a, b] = found.statistic, ends.low, ends.high
    return r, low, up


def quick_r(x: Array, y: Array) -> Array:
    """Return Pearson's r of every column of x with every column of y; NaN for constant ones."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :]


class Scored(NamedTuple):
    """Accuracy and loss of an embedding, and by how much the accuracy may differ because of near ties."""

    accuracy: float
    loss: float
    slack: float


def scored(weights: Array, answers: Ints) -> Scored:
    """Score an embedding on answers (m, 3), the odd one last."""
    similar = np.stack([(weights[answers[:, a]] * weights[answers[:, b]]).sum(1) for a, b in ((0, 1), (0, 2), (1, 2))])
    gap = similar[0] - similar[1:]  # (2, m)
    right = np.where((gap >= 0).all(axis=0), 1 / (1 + (gap == 0).sum(axis=0)), 0.0)
    close = ((np.abs(gap) > 0) & (np.abs(gap) < 1e-6 * (1 + np.abs(similar[0])))).any(axis=0)
    return Scored(float(right.mean()), float(-log_softmax(similar, axis=0)[0].mean()), float(close.mean()))


def strongest(weights: Array, k: int) -> Array:
    return np.where(stats.rankdata(-weights, method="ordinal", axis=1) <= k, weights, 0.0)


def of_accuracy(weights: Array, answers: Ints) -> dict[str, object]:
    found, n = scored(weights, answers), len(answers)
    ends = [Near(end, 1e-9 + 2 * found.slack) for end in wilson(found.accuracy * n, n)]
    return estimate(Near(found.accuracy, 1e-9 + found.slack), n, ends, 1 / 3)


class Pairs(NamedTuple):
    """Similarities of pairs of prototypes: for each trial of a pair, the pair and the probability of 'similar'."""

    pair: Ints
    similar: Array
    trial: Ints

    def matrix(self, n: int, of_trials: NDArray[np.bool_] | None = None) -> Array:
        """Return the mean similarity of each pair (n (n - 1) / 2,); NaN without a trial."""
        use = slice(None) if of_trials is None else of_trials[self.trial]
        size = n * (n - 1) // 2
        with np.errstate(invalid="ignore"):
            return np.bincount(self.pair[use], self.similar[use], size) / np.bincount(self.pair[use], minlength=size)


def pairs_of(world: World, triplets: Ints, p_odd: Array) -> Pairs:
    """Return the trials of each pair of prototypes; `p_odd` (m, 3) says how probably each one is odd."""
    place = {stimulus: at for at, stimulus in enumerate(world.prototypes)}
    number = {pair: at for at, pair in enumerate(combinations(range(len(place)), 2))}
    found = [
        (number[min(place[a], place[b]), max(place[a], place[b])], p_odd[trial, third], trial)
        for trial, row in enumerate(triplets.tolist())
        for a, b, third in ((row[0], row[1], 2), (row[0], row[2], 1), (row[1], row[2], 0))
        if a in place and b in place
    ]
    pair, similar, trial = np.array(found, np.float64).reshape(-1, 3).T
    return Pairs(pair.astype(np.int64), similar, trial.astype(np.int64))


def measured(world: World, agent: str) -> Pairs:
    answers = world.answers(agent, "validation")
    return pairs_of(world, answers, np.tile([0.0, 0.0, 1.0], (len(answers), 1)))


def weighted_r(x: Array, y: Array, counts: Ints) -> float:
    """Return Pearson's r of pairs that occur `counts` times; NaN if it is not defined."""
    use = (counts > 0) & ~np.isnan(x) & ~np.isnan(y)
    if use.sum() < 2 or np.ptp(x[use]) < 1e-12 or np.ptp(y[use]) < 1e-12:
        return math.nan
    covariance = np.cov(x[use], y[use], fweights=counts[use])
    return float(covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1]))


def matrix_correlation(one: Array, other: Array, n: int, world: World, rng: np.random.Generator) -> dict[str, object]:
    """Return the wanted correlation of two similarity matrices, given as pairs."""
    geometry = world.params.geometry
    a, b = np.triu_indices(n, 1)
    known = ~(np.isnan(one) | np.isnan(other))
    if known.sum() < 3 or np.ptp(one[known]) == 0 or np.ptp(other[known]) == 0:
        return impossible("pairs of stimuli" if known.sum() < 3 else "equally similar", int(known.sum()))
    r = float(stats.pearsonr(one[known], other[known]).statistic)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS)
    drawn = np.array([weighted_r(one, other, row[a] * row[b]) for row in counts])
    square = np.full((n, n), np.nan)
    square[a, b] = square[b, a] = other
    orders = [rng.permutation(n) for _ in range(3 * DRAWS)]
    null = np.array([weighted_r(one, square[order[a], order[b]], known.astype(int)) for order in orders])
    m = geometry.permutations
    return estimate(r, int(known.sum()), between(drawn, geometry.resamples), Mean(null, m), Level(r, null, m))


# metrics


def metrics(world: World) -> Keyed:
    for agent in world.agents:
        for analysis, rows in (("noise_ceiling", ceilings(world, agent)), ("saturation", saturations(world, agent))):
            yield from (((agent, None, analysis, measure, None, None, None), row) for measure, row in rows.items())
        for seed in world.params.fit_seeds:
            if not world.weights(agent, seed).shape[1]:
                note = world.of("fits", agent=agent, seed=seed)["note"].item()
                yield (agent, seed, "held_out", "accuracy", None, None, None), estimate(None, 0, note=note)
                continue
            for analysis, rows in of_fit(world, agent, seed):
                yield from (((agent, seed, analysis, *key), row) for key, row in rows)


def of_fit(world: World, agent: str, seed: int) -> Iterator[tuple[str, Iterator[tuple[Key, dict[str, object]]]]]:
    for analysis in (held_out, nearest_centroid, rating_correlation, label_shares, generalisation, reproducibility,
                     graph, components):  # fmt: skip
        name = "labels" if analysis is label_shares else analysis.__name__
        yield name, ((_full(key), row) for key, row in analysis(world, agent, seed))


def _full(key: str | Key) -> Key:
    measure, *rest = (key,) if isinstance(key, str) else key
    return (measure, *rest, *[None] * (3 - len(rest)))


def counts_of(world: World, agent: str) -> Ints:
    rows = world.of("choices", agent=agent, trial_set="noise_ceiling")
    odd = [(pl.col("odd") == pl.col(name)).sum().alias(f"n_{name}") for name in TRIPLET]
    found = rows.group_by(TRIPLET).agg(odd).sort(TRIPLET).select("n_i", "n_j", "n_k").to_numpy().astype(np.int64)
    return found[found.sum(axis=1) >= 2]


def ceilings(world: World, agent: str) -> dict[str, dict[str, object]]:
    counts = counts_of(world, agent)
    n, repeats = len(counts), counts.sum(axis=1)
    modal, same = counts.max(axis=1) / repeats, stats.hypergeom.pmf(2, repeats[:, None], counts, 2).sum(axis=1)
    luck = {r: _expected_maximum(r) / r for r in set(repeats.tolist())}
    lucky = float(np.mean([luck[r] for r in repeats.tolist()]))
    return {
        "consistency": estimate(float(modal.mean()), n, _normal(modal), Near(lucky, 1.5e-3)),
        "agreement": estimate(float(same.mean()), n, _normal(same), 1 / 3),
        "attainable": attainable(counts[repeats >= 10]),
    }


def _normal(shares: Array) -> tuple[float, float]:
    half = stats.norm.ppf(0.975) * stats.sem(shares)
    return max(0.0, float(shares.mean() - half)), min(1.0, float(shares.mean() + half))


def _expected_maximum(repeats: int) -> float:
    every = np.array([(a, b, repeats - a - b) for a in range(repeats + 1) for b in range(repeats + 1 - a)])
    return float(stats.multinomial.pmf(every, repeats, [1 / 3] * 3) @ every.max(axis=1))


def attainable(counts: Ints) -> dict[str, object]:
    """Return E[max p] under the maximum-likelihood distribution of probabilities, minus its bias, by EM."""
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
    spread, bias = float(again.std(ddof=1)), float(again.mean() - weights @ top)
    half, value = stats.norm.ppf(0.975) * math.hypot(spread, bias), float(weights @ top) - bias
    off = 1e-5 + 6 * spread / math.sqrt(draws)
    cells = [Near(min(max(one, 1 / 3), 1.0), off) for one in (value, value - half, value + half)]
    return estimate(cells[0], n, cells[1:], 1 / 3)


def saturations(world: World, agent: str) -> dict[str, dict[str, object]]:
    found = {}
    for sweep, column in (("dimensions", "test_accuracy"), ("judgments", "n_recovered")):
        rows = world.of("sweeps", agent=agent, sweep=sweep)
        by_setting = {setting: rows.filter(setting=setting)[column].to_numpy().astype(float)
                      for setting in sorted(rows["setting"].unique())}  # fmt: skip
        if not by_setting:
            found[sweep] = impossible("no such sweep")
            continue
        settings = list(by_setting)
        if len(settings) < 3:
            found[sweep] = impossible(f"{len(settings)} settings were tried")
            continue

        def first(means: Array, settings: list[float] = settings) -> float:
            return settings[int(np.flatnonzero(means >= world.params.sweeps.share * means.max())[0])]

        value = first(np.array([values.mean() for values in by_setting.values()]))
        if value == settings[-1]:
            found[sweep] = impossible(f"still rising at {settings[-1]:,.0f}", len(settings))
            continue
        rng = own_rng(agent, sweep)
        draws = np.array([
            first(np.array([rng.choice(values, len(values)).mean() for values in by_setting.values()]))
            for _ in range(1000)
        ])  # fmt: skip
        found[sweep] = estimate(value, len(settings), between(draws, 1000))
    return found


def held_out(world: World, agent: str, seed: int) -> Iterator[tuple[str | Key, dict[str, object]]]:
    answers = world.answers(agent, "main", "test")
    found, n = scored(world.weights(agent, seed), answers), len(answers)
    yield "accuracy", of_accuracy(world.weights(agent, seed), answers)
    yield "cross_entropy", estimate(Near(found.loss, 2e-6), n, chance=math.log(3))
    top = world.of("metrics", agent=agent, analysis="noise_ceiling")
    for measure, name in (("explained_share", "consistency"), ("attainable_share", "attainable")):
        ceiling, paper = (top.filter(measure=one).row(0, named=True) for one in (name, "consistency"))
        if paper["ci_low"] <= paper["chance"]:
            yield measure, impossible("agree no more than guesses do", n)
            continue
        room = ceiling["value"] - 1 / 3
        share = (found.accuracy - 1 / 3) / room
        low, up = wilson(found.accuracy * n, n)
        half = math.hypot(up - low, share * (ceiling["ci_high"] - ceiling["ci_low"])) / (2 * room)
        ends = [Near(end, 1e-9 + 4 * found.slack / room) for end in (share - half, share + half)]
        yield measure, estimate(Near(share, 1e-9 + found.slack / room), n, ends, 0.0)


def nearest_centroid(world: World, agent: str, seed: int) -> Iterator[tuple[str | Key, dict[str, object]]]:
    weights = world.weights(agent, seed)
    scores, _, families = world.ratings
    of_category = scores[:, np.array(families) == "category"]
    tied = np.array([bool(row.max() > 0) and int((row == row.max()).sum()) > 1 for row in of_category])
    yield "n_tied", estimate(float(tied.sum()), world.n_stimuli)
    names = np.array(world.tables["stimuli"].sort("stimulus_index")["category"].to_list(), dtype=object)
    for suffix, own in (("", names), ("_untied", np.where(tied, None, names))):  # type: ignore[call-overload]
        if suffix and not tied.any():
            continue
        sizes = Counter(name for name in own if name is not None)
        large = sorted(name for name, size in sizes.items() if size >= world.params.geometry.min_category_size)
        rows = np.flatnonzero([name in large for name in own])
        if not suffix:
            yield "n_categories", estimate(float(len(large)), len(rows))
        if len(large) < 2:
            if not suffix:
                yield "top3_accuracy", impossible("two are needed", len(rows))
            continue
        labels = np.array([large.index(own[row]) for row in rows])
        hits = _hits(weights[rows], labels, len(large))
        rng = own_rng("centroid", agent, seed)
        null = np.array([_hits(weights[rows], rng.permutation(labels), len(large)) for _ in range(DRAWS)])
        for top in range(1, min(3, len(large) - 1) + 1):
            m, share = world.params.geometry.permutations, hits[top - 1] / len(rows)
            drawn = null[:, top - 1] / len(rows)
            yield (f"top{top}_accuracy{suffix}"), estimate(
                share, len(rows), wilson(hits[top - 1], len(rows)), Mean(drawn, m), Level(share, drawn, m)
            )


def _hits(points: Array, labels: Ints, n: int) -> list[int]:
    """Return how often the own category is among the 1, 2, 3 nearest, with own centroids that leave the stimulus out."""
    rank = np.zeros(len(points), int)
    member = np.eye(n)[labels]
    sums, sizes = member.T @ points, member.sum(axis=0)
    for at, point in enumerate(points):
        left = np.arange(n) == labels[at]
        centroids = (sums - np.where(left[:, None], point, 0)) / (sizes - left)[:, None]
        distance = cdist(point[None], centroids)[0]
        rank[at] = (distance <= distance[labels[at]]).sum()
    return [int((rank <= top).sum()) for top in (1, 2, 3)]


def rating_correlation(world: World, agent: str, seed: int) -> Iterator[tuple[str | Key, dict[str, object]]]:
    scores, names, _ = world.ratings
    r, low, up = correlations(world.weights(agent, seed), scores)
    for (d, column), value in np.ndenumerate(r):
        row = estimate(float(value), world.n_stimuli, (float(low[d, column]), float(up[d, column])))
        if np.isnan(value):
            row = impossible("is the same for every stimulus", world.n_stimuli)
        yield ("pearson_r", d + 1, names[column]), row


class Named(NamedTuple):
    """The labels of a dimension: columns of the ratings, in order."""

    columns: list[int]
    character: str


def named(r: Array, families: list[str], gap: float) -> Named:
    """Return the labels of a dimension by the rule: the next one only if less than `gap` below the one before."""
    order = [at for at in sorted(range(len(r)), key=lambda at: (-abs(r[at]), at)) if not np.isnan(r[at])]
    own = order[:1]
    while own and len(own) < min(3, len(order)) and abs(r[own[-1]]) - abs(r[order[len(own)]]) < gap - 1e-12:
        own.append(order[len(own)])
    if not own or abs(r[own[0]]) <= 0.1:
        return Named(own, "uninterpretable")
    kinds = {families[at] for at in own}
    return Named(own, "mixed" if len(kinds) == 2 else {"category": "categorical", "dimension": "dimensional"}[kinds.pop()])


def label_shares(world: World, agent: str, seed: int) -> Iterator[tuple[str | Key, dict[str, object]]]:
    weights, (scores, _, families), geometry = world.weights(agent, seed), world.ratings, world.params.geometry
    kinds, d = ("categorical", "dimensional", "mixed"), weights.shape[1]

    def counts(scores: Array) -> list[int]:
        found = Counter(named(row, families, geometry.label_gap).character for row in quick_r(weights, scores))
        return [found[kind] for kind in kinds]

    rng, own = own_rng("labels", agent, seed), counts(scores)
    null = np.array([counts(scores[rng.permutation(len(scores))]) for _ in range(DRAWS)], np.float64)
    share, m, n = null.sum(axis=1) / d, geometry.permutations, sum(own)
    yield "interpretable_share", estimate(n / d, d, wilson(n, d), Mean(share, m), Level(n / d, share, m))
    for at, kind in enumerate(kinds):
        some = null[null.sum(axis=1) > 0]
        of_null = Mean(some[:, at] / some.sum(axis=1), m)
        row = estimate(own[at] / n, n, wilson(own[at], n), of_null) if n else impossible("no dimension is interpretable", d)
        yield f"{kind}_share", row


def generalisation(world: World, agent: str, seed: int) -> Iterator[tuple[str | Key, dict[str, object]]]:
    weights, answers, n = world.weights(agent, seed), world.answers(agent, "validation"), len(world.prototypes)
    if not len(answers):
        yield "rsm_pearson_r", impossible("no validation choices")
        return
    similar = np.stack([(weights[answers[:, a]] * weights[answers[:, b]]).sum(1) for a, b in ((1, 2), (0, 2), (0, 1))])
    predicted = pairs_of(world, answers, softmax(similar, axis=0).T).matrix(n)
    row = matrix_correlation(measured(world, agent).matrix(n), predicted, n, world, own_rng("general", agent, seed))
    yield "rsm_pearson_r", row | {"value": Near(float(row["value"]), 1e-6)}  # type: ignore[arg-type]


def best(weights: Array, other: Array) -> Array:
    """Return Fisher's z of each dimension's best match."""
    r = quick_r(weights, other[:, np.ptp(other, axis=0) > 0])
    r[np.ptp(weights, axis=0) == 0] = np.nan
    return np.arctanh(np.clip(r.max(axis=1), -1 + 1e-12, 1 - 1e-12))


def reproducibility(world: World, agent: str, seed: int) -> Iterator[tuple[str | Key, dict[str, object]]]:
    weights = world.weights(agent, seed)
    others = [other for number, other in world.fitted(agent).items() if number != seed]
    if not others:
        yield "mean_pearson_r", impossible("there is one fit")
        return
    z = np.array([best(weights, other) for other in others])  # (n_others, d)
    yield "mean_pearson_r", estimate(*_student(np.nanmean(z, axis=1)))
    rng, n = own_rng("reproducibility", agent, seed), len(weights)
    null = np.array([
        np.tanh(np.mean([best(weights, other[rng.permutation(n)]) for other in others], axis=0)) for _ in range(DRAWS)
    ])  # fmt: skip
    for d in range(weights.shape[1]):
        key: Key = ("pearson_r", d + 1)
        if np.isnan(z[:, d]).any():
            yield key, impossible("the same for every stimulus", len(others))
            continue
        value, size, ends = _student(z[:, d])
        m = N_REPRODUCIBILITY
        yield key, estimate(value, size, ends, Mean(null[:, d], m), Level(value, null[:, d], m))


def _student(z: Array) -> tuple[float, int, tuple[float | None, float | None]]:
    if len(z) < 2:
        return float(np.tanh(z[0])), len(z), (None, None)
    low, up = stats.t.interval(0.95, len(z) - 1, z.mean(), stats.sem(z)) if np.ptp(z) else (z[0], z[0])
    return float(np.tanh(z.mean())), len(z), (float(np.tanh(low)), float(np.tanh(up)))


def joined(world: World, r: Array) -> nx.Graph[int]:
    """Return the graph of correlated dimensions."""
    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from(range(len(r)))
    size = np.abs(r) if world.params.geometry.absolute_edges else r
    for a, b in combinations(range(len(r)), 2):
        if size[a, b] > world.params.geometry.edge_threshold:
            graph.add_edge(a, b, weight=float(size[a, b]))
    return graph


def louvain(graph: nx.Graph[int], seeds: int) -> tuple[float, int]:
    """Return the highest modularity of some runs, and its number of communities; isolated nodes are no communities."""
    inside = graph.subgraph([node for node, degree in graph.degree() if degree])
    if not len(inside):
        return math.nan, 0
    runs = [nx.community.louvain_communities(inside, seed=seed) for seed in range(seeds)]
    found = [(float(nx.community.modularity(inside, run)), len(run)) for run in runs]
    return max(found, key=lambda one: one[0])


def graph(world: World, agent: str, seed: int) -> Iterator[tuple[str | Key, dict[str, object]]]:
    weights, geometry = world.weights(agent, seed), world.params.geometry
    r, d, rng = quick_r(weights, weights), weights.shape[1], own_rng("graph", agent, seed)
    own = joined(world, r)
    stored = world.of("graph_nodes", agent=agent, seed=seed).sort("dimension")["community"]
    communities = [set((stored == number).arg_true().to_list()) for number in sorted(stored.drop_nulls().unique())]
    inside = own.subgraph(set().union(*communities))

    def numbers(one: nx.Graph[int]) -> list[float]:
        top, n = louvain(one, 3)
        return [float(nx.number_of_isolates(one)), float(n), top, float(one.number_of_edges())]

    some = 40
    drawn = np.array([numbers(joined(world, quick_r(*(2 * [weights[rng.integers(0, len(weights), len(weights))]]))))
                      for _ in range(some)])  # fmt: skip
    strengths = sorted((one["weight"] for *_, one in own.edges(data=True)), reverse=True)
    upper, null = np.triu_indices(d, 1), []
    for _ in range(some):
        shuffled = quick_r(*(2 * [rng.permuted(weights, axis=0)]))
        size = np.nan_to_num(np.abs(shuffled) if geometry.absolute_edges else shuffled, nan=-1)[upper]
        one: nx.Graph[int] = nx.Graph()
        for weight, at in zip(strengths, np.argsort(-size), strict=False):
            one.add_edge(int(upper[0][at]), int(upper[1][at]), weight=weight)
        null.append(louvain(one, 3))
    chance, m = np.array(null), min(geometry.permutations, N_GRAPHS)
    value = float(nx.community.modularity(inside, communities))
    assert value >= louvain(own, 40)[0] - 1e-9
    rows = {"n_isolated": float(nx.number_of_isolates(own)), "n_communities": float(len(communities)),
            "modularity": value, "n_edges": float(own.number_of_edges())}  # fmt: skip
    for at, (measure, found) in enumerate(rows.items()):
        row = estimate(found, d, between(drawn[:, at], min(geometry.resamples, N_GRAPHS), 0.1 if measure == "modularity" else 1.0))
        if measure == "n_communities":
            row |= {"chance": Mean(chance[:, 1], m)}
        if measure == "modularity":
            row |= {"chance": Mean(chance[:, 0], m), "p_value": Level(value, chance[:, 0], m)}
        yield measure, row


def components(world: World, agent: str, seed: int) -> Iterator[tuple[str | Key, dict[str, object]]]:
    weights, answers = world.weights(agent, seed), world.answers(agent, "main", "test")
    reduced = [strongest(weights, k) for k in range(1, weights.shape[1] + 1)]
    for k, one in enumerate(reduced, 1):
        yield ("accuracy", None, None, float(k)), of_accuracy(one, answers)
    accuracies = np.array([scored(one, answers).accuracy for one in reduced])
    for share in SHARES:
        yield ("n_components", None, None, share), _necessary(accuracies, len(answers), share, "reached")
    among = world.answers(agent, "validation")
    among = among[np.isin(among, world.prototypes).all(axis=1)]
    if not len(among):
        yield "n_components_of_prototypes", impossible("no validation choices among three prototypes")
        return
    accuracies = np.array([scored(one, among).accuracy for one in reduced])
    for share, rule in ((SHARES[0], "reached"), (SHARES[-1], "below")):
        yield ("n_components_of_prototypes", None, None, share), _necessary(accuracies, len(among), share, rule)


def _necessary(accuracies: Array, n: int, share: float, rule: str) -> dict[str, object]:
    """Return the first number of components that reaches a share of the full accuracy, or the last one below it."""
    low, up = np.array([wilson(accuracy * n, n) for accuracy in accuracies]).T
    found = []
    for curve in (accuracies, up, low):
        reached = [k for k, one in enumerate(curve, 1) if one >= share * accuracies[-1]]
        below = [k for k, one in enumerate(curve, 1) if not one >= share * accuracies[-1]]
        found.append(float(min(reached, default=len(curve)) if rule == "reached" else max(below, default=1)))
    return estimate(found[0], n, found[1:])


# labels and graphs


def labels(world: World) -> Keyed:
    scores, names, families = world.ratings
    for agent, seed, weights in _fits(world):
        r, low, up = correlations(weights, scores)
        rng = own_rng("stability", agent, seed)
        some = [rng.integers(0, len(weights), len(weights)) for _ in range(2 * DRAWS)]
        with np.errstate(invalid="ignore"):
            firsts = np.array([np.nan_to_num(np.abs(quick_r(weights[at], scores[at])), nan=-1).argmax(1) for at in some])
        for d, row in enumerate(r):
            own = named(row, families, world.params.geometry.label_gap)
            for rank, column in enumerate(own.columns):
                kept = (firsts[:, d] == own.columns[0]).astype(float)
                yield (agent, seed, d + 1, rank + 1), {
                    "rating": names[column], "family": families[column],
                    "direction": "high" if row[column] > 0 else "low",
                    "r": float(row[column]), "ci_low": float(low[d, column]), "ci_high": float(up[d, column]),
                    "character": own.character, "stability": Share(kept, world.params.geometry.resamples),
                }  # fmt: skip


@dataclass(frozen=True)
class Share:
    """The share of `n` draws that are 1; the test has its own draws."""

    own: Array
    n: int

    def agrees(self, found: Any) -> bool:
        m, count = len(self.own), int(self.own.sum())
        expected, k = stats.betabinom(self.n, count + 1, m - count + 1), found * self.n
        return abs(k - round(k)) < 1e-6 and min(expected.cdf(round(k)), expected.sf(round(k) - 1)) > RARE


def _fits(world: World) -> Iterator[tuple[str, int, Array]]:
    for agent in world.agents:
        for seed, weights in world.fitted(agent).items():
            yield agent, seed, weights


def graph_nodes(world: World) -> Keyed:
    for agent, seed, weights in _fits(world):
        own = joined(world, quick_r(weights, weights))
        rank = nx.pagerank(own.subgraph([node for node, degree in own.degree() if degree]))
        stored = world.of("graph_nodes", agent=agent, seed=seed)
        community = dict(stored.select("dimension", "community").iter_rows())  # checked by its modularity, see `graph`
        members = [[d for d in sorted(community) if community[d] == c] for c in sorted(set(community.values()) - {None})]
        assert members == sorted(members, key=lambda one: (-len(one), one[0]))  # by size
        for node in own:
            degree = own.degree(node)
            alone = {"community": None, "pagerank": None, "degree": 0}
            yield (agent, seed, node + 1), alone if not degree else {
                "community": community[node + 1] or "a community", "pagerank": Near(rank[node], 1e-5), "degree": degree,
            }  # fmt: skip


def graph_edges(world: World) -> Keyed:
    for agent, seed, weights in _fits(world):
        r, low, up = correlations(weights, weights)
        for a, b in joined(world, r).edges:
            yield (agent, seed, a + 1, b + 1), {"r": r[a, b], "ci_low": low[a, b], "ci_high": up[a, b]}


# comparisons of agents


def comparisons(world: World) -> Keyed:
    humans = [agent for agent in world.agents if world.params.agents[agent].kind == "ratings"]
    n = len(world.prototypes)
    own = {agent: measured(world, agent) for agent in world.agents}
    empty = {agent for agent in world.agents if not len(world.answers(agent, "validation"))}
    stored = world.tables["comparisons"]

    def cell(agent: str, against: str, measure: str) -> dict[str, Any]:
        return stored.filter(agent=agent, against=against, measure=measure).row(0, named=True)

    for agent in world.agents:
        key = (agent, agent, "human_consistency", "split_half_r")
        yield key, impossible("no validation choices") if agent in empty else _split_half(world, agent, own[agent], n)
        for human in humans:
            if human == agent:
                continue
            rng = own_rng("consistency", agent, human)
            if {agent, human} & empty:
                rows = dict.fromkeys(("pearson_r", "halves_r", "equation_4_r"), impossible("no validation choices"))
            else:
                raw = matrix_correlation(own[agent].matrix(n), own[human].matrix(n), n, world, rng)
                found, (one, other) = (
                    cell(agent, human, "pearson_r"), (cell(a, a, "split_half_r")["value"] for a in (agent, human))
                )  # fmt: skip
                scale = math.sqrt(one * other)
                whole = {name: found[name] / scale for name in ("value", "ci_low", "ci_high", "chance")}
                rows = {
                    "pearson_r": raw,
                    "halves_r": _halves(world, (agent, human), own, n, rng),
                    "equation_4_r": {**found, **whole},
                }
                rows["equation_4_r"] = {name: rows["equation_4_r"][name] for name in raw}
            for measure, row in rows.items():
                yield (agent, human, "human_consistency", measure), row
    for agent, against in product(world.agents, repeat=2):
        yield (agent, against, "agreement", "kappa"), _kappa(world, agent, against)


def _split_half(world: World, agent: str, own: Pairs, n: int) -> dict[str, object]:
    rng, m = own_rng("split-half", agent), len(world.answers(agent, "validation"))
    drawn = []
    for _ in range(3 * DRAWS):
        first = np.isin(np.arange(m), rng.choice(m, m // 2, replace=False))
        drawn.append(weighted_r(own.matrix(n, first), own.matrix(n, ~first), np.ones(n * (n - 1) // 2, int)))
    values = np.array(drawn)
    return estimate(Mean(values, N_SPLITS), N_SPLITS, between(values, N_SPLITS))


def _halves(world: World, names: tuple[str, str], own: Mapping[str, Pairs], n: int, rng: np.random.Generator) -> dict[str, object]:  # noqa: E501
    """Return halves against halves: each triplet is in the same half for both agents."""
    triplets = [[tuple(sorted(row)) for row in world.answers(name, "validation").tolist()] for name in names]
    every, a, b = sorted({*triplets[0], *triplets[1]}), *np.triu_indices(n, 1)
    splits, sizes, matrices = 300, [], []
    for _ in range(splits):
        first = dict(zip(every, rng.random(len(every)) < 0.5, strict=True))
        of_trials = [np.array([first[row] for row in rows]) for rows in triplets]
        halves = [own[name].matrix(n, half) for name, at in zip(names, of_trials, strict=True) for half in (at, ~at)]
        sizes.append(int((~np.isnan(halves)).all(axis=0).sum()))
        matrices.append(halves)

    def terms(halves: list[Array], weights: Ints) -> list[float]:
        m1, m2, h1, h2 = (np.where(np.isnan(halves).any(axis=0), np.nan, half) for half in halves)
        between_agents = (weighted_r(m1, h2, weights) + weighted_r(m2, h1, weights)) / 2
        return [between_agents, weighted_r(m1, m2, weights), weighted_r(h1, h2, weights)]

    def ratio(rows: Array) -> float:
        x, y, z = rows.mean(axis=0)  # NaN if one of the splits has no correlation
        return float(x / math.sqrt(y * z)) if min(y, z) > 0 else math.nan

    whole = np.array([terms(halves, np.ones(len(a), int)) for halves in matrices])
    values = np.array([ratio(whole[rng.integers(0, splits, N_SPLITS)]) for _ in range(DRAWS)])
    drawn = []
    for _ in range(DRAWS // 2):
        counts = rng.multinomial(n, np.full(n, 1 / n))
        drawn.append(ratio(np.array([terms(matrices[at], counts[a] * counts[b]) for at in rng.integers(0, splits, N_SPLITS)])))
    near = Near(ratio(whole), 6 * float(values.std(ddof=1)))
    size = Near(float(np.median(sizes)), 6 * float(np.std(sizes)) / math.sqrt(N_SPLITS) + 0.5)
    return estimate(near, size, between(np.array(drawn), world.params.geometry.resamples))


def _kappa(world: World, agent: str, against: str) -> dict[str, object]:
    sides = []
    for name, repeat in ((agent, 0), (against, 1 if agent == against else 0)):
        is_ceiling = pl.col("trial_set") == "noise_ceiling"
        rows = world.of("choices", agent=name, repeat=repeat).filter(is_ceiling if agent == against else ~is_ceiling)
        place = pl.concat_list(TRIPLET).list.eval(pl.element().rank("ordinal"))
        odd = sum(((pl.col("odd") == pl.col(one)) * at for at, one in enumerate(TRIPLET)), start=pl.lit(0))
        assert place is not None
        sides.append(rows.select("trial_set", *TRIPLET, place=odd))
    both = sides[0].join(sides[1], on=["trial_set", *TRIPLET])
    table = np.zeros((3, 3))
    np.add.at(table, (both["place"].to_numpy(), both["place_right"].to_numpy()), 1)
    found = cohens_kappa(table)
    ends = max(-1.0, float(found.kappa_low)), min(1.0, float(found.kappa_upp))
    return estimate(float(found.kappa), both.height, ends, 0.0)


def community_overlaps(world: World) -> Keyed:
    profiles = {}
    for agent in world.agents:
        seed = world.representative(agent)
        weights = world.weights(agent, seed)
        nodes = world.of("graph_nodes", agent=agent, seed=seed).sort("dimension")["community"].to_list()
        profiles[agent] = {
            number: (weights / weights.sum(axis=0))[:, [at for at, one in enumerate(nodes) if one == number]].sum(axis=1)
            for number in sorted({one for one in nodes if one})
        }
    for agent, against in permutations(world.agents, 2):
        rng = own_rng("overlap", agent, against)
        for (one, a), (other, b) in product(profiles[agent].items(), profiles[against].items()):
            found = stats.pearsonr(a, b)
            null = np.array([np.corrcoef(a, rng.permutation(b))[0, 1] for _ in range(DRAWS)])
            low, up = found.confidence_interval()
            yield (agent, one, against, other), {
                "r": float(found.statistic), "ci_low": float(low), "ci_high": float(up),
                "p_value": Level(float(found.statistic), null, N_OVERLAP), "n": len(a),
            }  # fmt: skip


# fits


def fits(world: World) -> Keyed:
    """Yield the rows of `fits` of agents whose three fits have dimensions."""
    for agent in world.agents:
        every = world.fitted(agent)
        match = {seed: np.mean([_both(weights, other) for number, other in every.items() if number != seed])
                 for seed, weights in every.items()}  # fmt: skip
        for seed, weights in every.items():
            curve = world.of("learning_curves", agent=agent, seed=seed).sort("epoch")
            last, checks = curve.filter("kept").row(0, named=True), curve.filter(pl.col("match").is_not_null())
            yield (agent, seed), {
                "n_dimensions": weights.shape[1], "held_out_loss": last["validation_loss"],
                "reproducibility": float(match[seed]), "representative": match[seed] == max(match.values()),
                "n_epochs": curve["epoch"].max(), "objective": last["objective"], "match": checks["match"][-1],
                "converged": checks["converged"][-1], "p_chance": last["p_chance"], "note": None,
            }  # fmt: skip


def _both(one: Array, other: Array) -> float:
    return float(np.tanh(best(one, other).mean()) + np.tanh(best(other, one).mean())) / 2


# brains


class Subject(NamedTuple):
    """A subject's stimuli (n,), runs (n,), z-scored patterns (n, v), voxels (v, 3) and regions by voxel."""

    name: str
    stimuli: Ints
    runs: Ints
    patterns: Array
    usable: NDArray[np.bool_]
    voxels: Ints
    regions: list[list[str]]


def subjects(world: World) -> list[Subject]:
    found = []
    for name in sorted(world.tables["voxels"]["subject"].unique()):
        voxels = world.of("voxels", subject=name).sort("voxel_index")
        rows = world.of("betas", subject=name).sort("stimulus_index")
        patterns = np.array(rows["pattern"].to_list(), np.float64)
        usable = np.isfinite(patterns).all(axis=0) & (np.ptp(patterns, axis=0) > 0)
        assert usable.tolist() == voxels["usable"].to_list()
        patterns[:, ~usable] = np.nan
        found.append(
            Subject(
                name, rows["stimulus_index"].to_numpy().astype(np.int64), rows["run"].to_numpy().astype(np.int64),
                stats.zscore(patterns, axis=0), usable,
                voxels.select("voxel_i", "voxel_j", "voxel_k").to_numpy().astype(np.int64),
                [text.split() for text in voxels["regions"]],
            )
        )  # fmt: skip
    return found


def bases(world: World, agent: str) -> dict[str, Array]:
    found = {"embedding": world.weights(agent, world.representative(agent))}
    described: Any = world.params.agents[agent]
    if described.kind == "ratings":
        assert described.scaling == "raw"
        scores, _, families = world.ratings
        found["vectors"] = scores[:, np.array(families) == described.ratings]
    return found


def shared(world: World) -> NDArray[np.bool_]:
    every = [vectors for agent in world.agents for vectors in bases(world, agent).values()]
    return np.all([np.ptp(vectors, axis=1) > 0 for vectors in every], axis=0)


def shared_stimuli(world: World) -> Keyed:
    yield from (((at,), {"shared": bool(one)}) for at, one in enumerate(shared(world)))


def selected(world: World, every: list[Subject]) -> dict[str, Ints]:
    """Return the stimuli on which subjects agree most, by subject: each row of the RSM with the others' mean row."""
    wanted = world.params.brain
    assert wanted is not None and wanted.searchlight.selection == "auto"
    n = world.n_stimuli
    rsms = np.full((len(every), n, n), np.nan)
    for at, one in enumerate(every):
        inside = np.flatnonzero(shared(world)[one.stimuli])
        rsms[(at, *np.ix_(one.stimuli[inside], one.stimuli[inside]))] = np.corrcoef(one.patterns[inside][:, one.usable])
        np.fill_diagonal(rsms[at], np.nan)
    agreement = np.full((len(every), n), np.nan)
    for at, stimulus in product(range(len(every)), range(n)):
        others = [rsms[other, stimulus] for other in range(len(every)) if other != at]
        assert len(others) == 1  # two subjects: the mean of the others is the other's
        use = ~np.isnan(rsms[at, stimulus]) & ~np.isnan(others[0])
        if use.sum() >= 3:
            agreement[at, stimulus] = stats.pearsonr(rsms[at, stimulus, use], others[0][use]).statistic
    for at, one in enumerate(every):
        stored = world.of("stimulus_reliability", subject=one.name).sort("stimulus_index")
        assert stored["stimulus_index"].to_list() == one.stimuli.tolist()
        np.testing.assert_allclose(stored["reliability"].cast(pl.Float64).fill_null(np.nan), agreement[at, one.stimuli], atol=1e-6)  # noqa: E501
        assert stored["selection"].unique().to_list() == ["others"] and stored["null_selected"].null_count() == len(stored)
    known = ~np.isnan(agreement).all(axis=0)
    mean = np.full(n, -np.inf)
    mean[known] = np.nanmean(agreement[:, known], axis=0)
    chosen = np.argsort(-mean)[: min(wanted.searchlight.n_stimuli, int(known.sum()))]
    found = {}
    for at, one in enumerate(every):
        found[one.name] = np.array([s for s in one.stimuli if s in chosen and not np.isnan(agreement[at, s])])
        stored = world.of("stimulus_reliability", subject=one.name, selected=True).sort("stimulus_index")
        assert stored["stimulus_index"].to_list() == found[one.name].tolist()
    return found


def rho(world: World, one: Subject, chosen: Ints, vectors: Array) -> tuple[Array, Ints]:
    """Return Spearman's ρ of each sphere's similarities with the agent's, and the number of voxels of each sphere."""
    wanted = world.params.brain.searchlight  # type: ignore[union-attr]
    inside = KDTree(one.voxels).query_ball_point(one.voxels, wanted.radius_voxels + 1e-6)
    patterns, upper = one.patterns[np.isin(one.stimuli, chosen)], np.triu_indices(len(chosen), 1)
    model = np.round(np.corrcoef(vectors[chosen])[upper], 10)  # similarities that are equal but for rounding are ties
    members = [[voxel for voxel in sphere if one.usable[voxel]] for sphere in inside]
    found = [
        stats.spearmanr(np.corrcoef(patterns[:, sphere])[upper], model).statistic
        if len(sphere) >= wanted.min_voxels and is_usable else np.nan
        for sphere, is_usable in zip(members, one.usable, strict=True)
    ]  # fmt: skip
    return np.array(found), np.array([len(sphere) for sphere in members])


PENALTIES = np.logspace(-3, 3, 100)


def encoding_r(world: World, one: Subject, vectors: Array) -> Array:
    """Return the cross-validated r of each voxel: folds of runs, and the penalty of each voxel by inner folds."""
    wanted = world.params.brain.encoding  # type: ignore[union-attr]
    assert wanted.by_run
    x, y = vectors[one.stimuli], one.patterns[:, one.usable]
    runs = np.unique(one.runs)
    outer = np.concatenate([[fold] * len(part) for fold, part in enumerate(np.array_split(runs, wanted.outer_folds))])
    outer, inner = outer[np.searchsorted(runs, one.runs)], np.searchsorted(runs, one.runs) % wanted.inner_folds
    r = []
    for fold in range(wanted.outer_folds):
        train, errors = outer != fold, []
        for part in sorted(set(inner[train])):
            learned, tested = train & (inner != part), train & (inner == part)
            a, b = _scaled(wanted.standardise, x[learned], x[tested])
            u, s, v = np.linalg.svd(a, full_matrices=False)
            target = u.T @ (y[learned] - y[learned].mean(axis=0))
            shrunk = s[:, None] / (s[:, None] ** 2 + PENALTIES)  # (k, penalties)
            predicted = np.einsum("nk,kp,kv->pnv", b @ v.T, shrunk, target, optimize=True) + y[learned].mean(axis=0)
            errors.append(((predicted - y[tested]) ** 2).mean(axis=1))
        chosen = PENALTIES[np.mean(errors, axis=0).argmin(axis=0)]
        a, b = _scaled(wanted.standardise, x[train], x[~train])
        predicted = Ridge(alpha=chosen).fit(a, y[train]).predict(b)
        r.append([stats.pearsonr(predicted[:, v], y[~train, v]).statistic for v in range(y.shape[1])])
    found = np.full(len(one.usable), np.nan)
    found[one.usable] = np.mean(r, axis=0)
    return found


def _scaled(standardise: bool, learned: Array, tested: Array) -> list[Array]:
    scaler = StandardScaler(with_std=standardise).fit(learned)
    return [scaler.transform(learned), scaler.transform(tested)]


def assert_maps(world: World) -> None:
    """Require that the values of all maps are those of the betas."""
    every = subjects(world)
    chosen = selected(world, every)
    n_maps = 0
    for agent, one in product(world.agents, every):
        for basis, vectors in bases(world, agent).items():
            own = {"agent": agent, "subject": one.name, "basis": basis}
            stored = world.of("rsa_maps", **own).sort("voxel_index")
            r, members = rho(world, one, chosen[one.name], vectors)
            own_rho = stored["rho"].fill_null(np.nan)
            np.testing.assert_allclose(own_rho, r, atol=2e-4)  # 32 bits exchange a few pairs of neighbouring ranks
            assert np.nanmean(np.abs(own_rho - r) > 3e-6) < 0.05
            assert stored["n_members"].to_list() == members.tolist()
            assert set(stored["n_stimuli"]) == {len(chosen[one.name])}
            assert [value for value in stored["bias"] if value is not None] == [0.0] * int((~np.isnan(r)).sum())
            stored = world.of("encoding_maps", **own).sort("voxel_index")
            np.testing.assert_allclose(stored["encoding_r"].fill_null(np.nan), encoding_r(world, one, vectors), atol=1e-6)
            assert set(stored["n_stimuli"]) == {len(one.stimuli)}
            n_maps += 1
    keys = [world.tables[table].select("agent", "subject", "basis").unique() for table in ("rsa_maps", "encoding_maps")]
    assert [len(frame) for frame in keys] == [n_maps, n_maps]


METHODS = {"encoding": ("encoding_maps", "encoding_r"), "searchlight": ("rsa_maps", "rho")}


def regions_of(one: Subject) -> dict[str, NDArray[np.bool_]]:
    names = sorted({name for row in one.regions for name in row})
    return {name: np.array([name in row for row in one.regions]) for name in names} | {"all": one.usable | True}


def map_of(world: World, method: str, agent: str, subject: str, basis: str) -> tuple[Array, Array | None]:
    table, column = METHODS[method]
    rows = world.of(table, agent=agent, subject=subject, basis=basis).sort("voxel_index")
    bias = rows["bias"].cast(pl.Float64).fill_null(np.nan).to_numpy() if "bias" in rows.columns else None
    return rows[column].cast(pl.Float64).fill_null(np.nan).to_numpy(), bias


def roi_scores(world: World) -> Keyed:
    every = subjects(world)
    chosen = selected(world, every)
    for agent, one in product(world.agents, every):
        for basis, method in product(bases(world, agent), METHODS):
            values, bias = map_of(world, method, agent, one.name, basis)
            n = len(one.stimuli) if method == "encoding" else len(chosen[one.name])
            for region, inside in regions_of(one).items():
                known = inside & ~np.isnan(values)
                yield (agent, one.name, basis, method, region), {
                    "region_score": float(values[known].mean()) if known.any() else None,
                    "region_bias": float(bias[known].mean()) if bias is not None and known.any() else None,
                    "n_voxels": int(known.sum()), "n_stimuli": n,
                }  # fmt: skip


def group_stats(world: World) -> Keyed:
    every, reference = subjects(world), world.params.brain.reference  # type: ignore[union-attr]
    regions = sorted({region for one in every for region in regions_of(one)})
    for method in METHODS:
        rows: dict[Key, dict[str, Any]] = {}
        for region, agent, other in product(regions, *[sorted(world.agents)] * 2):
            if agent != other:
                rows[method, region, agent, other] = _difference(world, every, method, region, agent, other)
        both = {key: max(row["p"], row["p_null"] or 0.0) if row["p"] is not None else None for key, row in rows.items()}
        planned = {key: value for key, value in both.items() if key[3] == reference}
        for name, family in (("p_fdr", {key: row["p"] for key, row in rows.items()}), ("p_reference_fdr", planned)):
            tested = [key for key, p in family.items() if p is not None]
            adjusted = multipletests([family[key] for key in tested], method="fdr_bh")[1] if tested else []
            levels = dict(zip(tested, map(float, adjusted), strict=True))
            rows = {key: row | {name: levels.get(key)} for key, row in rows.items()}
        yield from rows.items()


def _difference(world: World, every: list[Subject], method: str, region: str, agent: str, other: str) -> dict[str, Any]:
    differences, shares, null = [], [], []
    for one in every:
        if region not in regions_of(one):
            continue
        inside = regions_of(one)[region]
        a, b = (map_of(world, method, name, one.name, "embedding")[0] for name in (agent, other))
        known = inside & ~np.isnan(a) & ~np.isnan(b)
        if known.any():
            differences.append(a[inside & ~np.isnan(a)].mean() - b[inside & ~np.isnan(b)].mean())
            shares.append(np.mean(np.sign(a[known] - b[known])) / 2 + 0.5)
            table = {"encoding": "encoding_nulls", "searchlight": "rsa_nulls"}[method]
            drawn = [world.of(table, agent=name, subject=one.name, basis="embedding", region=region)["null_scores"].item()
                     for name in (agent, other)]  # fmt: skip
            null.append(np.array(drawn[0].to_list()) - np.array(drawn[1].to_list()))
        else:
            shares.append(math.nan)
    n, mean = len(differences), float(np.mean(differences)) if differences else None
    tested = stats.ttest_1samp(differences, 0) if n > 1 and np.ptp(differences) > 0 else None
    level = None
    if null and len(null[0]):
        z = np.abs(stats.zscore([float(mean or 0.0), *np.mean(null, axis=0)]))
        level = float((1 + (z[1:] >= z[0] - 1e-6).sum()) / len(z))
    return {
        "difference": mean, "t": float(tested.statistic) if tested else None,
        "p": float(tested.pvalue) if tested else None, "p_null": level, "n_subjects": n,
        "share_won": None if not shares or np.isnan(shares).any() else float(np.mean(shares)),
    }  # fmt: skip


# The tests.


@pytest.mark.parametrize("table", [metrics, labels, graph_nodes, graph_edges, comparisons, community_overlaps])
def test_rows_of_meaning(world: World, table: Callable[[World], Keyed]) -> None:
    assert_rows(world, table.__name__, table(world))


@pytest.mark.parametrize("table", [shared_stimuli, roi_scores, group_stats])
def test_rows_of_brains(world: World, table: Callable[[World], Keyed]) -> None:
    assert_rows(world, table.__name__, table(world))


def test_maps(world: World) -> None:
    assert_maps(world)


def test_fits(base: World) -> None:
    assert_rows(base, "fits", fits(base))


def test_learning_curves(base: World) -> None:
    wanted = base.params.spose
    assert wanted.patience is None and wanted.pruning == "max-weight"
    for agent, seed in product(base.agents, base.params.fit_seeds):
        curve = base.of("learning_curves", agent=agent, seed=seed).sort("epoch")
        weights, l1 = base.weights(agent, seed), base.params.agents[agent].l1
        train, validation = (base.answers(agent, "main", split) for split in ("train", "validation"))
        assert curve["epoch"].to_list() == list(range(len(curve)))
        last = curve.row(-1, named=True)
        assert curve["kept"].arg_true().to_list() == [last["epoch"]]
        found = scored(weights, validation)
        assert weights.shape[1] == last["n_dimensions"] == wanted.dimensions  # nothing was pruned
        assert last["validation_loss"] == pytest.approx(found.loss, abs=2e-6)
        assert last["validation_accuracy"] == pytest.approx(found.accuracy, abs=1e-9 + found.slack)
        assert last["objective"] - last["train_loss"] == pytest.approx(l1 * weights.sum() / len(weights), rel=1e-5)
        right = math.floor(found.accuracy * len(validation) + 1e-6)
        assert last["p_chance"] == pytest.approx(stats.binom.sf(right - 1, len(validation), 1 / 3), rel=1e-6)
        assert curve["p_chance"][:-1].null_count() == last["epoch"]
        assert last["train_loss"] == pytest.approx(scored(weights, train).loss, rel=0.2)
        assert curve["lapse"].unique().to_list() == [0.0]
        checks = curve.filter(pl.col("epoch") % wanted.convergence_epochs == 0, pl.col("epoch") > 0)
        for row in checks.iter_rows(named=True):
            before = curve.row(row["epoch"] - wanted.convergence_epochs, named=True)
            rested = before["objective"] and abs(row["objective"] / before["objective"] - 1) <= 1.1e-3
            still = before["objective"] and abs(row["objective"] - before["objective"]) <= 1e-3 * row["objective"]
            assert rested or not still
            alike = row["match"] > 0.99 and row["n_dimensions"] == before["n_dimensions"]
            assert row["converged"] == bool(still and alike)
        assert last["converged"] or last["epoch"] == wanted.max_epochs
        assert not checks["converged"][:-1].any()
        others = curve.filter((pl.col("epoch") % wanted.convergence_epochs != 0) | (pl.col("epoch") == 0))
        assert others["match"].null_count() == others["converged"].null_count() == len(others)


def test_sweeps(base: World) -> None:
    wanted, n = base.params.sweeps, {}
    for agent in base.agents:
        n = {split: len(base.answers(agent, "main", split)) for split in ("train", "test")}
        kept = {"judgments": [one for one in wanted.judgments if one <= n["train"]], "dimensions": wanted.dimensions}
        planned = {(sweep, float(setting), replicate) for sweep, settings in kept.items() for setting in settings
                   for replicate in range(wanted.replicates)}  # fmt: skip
        rows = base.of("sweeps", agent=agent)
        assert {row[1:4] for row in rows.iter_rows()} == planned and len(rows) == len(planned)
        d = base.fitted(agent)[min(base.fitted(agent))].shape[1]
        for row in rows.iter_rows(named=True):
            sixths = row["test_accuracy"] * n["test"] * 6
            assert abs(sixths - round(sixths)) < 1e-5  # a share of the test triplets, with ties of 2 and 3
            assert row["test_loss"] >= (1 - row["test_accuracy"]) * math.log(2)  # a wrong one has at most 1/2
            assert row["n_dimensions"] <= (row["setting"] if row["sweep"] == "dimensions" else base.params.spose.dimensions)
            assert 0 <= row["n_recovered"] <= d
            assert row["test_accuracy"] <= base.of("metrics", agent=agent, measure="accuracy", analysis="held_out")["value"].min()  # noqa: E501
        for sweep in kept:
            mine = rows.filter(sweep=sweep)
            assert mine["test_loss"].n_unique() == len(mine)  # replicates are other subsets
            losses = mine.group_by("setting").agg(pl.col("test_loss").mean()).sort("setting")["test_loss"]
            assert losses.is_sorted(descending=True)  # more dimensions, or more judgments, predict better
