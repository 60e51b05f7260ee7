"""TFCE and cluster mass against nilearn, a direct sum of the published integral, invariances and empty maps."""

from __future__ import annotations

import numpy as np
import pytest
from nilearn.mass_univariate._utils import calculate_cluster_measures, calculate_tfce
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, generate_binary_structure, label

from affectlake.brain.clusters.enhancement import cluster_masses, masses_of_maps, tfce, tfce_of_maps
from affectlake.brain.clusters.neighbours import RADIUS, Touching, neighbours_of
from affectlake.errors import SourceError, UsageError

Array = NDArray[np.float64]
FACES = generate_binary_structure(3, 1)
RANK: dict[Touching, int] = {"faces": 1, "edges": 2, "corners": 3}


def world(seed: int, side: int = 11, smooth: float = 1.0) -> tuple[Array, NDArray[np.bool_]]:
    """A map with heights of both signs in a ball, 0 outside, and the ball."""
    rng = np.random.default_rng(seed)
    volume = gaussian_filter(rng.normal(size=(side, side + 1, side - 2)), smooth)
    place = np.argwhere(np.ones(volume.shape)) - np.array(volume.shape) / 2
    inside = (np.linalg.norm(place, axis=1) < 0.5 * side).reshape(volume.shape)
    return np.where(inside, volume / volume.std(), 0.0), inside


def summed(volume: Array, heights: Array, widths: Array, structure: NDArray[np.bool_], e: float, h: float) -> Array:
    """Σ e(h)^E h^H dh, by labelling the map at every height."""
    found = np.zeros(volume.shape)
    for height, width in zip(heights, widths, strict=True):
        clusters, _ = label(volume >= height, structure)
        sizes = np.bincount(clusters.ravel()).astype(float)
        sizes[0] = 0.0
        found += np.where(clusters > 0, sizes[clusters] ** e, 0.0) * height**h * width
    return found


def exact(volume: Array, structure: NDArray[np.bool_], e: float, h: float) -> Array:
    """The integral: between neighbouring heights of voxels, clusters do not change."""
    ends = np.unique(np.append(0.0, volume[volume > 0]))
    areas = np.diff(ends ** (h + 1)) / (h + 1)
    return summed(volume, ends[1:], areas / ends[1:] ** h, structure, e, h)


@pytest.mark.parametrize("touching", RADIUS)
@pytest.mark.parametrize(("e", "h"), [(0.5, 2.0), (1.0, 1.3)])
def test_tfce_is_the_published_integral(touching: Touching, e: float, h: float) -> None:
    volume, inside = world(0)
    structure = generate_binary_structure(3, RANK[touching])
    neighbours = neighbours_of(np.argwhere(inside), touching)
    found = tfce(volume[inside], neighbours, extent=e, height=h)
    assert found == pytest.approx(exact(volume, structure, e, h)[inside], rel=1e-11, abs=1e-12)
    heights = (np.arange(4000) + 0.5) * volume.max() / 4000  # a Riemann sum knows nothing of the heights of voxels
    direct = summed(volume, heights, np.full(4000, volume.max() / 4000), structure, e, h)[inside]
    assert np.abs(found - direct).max() < 2e-3 * found.max()


@pytest.mark.parametrize("smooth", [0.3, 2.0])
@pytest.mark.parametrize("two_sided", [False, True])
def test_the_sum_over_steps_is_nilearns(smooth: float, two_sided: bool) -> None:
    volume, inside = world(1, side=20, smooth=smooth)
    theirs = calculate_tfce(volume[..., None], FACES, two_sided_test=two_sided)[..., 0][inside]
    found = tfce(volume[inside], neighbours_of(np.argwhere(inside)), n_steps=100, two_sided=two_sided)
    assert found == pytest.approx(theirs, rel=1e-12, abs=1e-12 * np.abs(theirs).max())
    assert (theirs < 0).any() == two_sided


def test_nilearns_sum_times_its_step_approaches_the_integral() -> None:
    volume, inside = world(2, side=16)
    neighbours = neighbours_of(np.argwhere(inside))
    integral = tfce(volume[inside], neighbours)
    gaps = [np.abs(tfce(volume[inside], neighbours, n_steps=n) * volume.max() / n - integral).max() for n in (50, 800)]
    assert gaps[1] < gaps[0] / 8
    assert gaps[1] < 0.003 * integral.max()


def test_equal_heights_are_one_cluster_at_that_height() -> None:
    rng = np.random.default_rng(3)
    volume = rng.integers(-2, 4, size=(7, 8, 9)).astype(float)
    voxels = np.argwhere(np.ones(volume.shape))
    found = tfce(volume.ravel(), neighbours_of(voxels))
    assert found == pytest.approx(exact(volume, FACES, 0.5, 2.0).ravel(), rel=1e-12)
    shuffled = rng.permutation(len(voxels))
    again = tfce(volume.ravel()[shuffled], neighbours_of(voxels[shuffled]))
    assert again == pytest.approx(found[shuffled], rel=1e-12)
    assert tfce(3 * volume.ravel(), neighbours_of(voxels)) == pytest.approx(27 * found, rel=1e-12)


def test_masses_are_nilearns() -> None:
    for seed, threshold in ((4, 0.5), (5, 1.7), (6, 50.0)):
        volume, inside = world(seed, side=16)
        _, heaviest = calculate_cluster_measures(volume[..., None], threshold, FACES)
        found = cluster_masses(volume[inside], neighbours_of(np.argwhere(inside)), threshold)
        assert found.max() == pytest.approx(heaviest[0], rel=1e-12)
        clusters, n = label(volume > threshold, FACES)
        for one in range(1, n + 1):
            mass = (volume[clusters == one] - threshold).sum()
            assert found[clusters[inside] == one] == pytest.approx(mass, rel=1e-12)
        assert (found[clusters[inside] == 0] == 0).all()


@pytest.mark.parametrize(
    "values", [np.full(27, -1.0), np.zeros(27), np.full(27, np.nan), np.full(27, -np.inf), np.full(27, 1.0)]
)
def test_maps_without_positive_voxels_and_constant_maps_are_computed(values: Array) -> None:
    neighbours = neighbours_of(np.argwhere(np.ones((3, 3, 3))))
    size = 27 if values[0] == 1 else 0
    for steps, whole in ((0, size**0.5 / 3), (4, size**0.5 * (0.25**2 + 0.5**2 + 0.75**2 + 1))):
        found = tfce(values, neighbours, n_steps=steps)
        assert np.array_equal(np.isnan(found), ~np.isfinite(values))
        assert np.nan_to_num(found) == pytest.approx(whole)
    assert np.nan_to_num(cluster_masses(values, neighbours, 0.75)) == pytest.approx(size / 4)
    alone = neighbours_of(np.array([[5, 5, 5]]))
    assert tfce(np.array([2.0]), alone) == pytest.approx([8 / 3])
    assert tfce(np.empty(0), neighbours_of(np.empty((0, 3), dtype=int))).shape == (0,)


def test_a_voxel_without_a_value_separates_clusters_and_its_values_do_not_matter() -> None:
    row = np.column_stack([np.arange(7), np.zeros((7, 2), dtype=int)])
    for gap in (np.nan, np.inf, -3.0):
        values = np.array([1.0, 1.0, gap, 1.0, 1.0, 1.0, 0.5])
        found = tfce(values, neighbours_of(row))
        assert found[[0, 1]] == pytest.approx(np.sqrt(2) / 3)
        third = (np.sqrt(4) * 0.5**3 + np.sqrt(3) * (1 - 0.5**3)) / 3
        assert found[[3, 4, 5]] == pytest.approx(third)
        assert found[6] == pytest.approx(np.sqrt(4) * 0.5**3 / 3)
        assert np.isnan(found[2]) == (not np.isfinite(gap))


def test_many_maps_are_those_of_each_and_do_not_depend_on_threads() -> None:
    rng = np.random.default_rng(7)
    _, inside = world(0)
    maps = rng.normal(size=(30, int(inside.sum()))).astype(np.float32)
    maps[3] = -1.0
    maps[:, 5] = np.nan
    neighbours = neighbours_of(np.argwhere(inside))
    for found, again, each in (
        (*(tfce_of_maps(maps, neighbours, workers=n) for n in (1, 3)), lambda one: tfce(one, neighbours)),
        (*(masses_of_maps(maps, neighbours, 1.0, workers=n) for n in (1, 3)),
         lambda one: cluster_masses(one, neighbours, 1.0)),
    ):  # fmt: skip
        assert [column.tobytes() for column in found] == [column.tobytes() for column in again]
        assert np.array_equal(found.first, each(maps[0]), equal_nan=True)
        assert np.array_equal(found.maxima, [np.nanmax(each(one)) for one in maps])
        assert found.maxima[3] == 0


def test_neighbours_are_those_of_the_grid() -> None:
    rng = np.random.default_rng(8)
    voxels = np.argwhere(rng.random((5, 6, 7)) < 0.6)
    for touching, most in (("faces", 6), ("edges", 18), ("corners", 26)):
        found = neighbours_of(voxels - 3, touching)
        assert found.shape == (len(voxels), most)
        away = np.linalg.norm(voxels[:, None] - voxels[None], axis=2)
        for v, others in enumerate(found):
            expected = np.flatnonzero((away[v] > 0) & (away[v] < RADIUS[touching] + 0.01))
            assert sorted(others[others >= 0].tolist()) == expected.tolist()


def test_wrong_input_is_refused() -> None:
    neighbours = neighbours_of(np.argwhere(np.ones((2, 2, 2))))
    with pytest.raises(SourceError, match="not of the same voxels"):
        tfce(np.ones(9), neighbours)
    with pytest.raises(SourceError, match="same i, j, k"):
        neighbours_of(np.zeros((2, 3), dtype=int))
    for settings in ({"extent": -1.0}, {"height": -0.1}, {"n_steps": -1}):
        with pytest.raises(UsageError, match="not legal"):
            tfce(np.ones(8), neighbours, **settings)  # type: ignore[arg-type]
    for threshold in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(UsageError, match="not legal"):
            cluster_masses(np.ones(8), neighbours, threshold)
