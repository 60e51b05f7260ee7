"""Tables as arrays, for several steps: judgments, embeddings and ratings. There are no computations here."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake import triplets as trials
from affectlake.judge.vectors.ratings import RatingMatrix, rating_matrix
from affectlake.pipelines.step import Tables
from affectlake.tasks import Task
from affectlake.triplets import TRIPLET

ODDS = ("q_i", "q_j", "q_k")
"""Columns of ``soft_choices`` with the probability that i, j or k is the odd one out."""

Embedding = NDArray[np.float32]


class Answers(NamedTuple):
    """Triplets of a trial set as int32 (m, 3) with i < j < k, and the odd one out of each triplet (m,)."""

    triplets: NDArray[np.int32]
    odd: NDArray[np.int32]


NO_ANSWERS = Answers(np.empty((0, 3), np.int32), np.empty(0, np.int32))


def trials_of(tables: Tables) -> pl.LazyFrame:
    """Return the triplets of an agent, with their splits: its own if it has such, otherwise those of the study."""
    return tables["trials"] if "trials" in tables else tables["triplets"]


def judged(tables: Tables, split: str) -> NDArray[np.int32]:
    """Return the judgments of one split of the main set as (m, 3), of the task :func:`task_of`.

    The rows are the similar pair and the odd one out; of anchored triplets, the head, the winner and the loser.
    """
    joined = _of_split(tables, split)
    if task_of(tables) == "anchored":
        return np.ascontiguousarray(joined.select("head", "winner", "loser").collect().to_numpy())
    found = joined.select(*TRIPLET, "odd").collect()
    return trials.odd_last(np.ascontiguousarray(found.select(TRIPLET).to_numpy()), found["odd"].to_numpy())


def judged_softly(tables: Tables, split: str) -> NDArray[np.float32] | None:
    """Return the probability that each stimulus of the rows of :func:`judged` is the odd one out, as float32 (m, 3).

    Where it is not known, that of the choice is 1. None for agents that do not learn from probabilities.
    """
    if "soft_choices" not in tables:
        return None
    keys = ["trial_set", *TRIPLET, "repeat"]
    known = tables["soft_choices"].select(*keys, *ODDS)
    found = _of_split(tables, split).join(known, on=keys, how="left", maintain_order="left").collect()
    triplets = np.ascontiguousarray(found.select(TRIPLET).to_numpy())
    rows = trials.odd_last(triplets, found["odd"].to_numpy())
    member = (triplets[:, None, :] == rows[:, :, None]).argmax(axis=2)  # in each column of the rows
    odds = np.take_along_axis(found.select(ODDS).to_numpy().astype(np.float64), member, axis=1)  # null becomes NaN
    return np.where(np.isnan(odds), np.array([0.0, 0.0, 1.0]), odds).astype(np.float32)


def _of_split(tables: Tables, split: str) -> pl.LazyFrame:
    """Return the rows of ``choices`` or ``anchored_choices`` of one split of the main set."""
    name = "anchored_choices" if task_of(tables) == "anchored" else "choices"
    rows = tables[name].filter(pl.col("trial_set") == "main")
    asked = trials_of(tables).filter((pl.col("trial_set") == "main") & (pl.col("split") == split))
    return rows.join(asked.select(TRIPLET), on=TRIPLET, maintain_order="left")


def task_of(tables: Tables) -> Task:
    """Return the task of an agent's judgments: anchored if ``anchored_choices`` are read in place of ``choices``."""
    return "odd-one-out" if "choices" in tables else "anchored"


def answers(choices: pl.LazyFrame, trial_set: str) -> Answers:
    """Return all choices of one trial set, including repeats."""
    rows = choices.filter(pl.col("trial_set") == trial_set).select(*TRIPLET, "odd").collect()
    triplets = np.ascontiguousarray(rows.select(TRIPLET).to_numpy().astype(np.int32))
    return Answers(triplets, rows["odd"].to_numpy())


def answers_to(choices: pl.LazyFrame, asked: pl.LazyFrame) -> Answers:
    """Return all choices of the triplets `asked`, in whichever trial set they are."""
    rows = choices.join(asked.select(TRIPLET), on=TRIPLET, how="semi", maintain_order="left")
    return answers(rows.with_columns(trial_set=pl.lit("asked")), "asked")


def repeated(tables: Tables) -> NDArray[np.int64]:
    """Return how often each stimulus was the odd one out in each triplet that was asked repeatedly: (n, 3).

    These are the triplets of the noise-ceiling set; of an agent with triplets of its own, those with several answers.
    Of anchored triplets: how often each of the two stimuli won, for each triplet and head with several answers: (n, 2).
    """
    if task_of(tables) == "anchored":
        low = pl.min_horizontal("winner", "loser")
        asked_of = tables["anchored_choices"].group_by(*TRIPLET, "head").agg(
            (pl.col("winner") == low).sum().alias("n_low"), (pl.col("winner") != low).sum().alias("n_high")
        )  # fmt: skip
        several = asked_of.filter(pl.col("n_low") + pl.col("n_high") > 1).sort(*TRIPLET, "head")
        return several.select("n_low", "n_high").collect().to_numpy().astype(np.int64)
    choices = tables["choices"]
    if "trials" in tables:
        several = tables["trials"].filter(pl.col("n_repeats") > 1).select("trial_set", *TRIPLET)
        asked = choices.join(several, on=["trial_set", *TRIPLET], how="semi")
    else:
        asked = choices.filter(pl.col("trial_set") == "noise_ceiling")
    rows = asked.group_by(TRIPLET)
    counts = rows.agg(*((pl.col("odd") == pl.col(column)).sum().alias(f"n_{column}") for column in TRIPLET))
    return counts.sort(TRIPLET).select("n_i", "n_j", "n_k").collect().to_numpy().astype(np.int64)


def seeds(tables: Tables) -> list[int]:
    """Return the seeds of the fits that have a dimension, in ascending order."""
    found: list[int] = tables["embeddings"].select(pl.col("seed").unique().sort()).collect()["seed"].to_list()
    return found


def embedding(tables: Tables, seed: int) -> Embedding:
    """Return one fit as (n_stimuli, n_dimensions)."""
    rows = tables["embeddings"].filter(pl.col("seed") == seed).sort("dimension", "stimulus_index").collect()
    return np.ascontiguousarray(rows["weight"].to_numpy().reshape(rows["dimension"].n_unique(), -1).T)


def fits(tables: Tables) -> dict[int, Embedding]:
    """Return the embedding of each fit by seed."""
    return {seed: embedding(tables, seed) for seed in seeds(tables)}


def fit_results(tables: Tables) -> dict[int, dict[str, Any]]:
    """Return the columns of ``fits`` that follow from the learning curves, by seed, including fits without a dimension.

    The loss is that of the kept epoch; convergence and match are those of the last check. ``n_fitted``, the number of
    dimensions of the kept epoch, is not a column: it tells pruned fits from those that learned nothing.
    """
    curves = tables["learning_curves"].sort("seed", "epoch")
    kept = pl.col("kept")
    found = curves.group_by("seed", maintain_order=True).agg(
        pl.col("validation_loss").filter(kept).last().alias("held_out_loss"),
        pl.col("epoch").max().alias("n_epochs"),
        pl.col("objective").filter(kept).last(),
        pl.col("match").drop_nulls().last(),
        pl.col("converged").drop_nulls().last().fill_null(value=False),
        pl.col("p_chance").filter(kept).last(),
        pl.col("n_dimensions").filter(kept).last().alias("n_fitted"),
    )
    return {row.pop("seed"): row for row in found.collect().to_dicts()}


def fit_notes(tables: Tables) -> dict[int, str]:
    """Return why fits have no dimensions, by seed."""
    return dict(tables["fits"].filter(pl.col("note").is_not_null()).select("seed", "note").collect().iter_rows())


def representative(tables: Tables) -> tuple[int, Embedding] | None:
    """Return the seed and the embedding of the representative fit; None if no fit has a dimension."""
    chosen = tables["fits"].filter("representative", pl.col("n_dimensions") > 0).select("seed").collect()
    return (chosen.item(), embedding(tables, chosen.item())) if len(chosen) else None


def representative_of(tables: Tables, agent: str) -> tuple[int, Embedding] | None:
    """Return the same of one agent, if the tables have the rows of several."""
    return representative({name: tables[name].filter(pl.col("agent") == agent) for name in ("embeddings", "fits")})


def ratings(tables: Tables) -> RatingMatrix:
    """Return the ratings of all stimuli and families."""
    found = rating_matrix(tables["ratings"].collect(), tables["stimuli"].select(pl.len()).collect().item())
    return found._replace(scores=np.asfortranarray(found.scores))  # column order, so that sums keep their last digits
