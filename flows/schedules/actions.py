"""The commands after a scheduled collection (``schedules.NAME.then``): each is a process and a Prefect task of its own.

A command runs as ``affectlake COMMAND`` does, in a process with the same threads and locks. The commands after one slot
run under a lock of the lake, so that those of overlapping slots and backfills follow one another.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from affectlake.errors import LakeError
from affectlake.flows.schedules.slots import ActionOutcome, Slots
from affectlake.lake.files import layout
from affectlake.pipelines.params.schedules import Schedule
from affectlake.process.file_lock import file_lock, is_locked
from affectlake.secrets import hide

STOP_LIMIT_S = 20.0
_WORDS_SHOWN = 400
_LINES_KEPT = 200

Log = Callable[[str], None]


class _StoppedError(BaseException):
    """A signal asked this process to end while a command was running, or was waiting for its turn."""


def actions_under_way(lake: Path) -> bool:
    """Return whether a process runs the commands after a collection of this lake."""
    return is_locked(_lock(lake))


def run_actions(lake: Path, schedule: Schedule, slot: datetime, name: str, log: Log) -> list[ActionOutcome]:
    """Run the commands after a slot's collection, in the order of the schedule, and record their outcomes.

    What follows a failed `run` is skipped: it would push or report results that do not contain the new answers.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    schedule : Schedule
        The schedule.
    slot : datetime
        The slot, UTC.
    name : str
        Name of the slot in messages.
    log : callable
        Takes one line of progress.

    Returns
    -------
    list of ActionOutcome
        The outcomes; after a signal, without the commands that were not begun.
    """
    if not schedule.then:
        return []
    slots, found = Slots(lake), list[ActionOutcome]()
    slots.forget_actions(schedule.name, slot)
    with ExitStack() as stack:
        what = f"{', '.join(schedule.then)} after {name}"
        try:
            with _raising_on_signals():
                stack.enter_context(file_lock(_lock(lake), what, busy="", todo="", wait_s=math.inf, log=log))
        except _StoppedError:
            return [ActionOutcome(schedule.then[0], "stopped", time.time(), "stopped by a signal before its turn")]
        for place, action in enumerate(schedule.then):
            slots.record_action(schedule.name, slot, place, ActionOutcome(action, "running", time.time(), ""))
            has_failed = any(one.action == "run" and one.state == "failed" for one in found)
            outcome = _as_task(lake, action, name, "run failed" if has_failed else "", log)
            slots.record_action(schedule.name, slot, place, outcome)
            found.append(outcome)
            log(f"{action}: {outcome.state}{f': {outcome.words}' if outcome.words else ''}")
            if outcome.state == "stopped":
                break
    return found


def failure_of(outcomes: list[ActionOutcome], result: str) -> LakeError | None:
    """Return the error that names the commands that failed; None if none did."""
    failed = [one for one in outcomes if one.state == "failed"]
    if not failed:
        return None
    skipped = [one.action for one in outcomes if one.state == "skipped"]
    again = " and ".join(f"`affectlake {one}`" for one in (*(one.action for one in failed), *skipped))
    left_out = f"; skipped: {', '.join(skipped)}" if skipped else ""
    return LakeError(
        f"{' and '.join(one.action for one in failed)} failed after the collection, whose answers are published"
        f" ({result}){left_out}",
        found="; ".join(f"{one.action}: {one.words}" for one in failed),
        todo=f"correct the cause, then {again}; the next slot runs them as well",
    )


def _as_task(lake: Path, action: str, name: str, skipped: str, log: Log) -> ActionOutcome:
    """Run a command as a Prefect task, whose state is that of the command."""
    from prefect import task
    from prefect.states import Cancelled, Completed

    ended = list[ActionOutcome]()

    def end(state: Any, words: str) -> None:
        ended.append(ActionOutcome(action, state, time.time(), words))

    def perform() -> Any:
        if skipped:
            end("skipped", skipped)
            return Completed(name="Skipped", message=skipped)
        try:
            with _raising_on_signals():
                words = _command(lake, action, log)
        except _StoppedError:
            end("stopped", "stopped by a signal")
            return Cancelled(message="stopped by a signal")
        except LakeError as error:
            end("failed", error.found or error.summary)
            raise
        end("done", words)
        return Completed(message=words)

    running: Any = task(name=action, task_run_name=f"{action} after {name}")(perform)
    state: Any = running(return_state=True)
    return ended[0] if ended else ActionOutcome(action, "failed", time.time(), hide(str(state.message)))


def _command(lake: Path, action: str, log: Log) -> str:
    """Run ``affectlake ACTION`` in the lake; return its last line.

    Raises
    ------
    LakeError
        If it fails.
    """
    from prefect.settings import PREFECT_API_URL

    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT__")}
    env |= {"PREFECT_API_URL": api} if (api := PREFECT_API_URL.value()) else {}
    child = subprocess.Popen(
        [sys.executable, "-m", "affectlake", action, "--lake", str(lake)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=env,
    )
    with child:
        told, printed = list[str](), list[str]()
        reading = threading.Thread(target=_read, args=(child.stdout, printed), daemon=True)
        reading.start()
        try:
            assert child.stderr is not None
            for line in child.stderr:
                told.append(hide(line.rstrip()))
                del told[:-_LINES_KEPT]
                log(f"{action}: {told[-1]}")
            status = child.wait()
        except BaseException:
            _end(child)
            raise
        reading.join()
    if status:
        raise LakeError(f"`affectlake {action}` ended with status {status}", found=_error_of(told))
    return next((line for line in reversed(printed if printed and action != "push" else told) if line), "")


def _read(lines: Any, into: list[str]) -> None:
    into.extend(hide(line.rstrip()) for line in lines)


def _error_of(told: list[str]) -> str:
    """Return the error message at the end of the lines of a command that failed, as one line."""
    begins = [at for at, line in enumerate(told) if line.startswith("affectlake: ")]
    lines = told[begins[-1] :] if begins else told[-3:]
    return " ".join(" ".join(lines).removeprefix("affectlake: ").split())[:_WORDS_SHOWN]


def _end(child: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        child.terminate()
    try:
        child.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        child.kill()


@contextmanager
def _raising_on_signals() -> Iterator[None]:
    """Raise :class:`_StoppedError` in the main thread on SIGINT and SIGTERM while the block is active."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        raise _StoppedError

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _lock(lake: Path) -> Path:
    return lake / layout.COLLECTING / "then.lock"
