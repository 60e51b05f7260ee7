"""The report of one version: its tables, read where the cache keeps them, handed to :mod:`affectlake.report`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow.parquet as pq

from affectlake.brain.recordings.regions import regions
from affectlake.errors import UsageError
from affectlake.lake.files import layout
from affectlake.lake.files.git import git
from affectlake.lake.query import query
from affectlake.lake.store.known_hashes import whole_files
from affectlake.lake.store.versions import Manifest, Version, resolve
from affectlake.lake.tables.contracts import contract
from affectlake.pipelines.params.study import Params, parse
from affectlake.report import (
    BrainInputs,
    ReportInputs,
    VersionFacts,
    block_of,
    figure_files,
    make_volume,
    on_one_grid,
    render,
    render_comparison,
)
from affectlake.report.inputs import STRONGEST
from affectlake.report.order_effects import Compared, compared

WHOLE = ("stimuli", "ratings", "captions", "exclusions", "metrics", "embeddings", "layouts", "learning_curves")

THUMBNAIL_PIXELS = 128

_TRIALS = "SELECT trial_set, split, count(*) AS n_triplets FROM triplets GROUP BY ALL ORDER BY ALL"
_CHOICES = """
    SELECT agent, protocol, trial_set, CASE odd WHEN i THEN 1 WHEN j THEN 2 ELSE 3 END AS position,
           count(*) AS n_choices, count(*) FILTER (WHERE tied) AS n_tied
    FROM choices GROUP BY ALL ORDER BY ALL
"""


def write_report(lake: Path, at: str = "", target: Path | None = None, *, pictures: bool = True) -> Path:
    """Write the HTML report of a version and return its path.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    at : str
        The version; the latest when empty.
    target : Path, optional
        Where to write it; ``storage/reports/VERSION.html`` by default.
    pictures : bool
        Whether frames of videos may be in it; without, captions stand in their place.
    """
    version = resolve(lake, at)
    path = target or lake / layout.REPORTS / f"{version.name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = gather(lake, version)
    path.write_text(render(found if pictures else replace(found, thumbnails={})), encoding="utf-8")
    return path


def write_figures(lake: Path, at: str = "", target: Path | None = None) -> list[Path]:
    """Write every figure of a version's report as SVG, PNG and PDF files, with the numbers behind each as CSV.

    Parameters
    ----------
    lake, at
        As in :func:`write_report`.
    target : Path, optional
        The folder; ``storage/reports/VERSION-figures`` by default.
    """
    version = resolve(lake, at)
    return figure_files(gather(lake, version), target or lake / layout.REPORTS / f"{version.name}-figures")


def write_comparison(lake: Path, before: str, after: str, target: Path | None = None) -> Path:
    """Write the page that sets two versions beside each other and return its path.

    Parameters
    ----------
    before, after : str
        The versions.
    target : Path, optional
        Where to write it; ``storage/reports/BEFORE-AFTER.html`` by default.
    """
    old, new = resolve(lake, before), resolve(lake, after)
    path = target or lake / layout.REPORTS / f"{old.name}-{new.name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_comparison(gather(lake, old), gather(lake, new)), encoding="utf-8")
    return path


class Positions(NamedTuple):
    """Which positions the chat agents of a version choose.

    Attributes
    ----------
    rows : list of Compared
        One for each agent, protocol and trial set.
    silent : list of str
        Chat agents of the version's parameters that have no choices.
    """

    rows: list[Compared]
    silent: list[str]


def positions(lake: Path, at: str = "") -> Positions:
    """Return which positions the chat agents of a version choose, from its table ``order_effects``.

    Raises
    ------
    UsageError
        No chat agent has choices in that version.
    """
    version = resolve(lake, at)
    effects = _table(lake, version, "order_effects", Manifest(lake, version.commit).tables())
    chat = [name for name, agent in params_at(lake, version).agents.items() if agent.kind == "chat"]
    if not len(effects):
        raise UsageError(
            f"no chat agent has choices in {version.name}",
            found=f"chat agents in its params.yaml: {', '.join(chat) or 'none'}",
            todo=f"ask one: `affectlake collect {chat[0] if chat else 'AGENT'}`, then `affectlake run`",
        )
    rows = compared(effects, chat)
    return Positions(rows, sorted(set(chat) - {row.agent for row in rows}))


def gather(lake: Path, version: Version, *, pictures: bool = True, brain: bool = True) -> ReportInputs:
    """Return everything the report of `version` shows, from the tables of that version alone.

    Parameters
    ----------
    pictures, brain : bool
        Whether frames of videos, and maps of the brain, are read.
    """
    manifest = Manifest(lake, version.commit)
    params = params_at(lake, version)
    present = manifest.tables()
    whole = {name: _table(lake, version, name, present) for name in WHOLE}
    return ReportInputs(
        title="How do emotions differ?",
        study=params.study,
        synthetic=params.sources.kind == "synthetic",
        version=VersionFacts(
            name=version.name,
            commit=version.commit,
            created_iso=version.created,
            author=version.author,
            code_version=version.code_version,
            message=version.changes,
        ),
        params=params.raw,
        tables=table_sizes(manifest),
        trial_counts=query(lake, _TRIALS, version.name).pl(),
        choice_counts=query(lake, _CHOICES, version.name).pl(),
        analyses=_Tables(lake, version, present),
        thumbnails=_thumbnails(lake, version) if pictures and {"frames", "layouts"} <= set(present) else {},
        brain=_brain(lake, version) if brain and "group_stats" in present else None,
        **whole,
    )


class _Tables(Mapping[str, pl.DataFrame]):
    """The tables of a version by name, each read when a figure first asks for it."""

    def __init__(self, lake: Path, version: Version, present: dict[str, list[str]]) -> None:
        self._lake, self._version, self._present = lake, version, present
        self._read: dict[str, pl.DataFrame] = {}

    def __getitem__(self, name: str) -> pl.DataFrame:
        if name not in self._present:
            contract(name)  # a name that no version can have is an error, not a missing table
            raise KeyError(name)
        if name not in self._read:
            self._read[name] = _table(self._lake, self._version, name, self._present)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._present)

    def __len__(self) -> int:
        return len(self._present)


# the middle frame of each stimulus that is among the strongest of a dimension of a fit that is shown
_FRAMES = """
    WITH shown AS (SELECT DISTINCT agent, seed FROM layouts),
         ranked AS (
             SELECT stimulus_index,
                    row_number() OVER (PARTITION BY agent, dimension ORDER BY weight DESC, stimulus_index) AS place
             FROM embeddings JOIN shown USING (agent, seed))
    SELECT stimulus_index, jpeg FROM frames JOIN videos USING (stimulus_index)
    WHERE frame_index = n_frames // 2 AND stimulus_index IN (SELECT stimulus_index FROM ranked WHERE place <= {top})
    ORDER BY ALL
"""


def _thumbnails(lake: Path, version: Version) -> dict[int, bytes]:
    from PIL import Image

    found = {}
    for index, jpeg in query(lake, _FRAMES.format(top=STRONGEST), version.name).fetchall():
        image = Image.open(BytesIO(jpeg))
        image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
        small = BytesIO()
        image.save(small, "JPEG", quality=75)
        found[index] = small.getvalue()
    return found


_MAPS = """
    SELECT agent, method, voxel_index, value FROM (
        SELECT agent, subject, basis, voxel_index, 'encoding' AS method, encoding_r AS value FROM encoding_maps
        UNION ALL SELECT agent, subject, basis, voxel_index, 'searchlight', rho FROM rsa_maps
    ) WHERE basis = 'embedding' AND subject = '{subject}' ORDER BY ALL
"""  # a subject's name is letters, digits, - and _
_N_MAPS = """
    SELECT (SELECT count(DISTINCT agent) FROM encoding_maps WHERE basis = 'embedding')
         + (SELECT count(DISTINCT agent) FROM rsa_maps WHERE basis = 'embedding') AS n
"""


def _brain(lake: Path, version: Version) -> BrainInputs:
    def rows(sql: str) -> pl.DataFrame:
        found: pl.DataFrame = query(lake, sql, version.name).pl()
        return found

    subjects = rows("SELECT subject, count(*) AS n FROM voxels GROUP BY subject ORDER BY subject")
    block = block_of(int(subjects["n"].sum()) * int(rows(_N_MAPS)["n"][0]))
    maps, volumes = pl.DataFrame(), []
    for at, name in enumerate(subjects["subject"]):
        own = rows(_MAPS.format(subject=name))
        maps = own if at == 0 else maps
        volumes.append(make_volume(name, rows(f"SELECT * FROM voxels WHERE subject = '{name}'"), own, block))
    return BrainInputs(
        scores=rows("SELECT * FROM roi_scores ORDER BY ALL"),
        stats=rows("SELECT * FROM group_stats ORDER BY ALL"),
        ceilings=rows("SELECT * FROM noise_ceilings ORDER BY ALL"),
        regions=tuple((one.key, one.group, one.name) for one in regions().values()),
        subject=str(subjects["subject"][0]),
        maps=maps,
        volumes=on_one_grid(volumes),
    )


def params_at(lake: Path, version: Version) -> Params:
    """Return the parameters that `version` was made with."""
    return parse(
        git(lake, "cat-file", "blob", f"{version.commit}:./{layout.PARAMS}"), f"{layout.PARAMS} of {version.name}"
    )


def table_sizes(manifest: Manifest) -> pl.DataFrame:
    """Return ``table, partition, n_rows, n_files, n_bytes, digest`` of every output of a version."""
    rows = []
    for output, digest in sorted(manifest.digests.items()):
        files = whole_files(manifest, output)
        table, _, partition = output.partition("/")
        n_bytes = sum(file.cached.stat().st_size for file in files)
        n_rows = sum(pq.read_metadata(file.cached).num_rows for file in files)
        rows.append((table, partition, n_rows, len(files), n_bytes, digest.removesuffix(".dir")))
    names = ["table", "partition", "n_rows", "n_files", "n_bytes", "digest"]
    return pl.DataFrame(rows, schema=names, orient="row")


def headlines(lake: Path, version: Version) -> list[str]:
    """Return the version's main numbers, one line per agent."""
    rows = query(lake, _HEADLINES, version.name).pl()
    return [
        f"{row['agent']}: held-out accuracy {row['accuracy']:.2%}, top-3 nearest centroid {row['top3']:.2%}, "
        f"{row['n_labelled']} of {row['n_dimensions']} dimensions with r > 0.95 to one rating"
        if row["top3"] is not None
        else f"{row['agent']}: held-out accuracy {row['accuracy']:.2%}"
        for row in rows.iter_rows(named=True)
    ]


# of each agent's fits, the one that its layout was drawn for: the lowest held-out loss
_HEADLINES = """
    WITH chosen AS (SELECT DISTINCT agent, seed FROM layouts),
         best AS (
             SELECT agent, dimension, max(value) AS r FROM metrics JOIN chosen USING (agent, seed)
             WHERE analysis = 'rating_correlation' GROUP BY ALL),
         labels AS (
             SELECT agent, count(*) AS n_dimensions, count(*) FILTER (WHERE r > 0.95) AS n_labelled
             FROM best GROUP BY agent)
    SELECT agent,
           max(value) FILTER (WHERE analysis = 'held_out' AND measure = 'accuracy') AS accuracy,
           max(value) FILTER (WHERE analysis = 'nearest_centroid' AND measure = 'top3_accuracy') AS top3,
           any_value(n_labelled) AS n_labelled, any_value(n_dimensions) AS n_dimensions
    FROM metrics JOIN chosen USING (agent, seed) JOIN labels USING (agent) GROUP BY agent ORDER BY agent
"""


def _table(lake: Path, version: Version, name: str, present: dict[str, list[str]]) -> pl.DataFrame:
    if name not in present:
        return pl.DataFrame(contract(name).schema.empty_table())
    rows: pl.DataFrame = query(lake, f"SELECT * FROM {name}", version.name).pl()
    schema = pl.DataFrame(contract(name).schema.empty_table()).schema
    older = [pl.lit(None, kind).alias(column) for column, kind in schema.items() if column not in rows.columns]
    return rows.with_columns(older)
