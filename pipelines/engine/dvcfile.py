"""Our stages of ``dvc.yaml``, written from the step records and ``params.yaml``; never edited by hand.

Stages that a user added stay beside them (:mod:`affectlake.pipelines.engine.shared_dvcfile`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from affectlake.errors import LakeError
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import write_whole
from affectlake.pipelines.engine import shared_dvcfile
from affectlake.pipelines.engine.graph import agents_of, named, stages, steps_of
from affectlake.pipelines.engine.source_files import source_paths
from affectlake.pipelines.params.study import Params, load
from affectlake.pipelines.step import Step


def render(params: Params) -> str:
    """Return the text of a ``dvc.yaml`` that holds the stages of a study and nothing else."""
    return shared_dvcfile.only_ours(_entries(params))


def write(lake: Path, params: Params | None = None) -> bool:
    """Bring our stages in ``dvc.yaml`` up to date with ``params.yaml``, or with `params`; return whether it changed.

    Raises
    ------
    LakeError
        If a stage of the user's has the name of one of ours, or writes where tables lie.
    """
    path, ours = lake / layout.PIPELINE, _entries(params or load(lake))
    found = path.read_text(encoding="utf-8") if path.exists() else ""
    text = shared_dvcfile.with_ours(found, ours)
    if found == text or (text != shared_dvcfile.only_ours(ours) and shared_dvcfile.our_stages(found) == ours):
        return False
    write_whole(path, text.encode())
    return True


def refuse_stale(lake: Path) -> None:
    """Raise :class:`LakeError` if our stages in ``dvc.yaml`` are not what the records and ``params.yaml`` give."""
    path, ours = lake / layout.PIPELINE, _entries(load(lake))
    found = path.read_text(encoding="utf-8") if path.exists() else ""
    shared_dvcfile.with_ours(found, ours)  # refuses stages of the user's that clash with ours
    if shared_dvcfile.our_stages(found) != ours:
        raise LakeError(
            f"{path} is stale", wanted="what params.yaml and the steps give", todo="write it anew: `affectlake render`"
        )


def _entries(params: Params) -> dict[str, Any]:
    stages(params)  # refuses a graph that cannot run
    return {
        step.name: _entry(step, params) for step in steps_of(params) if not step.per_agent or agents_of(step, params)
    }


def _entry(step: Step, params: Params) -> dict[str, Any]:
    slot = "${item}" if step.per_agent else ""
    name = f"{step.name}@{slot}" if slot else step.name
    keys = [key.format(agent=slot) for key in step.params]
    paths = source_paths(step, params)
    deps = [f"{layout.TABLES}/{one}" for output in step.reads for one in named(output, slot, params)]
    body: dict[str, Any] = {"cmd": f"affectlake step {name} --step-version {step.version}"}
    if paths or deps:
        body["deps"] = [*paths, *deps]
    if keys:
        body["params"] = keys
    body["outs"] = [{f"{layout.TABLES}/{output.format(agent=slot)}": {"persist": True}} for output in step.writes]
    return {"foreach": agents_of(step, params), "do": body} if slot else body
