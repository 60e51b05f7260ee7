"""Split halves of repeated presentations, against explicit loops and planted reliabilities."""

from __future__ import annotations

import numpy as np
import pytest

from affectlake.brain.halves import FEWEST_REPEATED, split_half_r
from affectlake.brain.recordings.subjects import align
from affectlake.brain.repeats import explainable_variance
from tests.brain.test_sources import recording


def explicit(presentations: np.ndarray, stimulus: np.ndarray) -> list[float]:
    """Loops over stimuli: means of odd and even presentations, z-scores per voxel and half, and NumPy's r."""
    stimuli = range(stimulus.max() + 1)
    of = {s: presentations[stimulus == s].astype(np.float64) for s in stimuli}
    again = [s for s in stimuli if len(of[s]) > 1]
    a, b = (np.array([of[s][first::2].mean(axis=0) for s in again]) for first in (0, 1))
    use = np.isfinite(a + b).all(axis=0) & (np.ptp(a, axis=0) > 0) & (np.ptp(b, axis=0) > 0)
    a, b = ((x[:, use] - x[:, use].mean(axis=0)) / x[:, use].std(axis=0) for x in (a, b))
    return [np.corrcoef(a[again.index(s)], b[again.index(s)])[0, 1] if s in again else np.nan for s in stimuli]


@pytest.mark.reference
@pytest.mark.parametrize("n_voxels", [40, 2500])  # in one block and in several
def test_it_is_the_explicit_loop(n_voxels: int) -> None:
    rng = np.random.default_rng(0)
    stimulus = rng.permutation(np.repeat(np.arange(30), rng.choice([1, 2, 3, 5], 30)))
    latent = rng.normal(size=(30, n_voxels))
    presentations = (latent[stimulus] + rng.normal(size=(len(stimulus), n_voxels)) + 100).astype(np.float32)
    presentations[:, 3] = 7.0  # constant
    presentations[4, 11] = np.nan
    found = split_half_r(presentations, stimulus)
    np.testing.assert_allclose(found, explicit(presentations, stimulus), atol=1e-9)
    assert (np.isnan(found) == (np.bincount(stimulus) == 1)).all()


def test_presentations_that_are_not_used_do_not_count() -> None:
    rng = np.random.default_rng(1)
    stimulus, presentations = np.tile(np.arange(8), 3), rng.normal(size=(24, 50))
    among = np.full(40, -1)
    at = np.sort(rng.choice(40, 24, replace=False))
    among[at] = stimulus
    more = rng.normal(size=(40, 50))
    more[at] = presentations
    np.testing.assert_array_equal(split_half_r(more, among), split_half_r(presentations, stimulus))


def test_a_common_response_is_not_reliability() -> None:
    """All stimuli evoke the same strong pattern, and nothing else: the halves' own patterns correlate at 0.99."""
    rng = np.random.default_rng(2)
    stimulus = np.tile(np.arange(60), 2)
    presentations = 10 * rng.normal(size=500) + rng.normal(size=(120, 500))
    raw = [np.corrcoef(presentations[s], presentations[60 + s])[0, 1] for s in range(60)]
    found = split_half_r(presentations, stimulus)
    assert min(raw) > 0.98
    assert abs(found.mean()) < 0.02 and found.std() == pytest.approx(1 / np.sqrt(500), rel=0.3)


def test_planted_reliabilities_are_recovered() -> None:
    """A signal of variance s² in noise of variance 1, averaged over k presentations in each half: s² / (s² + 1 / k)."""
    rng = np.random.default_rng(3)
    for k in (1, 3):
        signal = np.where(np.arange(80) < 40, 1.0, 0.0)[:, None] * rng.normal(size=(80, 3000))
        stimulus = np.tile(np.arange(80), 2 * k)
        found = split_half_r(signal[stimulus] + rng.normal(size=(len(stimulus), 3000)), stimulus)
        assert found[:40].mean() == pytest.approx(1 / (1 + 1 / k), abs=0.02)
        # the mean over stimuli, which is subtracted, holds 1 / 160 of the signal's variance in both halves
        assert found[40:].mean() == pytest.approx(1 / 160 / (1 / 160 + 1 / k), abs=0.01)


def test_too_few_repeats_are_undefined() -> None:
    rng = np.random.default_rng(5)
    for n in (0, 1, FEWEST_REPEATED - 1, FEWEST_REPEATED):
        stimulus = np.concatenate([np.arange(12), np.arange(n)])
        found = split_half_r(rng.normal(size=(12 + n, 30)), stimulus)
        assert np.isfinite(found).sum() == (n if n >= FEWEST_REPEATED else 0)
    assert np.isnan(split_half_r(np.ones((10, 4)), np.tile(np.arange(5), 2))).all()
    assert split_half_r(np.empty((0, 3)), np.empty(0, dtype=int)).shape == (0,)


def test_alignment_has_the_halves_of_the_stimuli_that_were_shown() -> None:
    ids = [f"{at:04d}.mp4" for at in range(1, 9)]
    order = [*ids[1:7], "9999.mp4", *ids[1:6], ids[7]]
    one = recording(order)
    rng = np.random.default_rng(6)
    one = one._replace(patterns=rng.normal(size=one.patterns.shape).astype(np.float32))
    found = align(one, ids)
    assert found.stimulus_index.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert found.n_presentations.tolist() == [2, 2, 2, 2, 2, 1, 1]
    stimulus = np.array([ids.index(label) - 1 for label in order if label in ids])
    used = one.patterns[[label in ids for label in order]]
    np.testing.assert_allclose(found.split_half_r, explicit(used, stimulus), atol=1e-9)
    assert "5 stimuli shown repeatedly (averaged; median r of their halves" in found.account("S1")
    once = align(recording(ids), ids)
    np.testing.assert_array_equal(found.explainable, explainable_variance(used, stimulus))
    assert np.isfinite(found.explainable).all() and "median explainable variance of a voxel" in found.account("S1")
    assert np.isnan(once.explainable).all()
    assert np.isnan(once.split_half_r).all() and "0 stimuli shown repeatedly (averaged)" in once.account("S1")
