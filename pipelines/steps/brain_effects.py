"""Columns beside t-tests across subjects: effect sizes, Bayes factors, and in how many subjects an effect is found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.brain.effect_sizes import bayes_factors, effect_sizes
from affectlake.brain.prevalence import Significant, prevalence, significant_subjects
from affectlake.pipelines.steps.rows import Row

Floats = NDArray[np.float64]
LEVEL = 0.05
"""Level of the test of a subject alone."""

UNTESTED = Significant(0, 0, float("nan"))


def with_effect_sizes(rows: Sequence[Row]) -> list[Row]:
    """Return rows of t-tests across subjects (`t`, `n_subjects`) with Hedges' g, its interval, and the Bayes factor."""
    t, n = (np.array([row[name] for row in rows], dtype=np.float64) for name in ("t", "n_subjects"))
    sizes, factors = effect_sizes(t, n), bayes_factors(t, n)
    names = ("effect_size", "effect_ci_low", "effect_ci_high", "bayes_factor")
    found = zip(*(column.tolist() for column in (sizes.g, sizes.low, sizes.high, factors)), strict=True)
    return [row | dict(zip(names, values, strict=True)) for row, values in zip(rows, found, strict=True)]


def with_prevalence(row: Row, count: Significant) -> Row:
    """Return a row with the number of subjects that are significant on their own, and the prevalence in the population.

    Without values if the subjects cannot be significant (no subject, too few relabellings).
    """
    if np.isnan(count.alpha) or not count.n_subjects:
        return row
    found = prevalence(count.n_significant, count.n_subjects, count.alpha)
    names = ("prevalence", "prevalence_low", "prevalence_high", "prevalence_bound")
    values: Row = dict(zip(names, (float(value) for value in found), strict=True))
    return row | {"n_significant": count.n_significant, "subject_level": count.alpha} | values


def prevalence_rows(method: str, scores: pl.DataFrame, drawn: pl.DataFrame) -> list[Row]:
    """Return for each agent and region in how many subjects the score is higher than under relabelled stimuli.

    Parameters
    ----------
    method : str
        The kind of maps.
    scores : polars.DataFrame
        ``agent, subject, region, region_score`` with the bias of the selection; one row per subject.
    drawn : polars.DataFrame
        ``agent, subject, region, null_scores``.
    """
    keys = ["agent", "subject", "region"]
    joined = scores.drop_nulls("region_score").join(drawn.select(*keys, "null_scores"), on=keys, how="left")
    named = scores.select("agent", "region").unique().sort("agent", "region")
    own = dict(iter(joined.group_by("agent", "region")))
    rows = list[Row]()
    for agent, region in named.iter_rows():
        row: Row = {"agent": agent, "method": method, "region": region}
        of_region = own.get((agent, region))
        count, note = UNTESTED, "no subject has a score"
        if of_region is not None:
            count, note = _counted(of_region.sort("subject"))
        row |= {"n_subjects": 0 if of_region is None else of_region.height, "note": note or None}
        rows.append(with_prevalence(row, count))
    return rows


def _counted(rows: pl.DataFrame) -> tuple[Significant, str]:
    n = int(rows["null_scores"].list.len().fill_null(0).min() or 0)  # type: ignore[arg-type]
    if not n:
        return UNTESTED, "no values under relabelled stimuli"
    null = np.array(rows["null_scores"].list.head(n).to_list(), dtype=np.float64).T
    count = significant_subjects(rows["region_score"].cast(pl.Float64).to_numpy(), null, LEVEL)
    if np.isnan(count.alpha):
        return count, f"{n} relabelling{'s are' if n > 1 else ' is'} too few for a level of {LEVEL}"
    return count, ""
