"""Searchlight RSA: the similarity of the geometry in the sphere around every voxel to that of each model.

In each sphere, the RSM is the Pearson correlation of the patterns of every pair of stimuli, and its pairs are
correlated with those of each model's RSM (Spearman), for all models in one pass. Threads process blocks of spheres; a
finished block is written to the checkpoint immediately, so that a killed process loses seconds. Patterns, models and
maps are in memory.

The arithmetic is in :mod:`~affectlake.brain.searchlight.kernels` (CPU) and :mod:`~affectlake.brain.searchlight.gpu`
(GPU); the voxels of a sphere are determined in :mod:`~affectlake.brain.searchlight.spheres`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.searchlight.spheres import Spheres
from affectlake.errors import CheckpointError, SourceError
from affectlake.process.blas_threads import one_blas_thread

Ranks = Literal["counted", "exact"]
Run = Callable[[NDArray[np.int32]], NDArray[np.float32]]

FEWEST_COUNTED = 200
"""Number of stimuli from which ranks may be counted: below it, exact ones are used, whatever is asked for."""

_BLOCK = 64  # spheres per block of the checkpoint: about 0.2 s with 1,000 stimuli


class Searchlight(NamedTuple):
    """Maps of the comparison; NaN if a sphere has too few voxels, or a stimulus has no variance in it.

    Parameters
    ----------
    rho : float32 (n_models, n_voxels)
        Spearman's correlation of the sphere's pairs with the model's.
    n_members : int32 (n_voxels,)
        Number of voxels of each sphere.
    """

    rho: NDArray[np.float32]
    n_members: NDArray[np.int32]


def search(
    patterns: NDArray[np.floating],
    spheres: Spheres,
    rsms: Sequence[NDArray[np.floating]] | NDArray[np.floating],
    *,
    min_voxels: int = 20,
    ranks: Ranks = "counted",
    workers: int = 1,
    device: str = "cpu",
    checkpoint: Path | None = None,
    on_spheres: Callable[[int], None] | None = None,
) -> Searchlight:
    """Correlate the RSM of every sphere with that of every model.

    Parameters
    ----------
    patterns : float (n_stimuli, n_voxels)
        One pattern per stimulus. Voxels with a NaN must be excluded from `spheres` (``usable``).
    spheres : Spheres
    rsms : float (n_models, n_stimuli, n_stimuli), or a sequence of float (n_stimuli, n_stimuli)
        Similarity matrices of the same stimuli in the same order. A sequence is read one by one.
    min_voxels : int
        Minimum number of voxels of a sphere, at least 3.
    ranks : {"counted", "exact"}, default="counted"
        Ranks from 65,536 equal bins of the correlations, or exact ones (six times as long; see the kernels). With
        fewer than :data:`FEWEST_COUNTED` stimuli, ranks are always exact: they are cheap, and the error of counted
        ones grows to 2e-3 with 10 stimuli.
    workers : int, default=1
        Number of threads. The result does not depend on it.
    device : str, default="cpu"
        "cpu", or a CUDA device of torch.
    checkpoint : Path, optional
        Folder for finished spheres. Resuming from it gives the same result.
    on_spheres : callable, optional
        Called with the number of spheres done so far.

    Raises
    ------
    SourceError
        If the models are not of these stimuli, or a model has no ranks (NaN, or all pairs equal).
    CheckpointError
        If the checkpoint belongs to another search.

    Notes
    -----
    Du et al. 2025, 'Searchlight RSA'; Kriegeskorte et al. 2006.
    """
    _check(patterns, spheres, rsms, min_voxels)
    from affectlake.brain.searchlight.kernels import model_ranks

    ranks = "exact" if len(patterns) < FEWEST_COUNTED else ranks
    rows = np.ascontiguousarray(patterns.T, dtype=np.float32)  # (n_voxels, n_stimuli)
    models = model_ranks(rsms)
    centres = np.flatnonzero(spheres.grid[tuple(spheres.places.T)] >= 0).astype(np.int32)
    blocks = [centres[first : first + _BLOCK] for first in range(0, len(centres), _BLOCK)]
    state = _State(checkpoint, (len(models), spheres.n_voxels), len(blocks), rows, models, spheres, min_voxels, ranks)
    run = _runner(rows, spheres, models, min_voxels, ranks, device)

    def work(number: int) -> int:
        state.maps[:, blocks[number]] = run(blocks[number])
        return number

    waiting = np.flatnonzero(~state.done.astype(bool)).tolist()
    n_done = int(sum(len(blocks[i]) for i in np.flatnonzero(state.done)))
    with one_blas_thread(), ThreadPoolExecutor(workers if device == "cpu" else 1) as pool:
        for number in pool.map(work, waiting):
            state.finish(number)
            n_done += len(blocks[number])
            if on_spheres:
                on_spheres(n_done)
    return Searchlight(np.array(state.maps), spheres.counts())


def _runner(
    rows: NDArray[np.float32],
    spheres: Spheres,
    models: NDArray[np.float32],
    least: int,
    ranks: Ranks,
    device: str,
) -> Run:
    if device != "cpu":
        from affectlake.brain.searchlight.gpu import TorchSpheres

        return TorchSpheres(rows, spheres, models, least, ranks == "exact", device).run

    from affectlake.brain.searchlight.kernels import run_spheres

    def run(centres: NDArray[np.int32]) -> NDArray[np.float32]:
        found = np.empty((len(models), len(centres)), dtype=np.float32)
        places, offsets = spheres.places, spheres.offsets
        run_spheres(rows, spheres.grid, places, offsets, centres, least, models, ranks == "exact", found)
        return found

    return run


class _State:
    """The maps and the blocks that are done, in memory or in files of a folder.

    The values of a block are written before its mark, so that after a kill a block is complete or not done.
    """

    def __init__(
        self,
        folder: Path | None,
        shape: tuple[int, int],
        n_blocks: int,
        rows: NDArray[np.float32],
        models: NDArray[np.float32],
        spheres: Spheres,
        least: int,
        ranks: Ranks,
    ) -> None:
        self.maps: NDArray[np.float32]
        self.done: NDArray[np.uint8]
        if folder is None:
            self.maps, self.done = np.full(shape, np.nan, dtype=np.float32), np.zeros(n_blocks, dtype=np.uint8)
            return
        header = {"search": _digest(rows, models, spheres), "min_voxels": least, "ranks": ranks, "block": _BLOCK}
        place = folder / "search.json"
        if place.exists():
            _compare(place, header)
            self.maps = np.load(folder / "maps.npy", mmap_mode="r+")
            self.done = np.load(folder / "done.npy", mmap_mode="r+")
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.maps = np.lib.format.open_memmap(folder / "maps.npy", "w+", dtype=np.float32, shape=shape)
        self.maps[:] = np.nan
        self.done = np.lib.format.open_memmap(folder / "done.npy", "w+", dtype=np.uint8, shape=(n_blocks,))
        aside = place.with_suffix(".tmp")
        aside.write_text(json.dumps(header), encoding="utf-8")
        aside.replace(place)

    def finish(self, number: int) -> None:
        self.done[number] = 1


def _digest(rows: NDArray[np.float32], models: NDArray[np.float32], spheres: Spheres) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in (rows, models, spheres.grid, spheres.places, spheres.offsets):
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _compare(place: Path, wanted: dict[str, object]) -> None:
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except ValueError:
        found = {}
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        raise CheckpointError(
            f"the checkpoint {place.parent} belongs to another search: {', '.join(differing)} differ",
            wanted=", ".join(f"{name} = {wanted[name]}" for name in differing),
            found=", ".join(f"{name} = {found.get(name)}" for name in differing),
            todo=f"delete {place.parent} to restart the search from the beginning",
        )


def _check(
    patterns: NDArray[np.floating],
    spheres: Spheres,
    rsms: Sequence[NDArray[np.floating]] | NDArray[np.floating],
    min_voxels: int,
) -> None:
    n, n_voxels = patterns.shape
    odd = next((rsm.shape for rsm in rsms if rsm.shape != (n, n)), None)
    if len(rsms) == 0 or odd or n_voxels != spheres.n_voxels or n < 4:
        raise SourceError(
            "the searchlight's inputs do not fit together",
            wanted="patterns (n, v) of at least four stimuli, v spheres, models (m, n, n)",
            found=f"patterns {patterns.shape}, {spheres.n_voxels} spheres, {len(rsms)} models {odd or (n, n)}",
        )
    if min_voxels < 3:
        raise SourceError(
            "min_voxels is too small for correlations", found=f"min_voxels = {min_voxels}", allowed="3 or more"
        )
    members = spheres.grid[spheres.grid >= 0]
    bad = int((~np.isfinite(patterns).all(axis=0)[members]).sum())
    if bad:
        raise SourceError(
            f"{bad:,} voxels of the spheres have values that are not finite", todo="exclude them from the spheres"
        )
    i, j = np.triu_indices(n, k=1)
    for number, rsm in enumerate(rsms):
        values = rsm[i, j]
        if not np.isfinite(values).all() or values.max() == values.min():
            raise SourceError(
                f"model {number} has no ranks to compare with",
                found="pairs that are not finite" if not np.isfinite(values).all() else "pairs that are all equal",
                todo="exclude the stimuli whose embedding is constant, or the model",
            )
