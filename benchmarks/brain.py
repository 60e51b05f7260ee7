"""Seconds a subject takes: encoding, stimulus reliability and searchlight RSA, beside the peers.

    python benchmarks/brain.py [--quick] [--voxels 100000] [--stimuli 2180] [--selected 1000]

Ours runs whole on every voxel. Each peer is timed on a slice that says so in the table and scaled: himalaya on some
voxels, SciPy and rsatoolbox on some spheres. Peers and product take turns on the slice, so that a busy machine slows
both; the factors come from the slice, the totals from the whole run. The second table says how far each is from its
floor: its multiply-adds at the speed of this machine's own matrix product.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import os
import platform
import resource
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.model_selection import PredefinedSplit
from threadpoolctl import threadpool_limits

from affectlake.brain.encoding.crossvalidation import PENALTIES, encode
from affectlake.brain.encoding.folds import Folds, nested_folds
from affectlake.brain.encoding.gram import GramSolver
from affectlake.brain.encoding.reliability import leave_one_out, most_reliable
from affectlake.brain.searchlight import kernels
from affectlake.brain.searchlight.search import search
from affectlake.brain.searchlight.spheres import Spheres, make_spheres, sphere_offsets
from affectlake.rsm import correlation_rsm

DIMENSIONS, AGENTS, RADIUS = 30, 5, 3


class World(NamedTuple):
    """A subject: features of each agent (n, 30), responses float32 (n, v), spheres, and folds."""

    agents: list[NDArray[np.float64]]
    responses: NDArray[np.float32]
    spheres: Spheres
    folds: Folds


def make_world(n: int, n_voxels: int) -> World:
    rng = np.random.default_rng(0)
    agents = [np.abs(rng.normal(size=(n, DIMENSIONS))) * (rng.random((n, DIMENSIONS)) < 0.3) for _ in range(AGENTS)]
    side = 2 * int(np.ceil((n_voxels / np.pi * 0.75) ** (1 / 3))) + 1  # a ball of as many voxels
    steps = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1) - side // 2
    nearest = np.argsort((steps**2).sum(-1).ravel(), kind="stable")[:n_voxels]
    mask = np.zeros(side**3, dtype=bool)
    mask[nearest] = True
    responses = np.empty((n, n_voxels), dtype=np.float32)
    for first in range(0, n_voxels, 5000):
        part = responses[:, first : first + 5000]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32)
        part += (agents[0] @ rng.normal(size=(DIMENSIONS, part.shape[1])) * 0.2).astype(np.float32)
        part -= part.mean(0)
        part /= part.std(0)
    spheres = make_spheres(np.argwhere(mask.reshape((side,) * 3)), sphere_offsets(RADIUS))
    return World(agents, responses, spheres, nested_folds(n, 5, 6, rng))


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def in_turn(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run))
    return {name: float(np.median(values)) for name, values in times.items()}


def himalaya(world: World, voxels: slice) -> NDArray[np.float64]:
    """Return r (v,) of himalaya's RidgeCV on the same folds, mean over them."""
    from himalaya.ridge import RidgeCV

    x, y = world.agents[0], world.responses[:, voxels].astype(np.float64)
    found = []
    for fold, inner in enumerate(world.folds.inner):
        train, test = inner >= 0, world.folds.outer == fold
        model = RidgeCV(alphas=PENALTIES, fit_intercept=True, cv=PredefinedSplit(inner[train]))
        predicted = model.fit(x[train], y[train]).predict(x[test])
        p, o = predicted - predicted.mean(0), y[test] - y[test].mean(0)
        found.append((p * o).sum(0) / np.sqrt((p**2).sum(0) * (o**2).sum(0)))
    return np.mean(found, axis=0)


def scipy_sphere(world: World, rsms: NDArray[np.float64], rows: NDArray[np.int64], centre: int) -> list[float]:
    upper = np.triu_indices(len(rows), 1)
    mine = np.corrcoef(world.responses[np.ix_(rows, world.spheres.members(centre))])[upper]
    return [float(stats.spearmanr(mine, rsm[upper]).statistic) for rsm in rsms]


def rsatoolbox_spheres(responses: NDArray[np.float32], spheres: Spheres, rsms: NDArray[np.float64], centres: list[int]):
    """Compare spheres with models as rsatoolbox's searchlight does, on one process."""
    from rsatoolbox.inference import eval_fixed
    from rsatoolbox.model import ModelFixed
    from rsatoolbox.util.searchlight import evaluate_models_searchlight, get_searchlight_RDMs

    upper = np.triu_indices(len(responses), 1)
    models = [ModelFixed(f"model {i}", 1 - rsm[upper]) for i, rsm in enumerate(rsms)]
    neighbours = [spheres.members(centre) for centre in centres]
    with contextlib.redirect_stderr(io.StringIO()):
        rdms = get_searchlight_RDMs(responses, centres, neighbours, np.arange(len(responses)), verbose=False)
        return evaluate_models_searchlight(rdms, models, eval_fixed, method="spearman", n_jobs=1)


def multiply_adds(dtype: type) -> float:
    """Return the multiply-adds a second of one thread's matrix product, in G."""
    a = np.random.default_rng(0).normal(size=(1024, 1024)).astype(dtype)
    with threadpool_limits(1):
        a @ a
        return 1024**3 / min(seconds(lambda: a @ a) for _ in range(5)) / 1e9


def time_encoding(world: World, threads: int, rounds: int, slice_: int) -> list[str]:
    x, y, n_voxels = world.agents[0], world.responses, world.responses.shape[1]
    encode(x, y[:, :512], world.folds)
    whole = seconds(lambda: encode(x, y, world.folds, workers=threads))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    some = slice(0, slice_)
    mine = encode(x, y[:, some], world.folds, workers=threads)
    difference = np.abs(himalaya(world, some) - mine.r).max()

    def alone() -> None:
        with threadpool_limits(1):  # on a busy machine a second BLAS thread waits more than it works
            himalaya(world, some)

    times = in_turn(
        {
            "ours": lambda: encode(x, y[:, some], world.folds, workers=threads),
            f"{threads} threads": lambda: himalaya(world, some),
            "one thread": alone,
        },
        rounds,
    )
    ours = times.pop("ours")
    return [
        f"| encoding, {len(x):,} stimuli × {DIMENSIONS} dimensions, 5 × 6 folds × 100 λ | affectlake | {whole:.1f} "
        f"| 1 | whole; peak memory of the run {peak:.1f} GB, {y.nbytes / 1e9:.1f} of it the responses |",
        *(
            f"| | himalaya RidgeCV, {name} | {took * n_voxels / slice_:,.0f} | {took / ours:.0f} | {slice_:,} voxels, "
            f"median of {rounds} in turn, scaled; largest difference of r {difference:.1e} |"
            for name, took in times.items()
        ),
    ]


def time_reliability(world: World, threads: int) -> tuple[list[str], NDArray[np.int64], float]:
    x, y = world.agents[0], world.responses
    penalties = PENALTIES[np.random.default_rng(1).integers(40, 90, y.shape[1])]
    whole = seconds(lambda: leave_one_out(x, y, penalties, workers=threads))
    found = leave_one_out(x, y, penalties, workers=threads)
    return (
        [f"| leave-one-out reliability of {len(x):,} stimuli, λ per voxel | affectlake | {whole:.1f} | 1 | whole |"],
        found.r,
        whole,
    )


def time_searchlight(world: World, rows: NDArray[np.int64], threads: int, rounds: int) -> list[str]:
    rsms = np.stack([correlation_rsm(agent[rows] + 1e-9) for agent in world.agents])
    responses = world.responses[rows]
    few = make_spheres(np.argwhere(np.ones((4, 4, 4))), sphere_offsets(RADIUS))
    search(responses[:, :64], few, rsms)  # compiles
    whole = seconds(lambda: search(responses, world.spheres, rsms, workers=threads))
    full = np.flatnonzero(world.spheres.counts() == len(sphere_offsets(RADIUS)))
    chosen = full[:: max(1, len(full) // 40)][:40].astype(np.int32)
    small = 300
    tables = {n: np.ascontiguousarray(responses[:n].T) for n in (len(rows), small)}
    models = kernels.model_ranks(rsms)

    def ours(centres: NDArray[np.int32], n: int, compared: NDArray[np.float32], exact: bool) -> NDArray[np.float32]:
        found = np.empty((AGENTS, len(centres)), np.float32)
        s = world.spheres
        kernels.run_spheres(tables[n], s.grid, s.places, s.offsets, centres, 20, compared, exact, found)
        return found

    few_rsms = rsms[:, :small, :small]
    few_models = kernels.model_ranks(few_rsms)
    with threadpool_limits(1):
        got = [ours(chosen[:3], len(rows), models, exact) for exact in (False, True)]
        truth = np.array([scipy_sphere(world, rsms, rows, int(c)) for c in chosen[:3]]).T
        times = in_turn(
            {
                "counted": lambda: ours(chosen, len(rows), models, False),
                "exact": lambda: ours(chosen, len(rows), models, True),
                "scipy": lambda: scipy_sphere(world, rsms, rows, int(chosen[0])),
                "counted, 300": lambda: ours(chosen, small, few_models, False),
                "rsatoolbox, 300": lambda: rsatoolbox_spheres(
                    responses[:small], world.spheres, few_rsms, chosen[:4].tolist()
                ),
            },
            rounds,
        )
    ms = {
        name: 1e3 * value / {"scipy": 1, "rsatoolbox, 300": 4}.get(name, len(chosen)) for name, value in times.items()
    }
    n_spheres = len(world.spheres.places)
    errors = [float(np.abs(g - truth).max()) for g in got]
    return [
        f"| searchlight RSA, {len(rows):,} stimuli, radius {RADIUS}, {AGENTS} agents, {n_spheres:,} spheres "
        f"| affectlake | {whole:.0f} | 1 | whole, {threads} threads |",
        f"| one sphere of {len(sphere_offsets(RADIUS))} voxels, one thread (ms) | affectlake | {ms['counted']:.2f} | 1 "
        f"| median of {rounds} × {len(chosen)}; differs from SciPy by {errors[0]:.1e} |",
        f"| | affectlake, exact ranks | {ms['exact']:.2f} | {ms['exact'] / ms['counted']:.1f} "
        f"| differs from SciPy by {errors[1]:.1e} |",
        f"| | numpy.corrcoef, scipy.stats.spearmanr per model | {ms['scipy']:,.0f} | {ms['scipy'] / ms['counted']:.0f} "
        f"| one sphere, median of {rounds} |",
        f"| one sphere at {small} stimuli, one thread (ms) | affectlake | {ms['counted, 300']:.2f} | 1 | |",
        f"| | rsatoolbox | {ms['rsatoolbox, 300']:.0f} | {ms['rsatoolbox, 300'] / ms['counted, 300']:.0f} "
        f"| four spheres, one process |",
    ]


def floors(world: World, rows: NDArray[np.int64]) -> list[str]:
    """Return rows that say where the time goes on one thread, and what the multiply-adds alone would take."""
    single, double = multiply_adds(np.float32), multiply_adds(np.float64)
    n = len(world.responses)
    x = world.agents[0]
    solver = GramSolver(x, world.folds, PENALTIES, False)
    ranks = [fold.curves.shape[1] for fold in solver._folds]
    products = DIMENSIONS + DIMENSIONS * (DIMENSIONS + 1) // 2
    adds = n * DIMENSIONS + 6 * sum(ranks) * products + 30 * 2 * DIMENSIONS**2 + 100 * sum(ranks)  # a voxel
    with threadpool_limits(1):
        many, once = world.responses[:, :8192], seconds(lambda: GramSolver(x, world.folds, PENALTIES, False))
        took = (seconds(lambda: encode(x, many, world.folds)) - once) / many.shape[1] * 1e6
        chosen = np.full(many.shape[1], PENALTIES[60])
        left_out = seconds(lambda: leave_one_out(x, many, chosen)) / many.shape[1] * 1e6
        lines = [
            f"| encoding | preparing, once (s) | {once:.2f} | | {5 * 7} eigendecompositions, five SVDs |",
            f"| reliability | a voxel (µs) | {left_out:.0f} | {2 * n * DIMENSIONS / double / 1e3:.1f} "
            f"| {2 * n * DIMENSIONS:,} multiply-adds in float64 |",
            f"| encoding | a voxel (µs) | {took:.0f} | {adds / double / 1e3:.0f} "
            f"| {adds:,} multiply-adds in float64 (rank of the error curves {min(ranks)} to {max(ranks)} for 100 λ), "
            f"at {double:.0f} G/s |",
        ]
        m, selected = len(sphere_offsets(RADIUS)), len(rows)
        n_pairs = selected * (selected - 1) // 2
        table = np.ascontiguousarray(world.responses[rows].T)
        centre = int(np.flatnonzero(world.spheres.counts() == m)[0])
        rsms = np.stack([correlation_rsm(agent[rows] + 1e-9) for agent in world.agents])
        models = kernels.model_ranks(rsms)
        unit, panel = np.empty((selected, m), np.float32), np.empty(kernels.PANEL * selected, np.float32)
        codes, counts = np.empty(n_pairs, np.uint16), np.zeros(kernels.BINS, np.int32)
        ranks_, sums = np.zeros(kernels.BINS, np.float32), np.zeros(AGENTS)
        members = world.spheres.members(centre)
        parts: dict[str, tuple[Callable[[], object], float, str]] = {
            "patterns, centred": (
                lambda: kernels.patterns_of(table, members, unit), 0.0, f"{m * selected * 4 / 1e6:.1f} MB read"
            ),
            "RSM and bins": (
                lambda: kernels.code_pairs(unit, panel, codes, counts), n_pairs * m / single / 1e6,
                f"{n_pairs * m / 1e6:.0f} M multiply-adds in float32 at {single:.0f} G/s; {n_pairs:,} increments",
            ),
            "ranks of the bins": (lambda: kernels.rank_table(counts, ranks_, n_pairs), 0.0, f"{kernels.BINS:,} bins"),
            "comparison": (
                lambda: kernels.compare_codes(codes, ranks_, models, sums), AGENTS * n_pairs / single / 1e6,
                f"{models.nbytes / 1e6:.0f} MB of models streamed, {n_pairs:,} look-ups",
            ),
        }  # fmt: skip
        for name, (run, floor, why) in parts.items():
            run()
            took = float(np.median([seconds(run) for _ in range(50)])) * 1e3
            lines.append(f"| searchlight | {name}, a sphere (ms) | {took:.2f} | {floor:.2f} | {why} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small subject, for trying the script out")
    parser.add_argument("--voxels", type=int, default=100_000)
    parser.add_argument("--stimuli", type=int, default=2180)
    parser.add_argument("--selected", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if asked.quick:
        asked.voxels, asked.stimuli, asked.selected, asked.rounds = 3000, 600, 320, 1
    threads = len(os.sched_getaffinity(0))
    names = ("numpy", "numba", "scipy", "himalaya", "rsatoolbox")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {threads} cores, {versions}\n", flush=True
    )
    world = make_world(asked.stimuli, asked.voxels)
    print(f"one subject, {asked.voxels:,} voxels\n")
    print("| work | formulation | seconds | times as long | how measured |\n|---|---|---|---|---|")
    for line in time_encoding(world, threads, asked.rounds, min(1000, asked.voxels)):
        print(line, flush=True)
    lines, r, _ = time_reliability(world, threads)
    print(*lines, sep="\n", flush=True)
    rows = most_reliable(r, asked.selected)
    print(*time_searchlight(world, rows, threads, asked.rounds), sep="\n", flush=True)
    print(f"\npeak memory of the run {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB\n")
    print("| work | part, one thread | takes | floor | the floor is |\n|---|---|---|---|---|")
    print(*floors(world, rows), sep="\n", flush=True)


if __name__ == "__main__":
    main()
