"""Pieces of the report: wording, ticks, colours, the order of rows, and the PNG figures of a model run."""

from __future__ import annotations

from io import BytesIO
from itertools import combinations
from xml.etree.ElementTree import fromstring

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from matplotlib.image import imread

from affectlake.report import number_format
from affectlake.report.agent_summary import Correlations
from affectlake.report.figures.analyses import communities_named
from affectlake.report.figures.colours import circular_order, palette
from affectlake.report.figures.gallery import _petal_names
from affectlake.report.figures.heatmap import row_order
from affectlake.report.figures.svg import element, number, ticks
from affectlake.report.model_run_figures import embedding_figure, learning_curve_figure
from affectlake.report.number_format import NBSP


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
    named = [(at * 2 * np.pi / 30 - np.pi / 2, "aesthetic appreciation") for at in sorted(petals)]
    drawn = [fromstring(part) for part in _petal_names((150.0, 168.0), 88.0, named)]
    lines = sorted((float(text.get("y", "")), text.get("text-anchor"), float(text.get("x", ""))) for text in drawn)
    boxes = [(y, x - 154 * {"start": 0, "middle": 0.5, "end": 1}[str(anchor)]) for y, anchor, x in lines]
    for (above, left), (below, other) in combinations(boxes, 2):
        assert below - above > 13 or abs(left - other) >= 153.9
    assert all(20 < y < 300 for y, _ in boxes)


def test_elements_escape_text_and_attributes() -> None:
    drawn = element("text", '<b>"', Markup("<tspan/>"), class_='"><script>', font_size=1.0, x=None)
    assert drawn == '<text class="&#34;&gt;&lt;script&gt;" font-size="1">&lt;b&gt;&#34;<tspan/></text>'
    assert [number(value) for value in (-0.001, 3.0, 2.345, 100.0)] == ["0", "3", "2.35", "100"]


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_are_round_and_inside(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 12
    assert all(low - 1e-6 * span <= tick <= low + span + 1e-6 * span for tick in found)
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0] and ticks(3, 3) == [3]


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
    assert all(len(one) == 7 and int(one[1:], 16) >= 0 for colour in colours for one in colour)


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


def test_figures_of_a_run_are_the_same_png_twice() -> None:
    rng = np.random.default_rng(0)
    curve = pl.DataFrame(
        {
            "epoch": [0, 1, 2],
            "train_loss": [None, 0.6, 0.4],
            "test_loss": [1.1, 0.6, 0.5],
            "test_accuracy": [0.33, 0.7, 0.8],
        }
    )
    weights = pl.DataFrame(
        {
            "dimension": np.repeat([1, 2, 5], 40),
            "stimulus_index": np.tile(np.arange(40), 3),
            "weight": rng.random(120).astype(np.float32),
        }
    )
    for draw, frame, shape in ((learning_curve_figure, curve, (540, 1350)), (embedding_figure, weights, (720, 1350))):
        image = draw(frame)
        assert image.startswith(b"\x89PNG")
        assert image == draw(frame.sample(fraction=1, shuffle=True, seed=1))
        pixels = imread(BytesIO(image))
        assert pixels.shape[:2] == shape and pixels.std() > 0.05
