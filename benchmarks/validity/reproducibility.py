"""Coverage of the intervals of reproducibility, and its test.

    python -m benchmarks.validity.reproducibility [--studies 1000]

A fit of 300 stimuli and ten dimensions; the other fits have the same dimensions in another order with noise, so that
the true correlations are between 0.5 and 0.98. In the second kind of study every other fit lacks a dimension with
probability one half, and has a random one in its place. The truth is about further fits with other seeds: Fisher's mean
of the best match in 2,000 of them, for the one fit whose dimensions are scored. Strength multiplies the true
correlations; 0 is the null hypothesis, and has 1 / 0.3 as many studies as the others.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.reproducibility import best_matches, mean_reproducibility, reproducibility
from benchmarks.validity.cells import mean_share, share

N_STIMULI, N_DIMENSIONS, N_FURTHER = 300, 10, 2000
Array = NDArray[np.float64]


def another(rng: np.random.Generator, base: Array, strength: float, lacking: float) -> Array:
    """Return a fit with another seed: every dimension with noise, or a random one in its place."""
    noise = rng.gamma(0.5, 0.5**-0.5, base.shape)
    r = strength * np.linspace(0.5, 0.98, N_DIMENSIONS)
    found = r * base + (1 - r**2) ** 0.5 * noise
    return np.where(rng.random(N_DIMENSIONS) < lacking, rng.gamma(0.5, 0.5**-0.5, base.shape), found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    n_studies = parser.parse_args().studies
    base = np.random.default_rng(0).gamma(0.5, 0.5**-0.5, (N_STIMULI, N_DIMENSIONS))
    print(
        "| other fits | strength | dimensions that they lack | interval of a dimension holds | of the mean | p ≤ 0.05 |"
    )
    print("|---" * 6 + "|")
    cases = ((1.0, 0.0), (1.0, 0.5), (0.2, 0.0), (0.0, 0.0))
    for strength, lacking in cases:
        rng = np.random.default_rng([9, 0])
        further = [best_matches(base, another(rng, base, strength, lacking)) for _ in range(N_FURTHER)]
        z = np.arctanh(np.array(further))
        truth, whole = np.tanh(z.mean(axis=0)), float(np.tanh(z.mean()))
        for n_others in (2, 4, 9):
            held, mean, hits = [], [], []
            for seed in range(n_studies if strength == 0 else max(2, int(0.3 * n_studies))):
                rng = np.random.default_rng([9, 1, seed])
                fits = {0: base} | {at: another(rng, base, strength, lacking) for at in range(1, n_others + 1)}
                found = reproducibility(fits, 0, rng, 39)
                hits.append(float(np.mean([one.p_value <= 0.05 for one in found])))
                inside = [one.ci_low <= at <= one.ci_high for one, at in zip(found, truth, strict=True)]
                held.append(float(np.mean(inside)))
                own = mean_reproducibility(fits, 0)
                mean.append(own.ci_low <= whole <= own.ci_high)
            cells = [mean_share(held), share(mean), mean_share(hits)]
            print(f"| {n_others} | {strength:g} | {lacking:.0%} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
