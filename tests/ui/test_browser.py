"""The pages in a real browser, from the command: two widths, no serious accessibility fault, texts that stay texts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from affectlake.ui.bundle import write_bundle
from tests.support.browsers import chromium, in_browser, opened
from tests.support.pages import running

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
pytestmark = in_browser
PAGES = (
    "", "judgments?agent=tiny", "stimuli", "stimulus?index=2", "similarity", "versions", "compare?before=v1&after=v1",
    "stages", "collections", "sql",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def address(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(planted, cache=tmp_path_factory.mktemp("indexes")) as found:
        yield found


@pytest.fixture(params=[1440, 390], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Any]:
    """The pages, entered by the address that was printed; whatever the console says is a failure."""
    with opened(browser, address, request.param) as found:
        assert "token" not in found.url
        yield found


def faults(page: Any) -> list[str]:
    """Everything that axe finds, and what is wider than the page."""
    found = axe.Axe().run(page).response["violations"]
    wide = page.evaluate("document.documentElement.scrollWidth") > page.viewport_size["width"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found] + (["too wide"] if wide else [])


def test_every_page_is_accessible_fits_and_has_no_script_of_a_caption(page: Any) -> None:
    start = page.url
    for path in PAGES:
        page.goto(start + path)
        assert faults(page) == [], path
        assert "owned" not in page.title()
        assert page.evaluate("[...document.images].every(one => one.getAttribute('src').startsWith('/'))")
    page.emulate_media(color_scheme="dark")
    for path in ("judgments", "stages", "sql"):
        page.goto(start + path)
        assert faults(page) == [], f"{path}, dark"


TEXT_SIZES = """() => {
    const found = [], walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const one = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || one.tagName === 'title' || !one.checkVisibility()) continue;
        const scale = one.ownerSVGElement ? one.getScreenCTM().a : 1;
        found.push([parseFloat(getComputedStyle(one).fontSize) * scale, walker.currentNode.data]);
    }
    return found;
}"""
"""The size in pixels at which each text is drawn, and the text."""

CUT_OR_HIDDEN = """() => {
    const graph = document.querySelector('.graph'), size = graph.viewBox.baseVal, found = [];
    const boxes = [...graph.querySelectorAll('.box rect')].map(one => one.getBBox());
    for (const path of graph.querySelectorAll('.arrow')) {
        const n = path.getTotalLength();
        for (let at = 2; at < n - 2; at += 4) {
            const {x, y} = path.getPointAtLength(at);
            const inside = boxes.some(b => x > b.x && x < b.x + b.width && y > b.y && y < b.y + b.height);
            if (inside || x < 0 || x > size.width || y > size.height) found.push([x, y]);
        }
    }
    return [boxes.length, found];
}"""
"""The number of boxes of the graph, and the points of its lines that are outside the drawing or behind a box."""


@pytest.mark.parametrize("width", [1440, 390])
def test_the_stages_of_a_whole_study_can_be_read(browser: Any, old: Path, tmp_path: Path, width: int) -> None:
    with running(old, cache=tmp_path) as address, opened(browser, address, width) as page:
        page.goto(page.url + "stages?at=v5")
        texts = page.evaluate(TEXT_SIZES)
        for step in ("ingest", "embed", "compare", "encode_brains"):
            assert step in [text for _, text in texts]
        assert [(size, text) for size, text in texts if size < 11] == []
        assert page.locator(".graph").is_visible() == (width == 1440)
        if width == 1440:
            assert page.evaluate(CUT_OR_HIDDEN) == [page.locator(".steps tbody tr").count(), []]
        row = page.inner_text(".steps tr:has(th:text-is('choose_by_ratings'))")
        assert all(words in row for words in ("sample", "2 of 2 stages to run", "human-dimension (to run)"))
        wide = (
            "[...document.querySelectorAll('.steps *')].filter(one => one.getBoundingClientRect().right > innerWidth)"
        )
        assert page.evaluate(f"{wide}.length") == 0
        assert faults(page) == []


def test_a_judgment_is_found_by_filters_and_shows_what_decided(page: Any) -> None:
    page.click("nav a:has-text('Judgments')")
    page.select_option("[name='agent']", "tiny")
    page.select_option("[name='agreement']", "differ")
    page.fill("[name='stimulus']", "tiny-0002")
    page.press("[name='stimulus']", "Enter")
    assert page.locator(".card").count() > 3
    assert page.locator(".triplet li:has-text('tiny-0002')").count() == page.locator(".card").count()
    page.click(".card .head a")
    assert page.locator("mark").all_inner_texts() == ["Video 1", "noticeably different"]
    assert "planted-caption-0" in page.inner_text(".prompt") and "other" in page.inner_text("main table")
    assert faults(page) == []


def test_the_next_page_has_other_judgments_and_back_the_same(page: Any) -> None:
    page.goto(page.url + "judgments?agent=other")
    first = page.locator(".card .head").all_inner_texts()
    page.click("[rel='next']")
    second = page.locator(".card .head").all_inner_texts()
    assert len(first) == len(second) == 24 and not set(first) & set(second)
    page.click("[rel='prev']")
    assert page.locator(".card .head").all_inner_texts() == first


def test_sql_runs_from_the_keyboard_and_downloads_csv(page: Any, tmp_path: Path) -> None:
    page.goto(page.url + "sql")
    page.fill("#sql", "SELECT caption FROM captions WHERE stimulus_index = 5")
    page.press("#sql", "Control+Enter")
    page.wait_for_selector(".result")
    assert "planted-caption-5-<script>" in page.inner_text(".result") and page.title().startswith("SQL")
    assert faults(page) == []
    with page.expect_download() as started:
        page.click("text=Download CSV")
    assert "planted-caption-5" in Path(started.value.path()).read_text()


def test_another_website_cannot_read_the_pages_or_ask_sql(browser: Any, address: str, tmp_path: Path) -> None:
    context = browser.new_context()
    own = context.new_page()
    own.goto(address)
    base = own.url
    other = context.new_page()
    other.goto("data:text/html,<title>other</title>")
    read = """async address => { try { const found = await fetch(address, {credentials: 'include'});
        return found.status + await found.text(); } catch (error) { return 'blocked'; } }"""
    assert other.evaluate(read, base + "judgments") == "blocked"
    posted = """async address => { try { const found = await fetch(address, {method: 'POST', mode: 'no-cors',
        credentials: 'include', body: 'sql=SELECT 1'}); return found.type; } catch (error) { return 'blocked'; } }"""
    assert other.evaluate(posted, base + "sql") == "blocked"
    context.close()


@pytest.fixture
def folder(planted: Path, tmp_path: Path) -> Path:
    """A bundle."""
    return write_bundle(planted, tmp_path / "site", n_sampled=5).folder


@pytest.fixture
def site(folder: Path) -> Iterator[str]:
    """The address of the bundle on a web server."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize("width", [1440, 390])
def test_the_bundle_is_accessible_on_a_web_server_and_opens_without_one(
    browser: Any, folder: Path, site: str, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    for name in ("index", "judgments", "judgment/1", "stimuli", "stimulus/0", "similarity", "versions", "stages"):
        page.goto((folder / f"{name}.html").as_uri())  # without a server
        assert page.evaluate("getComputedStyle(document.body).margin") == "0px"  # the style sheet was loaded
        page.goto(f"{site}{name}.html")
        assert faults(page) == [], name
        assert "owned" not in page.title()
    page.close()
    assert said == []
