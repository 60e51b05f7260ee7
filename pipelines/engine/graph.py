"""The graph of the stages of a study: every step, for every agent for which it runs, in an executable order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from affectlake.errors import UsageError, nearest
from affectlake.lake.files.outputs import Output
from affectlake.pipelines.catalogue import STEPS
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import AGENT, AGENTS, OWN_CHOICES, OWN_TRIALS, SOFT_CHOICES, Step
from affectlake.pipelines.stored import GROWING, Stored


@dataclass(frozen=True)
class Stage:
    """A step for one agent, or a step that runs once, with its inputs, its outputs, and the fitted agents."""

    step: Step
    agent: str
    reads: tuple[Output, ...]
    writes: tuple[Output, ...]
    agents: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the stage in DVC, such as ``embed@human-category``."""
        return f"{self.step.name}@{self.agent}" if self.agent else self.step.name


def agents_of(step: Step, params: Params, stored: Stored) -> list[str]:
    """Return the agents for which `step` runs, in the order of ``params.yaml``.

    For an agent whose answers are collected, steps that read the answers run as soon as there are answers; other steps
    run as soon as there are enough answers to the main set.
    """
    ready = stored.collected if any(map(_grows, step.reads)) else stored.fittable
    return [
        name
        for name, agent in params.agents.items()
        if agent.kind in step.kinds
        and (not agent.is_collected or name in ready)
        and step.modality in (None, agent.modality)
        and (agent.learns_probabilities or SOFT_CHOICES not in step.writes)
    ]


def waiting_agents(params: Params, stored: Stored) -> list[str]:
    """Return the agents that are not fitted because they have too few answers to the main set."""
    fitted = params.fitted(stored)
    return [name for name in params.agents if name not in fitted]


def steps_of(params: Params) -> list[Step]:
    """Return the steps of the study: those that do not need a section, or whose section is in ``params.yaml``."""
    return [step for step in STEPS.values() if not step.section or params.at(step.section) is not None]


def stages(params: Params, stored: Stored) -> dict[str, Stage]:
    """Return the stages of the study by name, each after the stages whose tables it reads.

    Parameters
    ----------
    params : Params
        The study's parameters.
    stored : Stored
        The agents that have stored answers.

    Returns
    -------
    dict of str to Stage
        The stages.

    Raises
    ------
    UsageError
        If two stages write the same output, or a stage reads an output that no stage writes.
    """
    fitted, found = tuple(params.fitted(stored)), dict[str, Stage]()
    for step in steps_of(params):
        for agent in agents_of(step, params, stored) if step.per_agent else [""]:
            read = reads_for(step, agent, params)
            reads, writes = (_all_outputs(some, agent, fitted) for some in (read, step.writes))
            stage = Stage(step, agent, reads, writes, fitted)
            found[stage.name] = stage
    makers: dict[Output, str] = {}
    for stage in found.values():
        for output in stage.writes:
            if output in makers:
                raise UsageError(f"two stages write {output}", found=f"{makers[output]} and {stage.name}")
            makers[output] = stage.name
    before = {
        stage.name: [_maker(makers, stage, output) for output in stage.reads if not _grows(output)]
        for stage in found.values()
    }
    return {name: found[name] for name in TopologicalSorter(before).static_order()}


def upstream(stage: Stage, among: dict[str, Stage]) -> list[str]:
    """Return the names of the stages whose outputs `stage` reads."""
    return [other.name for other in among.values() if set(other.writes) & set(stage.reads)]


def stages_for(outputs: Sequence[Output], among: dict[str, Stage]) -> dict[str, Stage]:
    """Return the stages that `outputs` are made by, with all stages before them, in the order of `among`."""
    wanted, found = set(outputs), set[str]()
    for stage in reversed(among.values()):
        if wanted & set(stage.writes):
            found.add(stage.name)
            wanted |= set(stage.reads)
    return {name: stage for name, stage in among.items() if name in found}


def stage_named(name: str, among: dict[str, Stage]) -> Stage:
    """Return the stage `name`; raise :class:`UsageError`, which suggests a similar name, if it does not exist."""
    if name not in among:
        raise UsageError(f"there is no stage {name!r}", allowed=", ".join(among), todo=nearest(name, among))
    return among[name]


def stages_named(name: str, among: dict[str, Stage]) -> list[Stage]:
    """Return the stage `name`, or all stages of the step `name`.

    Raises
    ------
    UsageError
        If there is no such stage or step; the message suggests a similar name.
    """
    of_step = [stage for stage in among.values() if stage.step.name == name]
    if of_step or name in among:
        return of_step or [among[name]]
    steps = list(dict.fromkeys(stage.step.name for stage in among.values()))
    raise UsageError(
        f"there is no stage {name!r}",
        allowed=f"{', '.join(steps)}, or one of their stages, as `affectlake steps` lists them",
        todo=nearest(name, [*steps, *among]),
    )


def reads_for(step: Step, agent: str, params: Params) -> tuple[Output, ...]:
    """Return what a step reads for an agent, in the order in which its inputs are declared."""
    found = (read_for(one, agent, params) for one in step.reads)
    return tuple(one for one in found if one is not None)


def read_for(declared: Output, agent: str, params: Params) -> Output | None:
    """Return what a step reads for an agent in place of `OWN_TRIALS` and `OWN_CHOICES`; another output as it is.

    None in place of `SOFT_CHOICES`, if the agent does not learn from probabilities.
    """
    if declared == SOFT_CHOICES and not params.agents[agent].learns_probabilities:
        return None
    if declared == OWN_TRIALS and not params.agents[agent].own_triplets:
        return Output("triplets")
    if declared == OWN_CHOICES and params.agents[agent].task == "anchored":
        return Output("anchored_choices", AGENT)
    return declared


def outputs_of(declared: Output, agent: str, fitted: Sequence[str]) -> list[Output]:
    """Return the outputs for which a declared output stands: one, or one for each fitted agent."""
    if declared.partition == AGENTS:
        return [Output(declared.table, every) for every in fitted]
    return [Output(declared.table, agent) if declared.partition == AGENT else declared]


def _all_outputs(declared: tuple[Output, ...], agent: str, fitted: Sequence[str]) -> tuple[Output, ...]:
    return tuple(output for one in declared for output in outputs_of(one, agent, fitted))


def _grows(output: Output) -> bool:
    """Return whether the output is collected rather than made by a stage."""
    return output.table == GROWING


def _maker(makers: dict[Output, str], stage: Stage, output: Output) -> str:
    if output not in makers:
        known = ", ".join(map(str, makers))
        raise UsageError(
            f"{stage.name} reads {output}, which no stage writes",
            allowed=known,
            todo="declare the step that writes it, and list it in pipelines/catalogue.py",
        )
    return makers[output]
