"""Which scaling of the affective dimensions reproduces the paper's Extended Data Table 1 (human-dimension).

Run with ``python benchmarks/validity/scaling.py --data FOLDER``, with the folder of the file
``CowenKeltnerEmotionalVideos.csv`` (Cowen & Keltner 2017). For each scaling and seed, it draws the triplets, chooses by
cosine similarity, fits an embedding, and prints a row of a Markdown table: the agreement with the published table, the
strongest dimension with low valence (the paper's fourth component), the number of isolated dimensions, and the numbers
of necessary components by both rules. Fits have the settings of the emotion study and end when they have converged;
each takes about a minute.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake import triplets as trials
from affectlake.geometry.correlations import rating_correlations
from affectlake.geometry.fingerprint import PublishedLabel, fingerprint
from affectlake.geometry.graphs import emotion_graph
from affectlake.geometry.reduction import components_below, necessary_components, strongest
from affectlake.judge.vectors.ratings import families_of, rating_matrix, rating_vectors
from affectlake.judge.vectors.similarity import choose_by_cosine
from affectlake.pipelines.params.study import parse
from affectlake.pipelines.params.templates import starting_params
from affectlake.spose.data import training_data
from affectlake.spose.fitting import fit
from affectlake.spose.model import score
from affectlake.spose.settings import Settings
from affectlake.stimuli import Study, load_emotion, prototypes
from affectlake.triplet_sampling import sample_dyads, sample_pairs

TABLE = Path(__file__).parents[2] / "tests" / "fixtures" / "extended_data_table_1.csv"
EXCLUDED = (859, 866, 1673, 2157)
LOW = ("valence", "control", "upswing")  # labels of the paper's fourth component
Embedding = NDArray[np.float32]


def published(system: str) -> list[PublishedLabel]:
    """Return the published labels of one system."""
    rows = pl.read_csv(TABLE).filter(pl.col("system") == system)
    return [PublishedLabel(*row) for row in rows.select("component", "rating", "r").iter_rows()]


def judgments(study: Study, family: str, scaling: str, seed: int) -> tuple[NDArray[np.int32], ...]:
    """Return the judgments of a simulated agent to train, held out, and among three prototypes, the odd one last."""
    n = study.stimuli.height
    vectors = rating_vectors(study.ratings, families_of(study.families, family, scaling), n)
    rng = np.random.default_rng([2025, seed])
    main = sample_dyads(n, rng)
    held_out = trials.split(len(main), 0.1, rng)
    pairs = sample_pairs(prototypes(study.ratings, study.families), n, 100, rng, exclude=main)
    among = pairs[np.isin(pairs, prototypes(study.ratings, study.families)).all(axis=1)]
    sets = (main[~held_out], main[held_out], among)
    return tuple(trials.odd_last(some, choose_by_cosine(vectors, some, rng).odd) for some in sets)


def needed(weights: Embedding, judged: NDArray[np.int32]) -> list[float]:
    """Return the accuracies with 1, 2, … components of each stimulus."""
    return [score(strongest(weights, k), judged).accuracy for k in range(1, weights.shape[1] + 1)]


def row(study: Study, family: str, scaling: str, seed: int, settings: Settings) -> str:
    """Fit one embedding and return its row of the table."""
    started = time.perf_counter()
    train, held_out, of_prototypes = judgments(study, family, scaling, seed)
    rng = np.random.default_rng([7, seed])
    found = fit(training_data(train, held_out, study.stimuli.height, rng), settings, rng)
    weights = found.weights[:, np.argsort(-found.weights.sum(axis=0), kind="stable")]
    ratings = rating_matrix(study.ratings, study.stimuli.height)
    r = rating_correlations(weights, ratings.scores).r
    agreement = fingerprint(r, ratings.names, published(f"human-{family}"))
    low = r[:, [ratings.names.index(name) for name in LOW]]
    at = int(low[:, 0].argmin())
    graph = emotion_graph(weights, 0, absolute=False)
    accuracies = needed(weights, held_out), needed(weights, of_prototypes)
    n = len(held_out), len(of_prototypes)
    text = [necessary_components(accuracies[0], n[0], share).value for share in (0.95, 0.99)]
    predecessor = [
        (necessary_components(one, size, 0.95).value, components_below(one, size, 0.99).value)
        for one, size in zip(accuracies, n, strict=True)
    ]
    epochs = f"{len(found.curve) - 1}{'' if found.converged else ' (not converged)'}"
    cells = [
        scaling, seed, epochs, weights.shape[1], f"{accuracies[0][-1]:.2%}", f"{agreement.distance:.3f}",
        f"{agreement.order:.2f}", f"{', '.join(f'{value:.3f}' for value in low[at])} ({at + 1})",
        f"{', '.join(f'{r[:, ratings.names.index(name)].max():.3f}' for name in ('approach', 'safety', 'valence'))}",
        graph.n_isolated, graph.n_communities, f"{text[0]:.0f} to {text[1]:.0f}",
        *(f"{low_end:.0f} to {high_end:.0f}" for low_end, high_end in predecessor),
        f"{(time.perf_counter() - started) / 60:.1f}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--family", choices=("category", "dimension"), default="dimension")
    parser.add_argument("--scalings", nargs="+", default=["raw", "minmax", "midpoint", "centred", "zscore"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    chosen = parser.parse_args()
    study = load_emotion(chosen.data / "CowenKeltnerEmotionalVideos.csv", None, EXCLUDED)
    settings = parse(starting_params("emotion")).settings(f"human-{chosen.family}")
    heads = [
        "scaling", "seed", "epochs", "dimensions", "held-out accuracy", "distance", "order",
        "low valence, control, upswing (rank)", "approach, safety, valence", "isolated", "communities",
        "components, held out", "by the predecessor's rule, held out", "the same, prototypes", "minutes",
    ]  # fmt: skip
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for seed in chosen.seeds:
        for scaling in chosen.scalings:
            print(row(study, chosen.family, scaling, seed, settings), flush=True)


if __name__ == "__main__":
    main()
