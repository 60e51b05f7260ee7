"""The step `embed_vice`: rows of both methods, intervals, agents without anything to learn, and independent stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectlake.errors import UsageError
from affectlake.lake.tables.contracts import contract
from affectlake.pipelines.engine.graph import stages
from affectlake.pipelines.step import OutputTables
from affectlake.pipelines.steps import embedding
from affectlake.pipelines.steps.vice import NO_JUDGMENTS, embed_vice
from affectlake.pipelines.stored import Stored
from affectlake.spose.model import score
from tests.pipelines.test_learning import AGENT, EVEN, context, embedded, judgments, lazy, params

VICE = "vice={seeds: [3, 1], dimensions: 8, max_epochs: 120}"


def both(tables: OutputTables, folder: Path, told: list[str] | None = None) -> OutputTables:
    settings = params(VICE)
    fitted = embedded(tables, context(folder), settings)
    fitted |= embedding.rank_fits(lazy(fitted), settings, context(folder))
    return embed_vice(lazy(tables | fitted), settings, context(folder, told)) | fitted


@pytest.fixture(scope="module")
def tables() -> OutputTables:
    return judgments((), EVEN)


@pytest.fixture(scope="module")
def found(tables: OutputTables, tmp_path_factory: pytest.TempPathFactory) -> OutputTables:
    return both(tables, tmp_path_factory.mktemp("vice"))


def test_both_methods_are_scored_on_the_same_test_judgments(tables: OutputTables, found: OutputTables) -> None:
    rows = found["fit_methods"].filter("used").sort("fit_method")
    assert rows.select("fit_method", "seed").rows() == [("spose", 0), ("vice", 3)]  # the first seed, not the best one
    assert rows["n"].to_list() == [6000, 6000]
    split = tables["triplets"].filter(split="test").select("i", "j", "k")
    test = tables["choices"].join(split, on=["i", "j", "k"]).select("i", "j", "k", "odd").to_numpy()
    last = np.array([[*sorted({i, j, k} - {odd}), odd] for i, j, k, odd in test.tolist()], dtype=np.int32)
    wide = found["vice_embeddings"].sort("dimension", "stimulus_index")["weight"].to_numpy()
    weights = np.ascontiguousarray(wide.reshape(-1, 60).T)
    assert rows["test_accuracy"][1] == pytest.approx(score(weights, last).accuracy)
    assert abs(rows["test_accuracy"][0] - rows["test_accuracy"][1]) < 0.03 and rows["test_accuracy"].min() > 0.6
    assert (rows["ci_low"] < rows["test_accuracy"]).all() and (rows["test_accuracy"] < rows["ci_high"]).all()
    assert rows["method_r"].min() > 0.85
    assert found["fit_methods"].filter(fit_method="vice")["reproducibility"].min() > 0.9


def test_each_weight_has_an_interval(found: OutputTables) -> None:
    rows = found["vice_embeddings"]
    assert rows["seed"].unique().to_list() == [3] and rows["ci_low"].null_count() == 0
    assert (rows["ci_low"] <= rows["ci_high"]).all() and rows["ci_low"].min() >= 0
    sure = rows.filter(pl.col("p_positive") > 0.999)
    assert len(sure) and (sure["ci_low"] < sure["weight"]).all()
    for name in ("vice_embeddings", "fit_methods"):
        assert found[name].to_arrow().schema.names == contract(name).schema.names


def test_an_agent_that_guesses_has_rows_with_the_reason(tmp_path: Path) -> None:
    made = both(judgments(("train", "validation", "test"), EVEN), tmp_path)
    rows = made["fit_methods"].filter(fit_method="vice")
    assert made["vice_embeddings"].is_empty() and rows["n_dimensions"].to_list() == [0, 0]
    assert all(note.startswith("the fit learned nothing") for note in rows["note"])
    assert rows["test_accuracy"].null_count() == 2


def test_an_agent_without_judgments_has_rows_with_the_reason(tmp_path: Path) -> None:
    nothing = judgments((), EVEN)
    nothing["choices"] = nothing["choices"].clear()
    told: list[str] = []
    made = both(nothing, tmp_path, told)
    assert made["fit_methods"].filter(fit_method="vice")["note"].to_list() == [NO_JUDGMENTS] * 2
    assert told == [NO_JUDGMENTS]


def test_the_section_adds_one_stage_per_agent_and_changes_no_other() -> None:
    without, with_it = (stages(params(*more), Stored(frozenset(), frozenset())) for more in ((), (VICE,)))
    assert set(with_it) - set(without) == {f"embed_vice@{one}" for one in params().agents}
    assert all(with_it[name] == stage for name, stage in without.items())


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(UsageError, match=r"vice\.sead"):
        params("vice={sead: 1}")


def test_the_written_settings_are_read() -> None:
    assert params(VICE).vice is not None and params(VICE).vice.seeds == (3, 1)  # type: ignore[union-attr]
    assert params().vice is None and AGENT in params().agents
