"""Requests that were not carried out, counted by code. The log has these counts and nothing of who asked."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

log = logging.getLogger(__name__)

STATUS = {
    "bad_request": 400,
    "bad_token": 403,
    "used_link": 403,
    "unknown_participant": 403,
    "bad_origin": 403,
    "not_found": 404,
    "bad_method": 405,
    "not_your_trial": 409,
    "no_consent": 409,
    "over": 410,
    "full": 410,
    "too_large": 413,
    "too_fast": 429,
    "unavailable": 503,
}
"""HTTP status of each code."""

EVERY_S = 60.0
"""Shortest time in seconds between two lines of the log."""


class Refused(Exception):  # noqa: N818  (an answer, not a failure)
    """A request that is not carried out.

    Parameters
    ----------
    code : str
        What is wrong, in one word.
    text : str
        The same for readers.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code)
        self.code, self.text = code, text


class Refusals:
    """Counts of refused requests.

    Parameters
    ----------
    clock : callable
        Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._logged: Counter[str] = Counter()
        self._clock, self._at = clock, clock()

    def count(self, code: str) -> None:
        """Count a refused request; the log has a line at most every `EVERY_S` seconds."""
        self.counts[code] += 1
        if self._clock() - self._at >= EVERY_S:
            self.write()

    def write(self) -> None:
        """Write what was counted since the last line to the log."""
        new = self.counts - self._logged
        if new:
            log.warning("refused: %s", ", ".join(f"{code} {n}" for code, n in sorted(new.items())))
        self._logged, self._at = self.counts.copy(), self._clock()
