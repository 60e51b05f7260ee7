"""The steps of a study: tables in, tables out. Each opens its tables, calls the science, and names the columns.

Arithmetic does not belong here, nor does reading or writing files other than the sources.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake import triplets as trials
from affectlake.errors import SourceError, UsageError
from affectlake.geometry.layout import layout
from affectlake.judge import FeaturesAgent, RatingsAgent, choose_by_cosine, rating_vectors, text_vectors
from affectlake.seeds import generator, integer
from affectlake.spose import Epoch, choose_settings, fit_seeds, training_data
from affectlake.stimuli import Study, load_emotion, make_synthetic, prototypes
from pipelines import analysis_steps, brain_steps, chat_steps, video_steps
from pipelines.metric_rows import frame
from pipelines.params import EmotionSources, Params
from pipelines.reading import TRIPLET, chosen_seed, judged
from pipelines.reading import fits as fits_of
from pipelines.record import EVERY_KIND, STEPS, Frames, Tables, Work, step

__all__ = ["STEPS", "analysis_steps", "brain_steps", "chat_steps", "video_steps"]


@step(
    writes=("stimuli", "exclusions", "ratings", "captions"),
    params=("seed", "sources"),
    files=("sources.ratings", "sources.captions"),
    version=1,
)
def ingest(tables: Tables, params: Params, work: Work) -> Frames:
    """Read the sources: stimuli, their ratings and captions, and what is left out."""
    study = _study(params, work.lake)
    work.say(f"{study.stimuli.height:,} stimuli, {study.exclusions.height:,} left out")
    return study._asdict()


def _study(params: Params, lake: Path) -> Study:
    sources = params.sources
    if not isinstance(sources, EmotionSources):
        return make_synthetic(sources.n_stimuli, generator(params.seed, "synthetic")).study
    if sources.ratings is None:
        raise UsageError(
            "sources.ratings is not set",
            wanted="the path of CowenKeltnerEmotionalVideos.csv",
            todo="set it in params.yaml, or run with --set sources.ratings=PATH --set sources.captions=PATH",
        )
    captions = None if sources.captions is None else lake / sources.captions
    return load_emotion(lake / sources.ratings, captions, sources.exclude)


@step(
    reads=("stimuli", "ratings"),
    writes=("triplets",),
    params=("seed", "triplets"),
    version=1,
)
def sample(tables: Tables, params: Params, work: Work) -> Frames:
    """Draw the trials: the main set with its split, the validation set of prototypes, the noise-ceiling set."""
    wanted, root = params.triplets, params.seed
    n_stimuli = tables["stimuli"].select(pl.len()).collect().item()
    main = trials.sample_dyads(n_stimuli, generator(root, "triplets", "main"), wanted.per_dyad)
    held_out = trials.split(len(main), wanted.test_fraction, generator(root, "triplets", "split"))
    chosen = prototypes(tables["ratings"].collect(), wanted.prototypes_per_category)
    rng = generator(root, "triplets", "validation")
    validation = trials.sample_pairs(chosen, n_stimuli, wanted.thirds_per_pair, rng, exclude=main)
    rng = generator(root, "triplets", "noise_ceiling")
    ceiling = trials.sample_rows(main[held_out], wanted.noise_ceiling, rng)
    work.say(f"{len(main):,} main, {len(validation):,} validation ({len(chosen)} prototypes), {len(ceiling):,} ceiling")
    split = pl.Series(np.where(held_out, "test", "train"), dtype=pl.String)
    sets = (
        _trials("main", main, split, 1),
        _trials("noise_ceiling", ceiling, pl.lit("test"), wanted.noise_ceiling_repeats),
        _trials("validation", validation, pl.lit("test"), 1),
    )
    return {"triplets": pl.concat(sets)}


def _trials(name: str, rows: trials.Triplets, split: pl.Series | pl.Expr, n_repeats: int) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=TRIPLET, orient="row")
    return frame.select(
        pl.lit(name).alias("trial_set"),
        *TRIPLET,
        (split if isinstance(split, pl.Expr) else pl.lit(split)).alias("split"),
        pl.lit(n_repeats, dtype=pl.Int16).alias("n_repeats"),
    )


@step(
    reads=("stimuli", "captions"),
    writes=("features/{agent}",),
    params=("seed", "agents.{agent}.encoder"),
    kinds=("features",),
    looks_at="captions",
    version=1,
)
def encode(tables: Tables, params: Params, work: Work) -> Frames:
    """Turn each stimulus's captions into a feature vector."""
    agent = params.agents[work.agent]
    assert isinstance(agent, FeaturesAgent)
    vectors = text_vectors(_captions(tables), agent, integer(params.seed, "features", work.agent))
    return {"features": video_steps.feature_rows(vectors, work)}


def _captions(tables: Tables) -> list[list[str]]:
    """Return each stimulus's captions, in the order of the catalogue."""
    joined = tables["stimuli"].join(
        tables["captions"].group_by("stimulus_index").agg(pl.col("caption").sort_by("caption_index")),
        on="stimulus_index",
        how="left",
    )
    rows = joined.sort("stimulus_index").select("stimulus_id", "caption").collect()
    without = rows.filter(pl.col("caption").is_null())["stimulus_id"].to_list()
    if without:
        raise SourceError(
            f"{len(without):,} stimuli have no caption, so a text agent cannot judge them",
            found=", ".join(without[:5]),
            todo="set sources.captions, exclude those stimuli, or leave the text agents out of params.yaml",
        )
    return rows["caption"].to_list()


@step(
    reads=("stimuli", "ratings", "triplets"),
    writes=("choices/{agent}",),
    params=("seed", "agents.{agent}.ratings"),
    kinds=("ratings",),
    version=1,
)
def choose_by_ratings(tables: Tables, params: Params, work: Work) -> Frames:
    """Answer every trial from rating vectors: the two most similar by cosine stay, the third is odd."""
    agent = params.agents[work.agent]
    assert isinstance(agent, RatingsAgent)
    n_stimuli = tables["stimuli"].select(pl.len()).collect().item()
    vectors = rating_vectors(tables["ratings"].collect(), agent.ratings, n_stimuli)
    return {"choices": _choices(tables, params, work, vectors, agent.protocol)}


@step(
    reads=("features/{agent}", "triplets"),
    writes=("choices/{agent}",),
    params=("seed",),
    kinds=("features",),
    version=1,
)
def choose_by_features(tables: Tables, params: Params, work: Work) -> Frames:
    """Answer every trial from feature vectors: the one farthest on average, by cosine distance, is odd."""
    agent = params.agents[work.agent]
    rows = tables["features"].sort("stimulus_index").select("vector").collect()["vector"]
    vectors = np.asarray(rows.list.to_array(len(rows[0])).to_numpy(), dtype=np.float64)
    return {"choices": _choices(tables, params, work, vectors, agent.protocol)}


def _choices(tables: Tables, params: Params, work: Work, vectors: NDArray[np.float64], protocol: str) -> pl.DataFrame:
    """Return one row per trial and repeat; ties are broken under the seed, anew at each repeat."""
    asked = tables["triplets"].collect()
    if (asked["n_repeats"] > 1).any():
        asked = asked.with_columns(repeat=pl.int_ranges(0, "n_repeats", dtype=pl.Int16)).explode("repeat")
    else:
        asked = asked.with_columns(repeat=pl.lit(0, dtype=pl.Int16))
    rows = np.ascontiguousarray(asked.select(TRIPLET).to_numpy())
    answered = choose_by_cosine(vectors, rows, generator(params.seed, "choices", work.agent))
    work.say(f"{len(rows):,} choices, {int(answered.tied.sum()):,} ties broken by chance")
    return asked.select(
        pl.lit(work.agent).alias("agent"),
        pl.lit(protocol).alias("protocol"),
        "trial_set",
        *TRIPLET,
        "repeat",
        pl.Series("odd", answered.odd),
        pl.Series("tied", answered.tied),
    )


@step(
    reads=("stimuli", "triplets", "choices/{agent}"),
    writes=("embeddings/{agent}", "learning_curves/{agent}"),
    params=("seed", "spose", "agents.{agent}.l1"),
    kinds=EVERY_KIND,
    gpu=True,
    fits=True,
    version=2,
)
def embed(tables: Tables, params: Params, work: Work) -> Frames:
    """Learn the SPoSE embedding of an agent's judgments, once for each seed."""
    n_stimuli = tables["stimuli"].select(pl.len()).collect().item()
    train, test = judged(tables, "train"), judged(tables, "test")
    if not len(train) or not len(test):
        work.say(f"no fit: {len(train):,} judgments to learn from, {len(test):,} held out; both are needed")
        return {table: frame(table, []) for table in ("embeddings", "learning_curves")}
    rng = generator(params.seed, "spose", work.agent, "order")
    data = training_data(train, test, n_stimuli, rng)
    work.say(f"{len(data.train):,} judgments to learn from, {len(data.test):,} held out")
    candidates = params.candidates(work.agent, len(data.train), n_stimuli)
    settings = choose_settings(data, candidates, generator(params.seed, "spose", work.agent, "prior"), work.workers)
    if len(candidates) > 1:
        work.say(f"of {len(candidates)} strengths of the prior, l1 = {settings.l1:.2g} predicts best")
    fits = fit_seeds(
        data,
        settings,
        params.seed,
        params.fit_seeds,
        names=("spose", work.agent),
        workers=work.workers if params.device == "cpu" else 1,
        on_epoch=lambda seed, row: work.progress(_progress(seed, row, settings.max_epochs)),
        checkpoints_in=work.scratch,
        device=params.device,
    )
    for seed, fit in fits.items():
        epochs, accuracy = fit.curve[-1].epoch, fit.score.accuracy
        said = f"seed {seed}: best of {epochs} epochs is {fit.best_epoch}, held-out accuracy {accuracy:.4f}"
        work.say(f"{said}, {fit.lapse:.1%} of judgments by chance" if settings.learn_lapses else said)
    weights = [_weights(work.agent, seed, fit.weights) for seed, fit in fits.items()]
    curves = [
        pl.DataFrame(fit.curve, schema=list(fit.curve[0]._fields), orient="row").select(
            pl.lit(work.agent).alias("agent"), pl.lit(seed, dtype=pl.Int32).alias("seed"), pl.all()
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
    reads=("stimuli", "embeddings/{agent}", "learning_curves/{agent}"),
    writes=("layouts/{agent}",),
    params=("seed", "geometry.perplexity"),
    kinds=EVERY_KIND,
    version=2,
)
def lay_out(tables: Tables, params: Params, work: Work) -> Frames:
    """Lay the stimuli out by t-SNE, from the consensus fit (of one or two fits: the lowest held-out loss)."""
    found_fits = fits_of(tables)
    if not found_fits:
        work.say("no map: no dimension of any fit survived pruning")
        return {"layouts": frame("layouts", [])}
    seed = chosen_seed(tables, found_fits)
    found = layout(found_fits[seed], integer(params.seed, "layout", work.agent), params.geometry.perplexity)
    if found.note:
        work.say(found.note)
    placed = pl.DataFrame(found.coordinates, schema={"x": pl.Float32, "y": pl.Float32}, orient="row")
    columns = (pl.lit(work.agent).alias("agent"), pl.lit(seed, dtype=pl.Int32).alias("seed"))
    return {"layouts": placed.with_row_index("stimulus_index").select(*columns, "stimulus_index", "x", "y")}
