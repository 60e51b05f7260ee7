"""How many requests a server gets at once: more while it copes, half as many when it does not. No clock, no network.

The rule is TCP's (Jacobson 1988, *Congestion avoidance and control*): slow start doubles the limit once per round of
requests, after the first overload it grows by one per round, and each overload halves it, once per round.
"""

from __future__ import annotations


class AdaptiveLimit:
    """The number of requests that may be under way at one server.

    Parameters
    ----------
    most : int
        Never more than this, 1 or more.
    start : int
        The limit to begin with, 1 or more.

    Attributes
    ----------
    in_flight : int
        Requests under way.
    """

    def __init__(self, most: int, start: int = 8) -> None:
        self._most = most
        self._start = min(start, most)
        self._limit = float(self._start)
        self._threshold = float(most)  # slow start ends here
        self._round = 0  # cuts so far; a request remembers the round it was sent in
        self.in_flight = 0

    @property
    def limit(self) -> int:
        """How many requests may be under way now."""
        return int(self._limit)

    @property
    def room(self) -> int:
        """How many more requests may be sent now."""
        return self.limit - self.in_flight

    def send(self) -> int:
        """Count a request as under way; return the round to give back with its outcome."""
        self.in_flight += 1
        return self._round

    def done(self) -> None:
        """Count a request as no longer under way."""
        self.in_flight -= 1

    def succeeded(self) -> None:
        """Grow, if the limit was being used: a server that is asked little has shown nothing."""
        if self.in_flight * 2 < self.limit or self._limit >= self._most:
            return
        step = 1.0 if self._limit < self._threshold else 1.0 / self._limit
        self._limit = min(self._limit + step, float(self._most))

    def overloaded(self, sent_in: int) -> None:
        """Halve, unless the request was sent before the last halving: one overload is not punished twice."""
        if sent_in != self._round:
            return
        self._round += 1
        self._threshold = max(self._limit / 2, 1.0)
        self._limit = self._threshold

    def restart(self) -> None:
        """Begin again with slow start, as for a server that was away."""
        self._round += 1
        self._threshold = max(self._limit, float(self._start))
        self._limit = float(self._start)
