"""Ctrl-C ends a command whichever thread the kernel gives the signal to, and whatever the main thread waits for."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

ASLEEP = """
    import asyncio, os, signal, sys, threading, time
    from affectlake.process.interrupts import exit_on_interrupt, notify_on_interrupt

    def say(line):
        print(line, file=sys.stderr, flush=True)

    def signalled(number):
        def signal_itself():
            time.sleep(0.5)  # until the main thread sleeps
            signal.pthread_kill(threading.get_ident(), number)

        threading.Thread(target=signal_itself).start()
"""


def _ended(body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = textwrap.dedent(ASLEEP) + textwrap.dedent(body)
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_another_thread_gets_ends_a_main_thread_asleep(number: signal.Signals) -> None:
    done = _ended(
        """
        with exit_on_interrupt(say, "all is kept"), notify_on_interrupt(lambda: say("told")):
            signalled(int(sys.argv[1]))
            threading.Event().wait()
        """,
        str(int(number)),
    )
    assert done.returncode == 128 + number
    assert done.stderr.splitlines() == ["affectlake: interrupted; all is kept", "told"]


def test_a_signal_after_a_collection_still_ends_the_command() -> None:
    done = _ended(
        """
        from affectlake.process.loop_signals import call_on_signals

        async def collected():
            stopped = asyncio.Event()
            with call_on_signals(asyncio.get_running_loop(), stopped.set):
                signalled(signal.SIGINT)
                await stopped.wait()

        with exit_on_interrupt(say, "all is kept"):
            asyncio.run(collected())
            say("collected")
            signalled(signal.SIGINT)
            threading.Event().wait()
        """
    )
    assert done.returncode == 130
    assert done.stderr.splitlines() == ["collected", "affectlake: interrupted; all is kept"]


def test_what_stood_before_stands_again() -> None:
    done = _ended(
        """
        with exit_on_interrupt(say, "all is kept"):
            pass
        say([thread.name for thread in threading.enumerate()])
        try:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(10)
        except KeyboardInterrupt:
            say("a KeyboardInterrupt")
        """
    )
    assert (done.returncode, done.stderr.splitlines()) == (0, ["['MainThread']", "a KeyboardInterrupt"])
