"""What a participant does in a real browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

SETTLED_MS = 230
"""From then on, a press is taken for an answer."""

_FACTS = """() => ({
    wide: document.documentElement.scrollWidth > innerWidth,
    small: [...document.querySelectorAll('button, a.button')].filter(one => one.checkVisibility() &&
        (one.getBoundingClientRect().height < 44 || one.getBoundingClientRect().width < 44)).map(one => one.outerHTML),
})"""


def begin(page: Any, address: str) -> None:
    """Open the page, agree, and read the instructions."""
    page.goto(address)
    page.click("button[value=agree]")
    page.click("button[value=begin]")


def wait_for(page: Any, number: int) -> None:
    """Wait until a trial can be answered."""
    page.wait_for_selector(f".trial[data-number='{number}'] .cards.ready button:not([disabled])")
    page.wait_for_timeout(SETTLED_MS)


def answer(page: Any, number: int, position: int) -> None:
    """Answer a trial with a key."""
    wait_for(page, number)
    page.keyboard.press(str(position))


def faults(page: Any) -> list[str]:
    """Return what axe finds, and what is wider than the page or too small for a finger."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in axe.Axe().run(page).response["violations"]]
    facts = page.evaluate(_FACTS)
    return found + (["too wide"] if facts["wide"] else []) + facts["small"]


def heading(page: Any) -> str:
    """Return what the page is about."""
    return str(page.inner_text("main h1"))


def until(condition: Any, limit_s: float = 20.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def entered(browser: Any, **context: Any) -> Iterator[Any]:
    """Yield a page of a browser of its own; an error in a script is a failure, and so is a request elsewhere."""
    own = browser.new_context(**context)
    page = own.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if "Content Security" in message.text else None)
    page.on("request", lambda request: faults.append(request.url) if is_foreign(request.url) else None)
    yield page
    own.close()
    assert faults == []


def is_foreign(url: str) -> bool:
    """Return whether an address is one of another computer."""
    return not url.startswith(
        ("http://127.0.0.1:", "http://localhost:", "blob:http://127.0.0.1:", "blob:http://localhost:")
    )
