"""Coverage of the intervals of counts: those of graphs, necessary components, and saturation points.

    python -m benchmarks.validity.counts [--studies 1000] [--cases graphs components saturation] [--graphs 100]

Graphs: 12 dimensions, of which three groups of three have a common cause each and the others are alone. The truth is
the graph of the true correlations. Each takes about a second, so that there are fewer of them (`--graphs`). Components:
an agent that chooses by an embedding of 300 stimuli and 12 dimensions, which is also the fit; the truth is that of
400,000 other judgments. Saturation: a curve of accuracies that rises to 0.6, with noise in each replicate; the truth is
that of the curve without noise.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.estimates import Estimate
from affectlake.geometry.graph_estimates import graph_estimates
from affectlake.geometry.reduction import components_below, necessary_components, saturation, strongest
from affectlake.spose.model import score
from benchmarks.validity.cells import share

Array = NDArray[np.float64]
Named = Iterator[tuple[str, Estimate, float]]  # quantity, estimate, truth
GRAPHS = (
    (True, 300, 0.4), (True, 300, 0.25), (True, 300, 0.15), (True, 2181, 0.25), (False, 300, 0.25), (False, 2181, 0.4),
    (False, 2181, 0.25), (False, 2181, 0.15),
)  # fmt: skip
SETTINGS = (2, 5, 10, 15, 20, 25, 30, 40)


def dimensions(rng: np.random.Generator, n: int, normal: bool, within: float) -> Array:
    """Return an embedding whose dimensions correlate by `within` in three groups of three, and three that are alone."""
    causes = rng.normal(size=(n, 15)) if normal else rng.gamma(0.3, 0.3**-0.5, (n, 15))
    common = np.repeat(causes[:, 12:], 3, axis=1)
    grouped = within**0.5 * common + (1 - within) ** 0.5 * causes[:, :9]
    return np.hstack([grouped, causes[:, 9:12]])


def graphs(rng: np.random.Generator, n: int, normal: bool, within: float) -> Named:
    """Yield the counts of a graph with their true values."""
    found = graph_estimates(dimensions(rng, n, normal, within), 0, rng, absolute=False, n_shuffled=0)
    joined = within > 0.2
    modularity = 2 / 3 if joined else float("nan")  # three equal communities without an edge between them
    truths = (3.0, 3.0, modularity, 9.0) if joined else (12.0, 0.0, modularity, 0.0)
    for (name, one), truth in zip(found._asdict().items(), truths, strict=True):
        yield name, one, truth


def judgments(rng: np.random.Generator, weights: Array, n: int) -> NDArray[np.int32]:
    """Return judgments of random triplets by an embedding, the odd one last."""
    triplets = rng.integers(0, len(weights), (2 * n, 3))
    i, j, k = triplets.T
    triplets = triplets[(i != j) & (j != k) & (i != k)][:n]
    a, b, c = (weights[column] for column in triplets.T)
    logits = np.stack([(b * c).sum(1), (a * c).sum(1), (a * b).sum(1)], axis=1)
    odd = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    order = np.array([[1, 2, 0], [0, 2, 1], [0, 1, 2]])[odd]
    return np.take_along_axis(triplets, order, axis=1).astype(np.int32)


RULES = (("above 95 %", necessary_components, 0.95), ("above 99 %", necessary_components, 0.99),
         ("below 99 %", components_below, 0.99))  # fmt: skip


def components() -> Callable[[np.random.Generator, int], Named]:
    """Return a study of the necessary components of one embedding, with n judgments."""
    rng = np.random.default_rng(0)
    weights = (rng.gamma(0.6, 1.0, (300, 12)) * np.linspace(1.3, 0.3, 12)).astype(np.float32)
    reduced = [strongest(weights, k) for k in range(1, 13)]
    true = judgments(rng, weights, 400_000)
    curve = [score(one, true).accuracy for one in reduced]
    truths = [rule(curve, len(true), part).value for _, rule, part in RULES]

    def study(rng: np.random.Generator, n: int) -> Named:
        judged = judgments(rng, weights, n)
        accuracies = [score(one, judged).accuracy for one in reduced]
        for (name, rule, part), truth in zip(RULES, truths, strict=True):
            yield name, rule(accuracies, len(judged), part), truth

    return study


def saturations(rng: np.random.Generator, replicates: int, noise: float, scale: float) -> Named:
    """Yield the saturation point of a noisy curve with its true value."""
    curve = 0.6 - 0.25 * np.exp(-np.array(SETTINGS) / scale)
    truth = SETTINGS[int(np.argmax(curve >= 0.99 * curve.max()))]
    values = curve[:, None] + noise * rng.normal(size=(len(SETTINGS), replicates))
    yield "saturation", saturation(SETTINGS, values, rng), float(truth)


def show(name: str, studies: Iterator[Named]) -> None:
    """Print a row for each quantity of a case."""
    kept: dict[str, list[tuple[Estimate, float]]] = defaultdict(list)
    for study in studies:
        for quantity, one, truth in study:
            kept[quantity].append((one, truth))
    for quantity, rows in kept.items():
        defined = [(one, truth) for one, truth in rows if not np.isnan(one.ci_low) and not np.isnan(truth)]
        if not defined:
            continue
        ends = np.array([(one.value, one.ci_low, one.ci_high, truth) for one, truth in defined])
        holds = (ends[:, 1] <= ends[:, 3]) & (ends[:, 3] <= ends[:, 2])
        truth, value, low, high = (f"{mean:.3g}" for mean in ends[:, [3, 0, 1, 2]].mean(axis=0))
        exact = float(np.mean(np.abs(ends[:, 0] - ends[:, 3]) < 1e-9))
        numbers = f"{len(defined)} of {len(rows)} | {truth} | {value} | {low} to {high} | {exact:.0%} | {share(holds)}"
        print(f"| {name} | {quantity} | {numbers} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--graphs", type=int, default=100)
    parser.add_argument("--cases", nargs="+", default=["graphs", "components", "saturation"])
    asked = parser.parse_args()
    print("| case | quantity | studies | truth | mean value | mean interval | value exact | interval holds it |")
    print("|---" * 8 + "|")

    def rngs(n: int) -> Iterator[np.random.Generator]:
        return (np.random.default_rng([8, seed]) for seed in range(n))

    if "graphs" in asked.cases:
        for normal, n, r in GRAPHS:
            kind = "normal" if normal else "sparse"
            show(f"{kind}, {n:,} stimuli, r = {r}", (graphs(rng, n, normal, r) for rng in rngs(asked.graphs)))
    if "components" in asked.cases:
        study = components()
        for n in (500, 5000, 50_000):
            show(f"{n:,} judgments", (study(rng, n) for rng in rngs(asked.studies)))
    if "saturation" in asked.cases:
        for replicates in (2, 3, 10):
            for noise in (0.001, 0.005):
                for scale in (3.0, 4.0):
                    name = f"{replicates} replicates, s.d. {noise:.1%}, scale {scale:g}"
                    show(name, (saturations(rng, replicates, noise, scale) for rng in rngs(asked.studies)))


if __name__ == "__main__":
    main()
