"""Dual bootstrap: equal to rsatoolbox and to copied matrices; too few stimuli, constant models, splits of resamples."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from affectlake.brain.generalisation import kernels
from affectlake.brain.generalisation.bootstrap import Evaluations, Measure, _codes, dual_bootstrap
from affectlake.brain.generalisation.ceilings import ceiling_against_chance
from affectlake.brain.generalisation.estimates import LOWER, UPPER, contrasts, corrected_variance
from affectlake.brain.generalisation.resamples import FEWEST_STIMULI, Resamples, draw, split
from affectlake.brain.statistics import noise_ceiling
from affectlake.errors import SourceError
from affectlake.rsm import correlation_rsm, pairs, pearson, ranks

Array = NDArray[np.float64]
MEASURES: dict[Measure, str] = {"spearman": "spearman", "pearson": "corr", "cosine": "cosine"}


def study(n_subjects: int, n: int, n_models: int, seed: int = 0, ties: bool = False) -> tuple[Array, Array]:
    """Return distances of subjects that share a geometry, and of models, of which the first resembles it."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, 10))

    def distances(shared: float) -> Array:
        found = 1 - correlation_rsm(shared * common + rng.normal(size=(n, 10)))
        return np.round(found, 1) if ties else found

    return np.array([distances(1.0) for _ in range(n_subjects)]), np.array(
        [distances(float(k == 0)) for k in range(n_models)]
    )


def copied(rsms: Array, models: Array, subjects: Array, stimuli: Array, measure: Measure) -> Array:
    """Evaluate one resample by copying rows, columns and subjects: the definition, without counts."""
    order = np.repeat(np.arange(len(stimuli)), stimuli.astype(int))
    at = np.triu_indices(len(order), 1)
    different = order[at[0]] != order[at[1]]

    def row(one: Array) -> Array:
        values = one[np.ix_(order, order)][at][different]
        if measure == "spearman":
            return ranks(values)
        return values / np.sqrt((values**2).mean()) if measure == "cosine" else (values - values.mean()) / values.std()

    def agree(a: Array, b: Array) -> float:
        if measure == "cosine":
            return float(a @ b / np.sqrt((a @ a) * (b @ b)))
        return pearson(ranks(a), ranks(b)) if measure == "spearman" else pearson(a, b)

    own = [row(one) for one in rsms]
    drawn = np.repeat(np.arange(len(rsms)), subjects.astype(int))
    found = [np.mean([agree(row(model), own[s]) for s in drawn]) for model in models]
    kinds = np.unique(drawn)
    lower = [agree(np.mean([own[t] for t in drawn if t != s], axis=0), own[s]) for s in kinds]
    upper = [agree(np.mean([own[t] for t in drawn], axis=0), own[s]) for s in kinds]
    return np.array([*found, np.mean(lower), np.mean(upper)])


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("ties", [False, True])
def test_counts_are_copies(measure: Measure, ties: bool) -> None:
    rsms, models = study(4, 14, 3, ties=ties)
    rng = np.random.default_rng(1)
    resamples = draw(4, 14, 40, rng)
    several = np.count_nonzero(resamples.subjects, axis=1) > 1
    resamples = Resamples(resamples.subjects[several], resamples.stimuli[several])
    found = dual_bootstrap(rsms, models, resamples, measure=measure)
    ones = np.ones(4), np.ones(14)
    assert np.allclose(found.values, copied(rsms, models, *ones, measure), atol=1e-12)
    for b in range(len(resamples.subjects)):
        both, subjects, stimuli = found.resampled[:, b]
        assert np.allclose(both, copied(rsms, models, resamples.subjects[b], resamples.stimuli[b], measure), atol=1e-12)
        assert np.allclose(subjects, copied(rsms, models, resamples.subjects[b], ones[1], measure), atol=1e-12)
        assert np.allclose(stimuli, copied(rsms, models, ones[0], resamples.stimuli[b], measure), atol=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_equal_to_rsatoolbox(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same resamples give the same evaluations, ceilings, variances, intervals and tests."""
    from rsatoolbox.inference import eval_dual_bootstrap, evaluate
    from rsatoolbox.model import ModelFixed
    from rsatoolbox.rdm import RDMs

    rsms, models = study(5, 20, 3, seed=5)
    drawn = []
    theirs = evaluate.bootstrap_sample

    def watched(*given: object, **named: object) -> object:
        found = theirs(*given, **named)
        drawn.append(found[1:])
        return found

    monkeypatch.setattr(evaluate, "bootstrap_sample", watched)
    monkeypatch.setattr(evaluate.tqdm, "trange", range)
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    fixed = [ModelFixed(str(k), pairs(model)) for k, model in enumerate(models)]
    expected = eval_dual_bootstrap(fixed, RDMs(np.array([pairs(one) for one in rsms])), MEASURES[measure], N=30)
    np.random.set_state(state)  # noqa: NPY002
    counts = [np.array([np.bincount(one, minlength=size) for one in column])
              for column, size in zip(zip(*drawn, strict=True), (5, 20), strict=True)]  # fmt: skip
    assert (np.count_nonzero(counts[0], axis=1) > 1).all()
    found = dual_bootstrap(rsms, models, Resamples(*counts), measure=measure)
    assert np.allclose(found.resampled[..., :-2], expected.evaluations[:, :, 0, 0].transpose(2, 0, 1), atol=1e-9)
    assert np.allclose(found.resampled[..., -2:], expected.noise_ceiling[:, :, 0].transpose(2, 1, 0), atol=1e-9)
    each, (i, j) = np.arange(3), np.triu_indices(3, 1)
    pairwise, against_zero, against_ceiling = expected.test_all()
    single = contrasts(found, each, sides="greater", values="resamples")
    assert np.allclose(single.value, expected.get_means(), atol=1e-9) and np.allclose(single.p, against_zero, atol=1e-9)
    assert np.allclose(single.sd, expected.get_sem(), atol=1e-9)
    assert np.allclose([single.low, single.high], expected.get_ci(0.95), atol=1e-9)
    between = contrasts(found, i, j, values="resamples")
    assert np.allclose(between.sd**2, expected.diff_var, atol=1e-9) and np.allclose(
        between.p, pairwise[i, j], atol=1e-9
    )
    below = contrasts(found, each, np.full(3, LOWER), values="resamples")
    assert np.allclose(below.sd**2, expected.noise_ceil_var[:, 0], atol=1e-9)
    assert np.allclose(below.p, against_ceiling, atol=1e-9)


def test_the_ceilings_are_those_of_select_stimuli() -> None:
    rsms, models = study(4, 30, 1)
    found = dual_bootstrap(rsms, models, draw(4, 30, 2, np.random.default_rng(0)))
    assert np.allclose(found.values[[LOWER, UPPER]], noise_ceiling(rsms), atol=1e-12)


def test_threads_and_order_do_not_matter() -> None:
    rsms, models = study(5, 40, 2)
    resamples = draw(5, 40, 100, np.random.default_rng(0))
    one, two = (dual_bootstrap(rsms, models, resamples, workers=workers) for workers in (1, 2))
    assert np.array_equal(one.resampled, two.resampled, equal_nan=True)
    order = np.random.default_rng(1).permutation(40)
    moved = dual_bootstrap(
        rsms[:, order][:, :, order],
        models[:, order][:, :, order],
        Resamples(resamples.subjects, resamples.stimuli[:, order]),
    )
    assert np.allclose(moved.resampled, one.resampled, equal_nan=True)


def test_relabelled_ceilings_are_those_of_relabelled_subjects() -> None:
    rsms, _ = study(4, 15, 1)
    found = ceiling_against_chance(rsms, 50, np.random.default_rng(4))
    rng = np.random.default_rng(4)
    expected = []
    for _ in range(50):
        orders = [np.arange(15), *(rng.permutation(15) for _ in range(3))]
        expected.append(noise_ceiling(np.array([one[np.ix_(o, o)] for one, o in zip(rsms, orders, strict=True)])).lower)
    assert np.allclose(found.null, expected, atol=1e-12)
    assert found.lower == pytest.approx(noise_ceiling(rsms).lower)
    assert found.p == (1 + np.sum(np.array(expected) >= found.lower)) / 51
    two = ceiling_against_chance(rsms, 50, np.random.default_rng(4), workers=2)
    assert np.array_equal(two.null, found.null)
    with pytest.raises(SourceError, match="at least two subjects"):
        ceiling_against_chance(rsms[:1], 9, rng)


def test_a_ceiling_of_nothing_has_any_level() -> None:
    rng = np.random.default_rng(6)
    p = [
        ceiling_against_chance(np.array([correlation_rsm(rng.normal(size=(12, 6))) for _ in range(3)]), 19, rng).p
        for _ in range(400)
    ]
    assert stats.binomtest(int(np.sum(np.array(p) <= 0.05)), 400, 0.05).pvalue > 0.001
    assert abs(np.mean(p) - 0.525) < 0.05


def test_many_values_are_ranked_in_groups() -> None:
    """With 400 stimuli there are 79,800 pairs: the result is that of exact ranks to 10⁻⁵."""
    rsms, models = study(3, 400, 1)
    subjects, stimuli = np.array([[2, 1, 0]]), draw(1, 400, 1, np.random.default_rng(0)).stimuli
    codes, sizes = _codes(np.array([pairs(rsms[0])]), kernels.BINS)
    assert sizes[0] <= kernels.BINS and codes.max() == sizes[0] - 1
    assert (np.diff(codes[0][np.argsort(pairs(rsms[0]))]) >= 0).all()
    found = dual_bootstrap(rsms, models, Resamples(subjects, stimuli))
    assert np.allclose(found.resampled[0, 0], copied(rsms, models, subjects[0], stimuli[0], "spearman"), atol=1e-5)


def test_a_resample_with_one_subject_has_no_ceiling() -> None:
    rsms, models = study(3, 12, 1)
    found = dual_bootstrap(rsms, models, Resamples(np.array([[3, 0, 0]]), np.ones((1, 12), dtype=int)))
    assert np.isnan(found.resampled[0, 0, -2:]).all() and np.isfinite(found.resampled[2, 0]).all()
    own = stats.spearmanr(pairs(models[0]), pairs(rsms[0])).statistic
    assert found.resampled[0, 0, 0] == pytest.approx(own)


def test_resamples_have_enough_different_stimuli() -> None:
    """Nine subjects and eight stimuli: every resample has values. With five stimuli, rsatoolbox has NaN for some."""
    rng = np.random.default_rng(0)
    resamples = draw(9, FEWEST_STIMULI, 3000, rng)
    assert (resamples.stimuli.sum(axis=1) == 8).all() and (resamples.subjects.sum(axis=1) == 9).all()
    assert np.count_nonzero(resamples.stimuli, axis=1).min() == 4
    assert abs(resamples.subjects.mean(axis=0) - 1).max() < 0.06
    rsms, models = study(9, FEWEST_STIMULI, 2)
    found = dual_bootstrap(rsms, models, resamples)
    assert np.isfinite(found.resampled).all()
    assert np.isfinite(contrasts(found, np.array([0, 1, LOWER]))).all()
    with pytest.raises(SourceError, match="too few stimuli"):
        draw(9, 5, 1, rng)


def test_a_constant_model_is_not_defined() -> None:
    rsms, models = study(3, 12, 2)
    models[1] = 1.0
    found = dual_bootstrap(rsms, models, draw(3, 12, 50, np.random.default_rng(2)))
    assert np.isnan(found.values[1]) and np.isfinite(found.values[0])
    tested = contrasts(found, np.array([0, 1]))
    assert np.isnan([column[1] for column in tested]).all() and np.isfinite([column[0] for column in tested]).all()


def test_variance_over_subjects_is_that_of_the_mean() -> None:
    rsms, models = study(6, 30, 2)
    found = dual_bootstrap(rsms, models, draw(6, 30, 4000, np.random.default_rng(0)))
    each = [stats.spearmanr(pairs(models[0]), pairs(one)).statistic for one in rsms]
    tested = contrasts(found, np.array([0]), over="subjects")
    expected = stats.ttest_1samp(each, 0.0)
    assert tested.sd[0] == pytest.approx(stats.sem(each), rel=0.05)
    assert tested.p[0] == pytest.approx(expected.pvalue, rel=0.3)
    one = contrasts(Evaluations(found.values, found.resampled, 1, 30), np.array([0]))
    assert np.isnan([one.sd[0], one.low[0], one.p[0]]).all() and np.isfinite(one.value[0])


def test_the_corrected_variance() -> None:
    found = corrected_variance(np.array([0.032, 0.01, 0.02]), 5, 10)
    assert found == pytest.approx(5 / 4 * 0.01 + 10 / 9 * 0.02 - 50 / 36 * 0.002)
    assert corrected_variance(np.array([0.03, 0.01, 0.02]), 5, 10) == 0.03  # not above that of both
    assert corrected_variance(np.array([1.0, 0.01, 0.02]), 5, 10) == pytest.approx(
        10 / 9 * 0.02
    )  # nor below one factor


def test_equal_models_do_not_differ() -> None:
    rsms, models = study(4, 16, 1)
    found = dual_bootstrap(rsms, np.concatenate([models, models]), draw(4, 16, 30, np.random.default_rng(0)))
    tested = contrasts(found, np.array([0]), np.array([1]))
    assert tested.value[0] == 0 and tested.sd[0] == 0 and tested.p[0] == 1


def test_copies_of_a_stimulus_are_on_one_side_of_a_split() -> None:
    rng = np.random.default_rng(0)
    for stimuli in draw(1, 20, 200, rng).stimuli:
        folds = split(stimuli, 3, rng)
        assert np.array_equal(folds >= 0, stimuli > 0)
        order = np.repeat(np.arange(20), stimuli)
        for fold in range(3):
            test = folds[order] == fold
            assert not set(order[test]) & set(order[~test])
        assert np.ptp(np.bincount(folds[folds >= 0])) <= 1
    with pytest.raises(SourceError, match="too few different stimuli"):
        split(np.array([3, 2, 1, 1, 1, 0, 0, 0]), 2, rng)


def test_arrays_that_do_not_fit_are_one_message() -> None:
    rsms, models = study(3, 10, 1)
    resamples = draw(3, 10, 2, np.random.default_rng(0))
    with pytest.raises(SourceError, match="do not fit together"):
        dual_bootstrap(rsms, models[:, :9, :9], resamples)
    with pytest.raises(SourceError, match="do not fit together"):
        dual_bootstrap(rsms[:2], models, resamples)
    rsms[1, 2, 3] = np.nan
    with pytest.raises(SourceError, match="subject 1 has pairs without a value"):
        dual_bootstrap(rsms, models, resamples)
