"""The projector on planted maps: recovery, chance, early stopping, threads, and what it offers to edits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from affectlake.editing.network import rate, train
from affectlake.editing.projector import (
    Material,
    Parts,
    basis_of,
    better,
    divide,
    fit_mlp,
    fit_ridge,
    from_arrays,
    learn,
    score,
    token_r2,
)
from affectlake.editing.projector import _targets as targets_of
from affectlake.editing.settings import TrainingSettings
from affectlake.errors import SourceError

SHORT = TrainingSettings(
    width=48, epochs=40, warmup_epochs=5, batch_size=32, learning_rate=6e-3, tokens=10, patience=None
)


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def planted(n: int = 500, noise: float = 0.05, shuffled: bool = False, curved: bool = False, seed: int = 0) -> Material:
    """Tokens are a planted map of the embedding; joint features are another one, at length 1."""
    rng = np.random.default_rng(seed)
    x = rng.exponential(size=(n, 6)).astype(np.float32)
    seen = np.abs(x @ rng.normal(size=(6, 12))) if curved else x
    tokens = (seen @ rng.normal(size=(seen.shape[1], 3 * 8))).reshape(n, 3, 8) + 1
    language = seen @ rng.normal(size=(seen.shape[1], 16))
    tokens = tokens + noise * rng.normal(size=tokens.shape)
    vision = unit(language + noise * rng.normal(size=language.shape))
    made = Material(x, unit(language), vision, tokens.astype(np.float32))
    return made._replace(embedding=rng.permutation(x)) if shuffled else made


def fitted(every: Material, settings: TrainingSettings = SHORT):
    parts = divide(len(every.embedding), 0.15, np.random.default_rng(1))
    training, stopping, reported = (every.rows(rows) for rows in parts)
    basis = basis_of(training, 10)
    ridge, _ = fit_ridge(training, stopping, basis)
    mlp, trained = fit_mlp(training, stopping, basis, settings, np.random.default_rng(2))
    return mlp, ridge, trained, training, stopping, reported


def test_both_recover_a_planted_linear_map() -> None:
    mlp, ridge, _, _, stopping, reported = fitted(planted(n=400))
    rng = np.random.default_rng(3)
    own, other = score(mlp, reported, rng), score(ridge, reported, rng)
    assert other.token_r2 is not None and other.token_r2 > 0.99
    assert own.token_r2 is not None and own.token_r2 > 0.95
    assert own.language.top[10].value > other.language.top[10].value - 0.05
    assert own.vision is not None and own.vision.top[10].value > 0.9
    assert own.position_r2 is not None and (own.position_r2 > 0.9).all()
    assert better(mlp, ridge, stopping) == "ridge"


def test_the_perceptron_is_chosen_where_the_map_is_curved() -> None:
    mlp, ridge, _, _, stopping, reported = fitted(planted(n=600, curved=True))
    assert better(mlp, ridge, stopping) == "mlp"
    own, other = (score(one, reported, np.random.default_rng(3)).token_r2 for one in (mlp, ridge))
    assert own is not None and other is not None and own > other


def test_shuffled_embeddings_are_at_chance() -> None:
    mlp, ridge, _, _, _, reported = fitted(planted(n=200, shuffled=True))
    for one in (mlp, ridge):
        found = score(one, reported, np.random.default_rng(3))
        assert found.language.top[10].low <= 10 / found.language.n <= found.language.top[10].high
        assert found.token_r2 is not None and found.token_r2 < 0.05


def test_early_stopping_keeps_the_epoch_of_the_lowest_held_out_loss() -> None:
    settings = TrainingSettings(width=48, epochs=50, warmup_epochs=2, batch_size=64, learning_rate=3e-3, patience=6)
    every = planted(n=200, shuffled=True)
    mlp, _, trained, training, stopping, _ = fitted(every, settings)
    losses = [epoch.held_out_loss for epoch in trained.curve]
    assert trained.stopped == "patience"
    assert trained.kept_epoch == int(np.argmin(losses)) + 1
    assert len(losses) == trained.kept_epoch + 6
    again, short = fit_mlp(training, stopping, mlp.basis, TrainingSettings(**{**vars(settings), "patience": None}),
                           np.random.default_rng(2))  # fmt: skip
    assert short.kept_epoch == 50
    assert min(losses) < short.curve[-1].held_out_loss
    assert any((again.weights[name] != value).any() for name, value in mlp.weights.items())


def test_reported_videos_change_nothing_but_the_scores() -> None:
    every = planted(n=120)
    parts = divide(120, 0.15, np.random.default_rng(1))
    changed = every.language.copy()
    changed[parts.reported] = changed[parts.reported][::-1]
    settings = TrainingSettings(**{**vars(SHORT), "epochs": 4, "warmup_epochs": 1})
    first, second = fitted(every, settings), fitted(every._replace(language=changed), settings)
    for one, other in zip(first[:2], second[:2], strict=True):
        for name, value in one.weights.items():
            np.testing.assert_array_equal(value, other.weights[name])


def test_parts_are_disjoint_and_complete() -> None:
    parts: Parts = divide(101, 0.1, np.random.default_rng(0))
    assert sorted(np.concatenate(parts).tolist()) == list(range(101))
    assert [len(one) for one in parts] == [81, 10, 10]
    with pytest.raises(SourceError, match="too few videos"):
        divide(12, 0.1, np.random.default_rng(0))


def test_bytes_do_not_depend_on_the_number_of_threads() -> None:
    every = planted(n=150)
    settings = TrainingSettings(**{**vars(SHORT), "epochs": 3, "warmup_epochs": 1})
    found = []
    before = torch.get_num_threads()
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        torch.manual_seed(n_threads)
        state = torch.get_rng_state()
        found.append(fitted(every, settings)[0].arrays())
        assert torch.equal(torch.get_rng_state(), state)
    torch.set_num_threads(before)
    assert {name: value.tobytes() for name, value in found[0].items()} == {
        name: value.tobytes() for name, value in found[1].items()
    }


def test_a_projector_is_restored_from_its_arrays() -> None:
    settings = TrainingSettings(**{**vars(SHORT), "epochs": 2, "warmup_epochs": 1})
    mlp, ridge, _, training, _, reported = fitted(planted(n=120), settings)
    for one in (mlp, ridge):
        again = from_arrays(one.kind, one.arrays())
        tokens = again.tokens(reported.embedding)
        assert tokens.shape == (len(reported.embedding), 3, 8)
        np.testing.assert_array_equal(tokens, one.tokens(reported.embedding))
        np.testing.assert_array_equal(again.joint(reported.embedding), one.joint(reported.embedding))
    with pytest.raises(SourceError, match="do not fit the projector"):
        mlp.tokens(np.ones((2, 5)))
    alone, _ = fit_ridge(training._replace(tokens=None), reported, None)
    with pytest.raises(SourceError, match="has no tokens"):
        alone.tokens(reported.embedding)


def test_distances_are_in_units_of_the_usual_neighbour() -> None:
    grid = np.stack(np.meshgrid(np.arange(6.0), np.arange(6.0)), axis=-1).reshape(-1, 2) * 3
    every = Material(np.concatenate([grid, grid[:1]]), np.ones((37, 4), np.float32))
    ridge, _ = fit_ridge(every, every, None)
    assert ridge.usual_distance == pytest.approx(3)
    np.testing.assert_allclose(ridge.distance(np.array([[0.0, 0.0], [0.0, 21.0]])), [0, 2])


def test_the_rate_rises_linearly_and_falls_by_a_half_cosine() -> None:
    settings = TrainingSettings(epochs=30, warmup_epochs=10)
    found = [rate(step, 2, settings) for step in range(60)]
    np.testing.assert_allclose(found[:20], np.arange(1, 21) / 20)
    assert found[20] == 1
    assert found[40] == pytest.approx(0.5)
    assert found[59] < 0.01
    assert rate(59, 2, TrainingSettings(epochs=30, warmup_epochs=10, schedule="constant")) == 1


def test_a_diverged_training_says_so_and_keeps_finite_weights() -> None:
    every = planted(n=100)
    aims = targets_of(every._replace(tokens=None), None)
    settings = TrainingSettings(width=16, epochs=5, warmup_epochs=0, learning_rate=1e30)
    found = train(every.embedding, aims, (every.embedding, aims), settings, np.random.default_rng(0))
    assert found.stopped == "diverged"
    assert all(torch.isfinite(value).all() for value in found.network.state_dict().values())


def test_r2_of_tokens_is_zero_for_the_mean() -> None:
    tokens = np.random.default_rng(0).normal(size=(9, 2, 3)).astype(np.float32)
    mean = tokens.mean(axis=0)
    assert token_r2(np.broadcast_to(mean, tokens.shape), tokens, mean) == pytest.approx(0)


def test_learn_chooses_by_the_stopping_videos_and_scores_the_others() -> None:
    settings = TrainingSettings(**{**vars(SHORT), "epochs": 3, "warmup_epochs": 1})
    every = planted(n=150)
    found = learn(every, settings, np.random.default_rng(5), held_out=0.2, n_components=8)
    assert found.chosen == "ridge" == better(found.mlp, found.ridge, every.rows(found.parts.stopping))
    assert [one.language.n for one in found.scores.values()] == [30, 30]
    assert (
        found.scores["ridge"].token_r2
        == score(found.ridge, every.rows(found.parts.reported), np.random.default_rng(0)).token_r2
    )
    asked = learn(every, settings, np.random.default_rng(5), kind="mlp", held_out=0.2, n_components=8)
    assert asked.chosen == "mlp"
    for name, value in asked.mlp.arrays().items():
        np.testing.assert_array_equal(value, found.mlp.arrays()[name])


def test_material_that_does_not_fit_is_refused() -> None:
    every, rng = planted(n=60), np.random.default_rng(0)
    assert every.vision is not None
    with pytest.raises(SourceError, match="not of one space"):
        learn(every._replace(vision=every.vision[:, :9]), SHORT, rng)
    with pytest.raises(SourceError, match="one row per video"):
        learn(every._replace(language=every.language[1:]), SHORT, rng)
    with pytest.raises(SourceError, match="not finite"):
        learn(every._replace(embedding=every.embedding * np.nan), SHORT, rng)
