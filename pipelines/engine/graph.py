"""The stages of a study: every step for every agent it serves, in an order in which they can run."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import TopologicalSorter

from affectlake.errors import UsageError, nearest
from affectlake.lake.files.outputs import Output
from affectlake.pipelines.catalogue import STEPS
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import AGENT, AGENTS, Step
from affectlake.pipelines.stored import GROWING


@dataclass(frozen=True)
class Stage:
    """One step for one agent, or a step that runs once; its inputs and outputs by name."""

    step: Step
    agent: str
    reads: tuple[Output, ...]
    writes: tuple[Output, ...]

    @property
    def name(self) -> str:
        """The stage's name, as DVC writes it: ``embed@human-category``."""
        return f"{self.step.name}@{self.agent}" if self.agent else self.step.name


def agents_of(step: Step, params: Params) -> list[str]:
    """Return the agents that `step` serves, in the order of ``params.yaml``.

    A chat agent is served once it has answers, and by the steps that do not read the answers themselves once it has
    enough of them to the main set.
    """
    ready = params.collected if any(map(_grows, step.reads)) else params.fitted
    return [
        name
        for name, agent in params.agents.items()
        if agent.kind in step.kinds
        and (agent.kind != "chat" or name in ready)
        and (not step.looks_at or getattr(agent, "looks_at", "") == step.looks_at)
    ]


def waiting_agents(params: Params) -> list[str]:
    """Return the chat agents that have too few answers to the main set to be fitted, or none at all."""
    return [name for name in params.agents if name not in params.fitted]


def steps_of(params: Params) -> list[Step]:
    """Return the steps that the study has: those whose section stands in ``params.yaml``, or that need none."""
    return [step for step in STEPS.values() if not step.section or params.at(step.section) is not None]


def stages(params: Params) -> dict[str, Stage]:
    """Return the study's stages by name, each after those whose tables it reads.

    Raises
    ------
    UsageError
        If two stages write one output, or a stage reads what none writes.
    """
    found: dict[str, Stage] = {}
    for step in steps_of(params):
        for agent in agents_of(step, params) if step.per_agent else [""]:
            reads, writes = (_all_outputs(some, agent, params) for some in (step.reads, step.writes))
            stage = Stage(step, agent, reads, writes)
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


def stage_named(name: str, among: dict[str, Stage]) -> Stage:
    """Return the stage called `name`; an unknown one is a :class:`UsageError` that offers the nearest."""
    if name not in among:
        raise UsageError(f"there is no stage {name!r}", allowed=", ".join(among), todo=nearest(name, among))
    return among[name]


def outputs_of(declared: Output, agent: str, params: Params) -> list[Output]:
    """Return the outputs that a step's declared one stands for: one, or that of each fitted agent."""
    if declared.partition == AGENTS:
        return [Output(declared.table, every) for every in params.fitted]
    return [Output(declared.table, agent) if declared.partition == AGENT else declared]


def _all_outputs(declared: tuple[Output, ...], agent: str, params: Params) -> tuple[Output, ...]:
    return tuple(output for one in declared for output in outputs_of(one, agent, params))


def _grows(output: Output) -> bool:
    """Whether no stage makes the output: answers are collected."""
    return output.table == GROWING


def _maker(makers: dict[Output, str], stage: Stage, output: Output) -> str:
    if output not in makers:
        known = ", ".join(map(str, makers))
        raise UsageError(f"{stage.name} reads {output}, which no stage writes", allowed=known)
    return makers[output]
