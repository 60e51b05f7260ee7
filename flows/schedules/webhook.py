"""Notifications of failed runs to a webhook. If one cannot be sent, this is logged, and the failure itself is kept."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from affectlake.errors import UsageError
from affectlake.judge.requests.client import Scrubber
from affectlake.pipelines.params.notify import notify_of

TRIES = 3
TIMEOUT_S = 10.0
PAUSE_S = 1.0  # after the first failed attempt; doubled after each further one


class FailedRun(NamedTuple):
    """A failed run, as it is reported to the webhook.

    Attributes
    ----------
    lake, schedule, agent : str
        Root of the lake, name of the schedule, and name of the agent.
    slot : str
        The scheduled time, ISO 8601 in UTC.
    state : str
        Name of the run's state in Prefect, such as ``Failed`` or ``Crashed``.
    error : str
        The error message, on one line and without secrets.
    run : str
        Prefect's id of the run.
    """

    lake: str
    schedule: str
    agent: str
    slot: str
    state: str
    error: str
    run: str

    def as_json(self) -> bytes:
        """Return the body of the request: the fields, the host's name, and ``text``, which chat services show."""
        host = socket.gethostname()
        text = f"affectlake: {self.schedule} ({self.agent}) {self.slot} {self.state.lower()} on {host}: {self.error}"
        return json.dumps({"text": text, **self._asdict(), "host": host}).encode()


def notify(failed: FailedRun, secrets: list[str], log: Callable[[str], None], pause_s: float = PAUSE_S) -> bool:
    """Send a failure to the webhook of the lake.

    Parameters
    ----------
    failed : FailedRun
        The failed run.
    secrets : list of str
        Texts that are removed from the notification and from the log.
    log : callable
        Takes one line: that the webhook was notified, or why not.
    pause_s : float
        Pause after the first failed attempt, in seconds; doubled after each further one.

    Returns
    -------
    bool
        Whether the webhook accepted the notification.
    """
    try:
        found = notify_of(Path(failed.lake))
        url = found.url() if found else ""
    except UsageError as error:
        log(f"the webhook could not be notified of the failure: {error.summary}")
        return False
    if not url:
        return False
    scrub = Scrubber([*secrets, url])
    body = failed._replace(error=scrub(failed.error)).as_json()
    request = Request(url, body, {"Content-Type": "application/json", "User-Agent": "affectlake"}, method="POST")
    words = ""
    for at in range(TRIES):
        if at:
            time.sleep(pause_s * 2 ** (at - 1))
        try:
            with urlopen(request, timeout=TIMEOUT_S):
                log("the webhook was notified of the failure")
                return True
        except (OSError, HTTPException) as error:
            words = scrub(f"{type(error).__name__}: {error}")
            if isinstance(error, HTTPError):
                error.close()
                if 400 <= error.code < 500 and error.code not in (408, 429):
                    break
    log(f"the webhook could not be notified of the failure: {words}")
    return False
