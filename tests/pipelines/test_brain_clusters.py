"""Levels by clusters as steps: of a subject's maps under relabelled stimuli, and of means over subjects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from affectlake.brain.clusters.levels import relabelled_levels
from affectlake.brain.clusters.neighbours import neighbours_of
from affectlake.brain.encoding.crossvalidation import relabelled
from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import write_outputs
from affectlake.pipelines.params.study import Params, override, parse
from affectlake.pipelines.step import OutputTables
from affectlake.pipelines.steps import brain_maps
from affectlake.pipelines.steps.brain_arrays import folds_of, null_orders, subjects_of, vectors_of
from affectlake.pipelines.steps.brain_group_maps import group_brain_maps
from affectlake.pipelines.steps.rows import to_table
from tests.support import null_brains
from tests.support.brain_worlds import TEXT
from tests.support.null_brains import AGENTS, SIDE, context, lazy

N = SIDE**3
PARAMS = null_brains.settings("all", 39)


def of_agent(tables: OutputTables, agent: str) -> OutputTables:
    return tables | {name: tables[name].filter(pl.col("agent") == agent) for name in ("embeddings", "fits")}


def test_levels_of_encoding_are_those_of_its_relabelled_maps(tmp_path: Path) -> None:
    tables = of_agent(null_brains.study(PARAMS, "smooth", 3, tmp_path, n_subjects=1, planted=1.0), AGENTS[0])
    here = context(tmp_path, AGENTS[0])
    found = brain_maps.encode_brains(lazy(tables), PARAMS, here)["encoding_maps"]
    own = found.filter(pl.col("basis") == "embedding").sort("voxel_index")
    (subject,) = subjects_of(lazy(tables), here)
    features = vectors_of(lazy(tables), PARAMS, AGENTS[0])[1]["embedding"][subject.stimulus_index].astype(np.float64)
    folds, wanted = folds_of(subject, PARAMS), PARAMS.brain.encoding  # type: ignore[union-attr]
    null = relabelled(
        features, subject.z_scored, folds, null_orders(PARAMS, "encoding", subject.stimulus_index, 39),
        standardise=wanted.standardise,
    )  # fmt: skip
    levels = relabelled_levels(own["encoding_r"].to_numpy(), null, neighbours_of(subject.voxels), 0.001)
    assert np.array_equal(own["p_tfce"].to_numpy(), levels.tfce)
    assert np.array_equal(own["p_cluster"].to_numpy(), levels.cluster)
    assert own["p_tfce"].min() == own["p_cluster"].min() == 1 / 40
    assert found.filter(pl.col("basis") == "vectors")["p_tfce"].null_count() == N  # it has no null distribution
    scattered = np.random.default_rng(0).permutation(N)
    moved = tables["voxels"].with_columns(pl.col(f"voxel_{axis}").gather(scattered) for axis in "ijk")
    again = brain_maps.encode_brains(lazy(tables | {"voxels": moved}), PARAMS, here)["encoding_maps"]
    again = again.filter(pl.col("basis") == "embedding").sort("voxel_index")
    assert again["p_fwe"].equals(own["p_fwe"])
    elsewhere = relabelled_levels(own["encoding_r"].to_numpy(), null, neighbours_of(subject.voxels[scattered]), 0.001)
    assert np.array_equal(again["p_tfce"].to_numpy(), elsewhere.tfce)
    assert not again["p_tfce"].equals(own["p_tfce"])


def maps_of(values: dict[str, np.ndarray], n_subjects: int, value: str, table: str) -> pl.DataFrame:
    return to_table(table, (
        {"agent": agent, "subject": f"S{s}", "basis": "embedding", "voxel_index": v, value: float(one[s, v])}
        | ({"n_members": 9, "bias": 0.25} if table == "rsa_maps" else {})
        for agent, one in values.items() for s in range(n_subjects) for v in range(N)
    ))  # fmt: skip


def group(n_subjects: int, shift_mm: float = 0.0, grid_step: int = 0) -> OutputTables:
    """Maps of two agents, noise and, of the first one in the first 36 voxels, an effect."""
    rng = np.random.default_rng(5)
    place = np.argwhere(np.ones((SIDE,) * 3)).astype(np.int32)
    values = {agent: rng.normal(0, 0.02, size=(n_subjects, N)).astype(np.float32) for agent in ("a", "human-category")}
    values["a"][:, :36] += 0.3
    voxels = [
        pl.DataFrame({"subject": [f"S{s}"] * N, "voxel_index": np.arange(N, dtype=np.int32)}
        | {f"voxel_{axis}": place[:, i] + (grid_step if s and not i else 0) for i, axis in enumerate("ijk")}
        | {f"{axis}_mm": (3.0 * place[:, i] + (grid_step * 3.0 if s and not i else 0) + s * shift_mm).astype(np.float32)
           for i, axis in enumerate("xyz")}
        | {"regions": [""] * N, "usable": [True] * N})
        for s in range(n_subjects)
    ]  # fmt: skip
    return {
        "voxels": pl.concat(voxels),
        "encoding_maps": maps_of(values, n_subjects, "encoding_r", "encoding_maps"),
        "rsa_maps": maps_of(values, n_subjects, "rho", "rsa_maps"),
    }


@pytest.fixture(scope="module")
def params() -> Params:
    return parse(override(TEXT, ("brain.cluster_forming_p=0.01",)))


def test_means_over_subjects_find_what_is_planted(params: Params, tmp_path: Path) -> None:
    tables = group(6)
    found = group_brain_maps(lazy(tables), params, context(tmp_path))["group_maps"]
    assert found.height == 2 * 3 * N  # both methods; two means and one difference
    assert set(found["n_flips"]) == {64}
    for method, value, bias in (("encoding", "encoding_r", 0.0), ("searchlight", "rho", 0.25)):
        table = "encoding_maps" if method == "encoding" else "rsa_maps"
        wide = {agent: np.stack([one[value].to_numpy() for _, one in sorted(own.group_by("subject"))])
                for (agent,), own in tables[table].group_by("agent")}  # fmt: skip
        for agent, contrast, values in (
            ("a", "mean", wide["a"] - bias), ("a", "difference", wide["a"] - wide["human-category"]),
            ("human-category", "mean", wide["human-category"] - bias),
        ):  # fmt: skip
            own = found.filter(method=method, agent=agent, contrast=contrast).sort("voxel_i", "voxel_j", "voxel_k")
            assert own["group_value"].to_numpy() == pytest.approx(values.mean(axis=0), abs=1e-6)
            assert own["t"].to_numpy() == pytest.approx(stats.ttest_1samp(values, 0).statistic, rel=1e-4)
            for level in ("p_fwe", "p_tfce", "p_cluster"):
                if agent == "a" and not (contrast == "mean" and bias):
                    assert own[level].to_numpy()[:36].max() == 1 / 64
                else:
                    assert own[level].to_numpy()[36:].min() > 1 / 64
    repository.init(tmp_path / "lake", TEXT)
    assert write_outputs(tmp_path / "lake", "group", {Output("group_maps"): found}, {}) > 0
    again = group_brain_maps(lazy(tables), params, context(tmp_path, workers=2))["group_maps"]
    assert again.equals(found)


def test_only_voxels_of_all_subjects_count_and_one_without_a_value_is_null(params: Params, tmp_path: Path) -> None:
    tables = group(3, grid_step=1)
    tables["encoding_maps"] = tables["encoding_maps"].with_columns(
        encoding_r=pl.when(subject="S1", voxel_index=0).then(None).otherwise("encoding_r")
    )
    found = group_brain_maps(lazy(tables), params, context(tmp_path))["group_maps"]
    own = found.filter(method="encoding", agent="a", contrast="mean").sort("voxel_i", "voxel_j", "voxel_k")
    assert own.height == (SIDE - 1) * SIDE**2
    assert own["voxel_i"].min() == 1
    assert own["t"].null_count() == own["p_tfce"].null_count() == 1
    assert own["t"].is_null().to_list().index(True) == 0  # the first voxel of S1 is at i = 1
    assert set(own["n_flips"]) == {8}


@pytest.mark.parametrize(("tables", "reason"), [
    (group(1), "they need two subjects"),
    (group(2, shift_mm=0.5), "S0 and S1 are not on one grid"),
    (group(2, grid_step=SIDE), "S0 and S1 are not on one grid"),
])  # fmt: skip
def test_without_a_common_grid_there_are_no_rows_and_one_reason(
    tables: OutputTables, reason: str, params: Params, tmp_path: Path
) -> None:
    lines = list[str]()
    here = context(tmp_path)
    found = group_brain_maps(lazy(tables), params, here.__class__(**(vars(here) | {"log": lines.append})))
    assert found["group_maps"].is_empty()
    assert lines == [f"no group maps: {reason}"]
