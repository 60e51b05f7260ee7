"""Affines from voxels: those of nibabel, also for brains of one slice, one line or one voxel."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from affectlake.grids import affine_of

AFFINE = np.array([[-2.0, 0.3, 0, 90], [0.2, 2.5, -0.4, -120], [0, 0.1, 3, -70], [0, 0, 0, 1]])


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 1), (4, 1, 6), (1, 5, 6), (4, 1, 1), (1, 1, 1), (2, 2, 2)])
@pytest.mark.reference
def test_the_affine_maps_every_voxel_as_nibabel_does_and_is_not_singular(shape: tuple[int, int, int]) -> None:
    voxels = np.argwhere(np.ones(shape)) + np.array([3, 0, 7])
    mm = nib.affines.apply_affine(AFFINE, voxels)
    found = affine_of(voxels, mm)
    assert np.allclose(nib.affines.apply_affine(found, voxels), mm)
    assert found[3].tolist() == [0, 0, 0, 1]
    steps = found[:3, :3]
    assert abs(np.linalg.det(steps)) > 0.5
    if min(shape) > 1:
        assert np.allclose(found, AFFINE)
    elif shape == (4, 5, 1):
        assert np.allclose(steps[:, :2], AFFINE[:3, :2])
        assert np.allclose(steps[:, :2].T @ steps[:, 2], 0)
        assert np.linalg.norm(steps[:, 2]) == pytest.approx(np.linalg.norm(AFFINE[:3, :2], axis=0).mean(), rel=0.01)
        assert steps[2, 2] > 0


def test_voxels_in_a_plane_across_the_axes_have_an_affine() -> None:
    voxels = np.array([[i, j, i + j] for i in range(4) for j in range(4)])
    mm = nib.affines.apply_affine(np.diag([2.0, 2, 2, 1]), voxels)
    found = affine_of(voxels, mm)
    assert np.allclose(nib.affines.apply_affine(found, voxels), mm)
    assert abs(np.linalg.det(found)) == pytest.approx(8)
