"""Seconds an epoch of SPoSE takes, beside the published one-hot formulation and a torch gather loop.

    python benchmarks/spose.py [--quick] [--floor] [--stimuli 2180] [--triplets 6410000] [--rounds 5]

All three are timed in turn within each round, so that a busy machine slows all of them; the table gives medians over
the rounds. The two torch loops are timed on some of an epoch's batches and scaled to a whole one; ours runs whole
epochs. The second table trains on planted choices beside the gather loop, in which every row takes every Adam step:
once on the same batches, which shows what lazy Adam changes, and once with rows shuffled singly, not by blocks.
`--floor` says where the time goes and what the arithmetic alone would take.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from affectlake import seeds
from affectlake.spose import kernels
from affectlake.spose.cpu import CpuTrainer
from affectlake.spose.data import TrainingData, training_data
from affectlake.spose.model import score
from affectlake.spose.settings import Settings
from affectlake.spose.state import LANES, Moments, aligned_rows, block_size, padded

BATCH_SIZES = (128, 1024, 8192)
L1 = 0.004
RATE = Settings(l1=L1).learning_rate


def planted(n_stimuli: int, d: int, n_triplets: int, rng: np.random.Generator, noise: float = 0.5) -> NDArray[np.int32]:
    """Return (n_triplets, 3) int32 choices, odd one last, drawn from a sparse embedding of `d` dimensions."""
    truth = rng.gamma(2.0, 0.8, (n_stimuli, d)) * (rng.random((n_stimuli, d)) < 3.0 / d)
    similarity = (truth @ truth.T).astype(np.float32)
    parts = []
    for first in range(0, n_triplets, 1_000_000):
        m = min(1_000_000, n_triplets - first)
        i = rng.integers(0, n_stimuli, m)
        j = (i + rng.integers(1, n_stimuli, m)) % n_stimuli
        k = rng.integers(0, n_stimuli, m)
        while (clash := (k == i) | (k == j)).any():
            k[clash] = rng.integers(0, n_stimuli, int(clash.sum()))
        triplets = np.stack([i, j, k], axis=1).astype(np.int32)
        logits = np.stack([similarity[j, k], similarity[i, k], similarity[i, j]], axis=1)
        odd = (logits + noise * rng.gumbel(size=logits.shape).astype(np.float32)).argmax(axis=1)
        order = np.array([[1, 2, 0], [0, 2, 1], [0, 1, 2]])[odd]
        parts.append(np.take_along_axis(triplets, order, axis=1))
    return np.concatenate(parts)


def start(n_stimuli: int, d: int) -> Moments:
    weights = seeds.generator(0, "start").normal(0.1, 0.01, (n_stimuli, d)).clip(0).astype(np.float32)
    return Moments(weights, np.zeros_like(weights), np.zeros_like(weights), 0)


class TorchLoop:
    """SPoSE as a torch training loop with autograd, `torch.optim.Adam` and a clamp after each step.

    With `one_hot`, a batch is the published formulation: a (3 · batch, n_stimuli) matrix of zeros and ones times the
    weights. Without, the rows are gathered.
    """

    def __init__(self, n_stimuli: int, d: int, one_hot: bool) -> None:
        self.weights = torch.nn.Parameter(torch.from_numpy(start(n_stimuli, d).weights.copy()))
        self._adam = torch.optim.Adam([self.weights], lr=0.001)
        self._eye = torch.eye(n_stimuli) if one_hot else None

    def step(self, batch: torch.Tensor) -> None:
        n_stimuli, d = self.weights.shape
        if self._eye is None:
            rows = self.weights[batch]
        else:
            rows = (self._eye[batch.reshape(-1)] @ self.weights).reshape(-1, 3, d)
        i, j, k = rows.unbind(1)
        pairs = [torch.einsum("bd,bd->b", a, b) for a, b in ((i, j), (i, k), (j, k))]
        cross_entropy = -torch.log_softmax(torch.stack(pairs, 1), 1)[:, 0].mean()
        loss = cross_entropy + L1 / n_stimuli * self.weights.abs().sum()
        self._adam.zero_grad()
        loss.backward()
        self._adam.step()
        with torch.no_grad():
            self.weights.clamp_(min=0)


class Case(NamedTuple):
    """One batch size to time: the choices, and how many batches of the torch loops stand for an epoch."""

    data: TrainingData
    dimensions: int
    batch_size: int
    n_one_hot: int
    n_gather: int


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def time_case(case: Case, rounds: int) -> dict[str, float]:
    """Return the median seconds an epoch takes for each contestant, timed in turn."""
    m, d, size = len(case.data.train), case.dimensions, case.batch_size
    rng = seeds.generator(0, "batches")
    loops = {
        "one-hot": (TorchLoop(case.data.n_stimuli, d, one_hot=True), case.n_one_hot),
        "gather": (TorchLoop(case.data.n_stimuli, d, one_hot=False), case.n_gather),
    }
    trainer = CpuTrainer(case.data, Settings(l1=L1, dimensions=d, batch_size=size), start(case.data.n_stimuli, d))
    n_blocks = -(-m // block_size(size))
    trainer.train_epoch(np.arange(n_blocks, dtype=np.int32), 0.0, RATE)  # compiles, and passes the steps of warm-up
    times: dict[str, list[float]] = {name: [] for name in [*loops, "affectlake"]}
    for turn in range(rounds + 1):
        for name, (loop, n) in loops.items():
            batches = torch.from_numpy(case.data.train[rng.integers(0, m, (n, size))]).long()
            took = seconds(lambda loop=loop, batches=batches: [loop.step(batch) for batch in batches])
            times[name].append(took / n * m / size)
        times["affectlake"].append(
            seconds(lambda: trainer.train_epoch(rng.permutation(n_blocks).astype(np.int32), 0.0, RATE))
        )
        if turn == 0:
            for values in times.values():
                values.clear()
    return {name: float(np.median(values)) for name, values in times.items()}


def print_speed(data: TrainingData, dimensions: int, rounds: int, quick: bool) -> None:
    print(
        f"Seconds an epoch of {len(data.train):,} triplets × {dimensions} dimensions, {data.n_stimuli:,} stimuli;"
        f" medians of {rounds}.\nThe torch loops: {torch.get_num_threads()} threads, scaled from part of an epoch."
        " affectlake: one thread.\n"
    )
    print("| batch | one-hot | torch gather | affectlake | times one-hot | times gather |")
    print("|---|---|---|---|---|---|")
    for size in BATCH_SIZES:
        budget = 1 if quick else 4
        n_one_hot, n_gather = max(2, budget * 5_000 // size), max(3, budget * 40_000 // size)
        found = time_case(Case(data, dimensions, size, n_one_hot, n_gather), rounds)
        ours = found["affectlake"]
        print(
            f"| {size:,} | {found['one-hot']:.1f} | {found['gather']:.2f} | {ours:.2f} "
            f"| {found['one-hot'] / ours:.0f} | {found['gather'] / ours:.1f} |",
            flush=True,
        )


def print_accuracy(quick: bool) -> None:
    """Print held-out loss and accuracy after equal epochs on the same planted choices, from the same start."""
    n_stimuli, d, n_epochs, size = 400, 12, 4 if quick else 16, 128
    choices = planted(n_stimuli, d, 60_000 if quick else 240_000, seeds.generator(0, "planted"))
    cut = len(choices) // 10
    data = training_data(choices[cut:], choices[:cut], n_stimuli, seeds.generator(0, "shuffle"))
    n, block = len(data.train), block_size(size)
    trainer = CpuTrainer(data, Settings(l1=L1, dimensions=d, batch_size=size), start(n_stimuli, d))
    loops = {
        "torch gather, the same batches": TorchLoop(n_stimuli, d, one_hot=False),
        "torch gather, rows shuffled singly": TorchLoop(n_stimuli, d, one_hot=False),
    }
    train, rng = torch.from_numpy(data.train).long(), seeds.generator(0, "epochs")
    for _ in range(n_epochs):
        order = rng.permutation(-(-n // block)).astype(np.int32)
        trainer.train_epoch(order, 0.0, RATE)
        blocks = (order[:, None] * block + np.arange(block)).ravel()
        for loop, rows in zip(loops.values(), (blocks[blocks < n], rng.permutation(n)), strict=True):
            for batch in train[torch.from_numpy(rows)].split(size):
                loop.step(batch)
    print(f"\nHeld out after {n_epochs} epochs at batch {size}, {n:,} triplets, {n_stimuli} stimuli:\n")
    print("| | loss (nats) | accuracy |")
    print("|---|---|---|")
    ours, _ = trainer.score(0.0)
    print(f"| affectlake | {ours.loss:.4f} | {ours.accuracy:.4f} |")
    for name, loop in loops.items():
        found = score(loop.weights.detach().numpy(), data.validation)
        print(f"| {name} | {found.loss:.4f} | {found.accuracy:.4f} |")


def print_floor(data: TrainingData, dimensions: int, rounds: int) -> None:
    """Print where an epoch's time goes, and the least that its arithmetic and its memory traffic could take."""
    m, width = len(data.train), -(-dimensions // LANES) * LANES
    x = padded(start(data.n_stimuli, dimensions).weights)
    gradient = aligned_rows(*x.shape)
    rng = seeds.generator(0, "floor")
    parts = {
        "shuffling (permutation of the blocks)": lambda: rng.permutation(-(-m // 64)).astype(np.int32),
        "similarities and softmax only": lambda: kernels.score(x, data.train, 0.0),
        "gradients (similarities, softmax, sums)": lambda: kernels.add_gradients(
            x, data.train, 0, m, 1e-30, 0.0, gradient
        ),
    }
    print(f"\nWhere {m:,} triplets × {dimensions} dimensions (rows of {width}) go, one thread, medians:\n")
    print("| part | seconds |")
    print("|---|---|")
    for name, run in parts.items():
        run()
        print(f"| {name} | {np.median([seconds(run) for _ in range(rounds)]):.3f} |", flush=True)
    torch.set_num_threads(1)
    square = torch.rand(2048, 2048)
    square @ square
    rate = 2048**3 / min(seconds(lambda: square @ square) for _ in range(5))
    print(
        f"| floor of the gradients: {9 * width} multiply-adds a triplet at this core's {rate / 1e9:.0f} G/s of a matrix"
        f" product | {m * 9 * width / rate:.3f} |"
    )
    for size in BATCH_SIZES:
        touched = data.n_stimuli * -math.expm1(-3 * size / data.n_stimuli)
        rows = m / size * touched
        print(
            f"| Adam at batch {size:,}: {rows / 1e6:.1f} M rows touched, {rows * width * 32 / 1e9:.1f} GB through the"
            f" caches | rest of the epoch |"
        )


def machine() -> str:
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "numba", "llvmlite", "torch")
    )
    python, date = platform.python_version(), f"{datetime.now(UTC):%Y-%m-%d}"
    return f"{cpu}, {torch.get_num_threads()} cores; Python {python}, {versions}; {date}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the triplets and two rounds: under a minute")
    parser.add_argument("--floor", action="store_true", help="also say where the time goes")
    parser.add_argument("--stimuli", type=int, default=2180)
    parser.add_argument("--triplets", type=int, default=6_410_000, help="training triplets")
    parser.add_argument("--dimensions", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    n_triplets, rounds = (asked.triplets // 10, 2) if asked.quick else (asked.triplets, asked.rounds)
    choices = planted(asked.stimuli, asked.dimensions, n_triplets + 1000, seeds.generator(0, "choices"))
    data = training_data(choices[1000:], choices[:1000], asked.stimuli, seeds.generator(0, "order"))
    print(machine() + "\n")
    print_speed(data, asked.dimensions, rounds, asked.quick)
    print_accuracy(asked.quick)
    if asked.floor:
        print_floor(data, asked.dimensions, rounds)


if __name__ == "__main__":
    main()
