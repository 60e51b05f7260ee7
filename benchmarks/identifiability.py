"""What fixes the dimensions of an agent: a stronger penalty, more dimensions at the start, or averages over fits.

    python benchmarks/identifiability.py LAKE [--agent human-dimension] [--seeds 10] [--ratings approach safety valence]

Fits the agent's choices in the latest version of a lake from independent random starts, with the settings of the
emotion study and one change in each row. *Reproducibility* is the mean over pairs of fits of the mean best correlation
of dimensions, and *recurring* the number of dimensions of a fit that have a correlation of at least 0.9 with a
dimension of at least 80 % of the other fits; medians over fits. *Consensus*: for each of two disjoint halves of the
fits, the dimensions of its first fit that recur in the half, averaged with their best matches; reproducibility is
between both halves, accuracy the mean of both. For each rating, the highest correlation of a dimension with it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from schedules import judgments

import affectlake
from affectlake import seeds
from affectlake.geometry.correlations import unit_columns
from affectlake.geometry.reproducibility import best_matches
from affectlake.pipelines.params.study import parse
from affectlake.pipelines.params.templates import starting_params
from affectlake.spose.convergence import match
from affectlake.spose.data import training_data
from affectlake.spose.fitting import fit
from affectlake.spose.model import score

RECURS, SHARE = 0.9, 0.8
Weights = NDArray[np.float32]


def recurring(own: Weights, others: Sequence[Weights], r: float = RECURS) -> NDArray[np.bool_]:
    """Return which dimensions of a fit have a match in most other fits."""
    return np.asarray(np.mean([best_matches(own, other) >= r for other in others], axis=0) >= SHARE)


def consensus(fits: Sequence[Weights], r: float) -> Weights:
    """Return the recurring dimensions of the first fit, averaged with their best matches in the others."""
    first, others = fits[0], fits[1:]
    kept = first[:, recurring(first, others, r)]
    matched = [other[:, (unit_columns(kept).T @ unit_columns(other)).argmax(axis=1)] for other in others]
    return np.asarray(np.mean([kept, *matched], axis=0), dtype=np.float32)


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("lake")
    asked.add_argument("--agent", default="human-dimension")
    asked.add_argument("--seeds", type=int, default=10)
    asked.add_argument("--ratings", nargs="*", default=["approach", "safety", "valence"])
    wanted = asked.parse_args()
    lake = affectlake.open(wanted.lake)
    own = judgments(lake, wanted.agent)
    study = parse(starting_params("emotion"))
    base = study.settings(wanted.agent).replaced(l1=own.l1)
    rows = lake.table("ratings").filter(pl.col("rating").is_in(wanted.ratings)).sort("stimulus_index").collect()
    known = [name for name in wanted.ratings if name in rows["rating"]]
    rated = {name: rows.filter(pl.col("rating") == name)["score"].to_numpy()[:, None] for name in known}
    data = training_data(own.train, own.validation, own.n_stimuli, seeds.generator(0, "order"))
    variants = {"the study's": base} | {
        f"l1 × {times}": base.replaced(l1=times * own.l1) for times in (2, 4, 10)
    } | {"60 dimensions at the start": base.replaced(dimensions=60)}  # fmt: skip
    print(f"| settings | fits | converged | dimensions | test accuracy (%) | reproducibility | recurring | "
          f"{' | '.join(f'r with {name}' for name in rated)} |\n" + "|---" * (7 + len(rated)) + "|")  # fmt: skip

    def line(name: str, fits: list[Weights], n_converged: str, alike: float, n_recurring: str) -> None:
        accuracy = np.mean([score(one, own.test).accuracy for one in fits])
        found = [f"{np.median([best_matches(of, one).item() for one in fits]):.2f}" for of in rated.values()]
        n = np.median([one.shape[1] for one in fits])
        cells = [name, str(len(fits)), n_converged, f"{n:.0f}", f"{100 * accuracy:.2f}", f"{alike:.3f}", n_recurring]
        print(f"| {' | '.join([*cells, *found])} |", flush=True)

    for name, settings in variants.items():
        runs = [fit(data, settings, seeds.generator(seed, "schedules")) for seed in range(wanted.seeds)]
        fits = [one.weights for one in runs]
        alike = np.mean([match(a, b) for i, a in enumerate(fits) for j, b in enumerate(fits) if i != j])
        again = [recurring(one, [other for other in fits if other is not one]).sum() for one in fits]
        n_converged = f"{sum(one.converged for one in runs)} of {len(runs)}"
        line(name, fits, n_converged, float(alike), f"{np.median(again):.0f}")
        for r in (RECURS, 0.8):
            halves = [consensus(fits[first::2], r) for first in (0, 1)]
            if all(one.shape[1] for one in halves):
                alike = (match(halves[0], halves[1]) + match(halves[1], halves[0])) / 2
                line(f"{name}, consensus of {len(fits) // 2} at r ≥ {r}", halves, "", float(alike), "")


if __name__ == "__main__":
    main()
