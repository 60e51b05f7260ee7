"""Circuit breaker: stops a run whose error rate stays too high, or in which no request has succeeded.

Outcomes and times are passed in; no request is sent from here.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from affectlake.judge.requests.answers import MEANING, FailureKind


@dataclass(frozen=True)
class Threshold:
    """Limits beyond which a run stops.

    Parameters
    ----------
    error_rate : float
        Highest acceptable share of failed attempts, 0 to 1.
    window : int
        Number of latest attempts from which the share is computed.
    patience_s : float
        Seconds for which the share must be too high before the run stops.
    at_least : int
        Number of attempts below which the share is not judged.
    refused_at_first : int
        Number of questions that, if they fail for good before the first answer, stop the run at once.
    """

    error_rate: float = 0.5
    window: int = 200
    patience_s: float = 60.0
    at_least: int = 20
    refused_at_first: int = 20


class Circuit:
    """Monitor of the outcomes of attempts.

    Attributes
    ----------
    why : str
        Why the run must stop; empty while it may continue.
    """

    def __init__(self, threshold: Threshold) -> None:
        self._threshold = threshold
        self._latest: deque[tuple[FailureKind | None, str]] = deque(maxlen=threshold.window)
        self._n_failed = 0
        self._above_since: float | None = None
        self.why = ""

    @property
    def error_rate(self) -> float:
        """Share of failed attempts among the latest."""
        return self._n_failed / len(self._latest) if self._latest else 0.0

    def record(self, kind: FailureKind | None, words: str, now_s: float) -> None:
        """Count an attempt: the kind of failure and its message, or None and an empty message for an answer."""
        if len(self._latest) == self._latest.maxlen and self._latest[0][0] is not None:
            self._n_failed -= 1
        self._latest.append((kind, words))
        self._n_failed += kind is not None
        if len(self._latest) < self._threshold.at_least or self.error_rate <= self._threshold.error_rate:
            self._above_since = None
        elif self._above_since is None:
            self._above_since = now_s
        elif kind is not None and now_s - self._above_since >= self._threshold.patience_s:
            self.stop(
                f"{self._n_failed} of the latest {len(self._latest)} attempts failed, and the share of failures has"
                f" been above {self._threshold.error_rate:.0%} for {now_s - self._above_since:.0f} s:"
                f" {self._format_failures()}"
            )

    def pause(self, seconds: float) -> None:
        """Exclude a period in which the servers asked for no requests."""
        if self._above_since is not None:
            self._above_since += seconds

    def stop(self, why: str) -> None:
        """Stop the run for a reason; the first reason is kept."""
        self.why = self.why or why

    def _format_failures(self) -> str:
        """Return the kinds of the latest failures, the most common first, each with its latest message."""
        kinds = Counter(kind for kind, _ in self._latest if kind is not None)
        words = {kind: text for kind, text in self._latest if kind is not None}
        return "; ".join(f"{n} x {MEANING[kind]} ({words[kind]})" for kind, n in kinds.most_common())
