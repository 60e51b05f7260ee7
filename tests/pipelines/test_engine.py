"""The step records: the graph they make, what is generated from them, and the check on their versions."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from affectlake import generated
from affectlake.errors import UsageError
from affectlake.pipelines.catalogue import STEPS
from affectlake.pipelines.engine import dvcfile, fingerprints
from affectlake.pipelines.engine.graph import stage_named, stages, upstream
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import parse
from affectlake.pipelines.step import step
from affectlake.pipelines.stored import NOTHING

PARAMS = parse(templates.starting_params("demo"))


@pytest.mark.parametrize("name", list(generated.FILES))
def test_no_generated_file_is_stale(name: str) -> None:
    assert name not in generated.stale(), f"{name} is stale: run `make docs`"


def test_no_step_changed_without_a_new_version() -> None:
    assert fingerprints.unversioned() == [], "raise their version if their outputs change, then run `make docs`"


def test_every_step_is_recorded() -> None:
    assert set(fingerprints.recorded()) == set(STEPS)


def test_stages_come_after_what_they_read() -> None:
    graph = stages(PARAMS, NOTHING)
    order = list(graph)
    for stage in graph.values():
        assert all(order.index(other) < order.index(stage.name) for other in upstream(stage, graph))


def test_each_agent_has_one_stage_per_step_of_its_kind() -> None:
    names = set(stages(PARAMS, NOTHING))
    assert {"choose_by_ratings@human-category", "choose_by_features@caption-tfidf", "encode@caption-tfidf"} <= names
    assert "choose_by_ratings@caption-tfidf" not in names


def test_an_unknown_stage_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match="embed@human-category"):
        stage_named("embed@human-categroy", stages(PARAMS, NOTHING))


def test_an_output_that_no_stage_writes_is_reported_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = {name: step for name, step in STEPS.items() if name != "choose_by_features"}
    monkeypatch.setattr("affectlake.pipelines.engine.graph.STEPS", rest)  # a removed key would come back as the last
    with pytest.raises(UsageError, match="reads choices/caption-tfidf, which no stage writes") as refused:
        stages(PARAMS, NOTHING)
    assert refused.value.todo == "declare the step that writes it, and list it in pipelines/catalogue.py"


def test_two_writers_of_one_output_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    twin = dataclasses.replace(STEPS["sample"], name="sample_again")
    monkeypatch.setitem(STEPS, "sample_again", twin)
    with pytest.raises(UsageError, match="two stages write triplets"):
        stages(PARAMS, NOTHING)


def test_a_step_must_read_what_its_tables_refer_to() -> None:
    with pytest.raises(ValueError, match="refers to triplets"):
        step(writes=("choices/{agent}",), version=1)(lambda *_: {})


def test_dvc_sees_version_parameters_and_files() -> None:
    body = yaml.safe_load(dvcfile.render(PARAMS, NOTHING))["stages"]
    assert body["sample"]["cmd"] == f"affectlake step sample --step-version {STEPS['sample'].version}"
    assert body["embed"]["do"]["params"] == ["seed", "spose", "agents.${item}.l1"]
    assert body["embed"]["foreach"] == list(PARAMS.agents)
