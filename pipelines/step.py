"""What a step is: a plain function with a declaration above it. Everything else is derived from that record.

The graph of stages (:mod:`affectlake.pipelines.engine.graph`), ``dvc.yaml``
(:mod:`affectlake.pipelines.engine.dvcfile`), the Prefect flow, the documents and the check that a changed step has a
new version (:mod:`affectlake.pipelines.engine.fingerprints`) all read these records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from affectlake.judge.agents import EVERY_KIND as EVERY_KIND  # noqa: PLC0414 (for steps of agents of every kind)
from affectlake.judge.protocols import Modality
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.contracts import contract
from affectlake.pipelines.params.study import Params

AGENT, AGENTS = "{agent}", "{agents}"
"""Partitions of outputs that a step declares: of the stage's own agent, and of every fitted agent."""

Tables = Mapping[str, pl.LazyFrame]
OutputTables = dict[str, pl.DataFrame]


@dataclass(frozen=True)
class StepContext:
    """What a step is given besides tables and parameters.

    Parameters
    ----------
    agent : str
        The agent the step works for; empty for a step that runs once.
    lake : Path
        Root of the lake, against which relative source paths are read.
    scratch : Path
        A folder of the step's own that outlives a failed run: a fit's checkpoints lie here.
    workers : int
        How many cores it may keep busy.
    log, progress : callable
        Take one line each: what is worth keeping, and how far it is (most of those are not shown).
    parts : mapping of str to tuple of Path
        The files behind the tables that it reads; none for tables that are not files.
    agents : tuple of str
        The agents whose outputs it reads as one table, in the file's order.
    """

    agent: str
    lake: Path
    scratch: Path
    workers: int
    log: Callable[[str], None]
    progress: Callable[[str], None]
    parts: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    agents: tuple[str, ...] = ()


StepFunction = Callable[[Tables, Params, StepContext], OutputTables]


@dataclass(frozen=True)
class Step:
    """One step: what it reads and writes, which parameters it depends on, and its code's version.

    The partition of an output may be `AGENT`: that of the agent that a stage is for. That of one that is read may also
    be `AGENTS`: the outputs of all fitted agents, which the step gets as one table.
    """

    name: str
    function: StepFunction
    reads: tuple[Output, ...]
    writes: tuple[Output, ...]
    params: tuple[str, ...]
    files: tuple[str, ...]
    kinds: tuple[str, ...]
    gpu: bool
    fits: bool
    version: int
    section: str = ""
    modality: Modality | None = None

    def __call__(self, tables: Tables, params: Params, context: StepContext) -> OutputTables:
        """Call the step's function."""
        return self.function(tables, params, context)

    @property
    def per_agent(self) -> bool:
        """Whether the step runs once for each agent of its `kinds`."""
        return bool(self.kinds)

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (self.function.__doc__ or "").strip().splitlines()[0]


def step(
    *,
    writes: tuple[str, ...],
    version: int,
    reads: tuple[str, ...] = (),
    params: tuple[str, ...] = (),
    files: tuple[str, ...] = (),
    kinds: tuple[str, ...] = (),
    gpu: bool = False,
    fits: bool = False,
    section: str = "",
    modality: Modality | None = None,
) -> Callable[[StepFunction], Step]:
    """Declare the function below as a step.

    Parameters
    ----------
    writes, reads : tuple of str
        Tables written and read: ``"stimuli"``, or ``"choices/{agent}"`` for the stage's own agent; read only,
        ``"choices/{agents}"`` for those of every agent.
    version : int
        To be raised when the code changes what it writes; a new version makes the step's outputs stale.
    params : tuple of str
        Keys of ``params.yaml`` that the result depends on, and no others; ``{agent}`` stands for the agent,
        ``{agents}`` for each fitted agent. A section stands for all its keys. A key that some kinds of an entry do not
        have is left out for those.
    files : tuple of str
        Keys of ``params.yaml`` that hold paths of source files; one that is null is left out.
    kinds : tuple of str
        Run once for each agent of these kinds (`affectlake.judge.agents.EVERY_KIND`); empty: run once.
    gpu : bool
        Whether the step wants a GPU to itself when ``spose.device`` names one.
    fits : bool
        Whether its outputs are model fits, to be recorded in MLflow.
    section : str
        A section of ``params.yaml`` without which the study has no such step; empty: every study has it.
    modality : {'captions', 'videos'}, optional
        Only for agents that are shown this; by default, for all of the kinds.

    Raises
    ------
    ValueError
        If a written table refers to one that the step neither reads nor writes: it could not be validated.
    """

    def declare(function: StepFunction) -> Step:
        name = function.__name__
        read, written = (tuple(Output.named(one) for one in names) for names in (reads, writes))
        touched = {output.table for output in (*read, *written)}
        for output in written:
            for reference in contract(output.table).references:
                if reference.table not in touched:
                    raise ValueError(f"{name} writes {output}, which refers to {reference.table}: read it")
        return Step(name, function, read, written, params, files, kinds, gpu, fits, version, section, modality)

    return declare
