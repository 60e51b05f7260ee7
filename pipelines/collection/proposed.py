"""Collecting proposed triplets in turn: ask the last round of proposals, then propose and ask the next one."""

from __future__ import annotations

from pathlib import Path

from affectlake.pipelines.collection.proposals import propose
from affectlake.pipelines.collection.publishing import Log
from affectlake.pipelines.collection.request import (
    CollectionRequest,
    CollectionResult,
    OnProgress,
    OnTally,
    ignore_progress,
    ignore_tally,
)
from affectlake.pipelines.collection.run import collect_answers
from affectlake.pipelines.params.study import load
from affectlake.pipelines.stored import known_proposals


def collect_proposed(
    lake: Path,
    agent: str,
    n: int,
    log: Log,
    on_progress: OnProgress = ignore_progress,
    on_tally: OnTally = ignore_tally,
) -> CollectionResult:
    """Ask the remaining triplets of the last round of proposals; if none remain, propose `n` more and ask those.

    Parameters
    ----------
    lake, log, on_progress, on_tally
        As for :func:`affectlake.pipelines.collection.run.collect_answers`.
    agent : str
        Name of the agent.
    n : int
        Ask at most this many questions, and propose this many triplets.

    Returns
    -------
    CollectionResult
        What the run did.

    Raises
    ------
    AffectlakeError
        As :func:`affectlake.pipelines.collection.run.collect_answers` and
        :func:`affectlake.pipelines.collection.proposals.propose`.
    """
    request = CollectionRequest(agent, limit=n, proposed=True)
    if known_proposals(lake, agent) is not None:
        left = collect_answers(lake, request, log, on_progress, on_tally)
        if left.n_asked or left.ending == "stopped" or left.n_done + left.n_unaskable == left.n_planned:
            return left
    done = propose(lake, load(lake), agent, n, log)
    log(f"{done.agent}: round {done.round} proposes {done.n_to_learn + done.n_held_out:,} of {done.n_open:,} triplets")
    return collect_answers(lake, request, log, on_progress, on_tally)
