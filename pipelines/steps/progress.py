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
        self.began, self.first = 0.0, -1

    def __call__(self, done: int, n: int) -> None:
        """Report that some units of all are done; how long the others take is known from the second call on."""
        left = ""
        if self.first < 0:
            self.began, self.first = time.monotonic(), done  # what a checkpoint had, and what compilation delayed
        else:
            per_unit = (time.monotonic() - self.began) / max(done - self.first, 1)
            left = f", about {per_unit * (n - done):,.0f} s left"
        self.context.progress(f"{self.subject}: {done:,} of {n:,} {self.units}{left}")
