"""Pictures, clips and sounds in a real browser: shown when they are there and verified, or recorded as not shown."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.browsers import chromium, in_browser
from tests.support.clips import clips, pictures, sounds
from tests.support.participants import answer, begin, entered, faults, until, wait_for
from tests.support.people import served

pytestmark = in_browser
CAPTIONS = [f"Scene {n}" for n in range(5)]

BLOCKED = """
const play = HTMLMediaElement.prototype.play, known = new WeakSet();
let tapped = false;
addEventListener('click', () => {
    tapped = true;
    setTimeout(() => (tapped = false));
}, true);
window.plays = {refused: 0, allowed: 0};
HTMLMediaElement.prototype.play = function () {
    if (tapped) known.add(this);
    if (!known.has(this)) {
        window.plays.refused++;
        return Promise.reject(new DOMException('a gesture is needed', 'NotAllowedError'));
    }
    window.plays.allowed++;
    return play.call(this);
};
"""
"""Play as an iPhone in low power mode does: only elements that were started by a tap."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    with entered(browser) as found:
        yield found


def hold(page: Any, which: str) -> list[Any]:
    """Hold requests back, and return those that are held."""
    held: list[Any] = []

    def keep(route: Any) -> None:
        held.append(route)

    page.route(which, keep)
    return held


def release(page: Any, which: str, held: list[Any]) -> None:
    """Let them through, and those to come."""
    for one in held:
        one.continue_()
    page.unroute(which)


def outcomes(people: Any) -> list[tuple[int, int | None, str | None, str | None]]:
    return [(number, position, reason, detail) for _, number, position, reason, detail, _ in people.answers()]


def test_pictures_are_shown_before_the_time_begins(tmp_path: Path, page: Any) -> None:
    media = pictures(tmp_path, 5)
    with served(tmp_path / "served", CAPTIONS, kind="images", media=media, per_participant=2) as people:
        held = hold(page, "**/media/*")
        begin(page, people.address)
        page.wait_for_selector(".kicker:has-text('Loading')")
        page.keyboard.press("1")  # nothing is shown yet
        page.wait_for_timeout(1500)
        release(page, "**/media/*", held)
        wait_for(page, 1)
        shown = page.evaluate("[...document.querySelectorAll('.card img')].map(one => one.naturalWidth)")
        assert shown == [320, 320, 320]
        page.keyboard.press("3")
        answer(page, 2, 1)
        page.wait_for_selector("text=all your answers have arrived")
        assert outcomes(people) == [(1, 3, None, None), (2, 1, None, None)]
        assert people.answers()[0][-1] < 1500


@pytest.mark.parametrize("fault", ["aborted", "cut off", "changed", "HTTP 503"])
def test_1393_a_picture_on_a_bad_network_is_loaded_again(tmp_path: Path, page: Any, fault: str) -> None:
    """jsPsych#1393: images that did not arrive, or broken ones, are counted as seen."""
    media = pictures(tmp_path, 3)
    with served(tmp_path / "served", CAPTIONS[:3], kind="images", media=media, per_participant=1) as people:
        tried: dict[str, int] = {}

        def bad(route: Any) -> None:
            tried[route.request.url] = tried.get(route.request.url, 0) + 1
            if tried[route.request.url] > 2:
                route.continue_()
            elif fault == "aborted":
                route.abort()
            elif fault == "HTTP 503":
                route.fulfill(status=503)
            else:
                body = route.fetch().body()
                route.fulfill(body=body[:-100] if fault == "cut off" else body[:-1] + b"?")

        page.route("**/media/*", bad)
        begin(page, people.address)
        answer(page, 1, 2)
        page.wait_for_selector("text=all your answers have arrived")
        assert sorted(tried.values()) == [3, 3, 3]
        assert outcomes(people) == [(1, 2, None, None)]


@pytest.mark.parametrize(
    ("fault", "why"), [("404", "HTTP 404"), ("changed", "another SHA-256"), ("aborted", "did not arrive")]
)
def test_1393_a_picture_that_does_not_arrive_is_recorded(tmp_path: Path, page: Any, fault: str, why: str) -> None:
    """It is a reason, not an answer, and the participant continues."""
    media = pictures(tmp_path, 5)
    bad = hashlib.sha256(media[2].read_bytes()).hexdigest()
    with served(tmp_path / "served", CAPTIONS, kind="images", media=media, per_participant=6, wanted=2) as people:

        def fail(route: Any) -> None:
            if fault == "404":
                route.fulfill(status=404)
            elif fault == "aborted":
                route.abort()
            else:
                route.fulfill(body=b"x" * len(media[2].read_bytes()))

        page.route(f"**/media/{bad}*", fail)
        begin(page, people.address)
        for number in range(1, 7):
            page.wait_for_selector(f".trial[data-number='{number}'] .ready, .cards.failed", timeout=60_000)
            if page.locator(".cards.failed").count():
                page.click(".trial button.primary")
            else:
                answer(page, number, 1)
            page.wait_for_selector(f".trial:not([data-number='{number}']):not(:has(.failed)), .page")
        page.wait_for_selector("text=all your answers have arrived")
        found = people.rows(
            "SELECT position, reason, detail, shown_1, shown_2, shown_3 FROM answers NATURAL JOIN given ORDER BY number"
        )
        numbers = dict(people.rows("SELECT stimulus_id, number FROM stimuli"))
        for position, reason, detail, *shown in found:
            if numbers["stimulus-2"] in shown:
                at = shown.index(numbers["stimulus-2"]) + 1
                assert (position, reason, detail) == (None, "media_failed", f"{at}: {why}")
            else:
                assert (position, reason, detail) == (1, None, None)
        assert any(reason for _, reason, *_ in found)


@pytest.mark.parametrize(("kind", "suffix"), [("images", ".jpg"), ("videos", ".webm"), ("sounds", ".wav")])
def test_3231_a_file_that_cannot_be_decoded_is_recorded(tmp_path: Path, page: Any, kind: str, suffix: str) -> None:
    """jsPsych#3231: videos fail to play, and nothing in the data says so."""
    make = {"images": pictures, "videos": clips, "sounds": sounds}[kind]
    media = make(tmp_path, 2)
    broken = tmp_path / f"broken{suffix}"
    broken.write_bytes(b"this is text " * 40)
    with served(tmp_path / "served", CAPTIONS[:3], kind=kind, media=[*media, broken], per_participant=1) as people:
        begin(page, people.address)
        page.wait_for_selector(".cards.failed")
        for key in ("1", "2", "3"):
            page.keyboard.press(key)
        page.click(".trial button.primary")
        page.wait_for_selector("text=all your answers have arrived")
        ((number, position, reason, detail),) = outcomes(people)
        assert (number, position, reason) == (1, None, "media_failed")
        ((*shown,),) = people.rows("SELECT shown_1, shown_2, shown_3 FROM given")
        numbers = dict(people.rows("SELECT stimulus_id, number FROM stimuli"))
        assert detail.startswith(f"{shown.index(numbers['stimulus-2']) + 1}: ")


@pytest.mark.parametrize("how", ["rejects", "hangs", "stops"])
def test_3231_a_clip_that_does_not_play_is_recorded(tmp_path: Path, page: Any, how: str) -> None:
    """jsPsych#3231, of clips that are whole: the browser refuses to play, does not begin, or fails on the way."""
    media = clips(tmp_path, 3, seconds=20 if how == "stops" else 1)
    with served(tmp_path / "served", CAPTIONS[:3], kind="videos", media=media, per_participant=1) as people:
        if how != "stops":
            play = "Promise.reject(new DOMException('out of decoders', 'NotSupportedError'))"
            if how == "hangs":
                play = "new Promise(() => {})"
            page.add_init_script(f"HTMLMediaElement.prototype.play = function () {{ return {play} }}")
        begin(page, people.address)
        if how == "stops":
            wait_for(page, 1)
            page.evaluate("document.querySelector('video').src = URL.createObjectURL(new Blob(['broken']))")
        page.wait_for_selector(".cards.failed", timeout=40_000)
        page.click(".trial button.primary")
        page.wait_for_selector("text=all your answers have arrived")
        ((_, position, reason, detail),) = outcomes(people)
        assert (position, reason) == (None, "media_failed")
        assert detail[:3] in {"1: ", "2: ", "3: "}
        assert len(detail) > 10


def test_clips_play_by_themselves_without_sound(tmp_path: Path, page: Any) -> None:
    media = clips(tmp_path, 4)
    with served(tmp_path / "served", CAPTIONS[:4], kind="videos", media=media, per_participant=2) as people:
        begin(page, people.address)
        wait_for(page, 1)
        facts = page.evaluate(
            "[...document.querySelectorAll('video')].map(one => [one.muted, one.playsInline, one.currentTime > 0])"
        )
        assert facts == [[True, True, True]] * 3
        answer(page, 1, 2)
        answer(page, 2, 3)
        page.wait_for_selector("text=all your answers have arrived")
        assert outcomes(people) == [(1, 2, None, None), (2, 3, None, None)]


def test_2328_one_tap_starts_all_clips_of_all_trials(tmp_path: Path, browser: Any) -> None:
    """jsPsych#2328: an iPhone plays the first video and blocks the second."""
    media = clips(tmp_path, 5)
    phone = {"has_touch": True, "is_mobile": True, "viewport": {"width": 390, "height": 844}}
    with (
        served(tmp_path / "served", CAPTIONS, kind="videos", media=media, per_participant=4) as people,
        entered(browser, **phone) as page,
    ):
        page.add_init_script(BLOCKED)
        begin(page, people.address)
        page.wait_for_timeout(500)
        page.wait_for_selector("button:has-text('Tap to play')")
        assert page.locator(".cards.ready").count() == 0
        page.keyboard.press("1")
        page.tap("button:has-text('Tap to play')")
        for number in range(1, 5):
            answer(page, number, 1)  # without another tap
        page.wait_for_selector("text=all your answers have arrived")
        assert [one[1:3] for one in outcomes(people)] == [(1, None)] * 4
        assert page.evaluate("window.plays.allowed") == 12


def test_clips_wait_for_those_who_want_no_motion(tmp_path: Path, browser: Any) -> None:
    media = clips(tmp_path, 3)
    with (
        served(tmp_path / "served", CAPTIONS[:3], kind="videos", media=media, per_participant=1) as people,
        entered(browser, reduced_motion="reduce") as page,
    ):
        begin(page, people.address)
        page.wait_for_selector("button:has-text('Tap to play')")
        page.wait_for_timeout(300)
        assert page.evaluate("[...document.querySelectorAll('video')].every(one => one.paused)")
        page.click("button:has-text('Tap to play')")
        answer(page, 1, 2)
        page.wait_for_selector("text=all your answers have arrived")
        assert outcomes(people) == [(1, 2, None, None)]


@pytest.mark.parametrize("blocked", [False, True])
def test_three_sounds_are_heard_before_an_answer(tmp_path: Path, page: Any, blocked: bool) -> None:
    media = sounds(tmp_path, 4, seconds=0.5)
    with served(tmp_path / "served", CAPTIONS[:4], kind="sounds", media=media, per_participant=2) as people:
        if blocked:
            page.add_init_script(BLOCKED)
        begin(page, people.address)
        if blocked:
            page.click("button:has-text('Play the three sounds')")
        page.wait_for_selector(".card.sounding >> nth=0")
        page.keyboard.press("1")
        answer(page, 1, 3)
        answer(page, 2, 2)
        page.wait_for_selector("text=all your answers have arrived")
        assert outcomes(people) == [(1, 3, None, None), (2, 2, None, None)]


def test_files_are_verified_without_a_secure_context(tmp_path: Path, page: Any) -> None:
    """`crypto.subtle` is missing where an address is neither https nor this computer: the page has its own SHA-256."""
    media = pictures(tmp_path, 3)
    with served(tmp_path / "served", CAPTIONS[:3], kind="images", media=media, per_participant=1) as people:
        page.add_init_script("Object.defineProperty(crypto, 'subtle', {value: undefined})")
        begin(page, people.address)
        answer(page, 1, 1)
        page.wait_for_selector("text=all your answers have arrived")
        random = np.random.default_rng(1)
        for n in [*range(0, 130, 3), 55, 56, 63, 64, 65, 1000, 100_000]:
            data = random.bytes(n)
            found = page.evaluate(
                "async data => (await import('./static/sha256.js')).sha256(Uint8Array.from(data).buffer)", [*data]
            )
            assert found == hashlib.sha256(data).hexdigest(), n


@pytest.mark.parametrize("width", [320, 1280])
def test_nothing_moves_when_media_arrive(tmp_path: Path, browser: Any, width: int) -> None:
    """The browser's own measure of layout shifts, over three trials with slow pictures of different shapes."""
    media = pictures(tmp_path, 5)
    with (
        served(tmp_path / "served", CAPTIONS, kind="images", media=media, per_participant=3) as people,
        entered(browser, viewport={"width": width, "height": 700}) as page,
    ):
        page.add_init_script(
            "window.shifts = []; new PerformanceObserver(list => window.shifts.push(...list.getEntries()"
            ".filter(one => !one.hadRecentInput).map(one => [one.value, one.sources.map(of => of.node?.outerHTML)])))"
            ".observe({type: 'layout-shift', buffered: true})"
        )
        held = hold(page, "**/media/*")
        begin(page, people.address)
        page.wait_for_selector(".kicker:has-text('Loading')")
        page.wait_for_timeout(600)
        release(page, "**/media/*", held)
        for number in (1, 2, 3):
            answer(page, number, 1)
        page.wait_for_selector("text=all your answers have arrived")
        assert page.evaluate("window.shifts") == []


def test_an_interrupted_download_waits_for_the_network(tmp_path: Path, page: Any) -> None:
    """Being offline is not a fault of the picture."""
    media = pictures(tmp_path, 3)
    with served(tmp_path / "served", CAPTIONS[:3], kind="images", media=media, per_participant=1) as people:
        page.goto(people.address)
        page.click("button[value=agree]")
        page.wait_for_selector("button[value=begin]")
        held = hold(page, "**/media/*")
        page.reload()
        page.click("button[value=begin]")
        until(lambda: page.wait_for_timeout(50) is None and len(held) >= 3)
        page.context.set_offline(True)
        for one in held:
            one.abort()
        page.unroute("**/media/*")
        page.wait_for_timeout(4000)
        assert people.answers() == []
        page.context.set_offline(False)
        answer(page, 1, 1)
        page.wait_for_selector("text=all your answers have arrived")
        assert outcomes(people) == [(1, 1, None, None)]


@pytest.mark.parametrize("kind", ["images", "videos", "sounds"])
@pytest.mark.parametrize("width", [320, 1440])
def test_trials_with_media_are_accessible_and_fit(tmp_path: Path, browser: Any, kind: str, width: int) -> None:
    media = {"images": pictures, "videos": clips, "sounds": sounds}[kind](tmp_path, 3)
    looks = {"viewport": {"width": width, "height": 700}}
    with (
        served(tmp_path, CAPTIONS[:3], kind=kind, media=media, per_participant=1, cannot_tell=True) as people,
        entered(browser, **looks) as page,
    ):
        begin(page, people.address)
        wait_for(page, 1)
        assert faults(page) == []
