"""The report of a version: read its tables from the cache, and render them with :mod:`affectlake.report`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from affectlake.errors import UsageError, VersionError, nearest
from affectlake.judge.responses.quality import quality
from affectlake.lake.files import layout
from affectlake.lake.store.known_hashes import whole_files
from affectlake.lake.store.versions import Manifest, Version, resolve
from affectlake.lake.tables.contracts import contracts
from affectlake.lake.tables.derived import headline
from affectlake.lake.tables.scanning import contract_version_of, n_rows_of
from affectlake.pipelines.outputs.brain_inputs import brain_inputs
from affectlake.pipelines.outputs.prototype_rsms import PrototypeRsms
from affectlake.pipelines.outputs.restricted import restricted
from affectlake.pipelines.outputs.version_tables import VersionTables
from affectlake.pipelines.params.record import record_at
from affectlake.pipelines.steps.easy_trials import EasyScore
from affectlake.report import (
    ReportInputs,
    VersionFacts,
    figure_files,
    render,
    render_comparison,
)
from affectlake.report.columns import COLUMNS
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
_POSITIONS = """
    SELECT agent, measure, value, n FROM order_effects
    WHERE measure IN ('chosen_first', 'chosen_second', 'chosen_third') AND value IS NOT NULL ORDER BY ALL
"""
_CHOSEN = {"chosen_first": 1, "chosen_second": 2, "chosen_third": 3}
_UNREAD = "SELECT agent, unparsed_reason, count(*) AS n FROM unparsed GROUP BY ALL ORDER BY ALL"
_EASY = (
    "SELECT agent, value, n, ci_low, ci_high, p_value FROM easy_scores WHERE n > 0 AND value IS NOT NULL ORDER BY ALL"
)
_ANCHORED = """
    SELECT agent, protocol, trial_set, NULL AS position, count(*) AS n_choices, 0 AS n_tied
    FROM anchored_choices GROUP BY ALL ORDER BY ALL
"""


FOR_MYSELF = "-for-myself"
"""End of the name of a page or folder that has content that may not be republished."""


def write_report(
    lake: Path,
    at: str | Version = "",
    target: Path | None = None,
    *,
    pictures: bool = True,
    for_myself: bool = False,
) -> Path:
    """Write the HTML report of a version and return its path.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    at : str or Version
        The version; if empty, the latest one.
    target : Path, optional
        Path of the report; by default, ``storage/reports/VERSION.html``, or ``VERSION-for-myself.html``.
    pictures : bool
        Whether to include frames of videos; otherwise captions are shown instead.
    for_myself : bool
        Whether to include what may not be republished (:mod:`affectlake.pipelines.outputs.restricted`); the page then
        has a notice.

    Returns
    -------
    Path
        Path of the report.
    """
    version = resolve(lake, at)
    path = target or lake / layout.REPORTS / f"{version.name}{FOR_MYSELF if for_myself else ''}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = gather(lake, version, for_myself=for_myself)
    path.write_text(render(found if pictures else replace(found, thumbnails={}, map_frames={})), encoding="utf-8")
    return path


def write_figures(
    lake: Path, at: str | Version = "", target: Path | None = None, *, for_myself: bool = False
) -> list[Path]:
    """Write every figure of a version's report as SVG, PNG and PDF files, with the numbers behind each as CSV.

    Parameters
    ----------
    lake, at, for_myself
        As for :func:`write_report`.
    target : Path, optional
        Folder of the files; by default, ``storage/reports/VERSION-figures``, or ``VERSION-for-myself-figures``.

    Returns
    -------
    list of Path
        Paths of the files.
    """
    version = resolve(lake, at)
    name = f"{version.name}{FOR_MYSELF if for_myself else ''}-figures"
    return figure_files(gather(lake, version, for_myself=for_myself), target or lake / layout.REPORTS / name)


def write_comparison(lake: Path, before: str, after: str, target: Path | None = None) -> Path:
    """Write a page that compares two versions and return its path.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    before, after : str
        Names of the versions.
    target : Path, optional
        Path of the page; by default, ``storage/reports/BEFORE-AFTER.html``.

    Returns
    -------
    Path
        Path of the page.
    """
    old, new = resolve(lake, before), resolve(lake, after)
    path = target or lake / layout.REPORTS / f"{old.name}-{new.name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_comparison(gather(lake, old), gather(lake, new)), encoding="utf-8")
    return path


class Positions(NamedTuple):
    """The positions that the chat agents of a version choose.

    Attributes
    ----------
    rows : list of Compared
        One row per agent, protocol and trial set.
    without_choices : list of str
        Chat agents of the version's parameters that have no choices.
    """

    rows: list[Compared]
    without_choices: list[str]


def positions(lake: Path, at: str | Version = "") -> Positions:
    """Return the positions that the chat agents of a version choose, from its table ``order_effects``.

    Raises
    ------
    UsageError
        If no chat agent has choices in the version.
    VersionError
        If the table does not have the columns that are needed.
    """
    version = resolve(lake, at)
    tables = VersionTables(lake, version, {"order_effects": COLUMNS["order_effects"]})
    effects = tables.table("order_effects")
    chat = record_at(lake, version).asked_agents
    if tables.unread and not len(effects):
        raise VersionError(
            f"the positions chosen in {version.name} cannot be read",
            found="; ".join(tables.shortcomings),
            todo=f'see its columns with `affectlake query "SELECT * FROM order_effects" --at {version.name}`',
        )
    if not len(effects):
        raise UsageError(
            f"no chat agent has choices in {version.name}",
            found=f"chat agents in its params.yaml: {', '.join(chat) or 'none'}",
            todo=f"collect answers with `affectlake collect {chat[0] if chat else 'AGENT'}`, then `affectlake run`",
        )
    rows = compared(effects, chat)
    return Positions(rows, sorted(set(chat) - {row.agent for row in rows}))


def gather(
    lake: Path, version: Version, *, pictures: bool = True, brain: bool = True, for_myself: bool = False
) -> ReportInputs:
    """Return the inputs of the report of `version`, from the tables of that version.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    version : Version
        The version.
    pictures, brain : bool
        Whether to read frames of videos, and brain maps.
    for_myself : bool
        Whether to read what may not be republished.

    Returns
    -------
    ReportInputs
        The inputs.
    """
    params = record_at(lake, version)
    unshareable = restricted(lake, version)
    tables = VersionTables(lake, version, hidden={} if for_myself else unshareable)
    present, sizes = tables.present, table_sizes(tables.manifest)
    return ReportInputs(
        study=params.text("study"),
        synthetic=params.text("sources.kind") == "synthetic",
        version=VersionFacts(
            name=version.name,
            commit=version.commit,
            created_iso=version.created,
            author=version.author,
            code_version=version.code_version,
            message=version.changes,
        ),
        params=params.raw,
        tables=sizes,
        is_todays=_is_current(sizes),
        trial_counts=tables.rows(_TRIALS),
        choice_counts=pl.concat([tables.rows(_CHOICES), tables.rows(_ANCHORED)], how="vertical_relaxed"),
        verdicts=_verdicts(tables),
        representatives=tables.rows(_REPRESENTATIVES),
        analyses=_Analyses(tables),
        thumbnails=_thumbnails(tables) if pictures else {},
        map_frames=_map_frames(tables) if pictures and "saliency" in present else {},
        rsms=PrototypeRsms(tables, params, _REPRESENTATIVES),
        brain=brain_inputs(tables, params, _REPRESENTATIVES) if brain and "group_stats" in present else None,
        unshareable=tuple(str(one) for one in unshareable.values() if one.table in COLUMNS),
        for_myself=for_myself,
        left_out=(*([f"params.yaml: {params.unreadable}"] if params.unreadable else []), *tables.shortcomings),
        **{name: tables.table(name) for name in WHOLE},
    )


def _verdicts(tables: VersionTables) -> dict[str, str]:
    """Return what is wrong with the answers of agents, in words; agents whose answers are usable are left out."""
    positions: dict[str, Counter[int]] = {}
    for agent, measure, value, n in tables.rows(_POSITIONS).iter_rows():
        positions.setdefault(agent, Counter())[_CHOSEN[measure]] += round(value * n)
    asked = tables.rows("SELECT DISTINCT agent, protocol FROM choices WHERE protocol IS NOT NULL ORDER BY ALL")
    weighs = {agent for agent, protocol in asked.iter_rows() if _weighs(protocol)}
    unread: dict[str, Counter[str]] = {}
    for agent, reason, n in tables.rows(_UNREAD).iter_rows():
        unread.setdefault(agent, Counter())[reason or "unknown"] += n
    found = {
        agent: [quality(positions.get(agent, {}), unread.get(agent, {}), weighs=agent in weighs).verdict]
        for agent in sorted({*positions, *unread})
    }
    for agent, value, n, *tested in tables.rows(_EASY).iter_rows():
        if None not in tested:  # a version may lack these columns
            found.setdefault(agent, []).append(EasyScore(n, round(value * n), *tested).verdict)
    return {agent: "; it ".join(filter(None, verdicts)) for agent, verdicts in found.items() if any(verdicts)}


def _weighs(protocol: str) -> bool:
    """Return whether choices were made from probabilities, by the name of the protocol in a table of choices."""
    return any(way == "calibrated" or way.startswith("orders-") for way in protocol.split("/"))


# the representative fit of each agent; in versions without the table of fits, the fit of its layout
_REPRESENTATIVES = """
    SELECT agent, seed FROM fits WHERE representative
    UNION SELECT agent, seed FROM layouts WHERE agent NOT IN (SELECT agent FROM fits WHERE representative)
    ORDER BY ALL
"""


class _Analyses(Mapping[str, pl.DataFrame]):
    """The tables of a version by name, each read at the first access."""

    def __init__(self, tables: VersionTables) -> None:
        self._tables = tables
        self._read: dict[str, pl.DataFrame] = {}

    def __getitem__(self, name: str) -> pl.DataFrame:
        if name not in COLUMNS:
            raise UsageError(
                f"{name!r} is not a table that the report reads",
                allowed=", ".join(COLUMNS),
                todo=nearest(name, COLUMNS) or "add it to report/columns.py",
            )
        if name not in self._tables.present:
            raise KeyError(name)
        if name not in self._read:
            self._read[name] = self._tables.table(name)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(name for name in COLUMNS if name in self._tables.present)

    def __len__(self) -> int:
        return sum(1 for _ in self)


# the middle frame of each stimulus with one of the largest weights on a dimension of a representative fit
_FRAMES = """
    WITH shown AS ({shown}),
         ranked AS (
             SELECT stimulus_index,
                    row_number() OVER (PARTITION BY agent, dimension ORDER BY weight DESC, stimulus_index) AS place
             FROM embeddings JOIN shown USING (agent, seed))
    SELECT stimulus_index, jpeg FROM frames JOIN videos USING (stimulus_index)
    WHERE frame_index = n_frames // 2 AND jpeg IS NOT NULL
          AND stimulus_index IN (SELECT stimulus_index FROM ranked WHERE place <= {top})
    ORDER BY ALL
"""


# the frame of the largest value of each stimulus and dimension that has a map on the page
_MAP_FRAMES = """
    WITH best AS (
        SELECT stimulus_index, frame_index,
               row_number() OVER (
                   PARTITION BY agent, dimension, stimulus_index ORDER BY frame_value DESC, frame_index) AS place
        FROM saliency WHERE chosen_by <> 'stimulus')
    SELECT stimulus_index, frame_index, jpeg FROM frames
    WHERE jpeg IS NOT NULL AND (stimulus_index, frame_index) IN (
        SELECT (stimulus_index, frame_index) FROM best WHERE place = 1)
    ORDER BY ALL
"""


def _map_frames(tables: VersionTables) -> dict[tuple[int, int], bytes]:
    return {(index, frame): jpeg for index, frame, jpeg in tables.rows(_MAP_FRAMES).iter_rows()}


def _thumbnails(tables: VersionTables) -> dict[int, bytes]:
    from PIL import Image

    found, n_unknown = {}, 0
    for index, picture in tables.rows(_FRAMES.format(top=STRONGEST, shown=_REPRESENTATIVES)).iter_rows():
        try:
            image = Image.open(BytesIO(picture))
            image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
        except OSError:
            n_unknown += 1
            continue
        small = BytesIO()
        (image if image.mode in ("L", "RGB") else image.convert("RGB")).save(small, "WEBP", quality=40, method=6)
        found[index] = small.getvalue()
    if n_unknown:
        tables.unread["frames"] = f"{n_unknown:,} images have a format that cannot be shown"
    return found


def table_sizes(manifest: Manifest) -> pl.DataFrame:
    """Return ``table, partition, n_rows, n_files, n_bytes, digest, contract`` of every output of a version.

    `contract` lists the versions of the contracts under which the files were written.
    """
    rows = []
    for output, digest in sorted(manifest.digests.items()):
        files = whole_files(manifest, output)
        n_rows = sum(n_rows_of(file.cached) for file in files)
        n_bytes = sum(file.cached.stat().st_size for file in files)
        known = sorted({contract_version_of(file.cached, "none") for file in files})
        name = digest.removesuffix(".dir")
        rows.append((output.table, output.partition, n_rows, len(files), n_bytes, name, ", ".join(known)))
    names = ["table", "partition", "n_rows", "n_files", "n_bytes", "digest", "contract"]
    return pl.DataFrame(rows, schema=names, orient="row")


def _is_current(sizes: pl.DataFrame) -> bool:
    """Return whether all tables of the report were written under the current contracts."""
    current = {name: str(known.version) for name, known in contracts().items() if name in COLUMNS}
    found = sizes.filter(pl.col("table").is_in(list(COLUMNS))).select("table", "contract")
    return all(current.get(table) == contract for table, contract in found.iter_rows())


def headlines(lake: Path, version: Version) -> list[str]:
    """Return the version's main numbers, one line per agent."""
    read = {name: COLUMNS[name] for name in ("metrics", "fits", "layouts")}
    tables = VersionTables(lake, version, read)
    rows = tables.rows(headline("metrics", _REPRESENTATIVES))
    known = "fits" in tables.present
    moving = set(tables.rows(_MOVING)["agent"]) if known else set()
    lines = [_headline(row, row["agent"] in moving) for row in rows.iter_rows(named=True)]
    failed = tables.rows(_FAILED).iter_rows() if known else ()
    return lines + [f"{agent}: no embedding: {note}" for agent, note in failed]


def _headline(row: Mapping[str, Any], moving: bool) -> str:
    numbers = [f"held-out accuracy {_percent(row['accuracy'])}"]
    if row["top3"] is not None:
        numbers.append(f"top-3 nearest centroid {_percent(row['top3'])}")
    if row["n_dimensions"]:
        numbers.append(f"{row['n_labelled']} of {row['n_dimensions']} dimensions with r > 0.95 to one rating")
    if moving:
        numbers.append("fit not converged")
    return f"{row['agent']}: {', '.join(numbers)}"


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{share:.2%}"


# the agents whose representative fit ended before it converged
_MOVING = "SELECT agent FROM fits WHERE representative AND n_dimensions > 0 AND NOT converged"

# the agents of which no fit has a dimension
_FAILED = """
    SELECT agent, min(note) AS note FROM fits
    GROUP BY agent HAVING count(note) = count(*) AND max(n_dimensions) = 0 ORDER BY agent
"""
