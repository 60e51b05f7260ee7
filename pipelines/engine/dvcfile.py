"""The stages of affectlake in ``dvc.yaml``, generated from the steps and ``params.yaml``; not edited by hand.

User-defined stages are kept beside them (:mod:`affectlake.pipelines.engine.shared_dvcfile`). When the file is written,
the records in ``dvc.lock`` are updated to match (:mod:`affectlake.lake.store.dvc_inputs`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from affectlake.errors import LakeError
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import write_whole
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.dvc_inputs import Inputs, reconcile
from affectlake.lake.store.stage_definitions import Definition
from affectlake.pipelines.engine import shared_dvcfile
from affectlake.pipelines.engine.graph import Stage, agents_of, outputs_of, read_for, reads_for, stages, steps_of
from affectlake.pipelines.engine.parameters import keys_of
from affectlake.pipelines.engine.source_files import source_paths
from affectlake.pipelines.params.study import Params, load
from affectlake.pipelines.step import AGENTS, Step
from affectlake.pipelines.stored import Stored, stored


def render(params: Params, held: Stored, lake: Path | None = None, only: Sequence[str] | None = None) -> str:
    """Return the text of a ``dvc.yaml`` that contains only the stages of a study, or only the steps in `only`.

    Source files that have to be found in folders are left out if no `lake` is given.
    """
    entries = _entries(params, held, lake)
    return shared_dvcfile.only_ours({name: entries[name] for name in (entries if only is None else only)})


def write(lake: Path, params: Params | None = None) -> bool:
    """Update the stages of affectlake in ``dvc.yaml`` from `params`, or ``params.yaml``; return whether it changed.

    Raises
    ------
    LakeError
        If a user-defined stage has the name of a stage of affectlake, or writes to the folder of the tables.
    """
    params, held = params or load(lake), stored(lake)
    path, ours = lake / layout.PIPELINE, _entries(params, held, lake)
    found = path.read_text(encoding="utf-8") if path.exists() else ""
    text = shared_dvcfile.with_ours(found, ours)
    fitted = params.fitted(held)
    reconcile(lake, {stage.name: _inputs(stage, params, fitted, lake) for stage in stages(params, held).values()})
    if found == text or (text != shared_dvcfile.only_ours(ours) and shared_dvcfile.our_stages(found) == ours):
        return False
    write_whole(path, text.encode())
    return True


def definitions(graph: Mapping[str, Stage], params: Params, lake: Path) -> dict[str, Definition]:
    """Return what ``dvc.lock`` records of each stage of `graph` that is up to date, except for hashes."""
    return {
        name: Definition(
            _command(stage.step, name),
            {key: params.at(key) for key in keys_of(stage.step, stage.agent, params, stage.agents)},
            [*source_paths(stage.step, params, lake, stage.agent), *(str(output.folder) for output in stage.reads)],
            [str(output.folder) for output in stage.writes],
        )
        for name, stage in graph.items()
    }


def refuse_stale(lake: Path) -> None:
    """Raise :class:`LakeError` if the stages in ``dvc.yaml`` do not match the steps and ``params.yaml``."""
    path, ours = lake / layout.PIPELINE, _entries(load(lake), stored(lake), lake)
    found = path.read_text(encoding="utf-8") if path.exists() else ""
    shared_dvcfile.with_ours(found, ours)  # refuses user-defined stages that clash
    if shared_dvcfile.our_stages(found) != ours:
        raise LakeError(
            f"{path} is stale",
            wanted="the stages given by params.yaml and the steps",
            todo="write it with `affectlake render`",
        )


def _entries(params: Params, held: Stored, lake: Path | None) -> dict[str, Any]:
    stages(params, held)  # raises if the graph cannot run
    steps = (step for step in steps_of(params) if not step.per_agent or agents_of(step, params, held))
    return {step.name: _entry(step, params, held, lake) for step in steps}


def _entry(step: Step, params: Params, held: Stored, lake: Path | None) -> dict[str, Any]:
    fitted = params.fitted(held)
    if not step.per_agent:
        files = source_paths(step, params, lake)
        return _body(step, "", keys_of(step, "", params, fitted), files, fitted)
    own_files = {agent: source_paths(step, params, lake, agent) for agent in agents_of(step, params, held)}
    files = [path for path in next(iter(own_files.values())) if all(path in own for own in own_files.values())]
    n_files = max(len(own) - len(files) for own in own_files.values())
    keys = {agent: keys_of(step, agent, params, fitted) for agent in agents_of(step, params, held)}
    spelled = {agent: [key.replace(f"agents.{agent}.", "agents.{}.") for key in own] for agent, own in keys.items()}
    common = [key for key in next(iter(spelled.values())) if all(key in own for own in spelled.values())]
    others = list(dict.fromkeys(key for own in spelled.values() for key in own if key not in common))
    step = replace(step, reads=tuple(one for one in step.reads if any(read_for(one, agent, params) for agent in keys)))
    # an agent without an input that others have repeats the first of its own
    reads = {
        agent: tuple(read_for(one, agent, params) or reads_for(step, agent, params)[0] for one in step.reads)
        for agent in keys
    }
    read = next(iter(reads.values()))
    # some agents have triplets of their own, anchored triplets or probabilities, and others do not
    differ = [at for at in range(len(step.reads)) if len({own[at] for own in reads.values()}) > 1]
    if not others and not n_files and not differ:
        step = replace(step, reads=read)
        return {
            "foreach": list(keys),
            "do": _body(step, "${item}", [k.format("${item}") for k in common], files, fitted),
        }
    # for keys and files that only some agents have, an agent without them repeats one that all agents have
    instead = next((key for key in reversed(common) if "{}" in key), common[0])
    items = {
        agent: {_field(key): (key if key in own else instead).format(agent) for key in others}
        for agent, own in spelled.items()
    }
    for agent, own in own_files.items():
        apart = [path for path in own if path not in files]
        padded = [*apart, *[_tables(step, agent, fitted)[0]] * (n_files - len(apart))]
        items[agent] |= {f"file_{at}": path for at, path in enumerate(padded)}
    own_keys = [f"${{item.{_field(key)}}}" for key in others]
    for agent, item in items.items():
        for at in differ:
            (found,) = outputs_of(reads[agent][at], agent, fitted)
            item[step.reads[at].table] = str(found)
    both = enumerate(zip(step.reads, read, strict=True))
    read = tuple(Output(f"${{item.{one.table}}}") if at in differ else own for at, (one, own) in both)
    step = replace(step, reads=read)
    return {
        "foreach": items,
        "do": _body(
            step,
            "${key}",
            [*(k.format("${key}") for k in common), *own_keys],
            [*files, *(f"${{item.file_{at}}}" for at in range(n_files))],
            fitted,
        ),
    }


def _field(key: str) -> str:
    return key.rpartition(".")[2]


def _tables(step: Step, slot: str, fitted: list[str]) -> list[str]:
    """Return the paths of the tables that a step reads."""
    return [f"{layout.TABLES}/{output}" for one in step.reads for output in outputs_of(one, slot, fitted)]


def _body(step: Step, slot: str, keys: list[str], paths: list[str], fitted: list[str]) -> dict[str, Any]:
    name = f"{step.name}@{slot}" if slot else step.name
    deps = _tables(step, slot, fitted)
    body: dict[str, Any] = {"cmd": _command(step, name)}
    if paths or deps:
        body["deps"] = [*paths, *deps]
    if keys:
        body["params"] = keys
    outs = [output for one in step.writes for output in outputs_of(one, slot, fitted)]
    body["outs"] = [{f"{layout.TABLES}/{output}": {"persist": True}} for output in outs]
    return body


def _command(step: Step, stage: str) -> str:
    return f"affectlake step {stage} --step-version {step.version}"


def _inputs(stage: Stage, params: Params, fitted: list[str], lake: Path) -> Inputs:
    every_agents = [Output(output.table) for output in stage.step.reads if output.partition == AGENTS]
    return Inputs(
        keys_of(stage.step, stage.agent, params, fitted),
        [str(output.folder) for output in stage.reads],
        [str(output.folder) for output in every_agents],
        source_paths(stage.step, params, lake, stage.agent) if stage.step.found_files else None,
        [key.format(agent=stage.agent) for key in stage.step.optional],
    )
