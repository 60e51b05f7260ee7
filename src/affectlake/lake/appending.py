"""Tables that grow: the answers of an agent, one immutable part after another. No stage makes them.

In ``dvc.yaml`` such a table is the output of a *frozen* stage, ``collect@AGENT``, which DVC never runs: its content is
tracked, cached, versioned and pushed as every other's, and the stages that read it become stale when it grows. The
stage stands there as soon as the agent has an answer, and for as long as the lake has one: an agent that is taken out
of ``params.yaml`` keeps what it said. What an answer means is not decided here.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import polars as pl
import yaml

from affectlake.errors import ContractError
from affectlake.lake import layout
from affectlake.lake.contracts import contract
from affectlake.lake.parts import ROWS_PER_PART, part_files, scan, sync_folder, write_parts
from affectlake.lake.stages import record_done
from affectlake.lake.writing import Staged, say_unrecorded, validate_staged

GROWING = "responses"
"""The table that grows; each agent's is one output, ``responses/AGENT``."""

FROZEN_STAGE = "collect"
"""The frozen stage that an agent's answers belong to, ``collect@AGENT``."""


FEWEST_ANSWERS = 100
"""Fewer answers to the main set than this are not fitted: there might be none among those held out."""


class Appended(NamedTuple):
    """What came of adding rows: the new part (None if there was nothing new), rows added and rows known before."""

    part: Path | None
    n_added: int
    n_known: int


def stage_of(agent: str) -> str:
    """Return the name of the frozen stage of an agent's answers."""
    return f"{FROZEN_STAGE}@{agent}"


def collected(lake: Path) -> frozenset[str]:
    """Return the agents that have answers: a part in the folder, or an entry in ``dvc.lock``."""
    return frozenset(_in_lock(lake) | _in_folder(lake))


def fittable(lake: Path) -> frozenset[str]:
    """Return the agents of :func:`collected` with `FEWEST_ANSWERS` answers or more to the main set.

    One whose parts are not in the folder, only in ``dvc.lock``, is taken to have them.
    """
    return frozenset(agent for agent in collected(lake) if _fittable(part_files(_folder(lake, agent))))


def _fittable(parts: list[Path]) -> bool:
    found = 0
    for part in parts:
        rows = scan([part], GROWING).filter((pl.col("trial_set") == "main") & pl.col("error_kind").is_null())
        found += int(rows.select(pl.len()).collect().item())
        if found >= FEWEST_ANSWERS:
            return True
    return not parts


def _folder(lake: Path, agent: str) -> Path:
    return lake / layout.table_folder(f"{GROWING}/{agent}")


def _in_lock(lake: Path) -> set[str]:
    path = lake / layout.PIPELINE_LOCK
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    recorded = (yaml.load(text, yaml.CSafeLoader) or {}).get("stages", {})
    prefix = stage_of("")
    return {name.removeprefix(prefix) for name in recorded if name.startswith(prefix)}


def _in_folder(lake: Path) -> set[str]:
    folder = lake / layout.table_folder(GROWING)
    return {entry.name for entry in folder.iterdir() if part_files(entry)} if folder.is_dir() else set()


def append_answers(lake: Path, agent: str, rows: pl.DataFrame) -> Appended:
    """Add rows to an agent's answers as one new part; no part that is there changes.

    A row is left out if its question is answered already, or if it tells of the same failure again; so adding the same
    rows twice, as after a crash, changes nothing. The rows are in no version yet: :func:`record_answers` lets DVC keep
    them, then :func:`affectlake.lake.repository.publish` makes the version. Call it with the lake's writer lock held.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    agent : str
        Whose answers they are.
    rows : polars.DataFrame
        Columns of the table ``responses`` but ``shard``, which is the number of the part.

    Returns
    -------
    Appended

    Raises
    ------
    ContractError
        If the rows break the table's contract; they are then in quarantine. Or if they are too many for one part.
    """
    table, output = contract(GROWING), f"{GROWING}/{agent}"
    if rows.height > ROWS_PER_PART:
        raise ContractError(
            f"{rows.height:,} answers are too many for one part",
            allowed=f"{ROWS_PER_PART:,} rows",
            todo="add them in smaller pieces",
        )
    folder = _folder(lake, agent)
    parts = part_files(folder)
    new = _new(parts, rows.unique("request_key", keep="last", maintain_order=True))
    if new.is_empty():
        return Appended(None, 0, rows.height)
    shard = _number(parts[-1]) + 1 if parts else 0
    aside = lake / layout.STAGING / f"append-{agent}"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        frame = new.with_columns(shard=pl.lit(shard, dtype=pl.Int32))
        staged = Staged(output, table, write_parts(frame, table, aside / "new" / output))
        validate_staged(lake, stage_of(agent), [staged], {})
        say_unrecorded(lake, [staged])
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / f"part-{shard:05d}.parquet"
        staged.parts[0].rename(place)
        sync_folder(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Appended(place, new.height, rows.height - new.height)


def record_answers(lake: Path, agent: str) -> None:
    """Let DVC keep an agent's answers as they now are; ``dvc.yaml`` must have its frozen stage."""
    record_done(lake, stage_of(agent))


def finish_appends(lake: Path) -> list[str]:
    """Record answers that a crash left in place and unrecorded; return whose they are."""
    marks = lake / layout.UNRECORDED / GROWING
    there = _in_folder(lake)
    agents = sorted(agent for agent in there if (marks / agent).exists() or agent not in _in_lock(lake))
    for agent in agents:
        record_answers(lake, agent)
    return agents


def _new(parts: list[Path], rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that the parts do not say already."""
    if not parts:
        return rows
    said = ["request_key", "error_kind", "error_words", "attempts"]
    known = scan(parts, GROWING).join(rows.lazy().select("request_key"), on="request_key", how="semi").select(said)
    found = known.collect(engine="streaming")
    answered = found.filter(pl.col("error_kind").is_null()).select("request_key")
    left = rows.join(answered, on="request_key", how="anti")
    return left.join(found, on=said, how="anti", nulls_equal=True)


def _number(part: Path) -> int:
    return int(part.stem.removeprefix("part-"))
