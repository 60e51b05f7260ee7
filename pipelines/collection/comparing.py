"""Comparison of protocols: one agent per protocol, asked about the same trials, and how much their choices agree.

The agents are entries of ``params.yaml`` that differ in their protocol, so that their answers are collected, stored and
published as all others, and a run fits embeddings to them and compares these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import StringIO
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from affectlake.errors import UsageError
from affectlake.geometry.intervals import wilson_interval
from affectlake.judge.chat import ChatAgent
from affectlake.judge.protocols.protocol import TABLES
from affectlake.judge.responses.position_bias import flip_rate
from affectlake.lake.files.atomic import write_whole
from affectlake.lake.files.layout import PARAMS
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.planning import chat_agent, sampled
from affectlake.pipelines.params.study import Params, parse
from affectlake.pipelines.params.text import text_editor
from affectlake.pipelines.steps.responses import choices_of, read_responses, trials_of
from affectlake.pipelines.stored import known_answers
from affectlake.triplets import TRIPLET


class Share(NamedTuple):
    """A share of n, with its 95 % Wilson interval; NaN if n is 0."""

    value: float
    low: float
    high: float
    n: int


class ProtocolAnswers(NamedTuple):
    """The answers of one agent to the trials of a comparison.

    Attributes
    ----------
    agent, protocol : str
        Name of the agent, and its protocol as ``choices`` has it.
    n_trials, n_choices : int
        Number of trials, and number of those with a choice.
    unparsed : Share
        Answers without a position.
    positions : tuple of Share
        Answers that name the first, the second and the third position, among those that name one.
    flips : float
        Share of pairs of answers to a trial in different orders that name different stimuli; NaN without such pairs.
    tied : Share
        Choices that were drawn at random between equal stimuli.
    """

    agent: str
    protocol: str
    n_trials: int
    n_choices: int
    unparsed: Share
    positions: tuple[Share, Share, Share]
    flips: float
    tied: Share


class Agreement(NamedTuple):
    """The trials in which two agents choose the same stimulus, among those in which both make a choice."""

    first: str
    second: str
    same: Share


class Comparison(NamedTuple):
    """The answers of each agent, and the agreement of each pair."""

    agents: list[ProtocolAnswers]
    pairs: list[Agreement]


def agents_for(lake: Path, params: Params, name: str, protocols: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the agents that ask as the agent `name` by each protocol, and those that were added to ``params.yaml``.

    The agent itself is the first. An agent that is added is called ``NAME-PROTOCOL`` and has the same entry except for
    the protocol; ``draws_of`` shows it the same captions in the same orders.

    Raises
    ------
    UsageError
        If the agent does not exist, an agent of that name asks another model or by another protocol, or a protocol
        does not fit to the entry.
    """
    chat_agent(params, name)
    entries, editor = params.raw["agents"], text_editor()
    document = editor.load((lake / PARAMS).read_text(encoding="utf-8"))
    names, added = [name], list[str]()
    for protocol in dict.fromkeys(protocols):
        if protocol == entries[name]["protocol"]:
            continue
        other = f"{name}-{protocol}"
        changed = {"protocol": protocol, "draws_of": entries[name].get("draws_of") or name}
        wanted = {**entries[name], **changed}
        if other not in entries:
            document["agents"][other] = {**document["agents"][name], **changed}
            added.append(other)
        elif different := [key for key in _ASKED if entries[other].get(key) != wanted.get(key)]:
            raise UsageError(
                f"{other} is another agent than {name} asked by {protocol}",
                found=f"different settings: {', '.join(different)}",
                todo=f"rename {other} in {PARAMS}, or make these settings equal",
            )
        names.append(other)
    if added:
        out = StringIO()
        editor.dump(document, out)
        parse(out.getvalue(), str(PARAMS), lake)
        write_whole(lake / PARAMS, out.getvalue().encode())
    return names, added


_ASKED = ("kind", "model", "revision", "protocol", "modality", "sampling", "orders", "calibrate", "draws_of")


def compare(lake: Path, params: Params, names: Sequence[str], trial_set: str, n: int) -> Comparison:
    """Compare the stored answers of agents to the same sample of trials.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    params : Params
        Its parameters.
    names : sequence of str
        Names of the agents.
    trial_set : str
        The trial set.
    n : int
        Number of trials, from :func:`affectlake.pipelines.collection.planning.sampled`.
    """
    triplets = read_output(lake, Output("triplets"))
    trials = sampled(trials_of(triplets, trial_set), n, params.seed)
    found = [_answers(lake, chat_agent(params, name), trial_set, trials) for name in names]
    pairs = [
        Agreement(one.agent, other.agent, _agreement(choices, others))
        for (one, choices), (other, others) in combinations(found, 2)
    ]
    return Comparison([one for one, _ in found], pairs)


def _answers(
    lake: Path, agent: ChatAgent, trial_set: str, trials: pl.DataFrame
) -> tuple[ProtocolAnswers, pl.DataFrame]:
    """Return an agent's answers to the first repeat of trials, and its choices."""
    stored = known_answers(lake, agent.name)
    if stored is None:
        raise UsageError(f"{agent.name} has no answers", todo=f"affectlake collect {agent.name} --sample {len(trials)}")
    tables = {table: read_output(lake, Output(table)) for table in ("stimuli", "triplets", TABLES[agent.modality])}
    every, _ = read_responses(tables | {"responses": stored}, agent, [trial_set], lambda _line: None)
    found = every.filter(pl.col("repeat") == 0).join(trials, on=TRIPLET, how="semi")
    choices = choices_of(every, agent).table.filter(pl.col("repeat") == 0).join(trials, on=TRIPLET, how="semi")
    parsed = found.filter(pl.col("position").is_not_null())
    positions = [_share(int((parsed["position"] == p).sum()), parsed.height) for p in (1, 2, 3)]
    triplet = parsed.select(pl.struct(TRIPLET).rank("dense")).to_series().to_numpy().astype(np.int64)
    flips = flip_rate(triplet, parsed["odd"].to_numpy(), parsed["order_code"].to_numpy())
    row = ProtocolAnswers(
        agent=agent.name,
        protocol=agent.choice_protocol,
        n_trials=trials.height,
        n_choices=choices.height,
        unparsed=_share(found.height - parsed.height, found.height),
        positions=(positions[0], positions[1], positions[2]),
        flips=flips.other_order,
        tied=_share(int(choices["tied"].sum()), choices.height),
    )
    return row, choices


def _agreement(one: pl.DataFrame, other: pl.DataFrame) -> Share:
    both = one.join(other, on=TRIPLET, how="inner", suffix="_other")
    return _share(int((both["odd"] == both["odd_other"]).sum()), both.height)


def _share(count: int, n: int) -> Share:
    if not n:
        return Share(math.nan, math.nan, math.nan, 0)
    low, high = map(float, wilson_interval(count, n))
    return Share(count / n, low, high, n)
