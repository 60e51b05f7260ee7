"""What a user says about files of judgments, beyond what is recognised in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from affectlake.errors import UsageError, nearest

Layout = Literal["things", "table", "psychopy", "jspsych"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
"""Layouts of files."""

STIMULI = ("stimulus_1", "stimulus_2", "stimulus_3")
"""Roles of the columns with the three stimuli, in the order shown."""

ROLES = {
    "stimulus_1": "the stimulus shown first",
    "stimulus_2": "the stimulus shown second",
    "stimulus_3": "the stimulus shown third",
    "stimuli": "the three stimuli shown, as a JSON list",
    "odd": "the odd one out: its id, or its position",
    "participant": "who answered",
    "session": "the session",
    "trial": "the number of the trial",
    "time": "when it was answered",
    "response_time": "the time that the answer took",
    "catch": "whether the trial tests attention",
    "right_answer": "the right answer to a catch trial",
}
"""What a column of a file can be, with a description."""

Unit = Literal["s", "ms"]
AnsweredBy = Literal["id", "position"]


@dataclass(frozen=True)
class ReadingOptions:
    """How files are to be read.

    Parameters
    ----------
    layout : {'things', 'table', 'psychopy', 'jspsych'}, optional
        The layout; by default, it is recognised.
    columns : mapping of str to str
        Name of the column of a role (a key of `ROLES`); other roles are recognised by their names.
    unit : {'s', 'ms'}, optional
        Unit of response times; by default, it is recognised.
    answered_by : {'id', 'position'}, optional
        Whether the odd one out is named by its id or by its position; by default, it is recognised.
    first_position : {0, 1}, optional
        Number of the first position; by default 0 in jsPsych's data, and 1 elsewhere.
    positions : mapping of str to int
        Positions, from 1, that answers such as ``left`` stand for.
    """

    layout: Layout | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    unit: Unit | None = None
    answered_by: AnsweredBy | None = None
    first_position: int | None = None
    positions: Mapping[str, int] = field(default_factory=dict)


def parse_columns(assignments: tuple[str, ...]) -> dict[str, str]:
    """Return the columns by role from words such as ``odd=chosen_image``.

    Raises
    ------
    UsageError
        If a word is not such an assignment, or its role does not exist.
    """
    found: dict[str, str] = {}
    for word in assignments:
        role, equals, column = word.partition("=")
        if not equals or not column or role not in ROLES:
            raise UsageError(
                f"--column {word} does not say what a column is",
                wanted="ROLE=NAME, such as --column odd=chosen_image",
                allowed=", ".join(ROLES),
                todo=nearest(role, ROLES),
            )
        found[role] = column
    return found


def parse_positions(assignments: tuple[str, ...]) -> dict[str, int]:
    """Return the positions by answer from words such as ``left=1``.

    Raises
    ------
    UsageError
        If a word is not such an assignment.
    """
    found: dict[str, int] = {}
    for word in assignments:
        answer, equals, position = word.rpartition("=")
        if not equals or not answer or position not in ("1", "2", "3"):
            raise UsageError(
                f"--position {word} does not say which position an answer stands for",
                wanted="ANSWER=POSITION with a position from 1 to 3, such as --position left=1",
            )
        found[answer] = int(position)
    return found
