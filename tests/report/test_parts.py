"""Pieces of the report: wording, colours, the order of rows, and the PNG figures of a model run."""

from __future__ import annotations

import gc
import re
from io import BytesIO
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from matplotlib.colors import to_hex
from matplotlib.image import imread

from affectlake.report import number_format, render
from affectlake.report.agent_summary import Correlations, agents
from affectlake.report.figures.agent_styles import styles_of
from affectlake.report.figures.canvas import GROUPS, older_objects_frozen
from affectlake.report.figures.colours import circular_order, palette
from affectlake.report.figures.emotion_graph import communities_named
from affectlake.report.figures.heatmap import row_order
from affectlake.report.figures.learning_curves import _state, embedding_png
from affectlake.report.figures.markup import element, number
from affectlake.report.figures.roses import EDGE, LINE, petal_names
from affectlake.report.number_format import NBSP
from tests.report.test_report import Page, make_inputs
from tests.support.figures import figure_of


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (number_format.count(7_125_330), "7,125,330"),
        (number_format.counted(1, "stimulus", "stimuli"), "1 stimulus"),
        (number_format.counted(2181, "stimulus", "stimuli"), "2,181 stimuli"),
        (number_format.percent(0.98523), "98.52 %"),
        (number_format.percent(None), "–"),
        (number_format.percent_range(0.979, 0.9902), "97.90 to 99.02 %"),
        (number_format.decimal(-0.411), "−0.41"),
        (number_format.decimal(-0.001), "0.00"),
        (number_format.decimal(0.99957, 3), "0.9996"),
        (number_format.decimal(-0.9999999, 3), "−1.000000"),
        (number_format.decimal(1.0, 3), "1.000"),
        (number_format.decimal(0.6, 0), "1"),
        (number_format.level(1 / 1001), "p = 0.001"),
        (number_format.level(1e-5), "p < 0.001"),
        (number_format.size(999), "999 B"),
        (number_format.size(999_960), "1.0 MB"),
        (number_format.size(65_200_000), "65.2 MB"),
        (number_format.listed(["a"]), "a"),
        (number_format.listed(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_wording(written: str, expected: str) -> None:
    assert written.replace(NBSP, " ") == expected


def test_long_communities_are_named_by_four_and_a_count() -> None:
    assert communities_named(["a", "b"]) == "a and b"
    assert communities_named(list("abcde")) == "a, b, c, d and e"
    assert communities_named(list("abcdef")) == "a, b, c, d and 2 more"


@given(st.lists(st.integers(0, 29), min_size=3, max_size=3, unique=True))
def test_names_at_the_rim_of_a_rose_never_cover_one_another(petals: list[int]) -> None:
    named = [(np.pi / 2 - at * 2 * np.pi / 30, "aesthetic appreciation") for at in sorted(petals)]
    for one, other in combinations(petal_names(named), 2):
        apart = one.ends[1] <= other.ends[0] or other.ends[1] <= one.ends[0]
        assert abs(one.y - other.y) > 0.99 * LINE or apart
    assert all(abs(name.y) < 1.6 and abs(end) <= EDGE + 1e-9 for name in petal_names(named) for end in name.ends)


def test_elements_escape_text_and_attributes() -> None:
    drawn = element("text", '<b>"', Markup("<tspan/>"), class_='"><script>', font_size=1.0, x=None)
    assert drawn == '<text class="&#34;&gt;&lt;script&gt;" font-size="1">&lt;b&gt;&#34;<tspan/></text>'
    assert [number(value) for value in (-0.001, 3.0, 2.345, 100.0)] == ["0", "3", "2.35", "100"]


def test_neighbours_on_the_hue_circle_are_alike() -> None:
    angle = np.random.default_rng(0).permutation(12) * 2 * np.pi / 12
    profiles = np.column_stack([np.cos(angle), np.sin(angle)]) @ np.random.default_rng(1).normal(size=(2, 9))
    around = np.unwrap(angle[circular_order(profiles)])
    steps = np.diff(around)
    np.testing.assert_allclose(np.abs(steps), 2 * np.pi / 12)
    assert circular_order(np.zeros((2, 5))).tolist() == [0, 1]


@pytest.mark.parametrize("n", [1, 8, 34, 60])
def test_colours_are_valid_and_distinct(n: int) -> None:
    colours = palette(n)
    assert len(set(colours)) == n
    assert all(len(one) == 7 and int(one[1:], 16) >= 0 for one in colours)


def test_known_colours() -> None:
    """Reference values of the OKLCH conversion, from the CSS Color 4 sample conversions of named colours."""
    from affectlake.report.figures.colours import _hexadecimal

    assert _hexadecimal(0.627955, 0.257683, 29.2339) == "#ff0000"
    assert _hexadecimal(0.519752, 0.176858, 142.4953) == "#008000"
    assert _hexadecimal(0.452014, 0.313214, 264.0520) == "#0000ff"
    assert _hexadecimal(1.0, 0.0, 0.0) == "#ffffff"


def test_rows_follow_the_diagonal() -> None:
    r = np.array([[0.1, 0.2, -0.9], [0.8, 0.1, 0.0], [np.nan] * 3, [0.9, 0.0, 0.1], [0.0, 0.3, np.nan]])
    found = Correlations((1, 2, 3, 4, 5), ("a", "b", "c"), 3, r, r, r, 20)
    assert row_order(found).tolist() == [3, 1, 4, 0, 2]
    assert (found.above(0.8), found.above(0.75), found.above(-1)) == (1, 2, 4)


def test_the_figure_of_a_run_is_the_same_png_twice() -> None:
    rng = np.random.default_rng(0)
    weights = pl.DataFrame(
        {
            "dimension": np.repeat([1, 2, 5], 40),
            "stimulus_index": np.tile(np.arange(40), 3),
            "weight": rng.random(120).astype(np.float32),
        }
    )
    image = embedding_png(weights)
    assert image == embedding_png(weights.sample(fraction=1, shuffle=True, seed=1))
    assert image.startswith(b"\x89PNG")
    pixels = imread(BytesIO(image))
    assert pixels.shape[:2] == (720, 1350)
    assert pixels.std() > 0.05


def test_the_caption_of_a_fit_says_whether_it_converged_and_learned() -> None:
    def said(converged: bool | None, p_chance: float | None, n_dimensions: int = 4) -> str:
        columns = {"epoch": [0, 20], "n_dimensions": [5, n_dimensions], "kept": [False, True]}
        checks = {"converged": [None, converged], "match": [None, None if converged is None else 0.95]}
        return _state(pl.DataFrame(columns | checks | {"p_chance": [None, p_chance]}))

    assert "has converged" in said(True, 1e-9)
    assert "has not converged: at its last check, after epoch 20" in said(False, 1e-9)
    assert "ended before the first check" in said(None, 1e-9)
    assert "has learned nothing" in said(True, 0.011)
    assert "has learned nothing" not in said(True, 0.009)
    assert said(True, 1.0, 0) == " No dimension of the fit survived pruning."
    older = {"kept": pl.Series([None, None], dtype=pl.Boolean), "n_dimensions": [4, 4], "epoch": [0, 1]}
    assert _state(pl.DataFrame(older)) == _state(pl.DataFrame({"epoch": [0]})) == ""


# what a reader without cones of one kind sees of linear RGB (Machado, Oliveira and Fernandes 2009, severity 1)
VISION = {
    "all cones": np.eye(3),
    "no L cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no M cones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no S cones": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def lab(linear: np.ndarray) -> np.ndarray:
    """Convert linear sRGB to CIE L*a*b* (white point D65)."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = np.clip(linear, 0, 1) @ to_xyz.T / (to_xyz.sum(axis=1))
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("vision", VISION)
def test_groups_are_told_apart_by_readers_of_every_kind_of_colour_vision(vision: str) -> None:
    srgb = np.array([[int(one[at : at + 2], 16) / 255 for at in (1, 3, 5)] for one in GROUPS])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = lab(linear @ np.array(VISION[vision]).T)
    nearest = min(float(np.linalg.norm(one - other)) for one, other in combinations(seen, 2))
    assert nearest > 12  # a difference of 2 is just noticeable


def test_objects_are_collected_again_after_a_page_was_drawn() -> None:
    before = gc.get_freeze_count()
    with pytest.raises(ValueError, match="drawn"), older_objects_frozen():
        assert gc.get_freeze_count() > before
        raise ValueError("drawn")
    assert gc.get_freeze_count() <= before


AGENTS = ("human-category", "human-dimension", "human-concat", "caption-tfidf", "qwen2-vl", "smollm2")


def test_agents_differ_by_colour_marker_hatch_and_dash() -> None:
    for names in (AGENTS, [f"model-{at}" for at in range(len(GROUPS))]):
        found = styles_of(names)
        for drawn in ("colour", "marker", "hatch", "dash"):
            assert len({str(getattr(one, drawn)) for one in found.values()}) == len(names)
    many = styles_of([f"model-{at}" for at in range(3 * len(GROUPS))])
    assert len({(one.colour, one.marker) for one in many.values()}) == len(many)


@given(st.lists(st.text("abcdef-", min_size=1), min_size=1, max_size=30, unique=True))
def test_an_agent_that_is_added_changes_no_other(names: list[str]) -> None:
    styles = styles_of(names)
    assert {name: styles[name] for name in names[:-1]} == styles_of(names[:-1])


def test_agents_of_the_built_in_studies_keep_their_styles_without_one_another() -> None:
    whole = styles_of(AGENTS)
    for name in AGENTS:
        assert styles_of([name]) == {name: whole[name]}


def test_an_agent_has_one_colour_in_every_figure() -> None:
    inputs = make_inputs()
    style = styles_of(agents(inputs))["caption-tfidf"]
    drawn = {
        "learning_curves": lambda figure: figure.axes[1].lines[0].get_color(),
        "roses": lambda figure: to_hex(figure.axes[0].collections[0].get_edgecolor()[0]),
        "chosen_positions": lambda figure: to_hex(figure.axes[0].patches[0].get_facecolor()),
    }
    assert {name: read(figure_of(name, inputs, "caption-tfidf")) for name, read in drawn.items()} == dict.fromkeys(
        drawn, style.colour
    )
    bars = figure_of("accuracy", inputs).axes[0].patches
    assert [to_hex(bar.get_facecolor()) for bar in bars] == [one.colour for one in styles_of(agents(inputs)).values()]
    assert [bar.get_hatch() or "" for bar in bars] == [one.hatch for one in styles_of(agents(inputs)).values()]
    alone = make_inputs(params={"agents": {"caption-tfidf": {"kind": "features"}}})
    assert styles_of(agents(alone))["caption-tfidf"] == style
    assert Page(render(inputs)).prose and render(inputs).count(f'style="color:{style.colour}"') == 3


def test_hatches_are_drawn_on_the_page() -> None:
    page = render(make_inputs())
    used = set(re.findall(r"url\(#([\w.-]+)\)", page))
    drawn = re.findall(r'<pattern[^>]* id="([^"]+)"|<pattern id="([^"]+)"', page)
    assert used and {one or other for one, other in drawn} <= used and drawn
    assert all(f'id="{one}"' in page for one in used)
