"""The searchlight against SciPy and rsatoolbox, on torch, over a kill, and where spheres have no RSM."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from affectlake.brain.searchlight import gpu
from affectlake.brain.searchlight import search as searching
from affectlake.brain.searchlight.gpu import TorchSpheres
from affectlake.brain.searchlight.kernels import BINS, model_ranks, rank_table
from affectlake.brain.searchlight.search import search
from affectlake.brain.searchlight.spheres import Spheres, make_spheres, sphere_offsets
from affectlake.errors import CheckpointError, SourceError, UsageError
from affectlake.rsm import correlation_rsm

N = 60


def world(side: int = 6, n: int = N) -> tuple[NDArray[np.float32], Spheres, NDArray[np.float64]]:
    """Responses (n, voxels) with structure, spheres, and three models of which the first is in the data."""
    rng = np.random.default_rng(4)
    mask = rng.random((side, side, side)) < 0.85
    voxels = np.argwhere(mask)
    embeddings = [rng.normal(size=(n, 8)) for _ in range(3)]
    responses = embeddings[0] @ rng.normal(size=(8, len(voxels))) + rng.normal(size=(n, len(voxels))) * 2
    return (
        responses.astype(np.float32),
        make_spheres(voxels, sphere_offsets(2)),
        np.stack([correlation_rsm(e) for e in embeddings]),
    )


def by_scipy(responses: NDArray[np.float32], spheres: Spheres, rsms: NDArray[np.float64], centre: int) -> list[float]:
    upper = np.triu_indices(len(responses), 1)
    mine = np.corrcoef(responses[:, spheres.members(centre)].astype(np.float64))[upper]
    return [stats.spearmanr(mine, rsm[upper]).statistic for rsm in rsms]


@pytest.mark.reference
def test_ranks_of_bins_are_scipys_mean_ranks() -> None:
    rng, counts = np.random.default_rng(3), np.zeros(BINS, np.int32)
    used = np.sort(rng.choice(BINS, 40, replace=False))
    counts[used] = rng.integers(1, 4, 40)
    ranks = stats.rankdata(np.repeat(used, counts[used]))
    table, expected = np.zeros(BINS, np.float32), ranks - ranks.mean()
    at = np.cumsum(counts[used]) - 1
    assert rank_table(counts, table, len(ranks)) == pytest.approx((expected**2).sum())
    assert np.allclose(table[used], expected[at], atol=1e-5)
    assert not counts.any()


@pytest.mark.reference
@pytest.mark.parametrize(("n", "ranks"), [(10, "counted"), (60, "counted"), (60, "exact"), (220, "counted")])
def test_agrees_with_scipy(n: int, ranks: str) -> None:
    responses, spheres, rsms = world(n=n)
    found = search(responses, spheres, rsms, min_voxels=10, ranks=ranks)  # type: ignore[arg-type]
    large = np.flatnonzero(found.n_members >= 10)
    assert len(large) > 100
    for centre in large[::7]:
        assert np.allclose(found.rho[:, centre], by_scipy(responses, spheres, rsms, centre), atol=2e-6)
    assert np.isnan(found.rho[:, found.n_members < 10]).all()


@pytest.mark.reference
def test_agrees_with_scipy_at_the_papers_number_of_stimuli() -> None:
    responses, spheres, rsms = world(side=4, n=1000)
    found = search(responses, spheres, rsms, min_voxels=10)
    centre = int(found.n_members.argmax())
    assert np.allclose(found.rho[:, centre], by_scipy(responses, spheres, rsms, centre), atol=3e-7)


@pytest.mark.reference
def test_similarities_that_are_equal_except_for_rounding_have_equal_ranks() -> None:
    rng = np.random.default_rng(3)
    few, kinds = rng.normal(size=(4, 6)), rng.integers(0, 4, 25)
    exact = np.corrcoef(few)
    exact = np.where(np.eye(4) > 0, 1.0, (exact + exact.T) / 2)[np.ix_(kinds, kinds)]
    proportional = few[kinds] * rng.uniform(0.1, 9, (25, 1))  # every stimulus is like one of the four
    ranks = stats.rankdata(exact[np.tril_indices(25, -1)])
    wanted = (ranks - ranks.mean()) / np.linalg.norm(ranks - ranks.mean())
    np.testing.assert_allclose(model_ranks([correlation_rsm(proportional)])[0], wanted, atol=1e-6)


def test_agrees_with_rsatoolbox(capsys: pytest.CaptureFixture[str]) -> None:
    from rsatoolbox.inference import eval_fixed
    from rsatoolbox.model import ModelFixed
    from rsatoolbox.util.searchlight import (
        evaluate_models_searchlight,
        get_searchlight_RDMs,
        get_volume_searchlight,
    )

    rng = np.random.default_rng(0)
    mask = rng.random((5, 5, 5)) < 0.8
    voxels = np.argwhere(mask)
    patterns = rng.normal(size=(20, 125))
    rsm = correlation_rsm(rng.normal(size=(20, 6)))
    centres, neighbours = get_volume_searchlight(mask, radius=4.5**0.5, threshold=0.0, truncate_at_boundary=True)
    rdms = get_searchlight_RDMs(patterns, centres, neighbours, np.arange(20), verbose=False)
    model = ModelFixed("model", 1 - rsm[np.triu_indices(20, 1)])
    theirs = [
        result.evaluations.item()
        for result in evaluate_models_searchlight(rdms, model, eval_fixed, method="spearman", n_jobs=1)
    ]
    flat = np.ravel_multi_index(voxels.T, mask.shape)
    found = search(patterns[:, flat], make_spheres(voxels, sphere_offsets(2)), rsm[None], min_voxels=3, ranks="exact")
    assert np.allclose(found.rho[0], theirs, atol=1e-5)


def test_the_model_in_the_data_wins_everywhere() -> None:
    responses, spheres, rsms = world()
    rho = search(responses, spheres, rsms, min_voxels=15).rho
    seen = ~np.isnan(rho[0])
    assert seen.sum() > 100
    assert (rho[0, seen] > rho[1:, seen].max(axis=0) + 0.1).all()
    assert np.abs(rho[1:, seen]).mean() < 0.1


def test_neither_scale_of_a_pattern_nor_threads_matter() -> None:
    responses, spheres, rsms = world()
    found = search(responses, spheres, rsms).rho
    assert np.array_equal(search(responses, spheres, rsms, workers=3).rho, found, equal_nan=True)
    moved = responses * np.linspace(0.5, 3, N, dtype=np.float32)[:, None] + 1
    assert np.allclose(search(moved, spheres, rsms, ranks="exact").rho, found, atol=2e-5, equal_nan=True)


@pytest.mark.parametrize("exact", [False, True])
def test_torch_gives_the_same_maps(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "FEWEST_COUNTED", 0)
    responses, spheres, rsms = world()
    responses[5] = np.where(np.arange(spheres.n_voxels) < 40, 1.0, responses[5])
    ours = search(responses, spheres, rsms, min_voxels=10, ranks="exact" if exact else "counted").rho
    rows = np.ascontiguousarray(responses.T)
    there = TorchSpheres(rows, spheres, model_ranks(rsms), 10, exact, "cpu")
    found = there.run(np.arange(spheres.n_voxels, dtype=np.int32))
    assert np.isnan(ours).any()
    assert np.allclose(found, ours, atol=1e-5, equal_nan=True)


def test_batches_of_spheres_on_torch_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    responses, spheres, rsms = world()
    rows, models = np.ascontiguousarray(responses.T), model_ranks(rsms)
    centres = np.arange(spheres.n_voxels, dtype=np.int32)
    whole = TorchSpheres(rows, spheres, models, 10, False, "cpu").run(centres)
    monkeypatch.setattr(gpu, "_PAIRS_AT_ONCE", 7 * models.shape[1])  # and a last batch that is not full
    found = TorchSpheres(rows, spheres, models, 10, False, "cpu").run(centres)
    assert np.allclose(found, whole, atol=1e-6, equal_nan=True)


def test_the_gpu_s_part_needs_torch_and_numpy_alone() -> None:
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"numba", "scipy", "polars", "pyarrow", "threadpoolctl", "nibabel", "h5py"}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import affectlake.brain.searchlight.gpu
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_missing_gpu_is_named() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    responses, spheres, rsms = world(side=3)
    with pytest.raises(UsageError, match="CUDA device"):
        search(responses, spheres, rsms, min_voxels=3, device="cuda")


@pytest.mark.gpu
def test_a_gpu_gives_the_same_maps() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    responses, spheres, rsms = world()
    found = search(responses, spheres, rsms, device="cuda").rho
    assert np.allclose(found, search(responses, spheres, rsms).rho, atol=1e-5, equal_nan=True)


def test_a_stimulus_without_variance_in_a_sphere_makes_it_nan_never_zero() -> None:
    responses, spheres, rsms = world()
    around = spheres.members(50)
    responses[7, around] = 0.3
    rho = search(responses, spheres, rsms, min_voxels=10).rho
    assert np.isnan(rho[:, 50]).all()
    assert not (rho == 0).any()
    assert np.isfinite(rho[0]).sum() > 50


class StoppedError(Exception):
    """Stands for what stops a search half-way."""


def test_a_search_goes_on_where_it_stopped(tmp_path: Path) -> None:
    responses, spheres, rsms = world(side=8)
    whole = search(responses, spheres, rsms).rho

    def stop(done: int) -> None:
        if done >= 128:
            raise StoppedError

    with pytest.raises(StoppedError):
        search(responses, spheres, rsms, checkpoint=tmp_path / "c", on_spheres=stop)
    told: list[int] = []
    again = search(responses, spheres, rsms, checkpoint=tmp_path / "c", on_spheres=told.append)
    assert np.array_equal(again.rho, whole, equal_nan=True)
    assert told[0] > 128  # the first blocks were not searched again
    told.clear()
    search(responses, spheres, rsms, checkpoint=tmp_path / "c", on_spheres=told.append)
    assert told == []


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.brain.test_searchlight import world, search
responses, spheres, rsms = world(side=14, n=300)
search(responses, spheres, rsms, checkpoint=Path(sys.argv[1]), on_spheres=lambda done: print(done, flush=True))
"""


def test_a_killed_process_loses_only_unfinished_blocks(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "c"), str(Path(__file__).parents[2])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        done = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    responses, spheres, rsms = world(side=14, n=300)
    assert 0 < done < spheres.n_voxels
    told: list[int] = []
    found = search(responses, spheres, rsms, checkpoint=tmp_path / "c", on_spheres=told.append)
    assert told[0] > done
    some = np.arange(0, spheres.n_voxels, 97)
    for centre in some[~np.isnan(found.rho[0, some])]:
        assert np.allclose(found.rho[:, centre], by_scipy(responses, spheres, rsms, centre), atol=1e-5)


def test_a_checkpoint_of_another_search_is_refused(tmp_path: Path) -> None:
    responses, spheres, rsms = world(side=4)
    search(responses, spheres, rsms, min_voxels=5, checkpoint=tmp_path / "c")
    with pytest.raises(CheckpointError, match="min_voxels"):
        search(responses, spheres, rsms, min_voxels=6, checkpoint=tmp_path / "c")
    responses[0, 0] += 1
    with pytest.raises(CheckpointError, match="belongs to another search: search differ"):
        search(responses, spheres, rsms, min_voxels=5, checkpoint=tmp_path / "c")


def test_inputs_that_do_not_fit_are_refused() -> None:
    responses, spheres, rsms = world(side=4)
    with pytest.raises(SourceError, match="do not fit together"):
        search(responses[:-1], spheres, rsms)
    with pytest.raises(SourceError, match="min_voxels is too small"):
        search(responses, spheres, rsms, min_voxels=2)
    constant = rsms.copy()
    constant[1] = 0.5
    with pytest.raises(SourceError, match="model 1 has no ranks"):
        search(responses, spheres, constant)
    responses[3, 4] = np.nan
    with pytest.raises(SourceError, match="1 voxels of the spheres have values that are not finite"):
        search(responses, spheres, rsms)
