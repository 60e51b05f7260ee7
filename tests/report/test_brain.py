"""The brain's section of the report: its numbers are the tables' numbers, and what is missing is said in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.container import BarContainer, ErrorbarContainer
from PIL import Image

from affectlake.brain.statistics import share_won
from affectlake.errors import FigureError
from affectlake.report import BrainInputs, GroupMaps, ReportInputs, Volume, make_volume, on_one_grid, render
from affectlake.report.brain_answer import brain_answers
from affectlake.report.effect_wording import effect_words, prevalence_words
from affectlake.report.export import write_figures
from affectlake.report.page import named_figures
from tests.report.test_report import Page, make_inputs
from tests.support.figures import figure_of

AGENTS = ("human-category", "caption-tfidf")
REGIONS = (("VC", "cortical", "visual cortex"), ("OFC", "cortical", "orbitofrontal cortex"),
           ("amygdala", "subcortical", "amygdala"))  # fmt: skip
SCORES = {"VC": (0.31, 0.12), "OFC": (0.05, 0.17)}


def brains() -> BrainInputs:
    """Three subjects, two agents, two cortical regions; a 5 × 5 × 5 grid of which one voxel has no value."""
    rows = [
        (agent, f"S{subject}", "embedding", method, region, SCORES[region][at] + shift, 20)
        for at, agent in enumerate(AGENTS)
        for subject, shift in ((1, -0.01), (2, 0.0), (3, 0.01))
        for method in ("encoding", "searchlight")
        for region in SCORES
    ]
    names = ["agent", "subject", "basis", "method", "region", "region_score", "n_voxels"]
    pairs = [
        ("searchlight", "VC", *AGENTS, 0.19, 9.0, 0.001, 0.004, None, 3, 1.0),
        ("searchlight", "VC", *AGENTS[::-1], -0.19, -9.0, 0.001, 0.004, 0.002, 3, 0.0),
        ("searchlight", "OFC", *AGENTS[::-1], 0.12, 2.0, 0.2, 0.03, 0.3, 3, 0.8),
    ]
    grid = np.argwhere(np.ones((5, 5, 5))) * 10.0 - 20
    rng = np.random.default_rng(0)
    voxels = pl.DataFrame(
        {"voxel_index": np.arange(125), "regions": ["VC" if at < 50 else "" for at in range(125)]}
        | dict(zip(("voxel_i", "voxel_j", "voxel_k"), np.argwhere(np.ones((5, 5, 5))).T, strict=True))
        | dict(zip(("x_mm", "y_mm", "z_mm"), grid.T, strict=True))
    )
    maps = pl.concat(
        pl.DataFrame(
            {"agent": agent, "method": method, "voxel_index": np.arange(125)}
            | {"value": np.where(np.arange(125) == 7, np.nan, rng.random(125) * (at + 1))}
        ).with_columns(pl.col("value").fill_nan(None))
        for at, agent in enumerate(AGENTS)
        for method in ("encoding", "searchlight")
    )
    stats = ["method", "region", "agent", "other_agent", "difference", "t", "p", "p_fdr", "p_reference_fdr",
             "n_subjects", "share_won"]  # fmt: skip
    ceilings = {"region": ["VC", "OFC"], "ceiling_low": [0.2, 0.9], "ceiling_high": [0.25, 0.95]}
    return BrainInputs(
        scores=pl.DataFrame(rows, schema=names, orient="row"),
        stats=pl.DataFrame(pairs, schema=stats, orient="row"),
        ceilings=pl.DataFrame(ceilings),
        regions=REGIONS,
        subject="S1",
        maps=maps,
        volumes=(make_volume("S1", voxels, maps), make_volume("S2", voxels, maps)),
        reference=AGENTS[0],
        values=values_of(maps, "S1", "S2"),
    )


def values_of(maps: pl.DataFrame, *subjects: str) -> dict[tuple[str, str, str], np.ndarray]:
    """Give the maps to each subject, the second with 0.1 more."""
    return {
        (subject, method, agent): own.sort("voxel_index")["value"].fill_null(np.nan).to_numpy().astype(np.float32)
        + np.float32(0.1 * at)
        for (agent, method), own in maps.group_by("agent", "method", maintain_order=True)
        for at, subject in enumerate(subjects)
    }


def missing(inputs: BrainInputs | None, name: str, **chosen: str) -> str:
    with pytest.raises(FigureError) as found:
        figure_of(name, make_inputs(brain=inputs), **chosen)
    return found.value.summary


def test_bars_dots_and_stars_are_those_of_the_tables() -> None:
    figure = figure_of("brain_regions", make_inputs(brain=brains()), method="searchlight", group="cortical")
    (ax,) = figure.axes
    bars = {(one.get_label(), at): bar for one in ax.containers if isinstance(one, BarContainer)
            for at, bar in enumerate(one)}  # fmt: skip
    assert [text.get_text() for text in ax.get_xticklabels()] == ["VC", "OFC"]
    expected = {(agent, at): SCORES[region][k] for k, agent in enumerate(AGENTS) for at, region in enumerate(SCORES)}
    assert {key: round(bar.get_height(), 9) for key, bar in bars.items() if key[0] in AGENTS} == expected
    hints = {note.hint for note in figure.notes.values()}
    assert {
        "human-category, visual cortex: 0.310 ± 0.010",
        "caption-tfidf, orbitofrontal cortex: 0.170 ± 0.010",
    } <= hints
    whiskers = [one for one in ax.containers if isinstance(one, ErrorbarContainer)]
    errors = [segment for one in whiskers for segment in one.lines[2][0].get_segments()]
    np.testing.assert_allclose(sorted(top - bottom for (_, bottom), (_, top) in errors), 4 * [0.02])
    dots = np.concatenate([line.get_ydata() for line in ax.lines if line.get_marker() == "o"])
    drawn = np.sort(brains().scores.filter(pl.col("method") == "searchlight")["region_score"].to_numpy())
    np.testing.assert_allclose(np.sort(dots), drawn)
    stars = [text for text in ax.texts if text.get_text() == "*"]
    assert len(stars) == 1  # in VC alone the other agent differs from the reference; in OFC its p_reference_fdr is 0.3
    assert abs(stars[0].get_position()[0] - bars[AGENTS[1], 0].get_x() - bars[AGENTS[1], 0].get_width() / 2) < 0.02
    bands = [patch for patch in ax.patches if patch.get_facecolor()[3] == 0.3]
    assert [(round(band.get_y(), 9), round(band.get_height(), 9)) for band in bands] == [(0.2, 0.05)]  # OFC's: too high


def test_stars_compare_with_the_named_reference_alone() -> None:
    def drawn(reference: str) -> tuple[int, str]:
        inputs = make_inputs(brain=replace(brains(), reference=reference))
        figure = figure_of("brain_regions", inputs, method="searchlight", group="cortical")
        return sum(text.get_text() == "*" for text in figure.axes[0].texts), figure.caption

    n_stars, caption = drawn(AGENTS[0])
    assert n_stars == 1
    assert f"differs from {AGENTS[0]}, the study's reference" in caption
    n_stars, caption = drawn("")  # the region's best agent is not a reference: it is chosen by the same subjects
    assert n_stars == 0
    assert "has no reference" in caption


def test_captions_name_the_stimuli_and_the_bias_of_their_selection() -> None:
    scores = brains().scores.with_columns(n_stimuli=pl.lit(120), region_bias=pl.lit(0.0))
    for bias, told in ((0.0, False), (0.04, True)):
        inputs = replace(brains(), scores=scores.with_columns(region_bias=pl.lit(bias)))
        caption = figure_of("brain_regions", make_inputs(brain=inputs), method="searchlight", group="cortical").caption
        assert "of 120 stimuli, the same for all agents" in caption
        assert ("selected by the ratings" in caption and "0.040" in caption) == told


def test_pictures_say_which_voxels_they_show() -> None:
    masked = replace(brains(), thresholds={"encoding": "false discovery rate below 0.05"})
    for name, chosen in (("glass_brains", {"method": "encoding"}), ("brain_slices", {})):
        assert (
            "All voxels are shown, significant or not" in figure_of(name, make_inputs(brain=brains()), **chosen).caption
        )
    assert (
        "Only significant voxels are coloured: false discovery rate below 0.05"
        in figure_of("glass_brains", make_inputs(brain=masked), method="encoding").caption
    )
    both = replace(brains(), thresholds=dict.fromkeys(("searchlight", "encoding"), "false discovery rate below 0.05"))
    none = replace(both, volumes=tuple(marked(one, lambda values: values > 9) for one in both.volumes))
    for name, chosen in (("glass_brains", {"method": "encoding"}), ("brain_slices", {})):
        figure = figure_of(name, make_inputs(brain=none), **chosen)
        assert "(relabelled stimuli). No voxel is." in figure.caption
        assert not any((np.ma.filled(image.get_array(), -1) > 0).any() for ax in figure.axes for image in ax.images)
        whole = figure_of(name, make_inputs(brain=none), voxels="all", **chosen)
        assert "All voxels are shown, significant or not." in whole.caption


@pytest.mark.parametrize(("name", "chosen"), [("glass_brains", {"method": "encoding"}), ("brain_slices", {})])
def test_a_picture_of_all_voxels_has_the_colours_of_that_of_significant_ones(name: str, chosen: dict[str, str]) -> None:
    some = replace(brains(), thresholds=dict.fromkeys(("searchlight", "encoding"), "false discovery rate below 0.05"))
    some = replace(some, volumes=tuple(marked(one, lambda values: values > 0.98) for one in some.volumes))
    n_few = n_every = 0
    few, every = (
        figure_of(name, make_inputs(brain=some), voxels=voxels, **chosen) for voxels in ("significant", "all")
    )
    for one, other in zip(few.axes, every.axes, strict=True):
        for masked, whole in zip(one.images, other.images, strict=True):
            assert masked.get_clim() == whole.get_clim()
            a, b = (np.ma.filled(image.get_array().astype(float), np.nan) for image in (masked, whole))
            coloured = a > 0
            np.testing.assert_array_equal(a[coloured], b[coloured])
            n_few, n_every = n_few + int(coloured.sum()), n_every + int((b > 0).sum())
    assert 0 < n_few < n_every
    html = render(make_inputs(brain=some))
    assert html.count('data-control="voxels"') == 3 and Page(html).ids
    assert 'data-control="voxels"' not in render(make_inputs(brain=brains()))  # without a mask, there is no switch
    written = [one for one, _ in named_figures(make_inputs(brain=brains())) if one.startswith(f"brain-{name[-6:]}")]
    assert not any(one.endswith("-all") for one in written)


def marked(volume: Volume, significant: Callable[[np.ndarray], np.ndarray]) -> Volume:
    """Give a volume a mask, by its values."""
    return replace(volume, significant={key: significant(values) for key, values in volume.values.items()})


def test_what_is_missing_is_said() -> None:
    below = replace(brains(), volumes=tuple(
        replace(one, values={key: -values for key, values in one.values.items()}) for one in brains().volumes
    ))  # fmt: skip
    alone = replace(brains(), values={key: one for key, one in brains().values.items() if key[2] == AGENTS[0]})
    assert missing(brains(), "brain_regions", method="searchlight", group="subcortical") == (
        "no voxel of this version's subjects is in one of the named subcortical regions"
    )
    assert missing(alone, "voxel_comparison", method="encoding") == "fewer than two agents have a brain map"
    assert missing(below, "glass_brains", method="encoding") == "no voxel of this version has a value above 0"
    assert missing(below, "brain_slices") == "no voxel of this version has a value above 0"
    assert missing(None, "brain_slices") == "this version has no brain maps"


def test_histograms_count_every_voxel_that_both_maps_have_in_every_subject() -> None:
    inputs = brains()
    figure = figure_of("voxel_comparison", make_inputs(brain=inputs), method="encoding")
    assert [ax.get_title("center") for ax in figure.axes] == ["S1", "S2"]
    assert [ax.get_ylabel() for ax in figure.axes] == ["caption-tfidf", ""]
    assert [ax.get_xlabel() for ax in figure.axes] == ["human-category"] * 2
    for subject, ax in zip(("S1", "S2"), figure.axes, strict=True):
        up, right = (inputs.values[subject, "encoding", one].astype(float) for one in AGENTS[::-1])
        known = np.isfinite(up) & np.isfinite(right)
        assert ax.texts[0].get_text() == f"{share_won(up, right).share:.0%} above"  # the higher mean stands upwards
        counts = ax.images[0].get_array()
        assert counts.sum() == known.sum() == 124
        low, high = min(np.nanmin(up), np.nanmin(right)), max(np.nanmax(up), np.nanmax(right))
        assert ax.images[0].get_extent() == pytest.approx([low, high, low, high])
        places = [np.minimum((one[known] - low) / (high - low) * 40, 39.999).astype(int) for one in (up, right)]
        expected = np.zeros((40, 40))
        np.add.at(expected, tuple(places), 1)
        assert np.abs(np.ma.filled(counts, 0) - expected).sum() <= 4  # but for values on the edge of a bin
    rows = figure.data
    assert rows.group_by("subject").agg(pl.col("n_voxels").sum()).sort("subject").rows() == [("S1", 124), ("S2", 124)]
    assert set(rows.select("agent", "other_agent").unique().rows()) == {AGENTS[::-1]}


def planted(values: dict[str, float], subjects: int = 2) -> BrainInputs:
    """Agents whose maps have these means in every subject."""
    rng = np.random.default_rng(0)
    maps = {
        (f"S{subject}", "encoding", agent): (mean + 0.05 * rng.random(200)).astype(np.float32)
        for subject in range(1, subjects + 1)
        for agent, mean in values.items()
    }
    agents = pl.DataFrame({"agent": list(values)})
    scores = agents.join(brains().scores.drop("agent").head(1), how="cross").select(brains().scores.columns)
    return replace(brains(), scores=scores, values=maps)


HUMAN = {"human-category": 0.3, "human-dimension": 0.2, "human-concat": 0.4}


@pytest.mark.parametrize(
    ("models", "first", "others", "among"),
    [
        ({"qwen2": 0.1, "llama": 0.05}, "qwen2", [*HUMAN, "llama"], "all agents that are not made of ratings"),
        ({"qwen2": 0.9}, "qwen2", [*HUMAN], "all agents that are not made of ratings"),
        ({}, "human-concat", ["human-category", "human-dimension"], "all agents"),
    ],
)
def test_models_are_compared_with_the_human_agents_of_the_paper(
    models: dict[str, float], first: str, others: list[str], among: str
) -> None:
    inputs = study_of(HUMAN | models, planted(HUMAN | models))
    figure = figure_of("voxel_comparison", inputs, method="encoding")
    assert len(figure.axes) == 2 * len(others)
    assert [ax.get_xlabel() for ax in figure.axes[::2]] == others
    assert {ax.get_ylabel() for ax in figure.axes[::2]} == {first}
    assert f"its mean over subjects is the highest of {among}." in figure.caption
    assert "Not shown" not in figure.caption


def study_of(agents: Mapping[str, float], brain: BrainInputs) -> ReportInputs:
    """A study with these agents; those whose names begin with "human" are made of ratings."""
    whole = make_inputs(brain=brain)
    rated = {"kind": "ratings", "ratings": "category"}
    kinds = {agent: rated if agent.startswith("human") else {"kind": "features"} for agent in agents}
    embeddings = pl.concat(
        whole.embeddings.filter(pl.col("agent") == "human-category").with_columns(agent=pl.lit(agent))
        for agent in agents
    )
    return replace(whole, params={**whole.params, "agents": kinds}, embeddings=embeddings)


def test_what_does_not_fit_is_counted_and_what_is_missing_said() -> None:
    agents = HUMAN | {f"model-{at}": 0.01 * at for at in range(6)}
    many = planted(agents, subjects=12)
    figure = figure_of("voxel_comparison", study_of(agents, many), method="encoding")
    assert len(figure.axes) == 10 * 6
    assert "Not shown: 2 subjects and 2 agents." in figure.caption.replace("\N{NO-BREAK SPACE}", " ")
    some = planted(HUMAN | {"model": 0.5})
    gone = replace(
        some, values={key: one for key, one in some.values.items() if key != ("S2", "encoding", "human-concat")}
    )
    figure = figure_of("voxel_comparison", study_of(HUMAN | {"model": 0.5}, gone), method="encoding")
    assert [bool(ax.images) for ax in figure.axes] == [True] * 5 + [False]  # human-concat is the last row
    assert figure.axes[-1].texts[0].get_text() == "no values"


def with_ratings() -> ReportInputs:
    """Two agents made of ratings, of which the embedding of the second is worse in VC by 0.1, 0.2 and 0.3."""
    both = ("human-category", "human-concat")
    rows = [
        (agent, f"S{subject}", basis, "encoding", region, score, 0.05, 20)
        for agent in both
        for subject in (1, 2, 3)
        for region in ("VC", "OFC")
        for basis, score in (
            ("vectors", 0.3), ("embedding", 0.3 - 0.1 * subject * (agent == both[1]) * (region == "VC")),
        )
    ]  # fmt: skip
    names = [*brains().scores.columns[:6], "region_bias", "n_voxels"]
    stats = pl.DataFrame(
        {"agent": [agent for agent in both for _ in range(2)], "method": ["encoding"] * 4, "region": ["OFC", "VC"] * 2,
         "difference": [0.0, 0.0, 0.0, -0.2], "ci_low": [None, None, None, -0.45], "ci_high": [None, None, None, 0.05],
         "p_fdr": [None, 0.01, 0.3, 0.04], "p_both_fdr": [None, 0.5, 0.3, 0.04]}
    )  # fmt: skip
    maps = {(f"S{at}", "encoding", agent): np.linspace(-0.1, 0.5, 125).astype(np.float32)
            for at in (1, 2) for agent in both}  # fmt: skip
    lower = {key: values + np.float32(0.02 if key[2] == both[1] else -0.02) for key, values in maps.items()}
    inputs = replace(brains(), scores=pl.DataFrame(rows, schema=names, orient="row"), values=maps, rating_values=lower)
    return replace(study_of(dict.fromkeys(both, 0.0), inputs), analyses={"basis_stats": stats})


def test_differences_of_embeddings_and_ratings_are_those_of_the_tables() -> None:
    figure = figure_of("basis_comparison", with_ratings(), method="encoding")
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_xticklabels()] == ["VC", "OFC"]
    points = {one.get_label(): np.asarray(one.get_offsets()) for one in ax.collections if one.get_label() in HUMAN}
    assert points["human-concat"][:, 1].tolist() == [0.0, -0.2]  # OFC, VC
    assert np.round(points["human-concat"][:, 0]).tolist() == [1, 0]
    dots = np.concatenate([line.get_ydata() for line in ax.lines if line.get_marker() == "o"])
    np.testing.assert_allclose(np.sort(dots), [-0.3, -0.2, -0.1] + 9 * [0.0], atol=1e-12)
    (star,) = [text for text in ax.texts if text.get_text() == "*"]
    assert star.get_position()[0] == pytest.approx(points["human-concat"][1, 0])
    assert "human-concat, visual cortex: -0.200 (-0.450 to 0.050)".replace("-", "\N{MINUS SIGN}") in {
        hint.replace("-", "\N{MINUS SIGN}") for note in figure.notes.values() for hint in note.hints
    }
    assert "0 of 2 for human-category and 1 of 2 for human-concat" in figure.caption
    assert figure.data.height == 4
    whole = with_ratings()
    alone = whole.analyses["basis_stats"].with_columns(p_both_fdr=pl.lit(None, pl.Float64))
    figure = figure_of("basis_comparison", replace(whole, analyses={"basis_stats": alone}), method="encoding")
    assert not [text for text in figure.axes[0].texts if text.get_text() == "*"]
    assert "There are no stars" in figure.caption
    assert "finds differences in 1 of 2 for human-category and 1 of 2 for human-concat" in figure.caption


def test_pairs_of_bars_are_the_scores_of_ratings_and_embeddings() -> None:
    figure = figure_of("basis_scores", with_ratings(), method="encoding", group="cortical")
    (ax,) = figure.axes
    bars = {one.get_label(): one for one in ax.containers if isinstance(one, BarContainer)}
    heights = {name: [round(bar.get_height(), 9) for bar in one] for name, one in bars.items()}
    assert heights == {  # VC, OFC
        "human-category, ratings": [0.3, 0.3], "human-category, embedding": [0.3, 0.3],
        "human-concat, ratings": [0.3, 0.3], "human-concat, embedding": [0.1, 0.3],
    }  # fmt: skip
    spread = bars["human-concat, embedding"].errorbar.lines[2][0].get_segments()
    assert [round(top - bottom, 9) for (_, bottom), (_, top) in spread] == [0.2, 0.0]  # twice the s.d. of 0, 0.1, 0.2
    dots = np.concatenate([line.get_ydata() for line in ax.lines if line.get_marker() == "o"])
    assert len(dots) == 2 * 2 * 2 * 3  # agents, bases, regions, subjects
    np.testing.assert_allclose(np.sort(dots)[:3], [0.0, 0.1, 0.2], atol=1e-12)
    (star,) = [text for text in ax.texts if text.get_text() == "*"]  # human-concat in VC
    pair = [bars[f"human-concat, {basis}"][0] for basis in ("ratings", "embedding")]
    assert pair[0].get_x() < star.get_position()[0] < pair[1].get_x() + pair[1].get_width()
    assert "error bars are standard deviations" in figure.caption and figure.data.height == 24
    with pytest.raises(FigureError, match="no agent of this version is made of ratings"):
        figure_of("basis_scores", make_inputs(brain=brains()), method="encoding", group="cortical")
    with pytest.raises(FigureError, match="subcortical regions"):
        figure_of("basis_scores", with_ratings(), method="encoding", group="subcortical")


def test_voxels_of_embeddings_are_compared_with_those_of_the_agents_own_ratings() -> None:
    figure = figure_of("basis_voxels", with_ratings(), method="encoding")
    assert [ax.get_title("center") for ax in figure.axes[:2]] == ["S1", "S2"]
    assert [ax.get_xlabel() for ax in figure.axes[::2]] == ["ratings, human-category", "ratings, human-concat"]
    assert [ax.texts[0].get_text() for ax in figure.axes] == ["100% above", "100% above", "0% above", "0% above"]
    assert "100% for human-category and 0% for human-concat, mean over subjects" in figure.caption
    assert figure.data.group_by("subject", "agent").agg(pl.col("n_voxels").sum())["n_voxels"].to_list() == [125] * 4


def test_a_study_without_ratings_or_a_version_without_the_comparison_says_so() -> None:
    whole = with_ratings()
    older = replace(whole, analyses={})
    with pytest.raises(FigureError, match="this version does not compare embeddings with ratings"):
        figure_of("basis_comparison", older, method="encoding")
    assert "does not compare embeddings with ratings" in render(older)
    none = {agent: {"kind": "features"} for agent in ("human-category", "human-concat")}
    features = replace(whole, params={**whole.params, "agents": none}, analyses={})
    features = replace(features, brain=replace(whole.brain, rating_values={}))  # type: ignore[type-var]
    for name in ("basis_comparison", "basis_voxels"):
        with pytest.raises(FigureError, match="no agent of this version is made of ratings"):
            figure_of(name, features, method="encoding")


def test_glass_brains_show_every_line_of_sight_and_no_voxel_without_a_value() -> None:
    figure = figure_of("glass_brains", make_inputs(brain=brains()), method="encoding")
    panels = [ax for ax in figure.axes if ax.images]
    assert len(panels) == 2 * 3
    assert [ax.get_title("center") for ax in panels[:3]] == ["from the right", "from behind", "from above"]
    volume = brains().volumes[0]
    cube = np.full(volume.shape, np.nan)
    cube[tuple(volume.cells.T)] = np.nan_to_num(volume.values["encoding", AGENTS[0]], nan=-1.0)
    for ax, axis in zip(panels[:3], (0, 1, 2), strict=True):
        (hot,) = (image.get_array() for image in ax.images)
        assert hot.count() == 25 and hot.min() > 0  # a value in every line of sight of 5 × 5
        np.testing.assert_allclose(np.flipud(hot), np.nanmax(cube, axis=axis).T, rtol=1e-6)


def test_the_page_has_the_section_and_stays_well_formed() -> None:
    html = render(make_inputs(brain=brains()))
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    assert "brain-title" in page.ids
    assert "#brain" in page.links
    assert "brain-regions-searchlight-cortical.csv" in html
    assert 'id="brain"' not in render(make_inputs())


@pytest.mark.parametrize("shape", [(5, 4, 1), (1, 5, 4), (4, 1, 5), (6, 1, 1), (1, 1, 1)])
def test_brains_of_one_slice_are_drawn(shape: tuple[int, int, int]) -> None:
    places = np.argwhere(np.ones(shape))
    n = len(places)
    voxels = pl.DataFrame(
        {"voxel_index": np.arange(n), "regions": ["VC"] * n}
        | dict(zip(("voxel_i", "voxel_j", "voxel_k"), places.T, strict=True))
        | dict(zip(("x_mm", "y_mm", "z_mm"), (places * [-3.0, 3.0, 4.0] + [60, -90, 40]).T, strict=True))
    )
    rng = np.random.default_rng(1)
    maps = pl.concat(
        pl.DataFrame({"agent": agent, "method": method, "voxel_index": np.arange(n), "value": 0.1 + rng.random(n)})
        for agent in AGENTS
        for method in ("encoding", "searchlight")
    )
    volumes = on_one_grid([make_volume(name, voxels, maps) for name in ("S1", "S2")])
    assert (np.abs(volumes[0].cell_mm) >= 1).all()
    inputs = make_inputs(brain=replace(brains(), maps=maps, volumes=volumes))
    figure = figure_of("glass_brains", inputs, method="encoding")
    assert len([ax for ax in figure.axes if ax.images]) == 2 * 3
    assert "brain-title" in Page(render(inputs)).ids


def test_figures_are_files_with_their_rows(tmp_path: Path) -> None:
    name = "brain-regions-searchlight-cortical"
    some = [one for one in named_figures(make_inputs(brain=brains())) if one[0] in (name, "brain-slices")]
    written = write_figures(some, tmp_path)
    endings = (".svg", ".png", ".pdf", ".csv")
    assert [path.name for path in written] == [f"{one}{ending}" for one in (name, "brain-slices") for ending in endings]
    assert (tmp_path / "brain-slices.pdf").read_bytes().startswith(b"%PDF-")
    rows = pl.read_csv(tmp_path / f"{name}.csv")
    assert rows.height == 12
    assert rows.filter(pl.col("region") == "VC", pl.col("agent") == AGENTS[0])["region_score"].sort().to_list() == [
        0.30, 0.31, 0.32,
    ]  # fmt: skip
    with Image.open(tmp_path / f"{name}.png") as image:
        below = np.asarray(image.convert("L"))[int(0.88 * image.height) :]  # where the regions' names stand
    assert (below < 200).sum() > 100


def with_effects() -> BrainInputs:
    """The comparisons of `brains` with effect sizes, and the prevalence of one region and of the whole brain."""
    inputs = brains()
    effect = {"effect_size": -1.5, "effect_ci_low": -3.38, "effect_ci_high": -0.324, "bayes_factor": 5.617}
    alone = {"n_subjects": 3, "n_significant": 2, "prevalence": 0.649, "prevalence_low": 0.22, "prevalence_high": 0.951}
    rows = [{"agent": agent, "method": "searchlight", "region": region} | alone
            for agent in AGENTS for region in ("VC", "all")]  # fmt: skip
    whole = inputs.stats.filter(pl.col("p_reference_fdr") < 0.05).with_columns(region=pl.lit("all"))
    stats = pl.concat([inputs.stats, whole]).with_columns(pl.lit(value).alias(name) for name, value in effect.items())
    scores = pl.concat([inputs.scores, inputs.scores.filter(region="VC").with_columns(region=pl.lit("all"))])
    return replace(inputs, stats=stats, prevalence=pl.DataFrame(rows), scores=scores)


def test_hints_of_bars_name_effect_sizes_and_prevalences() -> None:
    figure = figure_of("brain_regions", make_inputs(brain=with_effects()), method="searchlight", group="cortical")
    hints = " | ".join(note.hint for note in figure.notes.values()).replace("\N{NO-BREAK SPACE}", " ")
    minus = "\N{MINUS SIGN}"
    assert f"g = {minus}1.50 ({minus}3.38 to {minus}0.32), BF₁₀ = 5.6" in hints
    assert "above relabelled stimuli in 2 of 3 subjects; prevalence 65 % (22 to 95 %)" in hints
    assert f"minus {AGENTS[0]}" in hints and hints.count("BF₁₀") == 2  # one agent against the reference, two regions
    assert "Hedges' g" in figure.caption
    earlier = figure_of("brain_regions", make_inputs(brain=brains()), method="searchlight", group="cortical")
    assert "Hedges" not in earlier.caption
    assert not [note for note in earlier.notes.values() if "prevalence" in note.hint]


def test_answers_name_effect_sizes_and_prevalences() -> None:
    (answer,) = brain_answers(with_effects(), {"searchlight": "Searchlight RSA"})
    answer = answer.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")
    assert "caption-tfidf (p = 0.002, g = -1.50 (-3.38 to -0.32), BF₁₀ = 5.6) differs." in answer
    assert "own data: caption-tfidf in 2 of 3 subjects; prevalence 65 % (22 to 95 %)" in answer
    (earlier,) = brain_answers(replace(with_effects(), prevalence=pl.DataFrame()), {"searchlight": "Searchlight RSA"})
    assert "own data" not in earlier
    assert "> 1,000" in effect_words({"bayes_factor": 5e7}).replace("\N{NO-BREAK SPACE}", " ")
    assert effect_words({}) == prevalence_words({"n_significant": None}) == ""


def test_means_over_subjects_are_drawn_where_they_are_significant() -> None:
    whole = brains()
    volume = whole.volumes[0]
    kept = {key: np.arange(len(volume.cells)) % 2 == 0 for key in volume.values}
    group = GroupMaps(replace(volume, significant=kept), "chance of any false voxel in the map below 0.05", 3, 8)
    figure = figure_of("group_maps", make_inputs(brain=replace(whole, group=group)), method="encoding")
    images = [image for ax in figure.axes for image in ax.get_images()]
    assert len(images) >= 2 * 3  # agents and views
    rows = figure.data.filter(agent=AGENTS[1])
    np.testing.assert_allclose(
        rows["value"].fill_null(np.nan).to_numpy(), volume.values["encoding", AGENTS[1]], equal_nan=True
    )
    finite = np.isfinite(volume.values["encoding", AGENTS[1]])
    assert rows["shown"].to_list() == (finite & kept["encoding", AGENTS[1]]).tolist()
    from_above = np.asarray(images[5].get_array().filled(np.nan))
    best = np.nanmax(np.where(kept["encoding", AGENTS[1]], volume.values["encoding", AGENTS[1]], np.nan))
    assert np.nanmax(from_above) == pytest.approx(best)
    assert "chance of any false voxel in the map below 0.05 (8 flips" in figure.caption
    assert "below 0.125" in figure.caption and "3\u00a0subjects" in figure.caption


def test_without_means_over_subjects_the_figure_is_left_out() -> None:
    inputs = make_inputs(brain=brains())
    assert "means over subjects" not in render(inputs)
    with pytest.raises(FigureError, match="two subjects on one grid"):
        figure_of("group_maps", inputs, method="encoding")
