"""The switch from significant voxels to all voxels, in a browser: by keyboard, in the viewer and in drawings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from affectlake.pipelines.outputs import report
from tests.pipelines.test_brain_masks import N, published
from tests.report.test_browser import axe_faults, canvases
from tests.support.browsers import chromium, in_browser, opened

pytestmark = in_browser

SLICES, GLASS = ".figure-brain-slices", ".figure-glass-brains-encoding"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a lake of which 20 of 64 voxels are significant."""
    lake = tmp_path_factory.mktemp("switch") / "lake"
    published(lake)
    return report.write_report(lake, pictures=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(params=[1440, 390], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, browser: Any, written: Path) -> Iterator[Any]:
    with opened(browser, written.as_uri(), request.param) as page:
        yield page


def press(page: Any, figure: str) -> None:
    page.focus(f"{figure} .switch input")
    page.keyboard.press("Space")


def test_the_viewer_shows_all_voxels_by_keyboard_and_tells_which_it_shows(page: Any) -> None:
    before, told = canvases(page), page.inner_text(f"{SLICES} .voxels")
    assert told == (
        "Coloured: values above 0 of significant voxels alone; 20 of 64 voxels are significant (false discovery rate "
        "below 0.05, relabelled stimuli)."
    )
    assert float(page.inner_text(".status").rsplit("· ", 1)[1]) == pytest.approx(0.1 + 19 / 100, abs=0.002)
    press(page, SLICES)
    assert page.inner_text(f"{SLICES} .voxels").startswith(
        "Coloured: values above 0 of all voxels, significant or not; 20"
    )
    assert "(not significant)" not in page.inner_text(".status")
    assert canvases(page) != before
    page.click(f"{SLICES} .controls button")
    assert page.inner_text(".status").endswith(f"· {0.1 + (N - 1) / 100:.3f} (not significant)")  # the highest of all
    caption = page.inner_text(f"{SLICES} figcaption")
    assert "All voxels are shown, significant or not." in caption and "Only significant" not in caption
    press(page, SLICES)
    assert "(not significant)" in page.inner_text(".status")  # its value can be read, but has no colour
    page.click(f"{SLICES} .controls button")
    assert canvases(page) == before and page.inner_text(f"{SLICES} .voxels") == told


def test_a_drawing_is_switched_alone_with_its_caption_and_without_a_script(page: Any, browser: Any) -> None:
    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.goto(page.url)
    for one in (page, plain):
        first, second = (one.locator(f"{GLASS} .{name} svg") for name in ("first", "second"))
        assert first.is_visible() and second.is_hidden()
        assert "Only significant voxels are coloured" in one.inner_text(f"{GLASS} figcaption")
        press(one, GLASS)
        assert first.is_hidden() and second.is_visible()
        assert one.inner_text(f"{GLASS} figcaption").strip().endswith("All voxels are shown, significant or not.")
        assert one.locator(".figure-glass-brains-searchlight .first svg").is_visible()
    plain.context.close()


def test_what_is_switched_on_is_printed_and_the_switch_is_not(page: Any) -> None:
    press(page, GLASS)
    press(page, SLICES)
    page.emulate_media(media="print")
    assert page.locator(".switch").count() == 3 and not any(one.is_visible() for one in page.locator(".switch").all())
    for figure in (GLASS, SLICES):
        assert page.locator(f"{figure} .second svg").is_visible() and page.locator(f"{figure} .first svg").is_hidden()


def test_the_switch_has_a_name_and_no_fault(page: Any) -> None:
    assert page.get_by_role("checkbox", name="Show voxels that are not significant as well").count() == 3
    assert axe_faults(page) == []
