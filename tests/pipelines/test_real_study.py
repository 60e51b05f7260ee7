"""The paper's human-category agent at full size on the real ratings: sources to metrics, some two minutes."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import override, parse
from affectlake.pipelines.step import StepContext
from affectlake.pipelines.steps import choices as choices_steps
from affectlake.pipelines.steps import embedding as embedding_steps
from affectlake.pipelines.steps import meaning
from affectlake.pipelines.steps import stimuli as stimuli_steps
from affectlake.pipelines.steps.rows import to_table
from affectlake.stimuli import CATEGORIES


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
