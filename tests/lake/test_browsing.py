"""What a version contains, from Python: counted and computed by hand from the published rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

import affectlake
from affectlake.errors import UsageError, VersionError
from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.open import Lake
from affectlake.lake.store.dvc_stages import record_done
from affectlake.lake.tables import factory, writing
from affectlake.lake.tables.contracts import contract
from tests.support.lakes import OUTPUTS


@pytest.fixture
def browsed(published: Path) -> Lake:
    """A lake whose v3 has ratings, captions, and embeddings of two seeds, of which seed 1 is representative."""
    tables = factory.tiny_lake(14)
    rng = np.random.default_rng(3)
    first = tables["embeddings"]
    weights = [pl.Series("weight", rng.random(len(first)), dtype=pl.Float32) for _ in range(2)]
    every = pl.concat([
        first.with_columns(weights[seed], seed=pl.lit(seed, dtype=pl.Int32)) for seed in (0, 1)
    ])  # fmt: skip
    fit = tables["fits"].head(1)
    fits = pl.concat([
        fit.with_columns(seed=pl.lit(seed, dtype=pl.Int32), representative=pl.lit(seed == 1)) for seed in (0, 1)
    ])  # fmt: skip
    frames = {output: tables[output.table] for output in OUTPUTS}
    frames |= {Output(name): tables[name] for name in ("families", "ratings", "captions")}
    frames |= {
        Output("embeddings", "tiny"): every.sample(fraction=1, shuffle=True, seed=1),
        Output("fits", "tiny"): fits,
    }
    writing.write_outputs(published, "tiny", frames, {name: frame.lazy() for name, frame in tables.items()})
    outs = [{f"storage/tables/{output}": {"persist": True}} for output in frames]
    command = "affectlake step tiny --step-version 1"
    (published / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"tiny": {"cmd": command, "outs": outs}}}))
    record_done(published, "tiny")
    repository.publish(published)
    return affectlake.open(published)


def test_tables_and_columns_are_those_of_the_version(browsed: Lake) -> None:
    found = {one.table: one for one in browsed.tables()}
    assert {"stimuli", "embeddings", "fits", "ratings"} <= set(found)
    assert found["embeddings"].n_rows == browsed.table("embeddings").select(pl.len()).collect().item()
    assert found["embeddings"].partitions == "tiny" and found["stimuli"].n_rows == 14
    assert found["stimuli"].grain == contract("stimuli").grain
    older = {one.table: one.n_rows for one in browsed.tables(at="v1")}
    assert older["stimuli"] == 12 and "ratings" not in older
    columns = browsed.describe("embeddings")
    assert [one.column for one in columns] == [one.name for one in contract("embeddings").columns]
    assert all(one.meaning for one in columns) and "grain" in repr(browsed.tables())


def test_the_embedding_is_that_of_the_representative_fit(browsed: Lake) -> None:
    rows = browsed.table("embeddings").collect()
    for seed, given in ((1, None), (0, 0), (1, 1)):
        found = browsed.embedding("tiny", seed=given)
        assert found.dtype == np.float32 and found.flags.c_contiguous
        for stimulus, dimension, weight in (
            rows.filter(pl.col("seed") == seed).select("stimulus_index", "dimension", "weight").iter_rows()
        ):
            assert found[stimulus, dimension - 1] == np.float32(weight)
    assert browsed.rsm("tiny") == pytest.approx(np.corrcoef(browsed.embedding("tiny").astype(float)))


def test_a_stimulus_is_found_by_its_id_and_its_index(browsed: Lake) -> None:
    row = browsed.table("stimuli").filter(pl.col("stimulus_index") == 5).collect().row(0, named=True)
    by_index, by_id = browsed.stimulus(5), browsed.stimulus(row["stimulus_id"])
    assert by_index[:4] == by_id[:4] and by_id.stimulus_id == row["stimulus_id"] and by_id.stimulus_index == 5
    captions = browsed.table("captions").filter(pl.col("stimulus_index") == 5).collect()["caption"].to_list()
    assert sorted(by_id.captions) == sorted(captions)
    ratings = browsed.table("ratings").filter(pl.col("stimulus_index") == 5).collect()
    assert dict(by_id.ratings.select("rating", "score").iter_rows()) == dict(
        ratings.select("rating", "score").iter_rows()
    )
    for (_,), own in by_id.ratings.group_by("family"):
        assert own["score"].is_sorted(descending=True)


def test_what_is_not_there_is_named(browsed: Lake) -> None:
    with pytest.raises(VersionError, match="tinny has no embedding in v3") as told:
        browsed.embedding("tinny")
    assert "did you mean 'tiny'" in str(told.value)
    with pytest.raises(VersionError, match="has no fit with seed 7"):
        browsed.embedding("tiny", seed=7)
    with pytest.raises(VersionError, match="v1 has no table 'embeddings'"):
        browsed.rsm("tiny", at="v1")
    with pytest.raises(UsageError, match="has no stimulus 99"):
        browsed.stimulus(99)
    with pytest.raises(VersionError, match="no table 'stimulus'"):
        browsed.describe("stimulus")
    assert browsed.stimulus(3, at="v1").captions == [] and browsed.stimulus(3, at="v1").ratings.is_empty()
