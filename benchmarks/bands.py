"""Seconds that one subject's variance partitioning takes, beside himalaya's banded ridge regression.

    python benchmarks/bands.py [--quick] [--voxels 100000] [--whole 8192] [--slice 400]

Three bands of 30 dimensions, 5 x 5 folds, 100 penalties, and the 37 combinations of the weights 0.01, 0.1 and 1 that
leave out no, one or two bands. affectlake computes all eight models; himalaya's ``GroupRidgeCV`` computes the model of
all bands, with the same weights and penalties, on some voxels and the first of the five outer folds. Both are scaled to
all voxels and folds. What does not grow with the voxels is measured on eight voxels, and not scaled with them.
"""

from __future__ import annotations

import argparse
import os
import resource
import time

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import PredefinedSplit

from affectlake.brain.encoding.bands import encode_bands
from affectlake.brain.encoding.crossvalidation import PENALTIES
from affectlake.brain.encoding.folds import Folds, nested_folds

DIMENSIONS, RATIOS = 30, (0.01, 0.1, 1.0)


def himalaya(bands: dict[str, NDArray[np.float64]], y: NDArray[np.float32], folds: Folds) -> NDArray[np.float64]:
    """Return the chosen log ratios of weight and penalty in the first outer fold, (n_bands, v)."""
    from himalaya.ridge import GroupRidgeCV

    levels = (1e-30, *RATIOS)
    gammas = np.array([(a, b, c) for a in levels for b in levels for c in levels if max(a, b, c) == 1])
    xs = [x / np.sqrt(x.var(axis=0).sum()) for x in bands.values()]
    train = folds.inner[0] >= 0
    options = {"n_iter": gammas, "alphas": PENALTIES, "progress_bar": False, "warn": False, "n_alphas_batch": 10}
    cv = PredefinedSplit(folds.inner[0][train])
    model = GroupRidgeCV(groups="input", fit_intercept=True, cv=cv, solver_params=options)
    model.fit([x[train] for x in xs], y[train].astype(np.float64))
    return np.asarray(model.deltas_)


def main() -> None:
    """Print the table of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small subject, for trying the script out")
    parser.add_argument("--voxels", type=int, default=100_000)
    parser.add_argument("--whole", type=int, default=8192, help="voxels that affectlake is run on")
    parser.add_argument("--slice", type=int, default=400, help="voxels that himalaya is run on")
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

    def theirs(voxels: int) -> tuple[float, NDArray[np.float64]]:
        began = time.perf_counter()
        deltas = himalaya(bands, y[:, :voxels], folds)
        return (time.perf_counter() - began) * len(folds.inner), deltas

    ours(slice(0, 8))  # compiles
    small, whole = ours(slice(0, 8))[0], ours(slice(0, asked.whole))[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    scaled = small + (whole - small) * asked.voxels / asked.whole
    (peer_small, _), (peer, deltas) = theirs(8), theirs(asked.slice)
    peer_scaled = peer_small + (peer - peer_small) * asked.voxels / asked.slice
    same = float(np.isclose(ours(slice(0, asked.slice))[1][0], deltas, rtol=1e-6).mean())
    print("| work | formulation | seconds | times as long | how measured |\n|---|---|---|---|---|")
    print(
        f"| variance partitioning, {asked.stimuli:,} stimuli, 3 × {DIMENSIONS} dimensions, 5 × 5 folds, 37 weights × "
        f"100 λ, {asked.voxels:,} voxels | affectlake, eight models | {scaled:,.0f} | 1 | {asked.whole:,} voxels in "
        f"{whole:.0f} s, {small:.1f} s for eight; peak memory {peak:.1f} GB, {y.nbytes / 1e9:.2f} of it the patterns |"
    )
    print(
        f"| | himalaya GroupRidgeCV, one model | {peer_scaled:,.0f} | {peer_scaled / scaled:.0f} | one fold: "
        f"{asked.slice} voxels in {peer / len(folds.inner):.0f} s, {peer_small / len(folds.inner):.0f} s for eight; "
        f"{100 * same:.1f} % of weights and penalties equal |"
    )


if __name__ == "__main__":
    main()
