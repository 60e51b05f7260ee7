"""What people are offered: the trials of an agent, what is shown of the stimuli, and the settings of the server."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import SourceError, UsageError, nearest
from affectlake.experiment.offer import Contents, Offer, ServeSettings
from affectlake.judge.agents import ExperimentAgent
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.experiment.entry import experiment_agent, store_path
from affectlake.pipelines.experiment.media import media_of
from affectlake.pipelines.experiment.received import received, triplets_of
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.stored import known_answers, known_proposals
from affectlake.triplets import TRIPLET, Triplets

MOST_ANSWERS = 32_767
_PROPOSED_SET = "main"


class Offered(NamedTuple):
    """What people are offered.

    Attributes
    ----------
    offer : Offer
        The trials.
    contents : Contents
        What is shown of each stimulus.
    settings : ServeSettings
        What the server needs of the agent's entry.
    n_planned : int
        Number of trials of the plan.
    n_unaskable : int
        Those that are left out because a stimulus has no caption or file.
    reasons : dict of str to int
        Why stimuli cannot be shown, with the number of stimuli.
    """

    offer: Offer
    contents: Contents
    settings: ServeSettings
    n_planned: int
    n_unaskable: int
    reasons: dict[str, int]


def tables_of(agent: ExperimentAgent) -> list[Output]:
    """Return the tables that are read to ask people."""
    found = [Output("stimuli"), Output("triplets"), Output("captions")]
    found += [Output("videos")] if agent.show != "captions" else []
    return [*found, *([Output("easy_trials")] if agent.needs_easy_trials else [])]


def offer_of(lake: Path, params: Params, name: str) -> Offered:
    """Return what people are offered of an agent's trials.

    Trials that are answered in published versions are not given again; those whose answers are in the session store
    are counted there.

    Parameters
    ----------
    lake : Path
        Root of the lake, whose stimuli and trials must have been made.
    params : Params
        Its parameters.
    name : str
        Name of an agent of kind experiment.

    Raises
    ------
    UsageError
        If the agent does not exist or is of another kind, `catch` names an unknown stimulus, or nothing can be asked.
    SourceError
        If the study has no files of the kind that is shown, or they changed.
    ContractError
        If a table that is needed was not made yet.
    """
    agent = experiment_agent(params, name)
    tables = {output.table: read_output(lake, output) for output in tables_of(agent)}
    ids = tables["stimuli"].sort("stimulus_index").select("stimulus_id").collect()["stimulus_id"].to_list()
    contents, reasons = _contents(lake, params, agent, ids, tables)
    shown = np.array([bool(one) for one in (contents.captions if agent.show == "captions" else contents.media)])
    plan = _plan(lake, agent, tables["triplets"])
    trials = plan.select(TRIPLET).to_numpy().astype(np.int32).reshape(-1, 3)
    askable = shown[trials].all(axis=1) if len(trials) else np.zeros(0, dtype=np.bool_)
    if not askable.any():
        raise UsageError(
            f"no trial of {name} can be shown to people",
            found=f"{len(trials):,} trials in {agent.trials}, and {int(shown.sum()):,} of {len(ids):,} stimuli with "
            f"{agent.show}" + "".join(f"; {n:,}: {why}" for why, n in reasons.items()),
            todo="set show to what the study has, or trials to a set that is not empty",
        )
    practice, catch = _with_answers(agent, ids, tables)
    offer = Offer(
        trials=np.ascontiguousarray(trials[askable]),
        wanted=plan["wanted"].to_numpy().astype(np.int16)[askable],
        answered=_answered(lake, agent, ids, plan)[askable],
        catch=_askable(catch, shown, agent, "catch"),
        practice=_askable(practice, shown, agent, "practice"),
    )
    return Offered(offer, contents, settings_of(params, agent), len(trials), int((~askable).sum()), reasons)


def answers_here(lake: Path, agent: ExperimentAgent, offered: Offered) -> NDArray[np.int64]:
    """Return how many participants chose in each trial of an offer, in the session store, int64 (m,)."""
    here = triplets_of(received(store_path(lake, agent.name), agent, list(offered.contents.stimulus_ids)).answers)
    trials = pl.DataFrame(offered.offer.trials, schema=dict.fromkeys(TRIPLET, pl.Int32), orient="row")
    found = trials.join(here, on=TRIPLET, how="left", maintain_order="left")["n"].fill_null(0)
    return found.to_numpy().astype(np.int64)


def settings_of(params: Params, agent: ExperimentAgent) -> ServeSettings:
    """Return what the server needs of the entry of an agent."""
    return ServeSettings(
        agent=agent.name,
        seed=params.seed,
        per_participant=agent.per_participant,
        practice=agent.practice,
        catch_every=agent.catch_every,
        break_every=agent.break_every,
        repeats=agent.repeats,
        languages=tuple(agent.languages),
        return_url=agent.return_url,
        panel=agent.panel,
        time_limit_s=agent.time_limit_s,
        cannot_tell=agent.cannot_tell,
        resume_within_h=agent.resume_within_h,
        give_again_after_min=agent.give_again_after_min,
    )


def _contents(
    lake: Path, params: Params, agent: ExperimentAgent, ids: list[str], tables: dict[str, pl.LazyFrame]
) -> tuple[Contents, dict[str, int]]:
    """Return what is shown: of several captions, the first one."""
    first = tables["captions"].sort("stimulus_index", "caption_index").group_by("stimulus_index").first().collect()
    by_index = dict(first.select("stimulus_index", "caption").iter_rows())
    captions = tuple(by_index.get(index, "").strip() for index in range(len(ids)))
    if agent.show == "captions":
        n = captions.count("")
        none = (None,) * len(ids)
        return Contents("captions", tuple(ids), captions, none), {"no caption": n} if n else {}
    media = media_of(lake, params, agent, ids, tables["videos"].collect())
    return Contents(agent.show, tuple(ids), captions, media.files), media.reasons


def _plan(lake: Path, agent: ExperimentAgent, triplets: pl.LazyFrame) -> pl.DataFrame:
    """Return the trials of the plan, ``i, j, k``, with the number of answers ``wanted`` of each."""
    if agent.trials == "propose":
        proposals = known_proposals(lake, agent.name)
        if proposals is None:
            raise UsageError(
                f"no trials are proposed for {agent.name}",
                todo=f"propose some with `affectlake propose {agent.name} --n N`, or set trials: main",
            )
        last = proposals.filter(pl.col("round") == pl.col("round").max(), pl.col("trial_set") == _PROPOSED_SET)
        return last.select(*TRIPLET, pl.lit(1).alias("wanted")).sort(TRIPLET).collect()
    own = triplets.filter(pl.col("trial_set") == agent.trials)
    return own.select(*TRIPLET, pl.col("n_repeats").alias("wanted")).sort(TRIPLET).collect()


def _answered(lake: Path, agent: ExperimentAgent, ids: list[str], plan: pl.DataFrame) -> np.ndarray:
    """Return the number of published answers to each trial that are not in the session store, int16 (m,)."""
    stored = known_answers(lake, agent.name)
    if stored is None:
        return np.zeros(plan.height, dtype=np.int16)
    here = received(store_path(lake, agent.name), agent, ids).answers.select("request_key")
    columns = ["request_key", *TRIPLET, "participant", "error_kind", "is_catch"]
    elsewhere = stored.select(columns).join(here.lazy(), on="request_key", how="anti").collect()
    counts = triplets_of(elsewhere)
    found = plan.join(counts, on=TRIPLET, how="left", maintain_order="left")["n"].fill_null(0)
    return found.clip(0, MOST_ANSWERS).to_numpy().astype(np.int16)


def _with_answers(agent: ExperimentAgent, ids: list[str], tables: dict[str, pl.LazyFrame]) -> tuple[Triplets, Triplets]:
    """Return the practice and the catch trials, the odd one last.

    Of the easy trials, those with the largest margins are for practice.
    """
    if agent.catch != "ratings":
        found = np.array([[_index(agent, ids, one) for one in trial] for trial in agent.catch], dtype=np.int32)
    elif agent.needs_easy_trials:
        rows = tables["easy_trials"].sort("margin", *TRIPLET, descending=[True, False, False, False]).collect()
        triplets, odd = rows.select(TRIPLET).to_numpy(), rows["odd"].to_numpy()
        others = [[one for one in triplet if one != last] for triplet, last in zip(triplets, odd, strict=True)]
        found = np.array([[*two, last] for two, last in zip(others, odd, strict=True)], dtype=np.int32)
    else:
        found = np.empty((0, 3), dtype=np.int32)
    found = found.reshape(-1, 3)
    n = agent.practice
    return found[:n], found[n:] if agent.catch_every is not None else found[:0]


def _index(agent: ExperimentAgent, ids: list[str], one: str) -> int:
    if one not in ids:
        raise UsageError(
            f"agents.{agent.name}.catch names a stimulus that the study does not have",
            found=repr(one),
            todo=nearest(one, ids) or "use the ids of the table stimuli",
        )
    return ids.index(one)


def _askable(trials: Triplets, shown: np.ndarray, agent: ExperimentAgent, what: str) -> Triplets:
    """Return the trials whose stimuli can be shown; refuse if some are wanted and none is left."""
    left = trials[shown[trials].all(axis=1)] if len(trials) else trials
    wanted = agent.practice > 0 if what == "practice" else agent.catch_every is not None
    if wanted and not len(left):
        raise SourceError(
            f"no {what} trial of {agent.name} can be shown",
            found=f"{len(trials):,} trials, none whose three stimuli have {agent.show}",
            todo="name others under catch, raise easy_trials.n, or set "
            + ("practice: 0" if what == "practice" else "catch_every: null"),
        )
    return np.ascontiguousarray(left)
