"""The step `weigh_choices`: from stored answers to the probability that each stimulus of a trial is the odd one out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.judge.chat import ChatAgent
from affectlake.judge.responses.combining import calibrated_probabilities, member_probabilities, position_bias
from affectlake.judge.responses.tables import CHANCES, IDENTITY
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.arrays import ODDS
from affectlake.pipelines.steps.responses import (
    ADDED_ANSWER_PARAMS,
    ANSWER_PARAMS,
    HAS_CHANCES,
    complete_sets,
    protocol_file,
    read_responses,
)
from affectlake.pipelines.steps.rows import to_table


@step(
    reads=("stimuli", "captions", "frames", "triplets", "responses/{agent}"),
    writes=("soft_choices/{agent}",),
    params=ANSWER_PARAMS,
    optional=ADDED_ANSWER_PARAMS,
    kinds=("chat",),
    found_files=protocol_file,
    version=1,
)
def weigh_choices(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Compute the probability that each stimulus is the odd one out, for agents with `learn_from: probabilities`."""
    agent = params.agents[context.agent]
    assert isinstance(agent, ChatAgent)
    names = tables["triplets"].select(pl.col("trial_set").unique().sort()).collect()["trial_set"].to_list()
    found, _ = read_responses(tables, agent, names, context.progress)
    pieces = list(weighed(found, agent))
    if not pieces:
        return {"soft_choices": to_table("soft_choices", [])}
    rows = pl.concat(pieces)
    context.log(f"{rows.height:,} choices with the probabilities of three stimuli")
    name, protocol = pl.lit(context.agent).alias("agent"), pl.lit(agent.choice_protocol).alias("protocol")
    return {"soft_choices": rows.select(name, protocol, *IDENTITY, *ODDS)}


def weighed(found: pl.DataFrame, agent: ChatAgent) -> Iterator[pl.DataFrame]:
    """Yield the trials whose probabilities are known, with those of their stimuli: combined or calibrated, as choices.

    Parameters
    ----------
    found : polars.DataFrame
        The answers, from :func:`affectlake.pipelines.steps.responses.read_responses`.
    agent : ChatAgent
        The agent.
    """
    if agent.orders > 1:
        sets = complete_sets(found, agent)
        known = sets.are_known
        odds = member_probabilities(sets.chances[known], sets.order_code[known])
        yield _table(sets.rows.filter(pl.Series(known)), odds)
        return
    usable = found.filter(pl.col("odd").is_not_null() & HAS_CHANCES)
    for _, rows in usable.group_by("trial_set", maintain_order=True):
        chances, order_code = rows.select(CHANCES).to_numpy(), rows["order_code"].to_numpy()
        if agent.calibrate == "positions":
            yield _table(rows, calibrated_probabilities(chances, order_code, position_bias(chances)))
        else:
            yield _table(rows, member_probabilities(chances[:, None], order_code[:, None]))


def _table(rows: pl.DataFrame, odds: NDArray[np.float64]) -> pl.DataFrame:
    return rows.select(*IDENTITY, *(pl.Series(name, column) for name, column in zip(ODDS, odds.T, strict=True)))
