"""Rate limits, without addresses: of requests per participant, and of participants who join per token."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

_MOST_KEYS = 100_000


class Limit:
    """A token bucket for each key.

    Parameters
    ----------
    burst : float
        Number of requests that may come at once.
    per_s : float
        Number of requests per second in the long run.
    clock : callable
        Returns seconds.
    """

    def __init__(self, burst: float, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._per_s, self._clock = burst, per_s, clock
        self._used: dict[Hashable, tuple[float, float]] = {}
        self._swept = clock()

    def allows(self, key: Hashable) -> bool:
        """Count a request and return whether it is within the limit."""
        at = self._clock()
        self._sweep(at)
        used, since = self._used.get(key, (0.0, at))
        used = max(0.0, used - (at - since) * self._per_s)
        if used + 1 > self._burst:
            return False
        if len(self._used) >= _MOST_KEYS:
            self._used.clear()
        self._used[key] = used + 1, at
        return True

    def _sweep(self, at: float) -> None:
        """Forget the keys whose buckets are full again, once in the time in which one fills."""
        full_s = self._burst / self._per_s
        if at - self._swept > full_s:
            self._used = {key: one for key, one in self._used.items() if at - one[1] < full_s}
            self._swept = at
