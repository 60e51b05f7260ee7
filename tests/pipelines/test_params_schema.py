"""The JSON schema that editors use and the parser agree on what a params.yaml may hold."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from affectlake.errors import UsageError
from affectlake.lake.files import layout
from affectlake.lake.store.versions import Manifest
from affectlake.pipelines.params import schema, templates
from affectlake.pipelines.params.study import Params, parse
from tests.support.chat import ENTRY
from tests.support.lakes import ROOT

SCHEMA = json.loads((ROOT / "pipelines/params" / schema.FILE).read_text(encoding="utf-8"))
BY_SCHEMA = Draft202012Validator(SCHEMA)

CHAT = ENTRY | {
    "l1": "auto",
    "api_key_env": "KEY",
    "in_flight": 8,
    "server": {
        "command": ["vllm"],
        "port": 8000,
        "env": {"A": "1"},
        "health": "/h",
        "start_limit_s": 30,
        "device": "gpu0",
        "device_limit_s": 60,
    },
    "price": {"input": 0.15, "output": 1},
}
AGENTS = {
    "tiny": CHAT,
    "forced": ENTRY | {"l1": 0.004, "protocol": "forced-choice", "modality": "videos", "sampling": {}},
    "new": ENTRY | {"l1": 0, "sampling": {"max_completion_tokens": 9, "temperature": None, "extra": {"a": [1]}}},
    "reads": {"kind": "features", "encoder": {"name": "sentence-transformers", "model": "m"}, "l1": 0.1},
    "sees": {"kind": "features", "encoder": {"name": "vision", "library": "timm", "model": "m"}, "l1": 1},
}
NIGHTLY = {"agent": "tiny", "cron": "0 2 * * *", "limit": 10, "trial_set": "main", "timezone": "UTC", "proposed": True,
           "then": ["run", "push"]}  # fmt: skip
ATLAS = {"image": "i", "labels": "l"}
SOURCES = {
    "bdata": {"kind": "bdata", "subjects": {"S1": "a.h5"}},
    "images": {
        "kind": "images",
        "subjects": {
            "S1": {"bold": "b", "mask": "m", "attributes": "a", "atlas": ATLAS},
            "S2": {
                "mask": "m",
                "runs": [{"bold": "b", "events": "e", "confounds": "c", "repetition_time_s": 2.0}],
                "label_column": "stim_file",
            },
        },
    },
    "fmriprep": {
        "kind": "fmriprep",
        "derivatives": "d",
        "raw": "r",
        "mask": "m",
        "space": "s",
        "participants": ["S1"],
        "masks": {"S1": "m"},
        "atlas": ATLAS,
        "atlases": {"S1": ATLAS},
        "task": "t",
        "label_column": "stim_file",
        "motion": False,
        "repetition_time_s": 2.0,
    },
}


def full(source: str) -> dict[str, Any]:
    """A file in which every key stands that one study may have."""
    raw = yaml.safe_load(templates.starting_params("demo"))
    raw["agents"] |= copy.deepcopy(AGENTS)
    raw["spose"] |= {"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "init_mean": 0.1, "init_std": 0.01}
    raw["spose"] |= {"learn_lapses": False}
    raw["brain"]["sources"] = copy.deepcopy(SOURCES[source])
    raw["brain"]["surfaces"] = {"S1": {"subject": "a", "transform": "t", "filestore": "f"}}
    raw["schedules"] = {"nightly": dict(NIGHTLY), "all": {"agent": "forced", "cron": "0 3 * * 1", "limit": None}}
    raw["notify"] = {"webhook_env": "HOOK"}
    return dict(raw)


FULL = {name: full(name) for name in SOURCES}


def by_parser(raw: object) -> bool:
    try:
        parse(yaml.safe_dump(raw))
    except UsageError:
        return False
    return True


def changed(raw: dict[str, Any], key: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """A copy with the value at a path changed; ``...`` removes it."""
    found = copy.deepcopy(raw)
    place: Any = found
    for word in key[:-1]:
        place = place[word]
    if value is ...:
        del place[key[-1]]
    else:
        place[key[-1]] = value
    return found


@pytest.mark.parametrize("study", templates.studies())
def test_every_study_is_legal_to_both(study: str) -> None:
    raw = yaml.safe_load(templates.starting_params(study))
    assert not list(BY_SCHEMA.iter_errors(raw))
    assert by_parser(raw)


@pytest.mark.parametrize("source", SOURCES)
def test_a_file_with_every_key_is_legal_to_both(source: str) -> None:
    assert not list(BY_SCHEMA.iter_errors(FULL[source]))
    assert by_parser(FULL[source])
    leaves = {".".join(str(word) for word in path) for path in paths(FULL[source])}
    assert len(leaves) > 120


BROKEN: dict[str, tuple[str, object]] = {
    "unknown section": ("tripletts", {}),
    "missing section": ("geometry", ...),
    "section that is a list": ("triplets", []),
    "unknown key": ("geometry.permutation", 3),
    "missing key": ("sweeps.share", ...),
    "text for an integer": ("triplets.per_dyad", "three"),
    "true for an integer": ("seed", True),
    "out of range": ("triplets.test_fraction", 1.5),
    "unknown choice": ("spose.device", "tpu"),
    "study's name": ("study", "My Study"),
    "no agents": ("agents", {}),
    "agent's name": ("agents.GPT-4o", {"kind": "ratings", "ratings": "category", "l1": 0.1}),
    "name of a device": ("agents.nul", {"kind": "ratings", "ratings": "category", "l1": 0.1}),
    "unknown kind": ("agents.tiny.kind", "caht"),
    "no kind": ("agents.tiny.kind", ...),
    "no l1": ("agents.human-category.l1", ...),
    "l1 in words": ("agents.human-category.l1", "automatic"),
    "key of another kind": ("agents.human-category.encoder", {"name": "tfidf-svd", "n_components": 3}),
    "unknown encoder": ("agents.sees.encoder.name", "vison"),
    "key of another encoder": ("agents.reads.encoder.library", "timm"),
    "no servers": ("agents.tiny.servers", []),
    "not a URL": ("agents.tiny.servers", ["localhost:8000"]),
    "a secret in a URL": ("agents.tiny.servers", ["https://me:s3same@host/v1"]),
    "a server twice": ("agents.tiny.servers", ["http://a/v1", "http://a/v1"]),
    "a key for a name": ("agents.tiny.api_key_env", "sk-very-secret"),
    "no limit of tokens": ("agents.tiny.sampling", {}),
    "two limits of tokens": ("agents.tiny.sampling", {"max_tokens": 9, "max_completion_tokens": 9}),
    "extra that is ours": ("agents.tiny.sampling.extra", {"messages": []}),
    "health that is not a path": ("agents.tiny.server.health", "health"),
    "a limit for no device": ("agents.tiny.server.device", ...),
    "a device that is not a name": ("agents.tiny.server.device", "gpu/0"),
    "number in env": ("agents.tiny.server.env", {"A": 1}),
    "no seeds": ("spose.seeds", []),
    "a seed twice": ("spose.seeds", [0, 0]),
    "a setting of each agent": ("spose.l1", 0.004),
    "unknown source": ("sources.kind", "movies"),
    "subject's name": ("brain.sources.subjects", {"sub/01": "a.h5"}),
    "proposals of everything": ("schedules.nightly.limit", None),
    "proposals of another set": ("schedules.nightly.trial_set", "validation"),
    "schedule's name": ("schedules.a b", dict(NIGHTLY)),
    "two webhooks": ("notify", {"webhook": "http://a", "webhook_env": "B"}),
    "no webhook": ("notify", {}),
    "a webhook and an address": ("notify", {"webhook_env": "A", "to": ["env:B"]}),
    "events without an address": ("notify", {"on": ["done"]}),
    "an event that does not exist": ("notify", {"on": ["dnoe"], "to": ["env:B"]}),
    "no address": ("notify", {"to": []}),
    "an address of a service with secrets": ("notify", {"to": ["slack://a/b/c"]}),
    "an address with a password": ("notify", {"to": ["json://me:s3same@host/x"]}),
    "a command after a collection that does not exist": ("schedules.nightly.then", ["pull"]),
    "a command twice": ("schedules.nightly.then", ["run", "run"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_both_refuse_a_broken_file(case: str) -> None:
    key, value = BROKEN[case]
    raw = changed(FULL["bdata"], tuple(key.split(".")), value)
    assert list(BY_SCHEMA.iter_errors(raw))
    assert not by_parser(raw)


BEYOND: dict[str, tuple[str, object]] = {
    "names that differ in case": ("brain.sources.subjects", {"S1": "a", "s1": "b"}),
    "a schedule of an agent that is not there": ("schedules.nightly.agent", "tinny"),
    "a cron that never comes": ("schedules.nightly.cron", "0 0 30 2 *"),
    "a time zone that does not exist": ("schedules.nightly.timezone", "Berlin"),
    "a setting that another one switches off": ("spose.pruning", "none"),
    "a surface of a subject that is not there": ("brain.surfaces", {"S2": {"subject": "a"}}),
    "an integer with a decimal point": ("triplets.per_dyad", 3.0),
}


@pytest.mark.parametrize("case", BEYOND)
def test_the_parser_sees_what_a_schema_cannot(case: str) -> None:
    key, value = BEYOND[case]
    raw = changed(FULL["bdata"], tuple(key.split(".")), value)
    assert not list(BY_SCHEMA.iter_errors(raw))
    assert not by_parser(raw)


def paths(node: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value."""
    if at:
        yield at
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from paths(value, (*at, key))


POOL: tuple[Any, ...] = (..., None, True, "x", -1, 0.5, [], {}, {"x": 1})


@pytest.mark.parametrize("source", SOURCES)
def test_they_agree_on_every_value_of_every_key(source: str) -> None:
    """Each value of a file in turn is removed, and replaced by values of other types and ranges."""
    n_refused = 0
    for path in paths(FULL[source]):
        if source != "bdata" and path[:2] != ("brain", "sources"):
            continue
        for value in POOL:
            raw = changed(FULL[source], path, value)
            legal = BY_SCHEMA.is_valid(raw)
            try:
                Params.model_validate(raw)
                own = False
            except ValidationError as error:
                n_refused += 1
                own = any(one["type"] == "mistake" for one in error.errors())
                assert own or not legal, (path, value)
            else:
                assert legal or by_parser(raw) is False, (path, value)
            # a text may not be a cron, time zone or URL; whether a limit is needed depends on the agent's kind
            depends = value == "x" or (path[-1] == "limit" and value is ...)
            assert not own or not legal or depends, (path, value)
    assert n_refused > (700 if source == "bdata" else 50)


def test_a_new_lake_s_parameters_name_the_schema_which_lies_beside_them(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    subprocess.run(["affectlake", "init", lake, "--study", "demo"], check=True, capture_output=True)
    first = (lake / "params.yaml").read_text().splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    place = lake / first.partition("$schema=")[2]
    assert json.loads(place.read_text(encoding="utf-8")) == SCHEMA
    ignored = subprocess.run(["git", "check-ignore", place], cwd=lake, check=False, capture_output=True)
    assert ignored.returncode == 0, "an upgrade of the code would make a version"


def test_a_run_brings_the_schema_up_to_date_and_makes_no_version_for_it(tmp_path: Path) -> None:
    from tests.support.chat_lakes import make_lake, run

    lake = tmp_path / "lake"
    make_lake(lake, ENTRY)
    place = lake / layout.PARAMS_SCHEMA
    assert json.loads(place.read_text(encoding="utf-8")) == SCHEMA
    digests = Manifest(lake, "HEAD").digests
    place.write_text("{}")
    assert run(lake).version is None
    assert json.loads(place.read_text(encoding="utf-8")) == SCHEMA
    place.unlink()
    assert run(lake).version is None
    assert place.exists()
    assert Manifest(lake, "HEAD").digests == digests
