"""Signal handling in an event loop, such as for Ctrl-C during a collection."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def call_on_signals(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> Iterator[None]:
    """Call `call` in the loop on SIGINT and SIGTERM; restore the previous handlers afterwards.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        The running loop. Outside the main thread, which receives no signals, nothing is done.
    call : callable
        Called for each signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}
    descriptor = signal.set_wakeup_fd(-1)  # the loop sets one of its own, and does not restore this one
    for number in signals:
        loop.add_signal_handler(number, call)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])
        signal.set_wakeup_fd(descriptor)
