"""Planning a collection: the remaining questions to an agent, and the table to which its answers are added.

Servers are not asked here. The steps of a collection are::

    plan = plan_questions(lake, params, agent, "main", limit=100_000)
    ...                                     # ask plan.questions(), keep the answers in the journal
    with repository.writing(lake, "affectlake collect"):
        keep_answers(lake, agent, answers)  # one part; may be repeated
        version = publish_grown(lake, log)  # of affectlake.pipelines.collection.publishing
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from affectlake.errors import ContractError, UsageError, nearest
from affectlake.judge.agents import SERVER_KINDS
from affectlake.judge.chat import ChatAgent
from affectlake.judge.protocols.protocol import TABLES
from affectlake.judge.requests.answers import Answer
from affectlake.judge.responses.tables import IDENTITY, response_rows
from affectlake.judge.trials.content import Materials
from affectlake.judge.trials.plan import CAPTIONS, SHOWN, Plan, Trials, make_plan
from affectlake.judge.trials.shares import Share
from affectlake.judge.vectors.easy import EASY
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables import appending
from affectlake.lake.tables.parts import ROWS_PER_PART, part_files
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.stored_orders import stored_orders
from affectlake.pipelines.params.agent_kinds import agent_of_kind
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.steps.easy_trials import EasyScore, easy_score, planned, score_easy
from affectlake.pipelines.steps.responses import materials, response_batches, trials_of
from affectlake.pipelines.stored import GROWING, as_responses, known_answers, last_proposed
from affectlake.seeds import generator
from affectlake.triplets import TRIPLET


def chat_agent(params: Params, name: str) -> ChatAgent:
    """Return the chat agent `name`; raise :class:`UsageError` if it does not exist or is of another kind."""
    kinds = ", ".join(SERVER_KINDS)
    what, todo = "an agent that answers are collected from", f"give it an entry of kind {kinds} under `agents:`"
    return agent_of_kind(params, name, ChatAgent, what, kinds, todo)


EASY_TRIALS = Output("easy_trials")
"""The easy trials, which exist if the study has a section of that name."""


def question_tables(params: Params, agent: ChatAgent) -> list[Output]:
    """Return the tables that an agent's questions are made from."""
    easy = [] if params.easy_trials is None else [EASY_TRIALS]
    return [*(Output(table) for table in ("stimuli", TABLES[agent.modality], "triplets")), *easy]


def has_question_tables(lake: Path, params: Params, agent: ChatAgent) -> bool:
    """Return whether these tables exist in the folder."""
    return all(exists(lake, output) for output in question_tables(params, agent))


def exists(lake: Path, output: Output) -> bool:
    """Return whether the folder has files of an output."""
    return bool(part_files(lake / output.folder))


def planned_trials(lake: Path, params: Params) -> pl.LazyFrame:
    """Return the trials of all sets, ``trial_set, i, j, k, n_repeats``; the easy ones if they exist.

    Raises
    ------
    ContractError
        If the table `triplets` does not exist yet.
    """
    tables = [read_output(lake, Output("triplets")).select("trial_set", *TRIPLET, "n_repeats")]
    if params.easy_trials is not None and exists(lake, EASY_TRIALS):
        tables.append(planned(read_output(lake, EASY_TRIALS)))
    return pl.concat(tables)


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
    sample: int | None = None,
    one_order: bool = False,
) -> Plan:
    """Plan the remaining questions to an agent, given the answers in the lake's working tables.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    params : Params
        Its parameters.
    name : str
        Name of the agent.
    trial_set : str
        ``main``, ``validation``, ``noise_ceiling`` or ``easy``.
    limit : int, optional
        Maximum number of questions.
    retry_failed : bool
        Plan only questions that failed for good.
    ignore_stored : bool
        Plan as if no question were answered.
    proposed : bool
        Plan only the triplets of the last round of `affectlake propose`.
    share : Share, optional
        Plan and count only this share of the questions.
    sample : int, optional
        Plan only this many trials: :func:`sampled`.
    one_order : bool
        Plan each trial in one order, also if the agent is asked in several.

    Returns
    -------
    Plan
        The planned questions.

    Raises
    ------
    UsageError
        If the agent or trial set does not exist, there is nothing to show to the agent, nothing was proposed, or both
        proposed triplets and a sample are asked for.
    ContractError
        If a table does not exist yet.
    """
    agent = chat_agent(params, name)
    agent = agent.model_copy(update={"orders": 1}) if one_order else agent
    triplets = planned_trials(lake, params)
    known = triplets.select(pl.col("trial_set").unique().sort()).collect()["trial_set"].to_list()
    if trial_set not in known:
        raise UsageError(
            f"there is no trial set {trial_set!r}",
            allowed=", ".join(known),
            todo=_how_to_have_easy_trials(params) if trial_set == EASY else nearest(trial_set, known),
        )
    shown = materials_of(lake, agent)
    failed = pl.col("error_kind").is_not_null()
    stored = () if ignore_stored else _stored(lake, name, ~failed if retry_failed else pl.lit(value=True))
    again = _stored(lake, name, failed) if retry_failed else None
    if proposed and sample is not None:
        raise UsageError("--proposed and --sample exclude each other", todo="give one of them")
    trials, only = trials_of(triplets, trial_set), last_proposed(lake, name, trial_set) if proposed else None
    only = only if sample is None else sampled(trials, sample, params.seed)
    draw = partial(stored_orders, lake)
    return make_plan(agent, trials, shown, params.seed, stored, limit, again, only, share, draw)


def _how_to_have_easy_trials(params: Params) -> str:
    if params.easy_trials is None:
        return "add a section such as `easy_trials: {n: 60, ratings: category}` to params.yaml, then `affectlake run`"
    return "`affectlake run` makes them"


def sampled(trials: Trials, n: int, root: int) -> pl.DataFrame:
    """Return `n` random trials of a set, columns ``i, j, k``: the same for all agents, and within larger samples.

    Raises
    ------
    UsageError
        If `n` is below 1.
    """
    if n < 1:
        raise UsageError("the number of trials must be at least 1", found=str(n))
    drawn = generator(root, "sample", trials.trial_set).permutation(len(trials.triplets))[:n]
    return pl.DataFrame(trials.triplets[np.sort(drawn)], schema=dict.fromkeys(TRIPLET, pl.Int32), orient="row")


def materials_of(lake: Path, agent: ChatAgent) -> Materials:
    """Return what an agent is shown of each stimulus; raise :class:`UsageError` if no stimulus has any content."""
    tables = {table: read_output(lake, Output(table)) for table in ("stimuli", TABLES[agent.modality])}
    shown = materials(tables, agent)
    if not shown.n_options.any():
        raise UsageError(
            f"{agent.name} is shown {agent.modality}, but no stimulus has any",
            todo=f"set sources.{agent.modality} in params.yaml, then `affectlake run`",
        )
    return shown


def _stored(lake: Path, name: str, which: pl.Expr) -> Iterator[pl.DataFrame]:
    """Yield the agent's stored responses for which `which` is true."""
    known = known_answers(lake, name)
    if known is not None:
        yield from response_batches(known.filter(which), "request_key", *IDENTITY, *SHOWN, *CAPTIONS)


def easy_score_of(lake: Path, agent: ChatAgent) -> EasyScore:
    """Return how many easy trials the agent got right, of its published answers under its current entry."""
    known = known_answers(lake, agent.name)
    if known is None or not exists(lake, EASY_TRIALS):
        return score_easy(0, 0)
    tables = {table: read_output(lake, Output(table)) for table in ("stimuli", TABLES[agent.modality], "easy_trials")}
    return easy_score({**tables, "responses": known.filter(pl.col("trial_set") == EASY)}, agent)


class AddedRows(NamedTuple):
    """The rows that were added, and those that were already in the table."""

    n_added: int
    n_known: int


def keep_answers(lake: Path, agent: ChatAgent, answers: Iterable[Answer]) -> AddedRows:
    """Add answers to the agent's table as one part; the caller publishes the version.

    The caller holds the lake's writer lock and has recovered the lake. A row is left out if its question is already
    answered, or if it repeats a stored failure, so that the same answers may be passed again after a crash.

    ``dvc.yaml`` is not changed: the pipeline of a version must not contain tables that do not exist yet, because
    ``dvc pull`` would look for them.

    Returns
    -------
    AddedRows
        Numbers of rows added, and of rows that were already in the table.

    Raises
    ------
    ContractError
        If the answers break the table's contract (they are then in quarantine), or are too many for one part.
    """
    rows = response_rows(agent, answers).unique("request_key", keep="last", maintain_order=True)
    if rows.height > ROWS_PER_PART:
        raise ContractError(
            f"{rows.height:,} answers are too many for one part",
            allowed=f"{ROWS_PER_PART:,} rows",
            todo="add them in smaller parts",
        )
    output = Output(GROWING, agent.name)
    new = as_responses(_new(known_answers(lake, agent.name), rows))
    shard = appending.next_part(lake, output)
    appending.append(lake, output, new.with_columns(shard=pl.lit(shard, dtype=pl.Int32)), {})
    return AddedRows(new.height, rows.height - new.height)


def _new(known: pl.LazyFrame | None, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that are not stored yet."""
    if known is None:
        return rows
    failure = ["request_key", "error_kind", "error_words", "attempts"]
    met = known.join(rows.lazy().select("request_key"), on="request_key", how="semi").select(failure)
    found = met.collect(engine="streaming")
    answered = found.filter(pl.col("error_kind").is_null()).select("request_key")
    left = rows.join(answered, on="request_key", how="anti")
    return left.join(found, on=failure, how="anti", nulls_equal=True)
