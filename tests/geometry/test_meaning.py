"""Reproducibility, labels, graphs, reduction and saturation: references, planted truths and what is left out."""

from __future__ import annotations

import numpy as np
import pytest

from affectlake.errors import AffectlakeError
from affectlake.geometry.communities import community_overlap
from affectlake.geometry.graph_estimates import graph_estimates
from affectlake.geometry.graphs import emotion_graph
from affectlake.geometry.labels import character, label_stability, labels
from affectlake.geometry.reduction import components_below, necessary_components, saturation, strongest
from affectlake.geometry.reproducibility import (
    agreements,
    best_matches,
    mean_reproducibility,
    representative_seed,
    reproducibility,
)

RNG = np.random.default_rng(0)
BASE = RNG.random((300, 5)).astype(np.float32)


def noisy(scale: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (BASE[:, rng.permutation(5)] + scale * rng.normal(size=BASE.shape)).astype(np.float32)


def test_best_matches_are_the_largest_of_numpys_correlations() -> None:
    other = noisy(0.5, 1)[:, :4]
    reference = np.corrcoef(BASE.T, other.T)[:5, 5:].max(axis=1)
    assert best_matches(BASE, other) == pytest.approx(reference)


def test_dimensions_in_another_order_are_reproduced_and_random_ones_are_not() -> None:
    fits = {0: BASE, 1: noisy(0.01, 1), 2: noisy(0.01, 2), 3: noisy(0.01, 3)}
    fits[0] = np.column_stack([BASE, RNG.random(300)]).astype(np.float32)  # one of its own
    found = reproducibility(fits, 0, np.random.default_rng(0))
    assert min(one.value for one in found[:5]) > 0.99 and found[5].value < 0.2
    assert found[0].p_value == pytest.approx(1 / 101) and found[5].p_value > 0.01
    assert found[5].value == pytest.approx(found[5].chance, abs=0.1)


def test_the_mean_is_fishers() -> None:
    fits = {0: BASE, 1: noisy(0.1, 1), 2: noisy(0.4, 2)}
    matches = [best_matches(BASE, fits[seed]) for seed in (1, 2)]
    found = reproducibility(fits, 0, np.random.default_rng(0), 0)
    assert [one.value for one in found] == pytest.approx(np.tanh(np.mean(np.arctanh(matches), axis=0)).tolist())
    assert mean_reproducibility(fits, 0).value == pytest.approx(np.tanh(np.mean(np.arctanh(matches))))


def test_the_fit_between_the_others_stands_for_them_whatever_its_loss() -> None:
    fits = {4: noisy(0.3, 1), 2: noisy(0.02, 2), 9: noisy(0.3, 3), 7: noisy(0.3, 4)}
    assert representative_seed(fits, {4: 0.1, 2: 0.9, 9: 0.2, 7: 0.3}) == 2
    assert representative_seed(dict.fromkeys((9, 4, 7), BASE), dict.fromkeys((9, 4, 7), 0.5)) == 4


def test_of_one_or_two_fits_the_lower_held_out_loss_decides() -> None:
    fits = {4: noisy(0.3, 1), 9: noisy(0.3, 2)}
    assert representative_seed(fits, {4: 0.6, 9: 0.5}) == 9
    assert representative_seed(fits, {4: 0.5, 9: 0.5}) == 4
    assert representative_seed({9: BASE}, {9: 0.5}) == 9


def test_a_fit_without_a_dimension_stands_for_others_only_if_none_has_one() -> None:
    empty = np.empty((0, 0), np.float32)
    losses = {0: 0.1, 1: 0.6, 2: 0.5}
    assert representative_seed({0: empty, 1: noisy(0.3, 1), 2: noisy(0.3, 2)}, losses) == 2
    assert representative_seed({0: empty, 1: empty, 2: empty}, losses) == 0


def test_the_agreement_of_fits_is_fishers_mean_both_ways() -> None:
    fits = {0: BASE, 1: noisy(0.1, 1), 2: noisy(0.4, 2)[:, :4]}
    found = agreements(fits)

    def one_way(own: int, other: int) -> float:  # by numpy's correlations
        d = fits[own].shape[1]
        return np.tanh(np.mean(np.arctanh(np.corrcoef(fits[own].T, fits[other].T)[:d, d:].max(axis=1))))

    for seed, others in ((0, (1, 2)), (1, (0, 2)), (2, (0, 1))):
        both = [one_way(seed, other) + one_way(other, seed) for other in others]
        assert found[seed] == pytest.approx(np.mean(both) / 2)
    assert np.isnan(agreements({3: BASE})[3])


def test_a_fit_that_lacks_a_dimension_is_not_the_consensus() -> None:
    fits = {seed: noisy(0.1, seed) for seed in (1, 2, 3)}
    lacking = BASE[:, :3].copy()  # each of its dimensions is the truth itself, so none could come back better
    assert (
        max(mean_reproducibility(fits | {0: lacking}, seed).value for seed in fits)
        < mean_reproducibility(fits | {0: lacking}, 0).value
    )
    assert representative_seed(fits | {0: lacking}, dict.fromkeys(range(4), 0.5)) != 0


def test_one_fit_and_constant_dimensions_are_left_out_with_a_reason() -> None:
    assert "two seeds" in reproducibility({0: BASE}, 0, RNG)[0].note
    dead = BASE.copy()
    dead[:, 2] = 0.3
    found = reproducibility({0: dead, 1: BASE, 2: BASE}, 0, RNG, 5)
    assert [bool(one.note) for one in found] == [False, False, True, False, False]
    assert mean_reproducibility({0: dead, 1: BASE, 2: BASE}, 0).value > 0.99


@pytest.mark.parametrize(
    ("r", "kept"),
    [
        ([0.867, 0.855, 0.839, 0.2], [0, 1, 2]),  # human-dimension 1 of Extended Data Table 1
        ([-0.775, -0.77, -0.77, 0.1], [0, 1, 2]),
        ([0.73, 0.699, 0.5, 0.4], [0, 1]),
        ([0.977, 0.4, 0.39, 0.38], [0]),
        ([0.5, 0.4, 0.39, 0.38], [0]),  # 0.1 above is far enough
        ([0.2, np.nan, -0.25, 0.1], [2, 0]),
        ([np.nan] * 4, []),
    ],
)
def test_labels_follow_the_cutoff_rule(r: list[float], kept: list[int]) -> None:
    found = labels(np.array([r]))
    assert [one.rating for one in found] == kept
    assert [one.rank for one in found] == list(range(1, len(kept) + 1))
    assert all(one.direction == ("low" if r[one.rating] < 0 else "high") for one in found)


def test_character_follows_the_families_of_the_labels() -> None:
    families = ["category", "category", "dimension"]
    rows = np.array([[0.9, 0.85, 0.1], [0.1, 0.2, -0.5], [0.5, 0.1, 0.45], [0.08, 0.05, 0.02]])
    found = [character(labels(rows[[at]]), families) for at in range(4)]
    assert found == ["categorical", "dimensional", "mixed", "uninterpretable"]
    assert character([], families) == "uninterpretable"


def test_a_clear_label_is_stable_and_a_tied_one_is_not() -> None:
    rng = np.random.default_rng(1)
    x = rng.random((400, 3))
    scores = np.column_stack([x[:, 0], x[:, 1] + rng.normal(size=400), x[:, 1] + rng.normal(size=400)])
    x[:, 2] = 1
    found = label_stability(x, scores, rng)
    assert found[0] == 1 and 0.2 < found[1] < 0.95 and np.isnan(found[2])


def planted(rng: np.random.Generator) -> np.ndarray:
    """Two blocks of three dimensions that go together, one that goes against the first, one alone."""
    causes = rng.normal(size=(2000, 3))
    blocks = [causes[:, [at]] + 0.5 * rng.normal(size=(2000, 3)) for at in (0, 1)]
    return np.column_stack([*blocks, -causes[:, 0] + rng.normal(size=2000), causes[:, 2]])


def test_planted_communities_and_isolated_dimensions_are_found() -> None:
    graph = emotion_graph(planted(RNG), 0, absolute=False)
    assert graph.n_communities == 2 and graph.n_isolated == 2
    assert len(set(graph.community[:3])) == len(set(graph.community[3:6])) == 1
    assert graph.community[0] != graph.community[3]
    assert np.nansum(graph.pagerank) == pytest.approx(1) and np.isnan(graph.pagerank[6:]).all()


def test_absolute_edges_join_what_goes_against() -> None:
    weights = planted(RNG)
    r = np.corrcoef(weights.T)
    graph = emotion_graph(weights, 0, absolute=True)
    assert graph.community[6] == graph.community[0] and graph.n_isolated == 1
    assert {tuple(edge) for edge in graph.edges} == {
        (a, b) for a in range(8) for b in range(a + 1, 8) if abs(r[a, b]) > 0.2
    }


def test_a_graph_without_edges_has_no_communities_and_says_so() -> None:
    weights = np.random.default_rng(2).normal(size=(3000, 4))
    assert emotion_graph(weights, 0).n_isolated == 4
    found = graph_estimates(weights, 0, RNG, n_resamples=5)
    assert found.n_communities.value == 0 and "no communities" in found.modularity.note
    with pytest.raises(AffectlakeError, match="threshold"):
        emotion_graph(weights, 0, threshold=1.5)


def test_resampled_graphs_surround_a_clear_one() -> None:
    found = graph_estimates(planted(RNG), 0, RNG, absolute=False, n_resamples=40)
    assert found.n_isolated == found.n_isolated._replace(ci_low=2, ci_high=2)
    assert found.modularity.ci_low <= found.modularity.value <= found.modularity.ci_high


def test_intervals_of_a_graph_hold_the_planted_one() -> None:
    held = []
    for seed in range(12):
        rng = np.random.default_rng([1, seed])
        causes = rng.normal(size=(200, 10))
        weights = 0.5 * np.repeat(causes[:, :2], 3, axis=1) + 0.75**0.5 * causes[:, 2:8]  # r = 0.25 within each group
        weights = np.hstack([weights, causes[:, 8:]])
        found = graph_estimates(weights, 0, rng, absolute=False, n_resamples=40, n_shuffled=0)
        truths = (2, 2, 0.5, 6)
        held.append(
            [not one.ci_low > truth and not one.ci_high < truth for one, truth in zip(found, truths, strict=True)]
        )
        assert all(np.isnan(one.value) or one.ci_low <= one.value <= one.ci_high for one in found)
    assert np.mean(held, axis=0).min() >= 0.8


def test_without_a_certain_edge_there_may_be_none_and_a_constant_dimension_is_isolated() -> None:
    rng = np.random.default_rng(4)
    causes = rng.normal(size=(60, 4))
    weights = np.column_stack([causes[:, 0], 0.5 * causes[:, 0] + causes[:, 1], causes[:, 2], np.ones(60)])
    found = graph_estimates(weights, 0, rng, n_resamples=10, n_shuffled=0)
    assert found.n_edges[:3] == (1, 0, 3) and found.n_communities[:2] == (1, 0)
    assert found.n_isolated[:3] == (2, 1, 4)


def test_negative_correlations_are_certain_edges_if_the_sign_does_not_count() -> None:
    rng = np.random.default_rng(5)
    cause = rng.normal(size=(500, 1))
    weights = cause * np.array([1, -1, 1]) + 0.3 * rng.normal(size=(500, 3))
    assert graph_estimates(weights, 0, rng, n_resamples=5, n_shuffled=0).n_edges[:3] == (3, 3, 3)
    assert graph_estimates(weights, 0, rng, absolute=False, n_resamples=5, n_shuffled=0).n_edges[:3] == (1, 1, 1)


def test_the_same_communities_in_other_orders_overlap_most() -> None:
    rng = np.random.default_rng(3)
    weights = np.exp(planted(rng))
    one = emotion_graph(weights, 0, absolute=False).community
    order = rng.permutation(8)
    found = community_overlap(weights, one, weights[:, order], one[order], rng, 50)
    assert found[0, 0].value == pytest.approx(1) and found[1, 1].value == pytest.approx(1)
    assert found[0, 1].value < 0.5 and found[0, 0].p_value == pytest.approx(1 / 51)
    assert community_overlap(weights, np.full(8, -1), weights, one, rng) == {}


def test_the_strongest_components_stay_and_the_rest_is_zero() -> None:
    reduced = strongest(BASE, 2)
    assert ((reduced > 0).sum(axis=1) == 2).all()
    assert np.array_equal(np.sort(reduced, axis=1)[:, -2:], np.sort(BASE, axis=1)[:, -2:])
    assert np.array_equal(strongest(BASE, 5), BASE) and not strongest(BASE, 0).any()
    with pytest.raises(AffectlakeError, match="this many"):
        strongest(BASE, 6)


def test_necessary_components_are_read_off_the_curve() -> None:
    curve = [0.5, 0.7, 0.76, 0.79, 0.8]
    assert [necessary_components(curve, 10**6, share).value for share in (0.9, 0.95, 0.99, 1)] == [3, 3, 5, 5]
    few = necessary_components(curve, 100, 0.95)
    assert few.ci_low < few.value < few.ci_high
    with pytest.raises(AffectlakeError, match="share"):
        necessary_components(curve, 100, 0)
    assert necessary_components([], 100, 0.9).note


def test_components_below_a_share_are_counted_from_the_other_end() -> None:
    curve = [0.5, 0.7, 0.76, 0.79, 0.8]
    assert [components_below(curve, 10**6, share).value for share in (0.9, 0.95, 0.99, 1)] == [2, 2, 4, 4]
    assert components_below([0.5, 0.78, 0.75, 0.8, 0.8], 10**6, 0.95).value == 3  # a curve that falls again
    assert components_below([0.8, 0.8], 10**6, 0.95).value == 1
    few = components_below(curve, 100, 0.95)
    assert few.ci_low <= few.value < few.ci_high
    with pytest.raises(AffectlakeError, match="share"):
        components_below(curve, 100, 0)
    assert components_below([], 100, 0.9).note


def test_the_interval_of_a_saturation_point_holds_it_with_two_replicates() -> None:
    settings = [5.0, 10.0, 20.0, 30.0, 40.0]
    means, held = np.array([0.5, 0.7, 0.892, 0.9, 0.9]), []  # 99 % of 0.9 is 0.891
    for seed in range(200):
        rng = np.random.default_rng([2, seed])
        found = saturation(settings, means[:, None] + 0.002 * rng.normal(size=(5, 2)), rng, n_resamples=200)
        held.append(found.ci_low <= 20 <= found.ci_high)
    assert np.mean(held) >= 0.92


def test_replicates_that_are_missing_or_single_leave_the_interval_to_the_others() -> None:
    settings = [5.0, 10.0, 20.0]
    single = np.array([[0.5], [0.9], [0.9]])
    assert np.isnan(saturation(settings, single, RNG).ci_low)
    some = np.array([[0.5, 0.52], [0.9, np.nan], [0.9, 0.91]])
    found = saturation(settings, some, RNG)
    assert found.value == found.ci_low == 10 and found.ci_high in (10, 20)


def test_saturation_is_where_the_planted_curve_bends() -> None:
    settings = [5.0, 10.0, 20.0, 30.0, 40.0]
    means = np.array([0.5, 0.7, 0.9, 0.9, 0.899])
    values = means[:, None] + 0.0005 * RNG.normal(size=(5, 6))
    found = saturation(settings, values, RNG)
    assert found.value == 20 and found.ci_low == found.ci_high == 20
    rising = saturation(settings, np.array([[0.1], [0.2], [0.3], [0.4], [0.5]]), RNG)
    assert "still rising at 40," in rising.note
    assert "three are needed" in saturation(settings[:2], values[:2], RNG).note
    falling = saturation(settings, np.array([[0.9], [0.7], [0.5], [0.4], [0.1]]), RNG)
    assert falling.value == 5
