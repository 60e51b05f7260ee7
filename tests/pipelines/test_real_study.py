"""The paper's human-category agent at full size on the real ratings: sources to metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import MinMaxScaler

from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import override, parse
from affectlake.pipelines.step import StepContext
from affectlake.pipelines.steps import choices as choices_steps
from affectlake.pipelines.steps import embedding as embedding_steps
from affectlake.pipelines.steps import meaning
from affectlake.pipelines.steps import stimuli as stimuli_steps
from affectlake.pipelines.steps.rows import to_table
from affectlake.stimuli import CATEGORIES, DIMENSIONS

PUBLISHED_L1 = {"human-category": 0.004, "human-dimension": 0.005}


def test_the_study_has_the_human_agents_of_the_paper_with_its_penalties() -> None:
    agents = parse(templates.starting_params("emotion")).agents
    assert {name: agents[name].l1 for name in PUBLISHED_L1} == PUBLISHED_L1
    assert agents["human-concat"].l1 == PUBLISHED_L1["human-dimension"], "the paper has none for this agent"


@pytest.mark.realdata
def test_human_concat_chooses_by_the_mean_of_both_similarities(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "cowen_keltner_2017/CowenKeltnerEmotionalVideos.csv"
    params = parse(override(templates.starting_params("emotion"), (f"sources.ratings={path}", "sources.captions=null")))
    context = StepContext("human-concat", tmp_path, tmp_path, 2, lambda _: None, lambda _: None)
    tables = {name: frame.lazy() for name, frame in stimuli_steps.ingest({}, params, context).items()}
    n, rng = tables["stimuli"].collect().height, np.random.default_rng(0)
    drawn = np.unique([np.sort(rng.choice(n, 3, replace=False)) for _ in range(3000)], axis=0)
    trials = pl.DataFrame(drawn, schema=dict.fromkeys("ijk", pl.Int32)).with_columns(
        trial_set=pl.lit("main"), split=pl.lit("train"), n_repeats=pl.lit(1, pl.Int16)
    )
    choices = choices_steps.choose_by_ratings(tables | {"triplets": trials.lazy()}, params, context)["choices"]
    raw = pd.read_csv(path)
    rows = raw.set_index("Filename").loc[tables["stimuli"].sort("stimulus_index").collect()["stimulus_id"].to_list()]
    dimensions = MinMaxScaler((-1, 1)).fit_transform(rows[list(DIMENSIONS)])
    alike = (cosine_similarity(rows[list(CATEGORIES)]) + cosine_similarity(dimensions)) / 2
    i, j, k = drawn.T
    wanted = drawn[np.arange(len(drawn)), np.argmax([alike[j, k], alike[i, k], alike[i, j]], axis=0)]
    found = trials.join(choices, on=["i", "j", "k"], maintain_order="left")
    np.testing.assert_array_equal(found["odd"].to_numpy()[~found["tied"].to_numpy()], wanted[~found["tied"].to_numpy()])
    assert found["tied"].mean() < 0.01


@pytest.mark.realdata
@pytest.mark.slow
def test_human_category_comes_out_as_published(real_data: Path, tmp_path: Path) -> None:
    text = override(
        templates.starting_params("emotion"),
        (
            f"sources.ratings={real_data / 'cowen_keltner_2017/CowenKeltnerEmotionalVideos.csv'}",
            f"sources.captions={real_data / 'horikawa_captions/caption_ck20.csv'}",
        ),
    )
    params, agent = parse(text), "human-category"
    context = StepContext(agent, tmp_path, tmp_path, 2, lambda _: None, lambda _: None)
    frames = stimuli_steps.ingest({}, params, context)
    assert frames["stimuli"].height == 2181
    frames["sweeps"] = to_table("sweeps", [])
    learned = (embedding_steps.embed, embedding_steps.rank_fits, meaning.measure)
    for step in (stimuli_steps.sample, choices_steps.choose_by_ratings, *learned):
        frames |= step({name: frame.lazy() for name, frame in frames.items()}, params, context)
    counts = dict(frames["triplets"].group_by("trial_set").len().rows())
    assert counts == {"main": 3 * 2181 * 2180 // 2, "validation": 214_500, "noise_ceiling": 2_000}
    metrics = frames["metrics"]
    classified = metrics.filter(pl.col("measure") == "top3_accuracy").row(0, named=True)
    assert classified["n"] == 2167
    assert classified["value"] >= 0.98, "published: 0.9858"
    assert metrics.filter(pl.col("analysis") == "held_out", pl.col("measure") == "accuracy")["value"].item() >= 0.985
    categories = metrics.filter(pl.col("rating").is_in([name.lower() for name in CATEGORIES]))
    best = categories.group_by("dimension").agg(pl.col("value").max())
    assert (best["value"] > 0.95).sum() >= 26, "published: 28 of 30"
