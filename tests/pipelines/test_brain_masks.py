"""Masks of brain maps in images and in the report: the significant voxels of the tables, and a switch."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
import pytest
import yaml

from affectlake.lake import repository
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.dvc_stages import record_done
from affectlake.lake.store.versions import Version
from affectlake.lake.tables.writing import write_outputs
from affectlake.pipelines.outputs import report
from affectlake.pipelines.outputs.brain_masks import threshold_of
from affectlake.pipelines.outputs.group_inputs import group_inputs
from affectlake.pipelines.outputs.nifti import write_maps
from affectlake.pipelines.outputs.version_tables import VersionTables
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.record import record_at
from affectlake.pipelines.params.study import override
from affectlake.pipelines.steps.rows import to_table

AGENT, SIDE = "human-category", 4
N = SIDE**3
LEVELS = {
    "p_null_fdr": np.where(np.arange(N) < 20, 0.01, 0.2), "p_fwe": np.where(np.arange(N) < 5, 0.04, 0.9),
    "p_tfce": np.where(np.arange(N) < 11, 0.03, 1.0), "p_cluster": np.where(np.arange(N) < 9, 0.02, 1.0),
}  # fmt: skip
COUNTS = {"": 20, "fdr": 20, "fwe": 5, "tfce": 11, "cluster": 9, "none": N}


def published(lake: Path, mask: str = "", levels: bool = True) -> Version:
    text = override(templates.starting_params("demo"), (f"brain.mask={mask}",) if mask else ())
    repository.init(lake, text)
    place = np.argwhere(np.ones((SIDE,) * 3))
    voxels = pl.DataFrame(
        {"subject": ["S1"] * N, "voxel_index": np.arange(N, dtype=np.int32)}
        | {f"voxel_{axis}": place[:, i].astype(np.int32) for i, axis in enumerate("ijk")}
        | {f"{axis}_mm": 3.0 * place[:, i].astype(np.float32) for i, axis in enumerate("xyz")}
        | {"regions": ["VC"] * N, "usable": [True] * N}
        | {f"grid_{axis}": np.full(N, SIDE, dtype=np.int32) for axis in "ijk"}
    )
    keys = {"agent": AGENT, "subject": "S1", "basis": "embedding"}
    known = {name: values.tolist() for name, values in LEVELS.items()} if levels else {}
    maps = {
        table: to_table(table, (
            keys | {"voxel_index": at, value: 0.1 + at / 100, "n_stimuli": 9}
            | {name: values[at] for name, values in known.items()} | more
            for at in range(N)
        ))
        for table, value, more in (("rsa_maps", "rho", {"n_members": 20}), ("encoding_maps", "encoding_r", {}))
    }  # fmt: skip
    score = keys | {"method": "searchlight", "region": "VC", "region_score": 0.3, "n_voxels": N}
    scores = to_table("roi_scores", [score])
    group = to_table("group_maps", (
        {"method": "encoding", "agent": AGENT, "contrast": "mean", "group_value": 0.2 + at / 100, "t": 1.0,
         "n_subjects": 5, "n_flips": 32}
        | {f"voxel_{axis}": int(place[at, i]) for i, axis in enumerate("ijk")}
        | {f"{axis}_mm": 3.0 * place[at, i] for i, axis in enumerate("xyz")}
        | {name: values[at] for name, values in known.items() if name != "p_null_fdr"}
        for at in range(N)
    ))  # fmt: skip
    frames = {Output("voxels"): voxels, Output("group_stats"): to_table("group_stats", []), Output("group_maps"): group,
              **{Output(table, AGENT): frame for table, frame in (*maps.items(), ("roi_scores", scores))}}  # fmt: skip
    write_outputs(lake, "made", frames, {})
    outs = [{f"{layout.TABLES}/{output}": {"persist": True}} for output in frames]
    (lake / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"made": {"cmd": "affectlake step made", "outs": outs}}}))
    record_done(lake, "made")
    version = repository.publish(lake)
    assert version is not None
    return version


@pytest.mark.parametrize(("in_params", "asked", "kept"), [
    ("", "", 20), ("fwe", "", 5), ("fwe", "fdr", 20), ("none", "", N), ("", "none", N), ("tfce", "", 11),
    ("cluster", "", 9), ("", "cluster", 9),
])  # fmt: skip
def test_images_of_significant_voxels_stand_beside_the_whole_maps(
    tmp_path: Path, in_params: str, asked: str, kept: int
) -> None:
    version = published(tmp_path / "lake", in_params)
    found = {path.name: path for path in write_maps(tmp_path / "lake", tmp_path / "maps", version, mask=asked)}
    mask = asked or in_params or "fdr"
    for method in ("searchlight", "encoding"):
        whole_image = nib.load(found[f"{AGENT}_{method}_embedding.nii.gz"])
        whole, value = np.asarray(whole_image.dataobj), {"searchlight": "rho", "encoding": "encoding_r"}[method]
        assert bytes(whole_image.header["descrip"]).rstrip(b"\0") == f"{value}, all voxels".encode()
        assert np.isfinite(whole).sum() == N
        if mask == "none":
            assert len(found) == 3
            continue
        image = nib.load(found[f"{AGENT}_{method}_embedding_{mask}.nii.gz"])
        column = {"fdr": "p_null_fdr"}.get(mask, f"p_{mask}")
        assert (
            bytes(image.header["descrip"]).rstrip(b"\0")
            == f"{value} where {column} < 0.05 (relabelled stimuli)".encode()
        )
        masked = np.asarray(image.dataobj)
        assert masked.shape == whole.shape
        assert np.isfinite(masked).sum() == kept
        assert np.array_equal(masked.ravel()[:kept], whole.ravel()[:kept])
    mean = np.asarray(nib.load(found[f"{AGENT}_encoding_group-mean.nii.gz"]).dataobj)
    assert np.allclose(mean.ravel(), 0.2 + np.arange(N) / 100)
    assert (f"{AGENT}_encoding_group-mean_{mask}.nii.gz" in found) == (mask not in ("fdr", "none"))
    if mask not in ("fdr", "none"):  # no false discovery rate is defined for means over subjects
        image = nib.load(found[f"{AGENT}_encoding_group-mean_{mask}.nii.gz"])
        header = bytes(image.header["descrip"]).rstrip(b"\0")
        assert header == f"mean where p_{mask} < 0.05 (32 flips of signs)".encode()
        assert np.isfinite(np.asarray(image.dataobj)).sum() == COUNTS[mask]
    shown = report.gather(tmp_path / "lake", version).brain
    assert shown is not None
    default = COUNTS[in_params]
    (volume,) = shown.volumes
    assert {int(np.isfinite(volume.masked(*key)).sum()) for key in volume.values} == {default}
    assert {int(np.isfinite(values).sum()) for values in volume.values.values()} == {N}  # for the report's switch
    assert len(shown.thresholds) == (0 if in_params == "none" else 2)
    assert ("(formed at p = 0.001)" in shown.thresholds.get("encoding", "")) == (in_params == "cluster")
    assert ("threshold-free" in shown.thresholds.get("encoding", "")) == (in_params == "tfce")
    assert shown.maps["value"].null_count() == 0
    assert all(np.isfinite(values).sum() == N for values in shown.values.values())  # histograms count every voxel
    assert {(subject, method) for subject, method, _ in shown.values} == {
        (volume.subject, method) for volume in shown.volumes for method in ("encoding", "searchlight")
    }


def test_maps_without_levels_are_whole_and_said_to_be(tmp_path: Path) -> None:
    version, lines = published(tmp_path / "lake", levels=False), list[str]()
    found = write_maps(tmp_path / "lake", tmp_path / "maps", version, log=lines.append)
    assert len(found) == 3
    assert any("is not masked: the version has no rsa_maps.p_null_fdr" in line for line in lines)
    shown = report.gather(tmp_path / "lake", version).brain
    assert shown is not None
    assert not shown.thresholds
    assert all(np.isfinite(values).all() for values in shown.volumes[0].values.values())


@pytest.mark.parametrize(("mask", "kept"), [("", 5), ("fwe", 5), ("tfce", 11), ("cluster", 9), ("none", None)])
def test_the_report_reads_means_over_subjects_with_their_mask(tmp_path: Path, mask: str, kept: int | None) -> None:
    """A false discovery rate, the default, is not defined for these means: the chance of any false voxel is shown."""
    lake = tmp_path / "lake"
    version = published(lake, mask)
    tables = VersionTables(lake, version)
    found = group_inputs(tables, threshold_of(record_at(lake, version)), 1)
    assert found is not None and (found.n_subjects, found.n_flips) == (5, 32)
    values, shown = found.volume.values["encoding", AGENT], found.volume.masked("encoding", AGENT)
    assert sorted(values.tolist()) == pytest.approx([0.2 + at / 100 for at in range(N)], abs=1e-6)
    assert np.isfinite(shown).sum() == (N if kept is None else kept)
    assert (found.threshold == "") == (mask == "none")
