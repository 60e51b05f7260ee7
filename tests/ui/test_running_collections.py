"""The page of collections while a real collector asks a server, is killed, runs again and is done."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from affectlake.judge.responses.parsed import Parsed
from affectlake.judge.responses.tables import read_answer
from affectlake.pipelines.collection.publishing import publish_waiting, unpublished_answers, waiting
from affectlake.pipelines.collection.request import CollectionRequest
from affectlake.pipelines.collection.run import ask_sample
from affectlake.pipelines.params.study import load
from affectlake.ui.running import Collections
from tests.support.browsers import chromium, in_browser, opened
from tests.support.builds import copy_of
from tests.support.chat import ENTRY
from tests.support.chat_lakes import make_lake
from tests.support.fault_server import FaultServer, expected_text
from tests.support.pages import running
from tests.support.preloaded import REAL

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
pytestmark = in_browser

N_PLANNED, N_FAILED = 435, 2
CARD = "article[aria-label='tiny, main']"
REFUSAL = "I'm sorry, but I cannot help with that."


def says(body: bytes) -> str:
    """Refuse every third trial or so, and choose in the others."""
    choice = expected_text(body)
    return REFUSAL if choice == "Video 1" else f"{choice} is noticeably different from the other two."


class Counts(NamedTuple):
    """Numbers of an agent's collection: answers, refusals, answers that were parsed, failures."""

    n: int
    refused: int
    looked_at: int
    parsed_percent: float
    failed: int


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    """A server whose answers take seconds, and which rejects two questions."""
    with FaultServer(models=("tiny-llama",), says=says, seconds=1.0).running() as found:
        yield found


@pytest.fixture(scope="module")
def lake(server: FaultServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake whose agent `tiny` asks that server."""
    folder = tmp_path_factory.mktemp("running") / "lake"
    make_lake(folder, ENTRY)
    raw = yaml.safe_load((folder / "params.yaml").read_text())
    raw["agents"]["tiny"] |= {"servers": [server.url], "in_flight": 16}
    (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def whole(text: str) -> int:
    return int(text.replace(",", ""))


def shown(page: Any) -> Counts:
    """Return the numbers on the page."""
    text = page.inner_text(CARD)
    refused, looked_at = re.search(r"Refusals\s+([\d,]+) of ([\d,]+)", text, re.IGNORECASE).groups()  # type: ignore[union-attr]
    parsed = re.search(r"Parsed\s+(?:([\d.]+)\s?%|–)", text, re.IGNORECASE)
    failed = re.search(r"Failed\s+([\d,]+)", text, re.IGNORECASE)
    n = re.search(r"([\d,]+) of 435 \(", text)
    assert parsed and failed and n, text
    return Counts(whole(n[1]), whole(refused), whole(looked_at), float(parsed[1] or "nan"), whole(failed[1]))


def state(page: Any) -> str:
    return str(page.inner_text(f"{CARD} .tag")).lower()


def fact(page: Any, name: str) -> str:
    return str(page.inner_text(f"{CARD} dl div:has(dt:text('{name}')) dd"))


def wait_until(page: Any, is_so: Callable[[], bool], seconds: float = 90) -> None:
    """Wait until the page, which reads the state again by itself, shows something."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, page.inner_text("main")
        page.wait_for_timeout(200)


def in_journal(lake: Path) -> int:
    """Return the number of answers in the journal."""
    return sum(one.n for one in waiting(lake, "tiny") if one.error_kind is None)


def printed(lake: Path) -> Any:
    """Return what ``affectlake status --json`` prints of the main set."""
    done = subprocess.run(
        ["affectlake", "status", "--json", "--lake", str(lake)], capture_output=True, text=True, check=True
    )
    return next(one for one in json.loads(done.stdout) if one["trial_set"] == "main")


def counts_of(status: Any) -> Counts:
    return Counts(
        status["n_answered"] + status["n_waiting"] - status["n_waiting_failed"],
        status["unread"].get("refusal", 0),
        status["n_looked_at"],
        round(100 * status["share_parsed"], 1),
        sum(status["n_failed"].values()) + status["n_waiting_failed"],
    )


def test_an_answer_is_parsed_once_however_often_the_state_is_read(
    server: FaultServer, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = copy_of(lake, tmp_path / "lake")
    sample = CollectionRequest("tiny", sample=30)
    ask_sample(own, sample, lambda _line: None)
    n_parsed = 0

    def counting(*words: Any) -> Parsed:
        nonlocal n_parsed
        n_parsed += 1
        return read_answer(*words)

    monkeypatch.setattr("affectlake.pipelines.collection.latest_answers.read_answer", counting)
    seconds = iter(range(0, 1000, 10))
    collections = Collections(own, lambda: next(seconds))
    first = next(one for one in collections.now() if one.status.trial_set == "main")
    assert n_parsed == first.status.n_looked_at > 20 and first.status.unread["refusal"] > 0
    again = next(one for one in collections.now() if one.status.trial_set == "main")
    assert n_parsed == first.status.n_looked_at and again.status == first.status
    publish_waiting(own, "tiny", lambda _line: None)
    later = next(one for one in collections.now() if one.status.trial_set == "main")
    assert n_parsed == first.status.n_looked_at == later.status.n_looked_at  # the same ones, published
    assert (later.status.n_waiting, later.n_answers) == (0, first.n_answers)
    assert later.status.unread == first.status.unread


def test_the_page_follows_a_collector_that_is_killed_and_one_that_is_done(
    browser: Any, server: FaultServer, lake: Path, tmp_path: Path
) -> None:
    server.script.extend(["400"] * N_FAILED)
    command = [str(REAL), "collect", "tiny", "--lake", str(lake)]
    with running(lake, cache=tmp_path) as address, opened(browser, address, 1440) as page:
        page.goto(page.url + "collections")
        page.evaluate("window.isFirst = true")
        assert (state(page), shown(page).n, fact(page, "Rate")) == ("not begun", 0, "not known")

        collector = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            seen = [shown(page)]
            while len({one.n for one in seen}) < 3:
                assert collector.poll() is None, "the collector ended before the page was read again"
                wait_until(page, lambda: shown(page) != seen[-1])
                seen.append(shown(page))
            assert state(page) == "running" and str(collector.pid) in page.inner_text(CARD)
            assert page.inner_text("article[aria-label='tiny, validation'] .tag").lower() == "not begun"
            colours = "one => [getComputedStyle(one).color, getComputedStyle(one).backgroundColor]"
            assert len(set(page.eval_on_selector(f"{CARD} .tag", colours))) == 2  # axe does not judge equal ones
            assert [one.n for one in seen] == sorted(one.n for one in seen)
            assert [one.refused for one in seen] == sorted(one.refused for one in seen) and seen[-1].refused > 0
            assert all(abs(one.looked_at - one.n) <= 50 for one in seen)  # read one after the other, while it asks
            assert "last minutes" in page.inner_text(f"{CARD} dl").lower()
            assert whole(fact(page, "Rate").split()[0]) > 1000 and fact(page, "Time left").endswith("min")
            assert axe.Axe().run(page).response["violations"] == []

            before = in_journal(lake)
            at = shown(page)
            wait_until(page, lambda: shown(page).n > max(at.n, before))
            assert before < shown(page).n <= in_journal(lake) < N_PLANNED - N_FAILED
        finally:
            collector.send_signal(signal.SIGKILL)
            collector.wait()

        wait_until(page, lambda: state(page) == "not running" and shown(page).n == in_journal(lake))
        texts = [one.text for one in unpublished_answers(lake, load(lake).agents["tiny"], "main", N_PLANNED)]
        n, refused = len(texts), texts.count(REFUSAL)
        assert 0 < refused < n < N_PLANNED - N_FAILED
        assert shown(page) == Counts(n, refused, n, round(100 * (n - refused) / n, 1), N_FAILED)
        assert shown(page) == counts_of(printed(lake))
        assert "not published yet" in page.inner_text(CARD)
        assert "last minutes" not in page.inner_text(f"{CARD} dl").lower()

        server.seconds = 0.02
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
        wait_until(page, lambda: state(page) == "done")
        assert shown(page) == counts_of(printed(lake))
        assert (shown(page).n, shown(page).failed, in_journal(lake)) == (N_PLANNED - N_FAILED, N_FAILED, 0)
        assert fact(page, "Time left") == "none"
        assert page.evaluate("window.isFirst")  # the page was not loaded again
        page.set_viewport_size({"width": 390, "height": 900})
        assert axe.Axe().run(page).response["violations"] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_page_says_when_the_pages_are_no_longer_served(browser: Any, planted: Path, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 900})
    with running(planted, cache=tmp_path) as address:
        page.goto(address)
        page.goto(page.url + "collections")
        assert not page.is_visible("[data-stale]")
    page.wait_for_selector("[data-stale]", state="visible", timeout=20_000)
    assert "does not answer" in page.inner_text("[data-stale]")
    page.close()
