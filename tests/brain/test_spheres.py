"""Spheres against nilearn and rsatoolbox."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from affectlake.brain.searchlight.spheres import (
    make_spheres,
    mask_voxels,
    rsatoolbox_radius,
    sphere_offsets,
    sphere_offsets_mm,
)
from affectlake.errors import SourceError, UsageError

RNG = np.random.default_rng(0)
MASK = RNG.random((9, 8, 7)) < 0.7


def test_a_radius_of_three_voxels_holds_123() -> None:
    assert [len(sphere_offsets(r)) for r in (1, 1.5, 2, 3)] == [7, 19, 33, 123]


@pytest.mark.reference
@pytest.mark.parametrize("radius", [1.0, 2.0, 2.5, 3.0])
def test_spheres_are_rsatoolboxs_at_the_converted_radius(radius: float, capsys: pytest.CaptureFixture[str]) -> None:
    from rsatoolbox.util.searchlight import get_volume_searchlight

    centres, neighbours = get_volume_searchlight(
        MASK, radius=rsatoolbox_radius(radius), threshold=0.0, truncate_at_boundary=True
    )
    voxels = mask_voxels(MASK)
    spheres = make_spheres(voxels, sphere_offsets(radius))
    flat = np.ravel_multi_index(voxels.T, MASK.shape)
    assert np.array_equal(flat, centres)
    for centre, theirs in enumerate(neighbours):
        assert set(flat[spheres.members(centre)]) == set(theirs.tolist())
    assert np.array_equal(spheres.counts(), [len(theirs) for theirs in neighbours])


@pytest.mark.reference
def test_spheres_in_mm_are_nilearns_on_an_anisotropic_rotated_affine() -> None:
    from nilearn.maskers.nifti_spheres_masker import apply_mask_and_get_affinity

    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([2.0, 3.0, 4.5])
    affine[:3, 3] = [-10, 4, 7]
    image = nib.Nifti1Image(MASK.astype(np.int8), affine)
    voxels = mask_voxels(MASK)
    seeds = nib.affines.apply_affine(affine, voxels)
    data = nib.Nifti1Image(RNG.normal(size=(*MASK.shape, 2)).astype(np.float32), affine)
    _, theirs = apply_mask_and_get_affinity(seeds, data, 6.4, True, mask_img=image)
    spheres = make_spheres(voxels, sphere_offsets_mm(6.4, affine))
    for centre, row in enumerate(theirs.rows):
        assert sorted(spheres.members(centre)) == sorted(row)
    assert spheres.counts().max() > 10


def test_unusable_voxels_are_members_of_no_sphere() -> None:
    voxels = mask_voxels(np.ones((5, 5, 5), bool))
    usable = np.ones(125, bool)
    usable[62] = False
    spheres = make_spheres(voxels, sphere_offsets(1), usable)
    assert 62 not in spheres.members(61)
    assert spheres.counts()[61] == 6
    assert spheres.counts()[0] == 4


def test_impossible_spheres_are_refused() -> None:
    with pytest.raises(UsageError, match="too small"):
        sphere_offsets(0.5)
    with pytest.raises(UsageError, match="reaches no neighbouring voxel"):
        sphere_offsets_mm(1.0, np.diag([2.0, 2, 2, 1]))
    with pytest.raises(SourceError, match="1 voxels have the same i, j, k"):
        make_spheres(np.array([[0, 0, 0], [0, 0, 1], [0, 0, 0]]), sphere_offsets(1))
