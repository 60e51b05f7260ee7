"""A set of judgments like that of THINGS, simulated and fitted, beside the published code of SPoSE and VICE.

    python benchmarks/foreign.py [--quick] [--triplets 4700000] [--stimuli 1854] [--dimensions 49] [--ceiling 0.6722]
        [--peer FOLDER [FOLDER ...]] [--peer-epochs 500] [--fits fast auto] [--l1 0.008] [--init-std 0.01]

The set has the size of THINGS: 1,854 objects, a sparse non-negative embedding of 49 dimensions (Hebart et al. 2020) and
4.7 million odd-one-out judgments of random triplets (Hebart et al. 2023). Answers are drawn from the choice
probabilities of the embedding, whose scale is set such that its most probable answer is given in 67.22 % of triplets:
the noise ceiling of Hebart et al. (2020), the mean share of the most frequent answer of 25 people. A tenth of the
judgments is the test set.

affectlake fits with the fast schedule of `docs/fits.md` and the published weight of the sparsity term, and with
`l1: auto`; it uses a twentieth of the training judgments for validation, the peers train on all of them. A peer is a
git checkout of ViCCo-Group/SPoSE or LukasMut/VICE, whose training is run as it is (`benchmarks/peers.py`). If
`--peer-epochs` is fewer than its own number of epochs, the time of a fit is extrapolated, and the row says so.

Seconds are those of training, without validation, on one thread each, one contestant after the other. Accuracy and loss
are those of the final weights on the test judgments. Recovery: the dimensions of a fit are assigned to those of the
planted embedding one to one such that the sum of Pearson correlations is highest; the mean correlation counts planted
dimensions without a partner as 0.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from peers import DEFAULT_EPOCHS, LAMBDA, kind_of
from schedules import SCHEDULES
from scipy.optimize import linear_sum_assignment

from affectlake import seeds
from affectlake.pipelines.params.study import parse
from affectlake.pipelines.params.templates import starting_params
from affectlake.spose.data import training_data
from affectlake.spose.fitting import Fit, fit
from affectlake.spose.model import choice_probabilities, score
from affectlake.spose.settings import Settings

START_DIMENSIONS = 90  # as in the published code of SPoSE
HEADER = (
    "| fit | epochs | processor seconds | elapsed seconds | test loss (nats) | test accuracy (%) | dimensions | mean r "
    "| r > 0.9 |\n" + "|---" * 9 + "|"
)


class Judgments(NamedTuple):
    """A simulated set: the planted embedding, and judgments with the odd one last."""

    truth: NDArray[np.float32]
    train: NDArray[np.int32]
    test: NDArray[np.int32]


class Result(NamedTuple):
    """A fitted embedding (all weights, and the kept dimensions of them) and what it took."""

    weights: NDArray[np.float32]
    n_dimensions: int
    epochs: str
    cpu_s: float
    wall_s: float


def random_triplets(n_stimuli: int, m: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Return (m, 3) int32: random triplets of different stimuli in random order."""
    i = rng.integers(0, n_stimuli, m)
    j = rng.integers(0, n_stimuli - 1, m)
    j += j >= i
    k = rng.integers(0, n_stimuli - 2, m)
    low, high = np.minimum(i, j), np.maximum(i, j)
    k += k >= low
    k += k >= high
    return np.stack([i, j, k], axis=1).astype(np.int32)


def planted(n_stimuli: int, d: int, ceiling: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a sparse embedding (n_stimuli, d) float32 whose most probable answer has the mean probability `ceiling`.

    A dimension describes 3 to 30 % of the stimuli; every stimulus has one dimension at least.
    """
    used = rng.random((n_stimuli, d)) < np.geomspace(0.3, 0.03, d)
    used[np.arange(n_stimuli), rng.integers(0, d, n_stimuli)] = True
    weights = (rng.gamma(2.0, 0.5, (n_stimuli, d)) * used).astype(np.float32)
    triplets = random_triplets(n_stimuli, 100_000, rng)
    low, high = 0.01, 10.0
    for _ in range(30):
        scale = float(np.sqrt(low * high))
        reached = choice_probabilities(np.float32(scale) * weights, triplets).max(axis=1).mean()
        low, high = (scale, high) if reached < ceiling else (low, scale)
    return np.float32(scale) * weights


def simulated_choices(truth: NDArray[np.float32], m: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Return `m` judgments of random triplets, odd one last, drawn from the choice probabilities of `truth`."""
    triplets = random_triplets(len(truth), m, rng)
    chances = choice_probabilities(truth, triplets).cumsum(axis=1)
    odd = (rng.random((m, 1)) > chances[:, :2]).sum(axis=1)
    order = np.array([[1, 2, 0], [0, 2, 1], [0, 1, 2]])[odd]
    return np.take_along_axis(triplets, order, axis=1)


def simulated(n_stimuli: int, d: int, m: int, ceiling: float) -> Judgments:
    """Return a set of `m` judgments, a tenth of it for the test."""
    rng = seeds.generator(0, "foreign", "set")
    truth = planted(n_stimuli, d, ceiling, rng)
    choices = simulated_choices(truth, m, rng)
    return Judgments(truth, choices[m // 10 :], choices[: m // 10])


def recovery(truth: NDArray[np.float32], found: NDArray[np.float32]) -> tuple[float, int]:
    """Return the mean correlation of planted dimensions with their partners, and the number of correlations > 0.9."""
    varying = found[:, found.std(axis=0) > 0]
    if not varying.shape[1]:
        return 0.0, 0
    d = truth.shape[1]
    r = np.corrcoef(truth.astype(float), varying.astype(float), rowvar=False)[:d, d:]
    pairs = r[linear_sum_assignment(-r)]
    return float(pairs.sum() / d), int((pairs > 0.9).sum())


def row(name: str, own: Judgments, found: Result) -> str:
    on_test = score(found.weights, own.test)
    mean_r, n_high = recovery(own.truth, found.weights[:, : found.n_dimensions])
    took = f"{found.epochs} | {found.cpu_s:,.0f} | {found.wall_s:,.0f}"
    cells = f"{took} | {on_test.loss:.4f} | {100 * on_test.accuracy:.2f}"
    return f"| {name} | {cells} | {found.n_dimensions} | {mean_r:.3f} | {n_high} |"


def fitted(own: Judgments, name: str, l1: float, init_std: float) -> Result:
    """Fit with affectlake, with the settings `fast` or with `l1: auto`."""
    n_stimuli, n_validation = len(own.truth), len(own.train) // 20
    rng = seeds.generator(0, "foreign", name)
    data = training_data(own.train[n_validation:], own.train[:n_validation], n_stimuli, rng)
    fast = Settings(l1=l1, dimensions=START_DIMENSIONS, init_std=init_std, **SCHEDULES["fast"])  # type: ignore[arg-type]
    settings = [fast]
    if name == "auto":
        settings = parse(starting_params("emotion")).spose.few.candidates(fast, len(data.train), n_stimuli)
    cpu, wall = time.process_time(), time.perf_counter()
    fits = [fit(data, one, seeds.generator(0, "foreign", "start")) for one in settings]
    best: Fit = min(fits, key=lambda one: one.score.loss)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    epochs = " + ".join(f"{one.curve[-1].epoch} ({one.stopped})" for one in fits)
    return Result(best.weights, best.weights.shape[1], epochs, cpu, wall)


def trained(own: Judgments, folder: Path, epochs: int | None, scratch: Path) -> Result:
    """Train with a peer's own code, in a process of its own."""
    kind = kind_of(folder)
    judgments, results = scratch / "judgments", scratch / kind
    judgments.mkdir(parents=True, exist_ok=True)
    results.mkdir()
    np.save(judgments / "train_90.npy", own.train)
    np.save(judgments / "test_10.npy", own.test)
    wanted = min(epochs or DEFAULT_EPOCHS[kind], DEFAULT_EPOCHS[kind])
    command = [sys.executable, Path(__file__).with_name("peers.py"), folder.resolve(), judgments, results, str(wanted)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "MPLBACKEND": "Agg"}
    with (results / "log").open("w") as log:
        done = subprocess.run(command, cwd=results, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise SystemExit(f"{kind} failed; the end of its log is\n{(results / 'log').read_text()[-2000:]}")
    rows = [json.loads(line) for line in (results / "epochs.jsonl").read_text().splitlines()]
    cpu, wall = (sum(one[key] for one in rows) for key in ("cpu_s", "wall_s"))
    print(f"\n{kind}: {cpu / len(rows):.1f} processor seconds an epoch", flush=True)
    if rows[-1]["accuracy"] is not None:
        shown = [one for one in rows if one["epoch"] in (1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 500)]
        print("its accuracy on the test judgments after epochs " + ", ".join(
            f"{one['epoch']}: {100 * one['accuracy']:.2f} %" for one in shown), flush=True)  # fmt: skip
    note = str(len(rows))
    if wanted < DEFAULT_EPOCHS[kind]:
        times = DEFAULT_EPOCHS[kind] / len(rows)
        note = f"{len(rows)}; {DEFAULT_EPOCHS[kind]} of them: {cpu * times:,.0f} s, extrapolated"
    return Result(np.load(results / "weights.npy"), rows[-1]["n_dimensions"], note, cpu, wall)


def main() -> None:
    """Print the tables."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--quick", action="store_true", help="100,000 judgments of 300 stimuli, 20 dimensions")
    asked.add_argument("--stimuli", type=int, default=1854)
    asked.add_argument("--dimensions", type=int, default=49)
    asked.add_argument("--triplets", type=int, default=4_700_000)
    asked.add_argument("--ceiling", type=float, default=0.6722, help="mean probability of the most probable answer")
    asked.add_argument("--fits", nargs="*", choices=("fast", "auto"), default=["fast", "auto"])
    asked.add_argument("--l1", type=float, default=LAMBDA, help="weight of the sparsity term with the fast schedule")
    asked.add_argument("--init-std", type=float, default=0.01, help="standard deviation of initial weights")
    asked.add_argument("--peer", type=Path, nargs="*", default=[], help="git checkouts of SPoSE and VICE")
    asked.add_argument("--peer-epochs", type=int, help="at most so many epochs of a peer")
    wanted = asked.parse_args()
    size = (300, 20, 100_000) if wanted.quick else (wanted.stimuli, wanted.dimensions, wanted.triplets)
    own = simulated(*size, wanted.ceiling)
    agree = float(np.square(choice_probabilities(own.truth, own.test)).sum(axis=1).mean())
    print(
        f"{len(own.train):,} training and {len(own.test):,} test judgments of {size[0]:,} stimuli; {size[1]} planted"
        f" dimensions.\nTwo independent answers to a triplet agree in {100 * agree:.1f} % of triplets.\n\n" + HEADER
    )
    print(row("planted embedding", own, Result(own.truth, size[1], "-", 0.0, 0.0)), flush=True)
    warmed = simulated(50, 3, 2_000, wanted.ceiling)
    fitted(warmed, "fast", LAMBDA, 0.01)  # compiles
    for name in wanted.fits:
        print(row(f"affectlake, {name}", own, fitted(own, name, wanted.l1, wanted.init_std)), flush=True)
    for folder in wanted.peer:
        with tempfile.TemporaryDirectory() as scratch:
            found = trained(own, folder, wanted.peer_epochs, Path(scratch))
            print(row(kind_of(folder), own, found), flush=True)


if __name__ == "__main__":
    main()
