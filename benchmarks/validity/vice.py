"""Whether intervals of the weights of variational SPoSE hold planted weights, and the number of dimensions.

    python -m benchmarks.validity.vice [--worlds 12]

Judgments are drawn from planted sparse embeddings (`benchmarks.foreign`), whose scale is that of the choice model.
Dimensions of a fit are assigned to planted ones one to one by correlation; those with r > 0.8 are counted. "Posterior"
is the mean plus or minus 1.96 standard deviations of the variational posterior, which is not published; "published" is
the interval of `affectlake.spose.vice.calibration`. The top quarter are the largest planted weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from affectlake import seeds
from affectlake.spose.data import training_data
from affectlake.spose.vice.calibration import calibrate, partners
from affectlake.spose.vice.fitting import fit_posterior
from affectlake.spose.vice.posterior import weights
from affectlake.spose.vice.settings import ViceSettings

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/foreign.py imports its neighbours
from foreign import planted, simulated_choices


class Case(NamedTuple):
    n_stimuli: int
    dimensions: int
    n_judgments: int


CASES = (Case(60, 6, 6_000), Case(60, 6, 30_000), Case(100, 10, 30_000), Case(300, 20, 100_000))
GROUPS = ("all", "zero", "above zero", "top quarter")


def world(case: Case, number: int) -> tuple[int, int, dict[str, list[float]] | None]:
    """Return the dimensions found, those recovered, and the coverage of each group with both intervals."""
    n, d, m = case
    rng = seeds.generator(0, "vice-coverage", *case, number)
    truth = planted(n, d, 0.6722, rng)
    choices = simulated_choices(truth, m, rng)
    data = training_data(choices[m // 10 :], choices[: m // 10], n, rng)
    settings = ViceSettings()
    found = fit_posterior(data, settings, rng).posterior
    own, others = partners(truth, weights(found))
    calibration = calibrate(found, data, settings, rng)
    if calibration is None:
        return found.mean.shape[1], len(own), None
    known = truth[:, own]
    narrow = found.mean - 1.96 * found.sd, found.mean + 1.96 * found.sd
    groups = {
        "all": np.full(known.shape, True), "zero": known == 0, "above zero": known > 0,
        "top quarter": known > np.quantile(known[known > 0], 0.75),
    }  # fmt: skip
    held = []
    for low, high in (narrow, calibration.intervals(found)):
        ends = np.maximum(low, 0)[:, others], np.maximum(high, 0)[:, others]
        held.append((ends[0] <= known) & (known <= ends[1]))
    return found.mean.shape[1], len(own), {name: [float(one[of].mean()) for one in held] for name, of in groups.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--worlds", type=int, default=12)
    n_worlds = parser.parse_args().worlds
    heads = [f"{name}: posterior, published" for name in GROUPS]
    print(f"{n_worlds} planted embeddings per row; share of weights in their 95 % interval.\n")
    print(
        "| stimuli, dimensions, judgments | found (range) | recovered | without intervals | " + " | ".join(heads) + " |"
    )
    print("|---" * (4 + len(heads)) + "|")
    for case in CASES:
        worlds = [world(case, number) for number in range(n_worlds)]
        dims, recovered = [one[0] for one in worlds], [one[1] / case.dimensions for one in worlds]
        held = [one[2] for one in worlds if one[2] is not None]
        cells = []
        for name in GROUPS:
            values = np.array([one[name] for one in held])
            error = values[:, 1].std(ddof=1) / len(held) ** 0.5 if len(held) > 1 else float("nan")
            cells.append(f"{100 * values[:, 0].mean():.1f}%, {100 * values[:, 1].mean():.1f}% ± {100 * error:.1f}")
        print(
            f"| {case.n_stimuli}, {case.dimensions}, {case.n_judgments:,} | {np.median(dims):g} ({min(dims)} to"
            f" {max(dims)}) | {100 * np.mean(recovered):.0f}% | {n_worlds - len(held)} | " + " | ".join(cells) + " |",
            flush=True,
        )


if __name__ == "__main__":
    main()
