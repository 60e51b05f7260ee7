"""The source files that a stage reads, and the check that they did not change while it ran."""

from __future__ import annotations

from pathlib import Path

from affectlake.errors import SourceError
from affectlake.lake.store.pinning import changed, signature
from affectlake.pipelines.engine.graph import Stage
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import Step


def source_paths(step: Step, params: Params, lake: Path | None = None, agent: str = "") -> list[str]:
    """Return the paths of the source files and folders of a step, relative to the lake.

    Parameters
    ----------
    step : Step
        The step.
    params : Params
        The parameters of the run.
    lake : Path, optional
        Root of the lake, in which files are found whose folder is in ``params.yaml``; by default, these are left out.
    agent : str
        Agent for which the step runs; empty for a step that runs once.

    Returns
    -------
    list of str
        The paths, as they are written in ``params.yaml``, each once.
    """
    named = [path for key in step.files for path in _paths(params.at(key))]
    return list(dict.fromkeys([*named, *(step.found_files(params, lake, agent) if step.found_files else ())]))


class SourceFiles:
    """The state of the source files of a stage at its start.

    Parameters
    ----------
    lake : Path
        Root of the lake, to which paths are relative.
    stage : Stage
        The stage.
    params : Params
        The parameters of the run.
    """

    def __init__(self, lake: Path, stage: Stage, params: Params) -> None:
        self._stage = stage.name
        self._paths = [lake / path for path in source_paths(stage.step, params, lake, stage.agent)]
        self._before = signature(self._paths)

    def refuse_changed(self) -> None:
        """Raise :class:`SourceError` if a file has changed since the start of the stage."""
        found = changed(self._before, signature(self._paths))
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise SourceError(
                f"source files changed while {self._stage} was reading them; its outputs are not recorded",
                found=", ".join(found[:3]) + more,
                todo="run it again once the files are complete",
            )


def _paths(value: object) -> list[str]:
    """Return the paths in a value of ``params.yaml``, which may be null, a path, a mapping or a list."""
    if isinstance(value, (dict, list)):
        return [path for one in (value.values() if isinstance(value, dict) else value) for path in _paths(one)]
    return [value] if isinstance(value, str) and value else []
