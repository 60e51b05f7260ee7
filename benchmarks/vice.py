"""Variational SPoSE beside the published code of VICE: accuracy, dimensions and seconds until both have ended.

    python benchmarks/vice.py [--peer FOLDER | --peer-results FOLDER] [--peer-epochs 502] [--seeds 3]
        [--stimuli 100] [--dimensions 10] [--triplets 30000]

Judgments are drawn from a planted sparse embedding (`benchmarks/foreign.py`); a tenth of them is the test set of the
peer, and 200,000 further judgments score every fit. affectlake uses a twentieth of the training judgments for
validation, the peer trains on all of them. SPoSE with `l1: auto` is there for comparison.

The peer is a git checkout of LukasMut/VICE, trained as it is with the defaults of its command line on one thread
(`benchmarks/peers.py`; without processes that load data). It ends when its number of dimensions has not changed in 500
epochs, after 502 epochs at the earliest. `--peer-results` reads what an earlier run of `benchmarks/peers.py` has
written on the same judgments. Seconds are processor seconds of training; Numba's compilation is not counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from foreign import Judgments, Result, fitted, recovery, simulated, simulated_choices, trained

from affectlake import seeds
from affectlake.spose.data import training_data
from affectlake.spose.model import score
from affectlake.spose.vice.calibration import calibrate
from affectlake.spose.vice.fitting import fit_posterior
from affectlake.spose.vice.posterior import weights
from affectlake.spose.vice.settings import ViceSettings

N_SCORED = 200_000


def variational(own: Judgments, seed: int) -> tuple[Result, float]:
    """Return the fit of one seed, and the processor seconds of its intervals."""
    n_validation = len(own.train) // 20
    rng = seeds.generator(0, "vice", seed)
    data = training_data(own.train[n_validation:], own.train[:n_validation], len(own.truth), rng)
    cpu, wall = time.process_time(), time.perf_counter()
    found = fit_posterior(data, ViceSettings(), rng)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    began = time.process_time()
    calibrate(found.posterior, data, ViceSettings(), rng)
    expected = weights(found.posterior)
    epochs = f"{found.curve[-1].epoch} ({found.stopped})"
    return Result(expected, expected.shape[1], epochs, cpu, wall), time.process_time() - began


def noted(folder: Path) -> Result:
    """Return what `benchmarks/peers.py` has written to a folder."""
    rows = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
    cpu, wall = (sum(one[key] for one in rows) for key in ("cpu_s", "wall_s"))
    return Result(np.load(folder / "weights.npy"), rows[-1]["n_dimensions"], str(len(rows)), cpu, wall)


def row(name: str, own: Judgments, found: Result, beside: Result | None = None) -> str:
    on_test = score(found.weights, own.test)
    mean_r, _ = recovery(own.truth, found.weights[:, : found.n_dimensions])
    ratio = "-" if beside is None or not found.cpu_s else f"{beside.cpu_s / found.cpu_s:,.0f}"
    cells = f"{found.epochs} | {found.cpu_s:,.1f} | {ratio} | {100 * on_test.accuracy:.2f} | {on_test.loss:.4f}"
    return f"| {name} | {cells} | {found.n_dimensions} | {mean_r:.3f} |"


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--stimuli", type=int, default=100)
    asked.add_argument("--dimensions", type=int, default=10)
    asked.add_argument("--triplets", type=int, default=30_000)
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--peer", type=Path, help="git checkout of LukasMut/VICE")
    asked.add_argument("--peer-epochs", type=int, help="at most so many epochs of the peer")
    asked.add_argument("--peer-results", type=Path, help="folder that benchmarks/peers.py has written")
    wanted = asked.parse_args()
    own = simulated(wanted.stimuli, wanted.dimensions, wanted.triplets, 0.6722)
    scored = own._replace(test=simulated_choices(own.truth, N_SCORED, seeds.generator(0, "vice", "scored")))
    warmed = simulated(50, 3, 2_000, 0.6722)
    variational(warmed, 0)  # compiles
    fitted(warmed, "auto", 0.01, 0.01)
    ours = {seed: variational(own, seed) for seed in range(wanted.seeds)}
    spose = fitted(own, "auto", 0.01, 0.01)
    peer = noted(wanted.peer_results) if wanted.peer_results else None
    if wanted.peer:
        with tempfile.TemporaryDirectory() as scratch:
            peer = trained(own, wanted.peer, wanted.peer_epochs, Path(scratch))
    print(
        f"{len(own.train):,} training judgments of {wanted.stimuli:,} stimuli, {wanted.dimensions} planted dimensions;"
        f" {N_SCORED:,} judgments score.\n"
    )
    print("| fit | epochs | processor seconds | times faster | accuracy (%) | loss (nats) | dimensions | mean r |")
    print("|---" * 8 + "|")
    print(row("planted embedding", scored, Result(own.truth, wanted.dimensions, "-", 0.0, 0.0)))
    if peer is not None:
        print(row("VICE, published code", scored, peer))
    for seed, (found, interval_s) in ours.items():
        print(row(f"affectlake, VICE, seed {seed} (intervals: {interval_s:.1f} s more)", scored, found, peer))
    print(row("affectlake, SPoSE, auto (three fits)", scored, spose, peer))


if __name__ == "__main__":
    main()
