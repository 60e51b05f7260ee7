"""Steps of easy trials: choose them from ratings, and score the chat agents that were asked them."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from affectlake.geometry.intervals import wilson_interval
from affectlake.judge.chat import ChatAgent
from affectlake.judge.vectors.easy import EASY, draw_easy
from affectlake.judge.vectors.ratings import families_of, rating_vectors
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.responses import (
    ADDED_ANSWER_PARAMS,
    ANSWER_PARAMS,
    choices_of,
    protocol_file,
    read_responses,
)
from affectlake.pipelines.steps.rows import to_table
from affectlake.seeds import generator
from affectlake.triplets import TRIPLET

SECTION = "easy_trials"

CHANCE = 1 / 3
LEVEL = 0.05
"""An agent is better than chance on the easy trials if the p-value of its score is below this."""


class EasyScore(NamedTuple):
    """How many easy trials an agent got right.

    Attributes
    ----------
    n, n_right : int
        Number of easy trials with a choice, and of those in which the odd one out is the known one.
    ci_low, ci_high : float
        95 % Wilson interval of the share; NaN without choices.
    p_value : float
        One-tailed exact binomial test that the share is above 1/3; NaN without choices.
    """

    n: int
    n_right: int
    ci_low: float
    ci_high: float
    p_value: float

    @property
    def share(self) -> float:
        """Share of right choices; NaN without choices."""
        return self.n_right / self.n if self.n else float("nan")

    @property
    def verdict(self) -> str:
        """What is wrong, in words; empty if the agent is better than chance, or there are no choices."""
        return f"was right in {self}: not shown to be better than chance" if self.p_value >= LEVEL else ""

    def __str__(self) -> str:
        """Return ``52 of 60 easy trials (86.7 %, 95 % interval 75.8 to 93.1 %; chance 33.3 %)``."""
        interval = f"95 % interval {100 * self.ci_low:.1f} to {100 * self.ci_high:.1f} %"
        return f"{self.n_right:,} of {self.n:,} easy trials ({100 * self.share:.1f} %, {interval}; chance 33.3 %)"


@step(
    reads=("stimuli", "families", "ratings"),
    writes=("easy_trials",),
    params=("seed", SECTION),
    section=SECTION,
    version=1,
)
def choose_easy_trials(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Choose trials whose odd one out is known from ratings, which chat agents are asked first."""
    wanted = params.easy_trials
    assert wanted is not None
    n_stimuli = tables["stimuli"].select(pl.len()).collect().item()
    families = families_of(tables["families"].collect(), wanted.ratings, wanted.scaling)
    vectors = rating_vectors(tables["ratings"].collect(), families, n_stimuli)
    found = draw_easy(vectors, wanted.n, generator(params.seed, SECTION))
    n = len(found.odd)
    few = f" of {wanted.n}: the ratings tell too few triplets apart" if n < wanted.n else ""
    margins = f"; margins of cosine similarity from {found.margin.min():.2f}" if n else ""
    context.log(f"{n} easy trials{few}{margins}")
    rows = pl.DataFrame(found.triplets, schema=TRIPLET, orient="row")
    return {"easy_trials": rows.with_columns(odd=pl.Series(found.odd), margin=pl.Series(found.margin))}


@step(
    reads=("stimuli", "captions", "frames", "easy_trials", "responses/{agent}"),
    writes=("easy_scores/{agent}",),
    params=ANSWER_PARAMS,
    optional=ADDED_ANSWER_PARAMS,
    kinds=("chat",),
    found_files=protocol_file,
    section=SECTION,
    version=1,
)
def score_easy_trials(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Count the easy trials that a chat agent got right."""
    agent = params.agents[context.agent]
    assert isinstance(agent, ChatAgent)
    score = easy_score(tables, agent)
    context.log(str(score) if score.n else "no easy trial has a choice")
    row = {
        "agent": context.agent,
        "protocol": agent.choice_protocol,
        "value": score.share,
        "ci_low": score.ci_low,
        "ci_high": score.ci_high,
        "chance": CHANCE,
        "p_value": score.p_value,
        "n": score.n,
        "note": None if score.n else "no easy trial has a choice",
    }
    return {"easy_scores": to_table("easy_scores", [row])}


def score_easy(n_right: int, n: int) -> EasyScore:
    """Return the score of `n_right` right choices in `n` easy trials."""
    if not n:
        return EasyScore(0, 0, *[float("nan")] * 3)
    from scipy.stats import binom  # imported late: slow

    low, high = map(float, wilson_interval(n_right, n))
    return EasyScore(n, n_right, low, high, float(binom.sf(n_right - 1, n, CHANCE)))


def planned(easy_trials: pl.LazyFrame) -> pl.LazyFrame:
    """Return the easy trials with the columns of ``triplets`` that a collection reads; each is asked once."""
    name, once = pl.lit(EASY).alias("trial_set"), pl.lit(1, dtype=pl.Int16).alias("n_repeats")
    return easy_trials.select(name, *TRIPLET, once)


def easy_score(tables: Tables, agent: ChatAgent) -> EasyScore:
    """Return how many easy trials an agent got right, of its answers under its current entry.

    Parameters
    ----------
    tables : mapping
        ``easy_trials``, ``responses`` of the agent, ``stimuli``, and ``captions`` or ``frames``.
    agent : ChatAgent
        The agent.
    """
    asked = {**tables, "triplets": planned(tables["easy_trials"])}
    found, _ = read_responses(asked, agent, [EASY], lambda _line: None)
    chosen = choices_of(found, agent).table.rename({"odd": "chosen"})
    both = chosen.join(tables["easy_trials"].collect(), on=TRIPLET)
    return score_easy(int((both["chosen"] == both["odd"]).sum()), both.height)
