"""Brain maps as volumes and as the viewer's data: what the page draws is the table's numbers, at the right place."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from affectlake.report import BrainInputs
from affectlake.report.figures.brain_viewer import quantised, scales, viewer_data
from affectlake.report.volumes import Volume, block_of, make_volume, on_one_grid
from tests.report.test_report import make_inputs
from tests.support.figures import figure_of

METHODS = {"searchlight": "Searchlight RSA (ρ)", "encoding": "Voxel-wise encoding (r)"}


def table(grid: np.ndarray, affine: np.ndarray, regions: list[str] | None = None) -> pl.DataFrame:
    mm = grid @ affine[:, :3].T + affine[:, 3]
    columns = {f"voxel_{axis}": grid[:, at] for at, axis in enumerate("ijk")}
    places = {f"{axis}_mm": mm[:, at] for at, axis in enumerate("xyz")}
    return pl.DataFrame(
        {"voxel_index": np.arange(len(grid)), "regions": regions or [""] * len(grid)} | columns | places
    )


def maps(values: np.ndarray, agent: str = "a", method: str = "searchlight") -> pl.DataFrame:
    n = len(values)
    rows = {"agent": [agent] * n, "method": [method] * n, "voxel_index": np.arange(n), "value": values}
    return pl.DataFrame(rows).with_columns(pl.col("value").fill_nan(None))


@pytest.mark.parametrize("block", [1, 2])
def test_cells_lie_where_their_voxels_lie_however_the_grid_is_turned(block: int) -> None:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] * 0.1 + np.array([[0, -1, 0], [0, 0, 1], [-1, 0, 0]])
    turn = np.linalg.svd(turn)[0] @ np.linalg.svd(turn)[2]  # oblique, axes exchanged and reversed
    affine = np.column_stack([turn * [2.0, 2.5, 3.0], [-40.0, 10.0, 5.0]])
    grid = np.argwhere(np.ones((8, 6, 10))) + 4
    where = table(grid, affine)
    values = where["x_mm"].to_numpy() + 100 * where["z_mm"].to_numpy()
    volume = make_volume("S1", where, maps(values), block)
    places = volume.mm(volume.cells)
    steps = volume.affine[:, :3] / np.linalg.norm(volume.affine[:, :3], axis=0)
    assert (np.diag(steps) > 0.8).all()  # to the right, forward, up
    np.testing.assert_allclose(volume.values["searchlight", "a"], places[:, 0] + 100 * places[:, 2], rtol=1e-5)
    assert len({tuple(cell) for cell in volume.cells}) == len(volume.cells) == len(grid) / block**3
    assert (volume.cells < volume.shape).all() and (volume.cells >= 0).all()


def test_a_cell_is_the_mean_of_its_voxels_that_have_a_value() -> None:
    grid = np.argwhere(np.ones((4, 2, 2)))
    values = np.arange(16.0)
    values[0] = np.nan
    values[8:] = np.nan
    volume = make_volume("S1", table(grid, np.eye(3, 4) * 3), maps(values), block=2)
    assert volume.shape == (2, 1, 1)
    assert volume.values["searchlight", "a"][0] == np.mean(np.arange(1.0, 8.0))
    assert np.isnan(volume.values["searchlight", "a"][1])
    np.testing.assert_allclose(volume.mm(volume.cells), [[1.5, 1.5, 1.5], [7.5, 1.5, 1.5]])


def test_blocks_keep_the_page_small() -> None:
    assert block_of(900_000) == 1
    assert block_of(5 * 100_000 * 10) == 2
    assert 5 * 100_000 * 16 / block_of(5 * 100_000 * 16) ** 3 <= 1_000_000


def shifted(volume: Volume, mm: tuple[float, float, float]) -> Volume:
    return replace(volume, affine=volume.affine + np.column_stack([np.zeros((3, 3)), mm]))


def test_subjects_of_one_grid_come_into_one_box_and_others_stay() -> None:
    grid = np.argwhere(np.ones((3, 4, 5)))
    affine = np.column_stack([np.diag([-2.0, 2.0, 2.0]), [10.0, -20.0, 0.0]])
    one = make_volume("S1", table(grid, affine), maps(np.arange(60.0)))
    other = make_volume("S2", table(grid + np.array([2, 1, 0]), affine), maps(np.arange(60.0)))
    both = on_one_grid([one, other])
    assert both[0].shape == both[1].shape == (5, 5, 5)
    np.testing.assert_array_equal(both[0].affine, both[1].affine)
    for before, after in zip((one, other), both, strict=True):
        np.testing.assert_allclose(before.mm(before.cells), after.mm(after.cells), atol=1e-9)
    apart = (one, shifted(one, (0.7, 0.0, 0.0)))
    assert on_one_grid(apart) == apart


def test_the_script_gets_the_numbers_back() -> None:
    grid = np.argwhere(np.random.default_rng(1).random((5, 4, 3)) < 0.6)
    values = np.random.default_rng(2).normal(size=len(grid))
    values[3] = np.nan
    regions = ["VC" if at % 2 else "all-of-it" for at in range(len(grid))]
    volume = make_volume("S1", table(grid, np.eye(3, 4) * 3, regions), maps(values))
    data = viewer_data([volume], ["b", "a"], METHODS, {"OFC": "orbitofrontal", "VC": "visual cortex"}, {})
    sent = data["subjects"][0]
    assert data["agents"] == ["a"] and list(data["methods"]) == ["searchlight"]
    assert data["regions"] == ["visual cortex"]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(sent["inside"]), np.uint8))[: int(np.prod(volume.shape))]
    np.testing.assert_array_equal(np.argwhere(bits.reshape(volume.shape)), volume.cells)
    numbers = np.frombuffer(base64.b64decode(sent["regions"]), np.uint8)
    assert [number == 1 for number in numbers] == [text == "VC" for text in volume.regions]
    steps = np.frombuffer(base64.b64decode(sent["maps"]["searchlight"]["a"]), np.uint8).astype(float)
    low, high = data["methods"]["searchlight"]["low"], data["methods"]["searchlight"]["high"]
    got = np.where(steps == 0, np.nan, low + (steps - 1) / 254 * (high - low))
    np.testing.assert_allclose(got, volume.values["searchlight", "a"], atol=(high - low) / 254 / 2 + 1e-6)


def test_a_mask_is_sent_as_one_bit_per_cell_beside_all_values() -> None:
    grid = np.argwhere(np.ones((5, 4, 3)))
    values = np.linspace(-0.2, 0.6, len(grid))
    significant = values > 0.3
    rows = maps(values).with_columns(significant=pl.Series(significant))
    volume = make_volume("S1", table(grid, np.eye(3, 4) * 3), rows)
    np.testing.assert_array_equal(np.isnan(volume.masked("searchlight", "a")), ~significant)
    data = viewer_data([volume], ["a"], METHODS, {}, {"searchlight": "below 0.05"})
    sent = data["subjects"][0]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(sent["significant"]["searchlight"]["a"]), np.uint8))
    np.testing.assert_array_equal(bits[: len(grid)] == 1, significant)
    assert 0 not in np.frombuffer(base64.b64decode(sent["maps"]["searchlight"]["a"]), np.uint8)  # all have a value
    assert data["methods"]["searchlight"]["mask"] == "below 0.05"
    unmasked = make_volume("S1", table(grid, np.eye(3, 4) * 3), maps(values))
    assert len(str(data)) < 1.2 * len(str(viewer_data([unmasked], ["a"], METHODS, {}, {})))


def test_a_cell_of_several_voxels_is_significant_if_one_of_them_is() -> None:
    grid = np.argwhere(np.ones((4, 2, 2)))
    rows = maps(np.arange(16.0)).with_columns(significant=pl.Series(np.arange(16) == 9))
    volume = make_volume("S1", table(grid, np.eye(3, 4) * 3), rows, block=2)
    assert volume.significant["searchlight", "a"].tolist() == [False, True]
    np.testing.assert_array_equal(volume.masked("searchlight", "a"), [np.nan, 11.5])  # the mean of all its voxels


def test_a_byte_holds_no_value_apart_from_the_lowest() -> None:
    scale = scales([make_volume("S1", table(np.eye(3, dtype=int), np.eye(3, 4)), maps(np.array([-1.0, 0.0, 3.0])))])
    assert quantised(np.array([-1.0, np.nan, 3.0, 1.0]), scale["searchlight"]).tolist() == [1, 0, 255, 128]


def test_slices_on_paper_go_through_the_highest_value() -> None:
    grid = np.argwhere(np.ones((5, 6, 7)))
    values = np.full(len(grid), 0.1)
    values[np.ravel_multi_index((1, 2, 3), (5, 6, 7))] = 0.9
    shown = maps(values, "human-category")
    volume = make_volume("S1", table(grid, np.eye(3, 4) * 3), shown)
    empty = pl.DataFrame({"agent": ["human-category"]})
    brain = BrainInputs(empty, empty, empty, (), "S1", shown, (volume,))
    figure = figure_of("brain_slices", make_inputs(brain=brain))
    assert "through x 3, y 6, z 9 mm" in figure.caption
    panels = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title("center") for ax in panels] == ["sagittal", "coronal", "axial"]
    peaks = [np.argwhere(ax.images[0].get_array() > 0.5).tolist() for ax in panels]
    assert peaks == [[[7 - 1 - 3, 2]], [[7 - 1 - 3, 1]], [[6 - 1 - 2, 1]]]  # rows from the top, columns from the left
    assert all(image.get_clim() == (0, pytest.approx(0.9)) for image in (ax.images[0] for ax in panels))
