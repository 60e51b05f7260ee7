"""Error rate of the test of readouts, and coverage of the interval of their held-out correlation.

Run with ``python benchmarks/validity/readouts.py``; prints a Markdown table. Each world has correlated features, and
sparse non-negative weights: two dimensions depend on the features, strongly and weakly, and two do not.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from affectlake.editing.readout import read_out

N_FEATURES, N_FRESH = 24, 4000
PENALTIES, FOLDS = (1.0, 10.0, 100.0, 1000.0), 5
SLOPES = np.array([1.5, 0.5, 0.0, 0.0])
Matrix = NDArray[np.float64]


def world(n: int, mixing: Matrix, directions: Matrix, rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    """Return features (n, 24) and weights (n, 4) of n stimuli."""
    features = rng.standard_normal((n, N_FEATURES)) @ mixing
    drive = features @ directions * SLOPES + rng.standard_normal((n, len(SLOPES)))
    return features, np.maximum(drive - 0.3, 0.0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--permutations", type=int, default=99)
    asked = parser.parse_args()
    print(
        "| stimuli | dimension | mean r | r on fresh stimuli | p ≤ 0.05 | read (FDR) | coverage of the 95 % interval |"
    )
    print("|---|---|---|---|---|---|---|")
    for n in (60, 200):
        rng = np.random.default_rng(n)
        mixing = rng.standard_normal((N_FEATURES, N_FEATURES)) * (0.8 ** np.arange(N_FEATURES))[:, None]
        directions = rng.standard_normal((N_FEATURES, len(SLOPES)))
        directions /= np.linalg.norm(mixing @ directions, axis=0)
        fresh_x, fresh_y = world(N_FRESH, mixing, directions, rng)
        found, truths = [], []
        for _ in range(asked.worlds):
            x, y = world(n, mixing, directions, rng)
            found.append(read_out(x, y, PENALTIES, FOLDS, asked.permutations, rng))
            fewer = read_out(*world(n - n // FOLDS, mixing, directions, rng), PENALTIES, FOLDS, 0, rng)
            predicted = fresh_x @ fewer.weights.T + fewer.intercepts
            truths.append([np.corrcoef(predicted[:, at], fresh_y[:, at])[0, 1] for at in range(len(SLOPES))])
        truth = np.nanmean(truths, axis=0)
        r, low, high = (np.array([getattr(one, name) for one in found]) for name in ("r", "ci_low", "ci_high"))
        small = np.array([one.p_value <= 0.05 for one in found]).mean(axis=0)
        read = np.array([one.is_read for one in found]).mean(axis=0)
        covered = ((low <= truth) & (truth <= high)).mean(axis=0)
        for at, name in enumerate(("strong", "weak", "none", "none")):
            print(
                f"| {n} | {name} | {r[:, at].mean():.3f} | {truth[at]:.3f} | {small[at]:.1%} | {read[at]:.1%} "
                f"| {covered[at]:.1%} |"
            )


if __name__ == "__main__":
    main()
