"""Between the lake and a collection: what is still to be asked of an agent, and where its answers go.

Talking to servers does not belong here. A collection is, in this order::

    plan = plan_questions(lake, params, agent, "main", limit=100_000)
    ...                                     # ask plan.questions(), keep what comes in the journal
    with repository.writing(lake, "affectlake collect"):
        keep_answers(lake, agent, answers)  # one part; harmless when it is done twice
        version = publish_grown(lake, log)  # of affectlake.pipelines.collection.publishing
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from affectlake.errors import ContractError, UsageError, nearest
from affectlake.judge.agents import SERVER_KINDS
from affectlake.judge.chat import ChatAgent
from affectlake.judge.protocols import TABLES
from affectlake.judge.requests.answers import Answer
from affectlake.judge.responses.tables import IDENTITY, response_rows
from affectlake.judge.trials.plan import CAPTIONS, SHOWN, Plan, make_plan
from affectlake.judge.trials.shares import Share
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables import appending
from affectlake.lake.tables.parts import ROWS_PER_PART
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.steps.responses import materials, response_batches, trials_of
from affectlake.pipelines.stored import GROWING, known_answers, last_proposed


def chat_agent(params: Params, name: str) -> ChatAgent:
    """Return the chat agent called `name`; another kind, or none, is a :class:`UsageError`."""
    known = [key for key, agent in params.agents.items() if agent.needs_server]
    agent = params.agents.get(name)
    if not isinstance(agent, ChatAgent):
        raise UsageError(
            f"{name!r} is not an agent that answers are collected from",
            found=f"an agent of kind {agent.kind}" if agent else "no such agent in params.yaml",
            allowed=", ".join(known) or f"none: params.yaml has no agent of kind {', '.join(SERVER_KINDS)}",
            todo=nearest(name, known) or f"give it an entry of kind {', '.join(SERVER_KINDS)} under `agents:`",
        )
    return agent


def plan_questions(
    lake: Path,
    params: Params,
    name: str,
    trial_set: str,
    *,
    limit: int | None = None,
    retry_failed: bool = False,
    ignore_stored: bool = False,
    proposed: bool = False,
    share: Share | None = None,
) -> Plan:
    """Plan what is still to be asked of an agent, against the answers in the lake's working tables.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    params : Params
        Its parameters.
    name : str
        The agent.
    trial_set : str
        ``main``, ``validation`` or ``noise_ceiling``.
    limit : int, optional
        Plan at most so many questions.
    retry_failed : bool
        Plan what failed for good, and nothing else.
    afresh : bool
        Plan as if nothing were answered.
    proposed : bool
        Plan only what `affectlake propose` proposed last.
    share : Share, optional
        Plan, and count, only this share of the questions.

    Raises
    ------
    UsageError
        No such agent or trial set, or it is to be shown videos and there are none, or nothing was proposed.
    ContractError
        A table is not there yet.
    """
    agent = chat_agent(params, name)
    triplets = read_output(lake, Output("triplets"))
    known = triplets.select(pl.col("trial_set").unique().sort()).collect()["trial_set"].to_list()
    if trial_set not in known:
        raise UsageError(
            f"there is no trial set {trial_set!r}", allowed=", ".join(known), todo=nearest(trial_set, known)
        )
    tables = {table: read_output(lake, Output(table)) for table in ("stimuli", TABLES[agent.modality])}
    shown = materials(tables, agent)
    if not shown.n_options.any():
        raise UsageError(
            f"{name} is to be shown {agent.modality}, and no stimulus has any",
            todo=f"set sources.{agent.modality} in params.yaml, then `affectlake run`",
        )
    failed = pl.col("error_kind").is_not_null()
    stored = () if ignore_stored else _stored(lake, name, ~failed if retry_failed else pl.lit(value=True))
    again = _stored(lake, name, failed) if retry_failed else None
    only = last_proposed(lake, name, trial_set) if proposed else None
    return make_plan(agent, trials_of(triplets, trial_set), shown, params.seed, stored, limit, again, only, share)


def _stored(lake: Path, name: str, which: pl.Expr) -> Iterator[pl.DataFrame]:
    """Yield the agent's stored responses, those that `which` picks."""
    known = known_answers(lake, name)
    if known is not None:
        yield from response_batches(known.filter(which), "request_key", *IDENTITY, *SHOWN, *CAPTIONS)


class AddedRows(NamedTuple):
    """What came of keeping answers: rows added, and rows that stood already."""

    n_added: int
    n_known: int


def keep_answers(lake: Path, agent: ChatAgent, answers: Iterable[Answer]) -> AddedRows:
    """Add answers to the agent's table as one part; the caller publishes the version.

    To be called with the lake's writer lock held and the lake recovered. A row is left out if its question is answered
    already, or if it tells of the same failure again, so that the same answers may be handed over again after a crash.

    ``dvc.yaml`` stays as it is: a version's pipeline names no tables that are yet to be made, so that ``dvc pull``
    finds all that it looks for.

    Raises
    ------
    ContractError
        If the answers break the table's contract; they are then in quarantine. Or if they are too many for one part.
    """
    rows = response_rows(agent, answers).unique("request_key", keep="last", maintain_order=True)
    if rows.height > ROWS_PER_PART:
        raise ContractError(
            f"{rows.height:,} answers are too many for one part",
            allowed=f"{ROWS_PER_PART:,} rows",
            todo="add them in smaller pieces",
        )
    output = Output(GROWING, agent.name)
    new = _new(known_answers(lake, agent.name), rows)
    shard = appending.next_part(lake, output)
    appending.append(lake, output, new.with_columns(shard=pl.lit(shard, dtype=pl.Int32)), {})
    return AddedRows(new.height, rows.height - new.height)


def _new(known: pl.LazyFrame | None, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that are not known already."""
    if known is None:
        return rows
    said = ["request_key", "error_kind", "error_words", "attempts"]
    met = known.join(rows.lazy().select("request_key"), on="request_key", how="semi").select(said)
    found = met.collect(engine="streaming")
    answered = found.filter(pl.col("error_kind").is_null()).select("request_key")
    left = rows.join(answered, on="request_key", how="anti")
    return left.join(found, on=said, how="anti", nulls_equal=True)
