"""What was collected in a lake: which agents have answers, or enough to be fitted, and what was proposed to ask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from affectlake.errors import UsageError
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.versions import Manifest
from affectlake.lake.tables.parts import part_files, scan_grown
from affectlake.triplets import MIN_JUDGMENTS

GROWING = "responses"
"""The table that grows; each agent's is one output, ``responses/AGENT``."""

PROPOSED = "proposals"
"""The table of what `affectlake propose` proposes; it grows as well, by one round at a time."""


@dataclass(frozen=True)
class Stored:
    """What was collected in a lake, which ``params.yaml`` does not contain.

    Parameters
    ----------
    collected : frozenset of str
        Agents that have stored answers, whether the file still names them or not.
    fittable : frozenset of str
        Those of them with `MIN_JUDGMENTS` answers or more to the main set: of fewer, none might be held out.
    """

    collected: frozenset[str] = frozenset()
    fittable: frozenset[str] = frozenset()


NOTHING = Stored()
"""Of a study without a lake, or of a lake without answers."""


def stored(lake: Path) -> Stored:
    """Return what was collected in a lake.

    An agent whose parts are not in the folder is taken to have enough answers for an embedding.
    """
    agents = frozenset(output.partition for output in Manifest(lake, "").collected if output.table == GROWING)
    return Stored(agents, frozenset(agent for agent in agents if _fittable(_parts(lake, agent))))


def known_answers(lake: Path, agent: str) -> pl.LazyFrame | None:
    """Return the agent's stored rows, or None if there are none."""
    parts = _parts(lake, agent)
    return scan_grown(parts, GROWING) if parts else None


def known_proposals(lake: Path, agent: str) -> pl.LazyFrame | None:
    """Return what was proposed to ask the agent, in every round, or None if nothing was."""
    parts = _parts(lake, agent, PROPOSED)
    return scan_grown(parts, PROPOSED) if parts else None


def last_proposed(lake: Path, agent: str, trial_set: str) -> pl.DataFrame:
    """Return the triplets of the last round of proposals, columns ``i, j, k``.

    Raises
    ------
    UsageError
        If nothing was proposed from this trial set.
    """
    known = known_proposals(lake, agent)
    rows = None if known is None else known.filter(pl.col("round") == pl.col("round").max()).collect()
    if rows is None or trial_set not in rows["trial_set"]:
        raise UsageError(
            f"nothing of the trial set {trial_set} is proposed for {agent}",
            allowed="main" if rows is not None else "",
            todo=f"let triplets be proposed: `affectlake propose {agent}`, or collect without --proposed",
        )
    return rows.select("i", "j", "k")


def _parts(lake: Path, agent: str, table: str = GROWING) -> list[Path]:
    return part_files(lake / Output(table, agent).folder)


def _fittable(parts: list[Path]) -> bool:
    found = 0
    for part in parts:
        rows = scan_grown([part], GROWING).filter((pl.col("trial_set") == "main") & pl.col("error_kind").is_null())
        found += int(rows.select(pl.len()).collect().item())
        if found >= MIN_JUDGMENTS:
            return True
    return not parts
