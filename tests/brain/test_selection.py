"""Stimuli selected by agreement of subjects, against explicit loops; and that the selection knows no agent."""

from __future__ import annotations

import numpy as np
import pytest

from affectlake.brain.agreement import agreement
from affectlake.errors import SourceError
from affectlake.rsm import correlation_rsm


@pytest.mark.reference
def test_agreement_is_the_explicit_loop_over_subjects_with_other_stimuli() -> None:
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(12, 4))
    stimuli = [np.arange(12), np.array([0, 1, 3, 4, 5, 7, 8, 11]), np.array([2, 3, 4, 5, 6, 7, 9, 10, 11])]
    rsms = [correlation_rsm(np.hstack([latent[at], rng.normal(size=(len(at), 20)) * 0.5])) for at in stimuli]
    found = agreement(rsms, stimuli)
    for s, own in enumerate(stimuli):
        for row, i in enumerate(own):
            mine, theirs = [], []
            for column, j in enumerate(own):
                values = [
                    rsm[list(at).index(i), list(at).index(j)]
                    for o, (rsm, at) in enumerate(zip(rsms, stimuli, strict=True))
                    if o != s and i in at and j in at
                ]
                if j != i and values:
                    mine.append(rsms[s][row, column])
                    theirs.append(np.mean(values))
            assert found[s][row] == pytest.approx(np.corrcoef(mine, theirs)[0, 1], abs=1e-10)


def test_stimuli_that_all_subjects_see_alike_are_found_and_others_are_not() -> None:
    rng = np.random.default_rng(1)
    latent = rng.normal(size=(60, 5))
    noisy = rng.permutation(60)[:20]
    rsms = []
    for _ in range(4):
        patterns = latent @ rng.normal(size=(5, 200)) + 0.3 * rng.normal(size=(60, 200))
        patterns[noisy] = rng.normal(size=(20, 200))
        rsms.append(correlation_rsm(patterns))
    for r in agreement(rsms, [np.arange(60)] * 4):
        assert len(np.intersect1d(np.argsort(r)[:20], noisy)) >= 19


def test_too_few_common_stimuli_are_undefined_and_one_subject_is_refused() -> None:
    rng = np.random.default_rng(2)
    one, other = (correlation_rsm(rng.normal(size=(6, 9))) for _ in range(2))
    first, second = agreement([one, other], [np.arange(6), np.arange(3, 9)])
    assert np.isnan(first).all()  # three stimuli are common, so two others each
    assert np.isnan(second).all()
    constant = one.copy()
    constant[2], constant[:, 2] = np.nan, np.nan
    found = agreement([constant, other], [np.arange(6)] * 2)
    assert np.isnan(found[0][2])
    assert np.isfinite(np.delete(found[0], 2)).all()
    assert np.isfinite(np.delete(found[1], 2)).all()
    with pytest.raises(SourceError, match="at least two subjects"):
        agreement([one], [np.arange(6)])
