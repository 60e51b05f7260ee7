"""The report on paper and its size: nothing is cut, figures keep together with their titles, no control is printed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from affectlake.pipelines.outputs import report
from tests.support.browsers import chromium, in_browser
from tests.support.builds import copy_of
from tests.support.demo_lakes import one_version

MM = 96 / 25.4  # pixels
WIDTH, HEIGHT = (210 - 2 * 14) * MM, (297 - 2 * 14) * MM
"""The content of an A4 page within the margins of the style sheet."""

DEMO_BYTES = 2_000_000
"""Limit of the report of the demo study."""

SMALL_BYTES = 1_040_000
"""Limit of the report of the small study of the tests, which also has three agents: 5 % above its size."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = copy_of(one_version(), tmp_path_factory.mktemp("print") / "lake")
    return report.write_report(lake)


@pytest.fixture(scope="module")
def paper(written: Path) -> Iterator[Any]:
    """The report as printed: as wide as the content of an A4 page."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": int(WIDTH), "height": int(HEIGHT)})
        page.goto(written.as_uri())
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        yield page


# labels of drawings may reach into the margin by half its width; lines beyond the axes are clipped
OUTSIDE = """width => [...document.querySelectorAll('body *')].filter(one => {
    const box = one.getBoundingClientRect(), margin = one.tagName === 'text' ? 26 : 1;
    return box.width > 0 && box.height > 0 && (box.right > width + margin || box.left < -margin)
        && !one.closest('.skip, #tip') && (!one.ownerSVGElement || one.tagName === 'text')
        && getComputedStyle(one).visibility !== 'hidden';
}).map(one => one.outerHTML.slice(0, 120))"""


class TestPaper:
    pytestmark = in_browser

    def test_nothing_is_wider_than_the_paper(self, paper: Any) -> None:
        assert paper.evaluate(OUTSIDE, int(WIDTH)) == []
        assert paper.evaluate("document.documentElement.scrollWidth") <= int(WIDTH)
        clipped = """[...document.querySelectorAll('figure, figure *')].filter(one => one.clientWidth > 0
            && getComputedStyle(one).overflowX !== 'visible' && one.scrollWidth > one.clientWidth + 1).length"""
        assert paper.evaluate(clipped) == 0

    def test_a_figure_fits_on_a_page_and_stays_with_its_title(self, paper: Any) -> None:
        found = paper.evaluate("""() => [...document.querySelectorAll('figure')].map(one => ({
            name: one.id, height: one.getBoundingClientRect().height, inside: getComputedStyle(one).breakInside,
            title: getComputedStyle(one.querySelector('h3')).breakAfter,
        }))""")
        assert len(found) > 40
        whole = [one for one in found if not one["name"].endswith("-gallery")]
        assert [one for one in whole if one["height"] > HEIGHT or one["inside"] != "avoid"] == []
        assert {one["title"] for one in found} == {"avoid"}
        cards = "[...document.querySelectorAll('.gallery > li')].map(one => one.getBoundingClientRect().height)"
        assert 0 < max(paper.evaluate(cards)) < HEIGHT
        gallery = "getComputedStyle(document.querySelector('figure.figure-gallery')).breakBefore"
        assert paper.evaluate(gallery) == "page"  # Chromium separates a title from a grid that does not fit below it

    def test_drawings_are_not_empty_and_not_enlarged(self, paper: Any) -> None:
        drawn = paper.evaluate("""() => [...document.querySelectorAll('figure .drawn')].map(one => ({
            box: one.getBoundingClientRect(), natural: parseFloat(one.style.getPropertyValue('--natural')),
            map: !!one.closest('.figure-stimulus-map'),
        })).filter(one => one.box.width > 0)""")
        assert len(drawn) > 40
        assert all(one["box"]["width"] > 100 and one["box"]["height"] > 40 for one in drawn)
        assert all(one["box"]["width"] <= one["natural"] + 1 for one in drawn if not one["map"])

    def test_no_control_is_printed(self, paper: Any) -> None:
        shown = """[...document.querySelectorAll('button, input, select, canvas, a.rows, nav')].filter(one =>
            one.getBoundingClientRect().height > 0 && !one.closest('.legend')).map(one => one.outerHTML)"""
        assert paper.evaluate(shown) == []

    def test_every_page_of_the_pdf_is_a4(self, paper: Any) -> None:
        pdf = paper.pdf(format="A4", prefer_css_page_size=True)
        boxes = re.findall(rb"/MediaBox \[([\d. ]+)\]", pdf)
        assert len(boxes) >= 20
        for box in boxes:
            left, bottom, right, top = map(float, box.split())
            assert (right - left, top - bottom) == pytest.approx((210 / 25.4 * 72, 297 / 25.4 * 72), abs=1)


@pytest.mark.slow
def test_the_report_stays_small(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    assert len(text.encode()) < SMALL_BYTES, len(text.encode())
    drawings = re.findall(r"<svg viewBox.*?</svg>", text, re.DOTALL)
    assert len(drawings) > 40
    inside = "".join(one.split(">", 1)[1] for one in drawings)
    assert " style=" not in inside  # each style is written once, as a class
    used = {name for names in re.findall(r' class="([^"]*)"', inside) for name in names.split() if name[0] == "s"}
    defined = re.findall(r"^\.drawn \.(s\d+)\{", text, re.MULTILINE)
    assert set(defined) == {name for name in used if re.fullmatch(r"s\d+", name)} and len(defined) == len(set(defined))


@pytest.mark.soak
def test_the_report_of_the_demo_study_is_below_2_mb(tmp_path: Path) -> None:
    for command in (("init", tmp_path / "demo", "--study", "demo"), ("run", "--lake", tmp_path / "demo")):
        subprocess.run(["affectlake", *map(str, command)], check=True, capture_output=True)
    (page,) = (tmp_path / "demo/storage/reports").glob("*.html")
    assert page.stat().st_size < DEMO_BYTES
