"""What came in: the session store of an agent as rows of ``responses`` and of ``sessions``.

Answers of practice trials, and everything of participants who did not consent or withdrew their consent, are left out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import polars as pl

from affectlake.errors import CollectionError
from affectlake.judge.agents import ExperimentAgent
from affectlake.pipelines.collection.importing import as_rows
from affectlake.triplets import TRIPLET

SOURCE = "experiment"
"""``source_file`` of the answers that came from a session store."""

SESSION = "1"
"""``session`` of a participant, who has one."""

PRACTICE, CATCH = "practice", "catch"
WITHDRAWN = "withdrawn"
PUBLISHED = "consented_at IS NOT NULL AND state IN ('running', 'done', 'left')"
"""The participants whose answers are published: those who consented and did not withdraw."""

_ANSWERS = f"""
SELECT a.id, a.participant, a.number, a.position, a.reason, a.detail, a.response_ms, a.received_at,
       g.kind, s1.stimulus_id, s2.stimulus_id, s3.stimulus_id, r.stimulus_id
FROM answers a JOIN given g USING (participant, number) JOIN participants p USING (participant)
JOIN stimuli s1 ON s1.number = g.shown_1 JOIN stimuli s2 ON s2.number = g.shown_2
JOIN stimuli s3 ON s3.number = g.shown_3 LEFT JOIN stimuli r ON r.number = g.right_answer
WHERE g.kind != '{PRACTICE}' AND {PUBLISHED} ORDER BY a.id
"""
_SESSIONS = f"""
SELECT p.participant, p.language, p.state, p.joined_at, p.consented_at, p.ended_at, p.last_at,
       count(g.number), count(a.position), count(a.id) - count(a.position)
FROM participants p LEFT JOIN given g ON g.participant = p.participant AND g.kind != '{PRACTICE}'
LEFT JOIN answers a ON a.participant = g.participant AND a.number = g.number
WHERE {PUBLISHED} GROUP BY p.participant ORDER BY p.participant
"""
_ANSWER_COLUMNS = {
    "source_row": pl.Int64, "participant": pl.String, "trial": pl.Int64, "position": pl.Int64, "reason": pl.String,
    "detail": pl.String, "response_ms": pl.Float64, "asked_at": pl.String, "kind": pl.String, "id_1": pl.String,
    "id_2": pl.String, "id_3": pl.String, "right_id": pl.String,
}  # fmt: skip
_SESSION_COLUMNS = {
    "participant": pl.String, "language": pl.String, "session_state": pl.String, "joined_at": pl.String,
    "consented_at": pl.String, "ended_at": pl.String, "last_at": pl.String, "n_shown": pl.Int32, "n_chosen": pl.Int32,
    "n_unanswered": pl.Int32,
}  # fmt: skip


class Received(NamedTuple):
    """What an agent's session store has.

    Attributes
    ----------
    answers : polars.DataFrame
        Rows of ``responses`` without ``shard``; those with an ``error_kind`` have no choice.
    sessions : polars.DataFrame
        Rows of ``sessions`` without ``shard``, one for each participant who consented and did not withdraw.
    n_strange : int
        Number of answers about stimuli that the study no longer has, which are in neither.
    withdrawn : tuple of str
        Participants who withdrew their consent.
    """

    answers: pl.DataFrame
    sessions: pl.DataFrame
    n_strange: int
    withdrawn: tuple[str, ...]


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a session store for reading, in one transaction, so that all that is read belongs together.

    Raises
    ------
    CollectionError
        If the file cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=60)) as database:
            database.execute("PRAGMA query_only = ON")
            database.execute("BEGIN")
            database.execute("SELECT count(*) FROM participants").fetchone()
            yield database
    except sqlite3.DatabaseError as error:
        raise CollectionError(
            f"{path} is not a store of sessions that can be read", found=str(error), todo="restore it from a copy"
        ) from error


def received(path: Path, agent: ExperimentAgent, ids: list[str]) -> Received:
    """Read an agent's session store.

    Parameters
    ----------
    path : Path
        The store; if there is none, nothing was received.
    agent : ExperimentAgent
        The agent.
    ids : list of str
        Id of each stimulus of the study.
    """
    if not path.exists():
        nothing = pl.DataFrame(schema=_ANSWER_COLUMNS), pl.DataFrame(schema=_SESSION_COLUMNS)
        return Received(_as_responses(nothing[0], agent, ids), _as_sessions(nothing[1], agent), 0, ())
    with opened(path) as database:
        answers = pl.DataFrame(database.execute(_ANSWERS).fetchall(), schema=_ANSWER_COLUMNS, orient="row")
        sessions = pl.DataFrame(database.execute(_SESSIONS).fetchall(), schema=_SESSION_COLUMNS, orient="row")
        withdrawn = database.execute("SELECT participant FROM participants WHERE state = ?", (WITHDRAWN,)).fetchall()
    known = answers.filter(pl.all_horizontal(pl.col("id_1", "id_2", "id_3").is_in(ids)))
    return Received(
        _as_responses(known, agent, ids),
        _as_sessions(sessions, agent),
        answers.height - known.height,
        tuple(one for (one,) in withdrawn),
    )


def _as_responses(answers: pl.DataFrame, agent: ExperimentAgent, ids: list[str]) -> pl.DataFrame:
    index = {one: at for at, one in enumerate(ids)}

    def at(column: str) -> pl.Expr:
        return pl.col(column).replace_strict(index, default=None, return_dtype=pl.Int32)

    is_catch = pl.col("kind") == CATCH
    chosen = pl.coalesce(
        *(pl.when(pl.col("position") == n).then(pl.col(f"id_{n}")) for n in (1, 2, 3)), pl.lit(None, dtype=pl.String)
    )
    frame = answers.with_columns(answer=chosen).select(
        pl.col("source_row").cast(pl.Int32),
        *(at(f"id_{n}").alias(f"shown_{n}") for n in (1, 2, 3)),
        at("answer").alias("chosen"),
        pl.when(is_catch).then(at("right_id")).alias("right_answer"),
        "answer",
        "participant",
        pl.lit(SESSION).alias("session"),
        pl.col("trial").cast(pl.String),
        "asked_at",
        "response_ms",
        is_catch.alias("is_catch"),
        pl.lit(SOURCE).alias("source_file"),
    )
    rows = as_rows(frame, agent, ids, order_known=True)
    without = answers["position"].is_null()
    return rows.with_columns(
        error_kind=pl.select(pl.when(without).then(answers["reason"].fill_null("unknown"))).to_series(),
        error_words=pl.select(pl.when(without).then(answers["detail"])).to_series(),
    )


def _as_sessions(sessions: pl.DataFrame, agent: ExperimentAgent) -> pl.DataFrame:
    return sessions.select(
        pl.lit(agent.name).alias("agent"), "participant", pl.lit(SESSION).alias("session"), pl.exclude("participant")
    )


def triplets_of(rows: pl.DataFrame) -> pl.DataFrame:
    """Return how many persons chose in each triplet of `rows`, without catch trials: i, j, k and ``n``."""
    used = rows.filter(pl.col("error_kind").is_null(), ~pl.col("is_catch").fill_null(value=False))
    persons = pl.col("participant").drop_nulls().n_unique() + pl.col("participant").null_count()
    return used.group_by(TRIPLET).agg(n=persons)
