"""Ending at once when the user asks for it: Ctrl-C, or SIGTERM from a scheduler.

Everything a lake holds survives being killed, so nothing is waited for: a fit goes on from its checkpoint at the next
run. Prefect alone would let running tasks end first, and hangs when Ctrl-C reaches its temporary server as well.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

TELL_S = 5.0  # how long those to be told may take, in seconds

_to_tell: list[Callable[[], None]] = []


@contextmanager
def exit_on_interrupt(say: Callable[[str], None], last_words: str) -> Iterator[None]:
    """Within it, SIGINT and SIGTERM end the process and its children, with 128 plus the signal's number.

    The kernel gives a signal to any thread, and Python's handlers wait for the main one, which may sleep on a lock for
    hours. So the handler does nothing, and a thread waits for the number that Python writes whoever got the signal.

    Parameters
    ----------
    say : callable
        Takes the line said before the end.
    last_words : str
        What is kept and how to go on.
    """
    signals = (signal.SIGINT, signal.SIGTERM)
    told, telling = socket.socketpair()
    telling.setblocking(False)

    def wait() -> None:
        while number := told.recv(1):  # nothing: the other end is closed
            if number[0] in signals:
                try:
                    say(f"affectlake: interrupted; {last_words}")
                finally:
                    end_now(128 + number[0])

    waiting = threading.Thread(target=wait, name="interrupts", daemon=True)
    waiting.start()
    before = {number: signal.signal(number, _nothing) for number in signals}
    told_before = signal.set_wakeup_fd(telling.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(told_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        telling.close()
        waiting.join()
        told.close()


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal: Python writes its number to the wakeup descriptor only where there is a handler."""


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
def notify_on_interrupt(tell: Callable[[], None]) -> Iterator[None]:
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
