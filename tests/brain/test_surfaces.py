"""Maps on the cortex: sampled as nilearn does, grey where there is no value, files that need no network."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from affectlake.brain.recordings.volumes import write_map
from affectlake.pipelines.outputs.surfaces import draw_surfaces, sample


def box(folder: Path, step_mm: float, right_mm: float = 0.0) -> Path:
    """A map of how far forward each voxel lies, in a box around the brain; NaN to the right of `right_mm`."""
    voxels = np.argwhere(np.ones([int(240 / step_mm)] * 3))
    affine = np.diag([step_mm] * 3 + [1.0])
    affine[:3, 3] = -120
    mm = voxels * step_mm - 120
    path = folder / "map.nii.gz"
    write_map(np.where(mm[:, 0] <= right_mm, mm[:, 1] / 100, np.nan), voxels, affine, path)
    return path


@pytest.mark.reference
def test_vertices_have_the_values_that_nilearn_gives(tmp_path: Path) -> None:
    from nilearn import datasets, surface

    image = box(tmp_path, 4.0, right_mm=120.0)
    white, pial = (datasets.load_fsaverage("fsaverage5")[name].parts["left"] for name in ("white_matter", "pial"))
    found = sample(image, white.coordinates, pial.coordinates)
    theirs = surface.vol_to_surf(image, surf_mesh=pial, inner_mesh=white, n_samples=5, interpolation="linear")
    assert len(found) == 10242
    assert np.abs(found - theirs).max() < 0.03  # half a voxel at 0.01 a mm
    assert np.allclose(found, (white.coordinates + pial.coordinates)[:, 1] / 200, atol=0.03)


def test_a_vertex_far_from_every_value_has_none(tmp_path: Path) -> None:
    image = box(tmp_path, 10.0)
    places = np.array([[-40.0, 0.0, 0.0], [40.0, 0.0, 0.0]])
    found = sample(image, places, places + 1)
    assert found[0] == pytest.approx(0.0, abs=0.06)
    assert np.isnan(found[1])


def test_a_masked_map_does_not_spread_over_the_cortex(tmp_path: Path) -> None:
    import nibabel as nib

    whole = nib.load(box(tmp_path, 10.0, right_mm=120.0))
    values = np.asarray(whole.dataobj).copy()
    values[:12] = np.nan  # significant on one side only: x from 0 mm
    masked = tmp_path / "map_fdr.nii.gz"
    nib.save(nib.Nifti1Image(values, whole.affine), masked)
    places = np.array([[-6.0, 0.0, 0.0], [4.0, 0.0, 0.0]])  # the first is nearest to a voxel that is not significant
    found = sample(masked, places, places, tmp_path / "map.nii.gz")
    assert np.isnan(found[0])
    assert np.isfinite(found[1])
    assert np.isfinite(sample(masked, places, places)).all()  # without the brain, the mask would grow by a voxel


def test_a_picture_and_a_page_that_needs_no_network(tmp_path: Path) -> None:
    picture, page = draw_surfaces(box(tmp_path, 10.0))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000
    text = page.read_text()
    assert not re.search(r'(src|href)="https?://', text)
    assert "map" in text[:5000]
