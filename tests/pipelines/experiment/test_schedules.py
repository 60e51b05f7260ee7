"""A schedule publishes what people answered, as a Prefect flow run, with the commands that follow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml

from affectlake.errors import UsageError
from affectlake.flows.schedules.notifications import SlotReport
from affectlake.flows.schedules.slots import Slots
from affectlake.lake.files import layout
from affectlake.lake.store.versions import list_versions
from affectlake.pipelines.collection.publishing import leases
from affectlake.pipelines.engine.model_runs import COLLECTION
from affectlake.pipelines.params.study import load, parse
from affectlake.pipelines.stored import known_answers
from affectlake.process import lease
from tests.support.experiments import AGENT, answer, experiment_lake, raw_params, trials_of
from tests.support.nights import affectlake, backfill

SLOT = datetime(2026, 3, 1, 2, tzinfo=UTC)
NIGHT: dict[str, Any] = {"agent": AGENT, "cron": "0 2 * * *"}


def scheduled(lake: Path, **more: Any) -> Path:
    """Give a lake the schedule ``nightly``."""
    raw = raw_params() | {"schedules": {"nightly": NIGHT | more}}
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return lake


@contextmanager
def held(lake: Path) -> Iterator[None]:
    with lease.hold(leases(lake), AGENT):
        yield


@pytest.mark.slow
def test_a_slot_publishes_and_then_reports(tmp_path: Path) -> None:
    lake = scheduled(experiment_lake(tmp_path / tmp_path.name), then=["report"])
    n_before = len(list_versions(lake))
    answer(lake, "anna", trials_of(lake)[:7], positions=[1, 2, 3, 1, None, 2, 3])
    done = backfill(lake, "01")
    assert done.returncode == 0, done.stderr
    (slot,) = Slots(lake).latest("nightly")
    assert slot.state == "done", slot.words
    assert slot.words == "people: +6 answers of 1 participants (1 trials without an answer: 1 timed_out)"
    counts = Slots(lake).counts("nightly", SLOT)
    assert counts is not None
    versions = [version.name for version in list_versions(lake)]
    assert counts == (7, 6, 6, 0, 1, versions[n_before])
    known = known_answers(lake, AGENT)
    assert known is not None and known.collect().height == 7
    listed = json.loads(affectlake("schedule", "list", "--json", "--lake", lake).stdout)[0]
    assert listed["agent"] == AGENT
    assert [(one["action"], one["state"]) for one in listed["latest"][0]["then"]] == [("report", "done")]
    runs = waves(lake)
    assert [(run["metrics.participants"], run["metrics.answered"], run["metrics.failed"]) for run in runs] == [
        (1, 6, 1)
    ]
    assert runs[0]["metrics.failed_timed_out"] == 1 and runs[0]["params.version"] == versions[n_before]
    assert runs[0]["metrics.minutes"] == pytest.approx(30 / 60)
    text = SlotReport(str(lake), "nightly", AGENT, SLOT, ("done",), counts).body
    assert "asked: 7" in text and "answered: 6" in text and "failed: 1" in text
    again = backfill(lake, "02")
    assert again.returncode == 0, again.stderr
    (slot, _) = Slots(lake).latest("nightly", 2)
    assert slot.words == "people: +0 answers of 0 participants" and len(list_versions(lake)) == len(versions)
    with held(lake):
        backfill(lake, "03")
    assert Slots(lake).latest("nightly")[0].state == "skipped"


def waves(lake: Path) -> list[dict[str, Any]]:
    """Return the recorded waves of a lake."""
    client = mlflow.MlflowClient(f"sqlite:///{lake / layout.MODEL_RUNS}")
    found = client.get_experiment_by_name(f"{load(lake).study}{COLLECTION}")
    assert found is not None
    return [
        {f"metrics.{key}": value for key, value in run.data.metrics.items()}
        | {f"params.{key}": value for key, value in run.data.params.items()}
        for run in client.search_runs([found.experiment_id])
    ]


WITHOUT_EFFECT = {"limit": 100, "trial_set": "main", "proposed": True, "stop_when": {"gain_below": 0.01}}


@pytest.mark.parametrize("key", WITHOUT_EFFECT)
def test_keys_of_asking_have_no_effect_on_publishing(key: str) -> None:
    night = NIGHT | {key: WITHOUT_EFFECT[key], "then": ["run"]}
    raw = raw_params() | {"schedules": {"nightly": night}}
    with pytest.raises(UsageError) as error:
        parse(yaml.safe_dump(raw, sort_keys=False))
    assert f"schedules.nightly.{key} has no effect: an agent of kind experiment is not asked" in str(error.value)


def test_a_schedule_of_a_model_still_needs_a_limit() -> None:
    raw = raw_params()
    raw["agents"]["model"] = {
        "kind": "chat", "l1": "auto", "protocol": "forced-choice/caption", "model": "m", "revision": None,
        "servers": ["http://127.0.0.1:1/v1"], "api_key_env": None,
        "sampling": {"temperature": 0.0, "top_p": 1.0, "max_tokens": 8},
    }  # fmt: skip
    raw["schedules"] = {"nightly": {"agent": "model", "cron": "0 2 * * *"}}
    with pytest.raises(UsageError, match=r"schedules.nightly.limit is missing"):
        parse(yaml.safe_dump(raw, sort_keys=False))
    raw["schedules"]["nightly"]["agent"] = "human-category"
    with pytest.raises(UsageError, match=r"is not an agent that answers are collected from"):
        parse(yaml.safe_dump(raw, sort_keys=False))
