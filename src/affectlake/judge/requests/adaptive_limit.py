"""Adaptive limit on the number of concurrent requests to a server; a pure function of outcomes, without a clock.

The rule is that of TCP (Jacobson 1988, *Congestion avoidance and control*): slow start doubles the limit once per round
of requests; after the first overload, the limit grows by one per round. An overload halves the limit, at most once per
round.
"""

from __future__ import annotations


class AdaptiveLimit:
    """The number of requests that may be under way at one server.

    Parameters
    ----------
    most : int
        Upper bound of the limit, at least 1.
    start : int
        Initial limit, at least 1.

    Attributes
    ----------
    in_flight : int
        Number of requests under way.
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
        """Number of requests that may be under way now."""
        return int(self._limit)

    @property
    def room(self) -> int:
        """Number of further requests that may be sent now."""
        return self.limit - self.in_flight

    def send(self) -> int:
        """Count a request as under way; return its round, to be passed back with its outcome."""
        self.in_flight += 1
        return self._round

    def done(self) -> None:
        """Count a request as no longer under way."""
        self.in_flight -= 1

    def succeeded(self) -> None:
        """Raise the limit, but only if it was reached: fewer requests do not show that the server can take more."""
        if self.in_flight * 2 < self.limit or self._limit >= self._most:
            return
        step = 1.0 if self._limit < self._threshold else 1.0 / self._limit
        self._limit = min(self._limit + step, float(self._most))

    def overloaded(self, sent_in: int) -> None:
        """Halve the limit, unless the request was sent before it was last halved: one overload counts once."""
        if sent_in != self._round:
            return
        self._round += 1
        self._threshold = max(self._limit / 2, 1.0)
        self._limit = self._threshold

    def restart(self) -> None:
        """Return to slow start, as after a server was unavailable."""
        self._round += 1
        self._threshold = max(self._limit, float(self._start))
        self._limit = float(self._start)
