"""Error rates and power of levels by the maximum statistic, TFCE and cluster mass.

    python -m benchmarks.validity.clusters [--worlds 1000] [--power 200] [--kinds relabelled "5 subjects"]

Maps of smooth noise (s.d. of the kernel in voxels) in a cube of 12 x 12 x 12 voxels, with or without a blob.
"relabelled": one map against 99 others of the same distribution, in which voxels differ in width. "5 subjects": the
mean of their maps, which differ in width, against the flips of their signs. A world counts if a voxel is significant:
without a blob any voxel (family-wise error), with a blob one of its voxels (power). Then follow the share of the blob's
voxels that is found, and the share of worlds with a significant voxel more than two voxels away from the blob.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter

from affectlake.brain import nulls
from affectlake.brain.clusters.levels import group_levels, relabelled_levels
from affectlake.brain.clusters.neighbours import neighbours_of
from affectlake.geometry.intervals import wilson_interval

SIDE, PERMUTATIONS, FORMING_P = 12, 99, (0.001, 0.01)
NEIGHBOURS = neighbours_of(np.argwhere(np.ones((SIDE,) * 3)))
LEVELS = ("maximum", "TFCE", "mass, 0.001", "mass, 0.01")
BLOBS = {"a blob of 5 x 5 x 5": 5, "a blob of 3 x 3 x 3": 3, "a voxel": 1}
Array = NDArray[np.float64]


def noise(rng: np.random.Generator, n: int, smooth: float) -> Array:
    """Return n maps (n, n_voxels) of unit standard deviation."""
    pad = int(4 * smooth) + 1
    drawn = rng.normal(size=(n, *(SIDE + 2 * pad,) * 3))
    inner = (slice(None), *(slice(pad, pad + SIDE),) * 3)
    wide = gaussian_filter(drawn, (0, smooth, smooth, smooth))
    return (wide / wide.std())[inner].reshape(n, -1)


def blob(edge: int) -> Array:
    """Return a cube of ones in zeros, (n_voxels,)."""
    found = np.zeros((SIDE,) * 3)
    found[3 : 3 + edge, 3 : 3 + edge, 3 : 3 + edge] = 1.0
    return found.ravel()


def of_relabelled(rng: np.random.Generator, smooth: float, planted: Array, strength: float) -> list[Array]:
    """Return the levels of one map against maps without an effect."""
    width = rng.uniform(0.5, 2, SIDE**3)
    maps = noise(rng, PERMUTATIONS + 1, smooth)
    maps[0] += strength * planted
    maps *= width
    found = [relabelled_levels(maps[0], maps[1:], NEIGHBOURS, p) for p in FORMING_P]
    return [nulls.levels(maps[0], maps[1:]).familywise, found[0].tfce, *(one.cluster for one in found)]


def of_flips(rng: np.random.Generator, smooth: float, planted: Array, strength: float, n: int) -> list[Array]:
    """Return the levels of the mean of n subjects' maps."""
    maps = noise(rng, n, smooth) * rng.uniform(0.5, 1.5, size=(n, 1)) + strength * planted
    found = [group_levels(maps, NEIGHBOURS, p, rng) for p in FORMING_P]
    return [found[0].familywise, found[0].tfce, *(one.cluster for one in found)]


def worlds(kind: str, n: int, seed: int, smooth: float, planted: Array, strength: float) -> Iterator[list[Array]]:
    """Yield the levels of each world."""
    for world in range(n):
        rng = np.random.default_rng([seed, world])
        if kind == "relabelled":
            yield of_relabelled(rng, smooth, planted, strength)
        else:
            yield of_flips(rng, smooth, planted, strength, int(kind.split(maxsplit=1)[0]))


def share(hits: NDArray[np.bool_]) -> str:
    """Return a share in % with Wilson's interval."""
    low, high = wilson_interval(int(hits.sum()), len(hits))
    return f"{100 * hits.mean():.1f} ({100 * low:.1f} to {100 * high:.1f})"


def main() -> None:
    """Print the tables of docs/validity.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--worlds", type=int, default=1000)
    parser.add_argument("--power", type=int, default=200)
    parser.add_argument("--kinds", nargs="*", default=["relabelled", "5 subjects", "8 subjects"])
    asked = parser.parse_args()
    print(f"{asked.worlds} worlds without an effect, a significant voxel in % of worlds\n")
    print(f"| levels | smoothness | {' | '.join(LEVELS)} |\n|---|---|{'---|' * len(LEVELS)}")
    for kind in asked.kinds:
        for smooth in (0.5, 1.0, 2.0):
            every = [[bool((level <= 0.05).any()) for level in levels]
                     for levels in worlds(kind, asked.worlds, 1, smooth, np.zeros(SIDE**3), 0.0)]  # fmt: skip
            print(f"| {kind} | {smooth} | {' | '.join(share(column) for column in np.array(every).T)} |", flush=True)
    print(f"\n{asked.power} worlds: the effect found in % of worlds; of its voxels; a false voxel far away\n")
    print(f"| levels | planted | {' | '.join(LEVELS)} |\n|---|---|{'---|' * len(LEVELS)}")
    for kind in asked.kinds:
        for name, edge in BLOBS.items():
            planted = blob(edge)
            inside = planted > 0
            far = ~binary_dilation(inside.reshape((SIDE,) * 3), iterations=2).ravel()
            strength = {5: 1.5, 3: 2.5, 1: 5.0}[edge]
            rows = [
                [((level[inside] <= 0.05).any(), (level[inside] <= 0.05).mean(), (level[far] <= 0.05).any())
                 for level in levels]
                for levels in worlds(kind, asked.power, 2, 1.0, planted, strength)
            ]  # fmt: skip
            found = np.array(rows, dtype=np.float64)  # (world, level, 3)
            cells = [f"{100 * a:.0f}; {100 * b:.0f}; {100 * c:.1f}" for a, b, c in found.mean(axis=0)]
            print(f"| {kind} | {name}, {strength} s.d. | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
