"""The entry of an agent of kind experiment, and where its session store is."""

from __future__ import annotations

from pathlib import Path

from affectlake.errors import UsageError, nearest
from affectlake.judge.agents import ExperimentAgent
from affectlake.lake.files import layout
from affectlake.pipelines.params.study import Params

STORE = "experiment.sqlite"


def experiment_agent(params: Params, name: str) -> ExperimentAgent:
    """Return the agent `name`, whose answers people give in a browser.

    Raises
    ------
    UsageError
        If there is no such agent, or it is of another kind.
    """
    known = [key for key, agent in params.agents.items() if isinstance(agent, ExperimentAgent)]
    agent = params.agents.get(name)
    if not isinstance(agent, ExperimentAgent):
        raise UsageError(
            f"{name!r} is not an agent whose trials are served to people",
            found=f"an agent of kind {agent.kind}" if agent else "no such agent in params.yaml",
            allowed=", ".join(known) or "none: params.yaml has no agent of kind experiment",
            todo=nearest(name, known) or f"add `{name}: {{kind: experiment, l1: auto}}` under `agents:`",
        )
    return agent


def folder_of(lake: Path, name: str) -> Path:
    """Return the folder with the session store and the key of an agent, which is not versioned."""
    return lake / layout.COLLECTING / name


def store_path(lake: Path, name: str) -> Path:
    """Return the path of an agent's session store, which need not exist."""
    return folder_of(lake, name) / STORE
