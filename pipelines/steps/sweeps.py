"""The step `sweep`: fits with other numbers of dimensions and of judgments, on several cores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import polars as pl

from affectlake.geometry.reproducibility import best_matches
from affectlake.pipelines.params.study import Params, Sweeps
from affectlake.pipelines.step import EVERY_KIND, OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps import arrays
from affectlake.pipelines.steps.rows import Row, to_table
from affectlake.seeds import generator
from affectlake.spose.curve import Score
from affectlake.spose.data import training_data
from affectlake.spose.fitting import fit
from affectlake.spose.model import score
from affectlake.spose.proposing import choose_settings
from affectlake.spose.settings import Settings, in_cycles
from affectlake.tasks import ANSWERS, chance
from affectlake.triplets import MIN_JUDGMENTS


class SweepFit(NamedTuple):
    """One fit of a sweep: the sweep, its setting, the replicate, the number of judgments and of dimensions."""

    sweep: str
    setting: int
    replicate: int
    n_judgments: int
    dimensions: int


def sweep_fits(wanted: Sweeps, n_judgments: int, dimensions: int) -> Iterator[SweepFit]:
    """Yield the fits of both sweeps, the slowest first; settings above `n_judgments` are left out.

    Parameters
    ----------
    wanted : Sweeps
        The section ``sweeps`` of ``params.yaml``.
    n_judgments : int
        Number of judgments available for learning.
    dimensions : int
        Number of dimensions with which the fits of the sweep over judgments start, as in the study's fits.
    """
    for replicate in range(wanted.replicates):
        for setting in sorted(wanted.judgments, reverse=True):
            if setting <= n_judgments:
                yield SweepFit("judgments", setting, replicate, setting, dimensions)
        for setting in sorted(wanted.dimensions, reverse=True):
            yield SweepFit("dimensions", setting, replicate, min(wanted.n_judgments, n_judgments), setting)


def settings_of(settings: Settings, wanted: Sweeps, one: SweepFit) -> Settings:
    """Return the study's settings with those of the sweeps in place of its own."""
    steps = (
        {
            "batch_size": wanted.batch_size,
            "learning_rate": wanted.learning_rate,
            "schedule": "constant",
            "warmup_epochs": 0,
        }
        if wanted.cycle_epochs is None
        else in_cycles(wanted.learning_rate, wanted.cycle_epochs, one.n_judgments)
    )
    return settings.replaced(
        **steps,
        dimensions=one.dimensions,
        max_epochs=wanted.max_epochs,
        patience=wanted.patience,
        min_delta=wanted.min_delta,
    )


def run_fits(fit_one: Callable[[SweepFit], Row], planned: list[SweepFit], context: StepContext) -> list[Row]:
    """Run the fits in parallel, on at most `context.workers` cores; return their rows in the order of `planned`."""
    n_done = 0

    def run(one: SweepFit) -> Row:
        nonlocal n_done
        row = fit_one(one)
        n_done += 1
        context.progress(f"{n_done} of {len(planned)} fits of the sweeps done")
        return row

    with ThreadPoolExecutor(max_workers=context.workers) as pool:
        futures = [pool.submit(run, one) for one in planned]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@step(
    reads=("stimuli", "trials/{agent}", "choices/{agent}", "soft_choices/{agent}", "embeddings/{agent}"),
    writes=("sweeps/{agent}",),
    params=(
        "seed",
        "spose",
        "sweeps.dimensions",
        "sweeps.n_judgments",
        "sweeps.judgments",
        "sweeps.replicates",
        "sweeps.recovered_r",
        "sweeps.batch_size",
        "sweeps.learning_rate",
        "sweeps.cycle_epochs",
        "sweeps.max_epochs",
        "sweeps.patience",
        "sweeps.min_delta",
        "agents.{agent}.l1",
        "agents.{agent}.init_std",
        "agents.{agent}.learn_from",
    ),
    kinds=EVERY_KIND,
    optional=("sweeps.batch_size", "sweeps.cycle_epochs", "agents.{agent}.learn_from"),
    version=3,
)
def sweep(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Fit with other numbers of dimensions and of judgments, to see where accuracy and dimensions saturate."""
    wanted, n_stimuli = params.sweeps, tables["stimuli"].select(pl.len()).collect().item()
    if not (wanted.dimensions or wanted.judgments):
        return {"sweeps": to_table("sweeps", [])}
    train, validation, test = (arrays.judged(tables, split) for split in ("train", "validation", "test"))
    targets, fits = arrays.judged_softly(tables, "train"), arrays.fits(tables)
    if min(len(train), len(validation), len(test)) < MIN_JUDGMENTS or not fits:
        counts = (
            f"{len(train):,} judgments to learn from, {len(validation):,} for validation, {len(test):,} for testing"
        )
        context.log(f"no sweep: {counts if fits else 'no fit has a dimension'}")
        return {"sweeps": to_table("sweeps", [])}
    task = arrays.task_of(tables)
    reference = fits[min(fits)]  # any fit will do, if it is the same one for the whole sweep

    def fit_one(one: SweepFit) -> Row:
        names = ("sweeps", context.agent, one.sweep, one.setting, one.replicate)
        rng = generator(params.seed, *names)
        chosen = rng.choice(len(train), one.n_judgments, replace=False, shuffle=False)
        own = None if targets is None else targets[chosen]
        data = training_data(train[chosen], validation, n_stimuli, rng, task, own)
        candidates = params.candidates(context.agent, one.n_judgments, n_stimuli)
        settings = choose_settings(
            data,
            [settings_of(candidate, wanted, one) for candidate in candidates],
            generator(params.seed, *names, "prior"),
        )
        found = fit(data, settings, rng)
        guesses = Score(math.log(ANSWERS[task]), chance(task), len(test))
        scored = score(found.weights, test, task) if found.weights.shape[1] else guesses
        matches = best_matches(reference, found.weights) if found.weights.shape[1] else np.empty(0)
        return {
            "agent": context.agent,
            "sweep": one.sweep,
            "setting": float(one.setting),
            "replicate": one.replicate,
            "test_loss": scored.loss,
            "test_accuracy": scored.accuracy,
            "n_dimensions": found.weights.shape[1],
            "n_recovered": int((matches >= wanted.recovered_r).sum()),
        }

    planned = list(sweep_fits(wanted, len(train), params.spose.dimensions))
    return {"sweeps": to_table("sweeps", run_fits(fit_one, planned, context))}
