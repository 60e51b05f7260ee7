"""When a run is to stop by itself: its error rate stays too high, or nothing has worked from the beginning.

It is told outcomes and the time; it asks nobody.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from affectlake.judge.requests.answers import MEANING, FailureKind


@dataclass(frozen=True)
class Threshold:
    """What is too much.

    Parameters
    ----------
    error_rate : float
        Share of failed attempts, 0 to 1, above which a run is in trouble.
    window : int
        How many of the latest attempts are looked at.
    patience_s : float
        Seconds that the trouble must last until the run stops.
    at_least : int
        Fewer attempts than this say nothing.
    refused_at_first : int
        So many questions refused for good before the first answer stop the run at once.
    """

    error_rate: float = 0.5
    window: int = 200
    patience_s: float = 60.0
    at_least: int = 20
    refused_at_first: int = 20


class Circuit:
    """Watches the outcomes of attempts.

    Attributes
    ----------
    why : str
        Why the run is to stop; empty while it may go on.
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
        """Count an attempt: its failure and the words for it, or None and nothing if it brought an answer."""
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
                f"{self._n_failed} of the latest {len(self._latest)} attempts failed, and for"
                f" {now_s - self._above_since:.0f} s more than {self._threshold.error_rate:.0%} have:"
                f" {self._accounts()}"
            )

    def pause(self, seconds: float) -> None:
        """Do not count a time in which the servers asked not to be asked."""
        if self._above_since is not None:
            self._above_since += seconds

    def stop(self, why: str) -> None:
        """Stop the run, with the reason for it; the first reason stays."""
        self.why = self.why or why

    def _accounts(self) -> str:
        """Return the kinds of the latest failures, the commonest first, each with its latest words."""
        kinds = Counter(kind for kind, _ in self._latest if kind is not None)
        words = {kind: text for kind, text in self._latest if kind is not None}
        return "; ".join(f"{n} x {MEANING[kind]} ({words[kind]})" for kind, n in kinds.most_common())
