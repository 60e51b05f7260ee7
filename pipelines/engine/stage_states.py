"""The stages of the study in a lake's folder, and whether each is up to date."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.dvc_stages import stale_stages
from affectlake.pipelines.engine import dvcfile
from affectlake.pipelines.engine.graph import stages
from affectlake.pipelines.params.study import load
from affectlake.pipelines.stored import stored


class StageState(NamedTuple):
    """A stage: its name, its state, the outputs that it reads and writes, and what it does."""

    stage: str
    is_stale: bool
    reads: tuple[Output, ...]
    writes: tuple[Output, ...]
    does: str


def stage_states(root: Path) -> list[StageState]:
    """Return the stages of the study in `root`, each after those whose outputs it reads.

    Parameters
    ----------
    root : Path
        Root of the lake.
    """
    params, held = load(root), stored(root)
    graph = stages(params, held)
    pinned = {layout.PIPELINE: dvcfile.render(params, held).encode()}  # as the next run writes it
    stale = set(stale_stages(root, graph, pinned))
    return [
        StageState(stage.name, stage.name in stale, stage.reads, stage.writes, stage.step.summary)
        for stage in graph.values()
    ]
