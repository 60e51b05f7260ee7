"""Seconds of stacked encoding and voxel-encoded RSA of one subject, and of weighted RSA beside rsatoolbox.

    python benchmarks/contributions.py [--quick] [--voxels 8192] [--stimuli 2180]

Stacked encoding and voxel-encoded RSA: three bands of 30 dimensions, 5 x 5 folds, 100 penalties, all eight models.
Weighted RSA: the weights of 30 dimensions from all pairs of 200 stimuli and of all stimuli; rsatoolbox's
``fit_regress_nn``, on 200 stimuli only, has an array of all pairs and dimensions, as scipy's ``nnls`` here.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.spatial.distance import pdist, squareform

from affectlake.brain.contributions.stacked_encoding import encode_stacked, losses
from affectlake.brain.contributions.voxel_encoded_rsa import voxel_encoded_rsa
from affectlake.brain.contributions.weighted_rsa import cross_sums, non_negative_weights, pair_sums
from affectlake.brain.encoding.folds import nested_folds

DIMENSIONS = 30
Array = NDArray[np.float64]


def seconds(work: Callable[[], object], runs: int = 3) -> float:
    """Return the median seconds of some runs."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return median(times)


def ours(x: Array, distances: Array) -> Array:
    """Return the weights from sums over stimuli."""
    return non_negative_weights(pair_sums(x).covariance, cross_sums(x, distances))


def of_pairs(x: Array, y: Array) -> Array:
    """Return the weights from an array of all pairs and dimensions."""
    i, j = np.triu_indices(len(x), 1)
    pairs = (x[i] - x[j]) ** 2
    found, _ = nnls(pairs - pairs.mean(axis=0), y - y.mean())
    return np.asarray(found)


def rsatoolbox(x: Array, y: Array) -> Array:
    """Return rsatoolbox's weights, whose norm is 1; models are scaled down, because it stops at an absolute error."""
    from rsatoolbox.model import ModelWeighted
    from rsatoolbox.model.fitter import fit_regress_nn
    from rsatoolbox.rdm import RDMs

    each = np.array([pdist(x[:, [k]], "sqeuclidean") for k in range(x.shape[1])])
    model = ModelWeighted("dimensions", each / 1e4)
    return np.asarray(fit_regress_nn(model, RDMs(y[None]), method="corr"))


def main() -> None:
    """Print the tables of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small subject, for trying the script out")
    parser.add_argument("--voxels", type=int, default=8192)
    parser.add_argument("--stimuli", type=int, default=2180)
    asked = parser.parse_args()
    if asked.quick:
        asked.voxels, asked.stimuli = 64, 250
    threads, rng = len(os.sched_getaffinity(0)), np.random.default_rng(0)
    bands = {name: np.abs(rng.normal(size=(asked.stimuli, DIMENSIONS))) for name in ("people", "language", "vision")}
    x = np.concatenate(list(bands.values()), axis=1)
    y = (x @ rng.normal(size=(x.shape[1], asked.voxels)) * 0.1).astype(np.float32)
    y += rng.standard_normal(y.shape, dtype=np.float32)
    folds, every = nested_folds(asked.stimuli, 5, 5, rng), np.ones(asked.voxels, dtype=bool)
    print("| work | seconds |\n|---|---|")
    few = seconds(lambda: encode_stacked(bands, y[:, :8], folds, workers=threads), 1)
    began = time.perf_counter()
    found = encode_stacked(bands, y, folds, workers=threads)
    fitted = time.perf_counter() - began
    scored = seconds(lambda: losses(found, y, folds, every[None], workers=threads), 1)
    encoded = seconds(lambda: voxel_encoded_rsa(found, y, folds, every, workers=threads), 1)
    size = f"{asked.stimuli:,} stimuli, {asked.voxels:,} voxels, 3 × {DIMENSIONS} dimensions"
    print(f"| stacked encoding, {size} | {fitted:.1f} ({few:.1f} for eight voxels) |")
    print(f"| errors of one region with all these voxels | {scored:.1f} |")
    print(f"| voxel-encoded RSA of the same region | {encoded:.1f} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"\npeak memory {peak:.1f} GB, of which patterns and results are {(y.nbytes + _size(found)) / 1e9:.2f}\n")
    print("| weighted RSA: 30 dimensions | stimuli | ms | times as long | largest difference of weights |")
    print("|---|---|---|---|---|")
    for n in sorted({200, asked.stimuli}):
        own = bands["people"][:n]
        true = np.where(np.arange(DIMENSIONS) % 3 == 0, 1.0, 0.0)
        values = pdist(own * np.sqrt(true), "sqeuclidean")
        values += values.std() * rng.normal(size=len(values))
        values -= values.min()
        square = squareform(values)
        weights, mine = ours(own, square), seconds(lambda a=own, d=square: ours(a, d))  # type: ignore[misc]
        print(f"| affectlake | {n:,} | {1000 * mine:.1f} | 1 | |")
        peers: dict[str, Callable[[Array, Array], Array]] = {"scipy nnls of pairs": of_pairs}
        if n == min(200, asked.stimuli):
            peers["rsatoolbox fit_regress_nn"] = rsatoolbox
        for name, peer in peers.items():
            theirs, took = peer(own, values), seconds(lambda f=peer, a=own, v=values: f(a, v))  # type: ignore[misc]
            apart = np.abs(theirs / np.linalg.norm(theirs) - weights / np.linalg.norm(weights)).max()
            print(f"| {name} | {n:,} | {1000 * took:.1f} | {took / mine:.0f} | {apart:.0e} |")


def _size(found: object) -> int:
    return sum(part.nbytes for part in found if isinstance(part, np.ndarray))  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
