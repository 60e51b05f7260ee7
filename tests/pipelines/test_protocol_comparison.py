"""One model, asked the same trials by several protocols, and how much of its answers is the prompt's doing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import yaml

from affectlake.errors import UsageError
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.comparing import _share, agents_for
from affectlake.pipelines.collection.planning import sampled
from affectlake.pipelines.collection.request import CollectionRequest
from affectlake.pipelines.collection.run import collect_answers
from affectlake.pipelines.params.study import load
from affectlake.pipelines.steps.responses import trials_of
from tests.support.chat import ENTRY
from tests.support.chat_lakes import make_lake, run
from tests.support.fault_server import FaultServer

PLAIN = """\
modality: captions
stimulus: "[Video_{n}: {caption}]"
after: Which one is noticeably different? Answer "Video N is noticeably different".
answer: {read: key-phrase}
example: {"Video 2 is noticeably different": 2}
"""
OTHERS = ("describe-then-choose", "plain")
N = 120


def says(body: bytes) -> str:
    """Choose by the captions; by the wording `plain`, in a third of the trials, the last caption, or nothing."""
    content = json.loads(body)["messages"][0]["content"]
    shown = re.findall(r"\[Video_(\d): ([^\]]*)\]", content)
    number = max(shown, key=lambda one: one[1])[0]
    draw = sha256("".join(sorted(caption for _, caption in shown)).encode()).digest()[0]
    if "Answer" in content and draw < 85:
        number = shown[2][0]
    if "Answer" in content and draw > 230:
        return "All of them are nice."
    if "object images" in content:  # naive-least-similar
        return f"Image {number}"
    return f"Video {number} is noticeably different from the other two."


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("comparison") / "lake"
    make_lake(lake, ENTRY | {"protocol": "naive-least-similar"})
    return lake


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(models=("tiny-llama",), says=says).running() as running:
        yield running


@pytest.fixture
def lake(origin: Path, tmp_path: Path, server: FaultServer) -> Path:
    lake = shutil.copytree(origin, tmp_path / "lake", symlinks=True)
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"]["tiny"]["servers"] = [server.url]
    (lake / "params.yaml").write_text(f"# my study\n{yaml.safe_dump(raw, sort_keys=False)}")
    (lake / "protocols").mkdir()
    (lake / "protocols/plain.yaml").write_text(PLAIN)
    return lake


def command(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["affectlake", *map(str, words)], capture_output=True, text=True, check=False)


def choices(lake: Path, agent: str) -> dict[tuple[int, int, int], int]:
    """The stimulus that each answer names, read without the parser."""
    found = {}
    for row in read_output(lake, Output("responses", agent)).collect().iter_rows(named=True):
        number = re.search(r"(?:Video|Image) (\d)", row["answer"])
        if number:
            found[row["i"], row["j"], row["k"]] = row[f"shown_{number[1]}"]
    return found


def test_protocols_are_compared_over_the_same_trials(lake: Path, server: FaultServer, tmp_path: Path) -> None:
    words = ["protocols", "compare", "tiny", "--trials", N, "--lake", lake]
    words += [word for name in OTHERS for word in ("--protocol", name)]
    out = tmp_path / "found.json"
    made = command(*words, "--json", "--out", out)
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    assert found == json.loads(out.read_text())
    names = ["tiny", "tiny-describe-then-choose", "tiny-plain"]
    assert [one["agent"] for one in found["agents"]] == names
    assert sum(server.asked.values()) == 3 * N
    trials = sampled(trials_of(read_output(lake, Output("triplets")), "main"), N, load(lake).seed)
    own = {name: choices(lake, name) for name in names}
    for name in names:
        rows = read_output(lake, Output("responses", name)).collect()
        assert rows.select("i", "j", "k").sort("i", "j", "k").equals(trials)
    shown = ["i", "j", "k", *(f"{what}_{p}" for what in ("shown", "caption") for p in (1, 2, 3))]
    first, *rest = (read_output(lake, Output("responses", name)).select(shown).sort(shown).collect() for name in names)
    assert all(rows.equals(first) for rows in rest)  # the same captions in the same orders
    for pair in found["agreement"]:
        one, other = own[pair["first"]], own[pair["second"]]
        both = set(one) & set(other)
        assert pair["n"] == len(both)
        assert pair["value"] == pytest.approx(np.mean([one[t] == other[t] for t in both]))
        assert pair["low"] < pair["value"] <= pair["high"]
    agreement = {(one["first"], one["second"]): one["value"] for one in found["agreement"]}
    assert agreement[names[0], names[1]] == 1 and 0.5 < agreement[names[0], names[2]] < 0.95
    plain = found["agents"][2]
    assert plain["unparsed"]["value"] == pytest.approx(1 - len(own["tiny-plain"]) / N) and plain["unparsed"]["n"] == N
    assert plain["flips"] is None  # one answer to each trial
    text = (lake / "params.yaml").read_text()
    assert text.startswith("# my study\n") and load(lake).agents["tiny-plain"].protocol.startswith("plain/")
    again = command(*words)  # asks nothing, and says the same as a table
    assert again.returncode == 0 and sum(server.asked.values()) == 3 * N
    assert "100.0% [" in again.stdout and "tiny-plain" in again.stdout
    assert {f"choose_by_chat@{name}" for name in names} <= set(run(lake).ran)  # the answers count in the study


def test_a_sample_is_the_same_for_all_agents_and_within_larger_ones(lake: Path, server: FaultServer) -> None:
    assert collect_answers(lake, CollectionRequest("tiny", sample=20), lambda _: None).n_added == 20
    assert collect_answers(lake, CollectionRequest("tiny", sample=30), lambda _: None).n_added == 10
    assert sum(server.asked.values()) == 30
    for wrong in (["--sample", 0], ["--sample", 5, "--proposed"]):
        done = command("collect", "tiny", *wrong, "--lake", lake)
        assert done.returncode != 0 and "Traceback" not in done.stderr


def test_an_agent_of_that_name_must_be_the_one_that_is_meant(lake: Path) -> None:
    agents_for(lake, load(lake), "tiny", ["plain"])
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"]["tiny-plain"]["model"] = "another"
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    with pytest.raises(UsageError, match="tiny-plain is another agent") as error:
        agents_for(lake, load(lake), "tiny", ["plain"])
    assert "model" in error.value.found
    for protocols, says in ((["plane"], "did you mean 'plain'"), (["forced-choice", "plain"], "another agent")):
        with pytest.raises(UsageError, match=says):
            agents_for(lake, load(lake), "tiny", protocols)
    assert list(load(lake).agents) == ["human-category", "tiny", "tiny-plain"]


@pytest.mark.parametrize("agreement", [0.4, 0.7, 0.95])
@pytest.mark.parametrize("n", [50, 200])
def test_the_interval_of_an_agreement_contains_that_of_all_trials_in_95_percent_of_samples(
    agreement: float, n: int
) -> None:
    rng = np.random.default_rng(5)
    every = rng.uniform(size=20_000) < agreement
    shares = [_share(int(rng.choice(every, n, replace=False).sum()), n) for _ in range(2_000)]
    covered = np.mean([one.low <= every.mean() <= one.high for one in shares])
    assert 0.93 < covered < 0.98
