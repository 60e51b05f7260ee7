"""Signals for an event loop, such as Ctrl-C while answers are on their way."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def call_on_signals(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> Iterator[None]:
    """Within it, SIGINT and SIGTERM call `call` in the loop; what stood before stands again after it.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        The running loop. In another thread than the main one nothing is done: signals are not for it.
    call : callable
        What to call, each time.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}
    told_before = signal.set_wakeup_fd(-1)  # the loop sets its own, and leaves none
    for number in signals:
        loop.add_signal_handler(number, call)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])
        signal.set_wakeup_fd(told_before)
