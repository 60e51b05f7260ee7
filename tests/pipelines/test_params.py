"""params.yaml: the studies are valid, and each kind of mistake is one message that names the key."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml

from affectlake.errors import UsageError
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import load, override, parse
from affectlake.pipelines.stored import NOTHING, Stored
from tests.support.chat import ENTRY

ROOT = Path(__file__).parents[2]
DEMO = templates.starting_params("demo")


@pytest.mark.parametrize("study", templates.studies())
def test_every_study_is_valid(study: str) -> None:
    assert parse(templates.starting_params(study)).study == study


def test_reading_params_is_cheap() -> None:
    """Most commands do: none of them is to wait for what it may never use."""
    code = "import sys, affectlake.pipelines.params.study as _\n"
    code += "print({'torch', 'numba', 'scipy', 'sklearn', 'polars', 'duckdb', 'dvc', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"set()\n"


MISTAKES = {
    "unknown key": ({"tripletts": {}}, "tripletts is not a known key", "did you mean 'triplets'"),
    "unknown nested key": ({"geometry.permutation": 10}, "geometry.permutation is not a known key", "permutations"),
    "wrong type": ({"triplets.per_dyad": "three"}, "triplets.per_dyad", "'three'"),
    "out of range": (
        {"triplets.test_fraction": 1.5},
        "triplets.test_fraction must be a number above 0 and below 1",
        "1.5",
    ),
    "unknown agent kind": ({"agents.human-category.kind": "rating"}, "human-category", "ratings"),
    "unknown agent key": ({"agents.human-category.rating": "category"}, "human-category", "ratings"),
    "agent without l1": (
        {"agents.human-category": {"kind": "ratings", "ratings": "category"}},
        "agents.human-category.l1 is missing",
        "0.004",
    ),
    "unknown spose key": ({"spose.learning_rat": 0.1}, "learning_rat", "learning_rate"),
    "no seeds": ({"spose.seeds": []}, "seeds", "[0, 1]"),
    "unknown device": ({"spose.device": "tpu"}, "spose.device", "cuda"),
    "unknown source": ({"sources.kind": "movies"}, "sources", "synthetic"),
    "no agents": ({"agents": {}}, "agents must be a mapping of one or more entries", "found: {}"),
    "unknown key of few": ({"spose.few.prior": 2.0}, "spose.few.prior", "did you mean 'priors'"),
    "l1 in words": ({"agents.human-category.l1": "automatic"}, "l1", "automatic"),
    "negative l1": ({"agents.human-category.l1": -1}, "l1", "-1"),
}


@pytest.mark.parametrize("case", list(MISTAKES))
def test_a_mistake_is_one_message(case: str) -> None:
    changes, *expected = MISTAKES[case]
    raw = yaml.safe_load(DEMO)
    for key, value in changes.items():
        *folders, last = key.split(".")
        place = raw
        for word in folders:
            place = place[word]
        place[last] = value
    with pytest.raises(UsageError) as caught:
        parse(yaml.safe_dump(raw))
    assert all(words in str(caught.value) for words in expected), str(caught.value)
    assert caught.value.exit_code == 2


def test_all_mistakes_of_a_file_are_one_message() -> None:
    raw = yaml.safe_load(DEMO)
    raw["tripletts"] = {"per_dyad": 3}
    raw["triplets"]["per_dyad"] = "three"
    raw["sources"] = {"kind": "synthetc", "n_stimuli": 50}
    raw["agents"] |= {"GPT-4o": {"kind": "rating"}, "second": {"kind": "ratings", "ratings": "categories"}, 7: {}}
    raw["agents"]["caption-tfidf"]["encoder"] |= {"n_components": 0, "ratings": "category"}
    raw["spose"] |= {"l1": 0.004, "prunning": "none", "few": {"priors": [1, -1]}}
    raw["schedules"] = {"nightly": {"agent": "human-category", "cron": "0 25 * * *"}}
    del raw["geometry"]["perplexity"], raw["sweeps"]
    with pytest.raises(UsageError) as caught:
        parse(yaml.safe_dump(raw), "my.yaml")
    said = str(caught.value)
    lines = {line.strip().partition(" ")[0]: line for line in said.splitlines()[2:]}
    expected = {
        "tripletts": "is not a known key; allowed: study, seed, about, shareable, wording,",
        "triplets.per_dyad": "must be null or an integer, 1 or more; found: 'three'",
        "sources.kind": "must be one of emotion, synthetic, tables; found: 'synthetc'; to do: did you mean 'syn",
        "agents:": "is not a name for an agent",
        "agents.GPT-4o.kind": "did you mean 'ratings'?",
        "agents.second.ratings": "there are no 'categories' ratings; allowed: category, dimension, concatenated",
        "agents.second.l1": "is missing; wanted: a number, 0 or more, or auto",
        "agents.7.kind": "is missing; allowed: anchored, chat, experiment, features, judgments, ratings",
        "agents.caption-tfidf.encoder.n_components": "must be an integer, 1 or more, or auto; found: 0",
        "agents.caption-tfidf.encoder.ratings": "is not a known key; allowed: name, n_components",
        "spose.l1": "has no effect",
        "spose.prunning": "did you mean 'pruning'?",
        "spose.few.priors[1]": "must be a number above 0; found: -1",
        "schedules.nightly.agent:": "found: an agent of kind ratings",
        "schedules.nightly.cron:": "hour is",
        "schedules.nightly.limit": "is missing; wanted: null or an integer, 1 or more",
        "geometry.perplexity": "is missing; wanted: a number above 1",
        "sweeps": "is missing; wanted: a mapping with dimensions, n_judgments,",
    }
    assert set(lines) == set(expected)
    for path, words in expected.items():
        assert words in lines[path], lines[path]
    assert said.startswith(f"my.yaml has {len(expected) + 1} mistakes\n")  # two names of agents
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "3", None, [], 2**70])
def test_numbers_are_finite_numbers(value: object) -> None:
    raw = yaml.safe_load(DEMO)
    raw["geometry"]["edge_threshold"] = value
    with pytest.raises(UsageError, match=r"geometry\.edge_threshold must be a"):
        parse(yaml.safe_dump(raw))


def test_parameters_are_read_without_looking_at_the_lake(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(DEMO)
    params = load(tmp_path)
    assert (params.study, params.text) == ("demo", DEMO.encode())
    assert [agent.name for agent in params.agents.values()] == list(params.agents)
    raw = yaml.safe_load(DEMO)
    raw["agents"]["tiny"] = ENTRY | {"l1": 0.004}
    asked = parse(yaml.safe_dump(raw, sort_keys=False))
    assert asked.fitted(NOTHING) == [*params.agents]
    assert asked.fitted(Stored(frozenset({"tiny"}), frozenset({"tiny"}))) == [*params.agents, "tiny"]


def test_a_missing_section_is_named() -> None:
    raw = yaml.safe_load(DEMO)
    del raw["triplets"]
    with pytest.raises(UsageError, match="triplets"):
        parse(yaml.safe_dump(raw))


@pytest.mark.parametrize("text", ["a: [", "", "just words", "- a list"])
def test_what_is_no_params_file_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


def test_an_l1_may_follow_the_number_of_judgments() -> None:
    params = parse(override(DEMO, ("agents.human-category.l1=auto", "spose.few.priors=[2.0, 1.0]")))
    low, high = params.candidates("human-category", 5000, 50)
    assert (low.l1, high.l1) == (1.0 * 50 / 5000, 2.0 * 50 / 5000)
    assert (low.learning_rate, low.max_epochs) == (0.04, 300)
    assert {low.learn_lapses, high.learn_lapses} == {True}
    fixed = parse(DEMO)
    assert fixed.candidates("human-category", 5000, 50) == [fixed.settings("human-category")]


def test_addresses_in_brackets_want_quotes_as_they_do_for_dvc() -> None:
    text = DEMO.replace("\nspose:", "\n  asked: {kind: chat, servers: [http://127.0.0.1:8000/v1]}\n\nspose:")
    with pytest.raises(UsageError, match="put quotes around texts with a colon"):
        parse(text)
    with pytest.raises(YAMLFileCorruptedError):
        parse_yaml(text, "params.yaml")


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_yaml_in_the_documents_can_be_read_by_dvc(page: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        assert isinstance(parse_yaml(block, page.name), dict)


def test_overrides_keep_comments_and_types() -> None:
    text = override(DEMO, ("sources.n_stimuli=60", "spose.seeds=[3]", "agents.human-category.l1=0.01"))
    params = parse(text)
    assert (params.fit_seeds, params.raw["sources"]["n_stimuli"]) == ((3,), 60)
    assert params.settings("human-category").l1 == 0.01
    assert "# random third stimuli for every pair of stimuli" in text


@pytest.mark.parametrize("assignment", ["sources.n_stimulus=60", "nonsense", "a.b.c=1"])
def test_an_override_of_an_unknown_key_is_refused(assignment: str) -> None:
    with pytest.raises(UsageError):
        parse(override(DEMO, (assignment,)))


def test_an_override_adds_a_setting_that_the_file_lacks() -> None:
    text = override(DEMO, ("shareable={captions: false}", "easy_trials={n: 40, ratings: category}", "spose.beta1=0.8"))
    params = parse(text)
    assert params.raw["shareable"] == {"captions": False} and params.raw["easy_trials"]["n"] == 40
    assert params.spose.beta1 == 0.8
    with pytest.raises(UsageError, match="set the whole section"):
        override(DEMO, ("easy_trials.n=40",))


def test_a_key_of_the_top_level_in_a_section_is_told_its_place() -> None:
    with pytest.raises(UsageError, match="shareable is at the top level"):
        parse(override(DEMO, ("sources.shareable=false",)))


def test_the_commented_agents_of_the_emotion_study_are_those_of_the_paper() -> None:
    text = templates.starting_params("emotion")
    for name in ("resnet50", "clip", "videomae"):
        assert text.count(f"\n  # {name}: ") == 1
        text = text.replace(f"\n  # {name}: ", f"\n  {name}: ")
    agents = parse(text).agents
    assert [agents[name].modality for name in ("resnet50", "clip", "videomae")] == ["videos", "videos", "clips"]
