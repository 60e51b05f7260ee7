"""The step `sweep`: fits with other numbers of dimensions and judgments, on several cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import polars as pl

from affectlake.geometry.reproducibility import best_matches
from affectlake.pipelines.params.study import Params, Sweeps
from affectlake.pipelines.step import EVERY_KIND, Frames, Tables, Work, step
from affectlake.pipelines.steps import arrays
from affectlake.pipelines.steps.rows import Row, frame
from affectlake.seeds import generator
from affectlake.spose.data import training_data
from affectlake.spose.fitting import fit
from affectlake.spose.proposing import choose_settings
from affectlake.spose.settings import Settings
from affectlake.triplets import MIN_JUDGMENTS


class Trial(NamedTuple):
    """One fit: which sweep at which setting, its replicate, and what it is made with."""

    sweep: str
    setting: int
    replicate: int
    n_judgments: int
    dimensions: int


def trials(wanted: Sweeps, n_judgments: int, dimensions: int) -> Iterator[Trial]:
    """Yield the fits of both sweeps, the costly ones first; settings beyond the judgments at hand are left out.

    Parameters
    ----------
    wanted : Sweeps
        Of ``params.yaml``.
    n_judgments : int
        How many there are to learn from.
    dimensions : int
        With how many the sweep over judgments starts: as many as the study's fits.
    """
    for replicate in range(wanted.replicates):
        for setting in sorted(wanted.judgments, reverse=True):
            if setting <= n_judgments:
                yield Trial("judgments", setting, replicate, setting, dimensions)
        for setting in sorted(wanted.dimensions, reverse=True):
            yield Trial("dimensions", setting, replicate, min(wanted.n_judgments, n_judgments), setting)


def settings_of(settings: Settings, wanted: Sweeps, dimensions: int) -> Settings:
    """Return the study's settings with those of the sweeps in their place."""
    return settings.replaced(
        dimensions=dimensions,
        batch_size=wanted.batch_size,
        learning_rate=wanted.learning_rate,
        max_epochs=wanted.max_epochs,
        patience=wanted.patience,
        min_delta=wanted.min_delta,
    )


def run_trials(one: Callable[[Trial], Row], asked: list[Trial], work: Work) -> list[Row]:
    """Run every trial, as many at once as there are cores to keep busy; the rows are in the order asked."""
    done = 0

    def run(trial: Trial) -> Row:
        nonlocal done
        found = one(trial)
        done += 1
        work.progress(f"{done} of {len(asked)} fits of the sweeps done")
        return found

    with ThreadPoolExecutor(max_workers=work.workers) as pool:
        waiting = [pool.submit(run, trial) for trial in asked]
        try:
            return [future.result() for future in waiting]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@step(
    reads=("stimuli", "triplets", "choices/{agent}", "embeddings/{agent}"),
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
        "sweeps.max_epochs",
        "sweeps.patience",
        "sweeps.min_delta",
        "agents.{agent}.l1",
    ),
    kinds=EVERY_KIND,
    version=2,
)
def sweep(tables: Tables, params: Params, work: Work) -> Frames:
    """Fit again with other numbers of dimensions and of judgments: where accuracy and dimensions saturate."""
    wanted, n_stimuli = params.sweeps, tables["stimuli"].select(pl.len()).collect().item()
    train, test = arrays.judged(tables, "train"), arrays.judged(tables, "test")
    fits = arrays.fits(tables)
    if min(len(train), len(test)) < MIN_JUDGMENTS or not fits:
        work.say(f"no sweep: {len(train):,} judgments to learn from, {len(test):,} held out")
        return {"sweeps": frame("sweeps", [])}
    reference = fits[min(fits)]  # a yardstick: any fit will do, as long as it is the same for every trial

    def one(trial: Trial) -> Row:
        names = ("sweeps", work.agent, trial.sweep, trial.setting, trial.replicate)
        rng = generator(params.seed, *names)
        chosen = train[rng.choice(len(train), trial.n_judgments, replace=False, shuffle=False)]
        data = training_data(chosen, test, n_stimuli, rng)
        candidates = params.candidates(work.agent, trial.n_judgments, n_stimuli)
        own = choose_settings(
            data,
            [settings_of(one, wanted, trial.dimensions) for one in candidates],
            generator(params.seed, *names, "prior"),
        )
        found = fit(data, own, rng)
        matches = best_matches(reference, found.weights) if found.weights.shape[1] else np.empty(0)
        return {
            "agent": work.agent,
            "sweep": trial.sweep,
            "setting": float(trial.setting),
            "replicate": trial.replicate,
            "test_loss": found.score.loss,
            "test_accuracy": found.score.accuracy,
            "n_dimensions": found.weights.shape[1],
            "n_recovered": int((matches >= wanted.recovered_r).sum()),
        }

    asked = list(trials(wanted, len(train), params.spose.dimensions))
    return {"sweeps": frame("sweeps", run_trials(one, asked, work))}
