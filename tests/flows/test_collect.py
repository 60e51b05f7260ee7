"""Collecting into a real lake from a real HTTP server: exactly once, whatever ends a run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest
import yaml

from affectlake.errors import CollectionError, LakeError, LeaseError, UsageError
from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.request_limits import Target
from affectlake.lake.checkout import checkout
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.versions import list_versions
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.cost import estimate_cost
from affectlake.pipelines.collection.planning import plan_questions
from affectlake.pipelines.collection.publishing import leases, open_journal, server_log, waiting
from affectlake.pipelines.collection.request import CollectionRequest
from affectlake.pipelines.collection.run import collect_answers
from affectlake.pipelines.collection.status import Status, statuses
from affectlake.pipelines.params.study import load
from affectlake.process import lease
from tests.flows.test_judgments import affectlake
from tests.support.chat import ENTRY
from tests.support.chat_lakes import make_lake, run
from tests.support.fault_server import FaultServer, expected_text
from tests.support.preloaded import script
from tests.support.stores import free_port

PROCESS = Path(__file__).parents[1] / "support" / "collect_process.py"
MAIN = CollectionRequest("tiny")
N_MAIN = 435


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("collect") / "lake"
    make_lake(lake, ENTRY | {"protocol": "naive-least-similar"})
    return lake


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(models=("tiny-llama",)).running() as running:
        yield running


@pytest.fixture
def lake(origin: Path, tmp_path: Path, server: FaultServer) -> Path:
    lake = shutil.copytree(origin, tmp_path / "lake", symlinks=True)
    change(lake, servers=[server.url])
    return lake


def change(lake: Path, **entry: object) -> None:
    """Change keys of the agent's entry in params.yaml."""
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"]["tiny"] |= entry
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def quiet(_line: str) -> None:
    """Say nothing."""


def responses(lake: Path) -> pl.DataFrame:
    return read_output(lake, Output("responses", "tiny")).collect()


def of(lake: Path, trial_set: str = "main") -> Status:
    return next(one for one in statuses(lake, load(lake)) if one.trial_set == trial_set)


def test_a_limit_then_the_rest_then_nothing(lake: Path, server: FaultServer) -> None:
    first = collect_answers(lake, CollectionRequest("tiny", limit=100), quiet)
    assert str(first) == "tiny · main: +100 (100 of 435)"
    assert (first.ending, first.version) == ("limit", list_versions(lake)[-1])
    rest = collect_answers(lake, MAIN, quiet)
    assert str(rest) == "tiny · main: +335 (435 of 435)"
    n_asked = sum(server.asked.values())
    nothing = collect_answers(lake, MAIN, quiet)
    assert (str(nothing), nothing.version) == ("tiny · main: +0 (435 of 435)", None)
    assert sum(server.asked.values()) == n_asked == N_MAIN
    rows = responses(lake)
    assert rows.height == rows["request_key"].n_unique() == N_MAIN
    assert collect_answers(lake, CollectionRequest("tiny", "noise_ceiling"), quiet).n_planned == 40
    run(lake)
    assert read_output(lake, Output("choices", "tiny")).collect().height == N_MAIN + 40


def test_a_server_that_fails_a_third_of_the_time_is_told_honestly(lake: Path, server: FaultServer) -> None:
    server.faults, server.share = ("500", "reset", "truncated", "429"), 0.3
    shown = []
    done = collect_answers(lake, CollectionRequest("tiny", limit=150), quiet, shown.append)
    assert (done.ending, done.n_added + done.n_failed) == ("limit", 150)
    assert responses(lake)["error_kind"].is_not_null().sum() == done.n_failed
    met = {name: n for name, n in server.met.items() if name != "ok"}
    assert sum(shown[-1].progress.retries.values()) + done.n_failed == sum(met.values()) > 20


def test_only_what_failed_is_asked_again(lake: Path, server: FaultServer) -> None:
    collect_answers(lake, CollectionRequest("tiny", limit=20), quiet)
    server.script.extend(["400"] * 7)
    done = collect_answers(lake, CollectionRequest("tiny", limit=60), quiet)
    assert str(done) == "tiny · main: +53 (80 of 435); 7 failed for good"
    assert of(lake).n_failed == {"rejected": 7}
    server.asked.clear()
    again = collect_answers(lake, CollectionRequest("tiny", retry_failed=True), quiet)
    assert str(again) == "tiny · main: +7 (80 of 435)"
    assert sum(server.asked.values()) == 7
    assert (of(lake).n_answered, of(lake).n_failed) == (80, {})


def test_kills_lose_and_double_nothing(lake: Path, server: FaultServer) -> None:
    server.seconds = 0.02
    change(lake, in_flight=4)
    for kill in range(5):
        process = subprocess.Popen(script(PROCESS, lake), stdout=subprocess.PIPE)
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        time.sleep(0.1 + 0.17 * kill)
        os.kill(pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
    collect_answers(lake, MAIN, quiet)
    rows = responses(lake)
    assert rows.height == rows["request_key"].n_unique() == rows.unique(["i", "j", "k", "repeat"]).height == N_MAIN
    asked_again = sum(server.asked.values()) - N_MAIN
    assert asked_again <= 5 * 3 * 4
    assert not waiting(lake, "tiny")


def test_the_second_collector_is_told_who_is_first(lake: Path) -> None:
    with lease.hold(leases(lake), "tiny"), pytest.raises(LeaseError, match=f"process {os.getpid()} on"):
        collect_answers(lake, MAIN, quiet)


def test_answers_of_an_interrupted_run_keep_the_entry_they_were_asked_under(lake: Path, server: FaultServer) -> None:
    params = load(lake)
    plan = plan_questions(lake, params, "tiny", "main", limit=30)
    with open_journal(lake, params, plan.agent) as journal:
        collect(plan.questions(), journal, Target((server.url,), "tiny-llama"))
    change(lake, sampling={"max_tokens": 32})
    said: list[str] = []
    done = collect_answers(lake, CollectionRequest("tiny", limit=10), said.append)
    assert "tiny: 30 answers of an interrupted run are published" in said
    assert str(done) == "tiny · main: +10 (10 of 435)"
    sampling = responses(lake)["sampling"].value_counts().sort("count")
    assert sampling["count"].to_list() == [10, 30]
    assert '"max_tokens":32' in sampling["sampling"][0]
    assert of(lake).n_other == 30


def test_what_is_published_is_not_asked_again_from_an_older_version_or_an_empty_folder(
    lake: Path, server: FaultServer
) -> None:
    run(lake)  # publishes the change of the agent's servers, which a collection does not
    collect_answers(lake, CollectionRequest("tiny", limit=50), quiet)
    collect_answers(lake, CollectionRequest("tiny", limit=50), quiet)
    checkout(lake, list_versions(lake)[-2])
    with pytest.raises(LakeError, match="the folder lacks rows of responses/tiny"):
        collect_answers(lake, MAIN, quiet)
    checkout(lake, list_versions(lake)[-1])
    assert sum(server.asked.values()) == 100
    shutil.rmtree(lake / Output("responses", "tiny").folder)
    assert str(collect_answers(lake, MAIN, quiet)) == "tiny · main: +335 (435 of 435)"
    assert sum(server.asked.values()) == N_MAIN


def test_a_run_keeps_to_the_entry_it_began_with(
    lake: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("affectlake.pipelines.collection.run.PER_VERSION", 100)
    changed = []

    def change_once(_shown: object) -> None:
        if not changed:
            changed.append(change(lake, sampling={"max_tokens": 32}))

    assert collect_answers(lake, CollectionRequest("tiny", limit=250), quiet, change_once).n_done == 250
    rows = responses(lake)
    assert rows.height == 250
    assert (
        rows["sampling"].n_unique() == rows["sampling"].str.contains('"max_tokens":64', literal=True).sum() / 250 == 1
    )
    assert of(lake).n_other == 250


def test_a_server_that_is_away_is_one_message(lake: Path) -> None:
    change(lake, servers=[f"http://127.0.0.1:{free_port()}/v1"])
    before = list_versions(lake)
    with pytest.raises(CollectionError, match=r"127\.0\.0\.1"):
        collect_answers(lake, MAIN, quiet)
    assert list_versions(lake) == before


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (CollectionRequest("tinny"), "did you mean 'tiny'"),
        (CollectionRequest("human-category"), "an agent of kind ratings"),
        (CollectionRequest("tiny", "mian"), "did you mean 'main'"),
        (CollectionRequest("tiny", limit=0), "--limit must be at least 1"),
    ],
)
def test_what_does_not_exist_is_refused(lake: Path, wanted: CollectionRequest, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        collect_answers(lake, wanted, quiet)


def test_a_missing_key_is_named_and_never_shown(
    lake: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(lake, api_key_env="TINY_KEY")
    with pytest.raises(UsageError, match="TINY_KEY is not set"):
        collect_answers(lake, MAIN, quiet)
    server.key = "right"
    monkeypatch.setenv("TINY_KEY", "SECRET-7")
    with pytest.raises(CollectionError) as caught:
        collect_answers(lake, MAIN, quiet)
    assert "SECRET-7" not in str(caught.value)
    for path in lake.rglob("*"):
        assert not path.is_file() or b"SECRET-7" not in path.read_bytes()


def test_an_estimate_asks_nothing_but_a_sample_and_publishes_nothing(lake: Path, server: FaultServer) -> None:
    change(lake, price={"input": 1.0, "output": 10.0})
    nothing = estimate_cost(lake, MAIN, quiet, lambda _shown: None)
    assert (nothing.n_left, nothing.n_sample, nothing.per_second, nothing.money) == (N_MAIN, 0, 0.0, None)
    dry = affectlake("collect", "tiny", "--dry-run", "--lake", lake).stdout
    assert "435 requests remain" in dry and "nothing is measured yet; with --sample 40" in dry
    assert sum(server.asked.values()) == 0
    sample = CollectionRequest("tiny", sample=40)
    found = estimate_cost(lake, sample, quiet, lambda _shown: None)
    assert (found.n_left, found.n_sample) == (N_MAIN, 40)
    assert found.money == pytest.approx(N_MAIN * (10 * 1.0 + 2 * 10.0) / 1e6)
    assert found.hours == pytest.approx(found.n_left / found.per_second / 3600)
    assert found.quality is not None and found.quality.n_answers == 40
    assert [one.name for one in list_versions(lake)] == ["v1"]
    again = affectlake("collect", "tiny", "--dry-run", "--sample", "40", "--lake", lake).stdout
    assert "10.0 read and 2.0 written a request (40 answers)" in again
    assert "parsed             100.00% of 40" in again
    assert sum(server.asked.values()) == 40  # the answers of the first sample are kept
    assert of(lake).n_waiting == 40
    assert collect_answers(lake, CollectionRequest("tiny", limit=5), quiet).n_done == 45
    known = estimate_cost(lake, CollectionRequest("tiny", limit=5), quiet, lambda _shown: None)
    assert (known.n_left, known.n_sample) == (5, 45)
    assert sum(server.asked.values()) == 45


def says(text: str, share: float = 1.0) -> Callable[[bytes], str]:
    """Return a model that gives one answer to a share of the questions."""
    return lambda asked: text if sha256(asked).digest()[1] < 256 * share else expected_text(asked)


def test_a_run_whose_answers_are_constant_ends_after_some_hundred(lake: Path, server: FaultServer) -> None:
    server.says = says("Video 1")
    change(lake, in_flight=4)
    with pytest.raises(CollectionError, match="the answers of tiny are of no use so far; they are published") as caught:
        collect_answers(lake, MAIN, quiet)
    assert caught.value.found.startswith("chose position 1 in 100.0% of 3")
    assert "--anyway" in caught.value.todo
    now = of(lake)
    assert 300 <= now.n_answered < 330
    of_how_many = f"chose position 1 in 100.0% of {now.n_answered:,} answers"
    assert now.verdict == f"{of_how_many}: these answers do not depend on the stimuli"
    done = affectlake("collect", "tiny", "--anyway", "--lake", lake)
    assert of(lake).n_answered == N_MAIN
    assert "verdict            chose position 1 in 100.0% of 435 answers" in done.stderr
    assert done.stdout.splitlines()[-1].startswith("tiny · main: +")
    shown = json.loads(affectlake("status", "--json", "--lake", lake).stdout)[0]
    assert shown["positions"] == [1.0, 0.0, 0.0]
    assert shown["p_value"] < 1e-100
    assert shown["verdict"].startswith("chose position 1")


def test_a_run_whose_answers_cannot_be_read_ends_and_says_why(lake: Path, server: FaultServer) -> None:
    server.says = says("I like all of them.", 0.8)
    with pytest.raises(CollectionError) as caught:
        collect_answers(lake, MAIN, quiet)
    words = r"did not name a position in (7|8)\d\.\d% of 3\d\d answers \(mostly no_position\)"
    assert re.match(words, caught.value.found)
    assert of(lake).unread["no_position"] > 200


def test_an_order_that_matters_is_named_and_does_not_end_the_run(lake: Path, server: FaultServer) -> None:
    server.says = says("Video 2", 0.5)
    collect_answers(lake, MAIN, quiet)
    assert "they depend on the order shown" in of(lake).verdict
    assert "position 2" in affectlake("status", "--lake", lake).stdout
    dry = affectlake("collect", "tiny", "--dry-run", "--lake", lake).stdout
    assert "0 requests remain" in dry and "they depend on the order shown" in dry


def test_status_counts(lake: Path, server: FaultServer) -> None:
    nothing = of(lake)
    assert (nothing.n_planned, nothing.n_answered, nothing.n_looked_at, nothing.hours) == (N_MAIN, 0, 0, 0.0)
    server.script.extend(["ok", "ok", "empty text", "400"])
    collect_answers(lake, CollectionRequest("tiny", limit=101), quiet)
    now = of(lake)
    assert (now.n_answered, now.n_failed, now.n_looked_at) == (100, {"rejected": 1}, 100)
    assert now.share_parsed == pytest.approx(0.99)
    assert sum(now.positions) == pytest.approx(1.0)
    assert (now.prompt_tokens, now.completion_tokens, now.cached_tokens) == (1000, 200, 400)
    assert now.hours > 0
    assert of(lake, "validation").n_answered == 0


def test_a_server_of_its_own_is_started_and_stopped(lake: Path) -> None:
    port = free_port()
    command = [sys.executable, str(Path(__file__).parents[1] / "support" / "fault_server.py"), str(port), "tiny-llama"]
    change(lake, servers=[f"http://127.0.0.1:{port}/v1"], server={"command": command, "port": port})
    said: list[str] = []
    done = collect_answers(lake, CollectionRequest("tiny", limit=20), said.append)
    assert done.n_added == 20
    assert any("started in" in line for line in said)
    assert "ready" in server_log(lake, "tiny").read_text()
    with pytest.raises(CollectionError):
        change(lake, server=None)
        collect_answers(lake, CollectionRequest("tiny", limit=20), quiet)


def started(lake: Path, *options: str) -> subprocess.Popen[str]:
    command = ["affectlake", "collect", "tiny", "--lake", str(lake), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def test_ctrl_c_ends_in_order_and_the_next_run_goes_on(lake: Path, server: FaultServer) -> None:
    server.seconds = 0.3
    change(lake, in_flight=4)
    process = started(lake)
    wait_until(lambda: sum(server.served.values()) >= 12, process)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    n = responses(lake).height
    assert out.strip() == f"tiny · main: +{n} ({n} of {N_MAIN})"
    assert "every answer received is kept" in err
    server.seconds = 0.0
    process = started(lake, "--until-done")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out.strip()) == (0, f"tiny · main: +{N_MAIN - n} ({N_MAIN} of {N_MAIN})"), err
    assert sum(server.asked.values()) == N_MAIN
    assert "parsed" in err


def wait_until(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for something, or for the end of the process, at most two minutes."""
    until_s = time.monotonic() + 120
    while not there() and process.poll() is None and time.monotonic() < until_s:
        time.sleep(0.05)
