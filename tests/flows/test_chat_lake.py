"""Answers in a real lake: kept part by part, versioned, read into choices, and never lost."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from affectlake.errors import ContractError, UsageError
from affectlake.flows.build import unfinished
from affectlake.judge.requests.answers import Answer, Failure, Reply, answered, failed
from affectlake.judge.trials.plan import Plan
from affectlake.judge.trials.questions import Question
from affectlake.lake import repository
from affectlake.lake.checkout import checkout
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.open import open_lake
from affectlake.lake.recovery import recover
from affectlake.lake.store.dvc_stages import is_current
from affectlake.lake.store.versions import resolve
from affectlake.lake.tables import appending
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.planning import keep_answers, plan_questions
from affectlake.pipelines.engine import dvcfile
from affectlake.pipelines.engine.graph import stages
from affectlake.pipelines.params.study import load
from affectlake.pipelines.stored import stored
from tests.support.chat import ENTRY, agent
from tests.support.chat_lakes import build_lake, run


def odd_of(question: Question) -> int:
    """The truth that the tests plant: the stimulus with the largest index modulo 7."""
    return max((question.i, question.j, question.k), key=lambda s: (s % 7, s))


def says(question: Question) -> str:
    """An answer that names the planted stimulus by the position at which it is shown."""
    members = (question.i, question.j, question.k)
    position = [members[member - 1] for member in question.order].index(odd_of(question)) + 1
    return f"They evoke joy, joy and fear.\nVideo {position} is noticeably different from the other two."


def answers(plan: Plan, failing: Iterable[int] = (), dumb: Iterable[int] = ()) -> list[Answer]:
    """Answer a plan's questions; some fail for good, and some answers say nothing."""
    failing, dumb = set(failing), set(dumb)
    found = []
    for at, question in enumerate(plan.questions()):
        if at in failing:
            found.append(failed(question, Failure("timed_out", "no whole answer within 300 s"), 5, 300.0))
        else:
            text = "I like all of them." if at in dumb else says(question)
            found.append(answered(question, Reply(text, "stop", None, 90, 20, 0, "tiny-llama"), 1, 0.5))
    return found


def collect(lake: Path, trial_set: str, **options: object) -> int:
    """What `affectlake collect` does with the lake, the server left out; return the rows added."""
    plan_options = {key: options.pop(key) for key in ("limit", "retry_failed") if key in options}
    plan = plan_questions(lake, load(lake), "tiny", trial_set, **plan_options)  # type: ignore[arg-type]
    with repository.writing(lake, "test"):
        done = keep_answers(lake, plan.agent, answers(plan, **options))  # type: ignore[arg-type]
        repository.publish(lake)
    return done.n_added


def table(lake: Path, name: str) -> pl.DataFrame:
    return read_output(lake, Output(name, "tiny")).collect()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A lake with a chat agent that has answered nothing, and what its first run said."""
    lake = tmp_path_factory.mktemp("chat") / "lake"
    said: list[str] = []
    build_lake(lake, ENTRY, said.append)
    return lake, said


@pytest.fixture
def lake(built: tuple[Path, list[str]], tmp_path: Path) -> Path:
    return shutil.copytree(built[0], tmp_path / "lake", symlinks=True)


@pytest.fixture(scope="module")
def asked(built: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake after two collections of the main set and a run: everything is answered but for some."""
    lake = shutil.copytree(built[0], tmp_path_factory.mktemp("asked") / "lake", symlinks=True)
    collect(lake, "main", limit=300, failing=range(10), dumb=range(10, 15))
    collect(lake, "main")
    collect(lake, "noise_ceiling")
    run(lake)
    return lake


def test_an_agent_without_answers_waits_and_the_others_go_on(built: tuple[Path, list[str]]) -> None:
    lake, said = built
    assert any("affectlake collect tiny" in line for line in said)
    names = stages(load(lake), stored(lake))
    assert "embed@human-category" in names
    assert not any("tiny" in name for name in names)
    unfinished(lake, load(lake))
    body = yaml.safe_load((lake / "dvc.yaml").read_text())["stages"]
    assert not {"collect", "choose_by_chat"} & set(body)


def test_answers_become_choices(asked: Path) -> None:
    choices, unparsed = table(asked, "choices"), table(asked, "unparsed")
    main = choices.filter(pl.col("trial_set") == "main")
    assert (main.height, choices.height - main.height) == (435 - 15, 40)
    planted = main.select(pl.struct("i", "j", "k").map_elements(_planted, return_dtype=pl.Int32)).to_series()
    assert (main["odd"] == planted).all()
    reasons = dict(unparsed["unparsed_reason"].value_counts().iter_rows())
    assert reasons == {"error": 10, "no_key_phrase": 5}
    assert "embed@tiny" in stages(load(asked), stored(asked))
    assert table(asked, "embeddings").height > 0


def _planted(row: dict[str, int]) -> int:
    return max(row.values(), key=lambda s: (s % 7, s))


def test_effects_of_the_order_are_measured(asked: Path) -> None:
    rows = {(r["trial_set"], r["measure"]): r for r in table(asked, "order_effects").iter_rows(named=True)}
    shares = [rows["main", f"chosen_{word}"]["value"] for word in ("first", "second", "third")]
    assert sum(shares) == pytest.approx(1)
    assert rows["main", "chi_square"]["p_value"] > 0.001
    assert rows["noise_ceiling", "flip_rate_other_order"]["value"] == 0.0
    assert rows["main", "flip_rate_same_order"]["value"] is None


def test_responses_are_verbatim_in_immutable_parts(asked: Path) -> None:
    rows = table(asked, "responses")
    assert rows["shard"].unique().sort().to_list() == [0, 1, 2]
    assert dict(rows["shard"].value_counts().iter_rows()) == {0: 300, 1: 135, 2: 40}
    stands = rows.select("shown_1", "shown_2", "shown_3").to_numpy()
    assert np.array_equal(np.sort(stands, axis=1), rows.select("i", "j", "k").to_numpy())
    assert rows.filter(pl.col("answer").is_null())["error_kind"].to_list() == ["timed_out"] * 10
    part = asked / "storage/tables/responses/tiny/part-00000.parquet"
    assert part.stat().st_mode & 0o222 == 0


def test_nothing_is_asked_twice(asked: Path) -> None:
    plan = plan_questions(asked, load(asked), "tiny", "main")
    assert (plan.n_left, plan.n_answered, plan.n_planned) == (0, 435, 435)
    assert collect(asked, "main") == 0


def test_a_second_run_does_nothing(asked: Path) -> None:
    assert run(asked).ran == []


def test_failed_questions_are_asked_again_when_wanted(asked: Path, tmp_path: Path) -> None:
    lake = shutil.copytree(asked, tmp_path / "lake", symlinks=True)
    assert collect(lake, "main", retry_failed=True) == 10
    assert is_current(lake, "choose_by_chat@tiny") is False
    assert run(lake).ran[0] == "choose_by_chat@tiny"
    assert table(lake, "choices").filter(pl.col("trial_set") == "main").height == 430
    assert table(lake, "unparsed")["unparsed_reason"].to_list() == ["no_key_phrase"] * 5
    assert plan_questions(lake, load(lake), "tiny", "main", retry_failed=True).n_left == 0


def test_each_collection_is_a_version_that_can_be_read_later(asked: Path) -> None:
    counts = [open_lake(asked).table("responses", at=f"v{n}").select(pl.len()).collect().item() for n in (2, 3, 4)]
    assert counts == [300, 435, 475]
    assert "responses/tiny: +300 rows (300)" in resolve(asked, "v2").changes


def test_going_back_to_an_old_version_brings_its_answers_back(asked: Path, tmp_path: Path) -> None:
    lake = shutil.copytree(asked, tmp_path / "lake", symlinks=True)
    with repository.writing(lake, "test"):
        checkout(lake, resolve(lake, "v2"))
    assert table(lake, "responses").height == 300
    assert stored(lake).collected == {"tiny"}


@pytest.mark.slow
def test_dvc_repro_agrees_with_a_run(asked: Path, tmp_path: Path) -> None:
    lake = shutil.copytree(asked, tmp_path / "lake", symlinks=True)
    current = subprocess.run(["dvc", "repro"], cwd=lake, capture_output=True, text=True, check=True)
    assert "Running stage" not in current.stdout
    assert "storage/collected/responses/tiny.dvc" in current.stdout
    collect(lake, "validation")
    done = subprocess.run(["dvc", "repro"], cwd=lake, capture_output=True, text=True, check=True)
    assert "collect" not in [line for line in done.stdout.splitlines() if line.startswith("Running")]
    assert "Running stage 'choose_by_chat@tiny'" in done.stdout
    assert table(lake, "choices").filter(pl.col("trial_set") == "validation").height > 0
    assert run(lake).ran == []


def test_a_crash_before_answers_are_recorded_loses_nothing(asked: Path, tmp_path: Path) -> None:
    lake = shutil.copytree(asked, tmp_path / "lake", symlinks=True)
    plan = plan_questions(lake, load(lake), "tiny", "validation")
    said = answers(plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(appending, "_place", _die)
        with pytest.raises(OSError, match="killed"):
            keep_answers(lake, plan.agent, said)
    recover(lake, lambda _line: None)
    again = keep_answers(lake, plan.agent, said)
    assert (again.n_added, again.n_known) == (0, len(said))
    built = run(lake)
    assert "choose_by_chat@tiny" in built.ran
    assert built.version is not None
    assert open_lake(lake).table("responses").select(pl.len()).collect().item() == 475 + len(said)


def _die(*_: object) -> None:
    raise OSError("killed")


def test_answers_that_are_in_no_version_yet_are_read_by_a_run(lake: Path) -> None:
    plan = plan_questions(lake, load(lake), "tiny", "main", limit=200)
    keep_answers(lake, plan.agent, answers(plan))
    built = run(lake)
    assert "choose_by_chat@tiny" in built.ran
    assert table(lake, "choices").height == 200


def test_without_answers_to_the_main_set_there_are_choices_and_no_fit(lake: Path) -> None:
    collect(lake, "noise_ceiling")
    said: list[str] = []
    ran = run(lake, said.append).ran
    assert ran == ["choose_by_chat@tiny"]
    assert any("fewer than 100 answers to the main set" in line for line in said)
    assert table(lake, "choices").height == 40
    collect(lake, "main", limit=99)
    assert "embed@tiny" not in stages(load(lake), stored(lake))
    collect(lake, "main", limit=1)
    assert "embed@tiny" in stages(load(lake), stored(lake))


def test_answers_outlive_the_agent_s_entry(asked: Path, tmp_path: Path) -> None:
    lake = shutil.copytree(asked, tmp_path / "lake", symlinks=True)
    text = (lake / "params.yaml").read_text()
    raw = yaml.safe_load(text)
    del raw["agents"]["tiny"]
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    run(lake)
    assert not (lake / Output("choices", "tiny").folder).exists()
    assert table(lake, "responses").height == 475
    (lake / "params.yaml").write_text(text)
    run(lake)
    assert table(lake, "choices").filter(pl.col("trial_set") == "main").height == 420


def test_answers_of_another_model_are_kept_and_do_not_count(asked: Path, tmp_path: Path) -> None:
    lake = shutil.copytree(asked, tmp_path / "lake", symlinks=True)
    path = lake / "params.yaml"
    path.write_text(path.read_text().replace("tiny-llama", "other-llama"))
    plan = plan_questions(lake, load(lake), "tiny", "main", limit=100)
    assert plan.n_answered == 0
    with repository.writing(lake, "test"):
        keep_answers(lake, plan.agent, answers(plan))
    run(lake)
    assert table(lake, "choices").height == 100
    assert table(lake, "responses").height == 575


def test_answers_that_break_the_contract_go_to_quarantine(lake: Path) -> None:
    plan = plan_questions(lake, load(lake), "tiny", "main", limit=5)
    bad = [replace_attempts(answer) for answer in answers(plan)]
    with pytest.raises(ContractError, match="attempts"):
        keep_answers(lake, plan.agent, bad)
    assert not stored(lake).collected
    assert list((lake / layout.QUARANTINE).glob("*-append-responses-tiny/responses/tiny/*.parquet"))


def replace_attempts(answer: Answer) -> Answer:
    return answer._replace(attempts=0)


def test_mistakes_are_one_message_each(lake: Path) -> None:
    params = load(lake)
    with pytest.raises(UsageError, match="did you mean 'tiny'"):
        plan_questions(lake, params, "tinny", "main")
    with pytest.raises(UsageError, match="an agent of kind ratings"):
        plan_questions(lake, params, "human-category", "main")
    with pytest.raises(UsageError, match="did you mean 'validation'"):
        plan_questions(lake, params, "tiny", "validatoin")
    videos = params.model_copy(update={"agents": params.agents | {"tiny": agent(modality="videos")}})
    with pytest.raises(UsageError, match=r"set sources\.videos"):
        plan_questions(lake, videos, "tiny", "main")


def test_answers_are_what_a_stage_depends_on(asked: Path) -> None:
    body = yaml.safe_load(dvcfile.render(load(asked), stored(asked)))["stages"]
    assert body["choose_by_chat"]["foreach"] == ["tiny"]
    assert "storage/tables/responses/${item}" in body["choose_by_chat"]["do"]["deps"]
