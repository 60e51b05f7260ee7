"""The whole of a small study through the command line: build, again, change, break, `dvc repro`, report."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
import pytest
import yaml

from affectlake.lake.query import query
from affectlake.lake.store.versions import Manifest, list_versions, resolve
from tests.support.builds import copy_of
from tests.support.demo_lakes import affectlake, one_version, sets, two_versions


@pytest.fixture(scope="module")
def built() -> Path:
    """A small demo study."""
    return one_version()


@pytest.fixture
def lake(built: Path, tmp_path: Path) -> Path:
    """A copy of the built study that a test may change."""
    return copy_of(built, tmp_path / "lake")


def hashes(lake: Path) -> dict[str, str]:
    return {str(output): digest for output, digest in Manifest(lake, "").digests.items()}


def test_a_build_is_one_version_of_all_tables(built: Path) -> None:
    (version,) = list_versions(built)
    tables = Manifest(built, version.commit).tables()
    assert set(tables) == {
        "stimuli", "exclusions", "families", "ratings", "captions", "features", "triplets", "choices", "embeddings",
        "learning_curves", "layouts", "metrics", "videos", "frames", "voxels", "betas", "stimulus_reliability",
        "shared_stimuli",
        "noise_ceilings", "encoding_maps", "encoding_weights", "rsa_maps", "roi_scores", "group_stats", "labels",
        "encoding_nulls", "rsa_nulls", "basis_stats", "prevalence", "group_maps",
        "voxel_reliability", "motion", "variance_partition", "partition_maps", "partition_winners", "partition_stats",
        "graph_nodes", "graph_edges", "sweeps", "comparisons", "community_overlaps", "fits",
        "alignments", "dimension_matches", "closeness", "closeness_pairs",
    }  # fmt: skip
    assert len(tables["choices"]) == 3


def test_the_report_is_where_the_build_says(built: Path) -> None:
    page = (built / "storage/reports/v1.html").read_text()
    assert "synthetic" in page.lower()
    assert "human-category" in page


def test_brain_maps_are_images_of_the_tables(built: Path, tmp_path: Path) -> None:
    printed = affectlake("maps", tmp_path / "maps", "--lake", built).stdout.split()
    assert len(printed) == len(set(printed)) and all(Path(path).is_file() for path in printed)
    image = nib.load(tmp_path / "maps/synthetic-2/human-category_encoding_embedding.nii.gz")
    sql = """SELECT voxel_i, voxel_j, voxel_k, x_mm, y_mm, z_mm, encoding_r
             FROM encoding_maps JOIN voxels USING (subject, voxel_index)
             WHERE subject = 'synthetic-2' AND agent = 'human-category' AND basis = 'embedding'"""
    rows = query(built, sql).pl()
    places = rows.select("voxel_i", "voxel_j", "voxel_k").to_numpy()
    values = np.asarray(image.dataobj)
    assert np.isfinite(values).sum() == rows.height
    assert np.allclose(values[tuple(places.T)], rows["encoding_r"], atol=1e-6)
    assert np.allclose(nib.affines.apply_affine(image.affine, places), rows.select("x_mm", "y_mm", "z_mm"), atol=1e-3)


def test_a_second_run_does_nothing(lake: Path) -> None:
    done = affectlake("run", "--lake", lake)
    assert "v1 is up to date (0 stages run" in done.stderr
    assert len(list_versions(lake)) == 1


def test_settings_of_agents_stale_the_stages_of_these_agents_alone() -> None:
    lake = two_versions()  # the second version has other settings of two of the three agents
    v1, v2 = (Manifest(lake, version.commit).digests for version in list_versions(lake))
    changed = {str(output) for output in v1 if v1[output] != v2.get(output)}
    mine = ("embeddings", "learning_curves", "layouts", "metrics", "encoding_maps", "encoding_weights", "rsa_maps")
    assert {f"{table}/human-category" for table in (*mine, "roi_scores")} | {"group_stats"} <= changed
    assert "choices/human-category" not in changed and "choices/caption-tfidf" in changed
    between = (  # tables that set agents beside one another
        "group_stats", "prevalence", "group_maps", "comparisons", "community_overlaps", "alignments",
        "dimension_matches", "closeness", "closeness_pairs", "variance_partition", "partition_maps",
        "partition_winners", "partition_stats",
    )  # fmt: skip
    others = [name for name in changed if name.split("/")[0] not in between]
    assert {name.partition("/")[2] for name in others} == {"human-category", "caption-tfidf"}


def test_an_agent_taken_out_leaves_the_next_version_alone(lake: Path) -> None:
    params = yaml.safe_load((lake / "params.yaml").read_text())
    del params["agents"]["caption-tfidf"], params["brain"]["partition"]["bands"]["language"]
    (lake / "params.yaml").write_text(yaml.safe_dump(params))
    affectlake("run", "--no-report", "--lake", lake)
    sql = "SELECT DISTINCT agent FROM choices{} ORDER BY agent"
    now = affectlake("query", sql.format(""), "--lake", lake, "--format", "csv").stdout.split()
    before = affectlake("query", sql.format("@v1"), "--lake", lake, "--format", "csv").stdout.split()
    assert now == ["agent", "human-category", "human-dimension"]
    assert before == ["agent", "caption-tfidf", "human-category", "human-dimension"]
    # they set agents beside one another
    for table in ("group_stats", "prevalence", "comparisons", "community_overlaps"):
        found = query(lake, f"SELECT DISTINCT agent FROM {table} ORDER BY agent").fetchall()
        assert found == [("human-category",), ("human-dimension",)], table
    assert not (lake / "storage/tables/choices/caption-tfidf").exists()


def test_dvc_repro_gives_the_same_bytes(lake: Path) -> None:
    before = hashes(lake)
    lock = yaml.safe_load((lake / "dvc.lock").read_text())
    made = ("embeddings", "learning_curves", "fits", "layouts", "rsa_maps", "rsa_nulls")
    for stage in (
        "embed@caption-tfidf",
        "rank_fits@caption-tfidf",
        "lay_out@caption-tfidf",
        "search_brains@caption-tfidf",
    ):
        del lock["stages"][stage]
    (lake / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    for table in made:
        shutil.rmtree(lake / "storage/tables" / table / "caption-tfidf", ignore_errors=True)
    command = ["dvc", "repro", "lay_out@caption-tfidf", "search_brains@caption-tfidf"]
    done = subprocess.run(command, cwd=lake, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert hashes(lake) == before


def test_the_order_in_which_stages_ended_makes_no_version(lake: Path) -> None:
    lock = yaml.safe_load((lake / "dvc.lock").read_text())
    lock["stages"] = dict(reversed(lock["stages"].items()))
    (lake / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    assert "nothing changed" in affectlake("publish", "--lake", lake).stderr


def test_lost_tables_come_back_from_the_cache(lake: Path) -> None:
    before = hashes(lake)
    shutil.rmtree(lake / "storage/tables/choices")
    done = affectlake("run", "--no-report", "--lake", lake)
    assert "restoring" in done.stderr
    assert "0 stages run" in done.stderr
    assert hashes(lake) == before


def test_a_table_changed_by_hand_stops_the_run(lake: Path) -> None:
    (path,) = (lake / "storage/tables/ratings").glob("*.parquet")
    path.chmod(0o644)
    pl.read_parquet(path).head(10).write_parquet(path)
    done = affectlake("run", "--no-report", "--lake", lake, ok=1)
    assert "changed by hand" in done.stderr
    assert "dvc checkout --force storage/tables/ratings" in done.stderr
    subprocess.run(["dvc", "checkout", "--force", "--quiet", "storage/tables/ratings"], cwd=lake, check=True)
    affectlake("run", "--no-report", "--lake", lake)


def test_bad_params_leave_the_version_as_it_was(lake: Path) -> None:
    before = (lake / "params.yaml").read_bytes(), resolve(lake)
    done = affectlake("run", "--no-report", "--lake", lake, *sets("geometry.permutations=many"), ok=2)
    assert "geometry.permutations" in done.stderr
    assert ((lake / "params.yaml").read_bytes(), resolve(lake)) == before


def test_a_failing_stage_publishes_nothing(lake: Path) -> None:
    done = affectlake("run", "--no-report", "--lake", lake, *sets("triplets.noise_ceiling=1000000"), ok=1)
    assert "1,000,000" in done.stderr
    assert [v.name for v in list_versions(lake)] == ["v1"]
    assert (
        affectlake("query", "SELECT count(*) AS n FROM stimuli", "--lake", lake, "--format", "csv").stdout == "n\n60\n"
    )
    affectlake("run", "--no-report", "--lake", lake, *sets("triplets.noise_ceiling=50"))
    assert [v.name for v in list_versions(lake)] == ["v1"]


def test_every_fit_is_in_mlflow(built: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{built}/storage/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "demo"]
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"  # its page opens on the runs
    runs = client.search_runs([experiment.experiment_id])
    seeds = yaml.safe_load((built / "params.yaml").read_text())["spose"]["seeds"]
    assert len(runs) == 3 * len(seeds)
    run = next(r for r in runs if r.data.params["agent"] == "human-category")
    assert run.info.status == "FINISHED"
    assert run.data.params["spose.l1"] == "0.004"
    assert run.data.params["input.choices/human-category"] == hashes(built)["choices/human-category"]
    curve = client.get_metric_history(run.info.run_id, "validation_loss")
    rows = pl.read_parquet(built / "storage/tables/learning_curves/human-category/*.parquet")
    seed = int(run.data.params["seed"])
    assert [m.value for m in curve] == rows.filter(pl.col("seed") == seed)["validation_loss"].to_list()
    files = {
        f.path
        for top in client.list_artifacts(run.info.run_id)
        for f in client.list_artifacts(run.info.run_id, top.path)
    }
    assert files == {f"checkpoint/seed-{seed}.npz", "figures/embedding.png"}


def test_planted_structure_is_found(built: Path) -> None:
    metrics = pl.read_parquet(built / "storage/tables/metrics/human-category/*.parquet")
    held_out = metrics.filter(pl.col("analysis") == "held_out", pl.col("measure") == "accuracy")["value"]
    assert held_out.min() > 0.8
    top1 = metrics.filter(pl.col("measure") == "top1_accuracy")
    assert (top1["value"] > 2 * top1["chance"]).all()
    assert (top1["p_value"] < 0.05).all()


def test_versions_and_steps_for_machines(built: Path) -> None:
    (version,) = json.loads(affectlake("versions", "--lake", built, "--json").stdout)
    assert version["name"] == "v1"
    rows = json.loads(affectlake("steps", "--lake", built, "--json").stdout)
    assert {row["state"] for row in rows} == {"up to date"}


def test_rows_come_as_table_csv_and_json(built: Path) -> None:
    sql = "SELECT trial_set, count(*) AS n FROM triplets GROUP BY ALL ORDER BY ALL"
    table = affectlake("query", sql, "--lake", built).stdout
    lines = affectlake("query", sql, "--lake", built, "--format", "csv").stdout.splitlines()
    rows = [
        json.loads(line) for line in affectlake("query", sql, "--lake", built, "--format", "jsonl").stdout.splitlines()
    ]
    assert "noise_ceiling" in table
    assert lines[:2] == ["trial_set,n", f"main,{3 * 60 * 59 // 2}"]
    assert rows[0] == {"trial_set": "main", "n": 5310}


MISUSES = {
    "unknown command": (["frobnicate"], 2, "there is no command 'frobnicate'"),
    "nearest command": (["vesions"], 2, "did you mean 'versions'"),
    "unknown study": (["init", "x", "--study", "emotions"], 2, "did you mean 'emotion'"),
    "not a lake": (["run", "--lake", "/"], 1, "is not a lake"),
    "bad option": (["run", "--nope"], 2, "No such option"),
}


@pytest.mark.parametrize("case", list(MISUSES))
def test_misuse_is_one_message(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, code, words = MISUSES[case]
    monkeypatch.chdir(tmp_path)
    assert words in affectlake(*arguments, ok=code).stderr


NO_SOURCES = {
    "not set": ([], ["sources.ratings, the path of CowenKeltnerEmotionalVideos.csv, is not set"]),
    "no such file": (
        sets("sources.ratings=/nowhere/ratings.csv", "sources.captions=captions.csv"),
        ["sources.ratings: there is no file /nowhere/ratings.csv", "sources.captions: there is no file "],
    ),
}


@pytest.mark.parametrize("case", list(NO_SOURCES))
def test_missing_sources_are_named_before_anything_starts(case: str, tmp_path: Path) -> None:
    settings, words = NO_SOURCES[case]
    lake = tmp_path / "lake"
    created = affectlake("init", lake, "--study", "emotion", *settings)
    done = affectlake("run", "--no-report", "--lake", lake, ok=1)
    for word in words:
        assert word in created.stderr and word in done.stderr
    assert "nothing was run" in done.stderr and "ingest: started" not in done.stderr
    assert list_versions(lake) == []


def test_init_reads_the_sources_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("Filename,Joy\n1.mp4,0.5\n")
    created = affectlake("init", tmp_path / "lake", *sets(f"sources.ratings={tmp_path / 'ratings.csv'}"))
    assert "the sources cannot be read yet: the ratings file" in created.stderr and "lacks" in created.stderr
    assert "cannot be read" not in affectlake("init", tmp_path / "demo", "--study", "demo").stderr


def test_a_missing_file_of_one_stage_does_not_stop_the_others(lake: Path) -> None:
    params = yaml.safe_load((lake / "params.yaml").read_text())
    params["brain"]["sources"] = {"kind": "bdata", "subjects": {"S1": "nowhere.h5"}}
    params["agents"]["caption-tfidf"]["l1"] *= 2
    (lake / "params.yaml").write_text(yaml.safe_dump(params))
    said = affectlake("run", "--no-report", "--lake", lake, ok=1).stderr
    assert "ingest_brains will fail: brain.sources.subjects.S1: there is no file" in said
    assert "] embed@caption-tfidf: done" in said
    assert len(list_versions(lake)) == 1


def test_one_stage_can_be_run_alone(lake: Path) -> None:
    args = ("run", "--lake", lake, *sets("agents.caption-tfidf.l1=0.02", "agents.human-category.l1=0.02"))
    done = json.loads(affectlake(*args, "--only", "embed@caption-tfidf", "--json").stdout)
    assert done["ran"] == ["embed@caption-tfidf"] and "embed@human-category" in done["to_run"]
    assert (done["version"], done["published"]) == (None, False) and len(list_versions(lake)) == 1
    assert "ingest" in done["up_to_date"] and "measure@caption-tfidf" in done["to_run"]
    done = json.loads(affectlake("run", "--no-report", "--lake", lake, "--only", "embed", "--json").stdout)
    assert done["ran"] == ["embed@human-category"]
    states = {row["stage"]: row["state"] for row in json.loads(affectlake("steps", "--lake", lake, "--json").stdout)}
    assert states["embed@caption-tfidf"] == states["embed@human-category"] == "up to date"
    assert states["measure@caption-tfidf"] == "to run"


def test_stages_that_are_up_to_date_run_again_when_forced(lake: Path) -> None:
    before = hashes(lake)
    done = json.loads(affectlake("run", "--no-report", "--lake", lake, "--only", "sample", "--force", "--json").stdout)
    assert done["ran"] == ["sample"] and done["up_to_date"] == ["ingest"] and done["to_run"] == []
    assert done["report"] is None
    assert (done["version"], done["published"]) == ("v1", False) and len(done["headline"]) == 3
    assert hashes(lake) == before
    assert (
        "there is no stage 'sampel'"
        in affectlake("run", "--no-report", "--lake", lake, "--only", "sampel", ok=2).stderr
    )
