"""Names in params.yaml that tables, files or other tools refuse later: told when the file is read, before any work."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from affectlake.errors import UsageError
from affectlake.lake.tables.contracts import contract
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.names import LONGEST, suggestion
from affectlake.pipelines.params.study import parse
from tests.support.chat import ENTRY
from tests.support.chat_lakes import make_lake
from tests.support.fault_server import FaultServer

AGENT = contract("choices").column("agent").pattern

AGENTS = {
    "GPT-4o": "call it 'gpt-4o'",
    "Qwen/Qwen2-VL-7B": "call it 'qwen-qwen2-vl-7b'",
    "a@b": "it has '@'",
    "a:b": "it has ':'",
    "a b": "it has ' '",
    "../a": "call it 'a'",
    "café": "call it 'cafe'",
    "-a": "does not begin with a letter or digit",
    "a\n": "it has '\\n'",
    "x.": "ends with a dot",
    "nul": "the name of a device",
    "a" * (LONGEST + 1): "it has 101 characters",
    "": "is not a name",
}
NOT_TEXTS = {
    "1": "1 is not a name for an agent: YAML reads it as a number",
    "4.0": "YAML reads it as a number",
    "true": "YAML reads it as true or false",
    "null": "YAML reads it as nothing",
    "2026-01-31": "YAML reads it as a date",
}


def parsed(key: str, names: Any) -> None:
    raw = yaml.safe_load(templates.starting_params("demo"))
    raw["brain"] |= {"reference": "", "partition": None}  # they name agents of the demo
    place = raw
    *folders, last = key.split(".")
    for word in folders:
        place = place[word]
    place[last] = names
    parse(yaml.safe_dump(raw))


@pytest.mark.parametrize("name", list(AGENTS))
def test_an_agent_s_name_is_what_its_tables_take(name: str) -> None:
    assert not re.fullmatch(AGENT, name) or len(name) > LONGEST or name in ("x.", "nul")
    with pytest.raises(UsageError) as caught:
        parsed("agents", {name: {"kind": "ratings", "ratings": "category", "l1": 0.004}})
    assert "is not a name for an agent" in str(caught.value)
    assert AGENTS[name] in str(caught.value)
    assert caught.value.allowed


@pytest.mark.parametrize("written", list(NOT_TEXTS))
def test_what_yaml_reads_as_something_else_is_said(written: str) -> None:
    text = templates.starting_params("demo").replace("  human-category:", f"  {written}:", 1)
    assert f"  {written}:" in text
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert NOT_TEXTS[written] in str(caught.value)
    assert f"put it in quotes: '{written}'" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "names", "words"),
    [
        ("study", "My Study", "call it 'my-study'"),
        ("study", 7, "7 is not a name for a study"),
        ("schedules", {"nightly@home": {}}, "call it 'nightly-home'"),
        ("schedules", {3: {}}, "3 is not a name for a schedule: YAML reads it as a number"),
        ("brain.sources", {"kind": "bdata", "subjects": {"sub/01": "a.h5"}}, "call it 'sub-01'"),
        ("brain.sources", {"kind": "bdata", "subjects": {1: "a.h5"}}, "1 is not a name for a subject"),
        ("brain.sources", {"kind": "bdata", "subjects": {"S1": "a", "s1": "b"}}, "differ only in the case of letters"),
        ("brain.sources", {"kind": "fmriprep", "participants": ["a b"]}, "call it 'a-b'"),
        ("brain.sources", {"kind": "fmriprep", "participants": [1]}, "put it in quotes: '1'"),
        ("brain.surfaces", {"a.b": {"subject": "x"}}, "call it 'a-b'"),
    ],
)
def test_other_names_are_checked_alike(key: str, names: Any, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(key, names)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", [*AGENTS, "ÀÉ", "A/B/C", "con", "日本", "..", "x" * 300])
def test_what_is_suggested_is_legal(name: str) -> None:
    found = suggestion(name, AGENT)
    if found:
        parsed("agents", {found: {"kind": "ratings", "ratings": "category", "l1": 0.004}})


def test_nothing_is_asked_under_a_name_that_is_refused(tmp_path: Path) -> None:
    make_lake(tmp_path / "lake", ENTRY)
    params = tmp_path / "lake" / "params.yaml"
    with FaultServer(models=("tiny-llama",)).running() as server:
        raw = yaml.safe_load(params.read_text())
        raw["agents"]["GPT-4o"] = raw["agents"].pop("tiny") | {"servers": [server.url]}
        params.write_text(yaml.safe_dump(raw, sort_keys=False))
        for command in (["collect", "GPT-4o"], ["run"]):
            done = subprocess.run(
                ["affectlake", *command, "--lake", params.parent], capture_output=True, text=True, check=False
            )
            assert done.returncode == 2
            assert "call it 'gpt-4o'" in done.stderr
        assert sum(server.asked.values()) == 0
