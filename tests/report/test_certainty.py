"""The report's section on how sure brain scores are: dots, intervals, and the reasons of what is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from affectlake.errors import FigureError
from affectlake.report import ReportInputs, render
from tests.report.test_brain import AGENTS, brains
from tests.report.test_report import Page, make_inputs
from tests.support.figures import figure_of

SCORES = {("VC", AGENTS[0]): 0.3, ("VC", AGENTS[1]): 0.1, ("OFC", AGENTS[0]): 0.02, ("OFC", AGENTS[1]): 0.2}


def inputs(**changed: pl.DataFrame) -> ReportInputs:
    keys = {"region": [region for region, _ in SCORES], "agent": [agent for _, agent in SCORES]}
    value = pl.Series(list(SCORES.values()))
    generalised = pl.DataFrame(keys).with_columns(
        evaluation=value, ci_low=value - 0.05, ci_high=value + 0.1, generalises_to=pl.lit("both"),
        note=pl.lit(None, pl.String),
        p_above_zero_fdr=pl.when(value > 0.15).then(0.01).otherwise(0.2), n_subjects=pl.lit(5), n_stimuli=pl.lit(60),
    )  # fmt: skip
    prevalence = pl.DataFrame(keys).with_columns(
        method=pl.lit("searchlight"), n_subjects=pl.lit(5), subject_level=pl.lit(0.05), prevalence=value * 2,
        prevalence_low=value, prevalence_high=value * 3, note=pl.lit(None, pl.String),
    )  # fmt: skip
    ceilings = pl.DataFrame({"region": ["VC", "OFC"], "ceiling_low": [0.4, None]})
    made = make_inputs(brain=brains())
    tables = {
        "brain_generalisation": generalised, "brain_generalisation_ceilings": ceilings, "prevalence": prevalence
    }  # fmt: skip
    return replace(made, analyses={**made.analyses, **tables, **changed})


def dots(ax: object, *, filled: bool) -> list[float]:
    lines = [line for line in ax.lines if line.get_marker() not in ("", "None", None)]  # type: ignore[attr-defined]
    kept = [line for line in lines if (line.get_markerfacecolor() != "white") == filled]
    return sorted(np.concatenate([line.get_ydata() for line in kept]).tolist())


def test_dots_are_the_scores_and_filled_where_they_are_above_zero() -> None:
    figure = figure_of("generalised_scores", inputs(), group="cortical")
    (ax,) = figure.axes
    assert dots(ax, filled=True) == [0.2, 0.3] and dots(ax, filled=False) == [0.02, 0.1]
    lines = [line.get_ydata().reshape(-1, 3) for line in ax.lines if np.isnan(line.get_ydata()).any()]
    ends = sorted((round(low, 9), round(high, 9)) for line in lines for low, high, _ in line.tolist())
    assert ends == sorted((round(value - 0.05, 9), round(value + 0.1, 9)) for value in SCORES.values())
    assert len(ax.collections) == 1  # the ceiling of VC; that of OFC is not known
    assert (
        "other subjects and other stimuli" in figure.caption and "5\u00a0subjects and 60\u00a0stimuli" in figure.caption
    )
    hints = {hint for note in figure.notes.values() for hint in note.hints}
    assert "human-category, visual cortex: 0.300 (0.250 to 0.400)" in hints


def test_prevalences_have_their_level_in_the_caption() -> None:
    figure = figure_of("prevalences", inputs(), method="searchlight", group="cortical")
    assert dots(figure.axes[0], filled=True) == [0.04, 0.2, 0.4, 0.6]
    assert "level 5.0\u00a0%" in figure.caption and figure.axes[0].get_ylim()[1] > 1
    with pytest.raises(FigureError):
        figure_of("prevalences", inputs(), method="encoding", group="cortical")


def test_the_reason_is_that_of_the_table() -> None:
    few = inputs().analyses["prevalence"].with_columns(
        prevalence=pl.lit(None, pl.Float64), note=pl.lit("3 relabellings are too few for a level of 0.05")
    )  # fmt: skip
    with pytest.raises(FigureError, match="3 relabellings are too few"):
        figure_of("prevalences", inputs(prevalence=few), method="searchlight", group="cortical")


def test_the_section_is_there_only_with_its_tables() -> None:
    page = Page(render(inputs()))
    assert "How sure" in page.text and "certainty" in page.ids
    assert "How sure" not in Page(render(make_inputs(brain=brains()))).text
