"""Model runs in MLflow: one run per fit, with its parameters, curve, input hashes, checkpoint and a figure of the
embedding, and one run per round of collecting answers. MLflow itself draws the curves.

Runs are recorded on the server that ``MLFLOW_TRACKING_URI`` names, or in ``storage/mlflow.db`` with files beside it.
MLflow contains what tables must not: times, hosts and run ids. An error of MLflow never causes a step or a collection
to fail: if the server fails, runs are recorded in ``storage/mlflow.db``, and the server is not tried again in the same
process.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import polars as pl

from affectlake.judge.agents import ExperimentAgent
from affectlake.judge.chat import ChatAgent
from affectlake.judge.requests.run_statistics import Account
from affectlake.lake.files import layout
from affectlake.lake.store.versions import Manifest
from affectlake.pipelines.engine.graph import Stage
from affectlake.pipelines.engine.tracking_server import RUN_LIMIT_S, ServerError, ask
from affectlake.pipelines.params.study import Params
from affectlake.process.empty_database import place_empty_database
from affectlake.report.figures.learning_curves import embedding_png
from affectlake.secrets import hide

COLLECTION = " collection"  # suffix of the name of the experiment with a study's rounds of collecting
_KIND, _OF_MODELS = "mlflow.experimentKind", "custom_model_development"  # by which MLflow's page opens on the runs
_ONE_AT_A_TIME = threading.Lock()  # SQLite allows one writer, and MLflow creates the database on first use
Log = Callable[[str], None]
_Write = Callable[[Any, str], None]  # takes a client and an experiment's id, and writes one run


def tracking_uri(lake: Path) -> str:
    """Return where model runs are recorded: ``MLFLOW_TRACKING_URI``, or the lake's database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _own_uri(lake)


def record_fits(
    lake: Path, stage: Stage, params: Params, frames: Mapping[str, pl.DataFrame], scratch: Path, log: Log
) -> None:
    """Record every fit of an ``embed`` stage as an MLflow run.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    stage : Stage
        The stage that made the fits; the hashes of its inputs are recorded.
    params : Params
        The study's parameters.
    frames : mapping of str to polars.DataFrame
        Its tables ``embeddings`` and ``learning_curves``.
    scratch : Path
        The folder with the checkpoints, ``seed-N.npz``.
    log : callable
        Takes one line if the runs are recorded elsewhere, or not at all.
    """

    def write(seed: int, curve: pl.DataFrame, client: Any, experiment: str) -> None:
        files = _files(scratch, seed, frames["embeddings"].filter(pl.col("seed") == seed))
        _record(client, experiment, _facts(lake, stage, params, seed), curve, files)

    curves = frames["learning_curves"].group_by("seed", maintain_order=True)
    runs: list[_Write] = [partial(write, int(str(seed)), curve) for (seed,), curve in curves]
    _record_runs(lake, params.study, f"the fits of {stage.agent}", runs, log)


def record_collection(lake: Path, params: Params, agent: ChatAgent, trial_set: str, account: Account, log: Log) -> None:
    """Record a round of collecting as an MLflow run: agent, sampling, engines, rate and errors.

    Parameters
    ----------
    lake, params, log
        As for :func:`record_fits`.
    agent : ChatAgent
        The agent that was asked.
    trial_set : str
        The trial set.
    account : Account
        Statistics of the round.
    """
    facts = {"agent": agent.name, "trial_set": trial_set, "protocol": agent.protocol, "model": agent.model}
    facts |= {"revision": agent.revision, "ending": account.ending, "why": account.why[:500]}
    facts |= {f"sampling.{key}": str(value) for key, value in agent.sampling.as_mapping().items()}
    for n, server in enumerate(account.servers):
        facts |= {f"server.{n}.url": server.url, f"server.{n}.engine": server.engine}
        facts |= {f"server.{n}.limited_by": server.limited_by}
    tags = {"agent": agent.name, "trial_set": trial_set}

    def write(client: Any, experiment: str) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, 0) for name, value in _measures(account).items()]
        run = client.create_run(experiment, run_name=f"{agent.name} {trial_set}", tags=tags)
        client.log_batch(run.info.run_id, metrics, [Param(key, hide(value)) for key, value in facts.items() if value])
        client.set_terminated(run.info.run_id)

    _record_runs(lake, f"{params.study}{COLLECTION}", f"the rounds of asking {agent.name}", [write], log)


def record_wave(
    lake: Path, params: Params, agent: ExperimentAgent, measures: Mapping[str, float], version: str, log: Log
) -> None:
    """Record a published wave of an experiment as an MLflow run: participants, answers, failures, minutes.

    Parameters
    ----------
    lake, params, log
        As for :func:`record_fits`.
    agent : ExperimentAgent
        The agent whose trials people were given.
    measures : mapping of str to float
        The metrics.
    version : str
        Name of the version that has the answers.
    """
    facts = {"agent": agent.name, "trials": agent.trials, "show": agent.show, "protocol": agent.protocol}
    facts |= {"version": version}

    def write(client: Any, experiment: str) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, 0) for name, value in measures.items()]
        run = client.create_run(experiment, run_name=f"{agent.name} wave", tags={"agent": agent.name})
        client.log_batch(run.info.run_id, metrics, [Param(key, value) for key, value in facts.items() if value])
        client.set_terminated(run.info.run_id)

    _record_runs(lake, f"{params.study}{COLLECTION}", f"the answers to {agent.name}", [write], log)


def _measures(account: Account) -> dict[str, float]:
    """Return the metrics of a round."""
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
    """Rounds, questions done and seconds of all records of an agent and trial set.

    `is_known` is False if the records could not be read.
    """

    n_rounds: int
    n_done: int
    seconds: float
    is_known: bool = True


def collection_pace(lake: Path, study: str, agent: str, trial_set: str) -> Pace:
    """Return the pace of an agent; zeros if nothing is recorded, or if MLflow does not answer."""
    uri = tracking_uri(lake)
    if uri == _own_uri(lake) and not (lake / layout.MODEL_RUNS).exists():
        return Pace(0, 0, 0.0)
    look = partial(_pace, uri, study, agent, trial_set)
    try:
        if uri != _own_uri(lake):
            return ask(uri, look)
        _check_readable(lake / layout.MODEL_RUNS)
        return look()
    except Exception:  # each kind of store has exceptions of its own, and the pace is not essential
        return Pace(0, 0, 0.0, is_known=False)


def _pace(uri: str, study: str, agent: str, trial_set: str) -> Pace:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
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


def _record_runs(lake: Path, experiment: str, what: str, runs: Sequence[_Write], log: Log) -> None:
    """Write runs to the server or, if it fails, to the lake's database; log a failure."""
    given, own = tracking_uri(lake), _own_uri(lake)
    instead = ""
    with _ONE_AT_A_TIME:
        if given != own:
            try:
                client, found = ask(given, partial(_opened, given, lake, experiment))
                for write in runs:
                    ask(given, partial(write, client, found), lambda: RUN_LIMIT_S)
            except ServerError as error:
                instead = f"MLflow at {given} failed ({error})"
            else:
                return
        try:
            client, found = _opened(own, lake, experiment)
            for write in runs:
                write(client, found)
        except Exception as error:  # a missing record must not cause the step to fail
            why = " ".join(str(error).split())[:300]
            log(f"{instead or 'MLflow failed'}; {what} are not recorded, but all tables are complete: {why}")
        else:
            if instead:
                log(f"{instead}; {what} are recorded in {layout.MODEL_RUNS} instead")


def _own_uri(lake: Path) -> str:
    place = str(lake / layout.MODEL_RUNS)
    if "?" in place:  # it would start the query of the URI
        place = f"file:{quote(place)}?uri=true"
    return f"sqlite:///{place}"


def _opened(uri: str, lake: Path, experiment: str) -> tuple[Any, str]:
    """Return a client of a store, and the id of an experiment in it."""
    from mlflow import MlflowClient

    database = lake / layout.MODEL_RUNS
    if uri == _own_uri(lake):
        _place(database)
        _check_readable(database)
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    if found is not None:
        if _KIND not in found.tags:
            client.set_experiment_tag(found.experiment_id, _KIND, _OF_MODELS)
        return client, str(found.experiment_id)
    files = (lake / layout.MODEL_FILES).as_uri() if uri == _own_uri(lake) else None
    return client, str(client.create_experiment(experiment, artifact_location=files, tags={_KIND: _OF_MODELS}))


def _place(database: Path) -> None:
    """Copy an empty database to `database`, unless it exists."""
    from mlflow.version import VERSION

    place_empty_database(database, f"mlflow-{VERSION}", _make)


def _make(database: Path) -> None:
    from mlflow import MlflowClient

    MlflowClient(f"sqlite:///{database}").search_experiments()
    with closing(sqlite3.connect(database)) as opened, opened:
        opened.execute("DELETE FROM experiments")  # it has the folder of this process; MLflow makes it again


def _check_readable(database: Path) -> None:
    """Raise at once if a database cannot be read; MLflow itself tries ten times, for two minutes."""
    with closing(sqlite3.connect(database)) as opened:
        opened.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _facts(lake: Path, stage: Stage, params: Params, seed: int) -> dict[str, str]:
    """Return the parameters of a run: settings, seeds and the hashes of the input tables."""
    digests = Manifest(lake, "").digests
    inputs = {f"input.{output}": digests.get(output, "not recorded") for output in stage.reads}
    own = params.settings(stage.agent).model_dump()
    own |= params.spose.few.model_dump() | {"l1": "auto"} if stage.agent in params.auto else {}
    settings = {f"spose.{key}": str(value) for key, value in own.items()}
    run = {"agent": stage.agent, "seed": str(seed), "root_seed": str(params.seed), "device": params.device}
    return run | settings | inputs


def _files(scratch: Path, seed: int, weights: pl.DataFrame) -> list[tuple[Path, str]]:
    """Return the files of a fit with their folders: the checkpoint and, if there are weights, their figure."""
    found = [(scratch / f"seed-{seed}.npz", "checkpoint")]
    if len(weights):
        path = scratch / "embedding.png"
        path.write_bytes(embedding_png(weights))
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
        for name in ("train_loss", "objective", "validation_loss", "validation_accuracy", "n_dimensions", "match")
        if row[name] is not None
    ]
    client.log_batch(run.info.run_id, params=[Param(key, hide(value)) for key, value in facts.items()])
    for start in range(0, len(points), 1000):
        client.log_batch(run.info.run_id, metrics=points[start : start + 1000])
    for path, folder in files:
        client.log_artifact(run.info.run_id, str(path), folder)
    client.set_terminated(run.info.run_id)
