"""The flow ``build``: every stage of a study that is to run as a Prefect task, in order, and then one version.

DVC says whether a stage is up to date, Prefect says when it runs, the runner runs it. It works offline on a temporary
Prefect server, and on the server that ``PREFECT_API_URL`` names. Where every stage is up to date there is no Prefect.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from affectlake.errors import LakeError
from affectlake.flows.prefect_server import temporary_server
from affectlake.lake import repository
from affectlake.lake.files import layout
from affectlake.lake.preflight import prepare
from affectlake.lake.store.dvc_stages import forget_stages, is_current, record_done, stale_stages
from affectlake.lake.store.pinning import NOTHING, Pinned
from affectlake.lake.store.versions import Version
from affectlake.pipelines.engine import dvcfile
from affectlake.pipelines.engine.graph import Stage, stage_named, stages, upstream, waiting_agents
from affectlake.pipelines.engine.runner import run_stage, workers
from affectlake.pipelines.engine.source_files import SourceFiles
from affectlake.pipelines.params.schema import put_schema
from affectlake.pipelines.params.study import Params, load
from affectlake.pipelines.stored import stored
from affectlake.process.interrupts import notify_on_interrupt
from affectlake.secrets import hide
from affectlake.triplets import MIN_JUDGMENTS

RETRIES = 2
GPU_TAG = "gpu"


class Built(NamedTuple):
    """What a build did: which stages ran, which were up to date, and the version it made (None: nothing changed)."""

    ran: list[str]
    skipped: list[str]
    version: Version | None


def build(lake: Path, log: Callable[[str], None]) -> Built:
    """Bring every table of the lake up to date and publish one version.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    log : callable
        Takes one line of progress.

    Raises
    ------
    AffectlakeError
        If a stage fails, or no version could be made of the lake.
        Tables of stages that ended before it stay for the next run; the version does not move.
    """
    with repository.writing(lake, "affectlake run", wait_s=math.inf, say=log):
        prepare(lake, log)  # before hours of work, not after
        params = load(lake)
        held = stored(lake)
        put_schema(lake)
        dvcfile.write(lake, params)
        pinned = {layout.PARAMS: params.text, layout.PIPELINE: (lake / layout.PIPELINE).read_bytes()}
        for agent in waiting_agents(params, held):
            few = f"fewer than {MIN_JUDGMENTS} answers to the main set" if agent in held.collected else "no answers"
            log(f"{agent} has {few} yet, so its fit waits: ask it with `affectlake collect {agent}`")
        gone = forget_stages(lake, stages(params, held))
        if gone:
            log(f"no longer in params.yaml: {', '.join(gone)}")
        ran = _run_stages(lake, params, pinned, log)
        version = repository.publish(lake, log, pinned)
        if (lake / layout.PARAMS).read_bytes() != params.text:
            log(
                f"{layout.PARAMS} was changed while this ran: {'the version' if version else 'the result'} has it as it"
                " was at the beginning; run it again for the change"
            )
    return Built(ran, [name for name in stages(params, held) if name not in ran], version)


def unfinished(lake: Path, params: Params, pinned: Pinned = NOTHING) -> None:
    """Raise :class:`LakeError` if a stage is not up to date, so that no version can be made."""
    stale = stale_stages(lake, stages(params, stored(lake)), pinned)
    if stale:
        raise LakeError("stages are not up to date", found=", ".join(stale), todo="run `dvc repro` or `affectlake run`")


class _Stages:
    """The stages of one build: runs each that is not up to date, and remembers which ran and which failed."""

    def __init__(self, lake: Path, params: Params, pinned: Pinned, log: Callable[[str], None]) -> None:
        self.lake, self.params, self.pinned, self.log = lake, params, pinned, log
        self.graph = stages(params, stored(lake))
        self.ran: list[str] = []
        self.failures: dict[str, Exception] = {}
        self.flow_run = ""

    def place(self, name: str) -> str:
        """Return where a stage stands among all, and its name."""
        return f"[{list(self.graph).index(name) + 1}/{len(self.graph)}] {name}"

    def to_run(self) -> list[str]:
        """Return the stages that DVC finds changed, and those that read what these write; say that others are done."""
        found = dict.fromkeys(stale_stages(self.lake, self.graph, self.pinned))
        for name, stage in self.graph.items():
            if name in found or any(other in found for other in upstream(stage, self.graph)):
                found[name] = None
            else:
                self.log(f"{self.place(name)}: up to date")
        return [name for name in self.graph if name in found]

    def wants_gpu(self, stage: Stage) -> bool:
        """Whether the stage is to have a GPU to itself."""
        section = stage.step.section
        device = self.params.at(f"{section}.device") if section else self.params.device
        return stage.step.gpu and device == "cuda"

    def run(self, name: str) -> None:
        """Run one stage unless DVC finds it up to date."""
        tell = _teller(self.log, self.place(name))
        if is_current(self.lake, name, self.pinned):
            tell("up to date")
            return
        tell("started")
        try:
            stage = stage_named(name, self.graph)
            sources = SourceFiles(self.lake, stage, self.params)
            outcome = run_stage(self.lake, stage, self.params, tell)
            record_done(self.lake, name, self.pinned, sources.refuse_changed)
        except Exception as error:
            tell(f"failed: {error}".splitlines()[0])
            self.failures[name] = error
            raise
        self.failures.pop(name, None)
        self.ran.append(name)
        tell(f"done in {outcome.seconds:.1f} s: {outcome}")


def _run_stages(lake: Path, params: Params, pinned: Pinned, log: Callable[[str], None]) -> list[str]:
    """Run the stages that are not up to date; return their names."""
    building = _Stages(lake, params, pinned, log)
    to_run = building.to_run()
    if to_run:
        with temporary_server(log, "`dvc repro` and then `affectlake publish` do the same without a server"):
            _run_flow(building, to_run)
    return building.ran


def _run_flow(building: _Stages, to_run: list[str]) -> None:
    """Run stages as a Prefect flow, each after those of them whose tables it reads."""
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
                tags={GPU_TAG} if building.wants_gpu(stage) else set(),
                retries=RETRIES,
                retry_delay_seconds=[1, 10],
                retry_condition_fn=_may_pass,
            )(building.run)
            before = [futures[other] for other in upstream(stage, building.graph) if other in futures]
            futures[name] = run.submit(name, wait_for=before)
        wait(list(futures.values()))
        for future in futures.values():
            future.result()

    if any(building.wants_gpu(building.graph[name]) for name in to_run):
        one_at_a_time_per_gpu()
    try:
        with notify_on_interrupt(lambda: _say_cancelled(building.flow_run)):
            build_flow()
    except Exception:
        for error in building.failures.values():
            raise error from None
        raise


def _may_pass(_task: object, _run: object, state: Any) -> bool:
    """Whether another try can help: a file or a connection may come back, bad input stays as it is."""
    return isinstance(state.result(raise_on_failure=False), OSError)


def _say_cancelled(flow_run: str) -> None:
    """Tell a lasting Prefect server that an interrupted flow run has ended; a temporary one ends with it."""
    from uuid import UUID

    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL
    from prefect.states import Cancelled

    if flow_run and PREFECT_API_URL.value():
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(UUID(flow_run), Cancelled(message="interrupted"), force=True)


def _teller(log: Callable[[str], None], place: str) -> Callable[[str], None]:
    """Return a function that says a line on the terminal and in the task run's log."""
    from prefect.logging import get_run_logger

    logger = get_run_logger()

    def tell(line: str) -> None:
        log(f"{place}: {line}")
        logger.info(hide(line))

    return tell


def one_at_a_time_per_gpu() -> None:
    """Give the tag ``gpu`` as many slots as there are GPUs."""
    import torch
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        client.create_concurrency_limit(tag=GPU_TAG, concurrency_limit=max(torch.cuda.device_count(), 1))
