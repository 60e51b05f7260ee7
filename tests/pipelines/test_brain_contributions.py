"""Contributions of bands as a step: planted regions are explained by their agent, by all methods."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import write_outputs
from affectlake.pipelines.params.study import override, parse
from affectlake.pipelines.step import OutputTables
from affectlake.pipelines.steps import brain
from affectlake.pipelines.steps import stimuli as stimuli_steps
from affectlake.pipelines.steps.brain_contributions import METHODS, estimate_contributions
from tests.support.brain_worlds import AGENTS, TEXT, context, lazy, with_embedding

BANDS = "brain.partition={bands: {category: [human-category], dimension: [human-dimension]}, ratios: [1.0]}"
ASKED = (BANDS, "brain.contributions={}", "brain.sources.n_subjects=2")
WANTED = parse(override(TEXT, ASKED))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> OutputTables:
    here = context(tmp_path_factory.mktemp("brains"))
    study = stimuli_steps.ingest({}, WANTED, here)
    frames = pl.DataFrame(schema={"stimulus_index": pl.Int32, "frame_index": pl.Int16, "jpeg": pl.Binary})
    tables = study | brain.ingest_brains(lazy(study), WANTED, here) | {"frames": frames}
    both = [with_embedding(tables, WANTED, agent) for agent in AGENTS]
    return tables | {name: pl.concat([one[name] for one in both]) for name in ("embeddings", "fits")}


@pytest.fixture(scope="module")
def found(world: OutputTables, tmp_path_factory: pytest.TempPathFactory) -> OutputTables:
    return estimate_contributions(lazy(world), WANTED, context(tmp_path_factory.mktemp("step")))


def test_the_tables_keep_their_contracts(world: OutputTables, found: OutputTables, tmp_path: Path) -> None:
    repository.init(tmp_path / "lake", TEXT)
    read = {name: world[name].lazy() for name in ("stimuli", "voxels", "betas")}
    assert write_outputs(tmp_path / "lake", "parts", {Output(name): table for name, table in found.items()}, read) > 0
    rows = found["band_contributions"]
    print(rows.filter(subject=rows["subject"][0]).filter(pl.col("region").is_in(["all", "VC", "amygdala"])).to_dicts())
    for row in rows.filter(subject=rows["subject"][0], quantity="unique").iter_rows():
        print(row)
    assert set(rows["contribution_method"]) == set(METHODS)
