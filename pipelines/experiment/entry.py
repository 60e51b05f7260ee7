"""The entry of an agent of kind experiment, and where its session store is."""

from __future__ import annotations

from pathlib import Path

from affectlake.judge.agents import ExperimentAgent
from affectlake.lake.files import layout
from affectlake.pipelines.params.agent_kinds import agent_of_kind
from affectlake.pipelines.params.study import Params

STORE = "experiment.sqlite"


def experiment_agent(params: Params, name: str) -> ExperimentAgent:
    """Return the agent `name`, whose answers people give in a browser.

    Raises
    ------
    UsageError
        If there is no such agent, or it is of another kind.
    """
    todo = f"add `{name}: {{kind: experiment, l1: auto}}` under `agents:`"
    what = "an agent whose trials are served to people"
    return agent_of_kind(params, name, ExperimentAgent, what, "experiment", todo)


def folder_of(lake: Path, name: str) -> Path:
    """Return the folder with the session store and the key of an agent, which is not versioned."""
    return lake / layout.COLLECTING / name


def store_path(lake: Path, name: str) -> Path:
    """Return the path of an agent's session store, which need not exist."""
    return folder_of(lake, name) / STORE
