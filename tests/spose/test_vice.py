"""Variational SPoSE: gradients against torch, the posterior against samples, planted embeddings, and intervals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import false_discovery_control, norm

from affectlake.spose import kernels as choices_kernels
from affectlake.spose.data import TrainingData, training_data
from affectlake.spose.model import choice_probabilities
from affectlake.spose.state import aligned_rows
from affectlake.spose.vice import kernels
from affectlake.spose.vice.calibration import calibrate, partners
from affectlake.spose.vice.fitting import ViceFit, fit_posterior, learning_rate
from affectlake.spose.vice.posterior import Posterior, deviations, kept, n_described, positive, weights
from affectlake.spose.vice.settings import ViceSettings

N, D, M = 60, 5, 20_000
SETTINGS = ViceSettings(dimensions=20)


def planted(seed: int = 0, n: int = N, d: int = D) -> np.ndarray:
    rng = np.random.default_rng(seed)
    used = rng.random((n, d)) < 0.3
    used[np.arange(n), rng.integers(0, d, n)] = True
    return (used * rng.gamma(3.0, 0.5, (n, d))).astype(np.float32)


def judged(truth: np.ndarray, m: int = M, seed: int = 1) -> TrainingData:
    """Judgments of random triplets with the choice probabilities of an embedding."""
    rng = np.random.default_rng(seed)
    triplets = rng.random((m, len(truth))).argpartition(3, axis=1)[:, :3].astype(np.int32)
    odd = (rng.random((m, 1)) > choice_probabilities(truth, triplets).cumsum(axis=1)[:, :2]).sum(axis=1)
    rows = np.take_along_axis(triplets, np.array([[1, 2, 0], [0, 2, 1], [0, 1, 2]])[odd], axis=1)
    return training_data(rows[m // 10 :], rows[: m // 10], len(truth), rng)


def fitted(data: TrainingData, seed: int = 0, settings: ViceSettings = SETTINGS) -> ViceFit:
    return fit_posterior(data, settings, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def found() -> ViceFit:
    return fitted(judged(planted()))


def test_steps_are_those_of_autograd_and_adam() -> None:
    """Three steps of the kernels beside torch: the loss from distributions of torch, differentiated by autograd."""
    rng = np.random.default_rng(3)
    n, d, m = 12, 5, 400
    triplets = np.array([rng.choice(n, 3, replace=False) for _ in range(90)], np.int32)
    mean, log_sd = rng.normal(0.2, 0.4, (n, d)).astype(np.float32), rng.normal(-1.5, 0.5, (n, d)).astype(np.float32)
    own = kernels.Variables(mean.copy(), log_sd.copy(), *(np.zeros((n, d), np.float32) for _ in range(4)))
    x, gradient, pool = aligned_rows(n, 16), aligned_rows(n, 16), rng.standard_normal(1000, dtype=np.float32)
    prior = kernels.prior_terms(0.25, 1.0, 0.4)
    variables = [torch.tensor(part.astype(float), requires_grad=True) for part in (mean, log_sd)]
    adam = torch.optim.Adam(variables, lr=0.01)
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.tensor([0.4, 0.6])),
        torch.distributions.Normal(torch.zeros(2, dtype=torch.float64), torch.tensor([0.25, 1.0], dtype=torch.float64)),
    )
    for number in (1, 2, 3):
        starts = rng.integers(0, 900, n)
        kernels.sample(own.mean, own.log_sd, pool, starts, x)
        choices_kernels.add_gradients(x, triplets, 0, len(triplets), 1 / len(triplets), 0.0, gradient)
        bias = (1 - 0.999**number) ** 0.5
        rule = kernels.AdamRule(0.01 * bias / (1 - 0.9**number), 0.9, 0.999, 1e-8 * bias)
        kernels.step(own, pool, starts, gradient, 1 / m, prior, rule)
        assert not gradient.any()

        noise = torch.tensor(np.stack([pool[at : at + d] for at in starts]).astype(float))
        w = variables[0] + variables[1].exp() * noise
        i, j, k = (torch.relu(w)[torch.tensor(column).long()] for column in triplets.T)
        similarities = torch.stack([(i * j).sum(1), (i * k).sum(1), (j * k).sum(1)], 1)
        posterior = torch.distributions.Normal(variables[0], variables[1].exp())
        loss = -torch.log_softmax(similarities, 1)[:, 0].mean()
        loss = loss + (posterior.log_prob(w) - mixture.log_prob(w)).sum() / m
        adam.zero_grad()
        loss.backward()
        adam.step()
        for mine, other in zip(own, variables, strict=False):
            np.testing.assert_allclose(mine, other.detach().numpy(), atol=2e-4)


def test_summaries_are_those_of_samples() -> None:
    rng = np.random.default_rng(0)
    posterior = Posterior(np.array([[-0.5, 0.1, 2.0]], np.float32), np.array([[0.4, 0.3, 0.5]], np.float32))
    drawn = np.maximum(rng.normal(posterior.mean, posterior.sd, (400_000, 3)), 0)
    np.testing.assert_allclose(weights(posterior)[0], drawn.mean(0), atol=3e-3)
    np.testing.assert_allclose(deviations(posterior)[0], drawn.std(0), atol=3e-3)
    np.testing.assert_allclose(positive(posterior)[0], (drawn > 0).mean(0), atol=3e-3)


def test_described_stimuli_are_those_of_the_false_discovery_rate() -> None:
    rng = np.random.default_rng(1)
    posterior = Posterior(rng.normal(0.5, 1, (40, 6)).astype(np.float32), np.full((40, 6), 0.4, np.float32))
    p = norm.cdf(0, posterior.mean.astype(float), posterior.sd.astype(float))
    wanted = (false_discovery_control(p, axis=0) <= 0.05).sum(axis=0)
    np.testing.assert_array_equal(n_described(posterior), wanted)
    assert len(set(wanted)) > 1
    assert sorted(kept(posterior, int(np.median(wanted)))) == list(np.flatnonzero(wanted > np.median(wanted)))


def test_the_number_of_planted_dimensions_is_found(found: ViceFit) -> None:
    truth = planted()
    assert found.stopped == "converged"
    assert found.posterior.mean.shape[1] == D
    own, others = partners(truth, weights(found.posterior))
    assert len(own) == D
    r = [np.corrcoef(truth[:, a], weights(found.posterior)[:, b])[0, 1] for a, b in zip(own, others, strict=True)]
    assert min(r) > 0.9
    mass = weights(found.posterior).sum(axis=0)
    assert (np.diff(mass) <= 0).all()


def test_the_fit_is_about_as_good_as_the_planted_embedding(found: ViceFit) -> None:
    truth, test = planted(), judged(planted(), 40_000, seed=9).train
    own, best = (choice_probabilities(one, test)[:, 2] for one in (weights(found.posterior), truth))
    assert -np.log(own).mean() < -np.log(best).mean() + 0.02


def test_guesses_have_no_dimension() -> None:
    data = judged(planted(), 8000)
    rng = np.random.default_rng(0)
    guesses = replace(data, train=np.ascontiguousarray(rng.permuted(data.train, axis=1)))
    assert fitted(guesses).posterior.mean.shape == (N, 0)


def test_the_same_bytes_with_one_and_two_threads(found: ViceFit) -> None:
    data = judged(planted())
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda seed: fitted(data, seed), (0, 1)))
    assert both[0].posterior.mean.tobytes() == found.posterior.mean.tobytes()
    assert both[0].posterior.sd.tobytes() == found.posterior.sd.tobytes()
    own, _ = partners(weights(both[0].posterior), weights(both[1].posterior))
    assert len(own) == D  # another seed gives the same dimensions


def test_the_prior_decides_without_judgments() -> None:
    """With one judgment, the posterior of every weight is about the prior, so that no dimension describes stimuli."""
    data = judged(planted(), 40)
    assert fitted(data).posterior.mean.shape[1] == 0


def test_intervals_hold_large_weights_that_the_prior_shrinks_and_the_posterior_misses() -> None:
    truth = 1.5 * planted()
    data = judged(truth)
    posterior = fitted(data).posterior
    calibration = calibrate(posterior, data, SETTINGS, np.random.default_rng(4))
    assert calibration is not None and calibration.recovered > 0.9
    own, others = partners(truth, weights(posterior))
    low, high = calibration.intervals(posterior)
    known = truth[:, own]
    held = (low[:, others] <= known) & (known <= high[:, others])
    above = known > 0
    narrow = np.abs(posterior.mean[:, others] - known) <= 1.96 * posterior.sd[:, others]
    assert held.mean() > 0.9 and held[above].mean() > 0.85
    assert narrow[above].mean() < held[above].mean() - 0.05
    assert (low >= 0).all() and (low <= high).all()


def test_without_known_dimensions_there_are_no_intervals() -> None:
    data = judged(planted(), 40)
    nothing = Posterior(np.full((N, 2), -1, np.float32), np.full((N, 2), 0.1, np.float32))
    assert calibrate(nothing, data, SETTINGS, np.random.default_rng(0)) is None


def test_the_learning_rate_rises_once_and_falls_in_each_cycle() -> None:
    rates = [learning_rate(SETTINGS, epoch) for epoch in range(1, 61)]
    assert rates[0] < 0.1 * SETTINGS.learning_rate and rates[20] == rates[40] == SETTINGS.learning_rate
    assert rates[39] == pytest.approx(0.01 * SETTINGS.learning_rate)


@pytest.mark.parametrize(("m", "size"), [(1000, 256), (27_000, 448), (5_000_000, 8192)])
def test_batches_follow_the_number_of_judgments(m: int, size: int) -> None:
    assert SETTINGS.batch_size(m) == size
