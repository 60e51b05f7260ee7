"""Steps of stimuli: read the sources, and draw the triplets that all agents judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from affectlake import triplets as trials
from affectlake.errors import UsageError
from affectlake.pipelines.params.sources import EmotionSources, SyntheticSources, TableSources
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.seeds import generator
from affectlake.stimuli import load_emotion, make_synthetic, prototypes
from affectlake.stimuli.study import Family
from affectlake.stimuli.tables import CaptionSource, Loaded, RatingSource, StimulusSource, load_tables
from affectlake.triplet_sampling import sample_dyads, sample_pairs, sample_rows, sample_uniform
from affectlake.triplets import TRIPLET
from affectlake.user_tables import UserFile


def source_tables(params: Params, lake: Path | None, _agent: str = "") -> list[str]:
    """Return the paths of the files from which the study is read."""
    sources = params.sources
    if isinstance(sources, TableSources):
        files = [sources.stimuli.file, *(one.file for one in sources.ratings)]
        return files if sources.captions is None else [*files, sources.captions.file]
    if isinstance(sources, EmotionSources):
        return [path for path in (sources.ratings, sources.captions) if path]
    return []


@step(
    writes=("stimuli", "exclusions", "families", "ratings", "captions"),
    params=(
        "seed",
        "sources.kind",
        "sources.stimuli",
        "sources.ratings",
        "sources.captions",
        "sources.exclude",
        "sources.n_stimuli",
    ),
    found_files=source_tables,
    version=2,
)
def ingest(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Read the sources: stimuli, their ratings and captions, and exclusions."""
    study, notes = read_study(params, context.source_root)
    for note in notes:
        context.log(note)
    context.log(f"{study.stimuli.height:,} stimuli, {study.exclusions.height:,} exclusions")
    return study._asdict()


def read_study(params: Params, lake: Path) -> Loaded:
    """Read the study's stimuli, ratings and captions from its sources; paths are relative to `lake`."""
    sources = params.sources
    if isinstance(sources, SyntheticSources):
        return Loaded(make_synthetic(sources.n_stimuli, generator(params.seed, "synthetic")).study, [])
    if isinstance(sources, TableSources):
        return _tables(sources, lake)
    if sources.ratings is None:
        raise UsageError(
            "sources.ratings is not set",
            wanted="the path of CowenKeltnerEmotionalVideos.csv",
            todo="set it in params.yaml, or run with --set sources.ratings=PATH --set sources.captions=PATH",
        )
    captions = None if sources.captions is None else lake / sources.captions
    return Loaded(load_emotion(lake / sources.ratings, captions, sources.exclude), [])


def _tables(sources: TableSources, lake: Path) -> Loaded:
    ratings = [
        RatingSource(
            UserFile(lake / one.file, "ratings file", f"sources.ratings[{at}]"),
            one.id_column,
            Family(one.family, *one.scale, one.neutral, one.are_categories),
            one.columns,
            one.name_column,
            one.score_column,
            one.aggregate == "mean",
        )
        for at, one in enumerate(sources.ratings)
    ]
    texts = sources.captions
    return load_tables(
        StimulusSource(
            UserFile(lake / sources.stimuli.file, "stimuli file", "sources.stimuli"),
            sources.stimuli.id_column,
            sources.stimuli.category_column,
        ),
        ratings,
        None
        if texts is None
        else CaptionSource(
            UserFile(lake / texts.file, "captions file", "sources.captions"), texts.id_column, texts.caption_column
        ),
        sources.exclude,
    )


@step(
    reads=("stimuli", "families", "ratings"),
    writes=("triplets",),
    params=("seed", "triplets"),
    version=2,
)
def sample(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Draw the trials: the main set with its split, the validation set of prototypes, and the noise-ceiling set."""
    wanted, root = params.triplets, params.seed
    n_stimuli = tables["stimuli"].select(pl.len()).collect().item()
    rng = generator(root, "triplets", "main")
    main = (
        sample_dyads(n_stimuli, rng, wanted.per_dyad)
        if wanted.per_dyad is not None
        else sample_uniform(n_stimuli, wanted.n or 0, rng)
    )
    test = trials.split(len(main), wanted.test_fraction, generator(root, "triplets", "split"))
    rng = generator(root, "triplets", "validation split")
    steering = trials.split_validation(test, wanted.validation_fraction, rng) if len(main) else test
    chosen = prototypes(tables["ratings"].collect(), tables["families"].collect(), wanted.prototypes_per_category)
    rng = generator(root, "triplets", "validation")
    validation = (
        sample_pairs(chosen, n_stimuli, wanted.thirds_per_pair, rng, exclude=main) if len(chosen) > 1 else main[:0]
    )
    rng = generator(root, "triplets", "noise_ceiling")
    ceiling = sample_rows(main[test], wanted.noise_ceiling, rng)
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
