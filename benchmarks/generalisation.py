"""Time of the bootstrap over subjects and stimuli, and the same numbers in rsatoolbox.

    python benchmarks/generalisation.py [--demos FOLDER] [--resamples 100]

rsatoolbox's ``eval_dual_bootstrap`` runs first, its resamples are noted, and affectlake computes the same ones. FOLDER
is ``demos/92imageData`` of a checkout of rsatoolbox: eight models and the RSMs of four subjects in two sessions, for 92
stimuli. Without it, only simulated subjects are compared. Both use one thread.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from rsatoolbox.inference import evaluate
from rsatoolbox.model import ModelFixed
from rsatoolbox.rdm import RDMs

from affectlake.brain.generalisation.bootstrap import Measure, dual_bootstrap
from affectlake.brain.generalisation.estimates import LOWER, contrasts
from affectlake.brain.generalisation.resamples import Resamples, draw
from affectlake.rsm import correlation_rsm, pairs

MEASURES: dict[Measure, str] = {"spearman": "spearman", "pearson": "corr", "cosine": "cosine"}
Array = NDArray[np.float64]


def example(folder: Path) -> tuple[Array, Array]:
    """Return the distances of rsatoolbox's example: of subjects in sessions (8, 92, 92), and of models (8, 92, 92)."""
    from scipy.io import loadmat

    brains, models = loadmat(folder / "92_brainRDMs.mat")["RDMs"], loadmat(folder / "92_modelRDMs.mat")["Models"]
    return tuple(np.array([one["RDM"] for one in cells.ravel()], dtype=np.float64) for cells in (brains, models))  # type: ignore[return-value]


def simulated(n_subjects: int, n: int, n_models: int) -> tuple[Array, Array]:
    """Return distances of subjects that share a geometry, and of models."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(n, 20))
    subjects = [1 - correlation_rsm(common + rng.normal(size=(n, 20))) for _ in range(n_subjects)]
    return np.array(subjects), np.array([1 - correlation_rsm(rng.normal(size=(n, 20))) for _ in range(n_models)])


def compare(name: str, rsms: Array, models: Array, measure: Measure, count: int) -> None:
    """Print one row: seconds of both for a thousand resamples, and the largest differences."""
    drawn: list[tuple[Array, Array]] = []
    sample = evaluate.bootstrap_sample

    def noted(*given: object, **named: object) -> object:
        found = sample(*given, **named)
        drawn.append(found[1:])
        return found

    evaluate.bootstrap_sample = noted
    np.random.seed(1)  # noqa: NPY002
    began = time.perf_counter()
    fixed = [ModelFixed(str(k), pairs(model)) for k, model in enumerate(models)]
    data = RDMs(np.array([pairs(one) for one in rsms]))
    theirs = evaluate.eval_dual_bootstrap(fixed, data, method=MEASURES[measure], N=count)
    slow = (time.perf_counter() - began) * 1000 / count
    evaluate.bootstrap_sample = sample
    counts = [np.array([np.bincount(one, minlength=size) for one in column])
              for column, size in zip(zip(*drawn, strict=True), (len(rsms), rsms.shape[-1]), strict=True)]  # fmt: skip
    found = dual_bootstrap(rsms, models, Resamples(*counts), measure=measure)
    many = draw(len(rsms), rsms.shape[-1], 3 * count, np.random.default_rng(0))
    took = []
    for _ in range(3):
        began = time.perf_counter()
        dual_bootstrap(rsms, models, many, measure=measure)
        took.append((time.perf_counter() - began) * 1000 / (3 * count))
    each, (i, j) = np.arange(len(models)), np.triu_indices(len(models), 1)
    zero, pair = contrasts(found, each, sides="greater", values="resamples"), contrasts(found, i, j, values="resamples")
    below = contrasts(found, each, np.full(len(models), LOWER), values="resamples")
    of_pairs, of_zero, of_ceiling = theirs.test_all()
    several = np.count_nonzero(counts[0], axis=1) > 1  # rsatoolbox has a ceiling of 1 for a single subject
    apart = {
        "values": found.resampled[..., :-2] - theirs.evaluations[:, :, 0, 0].transpose(2, 0, 1),
        "ceilings": (found.resampled[..., -2:] - theirs.noise_ceiling[:, :, 0].transpose(2, 1, 0))[[0, 1]][:, several],
        "variances": np.concatenate([zero.sd**2 - theirs.model_var, pair.sd**2 - theirs.diff_var]),
        "p": np.concatenate([zero.p - of_zero, pair.p - of_pairs[i, j], below.p - of_ceiling]),
    }
    largest = ", ".join(f"{what} {np.abs(values).max():.0e}" for what, values in apart.items())
    fast = median(took)
    print(f"| {name} | {measure} | {fast:.2f} | {slow:,.0f} | {slow / fast:,.0f} | {largest} |", flush=True)


def main() -> None:
    """Print the table of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--demos", type=Path)
    parser.add_argument("--resamples", type=int, default=100)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    evaluate.tqdm.trange = range
    dual_bootstrap(*simulated(2, 8, 1), draw(2, 8, 1, np.random.default_rng(0)))  # compiles
    print("| data | correlation | affectlake, s | rsatoolbox, s | times as long | largest difference |")
    print("|---|---|---|---|---|---|")
    if asked.demos:
        for measure in MEASURES:
            compare(
                "rsatoolbox's example: 8 RDMs, 8 models, 92 stimuli", *example(asked.demos), measure, asked.resamples
            )
    for n in (50, 100):
        compare(f"5 subjects, 5 models, {n} stimuli", *simulated(5, n, 5), "spearman", asked.resamples)


if __name__ == "__main__":
    main()
