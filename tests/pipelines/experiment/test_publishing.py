"""What people answered becomes a version, exactly once, whatever kills the publisher."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectlake.experiment.session_store import SessionStore
from affectlake.experiment.store_operations import set_state
from affectlake.lake.query import query
from affectlake.lake.store.versions import list_versions
from affectlake.pipelines.experiment import publishing
from affectlake.pipelines.experiment.beside import unpublished
from affectlake.pipelines.experiment.entry import store_path
from affectlake.pipelines.experiment.publishing import Wave, publish_received
from affectlake.pipelines.params.study import load
from affectlake.pipelines.step import StepContext
from affectlake.pipelines.steps.judgments import choose_by_judgments
from affectlake.pipelines.stored import known_answers, known_sessions
from tests.support.demo_lakes import affectlake
from tests.support.experiments import AGENT, STARTED, answer, experiment_lake, ids_of, trials_of
from tests.support.power import Switch, points, power


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return experiment_lake(tmp_path / "lake")


@pytest.fixture(autouse=True)
def measures(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """The metrics of waves, in place of MLflow, which has tests of its own."""
    found: list[dict[str, float]] = []
    monkeypatch.setattr(publishing, "record_wave", lambda *given: found.append(dict(given[3])))
    return found


def publish(lake: Path) -> Wave:
    return publish_received(lake, load(lake), AGENT, lambda _line: None)


def rows(lake: Path) -> pl.DataFrame:
    known = known_answers(lake, AGENT)
    assert known is not None
    return known.collect().sort("source_row")


def test_answers_and_sessions_are_published_as_they_were_given(lake: Path, measures: list[dict[str, float]]) -> None:
    trials = trials_of(lake)[:6]
    shown = trials[:, [2, 0, 1]]
    right = [None, None, None, int(trials[3, 0]), None, None]
    kinds = ["practice", "trial", "trial", "catch", "trial", "repeat"]
    answer(lake, "anna", shown, positions=[1, 2, 3, 2, None, 1], kinds=kinds, right=right)
    done = publish(lake)
    found = rows(lake)
    assert (done.n_answered, done.n_failed, done.n_participants, done.n_sessions) == (4, 1, 1, 1)
    assert done.reasons == {"timed_out": 1} and done.version is not None
    assert str(done) == "people: +4 answers of 1 participants (1 trials without an answer: 1 timed_out)"
    assert found["trial"].to_list() == ["2", "3", "4", "5", "6"], "practice is not published"
    chosen = [int(shown[1, 1]), int(shown[2, 2]), int(shown[3, 1]), None, int(shown[5, 0])]
    assert found["given_odd"].to_list() == chosen
    assert found["answer"].to_list() == [None if one is None else ids_of(lake)[one] for one in chosen]
    assert found.select("shown_1", "shown_2", "shown_3").rows() == [tuple(map(int, one)) for one in shown[1:]]
    assert found.select("i", "j", "k").rows() == [tuple(map(int, one)) for one in trials[1:]]
    assert found["is_catch"].to_list() == [False, False, True, False, False]
    assert found["right_answer"].to_list() == [None, None, int(trials[3, 0]), None, None]
    assert found["error_kind"].to_list() == [None, None, None, "timed_out", None]
    assert found["participant"].unique().to_list() == ["anna"] and found["session"].unique().to_list() == ["1"]
    assert found["asked_at"][0] == "2026-03-01T09:00:10.000+00:00" and found["response_ms"][0] == 901.0
    assert found["source_file"].unique().to_list() == ["experiment"] and found["protocol"][0] == "experiment/1"
    sessions = known_sessions(lake, AGENT)
    assert sessions is not None
    one = sessions.collect().row(0, named=True)
    assert (one["session_state"], one["n_shown"], one["n_chosen"], one["n_unanswered"]) == ("done", 5, 4, 1)
    assert one["ended_at"] is not None and one["language"] == "en"
    assert measures[0]["failed_timed_out"] == 1 and measures[0]["catch_trials_failed"] == 0
    assert measures[0]["minutes"] == pytest.approx(20 / 60)


def test_a_second_publishing_adds_what_is_new_alone(lake: Path) -> None:
    trials = trials_of(lake)
    answer(lake, "anna", trials[:4], state="running")
    first = publish(lake)
    again = publish(lake)
    assert (again.n_asked, again.n_sessions, again.n_known, again.version) == (0, 0, 4, None)
    answer(lake, "bert", trials[4:6])
    with SessionStore(store_path(lake, AGENT)) as store:
        store.do(lambda database: set_state(database, "anna", "left", "2026-03-01T10:00:00.000+00:00"))
    assert unpublished(lake, AGENT) == 2
    second = publish(lake)
    assert (first.n_answered, second.n_answered, second.n_sessions) == (4, 2, 2)
    assert unpublished(lake, AGENT) == 0
    sessions = known_sessions(lake, AGENT)
    assert sessions is not None
    states = sessions.collect().sort("participant", "shard").select("participant", "session_state").rows()
    assert states == [("anna", "running"), ("anna", "left"), ("bert", "done")]
    assert rows(lake).height == 6 and rows(lake)["request_key"].n_unique() == 6


def test_who_did_not_consent_or_withdrew_is_in_no_version(lake: Path) -> None:
    trials = trials_of(lake)
    answer(lake, "anna", trials[:2], state="consent")
    answer(lake, "bert", trials[2:4], state="withdrawn")
    answer(lake, "cleo", trials[4:6])
    publish(lake)
    assert rows(lake)["participant"].unique().to_list() == ["cleo"]
    said: list[str] = []
    with SessionStore(store_path(lake, AGENT)) as store:
        store.do(lambda database: set_state(database, "cleo", "withdrawn", "2026-03-01T10:00:00.000+00:00"))
    done = publish_received(lake, load(lake), AGENT, said.append)
    assert done.version is None
    assert any(
        "1 participant withdrew consent after publishing; `affectlake forget people --withdrawn`" in one for one in said
    )
    asked = affectlake("forget", AGENT, "--withdrawn", "--lake", lake)
    assert "2 participants who withdrew are forgotten" in asked.stdout
    assert rows(lake).is_empty()
    both = affectlake("forget", AGENT, "cleo", "--withdrawn", "--lake", lake, ok=2)
    assert "one of PARTICIPANT and --withdrawn" in both.stderr


def test_an_answer_about_a_stimulus_that_the_study_lost_is_kept_in_the_store(lake: Path) -> None:
    trials = trials_of(lake)
    answer(lake, "anna", trials[:3])
    with SessionStore(store_path(lake, AGENT)) as store:
        lost = int(trials[0, 0])
        n_lost = int((trials[:3] == lost).any(axis=1).sum())
        name = ids_of(lake)[lost]
        store.do(
            lambda database: database.execute("UPDATE stimuli SET stimulus_id = 'x' WHERE stimulus_id = ?", (name,))
        )
    said: list[str] = []
    done = publish_received(lake, load(lake), AGENT, said.append)
    assert done.n_answered == 3 - n_lost
    assert any(f"{n_lost:,} answers are about stimuli that the study no longer has" in line for line in said)


def test_choices_leave_out_trials_without_an_answer_and_count_them(lake: Path) -> None:
    trials = trials_of(lake)[:4]
    answer(lake, "anna", np.concatenate([trials, trials[:1]]), positions=[1, None, 2, None, 1],
           kinds=["trial"] * 4 + ["repeat"])  # fmt: skip
    publish(lake)
    said: list[str] = []
    context = StepContext(AGENT, lake, lake, 1, said.append, said.append)
    from affectlake.lake.files.outputs import Output
    from affectlake.lake.tables.writing import read_output

    tables = {name: read_output(lake, Output(name)) for name in ("stimuli", "triplets")}
    made = choose_by_judgments(tables | {"responses": rows(lake).lazy()}, load(lake), context)
    assert made["choices"].height == 3
    assert "2 trials have no answer: timed_out" in said
    within = made["reliability"].filter(pl.col("measure") == "within_participants")
    assert within["n"].to_list() == [1], "a repeat feeds the agreement within participants"
    assert made["participants"].row(0, named=True)["n_given"] == 3


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["lasting", "every"])
def test_a_kill_at_any_change_loses_nothing_and_doubles_nothing(lake: Path, tmp_path: Path, every: bool) -> None:
    trials = trials_of(lake)
    answer(lake, "anna", trials[:3])
    origin = tmp_path / "origin"
    shutil.copytree(lake, origin, symlinks=True)
    with power(Switch(lake, 0)) as switch:
        publish(lake)
    wanted, n_versions = rows(lake), len(list_versions(lake))
    cuts = points(switch.events, every)
    assert len(cuts) > 5
    for at in cuts:
        shutil.rmtree(lake)
        shutil.copytree(origin, lake, symlinks=True)
        with power(Switch(lake, at)) as cut:
            publish(lake)
        assert cut.off
        publish(lake)
        assert rows(lake).equals(wanted), cut.events[-1]
        assert len(list_versions(lake)) == n_versions, cut.events[-1]
        sessions = known_sessions(lake, AGENT)
        assert sessions is not None and sessions.collect().height == 1, cut.events[-1]
        assert query(lake, "SELECT count(*) FROM responses").fetchall() == [(3,)], cut.events[-1]


def test_two_publishers_at_once_add_every_answer_once(lake: Path) -> None:
    trials = trials_of(lake)
    for at in range(5):
        answer(lake, f"p{at}", trials[10 * at : 10 * at + 10])
    command = [sys.executable, "-m", "affectlake", "experiment", "publish", AGENT, "--direct", "--lake", str(lake)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=300) for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert sorted(out.split(" answers")[0] for out, _ in said) == ["people: +0", "people: +50"]
    assert rows(lake).height == 50 and rows(lake)["request_key"].n_unique() == 50
    assert STARTED.year == 2026
