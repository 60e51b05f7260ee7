"""The report in a real browser: no errors, every figure drawn, filters work, no serious accessibility fault."""

from __future__ import annotations

import csv
import gzip
import io
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from affectlake.lake.query import query
from affectlake.pipelines.outputs import report
from tests.support.browsers import chromium, in_browser, opened
from tests.support.builds import copy_of
from tests.support.demo_lakes import two_versions

pytestmark = in_browser


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of the demo world with two versions, the second of another sparsity."""
    return copy_of(two_versions(), tmp_path_factory.mktemp("browser") / "lake")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def written(lake: Path) -> Path:
    """The report."""
    return report.write_report(lake)


@pytest.fixture(params=[1280, 390], ids=["desktop", "phone"])
def any_page(request: pytest.FixtureRequest, browser: Any, written: Path) -> Iterator[Any]:
    """The report on a desktop and on a phone."""
    with opened(browser, written.as_uri(), request.param) as page:
        yield page


@pytest.fixture(params=[1280, pytest.param(390, marks=pytest.mark.soak)], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, browser: Any, written: Path) -> Iterator[Any]:
    """The report on a desktop; on a phone as well in the long tests."""
    with opened(browser, written.as_uri(), request.param) as page:
        yield page


def focus(page: Any, selector: str) -> None:
    """Focus an element, and wait until the page has scrolled to it: scrolling hides what is shown of a cell."""
    page.focus(selector)
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_every_figure_is_drawn_inside_the_page(any_page: Any) -> None:
    page = any_page
    assert len(page.query_selector_all("#together figure")) == 9
    assert len(page.query_selector_all("section.agent figure")) == 3 * 12
    assert page.query_selector("#brain figure svg") is not None
    absent = [one.inner_text() for one in page.query_selector_all(".absent h3")]
    assert absent == ["Nearest centroids"]  # no two categories of this small study are large enough
    for drawing in page.query_selector_all("figure svg:not(.cuts svg)"):
        box = drawing.bounding_box()
        assert box["width"] > 50 and box["height"] > 50
        assert len(page.evaluate("drawn => [...drawn.querySelectorAll('path, use, image')]", drawing)) > 0
    smallest = "[...document.querySelectorAll('.drawn text')].map(t => t.getBoundingClientRect()).filter(b => b.width)"
    heights = page.evaluate(f"{smallest}.map(b => Math.min(b.width, b.height))")
    assert len(heights) > 500 and sorted(heights)[len(heights) // 20] > 5  # digits and letters that can be read
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_an_agent_is_picked_and_all_come_back(page: Any) -> None:
    shown = "[...document.querySelectorAll('section.agent')].filter(s => s.offsetParent).map(s => s.dataset.agent)"
    assert len(page.evaluate(shown)) == 3
    page.click("[data-show='caption-tfidf']")
    assert page.evaluate(shown) == ["caption-tfidf"]
    assert page.get_attribute("[data-show='caption-tfidf']", "aria-pressed") == "true"
    page.click("[data-show='']")
    assert len(page.evaluate(shown)) == 3


def test_the_gallery_is_sorted(page: Any) -> None:
    gallery = "#agent-human-category .figure-gallery"
    values = f"[...document.querySelectorAll('{gallery} .gallery > li')].map(c => Number(c.dataset.KEY))"
    for key, falling in (("r", True), ("again", True), ("d", False)):
        page.click(f"{gallery} [data-sort='{key}']")
        found = page.evaluate(values.replace("KEY", key))
        assert found == sorted(found, reverse=falling) and len(found) >= 3


def test_the_strongest_stimuli_are_seen_unless_pictures_are_left_out(page: Any, lake: Path, tmp_path: Path) -> None:
    widths = "[...document.querySelectorAll('#agent-human-category .strongest img')].map(i => i.naturalWidth)"
    found = page.evaluate(widths)
    assert len(found) >= 6
    assert set(found) == {report.THUMBNAIL_PIXELS}
    plain = report.write_report(lake, target=tmp_path / "plain.html", pictures=False).read_text()
    assert "<img" not in plain
    assert "In a synthetic clip" in plain


def test_the_map_tells_of_a_stimulus_by_keyboard(page: Any) -> None:
    focus(page, "#agent-human-category .figure-stimulus-map svg")
    page.keyboard.press("ArrowRight")
    told = page.inner_text("#tip")
    assert "synthetic-" in told and "In a synthetic clip" in told and "valence" in told
    page.keyboard.press("Escape")
    assert page.is_hidden("#tip")


def test_the_heat_map_tells_of_a_cell_by_keyboard_and_by_pointer(page: Any, lake: Path) -> None:
    svg = "#agent-human-category .figure-heatmap svg"
    focus(page, svg)
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    rating, dimension, told = page.inner_text("#tip").split("\n")
    seed = "(SELECT any_value(seed) FROM layouts WHERE agent = 'human-category')"
    (value,) = query(
        lake, f"SELECT value FROM metrics WHERE agent = 'human-category' AND analysis = 'rating_correlation' AND "
        f"seed = {seed} AND rating = '{rating}' AND dimension = {dimension.removeprefix('dimension ')}"
    ).fetchall()[0]  # fmt: skip
    assert float(told.removeprefix("r = ").replace("\N{MINUS SIGN}", "-")) == pytest.approx(value, abs=6e-4)
    cursor = page.locator(f"{svg} .cursor").bounding_box()
    page.keyboard.press("Escape")
    assert page.is_hidden("#tip")
    page.mouse.move(cursor["x"] + cursor["width"] / 2, cursor["y"] + cursor["height"] / 2)
    assert page.inner_text("#tip").split("\n") == [rating, dimension, told]


def test_a_category_of_the_legend_is_picked_out(page: Any) -> None:
    figure = "#agent-human-category .figure-stimulus-map"
    page.emulate_media(reduced_motion="reduce")
    button = page.locator(f"{figure} .legend button").first
    button.click()
    number = button.get_attribute("data-c")
    opacity = "group => Number(getComputedStyle(group).opacity)"
    assert page.locator(f"{figure} .cat:not([data-c='{number}'])").first.evaluate(opacity) < 0.2
    assert page.locator(f"{figure} .cat[data-c='{number}']").evaluate(opacity) == 1
    focus(page, f"{figure} svg")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#tip").split("\n")[1] == button.locator("span").inner_text()


def test_marks_tell_what_they_are(page: Any) -> None:
    told = page.locator("#agent-human-category .figure-saturation svg title").all_text_contents()
    assert any(" dimensions: 0." in text for text in told) and any(" judgments: " in text for text in told)
    bars = page.locator(".figure-accuracy svg .bar title")
    assert bars.count() == 3 and "human-category: " in bars.first.text_content()


def test_drawings_are_light_on_dark_where_the_reader_wants_that(page: Any) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        shot = page.locator("#agent-human-category .figure-components svg").screenshot()
        shades[scheme] = imread(io.BytesIO(shot))[..., :3].mean(axis=2)
    assert np.median(shades["light"]) > 0.95 and shades["light"].min() < 0.4
    assert np.median(shades["dark"]) < 0.15 and shades["dark"].max() > 0.6


PAINTED = """selector => [...document.querySelectorAll(selector)].map(canvas => {
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', {willReadFrequently: true});
    copy.drawImage(canvas, 0, 0);
    const {data} = copy.getImageData(0, 0, canvas.width, canvas.height);
    let sum = 0, n = 0;
    for (let at = 0; at < data.length; at += 4) if (data[at + 3]) { n++; sum += data[at] * (at % 9973 + 1); }
    return [n / (canvas.width * canvas.height), sum];
})"""  # share of the canvas that is painted, and a sum that changes with the picture


def canvases(page: Any) -> list[list[float]]:
    found: list[list[float]] = page.evaluate(PAINTED, ".figure-brain-slices canvas")
    return found


def test_the_brain_s_slices_are_drawn_and_move_by_keyboard(page: Any) -> None:
    page.select_option("[data-control='Map']", "encoding")  # positive in most voxels: slices differ
    drawn = canvases(page)
    assert len(drawn) == 4 and all(share > 0.2 for share, _ in drawn)
    assert page.is_hidden(".figure-brain-slices .cuts")
    slider = page.locator("[data-control='x']")
    before, said = slider.input_value(), page.inner_text(".status")
    slider.focus()
    page.keyboard.press("ArrowRight" if int(before) < int(slider.get_attribute("max")) else "ArrowLeft")
    assert slider.input_value() != before and page.inner_text(".status") != said
    assert canvases(page)[0] != drawn[0]
    for at, key, back in ((0, "Left", "Right"), (1, "Down", "Up"), (2, "Up", "Down"), (3, "Right", "Left")):
        earlier = canvases(page)
        page.locator(".figure-brain-slices canvas").nth(at).focus()
        page.keyboard.press(f"Arrow{key}")
        if canvases(page)[at] == earlier[at]:  # the highest value, where the slices begin, is at an edge of the brain
            page.keyboard.press(f"Arrow{back}")
        assert canvases(page)[at] != earlier[at], at


def test_another_map_of_the_brain_is_shown(page: Any, lake: Path) -> None:
    page.select_option("[data-control='Map']", "encoding")
    page.select_option("[data-control='Subject']", "1")
    page.select_option("[data-control='Agent']", "human-dimension")
    page.click(".controls button")
    highest = query(
        lake, "SELECT max(encoding_r) FROM encoding_maps WHERE agent = 'human-dimension' AND basis = 'embedding' "
        "AND subject = 'synthetic-2'"
    ).fetchall()[0]  # fmt: skip
    assert float(page.inner_text(".status").rsplit("· ", 1)[1]) == pytest.approx(highest[0], abs=0.003)
    plain = canvases(page)
    page.select_option("[data-control='Minus']", "human-dimension")
    assert page.inner_text(".status").endswith("· 0.000")
    page.select_option("[data-control='Minus']", "human-category")
    assert page.inner_text(".ramp").startswith("−") and canvases(page) != plain
    page.locator("[data-control='threshold']").focus()
    page.keyboard.press("End")
    assert page.inner_text(".controls output") == page.inner_text(".ramp span:last-child")
    blank = canvases(page)
    page.keyboard.press("Home")
    assert canvases(page) != blank


def test_hovering_a_slice_tells_place_region_and_value(page: Any) -> None:
    page.locator(".figure-brain-slices canvas").nth(2).scroll_into_view_if_needed()
    page.locator(".figure-brain-slices canvas").nth(2).hover()
    told = page.inner_text("#tip")
    assert "mm" in told and "x " in told and len(told.splitlines()) == 3


def test_paper_and_a_page_without_script_have_the_slices_too(page: Any, browser: Any) -> None:
    page.emulate_media(media="print")
    assert page.is_hidden(".figure-brain-slices .live")
    assert page.locator(".figure-brain-slices .cuts svg").first.bounding_box()["width"] > 50
    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.goto(page.url)
    assert plain.locator(".figure-brain-slices .cuts svg").count() == 1
    assert plain.locator(".figure-brain-slices .cuts svg").first.bounding_box()["width"] > 50
    plain.context.close()


def test_the_rows_behind_a_figure_come_with_the_page(page: Any, lake: Path) -> None:
    link = page.query_selector("#agent-human-category .figure-reproducibility a.rows")
    kind, _, sent = link.get_attribute("href").partition("base64,")
    text = (gzip.decompress if "gzip" in kind else bytes)(b64decode(sent)).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    found = query(
        lake,
        "SELECT value FROM metrics WHERE agent = 'human-category' AND analysis = 'reproducibility' "
        "AND measure = 'pearson_r' "
        "AND seed = (SELECT seed FROM fits WHERE representative AND agent = 'human-category') "
        "ORDER BY dimension",
    ).fetchall()
    assert [float(row["value"]) for row in rows] == pytest.approx([value for (value,) in found], rel=5e-4)


CUT = """() => [...document.querySelectorAll('main *, nav, header *')].filter(one => {
    const style = getComputedStyle(one);
    return one.scrollWidth > one.clientWidth + 2 && one.clientWidth > 0 && style.overflowX !== 'visible'
        && !one.closest('svg, .skip, select, input') && !style.backgroundImage.includes('gradient');
}).map(one => one.outerHTML.slice(0, 120))"""  # parts that hide some of their content without a shadow


@pytest.mark.parametrize("width", [1440, 390])
def test_what_is_cut_has_a_shadow(browser: Any, written: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(written.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT) == []
    page.close()


def test_paper_has_no_dark_ground_and_no_controls(page: Any) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.is_hidden(".sections") and page.locator(".chooser").first.is_hidden()
    assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"


def axe_faults(page: Any) -> list[str]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    assert axe_faults(page) == []


def test_the_comparison_of_two_versions_opens_without_fault(browser: Any, lake: Path) -> None:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.goto(report.write_comparison(lake, "v1", "v2").as_uri())
    text = opened.inner_text("main")
    assert "agent-caption-tfidf" in opened.content() and "held out · accuracy" in text
    assert axe_faults(opened) == []
    opened.close()


def test_figures_are_written_as_files(lake: Path, tmp_path: Path) -> None:
    written = report.write_figures(lake, "v2", tmp_path / "figures")
    kinds = {path.suffix for path in written}
    assert kinds == {".svg", ".png", ".pdf", ".csv"} and all(path.stat().st_size > 100 for path in written)
    names = {path.stem for path in written}
    expected = {"all-accuracy", "human-category-stimulus-map", "human-category-emotion-graph"}
    assert expected | {"caption-tfidf-saturation", "brain-glass-brains-encoding", "caption-tfidf-embedding"} <= names
    drawn = (tmp_path / "figures/human-category-stimulus-map.svg").read_text()
    assert "var(" not in drawn and "@media" not in drawn and 'xmlns="http://www.w3.org/2000/svg"' in drawn


def test_the_report_of_the_first_version_still_shows_the_first(lake: Path) -> None:
    text = report.write_report(lake, "v1").read_text()
    assert "v1</dd>" in text and "<b>v1</b>" in text and "l1: 0.004" in text and "l1: 0.02\n" not in text
