"""Spheres against rsatoolbox."""

from __future__ import annotations

import numpy as np
import pytest

from affectlake.brain.searchlight.spheres import make_spheres, sphere_offsets
from affectlake.errors import SourceError, UsageError

RNG = np.random.default_rng(0)
MASK = RNG.random((9, 8, 7)) < 0.7


def rsatoolbox_radius(radius_voxels: float) -> float:
    """Return the radius that makes rsatoolbox, which keeps distance < radius, take the same spheres.

    Squared distances on the grid are whole numbers: half-way to the next one separates the same voxels.
    """
    return float(np.sqrt(np.floor(radius_voxels**2) + 0.5))


def test_a_radius_of_three_voxels_holds_123() -> None:
    assert [len(sphere_offsets(r)) for r in (1, 1.5, 2, 3)] == [7, 19, 33, 123]


@pytest.mark.reference
@pytest.mark.parametrize("radius", [1.0, 2.0, 2.5, 3.0])
def test_spheres_are_rsatoolboxs_at_the_converted_radius(radius: float, capsys: pytest.CaptureFixture[str]) -> None:
    from rsatoolbox.util.searchlight import get_volume_searchlight

    centres, neighbours = get_volume_searchlight(
        MASK, radius=rsatoolbox_radius(radius), threshold=0.0, truncate_at_boundary=True
    )
    voxels = np.argwhere(MASK)
    spheres = make_spheres(voxels, sphere_offsets(radius))
    flat = np.ravel_multi_index(voxels.T, MASK.shape)
    assert np.array_equal(flat, centres)
    for centre, theirs in enumerate(neighbours):
        assert set(flat[spheres.members(centre)]) == set(theirs.tolist())
    assert np.array_equal(spheres.counts(), [len(theirs) for theirs in neighbours])


def test_unusable_voxels_are_members_of_no_sphere() -> None:
    voxels = np.argwhere(np.ones((5, 5, 5), bool))
    usable = np.ones(125, bool)
    usable[62] = False
    spheres = make_spheres(voxels, sphere_offsets(1), usable)
    assert 62 not in spheres.members(61)
    assert spheres.counts()[61] == 6
    assert spheres.counts()[0] == 4


def test_impossible_spheres_are_refused() -> None:
    with pytest.raises(UsageError, match="too small"):
        sphere_offsets(0.5)
    with pytest.raises(SourceError, match="1 voxels have the same i, j, k"):
        make_spheres(np.array([[0, 0, 0], [0, 0, 1], [0, 0, 0]]), sphere_offsets(1))
