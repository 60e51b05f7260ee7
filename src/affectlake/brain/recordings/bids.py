"""The files of fMRIPrep's derivatives and of a BIDS data set: runs, and the events, confounds and sidecars of each.

Names are read as BIDS defines them: entities (``task-video``), a suffix and an extension. Events and sidecars of a
higher level apply to every run whose name has all of their entities (the inheritance principle of BIDS). Numbers of
runs are compared as numbers, since releases of fMRIPrep differ in their leading zeros. Nothing is read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from affectlake.brain.recordings.runs import Run
from affectlake.errors import SourceError

NATIVE = "func"
"""The space of images without the entity ``space``: fMRIPrep's output on the grid of each run."""

_DERIVED = ("space", "res", "cohort", "den", "desc", "hemi")  # entities that the raw data do not have
_ECHOES = ("echo", "part")  # entities of raw files that one derivative is made from
_CONFOUNDS = (("confounds", "timeseries"), ("confounds", "regressors"), ("", "bold_confounds"))


class Name(NamedTuple):
    """The name of a file: its entities, its suffix, and its extension."""

    entities: Mapping[str, str]
    suffix: str
    extension: str

    def without(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the entities other than `keys`."""
        return {key: value for key, value in self.entities.items() if key not in keys}


def name_of(path: Path) -> Name:
    """Return the parts of a file's name; numbers lose their leading zeros."""
    stem, _, extension = path.name.partition(".")
    entities, words = {}, []
    for part in stem.split("_"):
        key, dash, value = part.partition("-")
        if dash:
            entities[key] = str(int(value)) if key in ("run", "echo") and value.isdigit() else value
        else:
            words.append(part)
    return Name(entities, "_".join(words), f".{extension}")


def find_fmriprep(
    derivatives: Path, raw: Path, subject: str, space: str = "MNI152NLin2009cAsym", task: str = ""
) -> list[Run]:
    """Return a subject's runs from fMRIPrep's derivatives, with confounds, masks, and events of the raw data set.

    Parameters
    ----------
    derivatives, raw : Path
        Root folders of fMRIPrep's output and of the BIDS data set.
    subject : str
        Name of the subject, without ``sub-``.
    space : str, default="MNI152NLin2009cAsym"
        Output space, as fMRIPrep is given it: with ``:res-2`` if there are several resolutions; ``func`` for images
        without a space.
    task : str, optional
        Only runs of this task; by default, of all tasks.

    Returns
    -------
    list of Run
        In the order of their names, numbers compared as numbers. Runs of a task of which no run has events (rest) have
        no events.

    Raises
    ------
    SourceError
        If there is no run in this space, a run has no events although others of its task have, or several files
        could be meant.
    """
    images = _images(derivatives, subject, space, task)
    events = _levels(raw, subject, "events", ".tsv")
    sidecars = _levels(raw, subject, "bold", ".json")
    found = []
    for bold, name in images:
        applicable = _applicable(name, events)
        if len(applicable) > 1 and _rank(applicable[0], raw) == _rank(applicable[1], raw):
            raise SourceError(
                f"two events files apply to {bold.name}", found=f"{applicable[0]} and {applicable[1]}",
                todo="remove one of them",
            )  # fmt: skip
        found.append(
            Run(
                bold,
                applicable[0] if applicable else None,
                _beside(bold, name, _CONFOUNDS, (".tsv",)),
                tuple(_applicable(name, sidecars)),
                mask=_beside(
                    bold, name, (("brain", "mask"), ("", "bold_brainmask")), (".nii.gz", ".nii"), in_space=True
                ),
            )
        )
    tasks = {name.entities.get("task", "") for run, (_, name) in zip(found, images, strict=True) if run.events}
    for run, (bold, name) in zip(found, images, strict=True):
        if run.events is None and (not tasks or task or name.entities.get("task", "") in tasks):
            raise SourceError(
                f"{bold.name} has no events",
                wanted=f"an events.tsv in {raw} whose entities are in the name of the run, such as "
                f"{_shown(name.without((*_DERIVED, *_ECHOES)))}_events.tsv",
                todo="fetch it, or choose the runs with `task`",
            )
    return found


def _images(derivatives: Path, subject: str, space: str, task: str) -> list[tuple[Path, Name]]:
    folder = derivatives / f"sub-{subject}"
    files = [*folder.glob("func/*.nii*"), *folder.glob("ses-*/func/*.nii*")]
    named = sorted(((path, name_of(path)) for path in files), key=lambda one: _by_number(one[0]))
    preprocessed = [one for one in named if _is_preprocessed(one[1])]
    output, *more = space.split(":")
    wanted = {"space": "" if output == NATIVE else output} | dict(item.split("-", 1) for item in more if "-" in item)
    found = [
        (path, name)
        for path, name in preprocessed
        if all(name.entities.get(key, "") == value for key, value in wanted.items())
        and task in ("", name.entities.get("task", ""))
    ]
    if not found:
        spaces = sorted({name.entities.get("space", NATIVE) for _, name in preprocessed})
        tasks = sorted({name.entities.get("task", "") for _, name in preprocessed})
        others = sorted(path.name for path in derivatives.glob("sub-*") if path.is_dir())
        raise SourceError(
            f"there are no runs of sub-{subject} in {derivatives}",
            wanted=f"sub-{subject}/**/func/*{'' if output == NATIVE else f'_space-{output}'}*_desc-preproc_bold.nii.gz"
            + (f", task {task}" if task else ""),
            found=f"spaces {', '.join(spaces)}; tasks {', '.join(tasks)}"
            if preprocessed
            else f"folders {', '.join(others[:5]) or 'of no subject'}",
        )
    seen: dict[tuple[tuple[str, str], ...], Path] = {}
    for path, name in found:
        key = tuple(sorted(name.without(("space", "res", "cohort")).items()))
        if key in seen:
            raise SourceError(
                f"a run of sub-{subject} is in the space {space} twice", found=f"{seen[key].name} and {path.name}",
                todo=f"name the resolution or cohort in `space`, such as {output}:res-2",
            )  # fmt: skip
        seen[key] = path
    return found


def _is_preprocessed(name: Name) -> bool:
    later = name.entities.get("desc") == "preproc" and name.suffix == "bold"
    return name.extension in (".nii.gz", ".nii") and (later or name.suffix == "bold_preproc")


def _levels(raw: Path, subject: str, suffix: str, extension: str) -> list[tuple[Path, Name]]:
    """Return the files of a kind that may apply to a subject's runs, nearest to the runs first."""
    own = raw / f"sub-{subject}"
    patterns = ((own, "ses-*/*/"), (own, "ses-*/"), (own, "*/"), (own, ""), (raw, ""))
    paths = [path for folder, levels in patterns for path in sorted(folder.glob(f"{levels}*{suffix}{extension}"))]
    named = ((path, name_of(path)) for path in dict.fromkeys(paths))
    found = [one for one in named if one[1].suffix == suffix and one[1].extension == extension]
    return sorted(found, key=lambda one: _rank(one[0], raw))


def _rank(path: Path, raw: Path) -> tuple[int, int]:
    return -len(path.relative_to(raw).parts), -len(name_of(path).without(_ECHOES))


def _applicable(name: Name, files: Iterable[tuple[Path, Name]]) -> list[Path]:
    """Return the files whose entities are all in the name of a run, nearest first."""
    return [path for path, one in files if one.without(_ECHOES).items() <= name.entities.items()]


def _beside(
    bold: Path, name: Name, kinds: Iterable[tuple[str, str]], extensions: tuple[str, ...], in_space: bool = False
) -> Path | None:
    """Return the file of the first of some kinds (description and suffix) that fMRIPrep wrote for a run."""
    ignored = ("desc",) if in_space else _DERIVED
    files = sorted(path for extension in extensions for path in bold.parent.glob(f"*{extension}"))
    named = [(path, name_of(path)) for path in files]
    for description, suffix in kinds:
        for path, one in named:
            is_kind = one.entities.get("desc", "") == description and one.suffix == suffix
            if is_kind and one.without(ignored) == name.without(ignored):
                return path
    return None


def _shown(entities: Mapping[str, str]) -> str:
    return "_".join(f"{key}-{value}" for key, value in entities.items())


def _by_number(path: Path) -> list[str | int]:
    """Return a key that sorts ``run-2`` before ``run-10``."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]
