"""Browsers that reload, leave and lose their connection, and a server that is killed: no answer is lost or doubled."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.browsers import chromium, in_browser
from tests.support.people import Served, served

pytestmark = in_browser


class Size(NamedTuple):
    """How many browsers there are, how many close the tab and come back or do not, and how often the server dies."""

    n_browsers: int
    n_return: int
    n_gone: int
    per_participant: int
    n_kills: int
    limit_s: float


SMALL = Size(6, 1, 1, 40, 4, 300)
FULL = Size(20, 3, 3, 110, 10, 1500)

PARTICIPANT = """
window.paused = false;
const chosen = JSON.parse(localStorage.getItem('chosen') ?? '{}'), now = new Set();
setInterval(() => {
    if (window.paused) return;
    const page = document.querySelector('.page .buttons:not(.languages) button.primary');
    if (page) return page.click();
    const trial = document.querySelector('.trial:has(.cards.ready)'), number = trial?.dataset.number;
    if (!number || now.has(number)) return;
    const cards = trial.querySelectorAll('.card:not(:disabled)');
    if (cards.length !== 3) return;
    const at = Math.floor(Math.random() * 3);
    cards[at].click();
    if (!cards[at].classList.contains('chosen')) return; // too early
    now.add(number);
    chosen[number] = [...(chosen[number] ?? []), at + 1];
    localStorage.setItem('chosen', JSON.stringify(chosen));
}, 30);
"""
"""What a participant does. What the page took for an answer is noted beside the page, for comparison.

If the page is reloaded in the moment between a choice and its being on disk, the same trial is shown again.
"""


def noted(page: Any) -> dict[int, list[int]]:
    """What the page took for answers."""
    found = json.loads(page.evaluate("localStorage.getItem('chosen')") or "{}")
    return {int(number): positions for number, positions in found.items()}


def stored(people: Served) -> dict[str, dict[int, int]]:
    """What the server has, by participant."""
    found: dict[str, dict[int, int]] = {}
    for participant, number, position, *_ in people.answers():
        assert number not in found.setdefault(participant, {})
        found[participant][number] = position
    return found


def participant_of(page: Any) -> str:
    """The participant that a browser's database has."""
    return str(
        page.evaluate(
            """async () => {
                const [{ name }] = await indexedDB.databases();
                const database = await new Promise(resolve => {
                    indexedDB.open(name).onsuccess = event => resolve(event.target.result);
                });
                return new Promise(resolve => {
                    const asked = database.transaction('session').objectStore('session').get('me');
                    asked.onsuccess = () => { database.close(); resolve(asked.result.participant); };
                });
            }"""
        )
    )


def finished(page: Any, until: float) -> None:
    """Wait for the end; a page that stays empty, because it was loaded when the server was killed, is loaded again."""
    looked = time.monotonic()
    while page.locator("text=all your answers have arrived").count() == 0:
        assert time.monotonic() < until, page.inner_text("body")
        if page.locator("main h1").count():
            looked = time.monotonic()
        elif time.monotonic() - looked > 10:
            page.reload(wait_until="commit")
            looked = time.monotonic()
        page.wait_for_timeout(300)


class Crowd:
    """Browsers of which each is a participant."""

    def __init__(self, people: Served, contexts: list[Any], size: Size) -> None:
        self.people, self.contexts, self.size, self.chance = people, contexts, size, random.Random(1)
        self.pages: list[Any | None] = [None] * len(contexts)
        self.codes: dict[int, str] = {}
        self.gone: dict[int, dict[int, list[int]]] = {}
        self.counts = {"reloads": 0, "offline": 0, "kills": 0}
        self._offline: dict[int, float] = {}

    def open(self, at: int) -> None:
        """Open the page in a browser."""
        page = self.pages[at] = self.contexts[at].new_page()
        page.goto(self.people.address, wait_until="commit")

    def close(self, at: int) -> None:
        """Close the page in the middle of what it does, and keep what it took for answers."""
        page = self.pages[at]
        assert page is not None
        page.evaluate("window.paused = true")
        if self._offline.pop(at, None):
            self.contexts[at].set_offline(False)
        self.codes[at], self.gone[at] = participant_of(page), noted(page)
        page.close()
        self.pages[at] = None

    def happen(self, is_up: bool) -> None:
        """Let something happen to some browsers. A page can only be reloaded while the server runs."""
        now = time.monotonic()
        for at in [one for one, until in self._offline.items() if until < now]:
            self.contexts[at].set_offline(False)
            del self._offline[at]
        open_now = [at for at, page in enumerate(self.pages) if page is not None and at not in self._offline]
        if not open_now:
            return
        at = self.chance.choice(open_now)
        if self.chance.random() < 0.5:
            self.contexts[at].set_offline(True)
            self._offline[at] = now + self.chance.uniform(0.5, 4)
            self.counts["offline"] += 1
        elif is_up:
            self.pages[at].reload(wait_until="commit")  # type: ignore[union-attr]
            self.counts["reloads"] += 1

    def settle(self) -> None:
        """Give every browser its connection back."""
        for at in self._offline:
            self.contexts[at].set_offline(False)
        self._offline.clear()

    def wait(self, seconds: float) -> None:
        """Let the browsers work."""
        next(page for page in self.pages if page is not None).wait_for_timeout(1000 * seconds)


@pytest.mark.parametrize("size", [SMALL, pytest.param(FULL, marks=pytest.mark.soak)], ids=["small", "full"])
def test_nothing_is_lost_or_doubled(tmp_path: Path, size: Size) -> None:
    captions = [f"Scene {n}" for n in range(26)]
    began = time.monotonic()
    with (
        chromium() as browser,
        served(tmp_path, captions, per_participant=size.per_participant, break_every=20) as people,
    ):
        contexts = [browser.new_context() for _ in range(size.n_browsers)]
        for context in contexts:
            context.add_init_script(PARTICIPANT)
        crowd = Crowd(people, contexts, size)
        for at in range(size.n_browsers):
            crowd.open(at)
        live(crowd, began + size.limit_s)
        crowd.settle()
        for page in crowd.pages:
            if page is not None:
                finished(page, began + size.limit_s)
        print(f"{len(people.answers())} answers in {time.monotonic() - began:.0f} s; {crowd.counts}")
        check(crowd)


def live(crowd: Crowd, until: float) -> None:
    """Let the browsers work, while the server is killed from time to time."""
    people, size = crowd.people, crowd.size
    total = size.n_browsers * size.per_participant
    leaving = range(size.n_return + size.n_gone)
    for kill in range(size.n_kills):
        while len(people.answers()) < total * (kill + 1) // (size.n_kills + 3):
            assert time.monotonic() < until
            crowd.happen(is_up=True)
            crowd.wait(0.5)
        if kill == size.n_kills // 2:
            for at in leaving:
                crowd.close(at)
        people.kill()
        crowd.counts["kills"] += 1
        crowd.wait(0.2)
        crowd.happen(is_up=False)
        people.start()
        if kill == size.n_kills // 2 + 1:
            for at in leaving[: size.n_return]:
                crowd.open(at)


def check(crowd: Crowd) -> None:
    """Compare what the server has with what the pages took for answers."""
    people, size, found = crowd.people, crowd.size, stored(crowd.people)
    assert len(found) == len(people.rows("SELECT * FROM participants")) == size.n_browsers
    n_again = 0
    for at, page in enumerate(crowd.pages):
        took = crowd.gone[at] if page is None else noted(page)
        has = found[crowd.codes[at] if page is None else participant_of(page)]
        assert all(position in took[number] for number, position in has.items())
        n_again += sum(len(positions) - 1 for positions in took.values())
        if page is None:  # gone for good: the last answer may still be in that browser
            assert len(took) - len(has) <= 1
        else:
            assert sorted(took) == sorted(has) == list(range(1, size.per_participant + 1))
    print(f"{n_again} trials were shown again after a reload")
    assert n_again <= crowd.counts["reloads"] + size.n_return + size.n_gone
    assert len(people.answers()) >= (size.n_browsers - size.n_gone) * size.per_participant
    ((n_answers, n_trials),) = people.rows(
        "SELECT count(*), count(DISTINCT i || '-' || j || '-' || k) FROM given NATURAL JOIN answers"
    )
    assert n_answers == n_trials
