"""The brain's answer in words: which agent is closest to the brain, for each kind of map."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from affectlake.report.effect_wording import effect_words, prevalence_words
from affectlake.report.inputs import BrainInputs
from affectlake.report.number_format import counted, decimal, level, listed

WHOLE_BRAIN = "all"


def brain_answers(brain: BrainInputs | None, methods: Mapping[str, str]) -> list[str]:
    """Return one sentence for each kind of map that has scores of the whole brain.

    Parameters
    ----------
    brain : BrainInputs or None
        None for a study without brains.
    methods : mapping of str to str
        Names of the kinds of maps, by their keys.
    """
    if brain is None:
        return []
    return [sentence for key, name in methods.items() if (sentence := _answer(brain, key, name))]


def _answer(brain: BrainInputs, method: str, name: str) -> str:
    rows = brain.scores.filter(
        pl.col("region") == WHOLE_BRAIN, pl.col("method") == method, pl.col("basis") == "embedding"
    ).drop_nulls("region_score")
    means = rows.group_by("agent").agg(pl.col("region_score").mean())
    means = means.sort("region_score", "agent", descending=[True, False])
    if not len(means):
        return ""
    values = [f"{agent} ({decimal(value, 3)})" for agent, value in means.iter_rows()]
    n = counted(rows["subject"].n_unique(), "subject")
    if len(values) == 1:
        return f"{name}: over all voxels, the mean of {n} is {values[0]}."
    first, *others = values
    order = f"{name}: {first} is closest to the brain, before {listed(others)}; means of all voxels of {n}."
    return f"{order}{_tested(brain, method)}{_prevalence(brain, method)}"


def _tested(brain: BrainInputs, method: str) -> str:
    """Return which agents differ from the reference, if the version compares them."""
    if not brain.reference or "p_reference_fdr" not in brain.stats.columns:
        return ""
    rows = brain.stats.filter(
        pl.col("region") == WHOLE_BRAIN, pl.col("method") == method, pl.col("other_agent") == brain.reference
    ).drop_nulls("p_reference_fdr")
    if not len(rows):
        return ""
    differ = [
        f"{row['agent']} ({', '.join(filter(None, [level(row['p_reference_fdr']), effect_words(row)]))})"
        for row in rows.sort("agent").iter_rows(named=True)
        if row["p_reference_fdr"] < 0.05
    ]
    if not differ:
        return f" No agent differs from the reference {brain.reference} (false discovery rate below 0.05)."
    return f" From the reference {brain.reference}, {listed(differ)} differ{'s' if len(differ) == 1 else ''}."


def _prevalence(brain: BrainInputs, method: str) -> str:
    """Return in how many subjects each agent is significant on its own, if the version has it."""
    if not len(brain.prevalence):
        return ""
    rows = brain.prevalence.filter(pl.col("region") == WHOLE_BRAIN, pl.col("method") == method).sort("agent")
    words = [f"{row['agent']} {found}" for row in rows.iter_rows(named=True) if (found := prevalence_words(row))]
    return f" Above relabelled stimuli in a subject's own data: {'; '.join(words)}." if words else ""
