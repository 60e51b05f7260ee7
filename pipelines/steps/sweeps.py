"""The fits of a sweep: which there are, and running them on several cores. What is fitted is the step's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from affectlake.spose import Settings
from pipelines.metric_rows import Row
from pipelines.params import Sweeps
from pipelines.record import Work


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
    return dataclasses.replace(
        settings,
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
