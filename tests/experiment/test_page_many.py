"""Twenty browsers at once that reload, leave and lose their connection, and a server that is killed ten times."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

from tests.support.browsers import chromium, in_browser
from tests.support.people import Served, served

pytestmark = in_browser

N_BROWSERS = 20
N_RETURN, N_GONE = 3, 3
"""Those who close the tab: some come back, some do not."""

PER_PARTICIPANT = 110
N_KILLS = 10
LIMIT_S = 400

PARTICIPANT = """
window.paused = false;
const chosen = JSON.parse(localStorage.getItem('chosen') ?? '{}');
setInterval(() => {
    if (window.paused) return;
    const page = document.querySelector('.page .buttons:not(.languages) button.primary');
    if (page) return page.click();
    const trial = document.querySelector('.trial:has(.cards.ready)'), number = trial?.dataset.number;
    if (!number || number in chosen) return;
    const cards = trial.querySelectorAll('.card:not(:disabled)');
    if (cards.length !== 3) return;
    const at = Math.floor(Math.random() * 3);
    cards[at].click();
    if (!cards[at].classList.contains('chosen')) return; // too early
    chosen[number] = at + 1;
    localStorage.setItem('chosen', JSON.stringify(chosen));
}, 30);
"""
"""What a participant does. What the page took for an answer is noted beside the page, for comparison."""


def noted(page: Any) -> dict[int, int]:
    """What the page took for answers."""
    found = json.loads(page.evaluate("localStorage.getItem('chosen')") or "{}")
    return {int(number): position for number, position in found.items()}


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


class Crowd:
    """Browsers of which each is a participant."""

    def __init__(self, people: Served, contexts: list[Any]) -> None:
        self.people, self.contexts, self.chance = people, contexts, random.Random(1)
        self.pages: list[Any | None] = [None] * len(contexts)
        self.codes: dict[int, str] = {}
        self.gone: dict[int, dict[int, int]] = {}
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


def test_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    captions = [f"Scene {n}" for n in range(26)]
    began = time.monotonic()
    with (
        chromium() as browser,
        served(tmp_path, captions, per_participant=PER_PARTICIPANT, break_every=20) as people,
    ):
        contexts = [browser.new_context() for _ in range(N_BROWSERS)]
        for context in contexts:
            context.add_init_script(PARTICIPANT)
        crowd = Crowd(people, contexts)
        for at in range(N_BROWSERS):
            crowd.open(at)
        total = N_BROWSERS * PER_PARTICIPANT
        for kill in range(N_KILLS):
            due = total * (kill + 1) // (N_KILLS + 3)
            while len(people.answers()) < due:
                assert time.monotonic() - began < LIMIT_S
                crowd.happen(is_up=True)
                crowd.wait(0.5)
            if kill == N_KILLS // 2:
                for at in range(N_RETURN + N_GONE):
                    if at in crowd._offline:
                        contexts[at].set_offline(False)
                        del crowd._offline[at]
                    crowd.close(at)
            people.kill()
            crowd.counts["kills"] += 1
            crowd.wait(0.2)
            crowd.happen(is_up=False)
            people.start()
            if kill == N_KILLS // 2 + 1:
                for at in range(N_RETURN):
                    crowd.open(at)
        crowd.settle()
        for page in crowd.pages:
            if page is not None:
                page.wait_for_selector("text=all your answers have arrived", timeout=1000 * LIMIT_S)
        print(f"{len(people.answers())} answers in {time.monotonic() - began:.0f} s; {crowd.counts}")
        check(crowd)


def check(crowd: Crowd) -> None:
    """Compare what the server has with what the pages took for answers."""
    people, found = crowd.people, stored(crowd.people)
    assert len(found) == len(people.rows("SELECT * FROM participants")) == N_BROWSERS
    for at, page in enumerate(crowd.pages):
        if page is not None:
            took = noted(page)
            assert found[participant_of(page)] == took
            assert sorted(took) == list(range(1, PER_PARTICIPANT + 1))
        else:  # gone for good: the last answer may still be in that browser
            took, has = crowd.gone[at], found[crowd.codes[at]]
            assert has.items() <= took.items()
            assert len(took) - len(has) <= 1
    assert len(people.answers()) >= 2000
    ((n_answers, n_trials),) = people.rows(
        "SELECT count(*), count(DISTINCT i || '-' || j || '-' || k) FROM given NATURAL JOIN answers"
    )
    assert n_answers == n_trials
