"""Seconds that one subject's variance partitioning takes, beside himalaya's banded ridge regression.

    python benchmarks/bands.py [--quick] [--voxels 100000] [--whole 20000] [--slice 40]

Three bands of 30 dimensions, 5 x 5 folds, 100 penalties, and the 37 combinations of the weights 0.01, 0.1 and 1 that
leave out no, one or two bands. affectlake computes all eight models in one run; himalaya's ``GroupRidgeCV`` computes
the model of all bands, on the same folds, weights and penalties, on some voxels. Both take turns on the slice; the
totals are scaled to all voxels. Preparation, which does not grow with the voxels, is measured apart and subtracted
before affectlake's time is scaled.
"""

from __future__ import annotations

import argparse
import os
import resource
import time

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import PredefinedSplit
from threadpoolctl import threadpool_limits

from affectlake.brain.encoding.bands import encode_bands
from affectlake.brain.encoding.crossvalidation import PENALTIES
from affectlake.brain.encoding.folds import Folds, nested_folds

DIMENSIONS, RATIOS = 30, (0.01, 0.1, 1.0)


def himalaya(bands: dict[str, NDArray[np.float64]], y: NDArray[np.float32], folds: Folds) -> NDArray[np.float64]:
    """Return the chosen log ratios of weight and penalty, (n_outer, n_bands, v)."""
    from himalaya.ridge import GroupRidgeCV

    levels = (1e-30, *RATIOS)
    gammas = np.array([(a, b, c) for a in levels for b in levels for c in levels if max(a, b, c) == 1])
    xs = [x / np.sqrt(x.var(axis=0).sum()) for x in bands.values()]
    found = []
    for inner in folds.inner:
        train = inner >= 0
        options = {"n_iter": gammas, "alphas": PENALTIES, "progress_bar": False, "warn": False}
        model = GroupRidgeCV(
            groups="input", fit_intercept=True, cv=PredefinedSplit(inner[train]), solver_params=options
        )
        model.fit([x[train] for x in xs], y[train].astype(np.float64))
        found.append(model.deltas_)
    return np.stack(found)


def main() -> None:
    """Print the table of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small subject, for trying the script out")
    parser.add_argument("--voxels", type=int, default=100_000)
    parser.add_argument("--whole", type=int, default=20_000, help="voxels that affectlake is run on")
    parser.add_argument("--slice", type=int, default=40, help="voxels that himalaya is run on")
    parser.add_argument("--stimuli", type=int, default=2180)
    asked = parser.parse_args()
    if asked.quick:
        asked.whole, asked.slice, asked.stimuli = 512, 4, 300
    threads, rng = len(os.sched_getaffinity(0)), np.random.default_rng(0)
    bands = {name: np.abs(rng.normal(size=(asked.stimuli, DIMENSIONS))) for name in ("people", "language", "vision")}
    x = np.concatenate(list(bands.values()), axis=1)
    y = (x @ rng.normal(size=(x.shape[1], asked.whole)) * 0.1).astype(np.float32)
    y += rng.standard_normal(y.shape, dtype=np.float32)
    folds = nested_folds(asked.stimuli, 5, 5, rng)

    def ours(voxels: slice) -> tuple[float, NDArray[np.float64]]:
        began = time.perf_counter()
        found = encode_bands(bands, y[:, voxels], folds, ratios=RATIOS, workers=threads)
        took = time.perf_counter() - began
        weights = np.maximum(np.nan_to_num(found.weights), 1e-30)
        return took, np.log(weights / found.penalty[:, None])

    ours(slice(0, 8))  # compiles
    prepared, _ = ours(slice(0, 8))
    whole, _ = ours(slice(0, asked.whole))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    scaled = prepared + (whole - prepared) * asked.voxels / asked.whole
    some = slice(0, asked.slice)
    peers, same = {}, 0.0
    for name, limit in (("two threads", threads), ("one thread", 1)):
        began = time.perf_counter()
        with threadpool_limits(limit):
            expected = himalaya(bands, y[:, some], folds)
        peers[name] = (time.perf_counter() - began) * asked.voxels / asked.slice
        mine = ours(some)[1]
        same = float(np.isclose(mine, expected, rtol=1e-6).mean())
    print("| work | formulation | seconds | times as long | how measured |\n|---|---|---|---|---|")
    print(
        f"| variance partitioning, {asked.stimuli:,} stimuli, 3 x {DIMENSIONS} dimensions, 5 x 5 folds, 37 weights x "
        f"100 λ, {asked.voxels:,} voxels | affectlake, eight models | {scaled:,.0f} | 1 | {asked.whole:,} voxels in "
        f"{whole:.0f} s, of which {prepared:.1f} s do not grow with them; peak memory {peak:.1f} GB, "
        f"{y.nbytes / 1e9:.1f} of it the patterns |"
    )
    for name, took in peers.items():
        print(
            f"| | himalaya GroupRidgeCV, one model, {name} | {took:,.0f} | {took / scaled:.0f} | {asked.slice} voxels; "
            f"{100 * same:.1f} % of weights and penalties equal |"
        )


if __name__ == "__main__":
    main()
