"""Steps of embeddings: SPoSE fits to an agent's judgments, the representative fit, and the stimulus map."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.geometry.layout import layout
from affectlake.geometry.reproducibility import agreements, representative_seed
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import EVERY_KIND, OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps import arrays
from affectlake.pipelines.steps.arrays import fit_results, judged, representative
from affectlake.pipelines.steps.arrays import fits as fits_of
from affectlake.pipelines.steps.rows import to_table
from affectlake.seeds import generator, integer
from affectlake.spose.chance import LEVEL, chance_level
from affectlake.spose.curve import Epoch
from affectlake.spose.data import training_data
from affectlake.spose.fitting import Fit, fit_seeds
from affectlake.spose.proposing import choose_settings
from affectlake.spose.settings import Settings


@step(
    reads=("stimuli", "trials/{agent}", "choices/{agent}", "soft_choices/{agent}"),
    writes=("embeddings/{agent}", "learning_curves/{agent}"),
    params=("seed", "spose", "agents.{agent}.l1", "agents.{agent}.init_std", "agents.{agent}.learn_from"),
    kinds=EVERY_KIND,
    optional=("agents.{agent}.learn_from",),
    gpu=True,
    fits=True,
    version=4,
)
def embed(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Fit the SPoSE embedding of an agent's judgments, once per seed; a fit no better than chance has no dimensions."""
    n_stimuli = tables["stimuli"].select(pl.len()).collect().item()
    train, validation = judged(tables, "train"), judged(tables, "validation")
    if not len(train) or not len(validation):
        counts = f"{len(train):,} judgments to learn from and {len(validation):,} for validation"
        context.log(f"no fit: {counts}; both are needed")
        return {table: to_table(table, []) for table in ("embeddings", "learning_curves")}
    rng = generator(params.seed, "spose", context.agent, "order")
    targets = arrays.judged_softly(tables, "train")
    data = training_data(train, validation, n_stimuli, rng, arrays.task_of(tables), targets)
    context.log(f"{len(data.train):,} judgments to learn from, {len(data.validation):,} for validation")
    if targets is not None:
        context.log("probabilities are learned in place of choices; validation and test judgments are choices")
    candidates = params.candidates(context.agent, len(data.train), n_stimuli)
    settings = choose_settings(
        data, candidates, generator(params.seed, "spose", context.agent, "prior"), context.workers
    )
    if len(candidates) > 1:
        several = len({one.init_std for one in candidates}) > 1
        spread = f" and init_std = {settings.init_std:g}" if several else ""
        context.log(f"of {len(candidates)} settings, l1 = {settings.l1:.2g}{spread} predict best")
    fits = fit_seeds(
        data,
        settings,
        params.seed,
        params.fit_seeds,
        names=("spose", context.agent),
        workers=context.workers if params.device == "cpu" else 1,
        on_epoch=lambda seed, row: context.progress(_progress(seed, row, settings.max_epochs)),
        checkpoints_in=context.scratch,
        device=params.device,
    )
    n_considered = len(candidates) * (1 if settings.patience is None else settings.max_epochs + 1)
    levels = {seed: chance_level(fit.score, n_considered, data.task) for seed, fit in fits.items()}
    for seed, fit in fits.items():
        for line in _told(seed, fit, levels[seed], settings):
            context.log(line)
    learned = {seed: fit.weights[:, : None if levels[seed] <= LEVEL else 0] for seed, fit in fits.items()}
    weights = [_weights(context.agent, seed, kept) for seed, kept in learned.items()]
    curves = [_curve(context.agent, seed, fit, levels[seed]) for seed, fit in fits.items()]
    return {"embeddings": pl.concat(weights), "learning_curves": pl.concat(curves)}


def _progress(seed: int, row: Epoch, max_epochs: int) -> str:
    return f"seed {seed}: epoch {row.epoch} of at most {max_epochs}, validation loss {row.validation_loss:.4f}"


_ENDED = {
    "converged": "converged",
    "patience": "the validation loss no longer fell",
    "max_epochs": "spose.max_epochs was reached",
    "diverged": "the objective was not finite",
}


def _has_learned(fit: Fit, level: float) -> bool:
    """Return whether a fit predicts better than chance; otherwise, nothing determines its lapse rate."""
    return bool(fit.weights.shape[1]) and level <= LEVEL


def _told(seed: int, fit: Fit, level: float, settings: Settings) -> Iterator[str]:
    """Yield the lines of the log about one fit."""
    n_epochs = fit.curve[-1].epoch
    line = f"seed {seed}: {fit.weights.shape[1]} dimensions after epoch {fit.kept_epoch} of {n_epochs}"
    line += f" ({_ENDED[fit.stopped]}), validation accuracy {fit.score.accuracy:.4f}"
    determined = settings.learn_lapses and _has_learned(fit, level)
    yield f"{line}, {fit.lapse:.1%} of judgments by chance" if determined else line
    if not fit.converged and fit.stopped == "max_epochs":
        why = "objective or dimensions still changed"
        yield f"seed {seed} has not converged in {n_epochs} epochs: {why}; raise spose.max_epochs"
    if not fit.weights.shape[1] and fit.stopped != "diverged":
        yield f"seed {seed} has learned nothing: no dimension survived pruning"
    elif level > LEVEL:
        yield (
            f"seed {seed} has learned nothing: it predicts validation judgments no better than chance "
            f"(p = {level:.2g}, level {LEVEL:g}); its dimensions are not published"
        )


def _curve(agent: str, seed: int, fit: Fit, level: float) -> pl.DataFrame:
    """Return the rows of ``learning_curves`` of one fit."""
    rows = pl.DataFrame(fit.curve, schema=list(Epoch._fields), orient="row", infer_schema_length=None)
    kept = pl.col("epoch") == fit.kept_epoch
    rows = rows.with_columns(
        agent=pl.lit(agent),
        seed=pl.lit(seed, dtype=pl.Int32),
        kept=kept,
        lapse=pl.col("lapse") if _has_learned(fit, level) else pl.lit(None, dtype=pl.Float64),
        p_chance=pl.when(kept & pl.lit(fit.stopped != "diverged")).then(pl.lit(level)),
    )
    return to_table("learning_curves", rows.to_dicts())


def _weights(agent: str, seed: int, weights: NDArray[np.float32]) -> pl.DataFrame:
    """Return an embedding (n_stimuli, n_dimensions) as rows."""
    n_stimuli, n_dimensions = weights.shape
    return pl.DataFrame(
        {
            "agent": pl.repeat(agent, weights.size, eager=True),
            "seed": pl.repeat(seed, weights.size, dtype=pl.Int32, eager=True),
            "dimension": np.repeat(np.arange(1, n_dimensions + 1, dtype=np.int16), n_stimuli),
            "stimulus_index": np.tile(np.arange(n_stimuli, dtype=np.int32), n_dimensions),
            "weight": weights.T.ravel(),
        }
    )


@step(
    reads=("embeddings/{agent}", "learning_curves/{agent}"),
    writes=("fits/{agent}",),
    params=("spose.seeds",),
    kinds=EVERY_KIND,
    version=2,
)
def rank_fits(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Choose the representative fit: the most reproducible; of one or two, the one with the lowest validation loss."""
    results, kept = fit_results(tables), fits_of(tables)
    if not results:
        note = "not fitted: there are no judgments to learn from, or none for validation"
        rows = [{"agent": context.agent, "seed": seed, "n_dimensions": 0, "representative": False, "note": note}
                for seed in params.fit_seeds]  # fmt: skip
        return {"fits": to_table("fits", rows)}
    every = {seed: kept.get(seed, np.empty((0, 0), np.float32)) for seed in results}
    losses = {seed: result["held_out_loss"] for seed, result in results.items()}
    n_fitted = {seed: result.pop("n_fitted") for seed, result in results.items()}
    chosen, agreement = representative_seed(every, losses), agreements(kept)
    context.log(f"seed {chosen} of {len(every)} represents {context.agent}")
    rows = [
        {
            "agent": context.agent,
            "seed": seed,
            "n_dimensions": weights.shape[1],
            "reproducibility": agreement.get(seed),
            "representative": seed == chosen,
            "note": None if weights.shape[1] else _nothing(n_fitted[seed], results[seed]["p_chance"]),
            **results[seed],
        }
        for seed, weights in every.items()
    ]
    return {"fits": to_table("fits", rows)}


DIVERGED = "the fit diverged: its objective was not finite"


def by_chance(level: float) -> str:
    """Return why a fit that is not better than chance has no dimensions."""
    return f"the fit learned nothing: validation accuracy is no better than chance (p = {level:.2g})"


def _nothing(n_fitted: int, level: float | None) -> str:
    """Return why a fit has no dimensions."""
    if level is None:
        return DIVERGED
    return by_chance(level) if n_fitted else "the fit learned nothing: no dimension survived pruning"


@step(
    reads=("stimuli", "embeddings/{agent}", "fits/{agent}"),
    writes=("layouts/{agent}",),
    params=("seed", "geometry.perplexity"),
    kinds=EVERY_KIND,
    version=2,
)
def lay_out(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Compute the stimulus map by t-SNE, from the representative fit."""
    chosen = representative(tables)
    if chosen is None:
        context.log("no stimulus map: no fit of the agent has a dimension")
        return {"layouts": to_table("layouts", [])}
    seed, weights = chosen
    found = layout(weights, integer(params.seed, "layout", context.agent), params.geometry.perplexity)
    if found.note:
        context.log(found.note)
    placed = pl.DataFrame(found.coordinates, schema={"x": pl.Float32, "y": pl.Float32}, orient="row")
    columns = (pl.lit(context.agent).alias("agent"), pl.lit(seed, dtype=pl.Int32).alias("seed"))
    return {"layouts": placed.with_row_index("stimulus_index").select(*columns, "stimulus_index", "x", "y")}
