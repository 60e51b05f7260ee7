"""The request, the progress and the result of a collection: what to ask, how far a run is, what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from affectlake.judge.requests.run_statistics import Account, Ending, Progress
from affectlake.judge.trials.shares import Share
from affectlake.lake.store.versions import Version


@dataclass(frozen=True)
class CollectionRequest:
    """Which questions of a trial set to ask an agent.

    Parameters
    ----------
    agent : str
        Name of the agent.
    trial_set : str, default 'main'
        ``main``, ``validation`` or ``noise_ceiling``.
    limit : int or None, default None
        Ask at most this many questions; None: all remaining ones.
    until_done : bool, default False
        If the servers are unreachable or fail too often, pause and try again instead of ending.
    retry_failed : bool, default False
        Ask only the questions that failed for good before.
    proposed : bool, default False
        Ask only the triplets of the last round of `affectlake propose`.
    share : Share or None, default None
        Ask only this share of the questions; None: all of them.
    sample : int or None, default None
        Ask only this many trials, drawn at random and the same for all agents; None: all of them.
    anyway : bool, default False
        Continue if the first answers of the run cannot be read, or all choose one position.
    """

    agent: str
    trial_set: str = "main"
    limit: int | None = None
    until_done: bool = False
    retry_failed: bool = False
    proposed: bool = False
    share: Share | None = None
    sample: int | None = None
    anyway: bool = False

    @property
    def label(self) -> str:
        """Agent, trial set and share: ``qwen2-vl · main · share 1 of 2``."""
        return " · ".join([self.agent, self.trial_set, *([str(self.share)] if self.share else [])])


class Tally(NamedTuple):
    """Counts of a run: answered, failed for good, set aside in quarantine, parsed, refused; and the last version."""

    n_answered: int = 0
    n_failed: int = 0
    n_set_aside: int = 0
    n_parsed: int = 0
    n_refused: int = 0
    version: Version | None = None

    @property
    def n_asked(self) -> int:
        """Questions that were answered or failed for good."""
        return self.n_answered + self.n_failed

    @property
    def n_done(self) -> int:
        """Questions that need not be asked again."""
        return self.n_asked - self.n_set_aside

    def asked(self, account: Account | Progress) -> Tally:
        """Return the counts during or after a round."""
        return self._replace(
            n_answered=self.n_answered + account.n_answered,
            n_failed=self.n_failed + account.n_failed,
            n_parsed=self.n_parsed + account.n_read,
            n_refused=self.n_refused + account.unread.get("refusal", 0),
        )


OnTally = Callable[[Tally], None]


def ignore_tally(_now: Tally) -> None:
    """Do nothing."""


class CollectionProgress(NamedTuple):
    """Progress of a run: questions done, questions to ask, and the statistics of the current round."""

    n_done: int
    n_wanted: int
    progress: Progress


OnProgress = Callable[[CollectionProgress], None]


def ignore_progress(_now: CollectionProgress) -> None:
    """Do nothing."""


class CollectionResult(NamedTuple):
    """What a run did.

    Attributes
    ----------
    request : CollectionRequest
        The request.
    n_added : int
        Answers that this run asked for, all published.
    n_failed : int
        Questions that failed for good in this run; each is a published row as well.
    n_done, n_planned : int
        Questions of the trial set (or of the share) that are answered or failed for good, and all questions.
    n_unaskable : int
        Those of all questions that cannot be asked because a stimulus has no caption or no frames.
    n_set_aside : int
        Answers of this run that cannot be published and are in quarantine; not counted in `n_added` and `n_done`.
    ending : {'complete', 'limit', 'stopped', 'circuit'}
        Why the run ended.
    version : Version or None
        The last version that the run published; None if there was nothing to publish.
    n_answered, n_parsed, n_refused : int
        Answers of this run, with those in quarantine; of these, answers that name a position, and refusals.
    """

    request: CollectionRequest
    n_added: int
    n_failed: int
    n_done: int
    n_planned: int
    n_unaskable: int
    n_set_aside: int
    ending: Ending
    version: Version | None
    n_answered: int = 0
    n_parsed: int = 0
    n_refused: int = 0

    @property
    def n_asked(self) -> int:
        """Questions of this run that were answered or failed for good."""
        return self.n_added + self.n_failed + self.n_set_aside

    def __str__(self) -> str:
        """Return the headline: ``qwen2-vl · main: +100,000 (2,100,000 of 7,125,330)``."""
        extras = [f"{self.n_failed:,} failed for good"] if self.n_failed else []
        extras += [f"{self.n_unaskable:,} cannot be asked"] if self.n_unaskable else []
        extras += [f"{self.n_set_aside:,} in quarantine"] if self.n_set_aside else []
        line = f"{self.request.label}: +{self.n_added:,} ({self.n_done:,} of {self.n_planned:,})"
        return "; ".join([line, *extras])
