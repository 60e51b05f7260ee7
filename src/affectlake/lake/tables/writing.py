"""Write tables: stage, flush and validate them, then rename them into place or move them to quarantine.

A step's outputs are staged and placed together: if one of them breaks its contract, none of them replaces an existing
table. Versions (Git and DVC) are not made here; see :mod:`~affectlake.lake.repository`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl

from affectlake.errors import ContractError
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import sync_folder
from affectlake.lake.files.names import own_path
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.unrecorded import mark_unrecorded
from affectlake.lake.tables import expectations, rules
from affectlake.lake.tables.contracts import Contract, contract
from affectlake.lake.tables.parts import part_files, scan, scan_grown, write_parts


class Staged(NamedTuple):
    """One staged output: its contract and parts."""

    output: Output
    table: Contract
    parts: list[Path]


def write_outputs(
    lake: Path, step: str, frames: Mapping[Output, pl.DataFrame], others: Mapping[str, pl.LazyFrame]
) -> int:
    """Validate and place the outputs of one step: all of them or none.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    step : str
        Name of the step, for the staging folder and for messages.
    frames : mapping of Output to polars.DataFrame
        Rows by output.
    others : mapping of str to polars.LazyFrame
        Tables, by name, that references point at and that this step does not write.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    ContractError
        If a table breaks its contract. Its rows are then in quarantine with a report of what broke.
    LakeError
        If a symbolic link leads out of the folder of tables, or the name of an output is not legal.
    """
    aside = own_path(lake, layout.STAGING / step)
    targets = {output: own_path(lake, output.folder) for output in frames}
    shutil.rmtree(aside, ignore_errors=True)
    staged: list[Staged] = []
    try:
        for output, frame in frames.items():
            table = contract(output.table)
            staged.append(Staged(output, table, write_parts(frame, table, aside / "new" / output.path)))
        refuse_broken(lake, step, staged, others)
        for one in staged:
            mark_unrecorded(lake, one.output)
        for one in staged:
            _replace(aside, one.output, targets[one.output])
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return sum(frame.height for frame in frames.values())


def refuse_broken(
    lake: Path,
    step: str,
    staged: list[Staged],
    others: Mapping[str, pl.LazyFrame],
    earlier: pl.LazyFrame | None = None,
) -> None:
    """Raise :class:`ContractError`, and move the staged tables to quarantine, if one of them breaks its contract.

    `earlier` are existing rows to which the staged rows are to be added.
    """
    known = dict(others) | {one.table.name: scan(one.parts, one.table.name) for one in staged}
    failures: list[rules.Failure] = []
    for one in staged:
        failures += expectations.validate(one.table, one.parts) + rules.check(one.table, one.parts, known, earlier)
    if failures:
        place = _quarantine(lake, step, staged, failures)
        raise ContractError(
            f"{step}: {failures[0].table} breaks its contract; nothing was published",
            found="\n         ".join(map(str, failures[:5])),
            wanted=f"schemas/tables/{failures[0].table}.yaml",
            todo=f"see the rows and the full report in {place.relative_to(lake)}",
        )


def _quarantine(lake: Path, step: str, staged: list[Staged], failures: list[rules.Failure]) -> Path:
    """Move the staged parts to quarantine, with a report in Markdown and Great Expectations' Data Docs."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    place = lake / layout.QUARANTINE / f"{stamp}-{step}"
    place.mkdir(parents=True)
    for one in staged:
        broken = [part for part in one.parts if (one.table.name, part.name) in {(f.table, f.part) for f in failures}]
        if broken:
            page = expectations.data_docs(one.table, broken[0])
            (place / f"data-docs-{one.table.name}.html").write_text(page, encoding="utf-8")
        target = place / one.output.path
        target.parent.mkdir(parents=True, exist_ok=True)
        one.parts[0].parent.rename(target)
    lines = [f"# {step}: not published, {stamp}", "", "| table | part | columns | rule | rows | examples |"]
    lines += ["|---|---|---|---|---|---|"]
    for f in failures:
        cells = (f.table, f.part, ", ".join(f.columns), f.rule, f"{f.n_failed:,}", "; ".join(f.examples))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    (place / "account.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return place


def _replace(aside: Path, output: Output, target: Path) -> None:
    """Replace `target` by the staged folder. After a crash between the two renames it is missing, never mixed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        old = aside / "old" / output.path
        old.parent.mkdir(parents=True, exist_ok=True)
        target.rename(old)
    (aside / "new" / output.path).rename(target)
    sync_folder(target.parent)


def read_output(lake: Path, output: Output) -> pl.LazyFrame:
    """Open an output of the working tables and check its contract; collected outputs may have older contracts.

    Raises
    ------
    ContractError
        If a part is missing, truncated or has another schema.
    """
    paths = part_files(lake / output.folder)
    if not paths:
        raise ContractError(
            f"{output} does not exist", found=f"no parts in {output.folder}", todo="run `affectlake run`"
        )
    opened = scan_grown if (lake / output.pointer).exists() else scan
    return opened(paths, output.table)
