"""What happens beside a server: publishing and proposing, each in a process of its own with lower priority."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic

import polars as pl

from affectlake.errors import AffectlakeError
from affectlake.experiment.offer import Offer
from affectlake.judge.agents import ExperimentAgent
from affectlake.lake.files.outputs import Output
from affectlake.pipelines.collection.publishing import Log
from affectlake.pipelines.experiment.entry import store_path
from affectlake.pipelines.experiment.offering import offer_of
from affectlake.pipelines.experiment.received import PRACTICE, PUBLISHED, opened
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.stored import GROWING, PROPOSED, known_sessions

NICENESS = 10
"""Added to the niceness of the processes, so that the page is answered first."""

STOP_LIMIT_S = 20.0
_LINES_SHOWN = 5
_AGAIN_AFTER_S = 60.0


class Beside:
    """Publishes every n answers or hours, proposes every n answers, and reads the offer again when it changed.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    params : Params
        Its parameters.
    agent : ExperimentAgent
        The agent that is served.
    log : callable
        Takes one line for each thing that happened.
    run : callable, optional
        Runs ``affectlake`` with some arguments and returns its exit status; by default, in a process of its own.
    clock : callable, optional
        Returns seconds.
    """

    def __init__(
        self,
        lake: Path,
        params: Params,
        agent: ExperimentAgent,
        log: Log,
        run: Callable[[list[str]], int] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.lake, self.params, self.agent, self.log = lake, params, agent, log
        self._run, self._clock = run or self._in_process, clock
        self._child: subprocess.Popen[str] | None = None
        self._lock, self._is_stopped = threading.Lock(), False
        self._published_s, self._failed_s = clock(), -_AGAIN_AFTER_S
        self._n_proposed: int | None = None
        self._known = self._pointers()

    def renew(self, n_answers: int) -> Offer | None:
        """Publish and propose if it is time, and return the new offer; None if it is as before.

        Parameters
        ----------
        n_answers : int
            Number of answers to trials of the plan in the session store.
        """
        if self._n_proposed is None:
            self._n_proposed = n_answers
        if self._clock() - self._failed_s >= _AGAIN_AFTER_S:
            every = self.agent.propose_every
            proposes = every is not None and n_answers - self._n_proposed >= every
            if (proposes or self._is_due()) and self._publish() and proposes:
                self._propose(n_answers, every or 0)
        before, self._known = self._known, self._pointers()
        if self._known == before:
            return None
        try:
            return offer_of(self.lake, self.params, self.agent.name).offer
        except AffectlakeError as error:
            self.log(f"{self.agent.name}: the trials stay as they are: {error.summary}")
            return None

    def stop(self) -> None:
        """End the process that is at work; what it did not finish is done by the next one."""
        with self._lock:
            self._is_stopped = True
            child = self._child
        if child is None:
            return
        child.terminate()
        try:
            child.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def _is_due(self) -> bool:
        wanted = self.agent.publish_every
        n = unpublished(self.lake, self.agent.name)
        if wanted.answers is not None and n >= wanted.answers:
            return True
        return n > 0 and wanted.hours is not None and self._clock() - self._published_s >= wanted.hours * 3600

    def _publish(self) -> bool:
        status = self._run(["experiment", "publish", self.agent.name, "--direct", "--lake", str(self.lake)])
        self._published_s = self._clock()
        if status:
            self._failed_s = self._clock()
            self.log(f"{self.agent.name}: publishing failed; the answers are kept, and it is tried again")
            return False
        self._known = (self._known[0], *self._pointers()[1:])  # the answers are those of the session store
        return True

    def _propose(self, n_answers: int, n: int) -> None:
        wanted = max(n, self.agent.per_participant)
        self._n_proposed = n_answers
        if self._run(["propose", self.agent.name, "--n", str(wanted), "--lake", str(self.lake)]):
            self._failed_s = self._clock()
            self.log(f"{self.agent.name}: proposing failed; the trials of the last round stay")

    def _pointers(self) -> tuple[str, ...]:
        """Return the pointers to proposals and answers, which change with them."""
        found = []
        for table in (PROPOSED, GROWING):
            path = self.lake / Output(table, self.agent.name).pointer
            found.append(path.read_text(encoding="utf-8") if path.exists() else "")
        return tuple(found)

    def _in_process(self, arguments: list[str]) -> int:
        """Run ``affectlake`` in a process of its own, with lower priority; log its last lines."""
        command = [sys.executable, "-m", "affectlake", *arguments]
        with self._lock:
            if self._is_stopped:
                return 1
            child = self._child = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
            )
        with suppress(OSError):  # it may have ended, or the system may not allow it
            os.setpriority(os.PRIO_PROCESS, child.pid, NICENESS)
        out, _ = child.communicate()
        self._child = None
        if not self._is_stopped:
            for line in out.strip().splitlines()[-_LINES_SHOWN:]:
                self.log(line)
        return child.returncode


def unpublished(lake: Path, name: str) -> int:
    """Return the number of answers in an agent's session store that no version has, practice left out."""
    path = store_path(lake, name)
    if not path.exists():
        return 0
    with opened(path) as database:
        total: int = database.execute(
            "SELECT count(*) FROM answers JOIN given USING (participant, number) JOIN participants USING (participant)"
            f" WHERE kind != '{PRACTICE}' AND {PUBLISHED}"
        ).fetchone()[0]
        people = [one for (one,) in database.execute(f"SELECT participant FROM participants WHERE {PUBLISHED}")]
    known = known_sessions(lake, name)
    if known is None:
        return total
    latest = known.filter(pl.col("participant").is_in(people)).sort("shard").group_by("participant", "session").last()
    stored = latest.select((pl.col("n_chosen") + pl.col("n_unanswered")).sum()).collect().item() or 0
    return max(0, total - int(stored))
