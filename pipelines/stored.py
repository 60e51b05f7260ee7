"""The collected tables of a lake: stored answers of the agents, and proposals of triplets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from affectlake.errors import UsageError
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.versions import Manifest
from affectlake.lake.tables.contracts import contract
from affectlake.lake.tables.parts import part_files, scan_grown
from affectlake.triplets import MIN_JUDGMENTS, TRIPLET

GROWING = "responses"
"""The table of collected answers, to which rows are added; each agent has one output, ``responses/AGENT``."""

SESSIONS = "sessions"
"""The table of the sessions of people who were asked in a browser, to which rows are added as to `responses`."""

PROPOSED = "proposals"
"""The table of the triplets that `affectlake propose` proposes, to which one round at a time is added."""


@dataclass(frozen=True)
class Stored:
    """The agents that have stored answers.

    Parameters
    ----------
    collected : frozenset of str
        Agents that have stored answers; they need not be in ``params.yaml``.
    fittable : frozenset of str
        Agents with answers to at least `MIN_JUDGMENTS` trials of the main set. With fewer, there might be no held-out
        judgment.
    """

    collected: frozenset[str] = frozenset()
    fittable: frozenset[str] = frozenset()


NOTHING = Stored()
"""For a study without a lake, or a lake without answers."""


def stored(lake: Path) -> Stored:
    """Return the agents that have stored answers in a lake.

    An agent whose parts are not in the folder is assumed to have enough answers for an embedding.
    """
    agents = frozenset(output.partition for output in Manifest(lake, "").collected if output.table == GROWING)
    return Stored(agents, frozenset(agent for agent in agents if _fittable(_parts(lake, agent))))


def known_answers(lake: Path, agent: str) -> pl.LazyFrame | None:
    """Return the agent's stored rows; None if there are none."""
    parts = _parts(lake, agent)
    return scan_grown(parts, GROWING) if parts else None


def as_responses(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with the columns of `responses` that they lack, as null; ``shard`` is not added."""
    schema = pl.DataFrame(contract(GROWING).schema.empty_table()).schema
    missing = [name for name in schema if name not in rows.columns and name != "shard"]
    return rows.with_columns(pl.lit(None, dtype=schema[name]).alias(name) for name in missing)


def known_proposals(lake: Path, agent: str) -> pl.LazyFrame | None:
    """Return the proposals for the agent, of all rounds; None if there are none."""
    parts = _parts(lake, agent, PROPOSED)
    return scan_grown(parts, PROPOSED) if parts else None


def known_sessions(lake: Path, agent: str) -> pl.LazyFrame | None:
    """Return the published sessions of the agent's participants, of all shards; None if there are none."""
    parts = _parts(lake, agent, SESSIONS)
    return scan_grown(parts, SESSIONS) if parts else None


def last_proposed(lake: Path, agent: str, trial_set: str) -> pl.DataFrame:
    """Return the triplets of the last round of proposals, columns ``i, j, k``.

    Raises
    ------
    UsageError
        If no triplets of this trial set are proposed.
    """
    known = known_proposals(lake, agent)
    rows = None if known is None else known.filter(pl.col("round") == pl.col("round").max()).collect()
    if rows is None or trial_set not in rows["trial_set"]:
        raise UsageError(
            f"no triplets of the trial set {trial_set} are proposed for {agent}",
            allowed="main" if rows is not None else "",
            todo=f"propose triplets with `affectlake propose {agent}`, or collect without --proposed",
        )
    return rows.select("i", "j", "k")


def _parts(lake: Path, agent: str, table: str = GROWING) -> list[Path]:
    return part_files(lake / Output(table, agent).folder)


def _fittable(parts: list[Path]) -> bool:
    """Return whether enough trials and repeats have an answer; answers in several orders count once."""
    found = pl.DataFrame()
    for part in parts:
        rows = scan_grown([part], GROWING).filter((pl.col("trial_set") == "main") & pl.col("error_kind").is_null())
        found = pl.concat([found, rows.select(*TRIPLET, "repeat").collect()], how="diagonal").unique()
        if found.height >= MIN_JUDGMENTS:
            return True
    return not parts
