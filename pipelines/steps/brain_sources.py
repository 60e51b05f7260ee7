"""The recordings of a study: the reader of each kind of ``brain.sources``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from affectlake.brain.recordings import regions
from affectlake.brain.recordings.subjects import Recording
from affectlake.judge.vectors.ratings import rating_matrix
from affectlake.pipelines.params.brain import AtlasFiles, BDataBrains, ImageBrains, SeriesSet, SyntheticBrains
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import Tables
from affectlake.seeds import generator

if TYPE_CHECKING:
    from affectlake.brain.recordings.volumes import Atlas


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
        rated = [rating_matrix(ratings, len(ids), family).scores for family in ("category", "dimension")]
        rng = generator(params.seed, "brain", "synthetic")
        made = make_brains(rated[0], rated[1], ids, sources.n_subjects, sources.voxel_mm, rng)
        yield from sorted(made.recordings.items())
    elif isinstance(sources, BDataBrains):
        from affectlake.brain.recordings.bdata import read_bdata

        for name, path in sorted(sources.subjects.items()):
            yield name, read_bdata(lake / path, regions.needed_columns())
    elif isinstance(sources, ImageBrains):
        from affectlake.brain.recordings.volumes import Run, read_patterns, read_runs

        for name, files in sorted(sources.subjects.items()):
            if isinstance(files, SeriesSet):
                runs = [
                    Run(lake / one.bold, lake / one.events, lake / one.confounds if one.confounds else None)
                    for one in files.runs
                ]
                yield name, read_runs(runs, lake / files.mask, _atlas(lake, files.atlas))
            else:
                paths = lake / files.bold, lake / files.mask, lake / files.attributes
                yield name, read_patterns(*paths, _atlas(lake, files.atlas))
    else:
        from affectlake.brain.recordings.volumes import find_fmriprep, read_runs

        for name in sorted(sources.participants):
            runs = find_fmriprep(lake / sources.derivatives, lake / sources.raw, name, sources.space)
            yield name, read_runs(runs, lake / sources.mask, _atlas(lake, sources.atlas))


def _atlas(lake: Path, files: AtlasFiles | None) -> Atlas | None:
    from affectlake.brain.recordings.volumes import Atlas

    return Atlas(lake / files.image, lake / files.labels) if files else None
