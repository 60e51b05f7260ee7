"""Lines of progress of a step that works through units of equal size."""

from __future__ import annotations

import time

from affectlake.pipelines.step import StepContext


class Progress:
    """Lines of progress with the time that is left, by the time that units of work took so far.

    Parameters
    ----------
    context : StepContext
    subject : str
        What the lines begin with, such as the name of a subject.
    units : str
        What is counted, such as ``candidates``.
    """

    def __init__(self, context: StepContext, subject: str, units: str) -> None:
        self.context, self.subject, self.units = context, subject, units
        self.began, self.first = time.monotonic(), -1

    def __call__(self, done: int, n: int) -> None:
        if self.first < 0:
            self.first = done - 1  # what a checkpoint had
        per_unit = (time.monotonic() - self.began) / (done - self.first)
        self.context.progress(
            f"{self.subject}: {done:,} of {n:,} {self.units}, about {per_unit * (n - done):,.0f} s left"
        )
