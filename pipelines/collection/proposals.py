"""Which triplets an agent is asked next: from its answers and the open trials to a new round of ``proposals``.

The arithmetic is in :mod:`affectlake.spose.proposing`. Asking does not belong here: ``affectlake collect --proposed``
does that. Proposals are trials of the main set, so what is collected so and otherwise is one set of judgments, and the
held-out trials stay a random part of all trials.
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
from affectlake.judge.chat import ChatAgent
from affectlake.judge.protocols import TABLES
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
from affectlake.pipelines.steps.arrays import judged
from affectlake.pipelines.steps.responses import materials, read_responses
from affectlake.pipelines.stored import PROPOSED, known_answers, known_proposals
from affectlake.seeds import generator
from affectlake.spose.curve import Epoch
from affectlake.spose.model import score
from affectlake.spose.proposing import draw_informative, expected_information, fit_members
from affectlake.triplets import MIN_JUDGMENTS, TRIPLET

Rows = NDArray[np.int32]


class _Chosen(NamedTuple):
    """Triplets of one purpose with the split they are of, and what is expected of each (None: not computed)."""

    purpose: str
    split: str
    triplets: Rows
    information: NDArray[np.float32] | None


class Fits(NamedTuple):
    """What the embeddings of the judgments so far say.

    Attributes
    ----------
    information, information_of_open : float
        Mean expected information (nats) of the triplets proposed, and of all that are open.
    accuracies : tuple of float
        Held-out accuracy of each embedding.
    l1 : float
        What they were fitted with: what suits so few judgments.
    lapse : float
        Share of the judgments that they take for made by chance.
    """

    information: float
    information_of_open: float
    accuracies: tuple[float, ...]
    l1: float
    lapse: float


class Proposal(NamedTuple):
    """A round of proposals.

    Attributes
    ----------
    agent : str
        Who is to be asked.
    round : int
        Which round, from 0.
    n_judgments, n_test : int
        Judgments that there were to learn from, and held out.
    n_open : int
        Trials of the main set that could still be asked.
    n_to_learn, n_held_out : int
        Triplets proposed to learn from, and to test by.
    fits : Fits or None
        What chose the former; None where they were drawn at random.
    version : Version or None
        The version that holds the round.
    """

    agent: str
    round: int
    n_judgments: int
    n_test: int
    n_open: int
    n_to_learn: int
    n_held_out: int
    fits: Fits | None
    version: Version | None


class _Known(NamedTuple):
    """What is known of an agent: judgments by split, and the open trials by split, rows i < j < k."""

    n_stimuli: int
    train: Rows
    test: Rows
    open_train: Rows
    open_test: Rows


def propose(
    lake: Path, params: Params, name: str, n: int, log: Log, progress: Callable[[str], None] = lambda _line: None
) -> Proposal:
    """Propose `n` triplets of the main set to ask a chat agent next, and publish them as a round of ``proposals``.

    Until each stimulus has been judged a few times they are drawn at random, so that there is something to fit.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    params : Params
        Its parameters; section ``proposals``.
    name : str
        The agent.
    n : int
        How many, at least 1; fewer if fewer are open.
    log, progress : callable
        Take a line each: what is worth keeping, and how far it is.

    Raises
    ------
    UsageError
        No such agent, `n` is no number of triplets, or every trial is answered.
    LakeError
        If an older version is checked out, or a table was changed by hand.
    """
    agent = chat_agent(params, name)
    if n < 1:
        raise UsageError(f"{n} triplets cannot be proposed", wanted="1 or more")
    prepare_to_publish(lake, name, log)
    known = _known(lake, agent, progress)
    n_open = len(known.open_train) + len(known.open_test)
    if not n_open:
        raise UsageError(
            f"there is nothing left to propose for {name}",
            found="every trial of the main set that can be asked is answered or failed for good",
            todo="ask failed ones again with `affectlake collect --retry-failed`, or draw more triplets (params.yaml)",
        )
    number = _next_round(lake, name)
    rng = generator(params.seed, "proposals", name, number)
    wanted, n_test = params.proposals, len(known.test)
    n_held_out = min(max(0, wanted.held_out - n_test), -(-n // 10), len(known.open_test))
    held_out = _Chosen("held_out", "test", trials.sample_rows(known.open_test, n_held_out, rng), None)
    n_left = min(n - n_held_out, len(known.open_train))
    enough = len(known.train) >= wanted.random_per_stimulus * known.n_stimuli and n_test >= MIN_JUDGMENTS
    if enough and n_left:
        chosen, fits = _informative(params, name, known, n_left, rng, progress)
    else:
        chosen, fits = _Chosen("random", "train", trials.sample_rows(known.open_train, n_left, rng), None), None
    frame = pl.concat([_frame(chosen), _frame(held_out)])
    version = _publish(lake, name, number, len(known.train), frame, log)
    return Proposal(name, number, len(known.train), n_test, n_open, n_left, n_held_out, fits, version)


def _next_round(lake: Path, name: str) -> int:
    earlier = known_proposals(lake, name)
    last = None if earlier is None else earlier.select(pl.col("round").max()).collect().item()
    return 0 if last is None else int(last) + 1


def _known(lake: Path, agent: ChatAgent, progress: Callable[[str], None]) -> _Known:
    """Read what the agent has answered of the main set, and what of it is open: askable, and without a response."""
    tables = {table: read_output(lake, Output(table)) for table in ("stimuli", "triplets", TABLES[agent.modality])}
    main = tables["triplets"].filter(pl.col("trial_set") == "main").select(*TRIPLET, "split").sort(TRIPLET).collect()
    every = np.ascontiguousarray(main.select(TRIPLET).to_numpy().astype(np.int32))
    is_test = (main["split"] == "test").to_numpy()
    shown = materials(tables, agent, with_frames=False)
    n_stimuli = len(shown.stimulus_ids)
    is_open: NDArray[np.bool_] = np.all((shown.n_options > 0)[every], axis=1)
    train = test = np.empty((0, 3), np.int32)
    answers = known_answers(lake, agent.name)
    if answers is not None:
        found, _ = read_responses(tables | {"responses": answers}, agent, ["main"], progress)
        asked = np.ascontiguousarray(found.select(TRIPLET).to_numpy().astype(np.int32).reshape(-1, 3))
        is_open[np.searchsorted(trials.pack(every, n_stimuli), trials.pack(asked, n_stimuli))] = False
        choices = {"choices": found.lazy().filter(pl.col("odd").is_not_null()), "triplets": tables["triplets"]}
        train, test = judged(choices, "train"), judged(choices, "test")
    return _Known(n_stimuli, train, test, every[is_open & ~is_test], every[is_open & is_test])


def _informative(
    params: Params, name: str, known: _Known, n: int, rng: np.random.Generator, progress: Callable[[str], None]
) -> tuple[_Chosen, Fits]:
    """Fit embeddings to the judgments, and choose of the open trials those whose answers tell most."""
    wanted = params.proposals
    candidates = params.spose.few.candidates(params.settings(name), len(known.train), known.n_stimuli)

    def watch(member: int, row: Epoch) -> None:
        progress(
            f"embedding {member + 1} of {wanted.n_members}: epoch {row.epoch} of at most {params.spose.few.max_epochs}"
        )

    found, settings = fit_members(
        known.train, known.test, known.n_stimuli, candidates, rng, wanted.n_members, os.cpu_count() or 1, watch
    )
    members = [fit.weights for fit in found]
    progress(f"weighing {len(known.open_train):,} open trials")
    lapse = float(np.mean([fit.lapse for fit in found]))
    information = expected_information(members, known.open_train, lapse)
    at = draw_informative(information, n, wanted.share, rng)
    fits = Fits(
        information=float(information[at].mean()),
        information_of_open=float(information.mean()),
        accuracies=tuple(score(one, known.test).accuracy for one in members),
        l1=settings.l1,
        lapse=lapse,
    )
    return _Chosen("informative", "train", known.open_train[at], information[at]), fits


def _frame(chosen: _Chosen) -> pl.DataFrame:
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
