"""The page as a folder of files: in a browser from a plain web server, and read back as `affectlake import` does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import combinations
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from affectlake.errors import UsageError
from affectlake.experiment.offer import Contents, MediaFile, Offer, ServeSettings
from affectlake.experiment.static_site import write_site
from affectlake.judge.judgments.layouts import read_raw
from affectlake.judge.judgments.options import ReadingOptions
from affectlake.judge.judgments.resolving import resolve
from affectlake.user_tables.catalogue import Catalogue
from tests.support.browsers import chromium, in_browser
from tests.support.clips import pictures
from tests.support.participants import answer, begin, entered, wait_for

N = 8
IDS = [f"scene {n:02d}" for n in range(N)]


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()


@contextmanager
def hosted(folder: Path) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the address of a folder on a plain web server, and the bodies that are posted to it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
    server.bodies = []  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", server.bodies  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def world(folder: Path | None = None, wanted: int = 1, **settings: Any) -> tuple[Offer, Contents, ServeSettings]:
    trials = np.array(list(combinations(range(N), 3)), dtype=np.int32)
    full = np.full(len(trials), wanted, dtype=np.int16)
    catch = np.array([[0, 1, 7], [2, 3, 6]], dtype=np.int32)
    offer = Offer(trials, full, np.zeros_like(full), catch=catch, practice=catch[:1])
    media: list[MediaFile | None] = [None] * N
    if folder is not None:
        folder.mkdir()
        for at, path in enumerate(pictures(folder, N)):
            content = path.read_bytes()
            media[at] = MediaFile(hashlib.sha256(content).hexdigest(), path, len(content), "image/jpeg")
    contents = Contents(
        "images" if folder else "captions", tuple(IDS), tuple(f"Caption of {one}" for one in IDS), tuple(media)
    )
    given = {
        "per_participant": 4,
        "practice": 1,
        "catch_every": 3,
        "break_every": 2,
        "languages": ("en", "de"),
    } | settings
    return offer, contents, ServeSettings("people", 5, **given)


def lists(folder: Path) -> list[list[dict[str, Any]]]:
    return [json.loads(path.read_bytes())["trials"] for path in sorted((folder / "lists").iterdir())]


def test_lists_are_balanced_and_no_trial_is_in_two(tmp_path: Path) -> None:
    """56 trials, 4 for each list: 14 lists, whatever is asked for; a second run writes the same bytes."""
    made = world()
    assert write_site(*made, tmp_path / "a", 20) == 14
    assert write_site(*made, tmp_path / "b", 20) == 14
    found = lists(tmp_path / "a")
    trials = [
        frozenset(s["id"] for s in one["stimuli"]) for listed in found for one in listed if one["kind"] == "trial"
    ]
    assert len(trials) == len(set(trials)) == 56
    for listed in found:
        assert [one["number"] for one in listed] == list(range(1, len(listed) + 1))
        kinds = [one["kind"] for one in listed]
        assert (kinds[0], kinds.count("catch"), kinds.count("trial")) == ("practice", 2, 4)
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    made = world()
    with pytest.raises(UsageError, match="number of lists"):
        write_site(*made, tmp_path / "a", 0)
    with pytest.raises(UsageError, match="address for answers"):
        write_site(*made, tmp_path / "a", 1, post_url="javascript:alert(1)")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UsageError, match="not an empty folder"):
        write_site(*made, tmp_path / "full", 1)
    assert not (tmp_path / "a").exists()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def take_part(page: Any, address: str) -> list[int]:
    """Take part from beginning to end, with a reload in the middle; return the positions that were chosen."""
    chosen = []
    begin(page, f"{address}?list=2")
    for number in range(1, 8):
        if number == 4:
            wait_for(page, 4)
            page.reload()
            page.click("button[value=continue]")
        page.wait_for_selector(f".trial[data-number='{number}'] .ready, button[value=continue]")
        if page.locator("button[value=continue]").count():
            page.click("button[value=continue]")
        chosen.append(1 + number % 3)
        answer(page, number, chosen[-1])
        if number == 1:
            page.click(".trial button.primary")
    page.wait_for_selector("text=Thank you")
    return chosen


def check_import(text: bytes, folder: Path, site: Path, chosen: list[int]) -> None:
    """Read the answers as `affectlake import` does, and compare them with what was shown and chosen."""
    path = folder / "answers.json"
    path.write_bytes(text)
    options, catalogue = ReadingOptions(), Catalogue(IDS)
    raw = read_raw(path, options, catalogue)
    assert raw.layout == "jspsych"
    judgments = resolve(raw, options, catalogue)
    frame = judgments.frame
    shown = [one for one in lists(site)[1] if one["kind"] != "practice"]
    assert frame.height == 6
    assert frame["trial"].to_list() == [str(one["number"]) for one in shown]
    ids = [[IDS.index(s["id"]) for s in one["stimuli"]] for one in shown]
    assert frame.select("shown_1", "shown_2", "shown_3").rows() == [tuple(one) for one in ids]
    assert frame["chosen"].to_list() == [one[at - 1] for one, at in zip(ids, chosen[1:], strict=True)]
    right = [one[shown[at]["right"] - 1] if shown[at]["kind"] == "catch" else None for at, one in enumerate(ids)]
    assert frame["right_answer"].to_list() == right
    assert frame["is_catch"].to_list() == [one["kind"] == "catch" for one in shown]
    assert frame["participant"].n_unique() == 1
    assert frame["response_ms"].min() > 200


class TestInABrowser:
    pytestmark = in_browser

    @pytest.mark.parametrize("way", ["download", "post", "jatos"])
    def test_answers_come_back(self, tmp_path: Path, browser: Any, way: str) -> None:
        site = tmp_path / "site"
        with hosted(site) as (address, bodies), entered(browser, accept_downloads=True) as page:
            made = world(tmp_path / "media" if way == "post" else None, return_url="https://panel.example/done")
            post = f"{address}answers" if way == "post" else ""
            write_site(*made, site, 3, post_url=post, jatos=way == "jatos")
            if way == "jatos":
                (site / "jatos.js").write_text(
                    "window.jatos = {onLoad: call => setTimeout(call), submitResultData: async text => {"
                    " window.submitted = [...(window.submitted ?? []), text] }}"
                )
            chosen = take_part(page, address)
            page.wait_for_selector("#return")
            if way == "download":
                with page.expect_download() as downloading:
                    page.click("text=Save my answers")
                check_import(Path(downloading.value.path()).read_bytes(), tmp_path, site, chosen)
            elif way == "post":
                assert len(bodies) == 1
                check_import(bodies[0], tmp_path, site, chosen)
                page.reload()
                page.wait_for_selector("#return")
                assert len(bodies) == 1  # not sent again
            else:
                (text,) = page.evaluate("window.submitted")
                check_import(text.encode(), tmp_path, site, chosen)

    def test_two_participants_have_different_codes(self, tmp_path: Path, browser: Any) -> None:
        """Who stops can hand over what there is; who withdraws hands over nothing."""
        write_site(*world(practice=0), tmp_path / "site", 3)
        codes = []
        with hosted(tmp_path / "site") as (address, _):
            for how in ("left", "left", "withdrawn"):
                with entered(browser, accept_downloads=True) as page:
                    begin(page, address)
                    answer(page, 1, 1)
                    wait_for(page, 2)
                    page.click("#stop")
                    page.click(f"dialog button[value={how}]")
                    page.wait_for_selector("text=You have stopped")
                    if how == "withdrawn":
                        assert page.locator("text=Save my answers").count() == 0
                        continue
                    with page.expect_download() as downloading:
                        page.click("text=Save my answers")
                    (row,) = json.loads(Path(downloading.value.path()).read_bytes())
                    codes.append(row["participant"])
        assert len(set(codes)) == 2
        assert {len(code) for code in codes} == {16}
