"""Agents by their kind."""

from __future__ import annotations

from typing import TypeVar

from affectlake.errors import UsageError, nearest
from affectlake.judge.respondent import Respondent
from affectlake.pipelines.params.study import Params

A = TypeVar("A", bound=Respondent)


def agent_of_kind(params: Params, name: str, kind: type[A], what: str, kinds: str, todo: str) -> A:
    """Return the agent `name`, which has to be of a kind.

    Parameters
    ----------
    params : Params
        The parameters of the lake.
    name : str
        Name of the agent.
    kind : type
        Its class, or a base class of several kinds.
    what : str
        What such an agent is, for messages: ``an agent that answers are collected from``.
    kinds : str
        Names of these kinds, for messages.
    todo : str
        What to do if no agent has a similar name.

    Raises
    ------
    UsageError
        If there is no such agent, or it is of another kind.
    """
    known = [key for key, agent in params.agents.items() if isinstance(agent, kind)]
    agent = params.agents.get(name)
    if not isinstance(agent, kind):
        raise UsageError(
            f"{name!r} is not {what}",
            found=f"an agent of kind {agent.kind}" if agent else "no such agent in params.yaml",
            allowed=", ".join(known) or f"none: params.yaml has no agent of kind {kinds}",
            todo=nearest(name, known) or todo,
        )
    return agent
