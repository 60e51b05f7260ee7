"""Ending at once when the user asks for it: Ctrl-C, or SIGTERM from a scheduler.

Everything a lake holds survives being killed, so nothing is waited for: a fit goes on from its checkpoint at the next
run. Prefect alone would let running tasks end first, and hangs when Ctrl-C reaches its temporary server as well.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

TELL_S = 5.0  # how long those to be told may take, in seconds

_to_tell: list[Callable[[], None]] = []


@contextmanager
def ending_at_once(say: Callable[[str], None], last_words: str) -> Iterator[None]:
    """Within it, SIGINT and SIGTERM end the process and its children, with 128 plus the signal's number.

    Parameters
    ----------
    say : callable
        Takes the line said before the end.
    last_words : str
        What is kept and how to go on.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        try:
            say(f"affectlake: interrupted; {last_words}")
        finally:
            end_now(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_now(status: int) -> NoReturn:
    """End the process and its children with an exit status, after those to be told have been."""
    try:
        telling = threading.Thread(target=lambda: [tell() for tell in _to_tell], daemon=True)
        telling.start()
        telling.join(TELL_S)
        _kill_children()
        sys.stdout.flush()
    finally:  # whatever goes wrong here, this is the end
        os._exit(status)


@contextmanager
def told_at_the_end(tell: Callable[[], None]) -> Iterator[None]:
    """Within it, `tell` is called before an interrupted process ends."""
    _to_tell.append(tell)
    try:
        yield
    finally:
        _to_tell.remove(tell)


def _kill_children() -> None:
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # the signal has reached it as well
            child.kill()
