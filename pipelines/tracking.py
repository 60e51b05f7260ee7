"""Model runs in MLflow: one run per fit, with its parameters, curve, input hashes, checkpoint and two figures, and one
per round of collecting answers.

They go to the server that ``MLFLOW_TRACKING_URI`` names, or to ``storage/mlflow.db`` with files beside it. MLflow
holds what no table may: clocks, hosts and run ids.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import polars as pl

from affectlake.errors import LakeError
from affectlake.judge.accounts import Account
from affectlake.judge.chat import ChatAgent
from affectlake.lake import layout
from affectlake.lake.versions import Manifest
from affectlake.report.figures import embedding_figure, learning_curve_figure
from pipelines.graph import Stage
from pipelines.params import Params

COLLECTION = " collection"  # ends the name of the experiment that holds a study's rounds of collecting
_ONE_AT_A_TIME = threading.Lock()  # SQLite takes one writer, and MLflow makes the database on first use


def tracking_uri(lake: Path) -> str:
    """Return where model runs go: ``MLFLOW_TRACKING_URI``, or the lake's own database."""
    place = str(lake / layout.MODEL_RUNS)
    if "?" in place:  # it would end the path
        place = f"file:{quote(place)}?uri=true"
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{place}"


def record_fits(lake: Path, stage: Stage, params: Params, frames: Mapping[str, pl.DataFrame], scratch: Path) -> None:
    """Record every fit of an ``embed`` stage as an MLflow run.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    stage : Stage
        The stage that made the fits; its inputs' hashes are recorded.
    params : Params
        The study's parameters.
    frames : mapping of str to polars.DataFrame
        Its ``embeddings`` and ``learning_curves``.
    scratch : Path
        The folder with the checkpoints, ``seed-N.npz``.

    Raises
    ------
    LakeError
        If MLflow does not take the runs. The checkpoints stay, so the next run does not fit again.
    """
    todo = "then run again; the fits resume from their checkpoints"
    with _recording(lake, params.study, f"the fits of {stage.agent}", todo) as (client, experiment):
        for (seed,), curve in frames["learning_curves"].group_by("seed", maintain_order=True):
            weights = frames["embeddings"].filter(pl.col("seed") == seed)
            files = _files(scratch, int(str(seed)), curve, weights)
            _record(client, experiment, _facts(lake, stage, params, int(str(seed))), curve, files)


def record_collection(lake: Path, params: Params, agent: ChatAgent, trial_set: str, account: Account) -> None:
    """Record a round of collecting as an MLflow run: who was asked how, which engine, which rate, what errors.

    Raises
    ------
    LakeError
        If MLflow does not take it. The answers are published by then.
    """
    from mlflow.entities import Metric, Param

    facts = {"agent": agent.name, "trial_set": trial_set, "protocol": agent.protocol, "model": agent.model}
    facts |= {"revision": agent.revision, "ending": account.ending, "why": account.why[:500]}
    facts |= {f"sampling.{key}": str(value) for key, value in agent.sampling.as_mapping().items()}
    for n, server in enumerate(account.servers):
        facts |= {f"server.{n}.url": server.url, f"server.{n}.engine": server.engine}
    now = int(time.time() * 1000)
    tags = {"agent": agent.name, "trial_set": trial_set}
    metrics = [Metric(name, float(value), now, 0) for name, value in _measures(account).items()]
    study, what = f"{params.study}{COLLECTION}", f"the record of collecting {agent.name}"
    with _recording(lake, study, what, "the answers are published") as (client, experiment):
        run = client.create_run(experiment, run_name=f"{agent.name} {trial_set}", tags=tags)
        client.log_batch(run.info.run_id, metrics, [Param(key, value) for key, value in facts.items() if value])
        client.set_terminated(run.info.run_id)


def _measures(account: Account) -> dict[str, float]:
    """Return what is logged as metrics."""
    n_done = account.n_answered + account.n_failed
    found: dict[str, float] = {
        "answered": account.n_answered,
        "failed": account.n_failed,
        "parsed": account.n_read,
        "seconds": account.seconds,
        "per_second": n_done / account.seconds if account.seconds else 0.0,
        "prompt_tokens": account.prompt_tokens,
        "completion_tokens": account.completion_tokens,
        "cached_tokens": account.cached_tokens,
    }
    found |= {f"failed_{kind}": n for kind, n in account.errors.items()}
    return found | {f"retried_{kind}": n for kind, n in account.retries.items()}


class Pace(NamedTuple):
    """How fast an agent has been asked: rounds, questions done and seconds, over all its records of a trial set."""

    n_rounds: int
    n_done: int
    seconds: float


def collection_pace(lake: Path, study: str, agent: str, trial_set: str) -> Pace:
    """Return how fast an agent has been asked; zeros where nothing is recorded."""
    if not os.environ.get("MLFLOW_TRACKING_URI") and not (lake / layout.MODEL_RUNS).exists():
        return Pace(0, 0, 0.0)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri(lake))
    experiment = client.get_experiment_by_name(f"{study}{COLLECTION}")
    if experiment is None:
        return Pace(0, 0, 0.0)
    wanted = f"tags.agent = '{agent}' and tags.trial_set = '{trial_set}'"
    found, token = [], None
    while True:
        page = client.search_runs([experiment.experiment_id], wanted, page_token=token)
        found += [run.data.metrics for run in page]
        token = page.token
        if not token:
            break
    n_done = sum(int(one["answered"] + one["failed"]) for one in found)
    return Pace(len(found), n_done, sum(one["seconds"] for one in found))


@contextmanager
def _recording(lake: Path, experiment: str, what: str, todo: str) -> Iterator[tuple[Any, str]]:
    """Give a client and an experiment's id to one thread at a time, and account for what MLflow does not take."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    with _ONE_AT_A_TIME:
        try:
            client = MlflowClient(tracking_uri(lake))
            yield client, _experiment(client, lake, experiment)
        except (MlflowException, OSError) as error:
            raise LakeError(
                f"MLflow did not take {what}",
                found=str(error).splitlines()[0],
                wanted=f"a tracking store at {tracking_uri(lake)}",
                todo=f"mend it or unset MLFLOW_TRACKING_URI; {todo}",
            ) from error


def _experiment(client: Any, lake: Path, study: str) -> str:
    found = client.get_experiment_by_name(study)
    if found is not None:
        return str(found.experiment_id)
    local = None if os.environ.get("MLFLOW_TRACKING_URI") else (lake / layout.MODEL_FILES).as_uri()
    return str(client.create_experiment(study, artifact_location=local))


def _facts(lake: Path, stage: Stage, params: Params, seed: int) -> dict[str, str]:
    """Return what is logged as parameters: settings, seeds and the hashes of the tables read."""
    digests = Manifest(lake, "").digests
    inputs = {f"input.{output}": digests.get(output, "not recorded") for output in stage.reads}
    own = asdict(params.spose[stage.agent])
    own |= asdict(params.few) | {"l1": "auto"} if stage.agent in params.auto else {}
    settings = {f"spose.{key}": str(value) for key, value in own.items()}
    run = {"agent": stage.agent, "seed": str(seed), "root_seed": str(params.seed), "device": params.device}
    return run | settings | inputs


def _files(scratch: Path, seed: int, curve: pl.DataFrame, weights: pl.DataFrame) -> list[tuple[Path, str]]:
    """Return the files of a fit and the folder each goes to: its checkpoint, and two figures drawn here."""
    found = [(scratch / f"seed-{seed}.npz", "checkpoint")]
    figures = {"learning-curve.png": learning_curve_figure(curve), "embedding.png": embedding_figure(weights)}
    for name, image in figures.items():
        path = scratch / name
        path.write_bytes(image)
        found.append((path, "figures"))
    return found


def _record(
    client: Any, experiment: str, facts: dict[str, str], curve: pl.DataFrame, files: list[tuple[Path, str]]
) -> None:
    from mlflow.entities import Metric, Param

    agent, seed = facts["agent"], facts["seed"]
    run = client.create_run(experiment, run_name=f"{agent} seed {seed}", tags={"agent": agent})
    now = int(time.time() * 1000)
    points = [
        Metric(name, float(row[name]), now, row["epoch"])
        for row in curve.iter_rows(named=True)
        for name in ("train_loss", "test_loss", "test_accuracy", "n_dimensions")
        if row[name] is not None
    ]
    client.log_batch(run.info.run_id, params=[Param(key, value) for key, value in facts.items()])
    for start in range(0, len(points), 1000):
        client.log_batch(run.info.run_id, metrics=points[start : start + 1000])
    for path, folder in files:
        client.log_artifact(run.info.run_id, str(path), folder)
    client.set_terminated(run.info.run_id)
