"""The steps of the brain on a small made-up world: planted voxels are won by the agent they were planted for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from affectlake.brain.recordings.synthetic import CATEGORY, DIMENSION
from affectlake.errors import UsageError
from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables import memmaps
from affectlake.lake.tables.parts import part_files
from affectlake.lake.tables.writing import write_outputs
from affectlake.pipelines.engine import dvcfile
from affectlake.pipelines.engine.graph import stages, steps_of
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import override, parse
from affectlake.pipelines.step import OutputTables
from affectlake.pipelines.steps import brain, brain_groups, brain_maps, brain_selection, rows
from affectlake.pipelines.steps import stimuli as stimuli_steps
from affectlake.pipelines.stored import NOTHING, Stored
from tests.support.brain_worlds import AGENTS, PARAMS, TEXT, context, lazy, with_embedding
from tests.support.chat import ENTRY


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> OutputTables:
    here = context(tmp_path_factory.mktemp("brains"))
    study = stimuli_steps.ingest({}, PARAMS, here)
    tables = study | brain.ingest_brains(lazy(study), PARAMS, here)
    both = [with_embedding(tables, PARAMS, agent) for agent in AGENTS]
    fitted = {name: pl.concat([one[name] for one in both]) for name in ("embeddings", "fits")}
    tables |= brain_selection.share_stimuli(lazy(tables | fitted), PARAMS, here)
    return tables | brain_selection.select_stimuli(lazy(tables), PARAMS, here)


@pytest.fixture(scope="module")
def maps(world: OutputTables, tmp_path_factory: pytest.TempPathFactory) -> OutputTables:
    """Maps and region scores of both agents, and the comparison."""
    found: dict[str, list[pl.DataFrame]] = {}
    for agent in AGENTS:
        here = context(tmp_path_factory.mktemp(agent), agent)
        tables = with_embedding(world, PARAMS, agent)
        mine = brain_maps.encode_brains(lazy(tables), PARAMS, here) | brain_maps.search_brains(
            lazy(tables), PARAMS, here
        )
        mine |= brain_groups.score_regions(lazy(tables | mine), PARAMS, here)
        mine |= brain_groups.compare_bases(lazy(tables | mine), PARAMS, here)
        for name, frame in mine.items():
            found.setdefault(name, []).append(frame)
    every = {name: pl.concat(frames) for name, frames in found.items()}
    two = parse(TEXT.replace("  caption-tfidf:", "  # caption-tfidf:"))
    return every | brain_groups.compare_brains(lazy(world | every), two, context(Path()))


def test_every_table_keeps_its_contract(world: OutputTables, maps: OutputTables, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    repository.init(lake, TEXT)
    outputs = {
        Output(name): world[name]
        for name in ("voxels", "betas", "shared_stimuli", "stimulus_reliability", "noise_ceilings")
    }
    for name in ("encoding_maps", "encoding_weights", "encoding_nulls", "rsa_maps", "rsa_nulls", "roi_scores",
                 "basis_stats", "group_stats", "prevalence"):  # fmt: skip
        mine, whole = maps[name], name in ("group_stats", "prevalence")
        outputs[Output(name, "" if whole else "human-category")] = (
            mine if whole else mine.filter(pl.col("agent") == "human-category")
        )
    assert write_outputs(lake, "brains", outputs, {"stimuli": world["stimuli"].lazy()}) > 0


def test_patterns_mapped_from_files_give_the_same_maps(world: OutputTables, maps: OutputTables, tmp_path: Path) -> None:
    repository.init(tmp_path / "lake", TEXT)
    write_outputs(tmp_path / "lake", "brains", {Output("betas"): world["betas"]}, {"stimuli": world["stimuli"].lazy()})
    files = tuple(part_files(tmp_path / "lake" / Output("betas").folder))
    here = replace(context(tmp_path / "lake", AGENTS[0]), parts={"betas": files})
    tables = lazy(with_embedding(world, PARAMS, AGENTS[0]))
    chosen = brain_selection.select_stimuli(tables, PARAMS, here)
    assert all(chosen[name].equals(world[name]) for name in chosen)
    for found in (brain_maps.encode_brains(tables, PARAMS, here), brain_maps.search_brains(tables, PARAMS, here)):
        for name, frame in found.items():
            assert frame.equals(maps[name].filter(pl.col("agent") == AGENTS[0]))
    assert len([path for _, path in memmaps.mapped_files(tmp_path / "lake") if path.suffix == ".npy"]) == 3


def test_planted_voxels_are_won_by_their_agent(world: OutputTables, maps: OutputTables) -> None:
    for table, value, least in (("encoding_maps", "encoding_r", 0.9), ("rsa_maps", "rho", 0.65)):
        rows = maps[table].filter(pl.col("basis") == "embedding").drop_nulls(value)
        wide = rows.join(world["voxels"], on=["subject", "voxel_index"]).pivot(
            "agent", index=["subject", "voxel_index", "regions"], values=value
        )
        region = pl.col("regions").str.split(" ").list.last()
        better = pl.col("human-category") > pl.col("human-dimension")
        won = [wide.filter(region.is_in(list(which))).select(better.mean()).item() for which in (CATEGORY, DIMENSION)]
        assert won[0] > least
        assert won[1] < 1 - least


def test_group_statistics_name_the_winner(maps: OutputTables) -> None:
    found = maps["group_stats"].filter((pl.col("agent") == "human-category") & (pl.col("method") == "encoding"))
    rows = {row["region"]: row for row in found.to_dicts()}
    assert rows["VC"]["difference"] > 0.1
    assert rows["VC"]["share_won"] > 0.9
    assert rows["OFC"]["difference"] < -0.05
    assert rows["OFC"]["p_fdr"] < 0.05
    assert rows["VC"]["n_subjects"] == 3
    mirrored = maps["group_stats"].filter((pl.col("other_agent") == "human-category") & (pl.col("region") == "VC"))
    assert mirrored.filter(pl.col("method") == "encoding")["difference"].item() == -rows["VC"]["difference"]


@pytest.mark.reference
def test_group_statistics_are_scipys_and_statsmodels(maps: OutputTables) -> None:
    from scipy import stats
    from statsmodels.stats.multitest import multipletests

    for method in ("encoding", "searchlight"):
        found = maps["group_stats"].filter(pl.col("method") == method)
        scores = maps["roi_scores"].filter(pl.col("method") == method, pl.col("basis") == "embedding")
        for row in found.drop_nulls("p").to_dicts():
            pair = [
                scores.filter(pl.col("agent") == name, pl.col("region") == row["region"]).sort("subject")
                for name in (row["agent"], row["other_agent"])
            ]
            theirs = stats.ttest_rel(*(one["region_score"].to_numpy() for one in pair))
            assert (row["t"], row["p"]) == pytest.approx((theirs.statistic, theirs.pvalue))
        tested = found.drop_nulls("p")
        assert tested["p_fdr"].to_numpy() == pytest.approx(multipletests(tested["p"], method="fdr_bh")[1])
        assert (tested["p_fdr"] > tested["p"]).any()
        planned = tested.filter(pl.col("other_agent") == "human-category")
        larger = planned.select(pl.max_horizontal("p", "p_null")).to_series()
        assert planned["p_reference_fdr"].to_numpy() == pytest.approx(multipletests(larger, method="fdr_bh")[1])
        assert found.filter(pl.col("other_agent") != "human-category")["p_reference_fdr"].null_count() == len(found) / 2


def test_levels_of_differences_are_those_of_relabelled_stimuli(maps: OutputTables) -> None:
    keys = {"basis": "embedding", "region": "VC"}
    drawn = maps["rsa_nulls"].filter(*(pl.col(key) == value for key, value in keys.items())).sort("agent", "subject")
    null = np.array(drawn["null_scores"].to_list()).reshape(2, 3, 19)  # agents, subjects, relabellings
    own = maps["roi_scores"].filter(
        *(pl.col(key) == value for key, value in keys.items()), pl.col("method") == "searchlight"
    ).sort("agent", "subject")  # fmt: skip
    scores = own["region_score"].to_numpy().reshape(2, 3)
    values = np.append((scores[0] - scores[1]).mean(), (null[0] - null[1]).mean(axis=0))
    z = np.abs(values - values.mean())
    expected = (1 + (z[1:] >= z[0]).sum()) / 20
    row = maps["group_stats"].filter(
        pl.col("region") == "VC", pl.col("method") == "searchlight", pl.col("agent") == "human-category"
    )  # fmt: skip
    assert row["p_null"].item() == pytest.approx(expected)


def test_subjects_are_significant_by_their_own_relabelled_stimuli(maps: OutputTables) -> None:
    keys = ["agent", "subject", "region"]
    scores = maps["roi_scores"].filter(basis="embedding", method="searchlight").drop_nulls("region_score")
    drawn = maps["rsa_nulls"].filter(basis="embedding").select(*keys, "null_scores")
    beaten = scores.join(drawn, on=keys).with_columns(
        best=pl.col("region_score") > pl.col("null_scores").list.max() + 1e-7  # of 19: p = 1 / 20
    )
    expected = beaten.group_by("agent", "region").agg(n=pl.len(), k=pl.col("best").sum()).sort("agent", "region")
    found = maps["prevalence"].filter(method="searchlight").drop_nulls("n_significant").sort("agent", "region")
    assert found["region"].to_list() == expected["region"].to_list()
    assert found["n_significant"].to_list() == expected["k"].to_list()
    assert found["n_subjects"].to_list() == expected["n"].to_list()
    assert set(found["subject_level"]) == {0.05} and found["note"].null_count() == found.height
    assert 0 < sum(expected["k"]) < sum(expected["n"])
    row = found.filter(agent="human-category", region="VC").to_dicts()[0]
    assert (row["n_significant"], row["prevalence"], row["prevalence_high"]) == (3, 1.0, 1.0)
    # all of three: the posterior of θ is 4 θ³ above 0.05, of which 5 % are below the bound
    assert row["prevalence_bound"] == row["prevalence_low"] == pytest.approx((0.05**0.25 - 0.05) / 0.95, abs=1e-4)
    encoding = maps["prevalence"].filter(method="encoding")
    assert set(encoding["note"]) == {"1 relabelling is too few for a level of 0.05"}


def test_differences_have_effect_sizes_bayes_factors_and_prevalences(maps: OutputTables) -> None:
    values = ["effect_size", "effect_ci_low", "effect_ci_high", "bayes_factor"]
    for name in ("group_stats", "basis_stats"):
        tested, without = maps[name].drop_nulls("t"), maps[name].filter(pl.col("t").is_null())
        assert tested.height > 20 and tested.select(values).null_count().sum_horizontal().item() == 0
        assert (tested["effect_size"].sign() == tested["difference"].sign()).all()
        assert ((tested["effect_ci_low"] * tested["effect_ci_high"] > 0) == (tested["p"] < 0.05)).all()
        assert without.select(pl.all_horizontal(pl.col(values).is_null()).all()).item()
    differences = maps["group_stats"].filter(method="searchlight").drop_nulls("n_significant")
    rows = {(row["agent"], row["region"]): row["n_significant"] for row in differences.to_dicts()}
    assert rows["human-category", "VC"] == 3 and rows["human-dimension", "VC"] == 0
    encoding = maps["basis_stats"].filter(method="encoding")
    assert encoding["n_significant"].null_count() == encoding.height  # ratings have no relabelled encoding


@pytest.mark.reference
def test_bases_are_compared_as_scipy_and_statsmodels_do(world: OutputTables, maps: OutputTables) -> None:
    from scipy import stats
    from statsmodels.stats.multitest import multipletests

    tables = {"encoding": ("encoding_maps", "encoding_r"), "searchlight": ("rsa_maps", "rho")}
    assert set(maps["basis_stats"].select("agent", "method").unique().rows()) == {
        (agent, method) for agent in AGENTS for method in tables
    }
    for (agent, method), found in maps["basis_stats"].group_by("agent", "method"):
        own = maps["roi_scores"].filter(agent=agent, method=method)
        table, value = tables[str(method)]
        values = maps[table].filter(agent=agent).join(world["voxels"], on=["subject", "voxel_index"])
        wide = values.pivot("basis", index=["subject", "voxel_index", "regions"], values=value)
        tested = found.drop_nulls("p")
        assert len(tested) > 10
        for row in tested.to_dicts():
            here = own.filter(region=row["region"]).sort("subject")
            pair = [here.filter(basis=basis)["region_score"].to_numpy() for basis in ("embedding", "vectors")]
            theirs = stats.ttest_rel(*pair)
            ends = theirs.confidence_interval(0.95)
            assert (row["t"], row["p"]) == pytest.approx((theirs.statistic, theirs.pvalue))
            assert (row["ci_low"], row["ci_high"]) == pytest.approx((ends.low, ends.high))
            assert row["difference"] == pytest.approx((pair[0] - pair[1]).mean())
            assert row["n_subjects"] == 3
            member = pl.lit(row["region"] == "all") | pl.col("regions").str.split(" ").list.contains(row["region"])
            inside = wide.filter(member)
            won = inside.drop_nulls(["embedding", "vectors"]).group_by("subject").agg(
                ((pl.col("embedding") > pl.col("vectors")) + 0.5 * (pl.col("embedding") == pl.col("vectors"))).mean()
            )  # fmt: skip
            assert row["share_won"] == pytest.approx(won.to_series(1).mean(), abs=1e-6)
        assert tested["p_fdr"].to_numpy() == pytest.approx(multipletests(tested["p"], method="fdr_bh")[1])
        if method == "encoding":  # rating vectors have no null distribution of encoding
            assert found["p_null"].null_count() == found["p_both_fdr"].null_count() == len(found)
            continue
        larger = tested.select(pl.max_horizontal("p", "p_null")).to_series()
        assert tested["p_both_fdr"].to_numpy() == pytest.approx(multipletests(larger, method="fdr_bh")[1])
        drawn = maps["rsa_nulls"].filter(agent=agent, region="VC").sort("subject")
        null = [np.array(drawn.filter(basis=basis)["null_scores"].to_list()).mean(axis=0)
                for basis in ("embedding", "vectors")]  # fmt: skip
        row = found.filter(region="VC").row(0, named=True)
        every = np.append(row["difference"], null[0] - null[1])
        z = np.abs(every - every.mean())
        assert row["p_null"] == pytest.approx((1 + (z[1:] >= z[0]).sum()) / 20)


def test_an_embedding_that_lost_the_ratings_is_found_to_be_worse(world: OutputTables) -> None:
    """The rows of the embedding are exchanged: in the regions that follow the ratings, the vectors win."""
    agent = "human-category"
    tables = with_embedding(world, PARAMS, agent)
    order = np.random.default_rng(0).permutation(world["stimuli"].height).astype(np.int32)
    lost = tables["embeddings"].with_columns(
        stimulus_index=pl.Series(order[tables["embeddings"]["stimulus_index"].to_numpy()])
    )
    here = context(Path(), agent)
    mine = brain_maps.encode_brains(lazy(tables | {"embeddings": lost}), PARAMS, here)
    mine |= {name: rows.to_table(name, []) for name in ("rsa_maps", "rsa_nulls")}
    mine |= brain_groups.score_regions(lazy(tables | mine), PARAMS, here)
    found = brain_groups.compare_bases(lazy(tables | mine), PARAMS, here)["basis_stats"].filter(method="encoding")
    planted = found.filter(region="VC").row(0, named=True)
    assert planted["difference"] < -0.1
    assert planted["ci_high"] < 0
    assert planted["p_fdr"] < 0.05
    assert planted["share_won"] < 0.1


def test_region_scores_are_means_of_the_maps(world: OutputTables, maps: OutputTables) -> None:
    keys = {"agent": "human-category", "subject": "synthetic-1", "basis": "embedding"}
    one = maps["rsa_maps"].filter(*(pl.col(key) == value for key, value in keys.items()))
    inside = world["voxels"].filter((pl.col("subject") == "synthetic-1") & pl.col("regions").str.contains(r"\bVC\b"))
    expected = one.join(inside, on=["subject", "voxel_index"])["rho"].cast(pl.Float64)
    score = maps["roi_scores"].filter(
        *(pl.col(key) == value for key, value in keys.items()),
        pl.col("method") == "searchlight",
        pl.col("region") == "VC",
    )
    assert score["region_score"].item() == pytest.approx(expected.drop_nulls().mean())
    assert score["n_voxels"].item() == expected.drop_nulls().len()


def test_reliable_stimuli_are_selected_and_ceilings_bound_the_scores(world: OutputTables) -> None:
    reliability = world["stimulus_reliability"]
    kept = reliability.group_by("subject").agg(pl.col("selected").sum(), low=pl.col("reliability").min())
    assert kept["selected"].to_list() == [90] * 3
    mean = reliability.group_by("stimulus_index", "selected").agg(pl.col("reliability").mean())
    assert mean.height == 240  # the same stimuli in all subjects
    least, most = (mean.filter(pl.col("selected") == kept)["reliability"] for kept in (True, False))
    assert least.min() >= most.max()
    ceilings = world["noise_ceilings"].drop_nulls()
    assert (ceilings["ceiling_low"] <= ceilings["ceiling_high"]).all()
    assert ceilings.filter(pl.col("region") == "VC")["ceiling_low"].item() > 0.2


def test_a_missing_stimulus_and_a_dead_voxel_are_null_and_spoil_nothing(world: OutputTables, tmp_path: Path) -> None:
    betas = world["betas"]
    patterns = np.array(betas["pattern"].to_list(), dtype=np.float32)
    patterns[betas["subject"] == "synthetic-1", 3] = 0.1
    patterns[7, 5] = np.nan
    broken = betas.with_columns(pattern=pl.Series(patterns.tolist(), dtype=pl.List(pl.Float32)))
    broken = broken.filter(~((pl.col("subject") == "synthetic-1") & pl.col("stimulus_index").is_in([0, 30])))
    dead = (pl.col("subject") == "synthetic-1") & pl.col("voxel_index").is_in([3, 5])
    voxels = world["voxels"].with_columns(usable=~dead)
    tables = with_embedding(world | {"betas": broken, "voxels": voxels}, PARAMS, "human-category")
    tables |= brain_selection.select_stimuli(lazy(tables), PARAMS, context(tmp_path))
    assert tables["stimulus_reliability"].filter(pl.col("subject") == "synthetic-1").height == 238
    here = context(tmp_path, "human-category")
    encoded = brain_maps.encode_brains(lazy(tables), PARAMS, here)["encoding_maps"]
    searched = brain_maps.search_brains(lazy(tables), PARAMS, here)["rsa_maps"]
    for frame, value in ((encoded, "encoding_r"), (searched, "rho")):
        lost = frame.filter(pl.col("basis") == "embedding", pl.col(value).is_null() & dead)
        assert sorted(lost["voxel_index"].to_list()) == [3, 5]
        assert frame.filter(~dead, pl.col("subject") == "synthetic-1")[value].drop_nulls().len() > 100


def test_too_few_runs_name_the_subject_and_spheres_that_are_too_small_are_said(
    world: OutputTables, tmp_path: Path
) -> None:
    text = override(TEXT, ("brain.encoding.outer_folds=90", "brain.searchlight.min_voxels=500"))
    tables, lines = with_embedding(world, PARAMS, "human-category"), list[str]()
    with pytest.raises(UsageError, match="synthetic-1: too few runs for the folds"):
        brain_maps.encode_brains(lazy(tables), parse(text), context(tmp_path, "human-category"))
    found = brain_maps.search_brains(lazy(tables), parse(text), context(tmp_path, "human-category", lines))["rsa_maps"]
    assert found["rho"].null_count() == found.height
    assert "synthetic-1, embedding: no map: no sphere has 500 usable voxels" in lines[0]


def test_time_series_are_read_with_their_events(tmp_path: Path) -> None:
    import nibabel as nib

    rng, planted = np.random.default_rng(0), np.random.default_rng(1).normal(size=(16, 8))
    ids = [f"v{at:02d}" for at in range(16)]
    runs = []
    for run in range(2):
        series = rng.normal(size=(40, 8)) * 0.01
        for row in range(8):
            series[row * 4 + 6 : row * 4 + 8] += planted[run * 8 + row]  # 4 s late, at a volume each 2 s
        image = nib.Nifti1Image(series.T.reshape(2, 2, 2, 40).astype(np.float32), np.diag([3.0, 3, 3, 1]))
        image.header.set_zooms((3, 3, 3, 2.0))
        nib.save(image, tmp_path / f"run{run}.nii.gz")
        lines = [f"{row * 8 + 8}\t4\t{ids[run * 8 + row]}" for row in range(8)]
        (tmp_path / f"run{run}.tsv").write_text("\n".join(["onset\tduration\ttrial_type", *lines]) + "\n")
        runs.append({"bold": f"run{run}.nii.gz", "events": f"run{run}.tsv"})
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.diag([3.0, 3, 3, 1])), tmp_path / "mask.nii.gz")
    raw = yaml.safe_load(TEXT)
    nib.save(nib.Nifti1Image(np.full((2, 2, 2), 7, np.uint8), np.diag([3.0, 3, 3, 1])), tmp_path / "atlas.nii.gz")
    (tmp_path / "dseg.tsv").write_text("index\tname\n7\tBrain-Stem\n")
    subject = {"mask": "mask.nii.gz", "runs": runs, "atlas": {"image": "atlas.nii.gz", "labels": "dseg.tsv"}}
    raw["brain"]["sources"] = {"kind": "images", "subjects": {"S1": subject}}
    text = yaml.safe_dump(raw)
    stimuli = pl.DataFrame({"stimulus_index": np.arange(16, dtype=np.int32), "stimulus_id": ids})
    found = brain.ingest_brains({"stimuli": stimuli.lazy()}, parse(text), context(tmp_path))
    patterns = np.array(found["betas"]["pattern"].to_list())
    assert found["betas"]["run"].to_list() == [1] * 8 + [2] * 8
    for half in (slice(0, 8), slice(8, 16)):  # within a run, as baseline and trend are taken out of each
        assert np.corrcoef(patterns[half].ravel(), (planted[half] - planted[half].mean(0)).ravel())[0, 1] > 0.9
    assert set(found["voxels"]["regions"]) == {"brainstem"}
    watched = dvcfile.render(parse(text), NOTHING)
    assert all(f"- {name}" in watched for name in ("run0.nii.gz", "run1.tsv", "mask.nii.gz", "dseg.tsv"))
    raw["brain"]["sources"]["subjects"]["S1"]["runs"][0]["tr"] = 2
    with pytest.raises(UsageError, match=r"subjects\.S1\.runs\[0\]\.tr is not a known key"):
        parse(yaml.safe_dump(raw))


def test_an_agent_without_an_embedding_has_no_maps_and_spoils_nothing(
    world: OutputTables, maps: OutputTables, tmp_path: Path
) -> None:
    tables = with_embedding(world, PARAMS, "human-category")
    tables["embeddings"] = tables["embeddings"].head(0)
    tables["fits"] = tables["fits"].with_columns(n_dimensions=pl.lit(0, pl.Int16))
    lines: list[str] = []
    here = context(tmp_path, "human-category", lines)
    made = brain_maps.encode_brains(lazy(tables), PARAMS, here) | brain_maps.search_brains(lazy(tables), PARAMS, here)
    made |= brain_groups.score_regions(lazy(tables | made), PARAMS, here)
    assert {name: frame.height for name, frame in made.items()} == dict.fromkeys(made, 0)
    assert lines[0].startswith("no brain maps")
    others = {name: pl.concat([maps[name].filter(pl.col("agent") == "human-dimension"), made[name]]) for name in made}
    compared = brain_groups.compare_brains(lazy(world | others), PARAMS, here)["group_stats"]
    assert compared.height == 0
    assert compared.schema == maps["group_stats"].schema


def test_a_study_without_the_section_has_no_brain_steps() -> None:
    without = parse(templates.starting_params("emotion"))
    assert without.brain is None
    assert not [name for name in stages(without, NOTHING) if "brain" in name]
    assert "brain" not in dvcfile.render(without, NOTHING)
    names = {step.name for step in steps_of(PARAMS)} - {step.name for step in steps_of(without)}
    assert names == {
        "ingest_brains", "share_stimuli", "select_stimuli", "encode_brains", "search_brains", "score_regions",
        "compare_brains", "compare_bases", "group_brain_maps",
    }  # fmt: skip


def test_the_section_in_the_real_study_can_be_switched_on() -> None:
    head, _, commented = templates.starting_params("emotion").partition("# With brain recordings")
    section = "\n".join(line.removeprefix("# ") for line in commented.splitlines()[1:])
    found = parse(f"{head}{section}\n").brain
    assert found is not None
    assert found.searchlight.n_stimuli == 1000
    assert found.searchlight.radius_voxels == 3


def test_dvc_watches_the_recordings() -> None:
    source = "sources: {kind: bdata, subjects: {S1: data/s1.h5, S2: data/s2.h5}}"
    head, _, rest = TEXT.partition("brain:")
    text = f"{head}brain:\n  {source}\n  encoding{rest.partition('  encoding')[2]}"
    rendered = dvcfile.render(parse(text), NOTHING)
    assert "- data/s1.h5\n    - data/s2.h5" in rendered
    with pytest.raises(UsageError, match=r"brain\.sources\.folds is not a known key"):
        parse(text.replace("kind: bdata", "folds: 3, kind: bdata"))
    with pytest.raises(UsageError, match="brain"):
        parse(text.replace("ranks: counted", "ranks: guessed"))


def test_an_agent_that_still_waits_for_answers_is_not_compared() -> None:
    raw = yaml.safe_load(TEXT)
    raw["agents"]["tiny"] = ENTRY | {"l1": 0.004}
    waiting = parse(yaml.safe_dump(raw))
    compared = {"human-category", "human-dimension", "caption-tfidf"}
    graph = stages(waiting, NOTHING)
    reads = {output.partition for output in graph["compare_brains"].reads}
    assert reads == compared | {""}
    assert not [name for name in graph if name.startswith("encode_brains") and name.endswith("tiny")]
    asked = stages(waiting, Stored(frozenset({"tiny"}), frozenset({"tiny"})))
    assert Output("rsa_maps", "tiny") in asked["compare_brains"].reads
    assert "encode_brains@tiny" in asked
