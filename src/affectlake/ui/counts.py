"""What a version contains, in numbers."""

from __future__ import annotations

from typing import NamedTuple

from affectlake.ui.opened import OpenVersion


class AgentCounts(NamedTuple):
    """Numbers of one agent: choices, answers without a choice, stored answers; and whether it has an embedding."""

    agent: str
    kind: str
    n_choices: int
    n_unparsed: int
    n_responses: int
    is_human: bool
    has_embedding: bool


class Counts(NamedTuple):
    """Numbers of a version."""

    n_stimuli: int
    n_judgments: int
    agents: list[AgentCounts]


def counts_of(opened: OpenVersion) -> Counts:
    """Return the numbers of a version."""
    return opened.once("counts", lambda: _counts(opened))


def _counts(opened: OpenVersion) -> Counts:
    choices, anchored, unparsed, responses = (
        dict(opened.rows(f"SELECT agent, count(*) FROM ({opened.select(table, 'agent')}) GROUP BY 1"))
        for table in ("choices", "anchored_choices", "unparsed", "responses")
    )
    kinds = {name: str(entry.get("kind", "")) for name, entry in opened.record.mapping("agents").items()}
    agents = [
        AgentCounts(
            agent, kinds.get(agent, ""), choices.get(agent, 0) + anchored.get(agent, 0), unparsed.get(agent, 0),
            responses.get(agent, 0), agent in opened.people, agent in opened.embedded,
        )
        for agent in opened.agents
    ]  # fmt: skip
    return Counts(len(opened.stimuli), sum(one.n_choices + one.n_unparsed for one in agents), agents)
