"""Which agents have stored answers in a lake, and enough of them to be fitted. Answers are not read here."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from affectlake.lake import layout
from affectlake.lake.parts import part_files, scan
from affectlake.lake.versions import Manifest

GROWING = "responses"
"""The table that grows; each agent's is one output, ``responses/AGENT``."""

FEWEST_ANSWERS = 100
"""Fewer answers to the main set than this are not fitted: there might be none among those held out."""


def collected(lake: Path) -> frozenset[str]:
    """Return the agents that have answers, whether ``params.yaml`` still names them or not."""
    outputs = (output.partition("/") for output in Manifest(lake, "").collected)
    return frozenset(agent for table, _, agent in outputs if table == GROWING)


def fittable(lake: Path) -> frozenset[str]:
    """Return the agents of :func:`collected` with `FEWEST_ANSWERS` answers or more to the main set.

    One whose parts are not in the folder is taken to have them.
    """
    return frozenset(agent for agent in collected(lake) if _fittable(_parts(lake, agent)))


def known_answers(lake: Path, agent: str) -> pl.LazyFrame | None:
    """Return the agent's stored rows, or None if there are none."""
    parts = _parts(lake, agent)
    return scan(parts, GROWING) if parts else None


def _parts(lake: Path, agent: str) -> list[Path]:
    return part_files(lake / layout.table_folder(f"{GROWING}/{agent}"))


def _fittable(parts: list[Path]) -> bool:
    found = 0
    for part in parts:
        rows = scan([part], GROWING).filter((pl.col("trial_set") == "main") & pl.col("error_kind").is_null())
        found += int(rows.select(pl.len()).collect().item())
        if found >= FEWEST_ANSWERS:
            return True
    return not parts
