"""Steps as plain functions on tiny tables: what they hand to the science, and what they make of its answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectlake.errors import SourceError
from affectlake.lake.tables import factory
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import Params, override, parse
from affectlake.pipelines.step import OutputTables, StepContext
from affectlake.pipelines.steps import arrays, meaning
from affectlake.pipelines.steps import choices as choices_steps
from affectlake.pipelines.steps import embedding as embedding_steps
from affectlake.pipelines.steps import stimuli as stimuli_steps
from affectlake.pipelines.steps.rows import to_table

TEXT = override(
    templates.starting_params("demo"),
    (
        "sources.n_stimuli=60",
        "triplets.noise_ceiling=40",
        "triplets.thirds_per_pair=10",
        "spose.max_epochs=3",
        "geometry.permutations=20",
    ),
)
PARAMS = parse(TEXT)


def context(tmp_path: Path, agent: str = "") -> StepContext:
    return StepContext(agent, tmp_path, tmp_path, 1, lambda _: None, lambda _: None)


def lazy(frames: OutputTables) -> dict[str, pl.LazyFrame]:
    return {name: frame.lazy() for name, frame in frames.items()}


@pytest.fixture(scope="module")
def world() -> OutputTables:
    """The demo world's sources and trials."""
    here = context(Path())
    study = stimuli_steps.ingest({}, PARAMS, here)
    return study | stimuli_steps.sample(lazy(study), PARAMS, here)


def test_trials_have_the_sizes_that_params_ask_for(world: OutputTables) -> None:
    counts = dict(world["triplets"].group_by("trial_set").len().rows())
    n_prototypes = len(stimuli_steps.prototypes(world["ratings"], world["families"], 2))
    assert counts["main"] == 3 * 60 * 59 // 2
    assert counts["validation"] == 10 * n_prototypes * (n_prototypes - 1) // 2
    assert counts["noise_ceiling"] == 40


def test_the_split_is_a_partition_and_other_sets_are_never_learned_from(world: OutputTables) -> None:
    triplets = world["triplets"]
    main = triplets.filter(pl.col("trial_set") == "main")
    counts = dict(main.group_by("split").len().rows())
    n = main.height
    assert counts == {
        "test": round(0.1 * n),
        "validation": round(0.05 * n),
        "train": n - round(0.1 * n) - round(0.05 * n),
    }
    assert main.select("i", "j", "k").is_unique().all()
    others = triplets.filter(pl.col("trial_set") != "main")
    assert set(others["split"]) == {"test"}
    learned = main.filter(pl.col("split") != "test")
    assert others.join(learned, on=["i", "j", "k"], how="semi").is_empty()


def test_a_repeated_trial_is_answered_as_often_as_asked(world: OutputTables, tmp_path: Path) -> None:
    choices = choices_steps.choose_by_ratings(lazy(world), PARAMS, context(tmp_path, "human-category"))["choices"]
    ceiling = choices.filter(pl.col("trial_set") == "noise_ceiling")
    assert ceiling.height == 40 * 20
    assert sorted(ceiling["repeat"].unique()) == list(range(20))
    untied = ceiling.filter(~pl.col("tied")).group_by("i", "j", "k").agg(pl.col("odd").n_unique())
    assert (untied["odd"] == 1).all()


def test_judgments_put_the_odd_one_last_and_keep_the_split(tmp_path: Path) -> None:
    tiny = factory.tiny_lake()
    train, validation, test = (arrays.judged(lazy(tiny), split) for split in ("train", "validation", "test"))
    splits = dict(zip(tiny["triplets"].select("i", "j", "k").rows(), tiny["triplets"]["split"], strict=True))
    odd = dict(zip(tiny["choices"].select("i", "j", "k").rows(), tiny["choices"]["odd"], strict=True))
    for split, rows in (("train", train), ("validation", validation), ("test", test)):
        assert {splits[tuple(sorted(row))] for row in rows.tolist()} == {split}
        assert all(odd[tuple(sorted(row))] == row[2] for row in rows.tolist())
    assert len(train) + len(validation) + len(test) == tiny["triplets"].height


def test_an_embedding_survives_the_table(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).random((7, 3)).astype(np.float32)
    tables = {"embeddings": embedding_steps._weights("a", 4, weights).lazy()}
    assert np.array_equal(arrays.embedding(tables, 4), weights)


def test_the_test_triplets_are_those_of_a_study_without_validation(tmp_path: Path) -> None:
    """Answers that were collected earlier keep their split, but for those that now steer the fits."""
    frames = stimuli_steps.ingest({}, PARAMS, context(tmp_path))
    few = parse(override(TEXT, ("triplets.validation_fraction=0.01",)))
    main = [
        stimuli_steps.sample(lazy(frames), params, context(tmp_path))["triplets"].filter(pl.col("split") == "test")
        for params in (PARAMS, few)
    ]
    assert main[0].equals(main[1])


def test_a_fit_s_loss_is_that_of_the_kept_epoch_and_its_convergence_that_of_the_last_check() -> None:
    curves = pl.DataFrame(
        {
            "seed": [0, 0, 0, 1],
            "epoch": [0, 1, 2, 0],
            "validation_loss": [0.9, 0.4, 1.0, 0.5],
            "objective": [None, 0.6, 0.5, None],
            "match": [None, 0.995, 0.9, None],
            "converged": [None, True, False, None],
            "kept": [False, True, False, True],
            "p_chance": [None, 0.001, None, None],
            "n_dimensions": [5, 4, 3, 0],
        }
    )
    found = arrays.fit_results({"learning_curves": curves.lazy()})
    assert found[0] == {
        "held_out_loss": 0.4, "n_epochs": 2, "objective": 0.6, "match": 0.9, "converged": False, "p_chance": 0.001,
        "n_fitted": 4,
    }  # fmt: skip
    assert (found[1]["converged"], found[1]["p_chance"]) == (False, None)


def test_a_stimulus_without_captions_stops_a_text_agent(world: OutputTables, tmp_path: Path) -> None:
    fewer = world | {"captions": world["captions"].filter(pl.col("stimulus_index") != 3)}
    with pytest.raises(SourceError, match="1 stimuli have no caption"):
        choices_steps.encode(lazy(fewer), PARAMS, context(tmp_path, "caption-tfidf"))


def test_a_constant_dimension_has_no_correlation_and_says_nothing_else(world: OutputTables, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).random((60, 3)).astype(np.float32)
    weights[:, 1] = 0.5
    choices = choices_steps.choose_by_ratings(lazy(world), PARAMS, context(tmp_path, "human-category"))
    tables = lazy(world | choices | {"embeddings": embedding_steps._weights("human-category", 0, weights)})
    tables |= {"sweeps": to_table("sweeps", []).lazy(), "fits": to_table("fits", []).lazy()}
    metrics = meaning.measure(tables, PARAMS, context(tmp_path, "human-category"))["metrics"]
    r = metrics.filter(pl.col("analysis") == "rating_correlation")
    assert set(r.filter(pl.col("dimension") == 2)["note"]) == {"dimension 2 is the same for every stimulus"}
    assert r.filter(pl.col("dimension") == 2)["value"].null_count() == r.filter(pl.col("dimension") == 2).height
    assert r.filter(pl.col("dimension") != 2)["value"].null_count() == 0


def test_seeds_draw_numbers_of_their_own(world: OutputTables, tmp_path: Path) -> None:
    again: Params = parse(override(templates.starting_params("demo"), ("sources.n_stimuli=60", "seed=7")))
    other = stimuli_steps.ingest({}, again, context(tmp_path))
    assert not other["ratings"].equals(world["ratings"])
    assert stimuli_steps.ingest({}, PARAMS, context(tmp_path))["ratings"].equals(world["ratings"])
