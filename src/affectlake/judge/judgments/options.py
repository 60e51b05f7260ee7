"""What a user says about files of judgments, beyond what is recognised in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from affectlake.errors import UsageError, nearest
from affectlake.tasks import Task

Layout = Literal["things", "table", "psychopy", "jspsych", "salmon", "triplettools"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
"""Layouts of files."""

LAYOUTS_OF: dict[Task, tuple[Layout, ...]] = {
    "odd-one-out": ("things", "table", "psychopy", "jspsych"),
    "anchored": ("table", "salmon", "triplettools"),
}
"""Layouts of files by the task of their judgments."""

STIMULI = ("stimulus_1", "stimulus_2", "stimulus_3")
"""Roles of the columns with the three stimuli, in the order shown."""

_DETAILS = {
    "participant": "who answered",
    "session": "the session",
    "trial": "the number of the trial",
    "time": "when it was answered",
    "response_time": "the time that the answer took",
    "catch": "whether the trial tests attention",
    "right_answer": "the right answer to a catch trial",
}
ROLES_OF: dict[Task, dict[str, str]] = {
    "odd-one-out": {
        "stimulus_1": "the stimulus shown first",
        "stimulus_2": "the stimulus shown second",
        "stimulus_3": "the stimulus shown third",
        "stimuli": "the three stimuli shown, as a JSON list",
        "odd": "the odd one out: its id, or its position",
        **_DETAILS,
    },
    "anchored": {
        "head": "the stimulus with which the two others are compared",
        "left": "the first of the two others",
        "right": "the second of the two others",
        "winner": "the one chosen as more like the head: its id, or its position",
        "loser": "the one that was not chosen",
        **_DETAILS,
    },
}
"""What a column of a file can be, with a description, by the task of its judgments."""

Unit = Literal["s", "ms"]
AnsweredBy = Literal["id", "position"]


@dataclass(frozen=True)
class ReadingOptions:
    """How files are to be read.

    Parameters
    ----------
    task : {'odd-one-out', 'anchored'}
        The task of the judgments.
    layout : {'things', 'table', 'psychopy', 'jspsych', 'salmon', 'triplettools'}, optional
        The layout, one of `LAYOUTS_OF` the task; by default, it is recognised.
    columns : mapping of str to str
        Name of the column of a role (a key of `ROLES_OF` the task); other roles are recognised by their names.
    unit : {'s', 'ms'}, optional
        Unit of response times; by default, it is recognised.
    answered_by : {'id', 'position'}, optional
        Whether the chosen stimulus is named by its id or by its position; by default, it is recognised.
    first_position : {0, 1}, optional
        Number of the first position; by default 0 in jsPsych's data, and 1 elsewhere.
    positions : mapping of str to int
        Positions, from 1, that answers such as ``left`` stand for.
    """

    task: Task = "odd-one-out"
    layout: Layout | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    unit: Unit | None = None
    answered_by: AnsweredBy | None = None
    first_position: int | None = None
    positions: Mapping[str, int] = field(default_factory=dict)


def parse_columns(assignments: tuple[str, ...], task: Task = "odd-one-out") -> dict[str, str]:
    """Return the columns by role of a task, from words such as ``odd=chosen_image``.

    Raises
    ------
    UsageError
        If a word is not such an assignment, or its role does not exist.
    """
    found: dict[str, str] = {}
    roles, chosen = ROLES_OF[task], {"odd-one-out": "odd", "anchored": "winner"}[task]
    for word in assignments:
        role, equals, column = word.partition("=")
        if not equals or not column or role not in roles:
            raise UsageError(
                f"--column {word} does not say what a column is",
                wanted=f"ROLE=NAME, such as --column {chosen}=chosen_image",
                allowed=", ".join(roles),
                todo=nearest(role, roles),
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
