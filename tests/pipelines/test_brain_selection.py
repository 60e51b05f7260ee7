"""Selected stimuli, and null brains: no way of selecting stimuli lets an agent win where nothing is planted."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
import yaml
from scipy import stats

from affectlake.brain.searchlight.spheres import make_spheres, sphere_offsets
from affectlake.errors import UsageError
from affectlake.pipelines.params.study import parse
from affectlake.pipelines.step import OutputTables
from affectlake.pipelines.steps import brain_maps, brain_selection, stimuli
from affectlake.rsm import correlation_rsm, pairs
from tests.support import null_brains
from tests.support.null_brains import AGENTS, context, lazy

N_STUDIES = (8, pytest.param(20, marks=pytest.mark.soak))


class Outcomes(NamedTuple):
    """Over studies of null brains: region scores (study, agent, subject), their bias, and shares of maps."""

    scores: np.ndarray
    bias: np.ndarray
    familywise: np.ndarray
    discoveries: np.ndarray
    pair_levels: np.ndarray
    ceilings: np.ndarray
    basis_levels: np.ndarray


def outcomes(selection: str, kind: null_brains.Kind, permutations: int, n_studies: int, folder: Path) -> Outcomes:
    found: list[tuple[np.ndarray, ...]] = []
    for seed in range(n_studies):
        here = folder / f"{selection}-{seed}"
        here.mkdir()
        params = null_brains.settings(selection, permutations, n_stimuli=60, kept=20, seed=seed)
        n_subjects, repeats = (3 if selection == "ratings" else 5), selection == "halves"
        tables = null_brains.study(params, kind, seed, here, n_subjects, repeats)
        made = null_brains.compared(tables, params, here, encoding=False)
        scores = made["roi_scores"].filter(
            pl.col("method") == "searchlight", pl.col("basis") == "embedding", pl.col("region") == "all"
        )
        maps = made["rsa_maps"].filter(pl.col("basis") == "embedding")
        own = [scores.filter(pl.col("agent") == agent).sort("subject") for agent in AGENTS]
        lowest = maps.group_by("agent", "subject").agg(pl.col("p_fwe", "p_null_fdr").min()).sort("agent", "subject")
        pairs_ = made["group_stats"].filter(pl.col("region") == "all", pl.col("agent") < pl.col("other_agent"))
        found.append((
            np.array([one["region_score"] for one in own]), np.array([one["region_bias"] for one in own]),
            lowest["p_fwe"].to_numpy(), lowest["p_null_fdr"].to_numpy(),
            pairs_.filter(pl.col("method") == "searchlight").select("p", "p_null").to_numpy(),
            tables["noise_ceilings"].filter(pl.col("region") == "all")["ceiling_low"].to_numpy(),
            made["basis_stats"].filter(method="searchlight", region="all").select("p", "p_null").to_numpy(),
        ))  # fmt: skip
    return Outcomes(*(np.stack(column) for column in zip(*found, strict=True)))


def no_more_than(hits: np.ndarray, level: float) -> bool:
    """Return whether the share of false findings is compatible with `level` (one-sided t-test over studies at 0.01).

    The findings of one study are not independent: its agents resemble one another, and its relabellings are the same.
    """
    shares = hits.reshape(len(hits), -1).mean(axis=1)
    return bool(shares.mean() <= level or stats.ttest_1samp(shares, level, alternative="greater").pvalue > 0.01)


@pytest.mark.parametrize("n_studies", N_STUDIES)
@pytest.mark.parametrize("selection", ["others", "halves", "all"])
def test_agents_do_not_differ_where_subjects_share_what_no_agent_describes(
    selection: str, n_studies: int, tmp_path: Path
) -> None:
    found = outcomes(selection, "shared", 39, n_studies, tmp_path)
    assert no_more_than(found.familywise <= 0.05, 0.05)
    assert no_more_than(found.discoveries <= 0.05, 0.05)
    assert no_more_than(found.pair_levels[..., 1] <= 0.05, 0.05)
    assert no_more_than(found.pair_levels.max(axis=2) <= 0.05, 0.05)
    assert found.basis_levels.shape == (n_studies, 2, 2)  # both agents that are made of ratings
    assert no_more_than(found.basis_levels.max(axis=2) <= 0.05, 0.05)
    if selection == "all":  # the t-test alone takes the stimuli as fixed: chance similarity is the same in all subjects
        assert (found.pair_levels[..., 0] < 0.05).mean() > 0.3


@pytest.mark.parametrize("n_studies", N_STUDIES)
@pytest.mark.parametrize(("selection", "permutations"), [("others", 39), ("halves", 39), ("all", 39), ("ratings", 6)])
def test_no_agent_differs_from_zero_or_from_another_on_null_brains(
    selection: str, permutations: int, n_studies: int, tmp_path: Path
) -> None:
    found = outcomes(selection, "smooth", permutations, n_studies, tmp_path)
    corrected = found.scores - found.bias
    assert no_more_than(stats.ttest_1samp(corrected, 0, axis=2).pvalue < 0.05, 0.05)
    assert no_more_than(found.pair_levels[..., 0] < 0.05, 0.05)
    assert no_more_than(found.pair_levels.max(axis=2) < 0.05, 0.05)
    assert no_more_than(found.basis_levels[..., 0] < 0.05, 0.05)
    assert no_more_than(found.basis_levels.max(axis=2) < 0.05, 0.05)
    assert no_more_than(found.familywise <= 0.05, 0.05)
    assert no_more_than(found.discoveries <= 0.05, 0.05)
    means = corrected.mean(axis=2)  # (study, agent): differences from zero and from each other, over studies
    assert stats.ttest_1samp(means, 0, axis=0).pvalue.min() > 0.005
    assert stats.ttest_rel(means[:, 0], means[:, 2]).pvalue > 0.005
    assert abs(found.ceilings.mean()) < 0.01  # selected stimuli, on which subjects agree by selection, give 0.17
    raw = found.scores.mean(axis=2)
    if selection == "ratings":  # what is subtracted is what favours agents made of ratings
        assert raw[:, :2].mean() > 0.05
        assert abs(raw[:, 2].mean()) < 0.02
        assert (stats.ttest_1samp(found.scores[:, :2], 0, axis=2).pvalue < 0.05).mean() > 0.5
    else:
        assert not found.bias.any()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> OutputTables:
    folder = tmp_path_factory.mktemp("study")
    return null_brains.study(null_brains.settings("others", 9), "shared", 1, folder)


def test_selection_by_other_subjects_is_the_explicit_computation_and_knows_no_rating(
    study: OutputTables, tmp_path: Path
) -> None:
    patterns = {
        subject: np.array(rows.sort("stimulus_index")["pattern"].to_list())
        for (subject,), rows in study["betas"].group_by("subject", maintain_order=True)
    }
    rsms = {name: np.corrcoef((y - y.mean(0)) / y.std(0)) for name, y in patterns.items()}
    agreed = {}
    for name, own in rsms.items():
        others = np.mean([rsm for other, rsm in rsms.items() if other != name], axis=0)
        agreed[name] = [np.corrcoef(np.delete(own[i], i), np.delete(others[i], i))[0, 1] for i in range(len(own))]
    best = set(np.argsort(np.mean(list(agreed.values()), axis=0))[-30:])
    for name, r in agreed.items():
        rows = study["stimulus_reliability"].filter(pl.col("subject") == name)
        assert np.allclose(rows["reliability"], r, atol=1e-5)
        assert set(np.flatnonzero(rows["selected"])) == best
    exchanged = study["ratings"].with_columns(score=pl.col("score").reverse().over("rating", "family"))
    again = brain_selection.select_stimuli(
        lazy(study | {"ratings": exchanged}), null_brains.settings("others", 9), context(tmp_path)
    )
    assert again["stimulus_reliability"].equals(study["stimulus_reliability"])


def repeated(folder: Path, selection: str, n_once: int = 0) -> tuple[OutputTables, OutputTables]:
    """A study of two presentations, of which the last stimuli have one, and its selection of 30 stimuli."""
    params = null_brains.settings(selection, 9)
    tables = null_brains.study(params, "shared", 1, folder, repeats=True)
    once = pl.col("stimulus_index") >= 90 - n_once
    tables["betas"] = tables["betas"].with_columns(
        split_half_r=pl.when(~once).then("split_half_r"), n_presentations=pl.when(once).then(1).otherwise(2)
    )
    return tables, brain_selection.select_stimuli(lazy(tables), params, context(folder))


def test_selection_by_halves_is_that_of_the_highest_means_and_knows_no_rating(tmp_path: Path) -> None:
    tables, found = repeated(tmp_path, "halves", n_once=20)
    r = np.array([rows.sort("stimulus_index")["split_half_r"].to_numpy() for rows in
                  tables["betas"].partition_by("subject")])  # fmt: skip
    assert np.isnan(r[:, 70:]).all() and np.isfinite(r[:, :70]).all()
    best = set(np.argsort(r[:, :70].mean(axis=0))[-30:])
    for (name,), rows in found["stimulus_reliability"].group_by("subject", maintain_order=True):
        at = int(str(name)[1:]) - 1
        assert set(rows["selection"]) == {"halves"} and set(np.flatnonzero(rows["selected"])) == best
        assert rows["reliability"][70:].null_count() == 20
        assert rows["reliability"][:70].to_list() == r[at, :70].tolist()
    for change in ("ratings", "embeddings"):
        value = {"ratings": "score", "embeddings": "weight"}[change]
        other = tables | {change: tables[change].with_columns(pl.col(value).reverse())}
        again = brain_selection.select_stimuli(lazy(other), null_brains.settings("halves", 9), context(tmp_path))
        assert again["stimulus_reliability"].equals(found["stimulus_reliability"])


@pytest.mark.parametrize(("n_once", "expected"), [(0, "halves"), (60, "halves"), (61, "others"), (88, "others")])
def test_halves_decide_where_enough_stimuli_have_them(n_once: int, expected: str, tmp_path: Path) -> None:
    """As many as are selected, 30 of 90: a few duplicates do not leave all other stimuli out."""
    _, found = repeated(tmp_path, "auto", n_once)
    assert set(found["stimulus_reliability"]["selection"]) == {expected}
    assert (
        found["stimulus_reliability"].group_by("subject").agg(pl.col("selected").sum())["selected"].to_list()
        == [30] * 5
    )


def test_halves_of_too_few_repeats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)shown repeatedly.*at least 4.*3 in S1, 3 in S2.*selection: others"):
        repeated(tmp_path, "halves", n_once=87)


def test_rho_is_of_the_selected_stimuli_and_of_standardised_patterns(study: OutputTables, tmp_path: Path) -> None:
    params = null_brains.settings("others", 9)
    scaled = study["betas"].with_columns(  # voxels of very different variance, as a scanner records them
        pattern=pl.Series(
            (np.array(study["betas"]["pattern"].to_list()) * np.geomspace(1, 1e4, 216) + 50).tolist(),
            dtype=pl.List(pl.Float32),
        )
    )
    tables = study | {"betas": scaled}
    own = tables | {name: study[name].filter(pl.col("agent") == AGENTS[2]) for name in ("embeddings", "fits")}
    maps = brain_maps.search_brains(lazy(own), params, context(tmp_path, AGENTS[2]))["rsa_maps"]
    rows = study["stimulus_reliability"].filter(pl.col("subject") == "S2")
    chosen = rows["selected"].to_numpy()
    weights = own["embeddings"].sort("dimension", "stimulus_index")["weight"].to_numpy().reshape(12, -1).T
    patterns = np.array(scaled.filter(pl.col("subject") == "S2")["pattern"].to_list())
    z = (patterns - patterns.mean(0)) / patterns.std(0)
    voxels = study["voxels"].filter(pl.col("subject") == "S2")
    spheres = make_spheres(voxels.select("voxel_i", "voxel_j", "voxel_k").to_numpy(), sphere_offsets(1.5))
    model = pairs(correlation_rsm(weights[chosen].astype(float)))
    found = maps.filter(pl.col("subject") == "S2").sort("voxel_index")
    assert set(found["n_stimuli"]) == {30}
    for voxel in (0, 43, 108, 215):
        members = spheres.members(voxel)
        if len(members) < 8:
            assert found["rho"][voxel] is None
            continue
        expected = stats.spearmanr(pairs(np.corrcoef(z[np.ix_(chosen, members)])), model).statistic
        assert found["rho"][voxel] == pytest.approx(expected, abs=2e-4)


def test_all_agents_are_compared_on_the_stimuli_that_all_describe(study: OutputTables, tmp_path: Path) -> None:
    params = null_brains.settings("all", 4)
    tables = study | null_brains.fitted(study, params, 1, dead=(3, 17, 40))
    shared = brain_selection.share_stimuli(lazy(tables), params, context(tmp_path))["shared_stimuli"]
    assert shared.filter(~pl.col("shared"))["stimulus_index"].to_list() == [3, 17, 40]
    tables |= {"shared_stimuli": shared}
    tables |= brain_selection.select_stimuli(lazy(tables), params, context(tmp_path))
    made = null_brains.compared(tables, params, tmp_path, encoding=False)
    assert made["rsa_maps"].group_by("agent").agg(pl.col("n_stimuli").unique()).sort("agent").rows() == [
        (agent, [87]) for agent in sorted(AGENTS)
    ]
    assert set(made["roi_scores"].filter(pl.col("method") == "searchlight")["n_stimuli"]) == {87}
    assert set(tables["noise_ceilings"]["n_stimuli"]) == {87}


def test_the_null_of_an_agents_map_is_that_of_relabelled_stimuli(study: OutputTables, tmp_path: Path) -> None:
    """An agent whose similarities are those of the brain itself is found everywhere, at the lowest level there is."""
    params = null_brains.settings("all", 39)
    subject = np.array(study["betas"].filter(pl.col("subject") == "S1")["pattern"].to_list(), dtype=np.float64)
    latent = np.linalg.svd(subject - subject.mean(0), full_matrices=False)[0][:, :12]
    long = study["embeddings"].filter(pl.col("agent") == AGENTS[2]).sort("dimension", "stimulus_index")
    planted = long.with_columns(weight=pl.Series((latent - latent.min()).T.ravel().astype(np.float32)))
    tables = study | brain_selection.select_stimuli(lazy(study), params, context(tmp_path))
    own = tables | {"embeddings": planted, "fits": study["fits"].filter(pl.col("agent") == AGENTS[2])}
    maps = brain_maps.search_brains(lazy(own), params, context(tmp_path, AGENTS[2]))["rsa_maps"].drop_nulls("rho")
    found = maps.filter(pl.col("subject") == "S1")
    for level in ("p_fwe", "p_tfce", "p_cluster"):
        assert found.select((pl.col(level) <= 1 / 40).mean()).item() > 0.9
    assert found.select((pl.col("p_null_fdr") < 0.05).mean()).item() > 0.9


@pytest.mark.parametrize("n_common", [0, 3])
def test_subjects_without_a_common_stimulus_are_analysed_alone(n_common: int, tmp_path: Path) -> None:
    params = null_brains.settings("auto", 4)
    tables = stimuli.ingest({}, params, context(tmp_path))
    tables |= null_brains.brains("white", tables["stimuli"].height, 3, n_subjects=2)
    first = pl.col("stimulus_index") < 45 + n_common
    mine = pl.when(pl.col("subject") == "S1").then(first).otherwise(pl.col("stimulus_index") >= 45)
    tables |= {"betas": tables["betas"].filter(mine)} | null_brains.fitted(tables, params, 3)
    tables |= brain_selection.share_stimuli(lazy(tables), params, context(tmp_path))
    found = brain_selection.select_stimuli(lazy(tables), params, context(tmp_path))
    assert set(found["stimulus_reliability"]["selection"]) == {"all"}
    assert found["stimulus_reliability"]["selected"].all()
    assert found["noise_ceilings"]["ceiling_low"].null_count() == found["noise_ceilings"].height
    assert set(found["noise_ceilings"]["n_stimuli"]) == {n_common}
    made = null_brains.compared(tables | found, params, tmp_path, encoding=False)
    assert made["rsa_maps"]["rho"].drop_nulls().len() > 0


def test_the_papers_selection_needs_permutations_and_old_parameters_are_read() -> None:
    text = null_brains.settings("ratings", 9).model_dump(mode="json", exclude_unset=True)
    text["brain"]["searchlight"]["permutations"] = 0
    with pytest.raises(UsageError, match="selection: ratings"):
        parse(yaml.safe_dump(text))
    text["brain"]["searchlight"]["selection"] = "others"
    assert parse(yaml.safe_dump(text)).brain is not None
    del text["brain"]["searchlight"]["selection"], text["brain"]["reference"], text["brain"]["mask"]
    assert parse(yaml.safe_dump(text)).brain.searchlight.selection == "auto"  # type: ignore[union-attr]
    text["brain"]["reference"] = "nobody"
    with pytest.raises(UsageError, match=r"brain\.reference"):
        parse(yaml.safe_dump(text))


def test_planted_patterns_are_in_both_presentations(tmp_path: Path) -> None:
    params = null_brains.settings("halves", 4)
    reliable = [
        null_brains.study(params, "white", 1, tmp_path, n_subjects=2, repeats=True, planted=planted)["betas"]
        for planted in (0.0, 2.0)
    ]
    without, planted = (np.nanmean(one["split_half_r"].to_numpy()) for one in reliable)
    assert abs(without) < 0.05 and planted > 0.3
