"""The definition of a step: a function with a declaration, from which everything else is derived.

The graph of stages (:mod:`affectlake.pipelines.engine.graph`), ``dvc.yaml``
(:mod:`affectlake.pipelines.engine.dvcfile`), the Prefect flow, the documentation and the check that a changed step has
a new version (:mod:`affectlake.pipelines.engine.fingerprints`) use the declarations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from affectlake.judge.agents import EVERY_KIND as EVERY_KIND  # noqa: PLC0414 (for steps of agents of every kind)
from affectlake.judge.agents import Shown
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.contracts import contract
from affectlake.pipelines.params.study import Params

AGENT, AGENTS = "{agent}", "{agents}"
"""Partitions in the declaration of a step: the agent of the stage, and all fitted agents."""

OWN_TRIALS = Output("trials", AGENT)
"""The triplets that an agent answered. If it has none of its own, a step that reads them reads `triplets` instead."""

OWN_CHOICES = Output("choices", AGENT)
"""The choices of an agent. If it judged anchored triplets, a step that reads them reads `anchored_choices`."""

SOFT_CHOICES = Output("soft_choices", AGENT)
"""The probabilities of an agent's choices. They are made and read only for agents whose embedding learns from them."""

Tables = Mapping[str, pl.LazyFrame]
"""The tables that a step reads, by name."""

OutputTables = dict[str, pl.DataFrame]
"""The tables that a step returns, by name."""


@dataclass(frozen=True)
class StepContext:
    """The context of a step: everything that it receives besides tables and parameters.

    Parameters
    ----------
    agent : str
        Name of the agent for which the step runs; empty for a step that runs once.
    lake : Path
        Root of the lake.
    scratch : Path
        Folder for files such as checkpoints of fits, which is kept if the step fails.
    workers : int
        Maximum number of cores to use.
    log, progress : callable
        Take one line each: results, and progress (of which most lines are not shown).
    parts : mapping of str to tuple of Path
        Files of the tables that the step reads; tables that are not files are missing.
    agents : tuple of str
        Agents whose outputs the step reads as one table, in the order of ``params.yaml``.
    sources : Path, optional
        Folder to which source paths are relative; by default, the root of the lake.
    """

    agent: str
    lake: Path
    scratch: Path
    workers: int
    log: Callable[[str], None]
    progress: Callable[[str], None]
    parts: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    agents: tuple[str, ...] = ()
    sources: Path | None = None

    @property
    def source_root(self) -> Path:
        """The folder to which source paths are relative."""
        return self.sources or self.lake


StepFunction = Callable[[Tables, Params, StepContext], OutputTables]

FoundFiles = Callable[[Params, Path | None, str], list[str]]
"""Returns the source files of a step as paths relative to the lake; if no lake is given, those named in the file.

The third argument is the agent for which the step runs; empty for a step that runs once.
"""


@dataclass(frozen=True)
class Step:
    """A step: the tables that it reads and writes, the parameters on which it depends, and the version of its code.

    The partition of an output may be `AGENT`, which stands for the agent of the stage. The partition of an output that
    is read may also be `AGENTS`, which stands for all fitted agents, whose outputs the step receives as one table. For
    agents without triplets of their own, `triplets` is read in place of `OWN_TRIALS`; for agents that judged anchored
    triplets, `anchored_choices` in place of `OWN_CHOICES`. `SOFT_CHOICES` is made and read only for agents that learn
    from probabilities.
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
    modality: Shown | None = None
    found_files: FoundFiles | None = None
    optional: tuple[str, ...] = ()

    def __call__(self, tables: Tables, params: Params, context: StepContext) -> OutputTables:
        """Call the step's function."""
        return self.function(tables, params, context)

    @property
    def per_agent(self) -> bool:
        """Whether the step runs once per agent of its `kinds`."""
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
    modality: Shown | None = None,
    found_files: FoundFiles | None = None,
    optional: tuple[str, ...] = (),
) -> Callable[[StepFunction], Step]:
    """Return a decorator that declares a function as a step.

    Parameters
    ----------
    writes, reads : tuple of str
        Tables written and read: ``"stimuli"``, or ``"choices/{agent}"`` for the agent of the stage; for reading also
        ``"choices/{agents}"``, for all fitted agents.
    version : int
        Version of the code. Raise it if a change of the code changes the outputs; the outputs are then stale.
    params : tuple of str
        Keys of ``params.yaml`` on which the result depends, and no others; ``{agent}`` stands for the agent,
        ``{agents}`` for each fitted agent. A section stands for all its keys. Keys that an entry of another kind does
        not have are left out.
    files : tuple of str
        Keys of ``params.yaml`` that contain paths of source files; null values are left out.
    kinds : tuple of str
        Kinds of agents for each of which the step runs (`affectlake.judge.agents.EVERY_KIND`); empty: run once.
    gpu : bool
        Whether the step needs a GPU of its own if ``spose.device`` is ``cuda``.
    fits : bool
        Whether its outputs are model fits, to be recorded in MLflow.
    section : str
        Section of ``params.yaml`` without which a study does not have this step; empty: every study has it.
    modality : {'captions', 'videos', 'clips'}, optional
        Run only for agents that are shown this modality; by default, for all agents of `kinds`.
    found_files : callable, optional
        Lists further source files, which have to be found in folders that ``params.yaml`` names.
    optional : tuple of str
        Those of `params` that were added later, with a default that changes nothing: a file without the key has no
        further dependency, so that lakes made before are not stale. (Of other keys that a file may lack, the step
        depends on the whole section.)

    Returns
    -------
    callable
        The decorator.

    Raises
    ------
    ValueError
        If a written table refers to a table that the step neither reads nor writes, so that it cannot be validated.
    """

    def declare(function: StepFunction) -> Step:
        name = function.__name__
        read, written = (tuple(Output.named(one) for one in names) for names in (reads, writes))
        touched = {output.table for output in (*read, *written)}
        for output in written:
            for reference in contract(output.table).references:
                if not touched.intersection(reference.tables):
                    raise ValueError(f"{name} writes {output}, which refers to {reference.table}: read it")
        return Step(
            name, function, read, written, params, files, kinds, gpu, fits, version, section, modality, found_files,
            optional,
        )  # fmt: skip

    return declare
