"""The stages of the study in a lake's folder, and whether each is up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.dvc_stages import stale_stages
from affectlake.lake.store.working_tables import unchanged_stages
from affectlake.pipelines.engine import dvcfile
from affectlake.pipelines.engine.graph import stages
from affectlake.pipelines.params.study import load
from affectlake.pipelines.stored import stored

State = Literal["up to date", "to run", "to restore", "to pull"]


class StageState(NamedTuple):
    """A stage: its name, its state, the outputs that it reads and writes, and what it does.

    A stage that is unchanged, but whose tables are not in the folder, is to be restored if the cache has them,
    otherwise to be pulled.
    """

    stage: str
    state: State
    reads: tuple[Output, ...]
    writes: tuple[Output, ...]
    does: str

    @property
    def is_stale(self) -> bool:
        """Whether the stage is not up to date."""
        return self.state != "up to date"


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
    stale = stale_stages(root, dvcfile.definitions(graph, params, root), pinned)
    there = unchanged_stages(root, stale, pinned)
    states: dict[str, State] = dict.fromkeys(stale, "to run")
    states.update(dict.fromkeys(there.to_restore, "to restore"))
    states.update(dict.fromkeys(there.to_pull, "to pull"))
    return [
        StageState(name, states.get(name, "up to date"), stage.reads, stage.writes, stage.step.summary)
        for name, stage in graph.items()
    ]
