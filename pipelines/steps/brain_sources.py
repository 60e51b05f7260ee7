"""The recordings of a study: the reader of each kind of ``brain.sources``, and the files that it reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from affectlake.brain.recordings import regions
from affectlake.brain.recordings.subjects import Recording
from affectlake.errors import SourceError, UsageError
from affectlake.judge.vectors.ratings import rating_matrix
from affectlake.pipelines.params.brain import (
    AtlasFiles,
    BDataBrains,
    FmriprepBrains,
    ImageBrains,
    ImageSet,
    SeriesSet,
    SyntheticBrains,
)
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import Tables
from affectlake.seeds import generator

if TYPE_CHECKING:
    from affectlake.brain.recordings.volumes import Atlas, Run


def recordings(tables: Tables, params: Params, lake: Path, ids: list[str]) -> Iterator[tuple[str, Recording]]:
    """Yield the recordings in ``brain.sources``, sorted by subject.

    Parameters
    ----------
    tables : mapping of str to polars.LazyFrame
        The table ``ratings``, from which subjects are simulated.
    params : Params
        The parameters of the study.
    lake : Path
        Root of the lake, to which paths are relative.
    ids : list of str
        Identifiers of the stimuli, in order.

    Yields
    ------
    tuple of (str, Recording)
        Name of a subject, and its recording.
    """
    assert params.brain is not None
    sources = params.brain.sources
    if isinstance(sources, SyntheticBrains):
        from affectlake.brain.recordings.synthetic import make_brains

        ratings = tables["ratings"].collect()
        if not {"category", "dimension"} <= set(ratings["family"].unique()):
            raise UsageError(
                "brains can only be simulated for the emotion study and the synthetic study",
                wanted="ratings of the families category and dimension",
                todo="set brain.sources to recordings, or remove the section brain",
            )
        rated = [rating_matrix(ratings, len(ids), family).scores for family in ("category", "dimension")]
        rng = generator(params.seed, "brain", "synthetic")
        made = make_brains(rated[0], rated[1], ids, sources.n_subjects, sources.voxel_mm, rng)
        yield from sorted(made.recordings.items())
    elif isinstance(sources, BDataBrains):
        from affectlake.brain.recordings.bdata import read_bdata

        for name, path in sorted(sources.subjects.items()):
            yield name, read_bdata(lake / path, regions.needed_columns())
    elif isinstance(sources, ImageBrains):
        from affectlake.brain.recordings.volumes import read_patterns, read_runs

        for name, files in sorted(sources.subjects.items()):
            atlas = _atlas(lake, files.atlas)
            if isinstance(files, SeriesSet):
                yield name, read_runs(_series(lake, files), lake / files.mask, atlas, ids, files.label_column)
            else:
                yield name, read_patterns(lake / files.bold, lake / files.mask, lake / files.attributes, atlas)
    else:
        yield from _of_fmriprep(sources, lake, ids)


def _of_fmriprep(sources: FmriprepBrains, lake: Path, ids: list[str]) -> Iterator[tuple[str, Recording]]:
    from affectlake.brain.recordings.volumes import read_runs

    for name in sorted(sources.participants):
        runs = _runs(sources, lake, name)
        without = [run.bold.name for run in runs if run.events and not run.confounds]
        if sources.motion and without:
            raise SourceError(
                f"{len(without):,} runs of sub-{name} have no confounds file",
                wanted="…_desc-confounds_timeseries.tsv (or the name in an earlier release) beside each image",
                found=", ".join(without[:3]),
                todo="fetch them, or set `motion: false` in brain.sources to regress out baseline and trend alone",
            )
        runs = runs if sources.motion else [run._replace(confounds=None) for run in runs]
        mask = sources.masks.get(name, sources.mask)
        atlas = _atlas(lake, sources.atlases.get(name, sources.atlas))
        yield name, read_runs(runs, lake / mask if mask else None, atlas, ids, sources.label_column)


def recording_files(params: Params, lake: Path | None, _agent: str = "") -> list[str]:
    """Return the files that the recordings are read from, as paths relative to the lake.

    Parameters
    ----------
    params : Params
        The parameters of the study.
    lake : Path or None
        Root of the lake; None: without the files that are found in the folders of fMRIPrep and of the data set.

    Returns
    -------
    list of str
        The files. Those of a participant whose runs cannot be found are left out, as are files whose content is not in
        this clone: the step reports them when it reads them.
    """
    sources = params.brain.sources if params.brain else None
    found: list[str] = []
    if isinstance(sources, BDataBrains):
        found = list(sources.subjects.values())
    elif isinstance(sources, ImageBrains):
        found = [path for files in sources.subjects.values() for path in _named(files, lake)]
    elif isinstance(sources, FmriprepBrains):
        found = _of_participants(sources, lake)
    return [path for path in found if lake is None or not _is_dangling(lake / path)]


def _is_dangling(path: Path) -> bool:
    """Return whether a path is a link without a target, as files of DataLad whose content was not fetched."""
    return path.is_symlink() and not path.exists()


def _named(files: ImageSet | SeriesSet, lake: Path | None) -> list[str]:
    """Return the files of one subject: those in ``params.yaml``, and the sidecars beside them."""
    atlas = [files.atlas.image, files.atlas.labels] if files.atlas else []
    if isinstance(files, ImageSet):
        return [files.bold, files.mask, files.attributes, *atlas]
    named = [path for one in files.runs for path in (one.bold, one.events, one.confounds) if path]
    read = [path for run in _series(lake, files) for path in run.files()] if lake else []
    sidecars = [_relative(path, lake) for path in read if path.suffix == ".json"] if lake else []
    return [*named, *sidecars, files.mask, *atlas]


def _of_participants(sources: FmriprepBrains, lake: Path | None) -> list[str]:
    masks = [path for path in (sources.mask, *sources.masks.values()) if path]
    atlases = [path for one in (sources.atlas, *sources.atlases.values()) if one for path in (one.image, one.labels)]
    if lake is None:
        return [*masks, *atlases]
    read: list[Path] = []
    for name in sorted(sources.participants):
        try:
            runs = [run for run in _runs(sources, lake, name) if run.events]
        except SourceError:
            continue
        own_mask = sources.masks.get(name, sources.mask) is None
        for run in runs:
            mask, confounds = run.mask if own_mask else None, run.confounds if sources.motion else None
            read += run._replace(mask=mask, confounds=confounds).files()
    return [*(_relative(path, lake) for path in read), *masks, *atlases]


def _relative(path: Path, lake: Path) -> str:
    """Return a path below a folder of ``params.yaml`` as it would be written there."""
    if path.is_absolute() and lake not in path.parents:
        return path.as_posix()
    return Path(os.path.relpath(path, lake)).as_posix()


def _runs(sources: FmriprepBrains, lake: Path, name: str) -> list[Run]:
    from affectlake.brain.recordings.bids import find_fmriprep

    runs = find_fmriprep(lake / sources.derivatives, lake / sources.raw, name, sources.space, sources.task)
    return [run._replace(repetition_time_s=sources.repetition_time_s) for run in runs]


def _series(lake: Path | None, files: SeriesSet) -> list[Run]:
    from affectlake.brain.recordings.runs import Run

    root = lake or Path()
    return [
        Run(
            root / one.bold,
            root / one.events,
            root / one.confounds if one.confounds else None,
            repetition_time_s=one.repetition_time_s,
        )
        for one in files.runs
    ]


def _atlas(lake: Path, files: AtlasFiles | None) -> Atlas | None:
    from affectlake.brain.recordings.atlases import Atlas

    return Atlas(lake / files.image, lake / files.labels) if files else None
