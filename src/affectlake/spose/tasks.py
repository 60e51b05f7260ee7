"""Tasks: what a judgment of a triplet answers, and the accuracy of guesses. The likelihoods are in `model`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from affectlake.errors import ContractError

Task = Literal["odd-one-out", "anchored"]
"""``odd-one-out``: which of three stimuli is least like the other two? ``anchored``: which of two stimuli is more like
a third, the head?"""

ANSWERS: dict[Task, int] = {"odd-one-out": 3, "anchored": 2}
"""Number of possible answers to a triplet."""


def chance(task: Task) -> float:
    """Return the accuracy of guesses: 1/3 for ``odd-one-out``, 1/2 for ``anchored``."""
    return 1 / ANSWERS[task]


def only_task(tasks: Iterable[str]) -> Task:
    """Return the task of all judgments of one fit.

    Parameters
    ----------
    tasks : iterable of str
        The task of each judgment, or of each file of judgments.

    Raises
    ------
    ContractError
        If there are judgments of both tasks, of an unknown task, or none: the likelihoods differ, so that one fit is
        of one task.
    """
    found = sorted(set(tasks))
    for task in ANSWERS:
        if found == [task]:
            return task
    raise ContractError(
        "these judgments cannot be fitted together" if len(found) > 1 else "the task of the judgments is not known",
        wanted="judgments of one task",
        found=", ".join(found) or "no judgments",
        allowed=", ".join(ANSWERS),
        todo="make an agent of each task" if len(found) > 1 else "",
    )
