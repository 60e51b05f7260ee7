"""Steps of embeddings: SPoSE fits to an agent's judgments, the representative fit, and the stimulus map."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.geometry.layout import layout
from affectlake.geometry.reproducibility import agreements, representative_seed
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import EVERY_KIND, OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.arrays import fits as fits_of
from affectlake.pipelines.steps.arrays import held_out_losses, judged, representative
from affectlake.pipelines.steps.rows import to_table
from affectlake.seeds import generator, integer
from affectlake.spose.curve import Epoch
from affectlake.spose.data import training_data
from affectlake.spose.fitting import fit_seeds
from affectlake.spose.proposing import choose_settings


@step(
    reads=("stimuli", "triplets", "choices/{agent}"),
    writes=("embeddings/{agent}", "learning_curves/{agent}"),
    params=("seed", "spose", "agents.{agent}.l1"),
    kinds=EVERY_KIND,
    gpu=True,
    fits=True,
    version=2,
)
def embed(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Fit the SPoSE embedding of an agent's judgments, once per seed."""
    n_stimuli = tables["stimuli"].select(pl.len()).collect().item()
    train, test = judged(tables, "train"), judged(tables, "test")
    if not len(train) or not len(test):
        context.log(f"no fit: {len(train):,} judgments to learn from and {len(test):,} held out; both are needed")
        return {table: to_table(table, []) for table in ("embeddings", "learning_curves")}
    rng = generator(params.seed, "spose", context.agent, "order")
    data = training_data(train, test, n_stimuli, rng)
    context.log(f"{len(data.train):,} judgments to learn from, {len(data.test):,} held out")
    candidates = params.candidates(context.agent, len(data.train), n_stimuli)
    settings = choose_settings(
        data, candidates, generator(params.seed, "spose", context.agent, "prior"), context.workers
    )
    if len(candidates) > 1:
        context.log(f"of {len(candidates)} strengths of the prior, l1 = {settings.l1:.2g} predicts best")
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
    for seed, fit in fits.items():
        epochs, accuracy = fit.curve[-1].epoch, fit.score.accuracy
        line = f"seed {seed}: best of {epochs} epochs is {fit.best_epoch}, held-out accuracy {accuracy:.4f}"
        context.log(f"{line}, {fit.lapse:.1%} of judgments by chance" if settings.learn_lapses else line)
    weights = [_weights(context.agent, seed, fit.weights) for seed, fit in fits.items()]
    curves = [
        pl.DataFrame(fit.curve, schema=list(fit.curve[0]._fields), orient="row").select(
            pl.lit(context.agent).alias("agent"), pl.lit(seed, dtype=pl.Int32).alias("seed"), pl.all()
        )
        for seed, fit in fits.items()
    ]
    return {"embeddings": pl.concat(weights), "learning_curves": pl.concat(curves)}


def _progress(seed: int, row: Epoch, max_epochs: int) -> str:
    return f"seed {seed}: epoch {row.epoch} of at most {max_epochs}, held-out loss {row.test_loss:.4f}"


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
    kinds=EVERY_KIND,
    version=1,
)
def rank_fits(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Choose the representative fit: the most reproducible; of one or two, the one with the lowest held-out loss."""
    losses, kept = held_out_losses(tables), fits_of(tables)
    if not losses:
        return {"fits": to_table("fits", [])}
    every = {seed: kept.get(seed, np.empty((0, 0), np.float32)) for seed in losses}
    chosen, agreement = representative_seed(every, losses), agreements(kept)
    context.log(f"seed {chosen} of {len(every)} represents {context.agent}")
    rows = [
        {
            "agent": context.agent,
            "seed": seed,
            "n_dimensions": weights.shape[1],
            "held_out_loss": losses[seed],
            "reproducibility": agreement.get(seed),
            "representative": seed == chosen,
        }
        for seed, weights in every.items()
    ]
    return {"fits": to_table("fits", rows)}


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
        context.log("no stimulus map: pruning removed all dimensions of all fits")
        return {"layouts": to_table("layouts", [])}
    seed, weights = chosen
    found = layout(weights, integer(params.seed, "layout", context.agent), params.geometry.perplexity)
    if found.note:
        context.log(found.note)
    placed = pl.DataFrame(found.coordinates, schema={"x": pl.Float32, "y": pl.Float32}, orient="row")
    columns = (pl.lit(context.agent).alias("agent"), pl.lit(seed, dtype=pl.Int32).alias("seed"))
    return {"layouts": placed.with_row_index("stimulus_index").select(*columns, "stimulus_index", "x", "y")}
