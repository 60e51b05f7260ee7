"""Notifications of runs of schedules through Apprise: done, failed, or fewer answers parsed than usual.

A notification has numbers and names alone, and of an error its first line: no text of a stimulus or of an answer. If it
cannot be sent, this is logged, and the run's own outcome is kept.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import UsageError
from affectlake.flows.schedules.comparisons import Comparison
from affectlake.flows.schedules.parsed_shares import FewerParsed
from affectlake.flows.schedules.slots import ActionOutcome, SlotCounts
from affectlake.judge.requests.client import Scrubber
from affectlake.pipelines.params.notify import Event, notify_of, url_at

TRIES = 3
PAUSE_S = 1.0  # after the first failed attempt; doubled after each further one


class SlotReport(NamedTuple):
    """Facts of a run that a notification contains.

    Attributes
    ----------
    lake, schedule, agent : str
        Root of the lake, name of the schedule, and name of the agent.
    slot : datetime
        The scheduled time.
    events : tuple of {'done', 'failed', 'fewer_parsed', 'stopped'}
        What happened; it is sent if one of them is in ``notify.on``.
    counts : SlotCounts or None
        Numbers of questions and answers; None if the collection failed.
    fewer : FewerParsed or None
        The comparison with the last runs, if fewer answers were parsed.
    actions : sequence of ActionOutcome
        The commands after the collection.
    note : str
        More lines, such as the first line of an error and what to do.
    comparison : Comparison or None
        The comparison of held-out accuracy, if one was made.
    """

    lake: str
    schedule: str
    agent: str
    slot: datetime
    events: tuple[Event, ...]
    counts: SlotCounts | None = None
    fewer: FewerParsed | None = None
    actions: Sequence[ActionOutcome] = ()
    note: str = ""
    comparison: Comparison | None = None

    @property
    def title(self) -> str:
        """Schedule, agent, slot, what happened, and the host."""
        what = " and ".join(event.replace("_", " ") for event in self.events)
        slot = f"{self.slot.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        return f"affectlake: {self.schedule} ({self.agent}) {slot} {what} on {socket.gethostname()}"

    @property
    def body(self) -> str:
        """One line for each fact."""
        lines = [f"lake: {self.lake}"]
        if self.counts is not None:
            lines += [f"{name}: {getattr(self.counts, f'n_{name}'):,}" for name in _COUNTED]
            lines.append(f"version: {self.counts.version or 'nothing new to publish'}")
        if self.fewer is not None:
            lines.append(f"fewer parsed: {self.fewer}")
        if self.comparison is not None:
            lines.append(f"{'stopped' if self.comparison.has_stopped else 'accuracy'}: {self.comparison}")
        lines += [f"{one.action}: {one.state}" for one in self.actions]
        lines += [f"report: {path}" for path in [report_of(self.actions)] if path]
        return "\n".join([*lines, *([self.note] if self.note else [])])


_COUNTED = ("asked", "answered", "parsed", "refused", "failed")


def report_of(actions: Sequence[ActionOutcome]) -> str:
    """Return the path of the report that the commands after a collection wrote; empty if they wrote none."""
    done = [one.words.removeprefix("report: ") for one in actions if one.state == "done" and one.action != "push"]
    return done[-1] if done else ""


def send(report: SlotReport, secrets: list[str], log: Callable[[str], None], pause_s: float = PAUSE_S) -> int:
    """Send a report to the addresses in ``notify.to`` of the lake.

    Parameters
    ----------
    report : SlotReport
        The facts.
    secrets : list of str
        Texts that are removed from the notification and from the log.
    log : callable
        Takes one line for each address: that it was notified, or why not.
    pause_s : float
        Pause after the first failed attempt, in seconds; doubled after each further one.

    Returns
    -------
    int
        Number of addresses that accepted it.
    """
    try:
        found = notify_of(Path(report.lake))
    except UsageError as error:
        log(f"no notification could be sent: {error.summary}")
        return 0
    if found is None or not found.to or not set(report.events) & set(found.on):
        return 0
    n = 0
    for address in found.to:
        try:
            why = _send_to(url_at(Path(report.lake), address), report, secrets, pause_s)
        except UsageError as error:
            why = error.summary
        label = address if address.startswith("env:") else address.partition("://")[0]
        log(f"{label} was notified" if not why else f"{label} could not be notified: {why}")
        n += not why
    return n


def _send_to(url: str, report: SlotReport, secrets: list[str], pause_s: float) -> str:
    """Send a report to one URL; return why it could not be sent, or an empty string."""
    import apprise

    scrub, service = Scrubber([*secrets, url]), apprise.Apprise()
    if not service.add(url):
        return "its URL is not one that Apprise knows"
    kind = apprise.NotifyType.SUCCESS if set(report.events) <= {"done", "stopped"} else apprise.NotifyType.WARNING
    if "failed" in report.events:
        kind = apprise.NotifyType.FAILURE
    title, body = scrub(report.title), "\n".join(map(scrub, report.body.splitlines()))
    why = ""
    for at in range(TRIES):
        if at:
            time.sleep(pause_s * 2 ** (at - 1))
        with apprise.LogCapture(level=apprise.logging.WARNING, fmt="%(message)s") as captured:
            if service.notify(title=title, body=body, notify_type=kind):
                return ""
            lines = captured.getvalue().strip().splitlines()
            why = scrub(lines[0]) if lines else "the service did not accept it"
    return why
