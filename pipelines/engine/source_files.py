"""The source files that a stage reads, and the check that they did not change while it ran."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from affectlake.errors import AffectlakeError, SourceError
from affectlake.lake.store.pinning import changed, signature
from affectlake.pipelines.engine.graph import Stage, upstream
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import Step

_SHOWN = 3  # of the files that are missing


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


def missing_files(step: Step, params: Params, lake: Path, agent: str = "") -> list[str]:
    """Return what is missing of the source files of a step, one line each: the setting and its path.

    A path that is null although the study cannot be read without it is missing too.
    """
    unset = [f"{key}, {what}, is not set" for key, what in params.sources.unset.items() if key in step.params]
    paths = [path for path in source_paths(step, params, lake, agent) if not (lake / path).exists()]
    return unset + [f"{_setting(params.raw, path)}: there is no file {lake / path}" for path in paths]


def source_faults(lake: Path, params: Params) -> list[str]:
    """Return what prevents a study from being read: missing source files, or what is wrong in those of its stimuli."""
    from affectlake.pipelines.catalogue import STEPS
    from affectlake.pipelines.steps.stimuli import read_study

    first = [step for step in STEPS.values() if not step.per_agent]
    missing = [line for step in first for line in missing_files(step, params, lake)]
    if missing:
        return list(dict.fromkeys(missing))
    try:
        read_study(params, lake)
    except AffectlakeError as error:
        return [str(error)]
    return []


def refuse_missing(lake: Path, params: Params, to_run: Mapping[str, Stage], say: Callable[[str], None]) -> None:
    """Raise :class:`SourceError` if a source file is missing that every stage to run depends on.

    A file that other stages can run without is only reported, by one line.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    params : Params
        The parameters of the run.
    to_run : mapping of str to Stage
        The stages to run, each after the stages whose tables it reads.
    say : callable
        Takes one line.
    """
    for name, stage in to_run.items():
        missing = missing_files(stage.step, params, lake, stage.agent)
        if not missing:
            continue
        found = {name}
        for other, one in to_run.items():
            if found & set(upstream(one, dict(to_run))):
                found.add(other)
        if len(found) == len(to_run):
            raise SourceError(
                "source files are missing; nothing was run",
                found="; ".join(missing[:_SHOWN]) + (f"; and {len(missing) - _SHOWN} more" * (len(missing) > _SHOWN)),
                todo="set their paths in params.yaml, relative to the lake, or with --set KEY=PATH",
            )
        say(f"{name} will fail: {'; '.join(missing[:_SHOWN])}")


def _setting(value: object, path: str, key: str = "") -> str:
    """Return the key in params.yaml whose value is `path`; the path itself if there is none."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, one in items:
        inner = f"{key}[{name}]" if isinstance(name, int) else f"{key}.{name}" if key else str(name)
        found = inner if one == path else _setting(one, path, inner)
        if found != path:
            return found
    return path


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
