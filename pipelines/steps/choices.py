"""Steps of agents without a server: feature vectors of captions, and choices by similarity."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import SourceError
from affectlake.judge.agents import FeaturesAgent, RatingsAgent
from affectlake.judge.vectors.ratings import families_of, far_from_zero, rating_vectors
from affectlake.judge.vectors.similarity import choose_by_cosine
from affectlake.judge.vectors.text import text_vectors
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.videos import feature_rows
from affectlake.seeds import generator, integer
from affectlake.triplets import TRIPLET


@step(
    reads=("stimuli", "captions"),
    writes=("features/{agent}",),
    params=("seed", "agents.{agent}.encoder"),
    kinds=("features",),
    modality="captions",
    version=1,
)
def encode(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Compute a feature vector of each stimulus from its captions."""
    agent = params.agents[context.agent]
    assert isinstance(agent, FeaturesAgent)
    vectors = text_vectors(_captions(tables), agent, integer(params.seed, "features", context.agent))
    return {"features": feature_rows(vectors, context)}


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
            f"{len(without):,} stimuli have no caption, so that a text agent cannot judge them",
            found=", ".join(without[:5]),
            todo="set sources.captions, exclude those stimuli, or leave the text agents out of params.yaml",
        )
    return rows["caption"].to_list()


@step(
    reads=("stimuli", "families", "ratings", "triplets"),
    writes=("choices/{agent}",),
    params=("seed", "agents.{agent}.ratings", "agents.{agent}.scaling"),
    kinds=("ratings",),
    version=1,
)
def choose_by_ratings(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Judge all trials from rating vectors: the odd one out is the stimulus outside the pair of highest cosine."""
    agent = params.agents[context.agent]
    assert isinstance(agent, RatingsAgent)
    n_stimuli = tables["stimuli"].select(pl.len()).collect().item()
    ratings = tables["ratings"].collect()
    families = families_of(tables["families"].collect(), agent.ratings, agent.scaling, context.agent)
    warning = far_from_zero(ratings, families)
    if warning:
        context.log(f"warning: {warning}")
    vectors = rating_vectors(ratings, families, n_stimuli)
    return {"choices": _choices(tables, params, context, vectors, agent.protocol)}


@step(
    reads=("features/{agent}", "triplets"),
    writes=("choices/{agent}",),
    params=("seed",),
    kinds=("features",),
    version=1,
)
def choose_by_features(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Judge all trials from feature vectors: the odd one out has the largest mean cosine distance to the others."""
    agent = params.agents[context.agent]
    rows = tables["features"].sort("stimulus_index").select("vector").collect()["vector"]
    vectors = np.asarray(rows.list.to_array(len(rows[0])).to_numpy(), dtype=np.float64)
    return {"choices": _choices(tables, params, context, vectors, agent.protocol)}


def _choices(
    tables: Tables, params: Params, context: StepContext, vectors: NDArray[np.float64], protocol: str
) -> pl.DataFrame:
    """Return one row per trial and repeat; ties are broken at random under the seed, independently at each repeat."""
    asked = tables["triplets"].collect()
    if (asked["n_repeats"] > 1).any():
        asked = asked.with_columns(repeat=pl.int_ranges(0, "n_repeats", dtype=pl.Int16)).explode("repeat")
    else:
        asked = asked.with_columns(repeat=pl.lit(0, dtype=pl.Int16))
    rows = np.ascontiguousarray(asked.select(TRIPLET).to_numpy())
    answered = choose_by_cosine(vectors, rows, generator(params.seed, "choices", context.agent))
    context.log(f"{len(rows):,} choices, {int(answered.tied.sum()):,} ties broken at random")
    return asked.select(
        pl.lit(context.agent).alias("agent"),
        pl.lit(protocol).alias("protocol"),
        "trial_set",
        *TRIPLET,
        "repeat",
        pl.Series("odd", answered.odd),
        pl.Series("tied", answered.tied),
    )
