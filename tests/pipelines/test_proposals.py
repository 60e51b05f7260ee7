"""`affectlake propose` in a real lake: rounds of proposals, what is asked of them, and what cannot be proposed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import yaml
from click.testing import CliRunner

from affectlake.cli.main import cli
from affectlake.errors import LakeError, UsageError
from affectlake.judge.requests.answers import Reply, answered
from affectlake.lake import repository
from affectlake.lake.checkout import checkout
from affectlake.lake.files.git import git
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.versions import list_versions, resolve
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection import proposals
from affectlake.pipelines.collection.cost import estimate_cost
from affectlake.pipelines.collection.planning import keep_answers, plan_questions
from affectlake.pipelines.collection.proposals import Proposal, propose
from affectlake.pipelines.collection.request import CollectionRequest
from affectlake.pipelines.collection.run import collect_answers
from affectlake.pipelines.params.study import load
from affectlake.triplets import TRIPLET
from tests.support.chat import ENTRY
from tests.support.chat_lakes import make_lake, run
from tests.support.fault_server import FaultServer


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("proposals") / "lake"
    make_lake(lake, ENTRY | {"protocol": "naive-least-similar"})
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["proposals"] |= {"random_per_stimulus": 4, "held_out": 100}
    raw["spose"]["few"]["max_epochs"] = 60
    raw["triplets"]["validation_fraction"] = 0.1
    raw["agents"]["tiny"]["l1"] = "auto"
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return lake


@pytest.fixture
def lake(origin: Path, tmp_path: Path) -> Path:
    return shutil.copytree(origin, tmp_path / "lake", symlinks=True)


def quiet(_line: str) -> None:
    """Say nothing."""


def plan(lake: Path, n: int) -> Proposal:
    return propose(lake, load(lake), "tiny", n, quiet)


def table(lake: Path) -> pl.DataFrame:
    return read_output(lake, Output("proposals", "tiny")).collect()


def answer(lake: Path, *, proposed: bool, always: int | None = None) -> int:
    """Answer what is proposed (or all), the largest index modulo 7 being odd, or one position; publish; count them."""
    asked = plan_questions(lake, load(lake), "tiny", "main", proposed=proposed)
    found = []
    for question in asked.questions():
        members = (question.i, question.j, question.k)
        odd = max(members, key=lambda s: (s % 7, s))
        position = always or [members[member - 1] for member in question.order].index(odd) + 1
        reply = Reply(f"Video {position} is noticeably different from the other two.", "stop", None, 90, 20, 0, "m")
        found.append(answered(question, reply, 1, 0.5))
    with repository.writing(lake, "test"):
        keep_answers(lake, asked.agent, found)
        repository.publish(lake)
    return len(found)


def test_the_first_round_is_random_and_the_next_ones_tell_most(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "MIN_JUDGMENTS", 15)
    first = plan(lake, 160)
    assert (first.round, first.n_judgments, first.n_open, first.n_to_learn, first.n_held_out) == (0, 0, 435, 128, 32)
    assert first.fits is None
    assert first.version == list_versions(lake)[-1]
    rows = table(lake)
    assert rows["purpose"].value_counts().sort("purpose").rows() == [("held_out", 32), ("random", 128)]
    held_out = rows.filter(pl.col("purpose") == "held_out")["split"].value_counts().sort("split").rows()
    assert held_out == [("test", 16), ("validation", 16)]
    assert rows["information"].null_count() == 160
    assert answer(lake, proposed=True) == 160
    responses = read_output(lake, Output("responses", "tiny")).collect()
    assert responses.select(TRIPLET).sort(TRIPLET).equals(rows.select(TRIPLET).sort(TRIPLET))

    second = plan(lake, 50)
    assert (second.round, second.n_judgments, second.n_validation, second.n_test, second.n_open) == (
        1,
        128,
        16,
        16,
        275,
    )
    assert second.fits is not None
    assert len(second.fits.accuracies) == 4
    assert second.fits.information > 1.2 * second.fits.information_of_open > 0
    assert second.fits.l1 in (0.14 * 30 / 128, 0.06)
    new = table(lake).filter(pl.col("round") == 1)
    assert new["purpose"].value_counts().sort("purpose").rows() == [("held_out", 10), ("informative", 40)]
    told = new.filter(pl.col("purpose") == "informative")["information"]
    assert told.null_count() == 0
    assert told.mean() == pytest.approx(second.fits.information, rel=1e-5)
    splits = read_output(lake, Output("triplets")).filter(pl.col("trial_set") == "main").collect()
    assert new.join(splits, on=[*TRIPLET, "split"], how="semi").height == 50
    assert new.join(rows, on=TRIPLET, how="semi").is_empty()
    assert answer(lake, proposed=True) == 50
    assert answer(lake, proposed=True) == 0
    run(lake)
    assert read_output(lake, Output("choices", "tiny")).filter(pl.col("trial_set") == "main").collect().height == 210
    curve = read_output(lake, Output("learning_curves", "tiny")).collect()
    assert 2 < curve["epoch"].max() <= 60  # as to few judgments, not as the study's two epochs


def test_the_same_answers_give_the_same_proposals(lake: Path, tmp_path: Path) -> None:
    other = shutil.copytree(lake, tmp_path / "other", symlinks=True)
    plan(lake, 60)
    plan(other, 60)
    assert table(lake).equals(table(other))


def test_only_what_is_proposed_is_asked_of_the_server(lake: Path) -> None:
    with FaultServer(models=("tiny-llama",)).running() as server:
        raw = yaml.safe_load((lake / "params.yaml").read_text())
        raw["agents"]["tiny"]["servers"] = [server.url]
        (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
        with pytest.raises(UsageError, match="no triplets of the trial set main are proposed"):
            collect_answers(lake, CollectionRequest("tiny", proposed=True), quiet)
        found = CliRunner().invoke(cli, ["propose", "tiny", "--lake", str(lake), "--n", "30", "--json"])
        assert found.exit_code == 0, found.output
        assert json.loads(found.stdout)["n_to_learn"] == 24
        done = collect_answers(lake, CollectionRequest("tiny", proposed=True), quiet)
        assert (done.n_added, done.n_planned, done.ending) == (30, 435, "complete")
        estimate = estimate_cost(lake, CollectionRequest("tiny", proposed=True), quiet, lambda _: None)
        assert estimate.n_left == 0
        with pytest.raises(UsageError, match="no triplets of the trial set validation are proposed"):
            collect_answers(lake, CollectionRequest("tiny", "validation", proposed=True), quiet)
    asked = read_output(lake, Output("responses", "tiny")).select(TRIPLET).sort(TRIPLET).collect()
    assert asked.equals(table(lake).select(TRIPLET).sort(TRIPLET))


def test_the_command_says_what_is_proposed_and_what_to_do(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "MIN_JUDGMENTS", 10)
    first = CliRunner().invoke(cli, ["propose", "tiny", "--lake", str(lake), "--n", "150"])
    assert "tiny · round 0: 150 of 435 open triplets proposed" in first.stdout
    assert "too few for a choice" in first.stdout
    assert "affectlake collect tiny --proposed" in first.stderr
    answer(lake, proposed=True)
    second = CliRunner().invoke(cli, ["propose", "tiny", "--lake", str(lake), "--n", "20"])
    assert "120 judgments to learn from, 15 for validation, 15 for testing; 4 embeddings predict" in second.stdout
    assert "nats per answer" in second.stdout


def test_what_cannot_be_proposed(lake: Path) -> None:
    for agent, n, words in (("human-category", 10, "is not an agent that answers"), ("tiny", 0, "must be at least 1")):
        with pytest.raises(UsageError, match=words):
            propose(lake, load(lake), agent, n, quiet)
    many = plan(lake, 10_000)
    assert many.n_to_learn + many.n_held_out == table(lake).height == 435
    answer(lake, proposed=False)
    n_versions = len(list_versions(lake))
    with pytest.raises(UsageError, match="no triplets to propose"):
        plan(lake, 10)
    assert len(list_versions(lake)) == n_versions


def test_nothing_is_proposed_from_an_older_version(lake: Path) -> None:
    plan(lake, 20)
    git(lake, "checkout", "--", "params.yaml", "dvc.yaml")  # an edit that no version has would be refused
    checkout(lake, resolve(lake, "v1"))
    with pytest.raises(LakeError):
        plan(lake, 20)
    assert len(list_versions(lake)) == 2


def test_the_lapse_rate_of_an_agent_that_always_says_one_is_not_determined(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "MIN_JUDGMENTS", 15)
    plan(lake, 160)
    answer(lake, proposed=True, always=1)
    done = plan(lake, 50)
    assert done.fits is not None and done.fits.lapse is None
    printed = CliRunner().invoke(cli, ["propose", "tiny", "--n", "10", "--lake", str(lake)]).output
    assert "by chance    not determined: no embedding predicts better than chance" in printed
