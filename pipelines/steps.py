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
from affectlake.geometry.classification import nearest_centroid
from affectlake.geometry.correlations import rating_correlations
from affectlake.geometry.intervals import wilson_interval
from affectlake.geometry.layout import layout
from affectlake.judge import FeaturesAgent, RatingsAgent, choose_by_cosine, rating_vectors, text_vectors
from affectlake.seeds import generator, integer
from affectlake.spose import Epoch, fit_seeds, score, training_data
from affectlake.stimuli import Study, load_emotion, make_synthetic, prototypes
from pipelines import brain_steps, chat_steps, video_steps
from pipelines.params import EmotionSources, Params
from pipelines.record import EVERY_KIND, STEPS, Frames, Tables, Work, step

__all__ = ["STEPS", "brain_steps", "chat_steps", "video_steps"]

TRIPLET = ["i", "j", "k"]


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
    version=1,
)
def encode(tables: Tables, params: Params, work: Work) -> Frames:
    """Turn each stimulus's captions into a feature vector."""
    agent = params.agents[work.agent]
    assert isinstance(agent, FeaturesAgent)
    vectors = text_vectors(_captions(tables), agent, integer(params.seed, "features", work.agent))
    work.say(f"{vectors.shape[0]:,} vectors of {vectors.shape[1]:,} features")
    columns = {"agent": [work.agent] * len(vectors), "stimulus_index": np.arange(len(vectors), dtype=np.int32)}
    return {"features": pl.DataFrame(columns | {"vector": pl.Series(vectors, dtype=pl.List(pl.Float32))})}


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


def _judged(tables: Tables, split: str) -> NDArray[np.int32]:
    """Return the main set's judgments of one split as (m, 3): the similar pair first, the odd one last."""
    rows = tables["choices"].filter(pl.col("trial_set") == "main")
    asked = tables["triplets"].filter((pl.col("trial_set") == "main") & (pl.col("split") == split))
    found = rows.join(asked.select(TRIPLET), on=TRIPLET, maintain_order="left").select(*TRIPLET, "odd").collect()
    return trials.odd_last(np.ascontiguousarray(found.select(TRIPLET).to_numpy()), found["odd"].to_numpy())


@step(
    reads=("stimuli", "triplets", "choices/{agent}"),
    writes=("embeddings/{agent}", "learning_curves/{agent}"),
    params=("seed", "spose", "agents.{agent}.l1"),
    kinds=EVERY_KIND,
    gpu=True,
    fits=True,
    version=1,
)
def embed(tables: Tables, params: Params, work: Work) -> Frames:
    """Learn the SPoSE embedding of an agent's judgments, once for each seed."""
    n_stimuli = tables["stimuli"].select(pl.len()).collect().item()
    rng = generator(params.seed, "spose", work.agent, "order")
    data = training_data(_judged(tables, "train"), _judged(tables, "test"), n_stimuli, rng)
    work.say(f"{len(data.train):,} judgments to learn from, {len(data.test):,} held out")
    fits = fit_seeds(
        data,
        params.spose[work.agent],
        params.seed,
        params.fit_seeds,
        names=("spose", work.agent),
        workers=work.workers if params.device == "cpu" else 1,
        on_epoch=lambda seed, row: work.progress(_progress(seed, row, params.spose[work.agent].max_epochs)),
        checkpoints_in=work.scratch,
        device=params.device,
    )
    for seed, fit in fits.items():
        epochs, accuracy = fit.curve[-1].epoch, fit.score.accuracy
        work.say(f"seed {seed}: best of {epochs} epochs is {fit.best_epoch}, held-out accuracy {accuracy:.4f}")
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


def _embedding(tables: Tables, seed: int) -> NDArray[np.float32]:
    """Return one fit as (n_stimuli, n_dimensions)."""
    rows = tables["embeddings"].filter(pl.col("seed") == seed).sort("dimension", "stimulus_index").collect()
    return np.ascontiguousarray(rows["weight"].to_numpy().reshape(rows["dimension"].n_unique(), -1).T)


@step(
    reads=("stimuli", "embeddings/{agent}", "learning_curves/{agent}"),
    writes=("layouts/{agent}",),
    params=("seed", "geometry.perplexity"),
    kinds=EVERY_KIND,
    version=1,
)
def lay_out(tables: Tables, params: Params, work: Work) -> Frames:
    """Lay the stimuli out in two dimensions by t-SNE, from the fit with the lowest held-out loss."""
    seed = best_seed(tables["learning_curves"])
    found = layout(_embedding(tables, seed), integer(params.seed, "layout", work.agent), params.geometry.perplexity)
    if found.note:
        work.say(found.note)
    frame = pl.DataFrame(found.coordinates, schema={"x": pl.Float32, "y": pl.Float32}, orient="row")
    columns = (pl.lit(work.agent).alias("agent"), pl.lit(seed, dtype=pl.Int32).alias("seed"))
    return {"layouts": frame.with_row_index("stimulus_index").select(*columns, "stimulus_index", "x", "y")}


def best_seed(curves: pl.LazyFrame) -> int:
    """Return the seed of the fit with the lowest held-out loss at any epoch (the smaller seed of equals)."""
    best = curves.group_by("seed").agg(pl.col("test_loss").min()).sort("test_loss", "seed")
    return int(best.select("seed").head(1).collect().item())


@step(
    reads=("stimuli", "ratings", "triplets", "choices/{agent}", "embeddings/{agent}"),
    writes=("metrics/{agent}",),
    params=("seed", "geometry.min_category_size", "geometry.permutations"),
    kinds=EVERY_KIND,
    version=1,
)
def measure(tables: Tables, params: Params, work: Work) -> Frames:
    """Measure each fit: held-out accuracy, nearest-centroid classification, correlation with every rating."""
    held_out = _judged(tables, "test")
    seeds = tables["embeddings"].select(pl.col("seed").unique().sort()).collect()["seed"].to_list()
    rows: list[dict[str, object]] = []
    for seed in seeds:
        embedding = _embedding(tables, seed)
        found = [
            *_held_out(embedding, held_out),
            *_nearest_centroid(tables, params, embedding, generator(params.seed, "permutations", work.agent, seed)),
            *_rating_correlations(tables, embedding),
        ]
        rows += [{"agent": work.agent, "seed": seed} | row for row in found]
    return {"metrics": _metrics(rows)}


def _metrics(rows: list[dict[str, object]]) -> pl.DataFrame:
    """Give metric rows all columns of the table; what a row does not have is null, and so is NaN."""
    empty: dict[str, object] = {
        "note": None,
        "dimension": None,
        "rating": None,
        "ci_low": None,
        "ci_high": None,
        "chance": None,
        "p_value": None,
    }
    types: dict[str, type[pl.DataType]] = {"seed": pl.Int32, "dimension": pl.Int16, "n": pl.Int32}
    types |= dict.fromkeys(("rating", "note"), pl.String)
    types |= dict.fromkeys(("value", "ci_low", "ci_high", "chance", "p_value"), pl.Float64)
    frame = pl.DataFrame([empty | row for row in rows], schema_overrides=types, infer_schema_length=None)
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))


def _held_out(embedding: NDArray[np.float32], judged: NDArray[np.int32]) -> list[dict[str, object]]:
    found = score(embedding, judged)
    low, high = map(float, wilson_interval(found.accuracy * found.n, found.n))
    common: dict[str, object] = {"analysis": "held_out", "n": found.n}
    return [
        common | {"measure": "accuracy", "value": found.accuracy, "ci_low": low, "ci_high": high, "chance": 1 / 3},
        common | {"measure": "cross_entropy", "value": found.loss, "chance": float(np.log(3))},
    ]


def _nearest_centroid(
    tables: Tables, params: Params, embedding: NDArray[np.float32], rng: np.random.Generator
) -> list[dict[str, object]]:
    categories = tables["stimuli"].sort("stimulus_index").select("category").collect()["category"].to_list()
    found = nearest_centroid(
        embedding,
        categories,
        rng,
        min_category_size=params.geometry.min_category_size,
        permutations=params.geometry.permutations,
    )
    common: dict[str, object] = {"analysis": "nearest_centroid", "n": found.n_stimuli}
    sizes = common | {"measure": "n_categories", "value": float(found.n_categories)}
    if found.reason:
        return [sizes, common | {"measure": "top3_accuracy", "value": None, "note": found.reason}]
    names = ("ci_low", "ci_high", "chance", "p_value")
    return [
        sizes,
        *(
            common
            | {"measure": f"top{one.top}_accuracy", "value": one.accuracy}
            | {name: getattr(one, name) for name in names}
            for one in found.accuracies
        ),
    ]


def _rating_correlations(tables: Tables, embedding: NDArray[np.float32]) -> list[dict[str, object]]:
    wide = tables["ratings"].collect().pivot("rating", index="stimulus_index", values="score").sort("stimulus_index")
    scores = wide.drop("stimulus_index")
    found = rating_correlations(embedding, scores.to_numpy())
    return [
        {
            "analysis": "rating_correlation",
            "measure": "pearson_r",
            "dimension": dimension + 1,
            "rating": rating,
            "value": float(found.r[dimension, column]),
            "ci_low": float(found.ci_low[dimension, column]),
            "ci_high": float(found.ci_high[dimension, column]),
            "n": found.n,
        }
        for dimension in range(embedding.shape[1])
        for column, rating in enumerate(scores.columns)
    ]
