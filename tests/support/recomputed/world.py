"""The tables to recompute: those of the demo lake, and those that the analyses make from altered inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

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

TRIPLET = ["i", "j", "k"]
KEYS = {
    "metrics": ("agent", "seed", "analysis", "measure", "dimension", "rating", "setting"),
    "labels": ("agent", "seed", "dimension", "label_rank"),
    "graph_nodes": ("agent", "seed", "dimension"),
    "graph_edges": ("agent", "seed", "dimension", "other_dimension"),
    "comparisons": ("agent", "against", "analysis", "measure"),
    "community_overlaps": ("agent", "community", "against", "other_community"),
    "fits": ("agent", "seed"),
    "shared_stimuli": ("stimulus_index",),
    "roi_scores": ("agent", "subject", "basis", "method", "region"),
    "group_stats": ("method", "region", "agent", "other_agent"),
    "prevalence": ("agent", "method", "region"),
}
"""The tables that are recomputed row by row, and the columns of their keys."""

OTHERS = (
    "betas", "choices", "embeddings", "encoding_maps", "encoding_nulls", "families", "learning_curves", "ratings",
    "rsa_maps", "rsa_nulls", "stimuli", "stimulus_reliability", "sweeps", "triplets", "voxels",
)  # fmt: skip


class Ratings(NamedTuple):
    """Scores (n_stimuli, n_ratings), and the name and family of each rating, sorted by name."""

    scores: Array
    names: list[str]
    families: list[str]

    def of(self, family: str) -> Array:
        return self.scores[:, np.array(self.families) == family]


@dataclass(repr=False)
class World:
    """Tables by name, and the parameters with which they were made."""

    tables: dict[str, pl.DataFrame]
    params: Params
    _known: dict[tuple[object, ...], Any] = field(default_factory=dict)

    def of(self, table: str, **columns: object) -> pl.DataFrame:
        """Return the rows of a table with these values."""
        return self.tables[table].filter([pl.col(name) == value for name, value in columns.items()])

    def once(self, key: tuple[object, ...], compute: Callable[[], Any]) -> Any:
        """Return what was computed under a key; compute it if it was not."""
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    @cached_property
    def agents(self) -> list[str]:
        return list(self.params.agents)

    @cached_property
    def n_stimuli(self) -> int:
        return self.tables["stimuli"].height

    def weights(self, agent: str, seed: int) -> Array:
        """Return an embedding (n_stimuli, d)."""

        def read() -> Array:
            rows = self.of("embeddings", agent=agent, seed=seed)
            found = np.zeros((self.n_stimuli, rows["dimension"].n_unique()))
            found[rows["stimulus_index"].to_numpy(), rows["dimension"].to_numpy() - 1] = rows["weight"].to_numpy()
            return found

        return self.once(("weights", agent, seed), read)

    def fitted(self, agent: str) -> dict[int, Array]:
        """Return the embeddings that have a dimension, by seed."""
        found = {seed: self.weights(agent, seed) for seed in sorted(self.params.fit_seeds)}
        return {seed: weights for seed, weights in found.items() if weights.shape[1]}

    def representative(self, agent: str) -> int:
        """Return the seed of the representative fit."""
        return int(self.of("fits", agent=agent, representative=True)["seed"].item())

    def answers(self, agent: str, trial_set: str, split: str = "") -> Ints:
        """Return all answers (m, 3): the two similar stimuli, then the odd one."""

        def read() -> Ints:
            rows = self.of("choices", agent=agent, trial_set=trial_set)
            if split:
                rows = rows.join(self.of("triplets", trial_set=trial_set, split=split), on=TRIPLET, how="semi")
            asked, odd = rows.select(TRIPLET).to_numpy().astype(np.int64), rows["odd"].to_numpy()[:, None]
            return np.hstack([asked[asked != odd].reshape(-1, 2), odd.astype(np.int64)])

        return self.once(("answers", agent, trial_set, split), read)

    @cached_property
    def ratings(self) -> Ratings:
        wide = self.tables["ratings"].pivot("rating", index="stimulus_index", values="score").sort("stimulus_index")
        names = sorted(set(wide.columns) - {"stimulus_index"})
        family = dict(self.tables["ratings"].select("rating", "family").iter_rows())
        return Ratings(wide.select(names).to_numpy(), names, [family[name] for name in names])

    @cached_property
    def prototypes(self) -> list[int]:
        """The highest-rated stimuli of each category."""
        found = set[int]()
        for column in self.ratings.of("category").T:
            best = np.lexsort([np.arange(len(column)), -column])[: self.params.triplets.prototypes_per_category]
            found |= {int(one) for one in best if column[one] > 0}
        return sorted(found)


def published() -> World:
    """Return the tables of the demo lake."""
    lake = affectlake.open(demo_lakes.one_version())
    params = parse((lake.root / "params.yaml").read_text(encoding="utf-8"))
    return World({name: lake.table(name).collect() for name in (*KEYS, *OTHERS)}, params)


def made_again(world: World, steps: tuple[str, ...], scratch: Path) -> World:
    """Return the tables after some steps have run again on them."""
    made: dict[str, list[pl.DataFrame]] = {}
    for stage in stages(world.params, NOTHING).values():
        if stage.step.name not in steps:
            continue
        tables = {}
        for name in {output.table for output in stage.reads}:
            frame = pl.concat(made[name]) if name in made else world.tables[name]
            agents = [output.partition for output in stage.reads if output.table == name and output.partition]
            tables[name] = frame.lazy().filter(pl.col("agent").is_in(agents)) if agents else frame.lazy()
        place = scratch / stage.name
        place.mkdir(parents=True)
        context = StepContext(stage.agent, scratch, place, 1, lambda _: None, lambda _: None, agents=stage.agents)
        for name, frame in stage.step(tables, world.params, context).items():
            if name in world.tables:
                kept = world.tables[name]
                made.setdefault(name, []).append(frame.select(kept.columns).cast(dict(kept.schema)))
    return World(world.tables | {name: pl.concat(parts) for name, parts in made.items()}, world.params)


SETTINGS = (
    "geometry.absolute_edges=true",
    "geometry.edge_threshold=0.3",
    "geometry.label_gap=0.05",
    "geometry.min_category_size=20",
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
ANALYSES = (
    "measure", "describe", "compare", "share_stimuli", "select_stimuli", "encode_brains", "search_brains",
    "score_regions", "compare_brains",
)  # fmt: skip
REPRESENTATIVE = {"human-category": 1, "human-dimension": 0, "caption-tfidf": 1}
LOST = "the fit learned nothing: no dimension survived pruning"
_AGENT, _SEED, _AT = pl.col("agent"), pl.col("seed"), pl.col("stimulus_index")


def altered(base: World, scratch: Path) -> World:
    """Return the tables that the analyses make from altered inputs, under other settings.

    Answers are inconsistent or missing; a fit has no dimension; a dimension, a rating and a stimulus's weights are
    constant; other fits are representative; categories are tied or missing; voxels cannot be used; stimuli were not
    shown; fits of sweeps are missing.
    """
    tables = base.tables | _judged(base.tables) | _rated(base.tables) | _recorded(base.tables)
    sweep, setting = pl.col("sweep"), pl.col("setting")
    tables["sweeps"] = tables["sweeps"].filter(
        ~((_AGENT == "human-dimension") & (sweep == "judgments")),
        ~((_AGENT == "caption-tfidf") & (sweep == "judgments") & (setting == 500)),
        ~((_AGENT == "human-category") & (setting == 3) & (pl.col("replicate") == 1)),
    )
    params = parse(override(starting_params("demo"), (*demo_lakes.SETTINGS, *SETTINGS)))
    return made_again(World(tables, params), ANALYSES, scratch)


def _judged(tables: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Return choices, embeddings and fits."""
    lost = (_AGENT == "human-dimension") & (_SEED == 1)
    weight = (
        pl.when((_AGENT == "human-category") & (_SEED == 1) & (_AT == 7)).then(0.0)
        .when((_AGENT == "caption-tfidf") & (_SEED == 0) & (pl.col("dimension") == 12)).then(0.5)
        .otherwise("weight").cast(pl.Float32)
    )  # fmt: skip
    fits = tables["fits"].filter(_SEED < 2)
    fits = fits.with_columns(
        representative=_AGENT.replace_strict(REPRESENTATIVE) == _SEED,
        n_dimensions=pl.when(lost).then(0).otherwise("n_dimensions").cast(pl.Int16),
        note=pl.when(lost).then(pl.lit(LOST)),
    )
    embeddings = tables["embeddings"].filter(~lost, _SEED < 2).with_columns(weight=weight)
    return {"choices": _inconsistent(tables["choices"]), "embeddings": embeddings, "fits": fits}


def _inconsistent(choices: pl.DataFrame) -> pl.DataFrame:
    """Return choices of which some are guesses, and some are missing."""
    rng = np.random.default_rng(1)
    guesses = {
        ("human-category", "noise_ceiling"): 0.3, ("human-category", "validation"): 0.1,
        ("human-dimension", "noise_ceiling"): 1.0, ("human-dimension", "main"): 0.1,
        ("caption-tfidf", "noise_ceiling"): 0.6, ("caption-tfidf", "validation"): 0.2,
    }  # fmt: skip
    share = pl.lit(0.0)
    for (agent, trial_set), p in guesses.items():
        share = pl.when((agent == _AGENT) & (pl.col("trial_set") == trial_set)).then(p).otherwise(share)
    drawn = choices.with_columns(
        guess=pl.Series(rng.random(len(choices))),
        place=pl.Series(rng.integers(0, 3, len(choices))),
        lost=pl.Series(rng.random(len(choices)) < 0.1),
    )
    other = pl.when(pl.col("place") == 0).then("i").when(pl.col("place") == 1).then("j").otherwise("k")
    found = drawn.with_columns(odd=pl.when(pl.col("guess") < share).then(other).otherwise("odd"))
    missing = (_AGENT == "human-dimension") & (pl.col("trial_set") == "validation")
    return found.filter(~missing, ~(pl.col("lost") & (_AGENT == "caption-tfidf"))).select(choices.columns)


def _rated(tables: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Return ratings and stimuli."""
    is_category, top = pl.col("family") == "category", pl.col("score").max().over("stimulus_index", "family")
    score = (
        pl.when(is_category & _AT.is_in([3, 9])).then(top)
        .when(is_category & (_AT == 11)).then(0.0)
        .when(pl.col("rating") == "arousal").then(5.0)
        .otherwise("score")
    )  # fmt: skip
    stimuli = tables["stimuli"].with_columns(category=pl.when(_AT != 11).then("category"))
    return {"ratings": tables["ratings"].with_columns(score=score), "stimuli": stimuli}


def _recorded(tables: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Return voxels and betas: some voxels of one subject are constant, and a region of the other one has no number.

    Two stimuli were not shown to the other one.
    """
    first, second = sorted(tables["voxels"]["subject"].unique())
    subject, voxel = pl.col("subject"), pl.col("voxel_index")
    in_region = pl.col("regions").str.split(" ").list.contains("OFC")
    bad = ((subject == first) & (voxel == 5)) | ((subject == second) & in_region)
    lost = tables["voxels"].filter(subject == second, in_region)["voxel_index"].to_list()
    betas = tables["betas"]
    patterns, is_first = np.array(betas["pattern"].to_list(), np.float32), (betas["subject"] == first).to_numpy()
    patterns[is_first, 5] = 1.0
    patterns[np.ix_(~is_first, lost)] = np.nan
    betas = betas.with_columns(pattern=pl.Series(patterns.tolist(), dtype=pl.List(pl.Float32)))
    shown = betas.filter((subject == first) | ~_AT.is_in([20, 41]))
    return {"voxels": tables["voxels"].with_columns(usable=~bad), "betas": shown}
