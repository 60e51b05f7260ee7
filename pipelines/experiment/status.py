"""How an experiment stands: participants, answers, catch trials, reasons, and the rest of the plan."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from affectlake.errors import AffectlakeError
from affectlake.pipelines.experiment.beside import unpublished
from affectlake.pipelines.experiment.entry import experiment_agent, store_path
from affectlake.pipelines.experiment.offering import answers_here, offer_of
from affectlake.pipelines.experiment.received import CATCH, PRACTICE, WITHDRAWN, opened
from affectlake.pipelines.params.study import Params

WINDOW_MIN = 10
"""Minutes over which the present pace is counted."""


class ExperimentStatus(NamedTuple):
    """How an experiment stands.

    Attributes
    ----------
    agent : str
        Name of the agent.
    n_participants : int
        Participants who opened the task.
    n_no_consent : int
        Those who have not consented, or declined.
    n_running, n_complete, n_dropped, n_withdrawn : int
        Participants who are within their session, who answered every trial, who left or did not come back in time, and
        who withdrew their consent.
    n_answers : int
        Answers with a choice, without practice and catch trials.
    per_minute : float
        Answers in the last 10 minutes, divided by 10.
    median_response_ms : float or None
        Median time of these answers.
    n_catch, n_catch_failed : int
        Catch trials that were answered, and those whose answer was wrong.
    unanswered : dict of str to int
        Numbers of trials that ended without a choice, by reason.
    n_unpublished : int
        Answers that no version has.
    n_trials, n_wanted, n_left : int
        Trials of the plan that can be shown, answers wanted of them in all, and those that are missing.
    n_unaskable : int
        Trials of the plan that cannot be shown.
    note : str
        Why the plan is not known; empty if it is.
    """

    agent: str
    n_participants: int
    n_no_consent: int
    n_running: int
    n_complete: int
    n_dropped: int
    n_withdrawn: int
    n_answers: int
    per_minute: float
    median_response_ms: float | None
    n_catch: int
    n_catch_failed: int
    unanswered: dict[str, int]
    n_unpublished: int
    n_trials: int
    n_wanted: int
    n_left: int
    n_unaskable: int
    note: str


def status_of(lake: Path, params: Params, name: str, now: datetime | None = None) -> ExperimentStatus:
    """Return how an experiment stands.

    Parameters
    ----------
    lake, params, name
        As for :func:`affectlake.pipelines.experiment.offering.offer_of`.
    now : datetime, optional
        The present time.

    Raises
    ------
    UsageError
        If the agent does not exist or is of another kind.
    CollectionError
        If the session store cannot be read.
    """
    agent = experiment_agent(params, name)
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    path = store_path(lake, name)
    people: list[tuple[str, str | None, str]] = []
    answers: list[tuple[Any, ...]] = []
    if path.exists():
        with opened(path) as database:
            people = database.execute("SELECT state, consented_at, last_at FROM participants").fetchall()
            answers = database.execute(
                "SELECT kind, position, reason, response_ms, received_at, right_answer,"
                " CASE position WHEN 1 THEN shown_1 WHEN 2 THEN shown_2 WHEN 3 THEN shown_3 END"
                " FROM answers JOIN given USING (participant, number) WHERE kind != ?",
                (PRACTICE,),
            ).fetchall()
    limit = timedelta(hours=agent.resume_within_h)
    running = [datetime.fromisoformat(last) for state, _, last in people if state == "running"]
    n_gone = sum(moment - last > limit for last in running)
    states = [state for state, _, _ in people]
    chosen = [row for row in answers if row[1] is not None and row[0] != CATCH]
    catch = [row for row in answers if row[1] is not None and row[0] == CATCH]
    since = moment - timedelta(minutes=WINDOW_MIN)
    recent = sum(datetime.fromisoformat(row[4]) >= since for row in chosen)
    times = [row[3] for row in chosen if row[3] is not None]
    plan, note = _plan(lake, params, name)
    return ExperimentStatus(
        agent=name,
        n_participants=len(people),
        n_no_consent=sum(consented is None for _, consented, _ in people),
        n_running=len(running) - n_gone,
        n_complete=states.count("done"),
        n_dropped=n_gone + sum(state == "left" and consented is not None for state, consented, _ in people),
        n_withdrawn=states.count(WITHDRAWN),
        n_answers=len(chosen),
        per_minute=recent / WINDOW_MIN,
        median_response_ms=float(np.median(times)) if times else None,
        n_catch=len(catch),
        n_catch_failed=sum(row[5] != row[6] for row in catch),
        unanswered=_counted([row[2] or "unknown" for row in answers if row[1] is None]),
        n_unpublished=unpublished(lake, name),
        **plan,
        note=note,
    )


def _counted(words: Sequence[str]) -> dict[str, int]:
    return {word: words.count(word) for word in sorted(set(words), key=lambda one: (-words.count(one), one))}


def _plan(lake: Path, params: Params, name: str) -> tuple[dict[str, int], str]:
    """Return how many trials and answers are planned and missing, and why this is not known."""
    try:
        found = offer_of(lake, params, name)
    except AffectlakeError as error:
        return {"n_trials": 0, "n_wanted": 0, "n_left": 0, "n_unaskable": 0}, error.summary
    offer, agent = found.offer, experiment_agent(params, name)
    left = np.maximum(0, offer.wanted.astype(np.int64) - offer.answered - answers_here(lake, agent, found))
    return {
        "n_trials": len(offer.trials),
        "n_wanted": int(offer.wanted.sum(dtype=np.int64)),
        "n_left": int(left.sum()),
        "n_unaskable": found.n_unaskable,
    }, ""
