"""Canaries of a lake: which trials are asked with and without one, where the answers lie, and what they show.

Nothing of it enters a table or a version. Asking does not belong here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from affectlake.errors import UsageError
from affectlake.judge.protocols import Reading
from affectlake.judge.requests.answers import Answer
from affectlake.judge.requests.journal import Journal
from affectlake.judge.responses.tables import read_answer
from affectlake.judge.trials.injections import (
    INJECTIONS,
    InjectionEffect,
    InjectionTrial,
    injection_effect,
    injection_trials,
)
from affectlake.judge.trials.plan import Plan
from affectlake.judge.trials.questions import Question
from affectlake.lake.files import layout
from affectlake.pipelines.collection.planning import chat_agent, plan_questions
from affectlake.pipelines.params.study import Params

_AT_ONCE = 500


class InjectionSummary(NamedTuple):
    """What one canary, or all together, did.

    Attributes
    ----------
    canary : str
        Its words; ``{position}`` is where the caption is shown. Empty: all canaries.
    n_pairs : int
        Trials asked with it and without.
    effect : InjectionEffect
        Of those in which both answers name a position.
    """

    canary: str
    n_pairs: int
    effect: InjectionEffect


def plan_injections(lake: Path, params: Params, name: str, trial_set: str, n: int) -> Plan:
    """Plan `n` random trials of a trial set, whether they are answered or not.

    Raises
    ------
    UsageError
        No such agent or trial set, `n` is no number of trials, or the agent is not shown captions.
    """
    if n < 1:
        raise UsageError(f"--n {n} asks nothing", wanted="1 or more")
    modality = chat_agent(params, name).modality
    if modality != "captions":
        raise UsageError(
            f"{name} is shown {modality}, and canaries are put into captions",
            todo="name an agent whose modality is captions",
        )
    return plan_questions(lake, params, name, trial_set, limit=n, ignore_stored=True)


def open_injection_journal(lake: Path, agent: str) -> Journal:
    """Open the journal of an agent's canaries: beside those of its answers, and read by nothing else."""
    return Journal(lake / layout.COLLECTING / agent / "canaries.sqlite")


def questions(plan: Plan) -> Iterator[Question]:
    """Yield each trial of a plan as it is, and with its canary."""
    for pair in injection_trials(plan, plan.n_left):
        yield pair.clean
        yield pair.injected


def injection_effects(plan: Plan, journal: Journal) -> list[InjectionSummary]:
    """Return what the canaries of a plan did: all together, then each; answers that the journal lacks name nothing."""
    reading, rows = plan.agent.asking.reading, list[tuple[int, int, int, int]]()
    pairs = injection_trials(plan, plan.n_left)
    while some := list(islice(pairs, _AT_ONCE)):
        rows += _read(some, journal, reading)
    found = np.array(rows, dtype=np.int8).reshape(-1, 4)  # (n, 4): canary, target, position clean, position injected

    def tried(words: str, own: np.ndarray) -> InjectionSummary:
        return InjectionSummary(words, len(own), injection_effect(own[:, 2], own[:, 3], own[:, 1]))

    each = [tried(words, found[found[:, 0] == which]) for which, words in enumerate(INJECTIONS)]
    return [tried("", found), *each]


def _read(pairs: list[InjectionTrial], journal: Journal, reading: Reading) -> list[tuple[int, int, int, int]]:
    held = journal.find(key for pair in pairs for key in (pair.clean.key, pair.injected.key))

    def position(question: Question) -> int:
        answer: Answer | None = held.get(question.key)
        if answer is None or answer.text is None:
            return 0
        found = read_answer(reading, answer.text, answer.finish_reason, answer.refusal, answer.thinking)
        return found.position or 0

    return [(pair.injection, pair.target, position(pair.clean), position(pair.injected)) for pair in pairs]
