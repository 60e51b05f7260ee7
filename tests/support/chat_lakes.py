"""Small lakes of the demo study with a chat agent, built without Prefect, whose part is in the tests of builds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from affectlake.flows import build as building
from affectlake.flows.build import Built, build
from affectlake.lake import repository
from affectlake.lake.store.dvc_stages import is_current, record_done
from affectlake.pipelines.engine import dvcfile
from affectlake.pipelines.engine.graph import stages
from affectlake.pipelines.engine.runner import run_stage
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import load, override
from affectlake.pipelines.stored import stored
from tests.support.builds import built_once, copy_of

SETTINGS = (
    "sources.n_stimuli=30",
    "sources.clips=false",
    "triplets.per_dyad=1",
    "triplets.prototypes_per_category=1",
    "triplets.thirds_per_pair=4",
    "triplets.noise_ceiling=10",
    "triplets.noise_ceiling_repeats=4",
    "spose.max_epochs=20",
    "triplets.validation_fraction=0.1",
    "spose.dimensions=4",
    "spose.seeds=[0]",
    "geometry.permutations=5",
    "geometry.min_category_size=3",
    "brain=null",
    "geometry.perplexity=5.0",
)


def make_lake(lake: Path, entry: Mapping[str, Any]) -> None:
    """Make a lake of 30 stimuli whose agent ``tiny`` has the given entry, and build it; a copy if one was built."""
    copy_of(built_once("chat", lambda folder: build_lake(folder, entry), entry), lake)


def build_lake(lake: Path, entry: Mapping[str, Any], say: Callable[[str], None] = lambda _: None) -> None:
    """Build a lake as that of :func:`make_lake`, whether there is one or not."""
    raw = yaml.safe_load(override(templates.starting_params("demo"), SETTINGS))
    raw["agents"] = {"human-category": raw["agents"]["human-category"], "tiny": {**entry, "l1": 0.004}}
    repository.init(lake, yaml.safe_dump(raw, sort_keys=False))
    run(lake, say)


def build_steps(lake: Path, *names: str) -> None:
    """Run the stages of some steps alone."""
    dvcfile.write(lake)
    params = load(lake)
    for name, stage in stages(params, stored(lake)).items():
        if stage.step.name in names and not is_current(lake, name):
            run_stage(lake, stage, params, lambda _: None)
            record_done(lake, name)


def forget_stage(lake: Path, name: str = "sample") -> None:
    """Drop a stage from ``dvc.lock``, so that it is to run again; it makes the same tables."""
    path = lake / "dvc.lock"
    lock = yaml.safe_load(path.read_text())
    del lock["stages"][name]
    path.write_text(yaml.safe_dump(lock, sort_keys=False))


def stage_by_stage(found: building.Stages, log: Callable[[str], None]) -> list[str]:
    """Run the stages that are not up to date, in order and without Prefect; return their names."""
    lake, params, ran = found.lake, found.params, []
    with found.records:
        for name in found.to_run():
            if not found.records.is_current(name):
                run_stage(lake, found.graph[name], params, log)
                found.records.record(name)
                ran.append(name)
    return ran


def run(lake: Path, say: Callable[[str], None] = lambda _: None) -> Built:
    """Build without starting Prefect."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "_run_stages", stage_by_stage)
        return build(lake, say)
