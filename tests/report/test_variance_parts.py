"""The report's section on whose variance it is: bars, intervals, winners, and the reasons of what is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from matplotlib.container import BarContainer

from affectlake.errors import FigureError
from affectlake.report import ReportInputs, make_volume, render
from tests.report.test_brain import brains
from tests.report.test_report import Page, make_inputs
from tests.support.figures import figure_of

PARTS = {"people": 0.06, "language": -0.01, "language+people": 0.03, "all": 0.08}
BANDS = {"people": ["human-category"], "language": ["caption-tfidf"]}
VOXELS = pl.DataFrame(
    {"voxel_index": np.arange(27), "regions": [""] * 27}
    | dict(zip(("voxel_i", "voxel_j", "voxel_k"), np.argwhere(np.ones((3, 3, 3))).T, strict=True))
    | dict(zip(("x_mm", "y_mm", "z_mm"), 10.0 * np.argwhere(np.ones((3, 3, 3))).T - 10, strict=True))
)


def inputs(n_subjects: int = 3, known: float | None = None, **changed: object) -> ReportInputs:
    """Two regions whose parts are those above, OFC's half as large; winners of the voxels of S1."""
    rows = [
        (f"S{subject}", region, part, times * value, times * value - 0.01, times * value + 0.02, 0.001,
         None if known is None else times * value / known)
        for subject in range(1, n_subjects + 1)
        for region, times in (("VC", 1.0), ("OFC", 0.5))
        for part, value in PARTS.items()
    ]  # fmt: skip
    names = ["subject", "region", "part", "r2", "ci_low", "ci_high", "p", "explained_share"]
    table = pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None).with_columns(
        pl.col("explained_share").cast(pl.Float64),
        share_low=pl.col("explained_share") - 0.1,
        share_high=pl.col("explained_share") + 0.1,
        note=pl.lit(None, pl.String),
    )
    stats = table.filter(subject="S1").drop("subject", "note").with_columns(
        p_fdr=pl.when(pl.col("part") == "people").then(0.01).otherwise(0.4)
    )  # fmt: skip
    winner = ["people"] * 9 + ["language"] * 3 + [None] * 15
    maps = pl.concat(
        pl.DataFrame({"voxel_index": np.arange(27)}).with_columns(
            agent=pl.lit(band), method=pl.lit("winner"), value=pl.Series([float(name == band) for name in winner])
        )
        for band in BANDS
    )
    brain = replace(brains(), winners=make_volume("S1", VOXELS, maps))
    made = make_inputs(brain=brain)
    params = {**made.params, "brain": {"partition": {"bands": BANDS, "nuisance": ["luminance"]}}}
    tables = {**made.analyses, "variance_partition": table, "partition_stats": stats} | changed
    return replace(made, params=params, analyses=tables)  # type: ignore[arg-type]


def test_bars_are_the_parts_and_the_line_is_the_whole() -> None:
    figure = figure_of("variance_parts", inputs(), group="cortical")
    bars, alone = figure.axes
    assert [text.get_text() for text in alone.get_xticklabels()] == ["VC", "OFC"]
    drawn = [bar for one in bars.containers if isinstance(one, BarContainer) for bar in one if bar.get_height() != 0]
    ends = sorted(
        (round(bar.get_x() + bar.get_width() / 2), round(bar.get_y(), 9), round(bar.get_height(), 9)) for bar in drawn
    )
    assert ends == [
        (0, 0.0, -0.01), (0, 0.0, 0.06), (0, 0.06, 0.03), (1, 0.0, -0.005), (1, 0.0, 0.03), (1, 0.03, 0.015)
    ]  # fmt: skip
    whole = next(line for line in bars.lines if line.get_marker() == "_" and len(line.get_ydata()) == 2)
    np.testing.assert_allclose(whole.get_ydata(), [0.08, 0.04])
    dots = [line for line in alone.lines if line.get_marker() == "o"]
    filled = np.concatenate([line.get_ydata() for line in dots if line.get_markerfacecolor() != "white"])
    hollow = np.concatenate([line.get_ydata() for line in dots if line.get_markerfacecolor() == "white"])
    np.testing.assert_allclose(np.sort(filled), [0.03, 0.06])  # people
    np.testing.assert_allclose(np.sort(hollow), [-0.01, -0.005])  # language
    assert "people: human-category; language: caption-tfidf" in figure.caption and "luminance" in figure.caption
    assert "3\u00a0subjects" in figure.caption
    assert "people, visual cortex: 0.0600" in {note.hint for note in figure.notes.values()}


def test_one_subject_has_its_own_intervals() -> None:
    figure = figure_of("variance_parts", inputs(1), group="cortical")
    assert "over stimuli of the only subject" in figure.caption and len(figure.data) == 8


def test_shares_of_what_is_explainable_are_drawn_where_they_are_known() -> None:
    figure = figure_of("explained_parts", inputs(known=0.5), group="cortical")
    whole = next(line for line in figure.axes[0].lines if line.get_marker() == "_")
    np.testing.assert_allclose(whole.get_ydata(), [0.16, 0.08])
    with pytest.raises(FigureError, match="shown repeatedly"):
        figure_of("explained_parts", inputs(), group="cortical")


def test_cells_have_the_colour_of_the_band_that_wins() -> None:
    figure = figure_of("variance_winners", inputs())
    pictures = [ax.images[0].get_array() for ax in figure.axes]
    found = np.concatenate([np.ma.getdata(picture).ravel() for picture in pictures])
    assert sorted(np.bincount(found.astype(int)).tolist()) == [3, 9, 15] and len(pictures) == 3
    rows = dict(figure.data.group_by("best_band").len().iter_rows())
    assert rows == {"": 15, "people": 9, "language": 3}
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {
        "people, 33.3\u00a0%", "language, 11.1\u00a0%"
    }  # fmt: skip
    assert figure.legends[0].get_title().get_text() == "grey: no band, 55.6\u00a0%"


def test_the_section_is_there_only_with_its_tables() -> None:
    page = Page(render(inputs()))
    assert "Whose variance" in page.text and "variance" in page.ids
    without = Page(render(make_inputs(brain=brains())))
    assert "Whose variance" not in without.text


def test_a_band_without_features_is_the_reason() -> None:
    note = "the band language has no features: caption-tfidf has no fit with a dimension"
    table = inputs().analyses["variance_partition"].with_columns(r2=pl.lit(None, pl.Float64), note=pl.lit(note))
    with pytest.raises(FigureError, match="caption-tfidf has no fit"):
        figure_of("variance_parts", inputs(variance_partition=table), group="cortical")


def test_contributions_have_a_panel_for_each_method() -> None:
    methods = {"partial_rsa": 0.2, "stacked_encoding": 0.05, "weighted_rsa": 0.1}
    stats = pl.DataFrame(
        [(region, method, quantity, band, times * value, times * value - 0.01, times * value + 0.01,
          0.01 if band == "people" else 0.5)
         for region in ("VC", "OFC") for method, value in methods.items() for quantity in ("alone", "unique")
         for band, times in (("people", 1.0), ("language", 0.5))],
        schema=["region", "contribution_method", "quantity", "band", "contribution", "ci_low", "ci_high", "p_fdr"],
        orient="row",
    )  # fmt: skip
    each = stats.with_columns(subject=pl.lit("S1"), p=pl.col("p_fdr"))
    both = pl.concat([each, each.with_columns(subject=pl.lit("S2"))])
    figure = figure_of("contributions", inputs(band_contributions=both, contribution_stats=stats), group="cortical")
    assert [ax.get_ylabel() for ax in figure.axes] == ["stacked", "weighted", "partial"]
    for ax, value in zip(figure.axes, (0.05, 0.1, 0.2), strict=True):
        dots = [line for line in ax.lines if line.get_marker() == "o"]
        filled = np.concatenate([line.get_ydata() for line in dots if line.get_markerfacecolor() != "white"])
        hollow = np.concatenate([line.get_ydata() for line in dots if line.get_markerfacecolor() == "white"])
        np.testing.assert_allclose(filled, value)
        np.testing.assert_allclose(hollow, value / 2)
    assert "people, visual cortex: 0.2000" in {hint for note in figure.notes.values() for hint in note.hints}
    one = each.drop("p_fdr")
    alone = figure_of("contributions", inputs(1, band_contributions=one, contribution_stats=stats), group="cortical")
    assert "only subject" in alone.caption
