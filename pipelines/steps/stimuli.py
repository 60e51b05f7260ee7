"""Steps of stimuli: read the sources, and draw the triplets that all agents judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from affectlake import triplets as trials
from affectlake.errors import UsageError
from affectlake.pipelines.params.study import EmotionSources, Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.seeds import generator
from affectlake.stimuli import Study, load_emotion, make_synthetic, prototypes
from affectlake.triplets import TRIPLET


@step(
    writes=("stimuli", "exclusions", "ratings", "captions"),
    params=(
        "seed",
        "sources.kind",
        "sources.ratings",
        "sources.captions",
        "sources.exclude",
        "sources.n_stimuli",
    ),
    files=("sources.ratings", "sources.captions"),
    version=2,
)
def ingest(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Read the sources: stimuli, their ratings and captions, and exclusions."""
    study = _study(params, context.source_root)
    context.log(f"{study.stimuli.height:,} stimuli, {study.exclusions.height:,} exclusions")
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
    version=2,
)
def sample(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Draw the trials: the main set with its split, the validation set of prototypes, and the noise-ceiling set."""
    wanted, root = params.triplets, params.seed
    n_stimuli = tables["stimuli"].select(pl.len()).collect().item()
    main = trials.sample_dyads(n_stimuli, generator(root, "triplets", "main"), wanted.per_dyad)
    test = trials.split(len(main), wanted.test_fraction, generator(root, "triplets", "split"))
    rng = generator(root, "triplets", "validation split")
    steering = trials.split_validation(test, wanted.validation_fraction, rng)
    chosen = prototypes(tables["ratings"].collect(), wanted.prototypes_per_category)
    rng = generator(root, "triplets", "validation")
    validation = trials.sample_pairs(chosen, n_stimuli, wanted.thirds_per_pair, rng, exclude=main)
    rng = generator(root, "triplets", "noise_ceiling")
    ceiling = trials.sample_rows(main[test], wanted.noise_ceiling, rng)
    context.log(
        f"{len(main):,} main, {len(validation):,} validation ({len(chosen)} prototypes), {len(ceiling):,} ceiling"
    )
    split = pl.Series(np.select([test, steering], ["test", "validation"], "train"), dtype=pl.String)
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
