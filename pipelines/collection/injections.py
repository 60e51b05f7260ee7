"""Prompt injections: which trials are asked with and without one, the journal of the answers, and their effects.

No answer enters a table or a version. :mod:`affectlake.pipelines.collection.injection_run` asks the servers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from affectlake.errors import UsageError
from affectlake.judge.protocols.protocol import Protocol
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
_JOURNAL = "injections.sqlite"
_EARLIER_JOURNAL = "canaries.sqlite"  # its name until release 0.1


class InjectionSummary(NamedTuple):
    """Effect of one prompt injection, or of all together.

    Attributes
    ----------
    injection : str
        Text of the prompt injection; ``{position}`` stands for the position of the caption. Empty: all injections.
    n_pairs : int
        Number of trials asked with and without it.
    effect : InjectionEffect
        The effect in the trials of which both answers name a position.
    """

    injection: str
    n_pairs: int
    effect: InjectionEffect


def plan_injections(lake: Path, params: Params, name: str, trial_set: str, n: int) -> Plan:
    """Plan `n` random trials of a trial set, whether they are answered or not.

    Raises
    ------
    UsageError
        If the agent or trial set does not exist, `n` is below 1, or the agent is not shown captions.
    """
    if n < 1:
        raise UsageError("--n must be at least 1", found=str(n))
    modality = chat_agent(params, name).modality
    if modality != "captions":
        raise UsageError(
            f"{name} is shown {modality}, but prompt injections are added to captions",
            todo="choose an agent with modality: captions",
        )
    return plan_questions(lake, params, name, trial_set, limit=n, ignore_stored=True, one_order=True)


def open_injection_journal(lake: Path, agent: str) -> Journal:
    """Open the journal of an agent's answers to trials with and without prompt injections.

    A journal that an earlier release has made keeps its name, because a renamed SQLite file loses its write-ahead log.
    """
    folder = lake / layout.COLLECTING / agent
    path, earlier = folder / _JOURNAL, folder / _EARLIER_JOURNAL
    return Journal(earlier if earlier.exists() and not path.exists() else path)


def questions(plan: Plan) -> Iterator[Question]:
    """Yield each trial of a plan without and with its prompt injection."""
    for pair in injection_trials(plan, plan.n_left):
        yield pair.clean
        yield pair.injected


def injection_effects(plan: Plan, journal: Journal) -> list[InjectionSummary]:
    """Return the effects of the prompt injections of a plan, of all together first; missing answers are left out."""
    asking, rows = plan.agent.asking, list[tuple[int, int, int, int]]()
    pairs = injection_trials(plan, plan.n_left)
    while some := list(islice(pairs, _AT_ONCE)):
        rows += _read(some, journal, asking)
    found = np.array(rows, dtype=np.int8).reshape(-1, 4)  # (n, 4): injection, target, position clean, position injected

    def tried(words: str, own: np.ndarray) -> InjectionSummary:
        return InjectionSummary(words, len(own), injection_effect(own[:, 2], own[:, 3], own[:, 1]))

    each = [tried(words, found[found[:, 0] == which]) for which, words in enumerate(INJECTIONS)]
    return [tried("", found), *each]


def _read(pairs: list[InjectionTrial], journal: Journal, asking: Protocol) -> list[tuple[int, int, int, int]]:
    held = journal.find(key for pair in pairs for key in (pair.clean.key, pair.injected.key))

    def position(question: Question) -> int:
        answer: Answer | None = held.get(question.key)
        if answer is None or answer.text is None:
            return 0
        found = read_answer(asking, answer.text, answer.finish_reason, answer.refusal, answer.thinking)
        return found.position or 0

    return [(pair.injection, pair.target, position(pair.clean), position(pair.injected)) for pair in pairs]
