"""What `embed` and `sweep` learn from, by planted judgments in each split, and fits that learned nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectlake.geometry.layout import layout
from affectlake.lake.tables.contracts import contract
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import Params, override, parse
from affectlake.pipelines.step import OutputTables, StepContext
from affectlake.pipelines.steps import arrays, embedding, meaning, sweeps
from affectlake.pipelines.steps.rows import to_table
from affectlake.seeds import integer
from affectlake.spose.chance import LEVEL
from affectlake.spose.model import score
from affectlake.spose.schedules import learning_rate
from tests.spose.test_fitting import planted

AGENT = "human-category"
SETTINGS = (
    "sources.n_stimuli=60",
    "spose.dimensions=6",
    "spose.max_epochs=60",
    "spose.batch_size=128",
    "spose.convergence_epochs=15",
    "spose.seeds=[0]",
    "agents.human-category.l1=0.01",
    "sweeps.dimensions=[]",
    "sweeps.judgments=[2000]",
    "sweeps.replicates=3",
    "sweeps.max_epochs=15",
    "geometry.permutations=20",
    "geometry.resamples=20",
)


def params(*others: str) -> Params:
    return parse(override(templates.starting_params("demo"), (*SETTINGS, *others)))


def context(tmp_path: Path, told: list[str] | None = None) -> StepContext:
    log = (lambda _: None) if told is None else told.append
    return StepContext(AGENT, tmp_path, tmp_path, 1, log, lambda _: None)


def lazy(frames: OutputTables) -> dict[str, pl.LazyFrame]:
    return {name: frame.lazy() for name, frame in frames.items()}


def judgments(random: tuple[str, ...], shares: dict[str, int]) -> OutputTables:
    """Return the tables of planted judgments; those of the splits in `random` are made at random."""
    rng = np.random.default_rng(5)
    _, choices = planted(m=60_000)
    choices = rng.permutation(choices)[: sum(shares.values())]
    split = np.repeat(list(shares), list(shares.values()))
    guessed = rng.permuted(choices, axis=1)
    choices = np.where(np.isin(split, random)[:, None], guessed, choices)
    trials = pl.DataFrame(np.sort(choices, axis=1).astype(np.int32), schema=["i", "j", "k"], orient="row")
    trials = trials.with_columns(trial_set=pl.lit("main"))
    answered = trials.with_columns(odd=pl.Series(choices[:, 2].astype(np.int32)), agent=pl.lit(AGENT))
    stimuli = pl.DataFrame({"stimulus_index": np.arange(60, dtype=np.int32)})
    return {"stimuli": stimuli, "triplets": trials.with_columns(split=pl.Series(split)), "choices": answered}


EVEN = {"train": 6000, "validation": 6000, "test": 6000}


def embedded(tables: OutputTables, here: StepContext, settings: Params | None = None) -> OutputTables:
    return embedding.embed(lazy(tables), settings or params(), here)


@pytest.mark.parametrize("l1", ["0.01", "auto"])
def test_only_the_training_judgments_are_learned(l1: str, tmp_path: Path) -> None:
    """Random training judgments do not predict the consistent ones of the other splits; a leak would.

    A fit to random judgments is a random embedding. Its accuracy on consistent judgments varies more than that of
    guesses, since a stimulus that is similar to many others counts in many of them.
    """
    tables = judgments(("train",), EVEN)
    settings = params(f"agents.human-category.l1={l1}", "spose.few.max_epochs=40")
    found = embedded(tables, context(tmp_path), settings)
    assert found["learning_curves"]["validation_accuracy"].max() < 0.42
    assert embedded(judgments((), EVEN), context(tmp_path / "consistent"), settings)["learning_curves"][
        "validation_accuracy"
    ].max() > 0.6  # fmt: skip


@pytest.mark.parametrize("l1", ["0.01", "auto"])
def test_an_agent_that_guesses_has_learned_nothing(l1: str, tmp_path: Path) -> None:
    settings = params(f"agents.human-category.l1={l1}", "spose.few.max_epochs=40")
    told: list[str] = []
    found = embedded(judgments(("train", "validation", "test"), EVEN), context(tmp_path, told), settings)
    assert found["embeddings"].is_empty()
    assert any("has learned nothing" in line for line in told)
    assert not any("by chance" in line.partition("validation accuracy")[2] for line in told)
    assert found["learning_curves"]["lapse"].null_count() == found["learning_curves"].height
    ranked = embedding.rank_fits(lazy(found), settings, context(tmp_path))["fits"].row(0, named=True)
    assert ranked["p_chance"] > LEVEL
    reasons = ("validation accuracy is no better than chance (p = ", "no dimension survived pruning")
    assert ranked["note"].startswith(tuple(f"the fit learned nothing: {reason}" for reason in reasons))


def test_consistent_judgments_are_learned_and_the_test_judgments_have_no_part_in_it(tmp_path: Path) -> None:
    """The embedding is the same, byte for byte, whatever the test judgments are."""
    found = [embedded(judgments(random, EVEN), context(tmp_path / "-".join(random))) for random in ((), ("test",))]
    assert found[0]["embeddings"].equals(found[1]["embeddings"])
    assert found[0]["learning_curves"].equals(found[1]["learning_curves"])
    weights = arrays.embedding(lazy(found[0]), 0)
    for random, low, high in (((), 0.6, 1.0), (("test",), 0.3, 0.37)):
        tested = arrays.judged(lazy(judgments(random, EVEN)), "test")
        assert low < score(weights, tested).accuracy < high
    assert found[0]["learning_curves"].filter("kept")["p_chance"].item() < 1e-9


def test_random_validation_judgments_publish_nothing(tmp_path: Path) -> None:
    assert embedded(judgments(("validation",), EVEN), context(tmp_path))["embeddings"].is_empty()


# ---- sweeps


def swept(tables: OutputTables, reference: np.ndarray, tmp_path: Path) -> pl.DataFrame:
    own = tables | {"embeddings": embedding._weights(AGENT, 0, reference)}
    return sweeps.sweep(lazy(own), params(), context(tmp_path))["sweeps"]


def test_sweeps_are_scored_on_test_judgments_and_replicates_differ(tmp_path: Path) -> None:
    truth, _ = planted()
    rows = {random: swept(judgments(random, EVEN), truth, tmp_path) for random in ((), ("test",), ("train",))}
    assert rows[()].height == 3
    assert rows[()]["test_accuracy"].min() > 0.5
    assert rows[("test",)]["test_accuracy"].is_between(0.3, 0.37).all()
    assert rows[("train",)]["test_accuracy"].is_between(0.3, 0.37).all()
    assert rows[()]["test_loss"].n_unique() == 3


def test_sweeps_have_a_learning_rate_of_their_own_and_batches_that_fit() -> None:
    study = params("spose.warmup_epochs=5")
    own = study.settings(AGENT)
    many = sweeps.SweepFit("judgments", 250_000, 0, 250_000, 12)
    constant = sweeps.settings_of(own, study.sweeps, many)
    assert (constant.batch_size, constant.dimensions) == (study.sweeps.batch_size, 12)
    assert {learning_rate(constant, epoch) for epoch in range(1, 30)} == {study.sweeps.learning_rate}
    cycled = sweeps.settings_of(own, study.sweeps.model_copy(update={"cycle_epochs": 10}), many)
    assert (cycled.batch_size, cycled.patience) == (2048, study.sweeps.patience)
    assert learning_rate(cycled, 10) == pytest.approx(study.sweeps.learning_rate / 100)
    assert learning_rate(cycled, 11) == study.sweeps.learning_rate


def test_recovered_dimensions_are_those_of_the_study_s_fit(tmp_path: Path) -> None:
    """All four against the planted embedding, none against an unrelated one of the same size."""
    truth, _ = planted()
    tables = judgments((), {"train": 14_000, "validation": 1500, "test": 1500})
    settings = params("sweeps.judgments=[14000]", "sweeps.replicates=1", "sweeps.max_epochs=60", "spose.dimensions=4")
    unrelated = np.random.default_rng(0).random((60, 4)).astype(np.float32)
    for reference, low, high in ((truth, 3, 4), (unrelated, 0, 0)):
        own = tables | {"embeddings": embedding._weights(AGENT, 0, reference)}
        found = sweeps.sweep(lazy(own), settings, context(tmp_path))["sweeps"]
        assert low <= found["n_recovered"].item() <= high


# ---- fits without dimensions


def test_a_stimulus_map_is_of_the_representative_fit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = [rng.random((60, 3)).astype(np.float32) for _ in range(2)]
    rows = [{"agent": AGENT, "seed": s, "n_dimensions": 3, "representative": s == 1} for s in (0, 1)]
    tables = {
        "embeddings": pl.concat([embedding._weights(AGENT, seed, one) for seed, one in enumerate(weights)]),
        "fits": to_table("fits", rows),
        "stimuli": pl.DataFrame({"stimulus_index": np.arange(60)}),
    }
    settings = params("geometry.perplexity=10.0")
    found = embedding.lay_out(lazy(tables), settings, context(tmp_path))["layouts"]
    seed = integer(settings.seed, "layout", AGENT)
    maps = [layout(one, seed, 10.0).coordinates.astype(np.float32) for one in weights]
    assert set(found["seed"]) == {1}
    np.testing.assert_array_equal(found.select("x", "y").to_numpy(), maps[1])
    assert not np.allclose(maps[0], maps[1])


def test_an_agent_without_judgments_is_a_row_with_the_reason(tmp_path: Path) -> None:
    tables = judgments((), {"train": 10, "validation": 10, "test": 10})
    tables["choices"] = tables["choices"].clear()
    found = embedded(tables, context(tmp_path))
    fits = embedding.rank_fits(lazy(found), params("spose.seeds=[0, 3]"), context(tmp_path))["fits"]
    assert fits.select("seed", "n_dimensions", "representative").rows() == [(0, 0, False), (3, 0, False)]
    assert fits["note"].str.starts_with("not fitted: there are no judgments").all()
    assert contract("fits").column("note").nullable


def test_metrics_say_why_a_fit_has_no_dimensions(tmp_path: Path) -> None:
    settings = params("agents.human-category.l1=50.0", "spose.seeds=[0, 1]")
    tables = judgments((), {"train": 3000, "validation": 1000, "test": 1000})
    tables["choices"] = tables["choices"].with_columns(repeat=pl.lit(0, pl.Int16), protocol=pl.lit("p/1"))
    tables["stimuli"] = tables["stimuli"].with_columns(category=pl.lit(None, pl.String))
    tables |= {
        "families": to_table("families", []),
        "ratings": to_table("ratings", []),
        "sweeps": to_table("sweeps", []),
    }
    tables |= embedded(tables, context(tmp_path), settings)
    tables |= embedding.rank_fits(lazy(tables), settings, context(tmp_path))
    assert set(tables["fits"]["n_dimensions"]) == {0}
    assert tables["fits"]["note"].eq("the fit learned nothing: no dimension survived pruning").all()
    rows = meaning.measure(lazy(tables), settings, context(tmp_path))["metrics"]
    notes = rows.filter(pl.col("seed").is_not_null())
    assert notes.height == 2
    assert set(notes["note"]) == set(tables["fits"]["note"])
    assert embedding.lay_out(lazy(tables), settings, context(tmp_path))["layouts"].is_empty()


def with_probabilities(random_choices: bool, random_probabilities: bool) -> OutputTables:
    """Return judgments, those of training at random if wanted, and probabilities in another order of rows."""
    rng = np.random.default_rng(6)
    tables = judgments((), EVEN)
    once = (
        tables["choices"].with_columns(split=tables["triplets"]["split"]).unique(["i", "j", "k"], maintain_order=True)
    )
    odd = pl.Series(rng.permuted(once.select("i", "j", "k").to_numpy(), axis=1)[:, 0])
    guessed = once.with_columns(odd=odd)
    soft = (guessed if random_probabilities else once).with_columns(
        repeat=pl.lit(0, dtype=pl.Int16),
        **{f"q_{name}": pl.when(pl.col("odd") == pl.col(name)).then(0.9).otherwise(0.05) for name in ("i", "j", "k")},
    )
    in_training = pl.col("split") == "train"
    hard = once.with_columns(odd=pl.when(in_training & pl.lit(random_choices)).then(odd).otherwise("odd"))
    return tables | {
        "triplets": once.select("i", "j", "k", "trial_set", "split"),
        "choices": hard.drop("split").with_columns(repeat=pl.lit(0, dtype=pl.Int16)),
        "soft_choices": soft.drop("odd", "split").sample(fraction=1.0, shuffle=True, seed=1),
    }


def test_probabilities_are_learned_in_place_of_choices(tmp_path: Path) -> None:
    """Fits and sweeps predict the consistent choices of the other splits if, and only if, the probabilities do."""
    for random in (True, False):
        own = lazy(with_probabilities(random, not random))
        found = embedding.embed(own, params(), context(tmp_path / str(random)))
        accuracy = found["learning_curves"]["validation_accuracy"].max()
        assert accuracy > 0.6 if random else accuracy < 0.42
        if random:
            fits = found["embeddings"].lazy()
        swept = sweeps.sweep(own | {"embeddings": fits}, params(), context(tmp_path / f"sweep-{random}"))["sweeps"]
        assert swept["test_accuracy"].min() > 0.5 if random else swept["test_accuracy"].max() < 0.42
