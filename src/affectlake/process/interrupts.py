"""Immediate exit on an interrupt: Ctrl-C, or SIGTERM from a scheduler.

A lake survives a kill at any time, so nothing is waited for: a fit continues from its checkpoint in the next run.
Prefect itself would wait for running tasks, and hangs if Ctrl-C also reaches its temporary server.
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

NOTIFY_S = 5.0  # time limit of all callbacks, in seconds

_callbacks: list[Callable[[], None]] = []


@contextmanager
def exit_on_interrupt(log: Callable[[str], None], advice: str) -> Iterator[None]:
    """End the process and its children on SIGINT and SIGTERM, with status 128 plus the signal's number.

    The kernel may deliver a signal to any thread, but Python runs handlers in the main thread, which may wait for a
    lock for hours. The handler therefore does nothing. A separate thread waits for the signal's number, which Python
    writes to the wakeup descriptor regardless of the thread that received the signal.

    Parameters
    ----------
    log : callable
        Called with one line before the exit.
    advice : str
        Text of the line: what is kept, and how to continue.
    """
    signals = (signal.SIGINT, signal.SIGTERM)
    receiver, sender = socket.socketpair()
    sender.setblocking(False)

    def wait() -> None:
        while number := receiver.recv(1):  # empty if the other end is closed
            if number[0] in signals:
                try:
                    log(f"affectlake: interrupted; {advice}")
                finally:
                    end_now(128 + number[0])

    waiting = threading.Thread(target=wait, name="interrupts", daemon=True)
    waiting.start()
    handlers = {number: signal.signal(number, _nothing) for number in signals}
    descriptor = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sender.close()
        waiting.join()
        receiver.close()


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Do nothing; Python writes a signal's number to the wakeup descriptor only if the signal has a handler."""


def end_now(status: int) -> NoReturn:
    """End the process and its children with an exit status, after calling the registered callbacks."""
    try:
        notifying = threading.Thread(target=lambda: [callback() for callback in _callbacks], daemon=True)
        notifying.start()
        notifying.join(NOTIFY_S)
        _kill_children()
        sys.stdout.flush()
    finally:  # exit even if something above fails
        os._exit(status)


@contextmanager
def notify_on_interrupt(callback: Callable[[], None]) -> Iterator[None]:
    """Call `callback` before the process ends if it is interrupted while the block is active."""
    _callbacks.append(callback)
    try:
        yield
    finally:
        _callbacks.remove(callback)


def _kill_children() -> None:
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # the signal may have ended it already
            child.kill()
