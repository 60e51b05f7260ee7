"""How often crossnobis distances of noise are said to exceed zero, and to correlate with an agent.

    python -m benchmarks.validity.crossnobis [--worlds 200] [--stimuli 5 10 20 50] [--voxels 50]

Every world has stimuli with two presentations, a region whose noise is correlated, and an agent of eight features.
Patterns are equal (noise alone), follow features that the agent does not have, or those of the agent. "Shifted runs":
noise alone, each half of the stimuli in two runs of its own, and a pattern that all presentations of a run share. The
share of worlds with p < 0.05 is an error rate where nothing is planted, and power where something is. Coverage: how
often the interval contains the mean of all worlds. "Own residuals": whitened by a covariance that contains the
residuals of the stimuli that are compared.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.contributions.estimates import Estimates, estimates
from affectlake.brain.contributions.pair_scores import correlations, mean_of_pairs, ranked
from affectlake.brain.crossfitted import FEWEST_STIMULI, crossfitted_distances
from affectlake.brain.crossnobis import crossnobis, noise_covariance, residuals
from affectlake.brain.repeat_folds import repeat_folds, without_run_means
from affectlake.geometry.intervals import wilson_interval
from affectlake.process.blas_threads import one_blas_thread
from affectlake.rsm import correlation_rsm

D = 8
KINDS = ("noise alone", "shifted runs", "structure, not the agent's", "the agent's structure")

Array = NDArray[np.float64]


def world(kind: str, n: int, v: int, rng: np.random.Generator) -> tuple[Array, NDArray[np.int64], Array, Array]:
    """Return presentations, their stimuli and runs, and the distances of the agent."""
    features = rng.normal(size=(n, D))
    followed = {"structure, not the agent's": rng.normal(size=(n, D)), "the agent's structure": features}
    patterns = followed[kind] @ rng.normal(size=(D, v)) * 0.3 / np.sqrt(D) if kind in followed else np.zeros((n, v))
    stimulus = np.tile(np.arange(n), 2)
    runs = np.repeat([1, 2], n) + 2 * (stimulus % 2 if kind == "shifted runs" else 0)
    mix = np.eye(v) + rng.normal(size=(v, v)) * 0.5 / np.sqrt(v)
    noise = rng.normal(size=(2 * n, v)) @ mix + 0.7 * rng.normal(size=(2 * n, 1))
    shift = 0.5 * rng.normal(size=(5, v)) * (kind == "shifted runs")
    return patterns[stimulus] + noise + shift[runs], stimulus, runs, 1 - correlation_rsm(features)


def measured(kind: str, n: int, v: int, seed: int) -> tuple[Estimates, Estimates, Estimates]:
    """Return the mean distance, the same by the own residuals of stimuli, and the agent's correlation."""
    x, stimulus, runs, agent = world(kind, n, v, np.random.default_rng([seed, n]))
    folds = repeat_folds(stimulus, runs, FEWEST_STIMULI, n, np.zeros(n))
    if folds.kind != "runs":
        x = without_run_means(x, stimulus, runs)
    found = crossfitted_distances(x, folds.place, folds.fold).distances
    with one_blas_thread():
        own = crossnobis(x, stimulus, folds.fold, noise_covariance(*residuals(x, stimulus)).precision)
    r = estimates(correlations(ranked(found), [ranked(agent)]))
    return estimates(mean_of_pairs(found)), estimates(mean_of_pairs(own)), r


def main() -> None:
    """Print the table of docs/validity.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--voxels", type=int, default=50)
    parser.add_argument("--stimuli", type=int, nargs="+", default=[5, 10, 20, 50])
    given = parser.parse_args()
    print(f"{given.worlds} worlds, {given.voxels} voxels; % of worlds, with 95 % intervals\n")
    heads = "mean distance | exceeds 0 | covered | own residuals: mean | exceeds 0 | agent: mean r | p < 0.05 | covered"
    print(f"| patterns | stimuli | {heads} |\n|{'---|' * 10}")
    for kind in KINDS:
        for n in given.stimuli:
            rows = [measured(kind, n, given.voxels, seed) for seed in range(given.worlds)]
            parts = zip(*rows, strict=True)
            mean, own, r = (Estimates(*(np.array(part)[:, 0] for part in zip(*of, strict=True))) for of in parts)
            cells = [
                f"{mean.value.mean():.3f}", _share(_above(mean)), _share(_covers(mean)), f"{own.value.mean():.3f}",
                _share(_above(own)), f"{r.value.mean():.3f}", _share(r.p < 0.05), _share(_covers(r)),
            ]  # fmt: skip
            print(f"| {kind} | {n} | {' | '.join(cells)} |", flush=True)


def _above(found: Estimates) -> NDArray[np.bool_]:
    return (found.p < 0.1) & (found.value > 0)  # one-tailed, 0.05


def _covers(found: Estimates) -> NDArray[np.bool_]:
    truth = found.value.mean()
    return (found.low <= truth) & (truth <= found.high)


def _share(yes: NDArray[np.bool_]) -> str:
    low, high = wilson_interval(int(yes.sum()), len(yes))
    return f"{100 * yes.mean():.1f} ({100 * low:.0f} to {100 * high:.0f})"


if __name__ == "__main__":
    main()
