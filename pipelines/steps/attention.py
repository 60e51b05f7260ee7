"""The table ``attention`` of one agent: numbers of each participant by which rules leave participants out.

Answers are compared with an embedding of other participants' answers: participants are divided into folds, and those of
a fold are scored by an embedding that was fitted without them. Only answers of the training split are fitted and
scored: an exclusion that depended on test answers would keep those that the model predicts, and raise the held-out
accuracy of people who answer by chance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.geometry.attention import followed, longest_run, recognised, run_p_value
from affectlake.judge.agents import Exclude, Inattentive
from affectlake.pipelines.steps.rows import Row
from affectlake.seeds import generator
from affectlake.spose.data import training_data
from affectlake.spose.fitting import fit
from affectlake.spose.model import anchored_probabilities, choice_probabilities
from affectlake.spose.settings import FewJudgments, Settings
from affectlake.tasks import ANSWERS, Task
from affectlake.triplets import TRIPLET

FOLDS = 5
LEAST_TRAINED = 100
"""Smallest number of answers of others that are fitted."""

MOST_TRAINED = 200_000
"""Largest number of answers of others that are fitted, drawn at random: more take longer and tell little more."""

_FEW = FewJudgments(max_epochs=100, patience=10)
_NOT_ASKED = "exclude.inattentive is not set"
_NULLS = {"follow_share": None, "follow_low": None, "follow_high": None, "random_p": None, "random_power": None}

Log = Callable[[str], None]


class _Fold(NamedTuple):
    """Answers, and probabilities of the answers by an embedding of others: (m,) and (m, K)."""

    answers: NDArray[np.int64]
    probabilities: NDArray[np.float32]


def attention(
    rows: pl.DataFrame,
    usual: pl.DataFrame,
    exclude: Exclude,
    offered: list[str],
    task: Task,
    n_stimuli: int,
    seed: int,
    log: Log,
) -> pl.DataFrame:
    """Return the rows of ``attention``, without the agent: one for each named participant.

    Parameters
    ----------
    rows : polars.DataFrame
        All stored judgments in the order given, with the ``rule`` that leaves out a judgment, and their ``split``.
    usual : polars.DataFrame
        One row for each named participant, with the other rule by which they are left out: ``participant``,
        ``excluded_by``. Those who are left out are scored, and no embedding is fitted to their answers.
    exclude : Exclude
        The rules.
    offered : list of str
        Columns with the stimuli that can be chosen, by position.
    task : {"odd-one-out", "anchored"}
    n_stimuli : int
    seed : int
        The study's root seed.
    log : callable
        Takes one line.
    """
    known = rows.filter(
        pl.col("participant").is_not_null(),
        pl.col("chosen").is_not_null(),
        pl.col("rule").fill_null("") != "catalogue_changed",
    )
    found = usual.select("participant").sort("participant")
    found = found.join(_fast(known, exclude), on="participant", how="left")
    found = found.join(_runs(known, offered), on="participant", how="left")
    followed_by = _followed(rows, usual, exclude.inattentive, task, n_stimuli, seed, log)
    return found.join(followed_by, on="participant", how="left").sort("participant")


def _fast(known: pl.DataFrame, exclude: Exclude) -> pl.DataFrame:
    """Return the share of each participant's judgments, of those with a time, that took less than the limit."""
    timed = known.filter(~pl.col("is_catch"), pl.col("response_ms").is_not_null())
    limit = exclude.faster_than_ms
    share = pl.lit(None, dtype=pl.Float64) if limit is None else (pl.col("response_ms") < limit).mean()
    return timed.group_by("participant").agg(share.alias("fast_share"))


def _runs(known: pl.DataFrame, offered: list[str]) -> pl.DataFrame:
    """Return each participant's longest run of answers on one position, and its p-value; catch trials count."""
    at = pl.coalesce(
        pl.when(pl.col("chosen") == pl.col(one)).then(pl.lit(place)) for place, one in enumerate(offered, start=1)
    )
    placed = known.with_columns(at=at).filter(pl.col("at").is_not_null())
    number = pl.col("trial").cast(pl.Float64, strict=False)
    session = ["source_file", "session"]
    placed = placed.sort(*session, number, "source_row", maintain_order=True, nulls_last=True)
    found = []
    for (who,), one in placed.group_by("participant", maintain_order=True):
        groups = one.select(pl.struct(session).rank("dense").cast(pl.Int64)).to_series().to_numpy()
        length = longest_run(one["at"].to_numpy(), groups)
        sizes = np.unique(groups, return_counts=True)[1]
        found.append((who, length, run_p_value(length, sizes, len(offered))))
    schema = {"participant": pl.String, "longest_run": pl.Int32, "run_p": pl.Float64}
    return pl.DataFrame(found, schema=schema, orient="row")


def _followed(
    rows: pl.DataFrame,
    usual: pl.DataFrame,
    wanted: Inattentive | None,
    task: Task,
    n_stimuli: int,
    seed: int,
    log: Log,
) -> pl.DataFrame:
    schema = {
        "participant": pl.String,
        "n_scored": pl.Int32,
        **dict.fromkeys(_NULLS, pl.Float64),
        "note": pl.String,
    }
    used = rows.filter(pl.col("rule").is_null(), pl.col("split") == "train", pl.col("chosen").is_not_null())
    counts = dict(used.drop_nulls("participant").group_by("participant").len().iter_rows())
    names: list[str] = usual["participant"].sort().to_list()
    scored: dict[str, _Fold] = {}
    why = _NOT_ASKED
    if wanted is not None:
        scored, why = scored_by_others(used, usual, task, n_stimuli, seed)
    kept = set(usual.filter(pl.col("excluded_by").is_null())["participant"].to_list())
    results = {who: followed(one.probabilities, one.answers) for who, one in scored.items()}
    typical = float(np.median([one.share for who, one in results.items() if who in kept] or [0.0]))
    found: list[Row] = []
    for who in names:
        n = int(counts.get(who, 0))
        if who not in results:
            note = why or "no answers in the training split"
            found.append({"participant": who, "n_scored": 0, **_NULLS, "note": note})
            continue
        assert wanted is not None
        one = results[who]
        power = recognised(scored[who].probabilities, typical, wanted.level)
        found.append({
            "participant": who, "n_scored": n, "follow_share": one.share, "follow_low": one.low,
            "follow_high": one.high, "random_p": one.p_value, "random_power": power, "note": None,
        })  # fmt: skip
    if results:
        log(f"the median participant follows the others' embedding in {typical:.0%} of answers")
    return pl.DataFrame(found, schema=schema, orient="row")


def scored_by_others(
    used: pl.DataFrame, usual: pl.DataFrame, task: Task, n_stimuli: int, seed: int
) -> tuple[dict[str, _Fold], str]:
    """Return each participant's answers with their probabilities by an embedding of others, or why there are none.

    Parameters
    ----------
    used : polars.DataFrame
        The answers that are fitted and scored.
    usual, task, n_stimuli, seed
        As for :func:`attention`.
    """
    names: list[str] = used["participant"].drop_nulls().unique().sort().to_list()
    if len(names) < 2:
        return {}, "one participant has no others to be compared with" if names else "no participant is named"
    n_folds = min(FOLDS, len(names))
    mixed = generator(seed, "attention", "folds").permutation(len(names)) % n_folds
    fold_of = dict(zip(names, mixed.tolist(), strict=True))
    fold = pl.col("participant").replace_strict(fold_of, default=-1, return_dtype=pl.Int64)
    is_out = pl.col("participant").is_in(usual.drop_nulls("excluded_by")["participant"].to_list())
    placed = used.with_columns(fold=fold, fitted=~is_out.fill_null(value=False)).sort(
        "participant", *TRIPLET, "request_key", nulls_last=True
    )
    coded, answers = _coded(placed, task)
    folds, fitted = placed["fold"].to_numpy(), placed["fitted"].to_numpy()
    if min(int((fitted & (folds != at)).sum()) for at in range(n_folds)) < LEAST_TRAINED:
        return {}, f"the others gave fewer than {LEAST_TRAINED} answers in the training split"
    who = placed["participant"].to_numpy()
    found: dict[str, _Fold] = {}
    settings: Settings | None = None
    for at in range(n_folds):
        rng = generator(seed, "attention", at)
        weights, settings = trained(coded[fitted & (folds != at)], n_stimuli, task, settings, rng)
        asked = _asked(placed, task)[folds == at]
        of = anchored_probabilities if task == "anchored" else choice_probabilities
        chances = of(weights, np.ascontiguousarray(asked))
        here, given = who[folds == at], answers[folds == at]
        for one in np.unique(here.astype(str)):
            mine = here == one
            found[str(one)] = _Fold(given[mine], chances[mine])
    return found, ""


def trained(
    judged: NDArray[np.int32], n_stimuli: int, task: Task, settings: Settings | None, rng: np.random.Generator
) -> tuple[NDArray[np.float32], Settings]:
    """Return an embedding, and the settings of the candidate with the lowest loss on a tenth of the judgments.

    Parameters
    ----------
    judged : int32 array (m, 3)
        Judgments, the odd one last; or head, winner and loser.
    n_stimuli, task
        As for :func:`attention`.
    settings : Settings or None
        The settings; None: those of candidates for few judgments are tried.
    rng : numpy.random.Generator
        Draws the judgments and the initial weights.
    """
    mixed = judged[rng.permutation(len(judged))[:MOST_TRAINED]]
    n_aside = max(len(mixed) // 10, 1)
    data = training_data(mixed[n_aside:], mixed[:n_aside], n_stimuli, rng, task)
    base = Settings(l1=0.0, pruning="none", init_std=0.1 if task == "anchored" else 0.01)
    candidates = [settings] if settings else _FEW.candidates(base, len(data.train), n_stimuli)
    root = int(rng.integers(2**31))
    fits = [fit(data, one, np.random.default_rng(root)) for one in candidates]
    best = int(np.argmin([one.score.loss for one in fits]))
    return fits[best].weights, candidates[best]


def _asked(rows: pl.DataFrame, task: Task) -> NDArray[np.int32]:
    """Return the triplets in the order of the answers: (i, j, k), or head and the two others."""
    triplets = rows.select(TRIPLET).to_numpy().astype(np.int32)
    if task == "odd-one-out":
        return triplets
    head = rows["head"].to_numpy()
    others = np.sort(np.where(triplets == head[:, None], np.iinfo(np.int32).max, triplets), axis=1)[:, :2]
    return np.column_stack([head, others]).astype(np.int32)


def _coded(rows: pl.DataFrame, task: Task) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the judgments as they are fitted (odd one last; or head, winner, loser), and each answer's number."""
    asked, chosen = _asked(rows, task), rows["chosen"].to_numpy()
    offered = asked if task == "odd-one-out" else asked[:, 1:]
    answers = (offered == chosen[:, None]).argmax(axis=1).astype(np.int64)
    rest = offered[offered != chosen[:, None]].reshape(len(offered), ANSWERS[task] - 1)
    columns = [rest, chosen[:, None]] if task == "odd-one-out" else [asked[:, :1], chosen[:, None], rest]
    return np.column_stack(columns).astype(np.int32), answers
