"""``dvc.yaml``, written from the step records and ``params.yaml``. It is never edited by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from affectlake.errors import LakeError
from affectlake.lake import layout
from affectlake.lake.files import write_whole
from pipelines.graph import agents_of, named, stages, steps_of
from pipelines.params import Params, load
from pipelines.record import Step
from pipelines.sources import source_paths

HEAD = "# Rendered from pipelines/steps.py and params.yaml by affectlake; edit those, not this file.\n"


def render(params: Params) -> str:
    """Return the text of ``dvc.yaml`` for a study."""
    stages(params)  # refuses a graph that cannot run
    body = {
        step.name: _entry(step, params) for step in steps_of(params) if not step.per_agent or agents_of(step, params)
    }
    return HEAD + yaml.safe_dump({"stages": body}, sort_keys=False, width=120, allow_unicode=True)


def write(lake: Path, params: Params | None = None) -> bool:
    """Bring ``dvc.yaml`` up to date with the lake's ``params.yaml``, or with `params`; return whether it changed."""
    path, text = lake / layout.PIPELINE, render(params or load(lake))
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    write_whole(path, text.encode())
    return True


def refuse_stale(lake: Path) -> None:
    """Raise :class:`LakeError` if ``dvc.yaml`` is not what the records and ``params.yaml`` give."""
    path = lake / layout.PIPELINE
    if not path.exists() or path.read_text(encoding="utf-8") != render(load(lake)):
        raise LakeError(
            f"{path} is stale", wanted="what params.yaml and the steps give", todo="write it anew: `affectlake render`"
        )


def _entry(step: Step, params: Params) -> dict[str, Any]:
    slot = "${item}" if step.per_agent else ""
    name = f"{step.name}@{slot}" if slot else step.name
    keys = [key.format(agent=slot) for key in step.params]
    paths = source_paths(step, params)
    deps = [str(layout.table_folder(one)) for output in step.reads for one in named(output, slot, params)]
    body: dict[str, Any] = {"cmd": f"affectlake step {name} --step-version {step.version}"}
    if paths or deps:
        body["deps"] = [*paths, *deps]
    if keys:
        body["params"] = keys
    body["outs"] = [{str(layout.table_folder(output.format(agent=slot))): {"persist": True}} for output in step.writes]
    return {"foreach": agents_of(step, params), "do": body} if slot else body
