"""A process and its child processes, which are monitored and stopped together."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from typing import Any

from affectlake.process.identity import process_started


class ProcessTree:
    """A child of this process, or a process that was taken over, with its own child processes."""

    def __init__(self, pid: int, started: str, child: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        self.started = started
        self._child = child

    @property
    def has_ended(self) -> bool:
        """Whether the process itself has ended; its children may still run."""
        if self._child is None:
            return process_started(self.pid) != self.started
        return self.exit_status is not None or not self._number_is_its_own()

    @property
    def exit_status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs, or if it is not known.

        A child that has ended is not reaped here, so that its ID, which is also that of its group, is not reused; where
        the system cannot tell without reaping (macOS before Python 3.13), it is.
        """
        if self._child is None:
            return None
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._child.poll()
        try:
            found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:  # already reaped
            return self._child.returncode
        if found is None:
            return None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def stop(self, limit_s: float) -> None:
        """Send SIGTERM to all processes of the tree, and kill those that still run after `limit_s` seconds."""
        if not self._number_is_its_own():
            return
        tree = _tree(self.pid)
        _signal_group(self.pid, signal.SIGTERM)
        for process in tree:
            if _group_of(process.pid) != self.pid:  # the group has received the signal
                _send_signal(process, signal.SIGTERM)
        until_s = time.monotonic() + limit_s
        while time.monotonic() < until_s and any(map(_lives, tree)):
            time.sleep(0.05)
        if self._number_is_its_own():
            _signal_group(self.pid, signal.SIGKILL)
        for process in tree:
            _send_signal(process, signal.SIGKILL)
        if self._child is not None:
            self._child.wait()

    def _number_is_its_own(self) -> bool:
        if self._child is None:
            return process_started(self.pid) == self.started
        if not hasattr(os, "waitid"):
            return self._child.poll() is None
        try:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:
            return False
        return True


def _tree(pid: int) -> list[Any]:
    """Return a process and its descendants, if they are running."""
    import psutil

    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _lives(process: Any) -> bool:
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _send_signal(process: Any, number: signal.Signals) -> None:
    """Send a signal to a process, but not to a later process with the same ID."""
    import psutil

    with suppress(psutil.Error):
        process.send_signal(number)


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
