"""Anchored triplets that people judged, from an export to an embedding with its own likelihood, by the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from numpy.typing import NDArray

from affectlake.errors import AffectlakeError
from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.open import open_lake
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import override
from affectlake.spose.model import score
from tests.flows.test_judgments import affectlake
from tests.support.builds import built_once, copy_of
from tests.support.chat_lakes import SETTINGS, build_steps, run
from tests.support.judgment_files import simulate, table

N, GROUPS = 30, 3


def make(lake: Path) -> None:
    raw = yaml.safe_load(override(templates.starting_params("demo"), SETTINGS))
    raters = {"kind": "anchored", "l1": 0.01}
    raw["agents"] = {"human-category": raw["agents"]["human-category"], "raters": raters}
    raw["sweeps"] |= {"dimensions": [2, 4], "judgments": [1000]}
    repository.init(lake, yaml.safe_dump(raw, sort_keys=False))
    said: list[str] = []
    run(lake, said.append)
    waiting = "raters has no answers yet and is not fitted: import judgments with `affectlake import raters FILE...`"
    assert waiting in said


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake of 30 stimuli in which anchored triplets are awaited."""
    return copy_of(built_once("anchored", make), tmp_path / "lake")


def of(lake: Path, name: str) -> pl.DataFrame:
    return read_output(lake, Output(name, "raters")).collect()


def truth() -> NDArray[np.float64]:
    """Return a planted embedding of `N` stimuli in groups with one dimension each."""
    rng = np.random.default_rng(0)
    weights = np.zeros((N, GROUPS))
    weights[np.arange(N), np.arange(N) % GROUPS] = rng.uniform(1.5, 3, N)
    return weights


def salmon(lake: Path, path: Path, n: int = 6000, checks: int = 0, n_participants: int = 8) -> pl.DataFrame:
    """Write an export of Salmon with answers drawn by the planted embedding; return head, left, right and winner.

    The first `checks` rows of participant P0 are attention checks that show the head as an option, and are failed.
    """
    ids = read_output(lake, Output("stimuli")).sort("stimulus_index").collect()["stimulus_id"]
    rng, weights = np.random.default_rng(1), truth()
    shown = np.array([rng.choice(N, 3, replace=False) for _ in range(n)])
    shown = np.concatenate([shown, shown[: n // 10]])  # a tenth is answered twice
    head, left, right = shown.T
    of_left = (weights[head] * (weights[left] - weights[right])).sum(axis=1)
    winner = np.where(rng.random(len(of_left)) < 1 / (1 + np.exp(-of_left)), left, right)
    participant = np.arange(len(shown)) % n_participants
    rows = {"head": head, "left": left, "right": right, "winner": winner}
    frame = pl.DataFrame(
        {
            **rows,
            **{f"{role}_filename": ids.gather(one) for role, one in rows.items()},
            "puid": [f"P{one}" for one in participant],
            "response_time": rng.uniform(0.8, 3, len(shown)).round(3),
            "time_received_since_start": np.arange(len(shown)) * 1.5,
            "catch": [False] * len(shown),
        }
    )
    if checks:
        first = (pl.col("puid") == "P0") & (pl.col("puid").cum_count().over("puid") <= checks)
        frame = frame.with_columns(
            pl.when(first).then("head").otherwise("left").alias("left"),
            pl.when(first).then("head_filename").otherwise("left_filename").alias("left_filename"),
            pl.when(first).then("right").otherwise("winner").alias("winner"),
            pl.when(first).then("right_filename").otherwise("winner_filename").alias("winner_filename"),
            first.alias("catch"),
        )
    frame.write_csv(path)
    return frame


def test_an_export_becomes_an_embedding_of_its_own_likelihood(lake: Path, tmp_path: Path) -> None:
    written = salmon(lake, tmp_path / "responses.csv")
    dry = affectlake("import", "raters", tmp_path / "responses.csv", "--lake", lake, "--dry-run").stdout
    assert "6,600 judgments would be added" in dry
    assert "salmon" in dry and "winner = winner_filename" in dry
    affectlake("import", "raters", tmp_path / "responses.csv", "--lake", lake)
    again = affectlake("import", "raters", tmp_path / "responses.csv", "--lake", lake).stdout
    assert "nothing is new: all 6,600 judgments are stored" in again
    stored = of(lake, "responses")
    assert stored["given_odd"].null_count() == stored.height
    built = run(lake, lambda _line: None)
    assert {"choose_by_anchored@raters", "embed@raters", "sweep@raters", "measure@raters", "compare"} <= set(built.ran)
    assert "embed@human-category" not in built.ran

    choices = of(lake, "anchored_choices")
    assert sorted(choices.select("head", "winner", "loser").rows()) == sorted(
        (h, w, left + right - w) for h, left, right, w in written.select("head", "left", "right", "winner").iter_rows()
    )
    assert of(lake, "choices").is_empty()

    trials = of(lake, "trials")
    split = choices.join(trials, on=["i", "j", "k"], how="left")["split"]
    test = choices.filter(split == "test").select("head", "winner", "loser").to_numpy().astype(np.int32)
    fits = of(lake, "fits")
    assert fits["n_dimensions"].min() >= GROUPS
    seed = fits.filter("representative")["seed"][0]
    weights = of(lake, "embeddings").filter(pl.col("seed") == seed).sort("dimension", "stimulus_index")
    embedding = np.ascontiguousarray(weights["weight"].to_numpy().reshape(-1, N).T)
    r = np.corrcoef(truth(), embedding, rowvar=False)[:GROUPS, GROUPS:]
    assert r.max(axis=1).min() > 0.95

    metrics = of(lake, "metrics").filter(pl.col("seed").is_null() | (pl.col("seed") == seed))
    found = {(one["analysis"], one["measure"], one["setting"]): one for one in metrics.iter_rows(named=True)}
    held_out = found["held_out", "accuracy", None]
    assert (held_out["n"], held_out["chance"]) == (len(test), 0.5)
    similarity = embedding @ embedding.T
    head, winner, loser = test.T
    assert held_out["value"] == pytest.approx(float((similarity[head, winner] > similarity[head, loser]).mean()))
    best = score(truth().astype(np.float32), test, "anchored").accuracy
    assert held_out["value"] == pytest.approx(best, abs=0.03)
    loss = found["held_out", "cross_entropy", None]
    margin = similarity[head, winner] - similarity[head, loser]
    assert loss["value"] == pytest.approx(float(np.log1p(np.exp(-margin)).mean()), abs=1e-5)
    assert loss["chance"] == pytest.approx(np.log(2))
    ceiling = found["noise_ceiling", "agreement", None]
    asked = written.select("head", low=pl.min_horizontal("left", "right"), high=pl.max_horizontal("left", "right"))
    assert ceiling["n"] == asked.group_by(pl.all()).len().filter(pl.col("len") > 1).height
    assert ceiling["chance"] == 0.5
    assert found["components", "accuracy", 1.0]["chance"] == 0.5
    assert "anchored triplets" in found["generalisation", "rsm_pearson_r", None]["note"]
    sweeps = of(lake, "sweeps")
    assert sweeps.filter(pl.col("sweep") == "dimensions", pl.col("setting") == 4)["test_accuracy"].min() > 0.6

    comparisons = read_output(lake, Output("comparisons")).collect()
    both = comparisons.filter(pl.col("agent") == "raters", pl.col("against") == "human-category")
    assert both.filter(pl.col("value").is_not_null()).is_empty()
    assert both["note"].null_count() == 0
    assert not read_output(lake, Output("community_overlaps")).collect().filter(pl.col("agent") == "raters").is_empty()
    count = open_lake(lake).sql("select count(*) as n from anchored_choices where winner <> loser").to_dicts()
    assert count == [{"n": 6600}]
    page = Path(affectlake("report", "--lake", lake).stdout.strip()).read_text()
    assert "people, anchored triplets" in page
    assert "judged which of two stimuli is more like a third" in page
    assert "6,600" in page
    assert "chance, 1/2" in page and "chance, 1/3" in page  # the two agents have different tasks


def test_two_answers_to_one_question_are_compared(lake: Path, tmp_path: Path) -> None:
    written = salmon(lake, tmp_path / "responses.csv")
    affectlake("import", "raters", tmp_path / "responses.csv", "--lake", lake)
    build_steps(lake, "choose_by_anchored")
    reliability = of(lake, "reliability").rows_by_key("measure", named=True, unique=True)
    asked = written.with_columns(low=pl.min_horizontal("left", "right"), high=pl.max_horizontal("left", "right"))
    pairs = asked.join(asked, on=["head", "low", "high"], suffix="_2").filter(
        pl.col("puid") < pl.col("puid_2")  # each pair of answers of two participants once
    )
    between = reliability["between_participants"]
    assert between["value"] == pytest.approx(float((pairs["winner"] == pairs["winner_2"]).mean()))
    assert between["chance"] == 0.5
    participants = of(lake, "participants")
    assert participants["position_share"].is_between(0.5, 0.6).all()


def test_failed_checks_exclude_a_participant(lake: Path, tmp_path: Path) -> None:
    salmon(lake, tmp_path / "responses.csv", n=2000, checks=10)
    affectlake("import", "raters", tmp_path / "responses.csv", "--lake", lake)
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"]["raters"]["exclude"] = {"failed_catch": 0.2}
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    build_steps(lake, "choose_by_anchored")
    people = of(lake, "participants").rows_by_key("participant", named=True, unique=True)
    assert people["P0"]["n_catch"] == people["P0"]["n_catch_failed"] == 10
    assert {name: one["excluded_by"] for name, one in people.items() if one["excluded_by"]} == {"P0": "failed_catch"}
    excluded = dict(of(lake, "excluded_judgments").group_by("rule").len().iter_rows())
    assert excluded == {"catch_trial": 10, "failed_catch": 275 - 10}
    assert of(lake, "anchored_choices").height == 2200 - 275


def test_a_kind_that_was_changed_after_an_import_is_refused(lake: Path, tmp_path: Path) -> None:
    salmon(lake, tmp_path / "responses.csv", n=200)
    affectlake("import", "raters", tmp_path / "responses.csv", "--lake", lake)
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"]["raters"] = {"kind": "judgments", "l1": "auto"}
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    words = "220 stored judgments of raters are not odd-one-out judgments"
    with pytest.raises(AffectlakeError, match=words):
        build_steps(lake, "choose_by_judgments")
    ids = read_output(lake, Output("stimuli")).sort("stimulus_index").collect()["stimulus_id"]
    other = table(simulate(ids.to_list(), 50, 2), tmp_path / "other.csv")
    assert words in affectlake("import", "raters", other, "--lake", lake, ok=1).stderr
    assert of(lake, "responses").height == 220


def test_a_layout_of_the_other_task_is_refused(lake: Path, tmp_path: Path) -> None:
    salmon(lake, tmp_path / "responses.csv", n=50)
    for options, words in (
        (["--layout", "things"], "files in the layout things have no anchored judgments"),
        (["--column", "odd=winner"], "--column odd=winner does not say what a column is"),
    ):
        refused = affectlake("import", "raters", tmp_path / "responses.csv", "--lake", lake, *options, ok=2).stderr
        assert words in refused
