"""The numbers of the page, read from the tables. Other modules word and draw them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import shortened
from affectlake.tasks import ANSWERS

OF_PEOPLE = ("judgments", "anchored", "experiment")
"""Kinds of agents whose answers people gave."""


class Estimate(NamedTuple):
    """One row of ``metrics``; missing values are None. ``seeds`` is the lowest and the highest value over all fits."""

    value: float
    ci_low: float | None
    ci_high: float | None
    chance: float | None
    p_value: float | None
    n: int | None
    seeds: tuple[float, float]


class Block(NamedTuple):
    """The ratings of one family: its name in the plural, and their number."""

    title: str
    n: int


@dataclass(frozen=True)
class Correlations:
    """Correlations of dimensions with ratings.

    Parameters
    ----------
    dimensions : tuple of int
        Dimension numbers, in ascending order.
    ratings : tuple of str
        Names of the ratings, family by family, each in alphabetical order.
    blocks : tuple of Block
        The families of the ratings, in the same order.
    r, ci_low, ci_high : float array (n_dimensions, n_ratings)
        Pearson correlations and the ends of their 95 % intervals; NaN where the table has no value.
    n : int or None
        Number of stimuli over which they were computed.
    """

    dimensions: tuple[int, ...]
    ratings: tuple[str, ...]
    blocks: tuple[Block, ...]
    r: NDArray[np.float64]
    ci_low: NDArray[np.float64]
    ci_high: NDArray[np.float64]
    n: int | None

    def above(self, threshold: float) -> int:
        """Count the dimensions whose r with at least one rating is above `threshold`."""
        return int((np.nan_to_num(self.r, nan=-1.0).max(axis=1, initial=-1.0) > threshold).sum())


@dataclass(frozen=True)
class AgentFacts:
    """The numbers of one agent.

    ``seed`` is that of the representative fit, which is shown; None for an agent without a fit. ``is_simulated``: its
    answers are computed, neither asked nor imported; ``is_human``: it is people, or made of their ratings; both
    according to the parameters. ``n_answers`` is the number of possible answers to a triplet. ``unclassified`` is the
    reason why the nearest-centroid accuracy is missing, if the table gives one.
    """

    agent: str
    kind: str
    is_simulated: bool
    is_human: bool
    seed: int | None
    n_seeds: int
    n_dimensions: int
    n_choices: int
    n_tied: int
    n_answers: int
    held_out: Estimate | None
    top1: Estimate | None
    top3: Estimate | None
    unclassified: str
    correlations: Correlations | None


class Category(NamedTuple):
    """A category of the stimuli, the number of stimuli in it, and their mean ratings (n_ratings,)."""

    name: str
    n: int
    profile: NDArray[np.float64]


_COMPARED = ("comparisons", "community_overlaps", "order_effects")


def agents(inputs: ReportInputs) -> list[str]:
    """Return the agents: those of the parameters, in their order, then those that occur only in tables."""
    named = list(_settings(inputs.params))
    whole = (inputs.choice_counts, inputs.embeddings, inputs.metrics, inputs.layouts, inputs.learning_curves)
    compared = [frame for name in _COMPARED if (frame := inputs.table(name)) is not None]
    frames = [(frame, column) for frame in (*whole, *compared) for column in ("agent", "against")]
    present = {str(agent) for frame, column in frames if column in frame.columns for agent in frame[column].unique()}
    return named + sorted(present - set(named))


def agent_facts(inputs: ReportInputs, agent: str) -> AgentFacts:
    """Read all numbers of one agent."""
    choices = of_agent(inputs.choice_counts, agent)
    weights = of_agent(inputs.embeddings, agent)
    metrics = of_agent(inputs.metrics, agent)
    fits = (of_agent(inputs.learning_curves, agent), weights, metrics.drop_nulls("seed"))
    chosen = of_agent(inputs.representatives, agent)
    seed = int(chosen["seed"].item()) if len(chosen) else None
    shown = of_fit(weights, seed)
    entry = _settings(inputs.params).get(agent)
    settings = entry if isinstance(entry, Mapping) else {}
    kind = str(settings.get("kind", ""))
    return AgentFacts(
        agent=agent,
        kind=kind,
        # kinds had other names before
        is_simulated=kind not in ("", "chat", *OF_PEOPLE) and "servers" not in settings,
        is_human="ratings" in settings or kind in OF_PEOPLE,
        seed=seed,
        n_seeds=max(frame["seed"].n_unique() for frame in fits),
        n_dimensions=shown["dimension"].n_unique(),
        n_choices=int(choices["n_choices"].sum()),
        n_tied=int(choices["n_tied"].sum()),
        n_answers=ANSWERS["anchored" if kind == "anchored" else "odd-one-out"],
        held_out=_estimate(metrics, seed, "held_out", "accuracy"),
        top1=_estimate(metrics, seed, "nearest_centroid", "top1_accuracy"),
        top3=_estimate(metrics, seed, "nearest_centroid", "top3_accuracy"),
        unclassified=_note(metrics, seed, "nearest_centroid", "top3_accuracy"),
        correlations=_correlations(inputs, of_fit(metrics, seed)),
    )


def of_agent(frame: pl.DataFrame, agent: str) -> pl.DataFrame:
    """Return the rows of one agent."""
    return frame.filter(pl.col("agent") == agent)


def of_fit(frame: pl.DataFrame, seed: int | None) -> pl.DataFrame:
    """Return the rows of one fit; no rows if `seed` is None."""
    return frame.clear() if seed is None else frame.filter(pl.col("seed") == seed)


def rows_of(inputs: ReportInputs, facts: AgentFacts, analysis: str, measure: str) -> pl.DataFrame:
    """Return the metrics of an analysis: those of the fit that is shown, and those that do not belong to a fit."""
    own = of_agent(inputs.metrics, facts.agent).filter(pl.col("analysis") == analysis, pl.col("measure") == measure)
    return own.filter(pl.col("seed").is_null() | pl.col("seed").eq_missing(pl.lit(facts.seed)))


def note_of(rows: pl.DataFrame, otherwise: str) -> str:
    """Return the reason that the table gives for a missing number, or `otherwise` if it gives none."""
    notes = rows.drop_nulls("note")
    return f"left out: {notes['note'][0]}" if len(notes) else otherwise


def first_labels(inputs: ReportInputs, facts: AgentFacts) -> dict[int, str]:
    """Return the first label of each dimension of the fit that is shown, such as ``sadness`` or ``arousal-low``."""
    rows = inputs.table("labels", facts.agent)
    if rows is None:
        return {}
    first = of_fit(rows, facts.seed).filter(pl.col("label_rank") == 1).select("dimension", "rating", "direction")
    return {d: rating if way == "high" else f"{rating}-low" for d, rating, way in first.iter_rows()}


def numbered(dimension: int, labels: Mapping[int, str]) -> str:
    """Return a dimension's number and its first label, such as ``7 sadness``, by which figures refer to each other."""
    return shortened(f"{dimension} {labels[dimension]}") if dimension in labels else str(dimension)


def categories(inputs: ReportInputs) -> list[Category]:
    """Return the categories of the stimuli, in alphabetical order."""
    counts = inputs.stimuli.drop_nulls("category").group_by("category").len().sort("category")
    names: list[str] = counts["category"].to_list()
    means = (
        inputs.stimuli.drop_nulls("category")
        .join(inputs.ratings, on="stimulus_index")
        .group_by("category", "rating")
        .agg(pl.col("score").mean())
    )
    columns = sorted(means["rating"].unique().to_list())
    profiles = np.zeros((len(names), len(columns)))
    row, column = {name: at for at, name in enumerate(names)}, {name: at for at, name in enumerate(columns)}
    for category, rating, score in means.iter_rows():
        profiles[row[category], column[rating]] = round(score, 9)  # means may differ in their last bits
    return [Category(name, n, profiles[at]) for at, (name, n) in enumerate(counts.iter_rows())]


def _settings(params: Mapping[str, object]) -> Mapping[str, object]:
    settings = params.get("agents")
    return settings if isinstance(settings, Mapping) else {}


def _note(metrics: pl.DataFrame, seed: int | None, analysis: str, measure: str) -> str:
    rows = of_fit(metrics, seed).filter(pl.col("analysis") == analysis, pl.col("measure") == measure).drop_nulls("note")
    return str(rows["note"][0]) if len(rows) else ""


def _estimate(metrics: pl.DataFrame, seed: int | None, analysis: str, measure: str) -> Estimate | None:
    rows = metrics.filter(
        pl.col("analysis") == analysis, pl.col("measure") == measure, pl.col("value").is_not_null()
    ).sort("seed")
    shown = of_fit(rows, seed)
    if not len(shown):
        return None
    row = shown.row(0, named=True)
    values = rows["value"].to_list()
    return Estimate(
        value=row["value"],
        ci_low=row["ci_low"],
        ci_high=row["ci_high"],
        chance=row["chance"],
        p_value=row["p_value"],
        n=row["n"],
        seeds=(min(values), max(values)),
    )


def _correlations(inputs: ReportInputs, metrics: pl.DataFrame) -> Correlations | None:
    rows = metrics.filter(
        pl.col("analysis") == "rating_correlation",
        pl.col("measure") == "pearson_r",
        pl.col("dimension").is_not_null(),
        pl.col("rating").is_not_null(),
    )
    if not len(rows):
        return None
    named = set(rows["rating"])
    known = [name for family in inputs.families for name in family.ratings if name in named]
    others = sorted(named - set(known))
    names = [*known, *others]
    dimensions = sorted(rows["dimension"].unique().to_list())
    at_row = {dimension: at for at, dimension in enumerate(dimensions)}
    at_column = {name: at for at, name in enumerate(names)}
    where = [at_row[d] for d in rows["dimension"]], [at_column[name] for name in rows["rating"]]

    def matrix(column: str) -> NDArray[np.float64]:
        filled = np.full((len(dimensions), len(names)), np.nan)
        filled[where] = rows[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return filled

    return Correlations(
        dimensions=tuple(dimensions),
        ratings=tuple(names),
        blocks=tuple(
            Block(title, n)
            for title, n in (
                *((family.plural, len(named.intersection(family.ratings))) for family in inputs.families),
                ("other ratings", len(others)),
            )
            if n
        ),
        r=matrix("value"),
        ci_low=matrix("ci_low"),
        ci_high=matrix("ci_high"),
        n=next(iter(rows["n"].drop_nulls().to_list()), None),
    )
