"""Seconds that TFCE and cluster masses of maps take, beside nilearn, on one thread.

    python benchmarks/clusters.py [--quick] [--voxels 100000] [--maps 20] [--repeats 7]

Maps of smooth noise in a ball of voxels, of unit standard deviation; clusters of voxels that share a face. Each package
is run in turn with the other, for one map and for a batch; seconds are medians. nilearn's sum has 100 steps, as by
default; affectlake computes the integral, and the same sum.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
from nilearn.mass_univariate._utils import calculate_cluster_measures, calculate_tfce
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, generate_binary_structure

from affectlake.brain.clusters.enhancement import masses_of_maps, tfce, tfce_of_maps
from affectlake.brain.clusters.neighbours import neighbours_of

FACES, THRESHOLD = generate_binary_structure(3, 1), 3.1
Work = Callable[[], object]


def seconds(works: Sequence[Work], repeats: int) -> list[float]:
    """Return the median time of each work, run in turn."""
    took: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for own, work in zip(took, works, strict=True):
            began = time.perf_counter()
            work()
            own.append(time.perf_counter() - began)
    return [float(np.median(own)) for own in took]


def line(work: str, names: Sequence[str], found: Sequence[float], note: str) -> None:
    """Print a row for each package; times are relative to the first."""
    for at, (name, took) in enumerate(zip(names, found, strict=True)):
        print(f"| {work if at == 0 else ''} | {name} | {1e3 * took:,.1f} | {took / found[0]:.1f} | "
              f"{note if at == 0 else ''} |")  # fmt: skip


def main() -> None:
    """Print the table of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small brain, for trying the script out")
    parser.add_argument("--voxels", type=int, default=100_000)
    parser.add_argument("--maps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=7)
    asked = parser.parse_args()
    if asked.quick:
        asked.voxels, asked.maps, asked.repeats = 4000, 4, 2
    radius = (asked.voxels * 3 / (4 * np.pi)) ** (1 / 3)
    half = int(np.ceil(radius))
    place = np.stack(np.meshgrid(*[np.arange(-half, half + 1)] * 3, indexing="ij"), axis=-1)
    inside = np.linalg.norm(place, axis=-1) <= radius
    neighbours, rng = neighbours_of(np.argwhere(inside)), np.random.default_rng(0)
    print("| work | formulation | milliseconds | times as long | note |\n|---|---|---|---|---|")
    for smooth in (0.0, 1.5):
        volumes = np.zeros((*inside.shape, asked.maps))
        for k in range(asked.maps):
            drawn = rng.normal(size=inside.shape)
            drawn = gaussian_filter(drawn, smooth) if smooth else drawn
            volumes[inside, k] = (drawn / drawn.std())[inside]
        maps: NDArray[np.float64] = np.ascontiguousarray(volumes[inside].T)

        def theirs(n: int, two_sided: bool, volumes: NDArray[np.float64] = volumes) -> NDArray[np.float64]:
            return np.asarray(calculate_tfce(volumes[..., :n], FACES, two_sided_test=two_sided))

        sums = tfce(maps[0], neighbours, n_steps=100)
        peer = theirs(1, False)[inside, 0]
        masses = masses_of_maps(maps, neighbours, THRESHOLD).maxima
        peers = calculate_cluster_measures(volumes, THRESHOLD, FACES)[1]
        kind = f"{int(inside.sum()):,} voxels, {'white noise' if not smooth else f'smoothed, s.d. {smooth} voxels'}"
        both = "affectlake, integral", "affectlake, nilearn's sum", "nilearn"
        line(f"TFCE of one map, {kind}", both, seconds(
            [lambda maps=maps: tfce(maps[0], neighbours), lambda maps=maps: tfce(maps[0], neighbours, n_steps=100),
             lambda theirs=theirs: theirs(1, False)], asked.repeats),
            f"largest difference of the sum {np.abs(sums - peer).max() / peer.max():.0e} of its maximum",
        )  # fmt: skip
        line("TFCE of one map, two-sided", both, seconds(
            [lambda maps=maps: tfce(maps[0], neighbours, two_sided=True),
             lambda maps=maps: tfce(maps[0], neighbours, n_steps=100, two_sided=True),
             lambda theirs=theirs: theirs(1, True)], asked.repeats), "",
        )  # fmt: skip
        few = max(asked.repeats // 2, 1)
        line(f"TFCE of {asked.maps} maps", ("affectlake, integral", "nilearn"), seconds(
            [lambda maps=maps: tfce_of_maps(maps, neighbours), lambda theirs=theirs: theirs(asked.maps, False)], few),
            "",
        )  # fmt: skip
        line(f"cluster masses of {asked.maps} maps", ("affectlake", "nilearn"), seconds(
            [lambda maps=maps: masses_of_maps(maps, neighbours, THRESHOLD),
             lambda volumes=volumes: calculate_cluster_measures(volumes, THRESHOLD, FACES)], few),
            f"largest difference {np.abs(masses - peers).max():.0e}",
        )  # fmt: skip


if __name__ == "__main__":
    main()
