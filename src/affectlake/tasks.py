"""Tasks: what a judgment of a triplet answers, and the accuracy of guesses. The likelihoods are in `spose.model`."""

from __future__ import annotations

from typing import Literal

Task = Literal["odd-one-out", "anchored"]
"""``odd-one-out``: which of three stimuli is least like the other two? ``anchored``: which of two stimuli is more like
a third, the head?"""

ANSWERS: dict[Task, int] = {"odd-one-out": 3, "anchored": 2}
"""Number of possible answers to a triplet."""


def chance(task: Task) -> float:
    """Return the accuracy of guesses: 1/3 for ``odd-one-out``, 1/2 for ``anchored``."""
    return 1 / ANSWERS[task]
