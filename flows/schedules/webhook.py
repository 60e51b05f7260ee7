"""Telling a webhook that a run failed. What cannot be told is logged and hides nothing."""

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
from affectlake.pipelines.params.schedules import notify_of

TRIES = 3
TIMEOUT_S = 10.0
PAUSE_S = 1.0  # after the first try that failed; doubled after each further one


class Failed(NamedTuple):
    """A run that failed, as the webhook is told.

    Attributes
    ----------
    lake, schedule, agent : str
        Where, which schedule's, and whose answers.
    slot : str
        The scheduled moment, ISO 8601 in UTC.
    state : str
        ``Failed`` or ``Crashed``, or what Prefect calls it.
    error : str
        Why, on one line and without secrets.
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
        """Return what is sent: the fields, the machine's name, and ``text``, which chat services show."""
        host = socket.gethostname()
        text = f"affectlake: {self.schedule} ({self.agent}) {self.slot} {self.state.lower()} on {host}: {self.error}"
        return json.dumps({"text": text, **self._asdict(), "host": host}).encode()


def tell(failed: Failed, secrets: list[str], log: Callable[[str], None], pause_s: float = PAUSE_S) -> bool:
    """Send a failure to the webhook of the lake; return whether it was taken.

    Parameters
    ----------
    failed : Failed
        What to tell.
    secrets : list of str
        What must not appear in it, nor in what is said here.
    log : callable
        Takes one line: that it was told, or why not.
    pause_s : float
        Pause after the first try that failed; doubled after each further one.
    """
    try:
        found = notify_of(Path(failed.lake))
        url = found.url() if found else ""
    except UsageError as error:
        log(f"nobody could be told of the failure: {error.summary}")
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
                log("the webhook was told of the failure")
                return True
        except (OSError, HTTPException) as error:
            words = scrub(f"{type(error).__name__}: {error}")
            if isinstance(error, HTTPError):
                error.close()
                if 400 <= error.code < 500 and error.code not in (408, 429):
                    break
    log(f"the webhook could not be told of the failure: {words}")
    return False
