"""Publishing what came in: answers and sessions of an experiment become a version, exactly once.

What is stored already is recognised by its request key, so that publishing may be killed at any point and run again,
or run twice at once: one of the two waits for the writer lock and finds nothing new.
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import NamedTuple

import numpy as np
import polars as pl

from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.preflight import prepare
from affectlake.lake.store.versions import Version
from affectlake.lake.tables import appending
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.importing import ReadFiles, add_rows, new_rows
from affectlake.pipelines.collection.publishing import Log, publish_grown
from affectlake.pipelines.engine.model_runs import record_wave
from affectlake.pipelines.experiment.entry import experiment_agent, store_path
from affectlake.pipelines.experiment.received import received
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.stored import SESSIONS, known_sessions


class Wave(NamedTuple):
    """What one publishing added.

    Attributes
    ----------
    agent : str
        Name of the agent.
    n_answered, n_failed : int
        New answers with a choice, catch trials included, and new trials that ended without one.
    n_participants : int
        Participants of these.
    n_sessions : int
        Participants whose session is new or has another state.
    reasons : dict of str to int
        Numbers of the trials without a choice, by reason.
    n_known : int
        Answers that were published before.
    version : Version or None
        The new version; None if there was nothing new.
    seconds : float
        Time that it took.
    """

    agent: str
    n_answered: int
    n_failed: int
    n_participants: int
    n_sessions: int
    reasons: dict[str, int]
    n_known: int
    version: Version | None
    seconds: float

    @property
    def n_asked(self) -> int:
        """New trials, with or without a choice."""
        return self.n_answered + self.n_failed

    @property
    def n_parsed(self) -> int:
        """New answers with a choice: each can be read."""
        return self.n_answered

    @property
    def n_refused(self) -> int:
        """None: people who do not want to answer leave."""
        return 0

    def __str__(self) -> str:
        """Return ``people: +1,000 answers of 12 participants (3 trials without an answer: 2 timed_out, 1 …)``."""
        line = f"{self.agent}: +{self.n_answered:,} answers of {self.n_participants:,} participants"
        if not self.n_failed:
            return line
        why = ", ".join(f"{n:,} {reason}" for reason, n in self.reasons.items())
        return f"{line} ({self.n_failed:,} trials without an answer: {why})"


def publish_received(lake: Path, params: Params, name: str, log: Log) -> Wave:
    """Publish the answers and sessions of an agent's session store that are not published yet, as one version.

    Parameters
    ----------
    lake : Path
        Root of the lake, whose stimuli must have been read.
    params : Params
        Its parameters.
    name : str
        Name of an agent of kind experiment.
    log : callable
        Takes one line of progress.

    Returns
    -------
    Wave
        What was published.

    Raises
    ------
    UsageError
        If the agent does not exist or is of another kind.
    CollectionError
        If the session store cannot be read.
    LakeError
        If the lake cannot be published.
    """
    started = monotonic()
    agent = experiment_agent(params, name)
    with repository.writing(lake, f"affectlake experiment publish {name}", wait_s=float("inf"), say=log):
        prepare(lake, log)
        stimuli = read_output(lake, Output("stimuli")).sort("stimulus_index").select("stimulus_id").collect()
        ids = stimuli["stimulus_id"].to_list()
        found = received(store_path(lake, name), agent, ids)
        new = new_rows(lake, ReadFiles(agent, found.answers, [], [], ids))
        add_rows(lake, name, new, lambda _line: None)
        sessions = _add_sessions(lake, name, found.sessions)
        version = publish_grown(lake, log)
    if found.n_strange:
        log(
            f"{name}: {found.n_strange:,} answers are about stimuli that the study no longer has; they stay unpublished"
        )
    _warn_of_withdrawn(lake, name, found.withdrawn, log)
    failed = new.filter(pl.col("error_kind").is_not_null())
    reasons = dict(failed["error_kind"].value_counts(sort=True).iter_rows())
    wave = Wave(
        name, new.height - failed.height, failed.height, new["participant"].n_unique(), sessions.height, reasons,
        found.answers.height - new.height, version, monotonic() - started,
    )  # fmt: skip
    if wave.n_asked:
        record_wave(lake, params, agent, _measures(wave, new), version.name if version else "", log)
    return wave


def _add_sessions(lake: Path, name: str, sessions: pl.DataFrame) -> pl.DataFrame:
    """Add the sessions that are new, or differ from their latest row, and return them; the caller has the lock."""
    known, output = known_sessions(lake, name), Output(SESSIONS, name)
    new = sessions
    if known is not None:
        latest = known.sort("shard").group_by("participant", "session").last().collect()
        new = sessions.join(latest, on=sessions.columns, how="anti", nulls_equal=True, maintain_order="left")
    shard = appending.next_part(lake, output)
    appending.append(lake, output, new.with_columns(shard=pl.lit(shard, dtype=pl.Int32)), {})
    return new


def _warn_of_withdrawn(lake: Path, name: str, withdrawn: tuple[str, ...], log: Log) -> None:
    known = known_sessions(lake, name)
    if known is None or not withdrawn:
        return
    n = known.filter(pl.col("participant").is_in(withdrawn)).select(pl.col("participant").n_unique()).collect().item()
    if n:
        log(
            f"{name}: {n:,} participant{'s' if n > 1 else ''} withdrew consent after publishing; "
            f"`affectlake forget {name} --withdrawn` removes their rows"
        )


def _measures(wave: Wave, new: pl.DataFrame) -> dict[str, float]:
    """Return the metrics of a wave for MLflow; the times are those of its answers."""
    times = new["asked_at"].str.to_datetime(time_zone="UTC", strict=False).drop_nulls().dt.epoch("ms").to_numpy()
    taken = new["response_ms"].median()
    found: dict[str, float] = {
        "participants": wave.n_participants,
        "sessions": wave.n_sessions,
        "answered": wave.n_answered,
        "failed": wave.n_failed,
        "catch_trials": float(new["is_catch"].sum()),
        "catch_trials_failed": new.filter(pl.col("is_catch"), pl.col("given_odd") != pl.col("right_answer")).height,
        "minutes": float(np.ptp(times)) / 60_000 if len(times) else 0.0,
        "seconds": wave.seconds,
    }
    if isinstance(taken, float):
        found["median_response_ms"] = taken
    return found | {f"failed_{reason}": n for reason, n in wave.reasons.items()}
