"""Proposing triplets: choose the triplets to ask an agent next, and publish them as a round of ``proposals``.

:mod:`affectlake.spose.proposing` computes the expected information. ``affectlake collect --proposed`` asks a chat
agent; ``affectlake experiment serve`` gives them to people, if the agent has ``trials: propose``.
Proposals are trials of the main set. Judgments of proposed and of other trials are therefore one set of judgments, and
the held-out trials remain a random part of all trials.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake import triplets as trials
from affectlake.errors import UsageError
from affectlake.judge.agents import ExperimentAgent
from affectlake.judge.chat import ChatAgent
from affectlake.judge.protocols.protocol import TABLES
from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.recovery import recover
from affectlake.lake.store.versions import Version
from affectlake.lake.tables import appending
from affectlake.lake.tables.contracts import contract
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.planning import chat_agent
from affectlake.pipelines.collection.publishing import Log, prepare_to_publish, publish_grown
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import StepContext
from affectlake.pipelines.steps.arrays import judged
from affectlake.pipelines.steps.judgments import choose_by_judgments
from affectlake.pipelines.steps.responses import choices_of, materials, read_responses
from affectlake.pipelines.stored import PROPOSED, known_answers, known_proposals
from affectlake.seeds import generator
from affectlake.spose.chance import LEVEL, chance_level
from affectlake.spose.curve import Epoch
from affectlake.spose.fitting import Fit
from affectlake.spose.model import score
from affectlake.spose.proposing import draw_informative, expected_information, fit_members
from affectlake.spose.settings import Settings
from affectlake.triplet_sampling import sample_rows
from affectlake.triplets import MIN_JUDGMENTS, TRIPLET

_SPLITS = ("train", "validation", "test")


class _Chosen(NamedTuple):
    """Triplets of one purpose, with their split and their expected information in nats (None: not computed)."""

    purpose: str
    split: str
    triplets: trials.Triplets
    information: NDArray[np.float32] | None


class ProposalFits(NamedTuple):
    """The embeddings that were fitted to the current judgments.

    Attributes
    ----------
    information, information_of_open : float
        Mean expected information (nats) of the proposed triplets, and of all open trials.
    accuracies : tuple of float
        Accuracy of each embedding on the validation judgments, which stopped its fit. The test judgments stay unused.
    l1 : float
        Sparsity with which they were fitted, chosen for the number of judgments.
    lapse : float or None
        Estimated share of judgments that were made by chance; None if no embedding predicts better than chance, because
        nothing determines the share then.
    """

    information: float
    information_of_open: float
    accuracies: tuple[float, ...]
    l1: float
    lapse: float | None


class Proposal(NamedTuple):
    """A round of proposals.

    Attributes
    ----------
    agent : str
        Name of the agent to ask.
    round : int
        Number of the round, from 0.
    n_judgments, n_validation, n_test : int
        Numbers of judgments available for learning, for validation and for testing.
    n_open : int
        Number of trials of the main set without an answer that can be asked.
    n_to_learn, n_held_out : int
        Numbers of triplets proposed for learning, and for validation and testing together.
    fits : ProposalFits or None
        The embeddings from which the triplets for learning were chosen; None if they were drawn at random.
    version : Version or None
        The version that contains the round.
    """

    agent: str
    round: int
    n_judgments: int
    n_validation: int
    n_test: int
    n_open: int
    n_to_learn: int
    n_held_out: int
    fits: ProposalFits | None
    version: Version | None


class _Known(NamedTuple):
    """An agent's judgments (the odd one last) and its open trials (i < j < k), by split, as int32 arrays (n, 3)."""

    n_stimuli: int
    train: trials.Triplets
    validation: trials.Triplets
    test: trials.Triplets
    open_train: trials.Triplets
    open_validation: trials.Triplets
    open_test: trials.Triplets


def propose(
    lake: Path, params: Params, name: str, n: int, log: Log, progress: Callable[[str], None] = lambda _line: None
) -> Proposal:
    """Propose `n` triplets of the main set to ask an agent next, and publish them as a round of ``proposals``.

    Until each stimulus has been judged a few times, the triplets are drawn at random. The embeddings that select them
    are fitted to choices, also those of an agent that learns from probabilities.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    params : Params
        Its parameters, with the section ``proposals``.
    name : str
        Name of an agent of kind chat, or of kind experiment: of its published judgments, those that `exclude` leaves
        are learned from.
    n : int
        Number of triplets, at least 1; fewer are proposed if fewer are open.
    log, progress : callable
        Take one line each: results, and progress.

    Returns
    -------
    Proposal
        The round.

    Raises
    ------
    UsageError
        If the agent does not exist, `n` is below 1, or every trial is answered.
    LakeError
        If an older version is checked out, or a table was changed by hand.
    """
    entry = params.agents.get(name)
    agent = entry if isinstance(entry, ExperimentAgent) else chat_agent(params, name)
    if n < 1:
        raise UsageError("the number of triplets must be at least 1", found=str(n))
    prepare_to_publish(lake, name, log)
    known = _of_people(lake, params, agent) if isinstance(agent, ExperimentAgent) else _known(lake, agent, progress)
    n_open = len(known.open_train) + len(known.open_validation) + len(known.open_test)
    if not n_open:
        raise UsageError(
            f"there are no triplets to propose for {name}",
            found="every trial of the main set that can be asked is answered or failed for good",
            todo="raise triplets.per_dyad"
            if isinstance(agent, ExperimentAgent)
            else "ask failed ones again with `affectlake collect --retry-failed`, or raise triplets.per_dyad",
        )
    number = _next_round(lake, name)
    rng = generator(params.seed, "proposals", name, number)
    wanted, n_left, held_out = params.proposals, n, []
    for split, answered, opened in (
        ("test", known.test, known.open_test),
        ("validation", known.validation, known.open_validation),
    ):
        n_split = min(max(0, wanted.held_out - len(answered)), -(-n // 10), len(opened), n_left)
        held_out.append(_Chosen("held_out", split, sample_rows(opened, n_split, rng), None))
        n_left -= n_split
    n_left = min(n_left, len(known.open_train))
    enough = len(known.train) >= wanted.random_per_stimulus * known.n_stimuli
    enough = enough and len(known.validation) >= MIN_JUDGMENTS
    if enough and n_left:
        chosen, fits = _informative(params, name, known, n_left, rng, progress)
    else:
        chosen, fits = _Chosen("random", "train", sample_rows(known.open_train, n_left, rng), None), None
    rows = pl.concat([_rows(one) for one in (chosen, *held_out)])
    version = _publish(lake, name, number, len(known.train), rows, log)
    n_known = (len(known.train), len(known.validation), len(known.test))
    n_held_out = sum(len(one.triplets) for one in held_out)
    return Proposal(name, number, *n_known, n_open, n_left, n_held_out, fits, version)


def _next_round(lake: Path, name: str) -> int:
    earlier = known_proposals(lake, name)
    last = None if earlier is None else earlier.select(pl.col("round").max()).collect().item()
    return 0 if last is None else int(last) + 1


def _known(lake: Path, agent: ChatAgent, progress: Callable[[str], None]) -> _Known:
    """Read the agent's judgments of the main set, and its open trials: can be asked, and have no response."""
    tables = {table: read_output(lake, Output(table)) for table in ("stimuli", "triplets", TABLES[agent.modality])}
    main = tables["triplets"].filter(pl.col("trial_set") == "main").select(*TRIPLET, "split").sort(TRIPLET).collect()
    every = np.ascontiguousarray(main.select(TRIPLET).to_numpy().astype(np.int32))
    splits = main["split"].to_numpy()
    shown = materials(tables, agent, with_frames=False)
    n_stimuli = len(shown.stimulus_ids)
    is_open: NDArray[np.bool_] = np.all((shown.n_options > 0)[every], axis=1)
    own = {split: np.empty((0, 3), np.int32) for split in _SPLITS}
    answers = known_answers(lake, agent.name)
    if answers is not None:
        found, _ = read_responses(tables | {"responses": answers}, agent, ["main"], progress)
        asked = np.ascontiguousarray(found.select(TRIPLET).to_numpy().astype(np.int32).reshape(-1, 3))
        is_open[np.searchsorted(trials.pack(every, n_stimuli), trials.pack(asked, n_stimuli))] = False
        choices = {"choices": choices_of(found, agent).table.lazy(), "triplets": tables["triplets"]}
        own = {split: judged(choices, split) for split in _SPLITS}
    return _Known(n_stimuli, *own.values(), *(every[is_open & (splits == split)] for split in _SPLITS))


def _of_people(lake: Path, params: Params, agent: ExperimentAgent) -> _Known:
    """Read the published judgments of people and their open trials, which have no choice of anybody.

    The judgments are the choices that the step `choose_by_judgments` makes of them.
    """
    tables = {table: read_output(lake, Output(table)) for table in ("stimuli", "triplets")}
    main = tables["triplets"].filter(pl.col("trial_set") == "main")
    rows = main.select(*TRIPLET, "split").sort(TRIPLET).collect()
    every = np.ascontiguousarray(rows.select(TRIPLET).to_numpy().astype(np.int32))
    splits = rows["split"].to_numpy()
    n_stimuli = int(tables["stimuli"].select(pl.len()).collect().item())
    can_be_shown = np.zeros(n_stimuli, dtype=np.bool_)
    can_be_shown[_shown(lake, agent)] = True
    is_open: NDArray[np.bool_] = np.all(can_be_shown[every], axis=1)
    own = {split: np.empty((0, 3), np.int32) for split in _SPLITS}
    answers = known_answers(lake, agent.name)
    if answers is not None:
        chosen = answers.filter(pl.col("given_odd").is_not_null(), ~pl.col("is_catch")).select(TRIPLET).unique()
        found = rows.select(TRIPLET).with_row_index("at").join(chosen.collect(), on=TRIPLET, how="semi")
        is_open[found["at"].to_numpy()] = False
        context = StepContext(agent.name, lake, lake, 1, lambda _line: None, lambda _line: None)
        choices = choose_by_judgments(tables | {"responses": answers}, params, context)["choices"]
        judgments = {"choices": choices.lazy(), "triplets": main}
        own = {split: judged(judgments, split) for split in _SPLITS}
    return _Known(n_stimuli, *own.values(), *(every[is_open & (splits == split)] for split in _SPLITS))


def _shown(lake: Path, agent: ExperimentAgent) -> NDArray[np.int32]:
    """Return the indices of the stimuli that have what the agent is shown."""
    if agent.show == "captions":
        found = read_output(lake, Output("captions"))
    else:
        found = read_output(lake, Output("videos")).filter(pl.col("video_path").is_not_null())
    return found.select(pl.col("stimulus_index").unique().sort()).collect()["stimulus_index"].to_numpy()


def _informative(
    params: Params, name: str, known: _Known, n: int, rng: np.random.Generator, progress: Callable[[str], None]
) -> tuple[_Chosen, ProposalFits]:
    """Fit embeddings to the judgments, and choose the open trials with the highest expected information."""
    wanted = params.proposals
    candidates = params.spose.few.candidates(params.settings(name), len(known.train), known.n_stimuli)

    def watch(member: int, row: Epoch) -> None:
        progress(
            f"embedding {member + 1} of {wanted.n_members}: epoch {row.epoch} of at most {params.spose.few.max_epochs}"
        )

    found, settings = fit_members(
        known.train, known.validation, known.n_stimuli, candidates, rng, wanted.n_members, os.cpu_count() or 1, watch
    )
    members = [fit.weights for fit in found]
    progress(f"computing the information of {len(known.open_train):,} open trials")
    lapse = float(np.mean([fit.lapse for fit in found]))
    information = expected_information(members, known.open_train, lapse)
    at = draw_informative(information, n, wanted.share, rng)
    fits = ProposalFits(
        information=float(information[at].mean()),
        information_of_open=float(information.mean()),
        accuracies=tuple(score(one, known.validation).accuracy for one in members),
        l1=settings.l1,
        lapse=lapse if any(_has_learned(fit, settings, len(candidates)) for fit in found) else None,
    )
    return _Chosen("informative", "train", known.open_train[at], information[at]), fits


def _has_learned(fit: Fit, settings: Settings, n_candidates: int) -> bool:
    """Return whether a fit predicts validation judgments, which chose its epoch and prior, better than chance."""
    return chance_level(fit.score, n_candidates * (settings.max_epochs + 1)) <= LEVEL


def _rows(chosen: _Chosen) -> pl.DataFrame:
    rows = pl.DataFrame(chosen.triplets, schema=dict.fromkeys(TRIPLET, pl.Int32), orient="row")
    information = pl.lit(None) if chosen.information is None else pl.Series(chosen.information)
    return rows.with_columns(
        split=pl.lit(chosen.split), purpose=pl.lit(chosen.purpose), information=information.cast(pl.Float32)
    )


def _publish(lake: Path, name: str, number: int, n_judgments: int, chosen: pl.DataFrame, log: Log) -> Version | None:
    frame = chosen.select(
        pl.lit(name).alias("agent"),
        pl.lit(number, dtype=pl.Int32).alias("round"),
        pl.lit("main").alias("trial_set"),
        pl.all(),
        pl.lit(n_judgments, dtype=pl.Int32).alias("n_judgments"),
    )
    with repository.writing(lake, f"affectlake propose {name}", wait_s=float("inf"), say=log):
        recover(lake, log)
        appending.append(lake, Output(PROPOSED, name), frame.sort(contract(PROPOSED).key), {})
        return publish_grown(lake, log)
