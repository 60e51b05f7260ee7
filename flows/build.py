"""The flow ``build``: run the stages of a study that are not up to date as Prefect tasks, and publish one version.

DVC decides whether a stage is up to date, Prefect when it runs, and :mod:`affectlake.pipelines.engine.runner` runs it.
The flow uses the server that ``PREFECT_API_URL`` names, otherwise a temporary one, which needs no network. If every
stage is up to date, Prefect is not started.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from affectlake.errors import LakeError
from affectlake.flows.prefect_server import temporary_server
from affectlake.judge.agents import ExperimentAgent
from affectlake.judge.chat import ChatAgent
from affectlake.lake import repository
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.preflight import prepare
from affectlake.lake.store.dvc_stages import StageRecords, forget_stages, stale_stages
from affectlake.lake.store.pinning import NOTHING, Pinned
from affectlake.lake.store.versions import Version, list_versions
from affectlake.pipelines.collection.planning import exists, question_tables
from affectlake.pipelines.engine import dvcfile
from affectlake.pipelines.engine.graph import (
    Stage,
    stage_named,
    stages,
    stages_for,
    stages_named,
    upstream,
    waiting_agents,
)
from affectlake.pipelines.engine.runner import run_stage, workers
from affectlake.pipelines.engine.source_files import SourceFiles, refuse_missing
from affectlake.pipelines.outputs.root_files import root_files
from affectlake.pipelines.params.schema import put_schema
from affectlake.pipelines.params.study import Params, load
from affectlake.pipelines.stored import stored
from affectlake.process.interrupts import notify_on_interrupt
from affectlake.process.terminal import log_detail
from affectlake.secrets import hide
from affectlake.triplets import MIN_JUDGMENTS

RETRIES = 2
GPU_TAG = "gpu"


class Built(NamedTuple):
    """What a build did.

    Attributes
    ----------
    ran : list of str
        Stages that ran.
    skipped : list of str
        Stages that were up to date.
    left : list of str
        Stages that were not asked for and are not up to date.
    version : Version or None
        The new version; None if nothing changed, or if stages are left.
    """

    ran: list[str]
    skipped: list[str]
    left: list[str]
    version: Version | None

    def stages(self) -> dict[str, list[str]]:
        """Return the names of the stages, by what was done with them."""
        return {"ran": self.ran, "up_to_date": self.skipped, "to_run": self.left}


def build(lake: Path, log: Callable[[str], None], only: Sequence[str] = (), *, force: bool = False) -> Built:
    """Bring all tables of the lake up to date and publish one version.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    log : callable
        Takes one line of progress.
    only : sequence of str
        Stages such as ``embed@human-category``, or steps such as ``embed``, which means all stages of the step: these
        and those they depend on are brought up to date, and no others. A version is published if this leaves no stage
        that is not up to date.
    force : bool
        Whether to run stages that are up to date again: those of `only`, or all.

    Returns
    -------
    Built
        What ran, and the new version.

    Raises
    ------
    UsageError
        If there is no such stage; the message suggests a similar name.
    SourceError
        If a source file is missing that all stages to run depend on; nothing is run then.
    AffectlakeError
        If a stage fails, or the lake cannot be published. Tables of stages that finished before are kept for the
        next run; no version is published.
    """
    with repository.writing(lake, "affectlake run", wait_s=math.inf, say=log):
        prepare(lake, log)  # refuse now rather than after hours of work
        params = load(lake)
        held = stored(lake)
        put_schema(lake)
        dvcfile.write(lake, params)
        pinned = {layout.PARAMS: params.text, layout.PIPELINE: (lake / layout.PIPELINE).read_bytes()}
        pinned |= params.protocol_files
        for agent in waiting_agents(params, held):
            few = f"fewer than {MIN_JUDGMENTS} answers to the main set" if agent in held.collected else "no answers"
            log(f"{agent} has {few} yet and is not fitted: {_how_to_collect(params, agent)}")
        gone = forget_stages(lake, stages(params, held))
        if gone:
            log(f"no longer in params.yaml: {', '.join(gone)}")
        graph = stages(params, held)
        named = [stage for name in only for stage in stages_named(name, graph)]
        wanted = stages_for([output for stage in named for output in stage.writes], graph) if only else graph
        again = {stage.name for stage in named or graph.values()} if force else set[str]()
        ran = _run_stages(Stages(lake, params, pinned, log, wanted, again), log)
        others = {name: stage for name, stage in graph.items() if name not in wanted}
        left = stale_stages(lake, dvcfile.definitions(others, params, lake), pinned)
        if left:
            log(f"{len(left)} other stages are not up to date, so no version is published; `affectlake run` runs them")
        version = None if left else repository.publish(lake, log, pinned, root_files(lake, params.raw))
        if (lake / layout.PARAMS).read_bytes() != params.text:
            log(
                f"{layout.PARAMS} was changed during the run: {'the version' if version else 'the result'} has the"
                " parameters as they were at the start; run again to apply the change"
            )
    return Built(ran, [name for name in wanted if name not in ran], left, version)


def _how_to_collect(params: Params, agent: str) -> str:
    command = f"{params.agents[agent].collected_by} {agent}"
    if isinstance(params.agents[agent], ExperimentAgent):
        return f"ask people with `affectlake experiment serve {agent}`"
    asked = params.agents[agent].needs_server
    return f"collect answers with `{command}`" if asked else f"import judgments with `{command} FILE...`"


def unfinished(lake: Path, params: Params, pinned: Pinned = NOTHING) -> None:
    """Raise :class:`LakeError` if a stage is not up to date, because the lake cannot be published then."""
    stale = stale_stages(lake, dvcfile.definitions(stages(params, stored(lake)), params, lake), pinned)
    if stale:
        raise LakeError("stages are not up to date", found=", ".join(stale), todo="run `dvc repro` or `affectlake run`")


def build_questions(lake: Path, agent: ChatAgent, log: Callable[[str], None]) -> Version | None:
    """Make the tables of an agent's questions in a lake without versions, as :func:`build_tables` does."""
    return build_tables(lake, question_tables(load(lake), agent), f"affectlake collect {agent.name}", log)


def build_tables(lake: Path, wanted: list[Output], command: str, log: Callable[[str], None]) -> Version | None:
    """Make some tables in a lake without versions, and publish them as its first version.

    The version's ``dvc.yaml`` has only the stages of these tables, also after a run that was interrupted; the next
    :func:`build` adds the others. In a lake with versions, nothing is done.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    wanted : list of Output
        The tables.
    command : str
        The command that needs them, which is named to those who wait for the writer lock.
    log : callable
        Takes one line of progress.

    Returns
    -------
    Version or None
        The new version; None if nothing was done.

    Raises
    ------
    AffectlakeError
        As :func:`build`.
    """
    if list_versions(lake):
        return None
    if not all(exists(lake, output) for output in wanted):
        tables = ", ".join(output.table for output in wanted)
        log(f"making the questions: {tables}; `affectlake run` makes the other tables")
    with repository.writing(lake, command, wait_s=math.inf, say=log):
        prepare(lake, log)
        params, held = load(lake), stored(lake)
        put_schema(lake)
        dvcfile.write(lake, params)
        graph = stages_for(wanted, stages(params, held))
        text = dvcfile.render(params, held, lake, [stage.step.name for stage in graph.values()])
        pinned = {layout.PARAMS: params.text, layout.PIPELINE: text.encode(), **params.protocol_files}
        _run_stages(Stages(lake, params, pinned, log, graph), log)
        return repository.publish(lake, log, pinned, root_files(lake, params.raw))


class Stages:
    """The stages of one build: run those that are not up to date, and record which ran and which failed."""

    def __init__(
        self,
        lake: Path,
        params: Params,
        pinned: Pinned,
        log: Callable[[str], None],
        graph: dict[str, Stage],
        again: Collection[str] = (),
    ) -> None:
        self.lake, self.params, self.pinned, self.log, self.graph = lake, params, pinned, log, graph
        self.again = set(again)  # to be run even if they are up to date, once
        self.records = StageRecords(lake, pinned)
        self.ran: list[str] = []
        self.failures: dict[str, Exception] = {}
        self.flow_run = ""

    def place(self, name: str) -> str:
        """Return the position of a stage among all stages, and its name."""
        return f"[{list(self.graph).index(name) + 1}/{len(self.graph)}] {name}"

    def to_run(self) -> list[str]:
        """Return the stages to run, with all stages downstream of them; log how many others are up to date."""
        stale = self.records.stale(dvcfile.definitions(self.graph, self.params, self.lake))
        found = dict.fromkeys(name for name in self.graph if name in self.again or name in stale)
        for name, stage in self.graph.items():
            if name in found or any(other in found for other in upstream(stage, self.graph)):
                found[name] = None
            else:
                log_detail(f"{self.place(name)}: up to date")
        if found:
            self.log(f"{len(found)} of {len(self.graph)} stages to run, {len(self.graph) - len(found)} up to date")
        return [name for name in self.graph if name in found]

    def needs_gpu(self, stage: Stage) -> bool:
        """Return whether the stage needs a GPU of its own."""
        section = stage.step.section
        device = self.params.at(f"{section}.device") if section else self.params.device
        return stage.step.gpu and device == "cuda"

    def run(self, name: str) -> None:
        """Run one stage unless it is up to date."""
        log_stage = _stage_logger(self.log, self.place(name))
        if name not in self.again and self.records.is_current(name):
            log_stage("up to date")
            return
        log_stage("started")
        try:
            stage = stage_named(name, self.graph)
            sources = SourceFiles(self.lake, stage, self.params)
            outcome = run_stage(self.lake, stage, self.params, log_stage)
            self.records.record(name, sources.refuse_changed)
        except Exception as error:
            log_stage(f"failed: {error}".splitlines()[0])
            self.failures[name] = error
            raise
        self.failures.pop(name, None)
        self.again.discard(name)
        self.ran.append(name)
        log_stage(f"done in {outcome.seconds:.1f} s: {outcome}")


def _run_stages(building: Stages, log: Callable[[str], None]) -> list[str]:
    """Run the stages that are not up to date; return their names."""
    with building.records:
        to_run = building.to_run()
        refuse_missing(building.lake, building.params, {name: building.graph[name] for name in to_run}, log)
        if to_run:
            with temporary_server(log, "`dvc repro` followed by `affectlake publish` does the same without a server"):
                _run_flow(building, to_run)
    return building.ran


def _run_flow(building: Stages, to_run: list[str]) -> None:
    """Run stages as a Prefect flow, each after the stages whose tables it reads."""
    from prefect import flow, runtime, task
    from prefect.futures import wait
    from prefect.task_runners import ThreadPoolTaskRunner

    runner: Any = ThreadPoolTaskRunner(max_workers=workers())

    @flow(name="build", flow_run_name=f"build-{building.params.study}", task_runner=runner)
    def build_flow() -> None:
        building.flow_run = runtime.flow_run.id
        futures: dict[str, Any] = {}
        for name in to_run:
            stage = building.graph[name]
            run: Any = task(
                name=stage.step.name,
                task_run_name=name,
                tags={GPU_TAG} if building.needs_gpu(stage) else set(),
                retries=RETRIES,
                retry_delay_seconds=[1, 10],
                retry_condition_fn=_is_retryable,
            )(building.run)
            before = [futures[other] for other in upstream(stage, building.graph) if other in futures]
            futures[name] = run.submit(name, wait_for=before)
        wait(list(futures.values()))
        for future in futures.values():
            future.result()

    if any(building.needs_gpu(building.graph[name]) for name in to_run):
        one_at_a_time_per_gpu()
    try:
        with notify_on_interrupt(lambda: _report_cancelled(building.flow_run)):
            build_flow()
    except Exception:
        for error in building.failures.values():
            raise error from None
        raise


def _is_retryable(_task: object, _run: object, state: Any) -> bool:
    """Return whether a retry can help: a file or connection may become available again, bad input does not change."""
    return isinstance(state.result(raise_on_failure=False), OSError)


def _report_cancelled(flow_run: str) -> None:
    """Report an interrupted flow run as cancelled to a persistent Prefect server; a temporary one ends with the run."""
    from uuid import UUID

    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL
    from prefect.states import Cancelled

    if flow_run and PREFECT_API_URL.value():
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(UUID(flow_run), Cancelled(message="interrupted"), force=True)


def _stage_logger(log: Callable[[str], None], place: str) -> Callable[[str], None]:
    """Return a function that logs a line on the terminal and in the task run's log."""
    from prefect.logging import get_run_logger

    logger = get_run_logger()

    def log_stage(line: str) -> None:
        log(f"{place}: {line}")
        logger.info(hide(line))

    return log_stage


def one_at_a_time_per_gpu() -> None:
    """Limit the tasks with the tag ``gpu`` that run at the same time to the number of GPUs."""
    import torch
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        client.create_concurrency_limit(tag=GPU_TAG, concurrency_limit=max(torch.cuda.device_count(), 1))
