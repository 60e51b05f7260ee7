"""Step of variational SPoSE: fits with uncertain weights beside those of SPoSE, scored on the same test judgments."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.geometry.intervals import wilson_interval
from affectlake.geometry.reproducibility import agreements, best_matches
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import EVERY_KIND, OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.arrays import Embedding, judged, representative, task_of
from affectlake.pipelines.steps.arrays import fits as fits_of
from affectlake.pipelines.steps.embedding import DIVERGED, by_chance
from affectlake.pipelines.steps.rows import Row, to_table
from affectlake.seeds import generator
from affectlake.spose.chance import LEVEL, chance_level
from affectlake.spose.curve import Epoch
from affectlake.spose.data import TrainingData, training_data
from affectlake.spose.model import score
from affectlake.spose.vice.calibration import Calibration, calibrate
from affectlake.spose.vice.fitting import ViceFit, fit_posterior
from affectlake.spose.vice.posterior import Posterior, deviations, positive, weights
from affectlake.spose.vice.settings import ViceSettings
from affectlake.tasks import Task

NO_JUDGMENTS = "not fitted: there are no judgments to learn from, or none for validation"
NO_DIMENSIONS = "the fit learned nothing: no dimension describes enough stimuli"
NO_INTERVALS = "simulated fits do not recover the dimensions, so that weights have no intervals"


@step(
    reads=("stimuli", "trials/{agent}", "choices/{agent}", "embeddings/{agent}", "fits/{agent}"),
    writes=("vice_embeddings/{agent}", "fit_methods/{agent}"),
    params=("seed", "vice"),
    section="vice",
    kinds=EVERY_KIND,
    version=1,
)
def embed_vice(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Fit variational SPoSE with intervals of weights, and compare its fits with those of SPoSE on test judgments."""
    assert params.vice is not None
    seeds, task = params.vice.seeds, task_of(tables)
    test = judged(tables, "test")
    fits = _fitted(tables, params, context, task)
    if fits is None:
        context.log(NO_JUDGMENTS)
        rows = _rows(context.agent, "vice", dict.fromkeys(seeds, np.empty((0, 0), np.float32)), seeds[0], test, task)
        rows = [row | {"note": NO_JUDGMENTS} for row in rows]
        return {"vice_embeddings": to_table("vice_embeddings", []), "fit_methods": to_table("fit_methods", rows)}
    data, found = fits
    levels = {seed: chance_level(fit.score, 1, task) for seed, fit in found.items()}
    learned = {
        seed: fit.posterior.columns(np.arange(fit.posterior.mean.shape[1] if levels[seed] <= LEVEL else 0))
        for seed, fit in found.items()
    }
    own, calibration = learned[seeds[0]], None
    if own.mean.shape[1]:
        rng = generator(params.seed, "vice", context.agent, "intervals")
        calibration = calibrate(own, data, settings_of(params), rng)
        share = f"{calibration.recovered:.0%} of known dimensions recovered" if calibration else NO_INTERVALS
        context.log(f"seed {seeds[0]}: intervals from simulated fits: {share}")
    embeddings = {seed: weights(posterior) for seed, posterior in learned.items()}
    rows = _rows(context.agent, "vice", embeddings, seeds[0], test, task)
    for row, (seed, fit) in zip(rows, found.items(), strict=True):
        level = levels[seed]
        row |= {
            "held_out_loss": fit.score.loss if row["n_dimensions"] else None,
            "n_epochs": fit.curve[-1].epoch,
            "converged": fit.stopped == "converged",
            "p_chance": level,
            "note": _note(fit, level, calibration is None and seed == seeds[0]),
        }
        context.log(_told(row))
    rows += _of_spose(tables, test, task, embeddings[seeds[0]], context.agent)
    _match(rows, embeddings[seeds[0]], tables)
    table = to_table("fit_methods", rows)
    return {"vice_embeddings": _weights(context.agent, seeds[0], own, calibration), "fit_methods": table}


def settings_of(params: Params) -> ViceSettings:
    """Return the settings of the fits."""
    assert params.vice is not None
    return ViceSettings(**{name: getattr(params.vice, name) for name in ViceSettings.model_fields})


def _fitted(
    tables: Tables, params: Params, context: StepContext, task: Task
) -> tuple[TrainingData, dict[int, ViceFit]] | None:
    """Return the judgments and the fits by seed; None if there are no judgments."""
    assert params.vice is not None
    train, validation = judged(tables, "train"), judged(tables, "validation")
    if not len(train) or not len(validation):
        return None
    n_stimuli = tables["stimuli"].select(pl.len()).collect().item()
    data = training_data(train, validation, n_stimuli, generator(params.seed, "spose", context.agent, "order"), task)
    settings = settings_of(params)

    def one(seed: int) -> ViceFit:
        rng = generator(params.seed, "vice", context.agent, seed)
        return fit_posterior(data, settings, rng, on_epoch=partial(_progress, context, seed, settings.max_epochs))

    with ThreadPoolExecutor(context.workers, thread_name_prefix="vice") as pool:
        return data, dict(zip(params.vice.seeds, pool.map(one, params.vice.seeds), strict=True))


def _progress(context: StepContext, seed: int, max_epochs: int, row: Epoch) -> None:
    context.progress(f"seed {seed}: epoch {row.epoch} of at most {max_epochs}, {row.n_dimensions} dimensions")


def _rows(
    agent: str, method: str, fits: dict[int, Embedding], used: int | None, test: NDArray[np.int32], task: Task
) -> list[Row]:
    """Return a row for each fit: dimensions, scores on the test judgments, and agreement with the other fits."""
    agreement = agreements({seed: found for seed, found in fits.items() if found.shape[1]})
    rows: list[Row] = []
    for seed, found in fits.items():
        row: Row = {"agent": agent, "fit_method": method, "seed": seed, "n_dimensions": found.shape[1],
                    "reproducibility": agreement.get(seed), "used": seed == used}  # fmt: skip
        if found.shape[1] and len(test):
            scored = score(found, test, task)
            low, high = map(float, wilson_interval(scored.accuracy * scored.n, scored.n))
            row |= {"test_loss": scored.loss, "test_accuracy": scored.accuracy, "ci_low": low, "ci_high": high}
        rows.append(row | {"n": len(test)})
    return rows


def _of_spose(tables: Tables, test: NDArray[np.int32], task: Task, beside: Embedding, agent: str) -> list[Row]:
    """Return the rows of the fits of SPoSE, with what the table `fits` has on them."""
    known = {row["seed"]: row for row in tables["fits"].sort("seed").collect().to_dicts()}
    kept = fits_of(tables)
    every = {seed: kept.get(seed, np.empty((len(beside), 0), np.float32)) for seed in known}
    used = next((seed for seed, row in known.items() if row["representative"]), None)
    rows = _rows(agent, "spose", every, used, test, task)
    same = ("held_out_loss", "n_epochs", "converged", "p_chance", "note")
    return [row | {name: known[row["seed"]].get(name) for name in same} for row in rows]


def _match(rows: list[Row], vice: Embedding, tables: Tables) -> None:
    """Add to the used fit of each method how well its dimensions match those of the other method's used fit."""
    fitted = representative(tables)
    if fitted is None or not vice.shape[1]:
        return
    spose = fitted[1]
    for row in rows:
        if row["used"]:
            own, other = (vice, spose) if row["fit_method"] == "vice" else (spose, vice)
            r = best_matches(own, other)
            row["method_r"] = float(np.nanmean(r)) if np.isfinite(r).any() else None


def _note(fit: ViceFit, level: float, without_intervals: bool) -> str | None:
    if fit.stopped == "diverged":
        return DIVERGED
    if not fit.posterior.mean.shape[1]:
        return NO_DIMENSIONS
    if level > LEVEL:
        return by_chance(level)
    return NO_INTERVALS if without_intervals else None


def _told(row: Row) -> str:
    line = f"seed {row['seed']}: {row['n_dimensions']} dimensions after {row['n_epochs']} epochs"
    accuracy = row.get("test_accuracy")
    line += f", test accuracy {accuracy:.4f}" if accuracy is not None else ""
    line += "" if row["converged"] else "; not converged: raise vice.max_epochs"
    return f"{line}; {row['note']}" if row["note"] else line


def _weights(agent: str, seed: int, own: Posterior, calibration: Calibration | None) -> pl.DataFrame:
    """Return the posterior (n_stimuli, d) of the first seed's fit as rows."""
    n_stimuli, d = own.mean.shape
    ends = calibration.intervals(own) if calibration else (np.full((n_stimuli, d), np.nan),) * 2
    columns: dict[str, NDArray[np.floating]] = {
        "weight": weights(own),
        "weight_sd": deviations(own),
        "p_positive": positive(own),
    }
    columns |= {"ci_low": ends[0].astype(np.float64), "ci_high": ends[1].astype(np.float64)}
    table = pl.DataFrame(
        {
            "agent": pl.repeat(agent, n_stimuli * d, eager=True),
            "seed": pl.repeat(seed, n_stimuli * d, dtype=pl.Int32, eager=True),
            "dimension": np.repeat(np.arange(1, d + 1, dtype=np.int16), n_stimuli),
            "stimulus_index": np.tile(np.arange(n_stimuli, dtype=np.int32), d),
            **{name: values.T.ravel() for name, values in columns.items()},
        }
    ).with_columns(pl.col("ci_low", "ci_high").fill_nan(None))
    order = ("agent", "seed", "dimension", "stimulus_index", "weight", "weight_sd", "ci_low", "ci_high", "p_positive")
    return table.select(order)
