"""The flow ``publish-experiment``: the answers that people gave become a version, as a Prefect flow with one task.

Publishing itself is :mod:`affectlake.pipelines.experiment.publishing`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from affectlake.flows.build import build_tables
from affectlake.flows.one_task import run_as_flow
from affectlake.flows.prefect_server import temporary_server
from affectlake.lake.store.versions import Version
from affectlake.pipelines.collection.publishing import Log
from affectlake.pipelines.experiment.entry import experiment_agent
from affectlake.pipelines.experiment.offering import tables_of
from affectlake.pipelines.experiment.publishing import Wave, publish_received
from affectlake.pipelines.params.study import load


def build_offer(lake: Path, name: str, log: Log) -> Version | None:
    """Make the tables from which people are asked, in a lake without versions; see :func:`build_tables`."""
    return build_tables(lake, tables_of(experiment_agent(load(lake), name)), f"affectlake experiment {name}", log)


def publish_task(name: str, publish: Callable[[], object]) -> Any:
    """Return `publish` as a Prefect task, for the answers of the agent `name`."""
    from prefect import task

    return task(name="publish", task_run_name=f"publish-{name}")(publish)


def run_publishing(lake: Path, name: str, log: Log) -> Wave:
    """Publish what came in as the Prefect flow ``publish-experiment``.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    name : str
        Name of an agent of kind experiment.
    log : callable
        Takes one line of progress.

    Returns
    -------
    Wave
        What was published.

    Raises
    ------
    AffectlakeError
        As :func:`affectlake.pipelines.experiment.publishing.publish_received`.
    """
    params = load(lake)
    experiment_agent(params, name)
    with temporary_server(log):
        publish = partial(publish_received, lake, params, name, log)
        return run_as_flow("publish-experiment", f"publish-{name}", partial(publish_task, name), publish)
