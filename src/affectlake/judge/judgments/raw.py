"""The judgments of a file as text."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from affectlake.judge.judgments.options import Layout
from affectlake.tasks import Task

NO_ANSWER = ("", "None", "null", "NA", "[]")
"""Cells that mean that a trial was not answered."""


@dataclass(frozen=True)
class RawJudgments:
    """The judgments of a file as text.

    Parameters
    ----------
    file : str
        Name of the file.
    layout : {'things', 'table', 'psychopy', 'jspsych', 'salmon', 'triplettools'}
        Its layout.
    columns : dict of str to str
        Columns of the file by role.
    frame : polars.DataFrame
        ``row`` (int32: number of the row in the file), ``stimulus_1``, ``stimulus_2``, ``stimulus_3`` and, where the
        file has them, ``chosen``, ``loser``, ``participant``, ``session``, ``trial``, ``time``, ``response_time``,
        ``catch`` and ``right_answer``, as texts. ``stimulus_1`` of an anchored triplet is the head, and ``chosen`` is
        the odd one or the winner. The odd one of ``things`` is ``stimulus_3``.
    skipped : dict of str to int
        Numbers of rows that are not trials, by reason.
    notes : list of str
        What was done beyond plain reading.
    task : {'odd-one-out', 'anchored'}
        The task of the judgments.
    order_known : bool
        Whether the order of the stimuli is that in which they were shown.
    """

    file: str
    layout: Layout
    columns: dict[str, str]
    frame: pl.DataFrame
    skipped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    task: Task = "odd-one-out"
    order_known: bool = True


def with_answers(trials: pl.DataFrame, n_rows: int) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the trials that have an answer, and the numbers of rows of the file without a trial or an answer."""
    answered = trials.filter(pl.col("chosen").is_not_null() & ~pl.col("chosen").is_in(NO_ANSWER))
    skipped = {"no trial": n_rows - trials.height, "no answer": trials.height - answered.height}
    return answered, {why: n for why, n in skipped.items() if n}
