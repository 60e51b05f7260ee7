"""Every key of params.yaml is read by code that does something with it; what has no effect is refused."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from affectlake.encoders import settings
from affectlake.errors import UsageError
from affectlake.judge import agents, chat, sampling, server_command
from affectlake.lake import repository
from affectlake.pipelines.params import (
    about,
    attribution,
    brain,
    notify,
    schedules,
    shareable,
    sources,
    study,
    templates,
)
from affectlake.pipelines.params.study import Params, override, parse
from affectlake.spose.settings import FewJudgments, SharedSettings
from affectlake.validation import Strict
from tests.support.chat import ENTRY
from tests.support.lakes import ROOT

STEPS, BRAIN = "pipelines/steps", "pipelines/steps/brain_sources.py"
RESTRICTED = "pipelines/outputs/restricted.py"
READERS: dict[type[BaseModel], tuple[str, ...]] = {
    Params: ("pipelines", "flows", "src/affectlake/report"),
    about.About: ("pipelines/params/about.py", "pipelines/outputs"),
    study.Wording: ("src/affectlake/report/wording.py",),
    sources.EmotionSources: ("pipelines/steps/stimuli.py", "pipelines/steps/videos.py"),
    sources.SyntheticSources: ("pipelines/steps/stimuli.py", "pipelines/steps/videos.py"),
    sources.TableSources: ("pipelines/steps/stimuli.py", "pipelines/steps/videos.py"),
    shareable.Shareable: (RESTRICTED,),
    sources.StimulusFile: ("pipelines/steps/stimuli.py",),
    sources.RatingFile: ("pipelines/steps/stimuli.py",),
    sources.CaptionFile: ("pipelines/steps/stimuli.py",),
    study.Triplets: ("pipelines/steps/stimuli.py", "pipelines/steps/meaning.py"),
    study.Spose: ("src/affectlake/spose", "pipelines/params/study.py", "pipelines/collection/proposals.py"),
    study.Vice: ("src/affectlake/spose/vice", "pipelines/steps/vice.py"),
    attribution.Attribution: ("pipelines/steps/attribution.py",),
    settings.PictureModel: ("src/affectlake/encoders/vision.py",),
    study.Geometry: (STEPS,),
    study.Sweeps: ("pipelines/steps/sweeps.py", "pipelines/steps/metrics.py"),
    study.Proposals: ("pipelines/collection/proposals.py",),
    study.EasyTrials: ("pipelines/steps/easy_trials.py",),
    FewJudgments: ("src/affectlake/spose/settings.py",),
    agents.RatingsAgent: ("pipelines/steps/choices.py", "src/affectlake/judge/agents.py", "pipelines/params/study.py"),
    agents.FeaturesAgent: ("pipelines/steps/videos.py", "src/affectlake/judge/vectors", "pipelines/params/study.py"),
    agents.TfidfSvd: ("src/affectlake/judge/vectors/text.py",),
    agents.SentenceTransformers: ("src/affectlake/judge/vectors/text.py",),
    agents.VisionEncoder: ("src/affectlake/encoders/vision.py",),
    agents.VideoMAE: ("src/affectlake/encoders/videomae.py",),
    agents.JudgmentsAgent: ("pipelines/steps/judgments.py", "pipelines/params/study.py"),
    agents.AnchoredAgent: ("pipelines/steps/judgments.py", "pipelines/params/study.py"),
    agents.Exclude: ("pipelines/steps/judgments.py",),
    agents.Inattentive: ("pipelines/steps/attention.py", "pipelines/steps/judgments.py"),
    agents.ExperimentAgent: ("pipelines/experiment", "pipelines/steps/judgments.py", "pipelines/params/study.py"),
    agents.PublishEvery: ("pipelines/experiment",),
    chat.ChatAgent: ("src/affectlake/judge/chat.py", "pipelines"),
    chat.Price: ("pipelines/collection/cost.py",),
    sampling.Sampling: ("src/affectlake/judge/sampling.py", "src/affectlake/judge/trials"),
    server_command.ServerCommand: (
        "src/affectlake/judge/server_command.py",
        "src/affectlake/judge/requests",
        "pipelines/collection/servers.py",
    ),
    schedules.Schedule: ("flows/schedules", "src/affectlake/cli/schedules.py"),
    schedules.StopWhen: ("flows/schedules",),
    notify.Notify: ("pipelines/params/notify.py", "flows/schedules/notifications.py"),
    brain.Brain: (STEPS, "pipelines/outputs"),
    brain.SyntheticBrains: (BRAIN,),
    brain.BDataBrains: (BRAIN,),
    brain.ImageBrains: (BRAIN,),
    brain.ImageSet: (BRAIN,),
    brain.SeriesSet: (BRAIN,),
    brain.TimeSeries: (BRAIN,),
    brain.FmriprepBrains: (BRAIN,),
    brain.AtlasFiles: (BRAIN,),
    brain.EncodingParams: (STEPS,),
    brain.SearchlightParams: (STEPS,),
    brain.PartitionParams: (STEPS,),
    brain.ContributionParams: ("pipelines/steps/brain_contributions.py",),
    brain.CrossnobisParams: ("pipelines/steps/brain_distances.py",),
    brain.GeneralisationParams: (STEPS,),
    brain.PycortexSurfaces: ("pipelines/outputs/flatmaps.py",),
}
"""Where the values of each model are used: files, or folders of them."""

MARKS = {"kind", "name"}  # which of several models an entry is: read by pydantic, told apart by the class


def models(kind: Any = Params) -> Iterator[type[BaseModel]]:
    """A model, and every model that its fields can hold."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from models(field.annotation)
    for inner in get_args(kind):
        yield from models(inner)


def read_in(*places: str) -> set[str]:
    """The names of all attributes that are read in some files, and the last words of dotted keys that stand there."""
    files = [file for place in places for file in (ROOT / place).rglob("*.py") or [ROOT / place]]
    files += [ROOT / place for place in places if (ROOT / place).is_file()]
    assert files
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    keys = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}
    return attributes | {key.rpartition(".")[2] for key in keys if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", key)}


READ_BY_KEY = {"notify", "about", "shareable"}  # as sections of a file, whose own keys are checked with their models


def unread(model: type[BaseModel], *places: str) -> list[str]:
    """The keys that none of these files reads; `notify_of` reads its own, whatever else may be wrong in the file."""
    return sorted(set(model.model_fields) - MARKS - read_in(*places) - (READ_BY_KEY if model is Params else set()))


def test_every_model_of_the_tree_is_known_here() -> None:
    assert set(models()) == set(READERS)


@pytest.mark.parametrize("model", READERS, ids=lambda model: model.__name__)
def test_every_key_is_read(model: type[BaseModel]) -> None:
    assert unread(model, *READERS[model]) == []


def test_a_key_that_nothing_reads_is_found() -> None:
    class Planted(study.Geometry):
        smoothing: float = 0.1

    assert unread(Planted, *READERS[study.Geometry]) == ["smoothing"]


def test_every_key_says_what_it_is() -> None:
    silent = [
        f"{model.__name__}.{name}"
        for model in set(models())
        for name, field in model.model_fields.items()
        if not field.description and name not in MARKS and not issubclass(_model(field.annotation), Strict)
    ]
    assert silent == []


def _model(kind: Any) -> type:
    found = [one for one in (kind, *get_args(kind)) if isinstance(one, type)]
    return found[0] if found else object


AUTO = {"batch_size", "max_epochs", "patience", "min_delta", "schedule", "learning_rate", "learn_lapses",
        "warmup_epochs"}  # fmt: skip
UNUSED = {"final_learning_rate"}  # by a constant rate


def test_what_fits_to_few_judgments_take_from_elsewhere() -> None:
    """The settings that `spose` loses to `spose.few` when every agent is fitted as to few judgments."""
    base = parse(templates.starting_params("demo")).settings("human-category")
    others: dict[str, Any] = {"pruning": "none", "learn_lapses": True, "beta1": 0.8, "beta2": 0.95}
    others |= {"schedule": "constant", "patience": 5, "warmup_epochs": 3}
    for key in SharedSettings.model_fields:
        changed = base.replaced(**{key: others[key] if key in others else 2 * getattr(base, key)})
        assert changed != base
        few = FewJudgments()
        as_fitted = [
            [one.replaced(**dict.fromkeys(UNUSED, 1.0)) for one in few.candidates(own, 5000, 50)]
            for own in (base, changed)
        ]
        assert (as_fitted[0] == as_fitted[1]) == (key in AUTO | UNUSED), key
        in_cycles = [few.replaced(cycle_epochs=10).candidates(own, 5000, 50) for own in (base, changed)]
        assert (in_cycles[0] == in_cycles[1]) == (key in AUTO | UNUSED | {"convergence_epochs"}), key


def demo(**changes: Any) -> str:
    raw = yaml.safe_load(templates.starting_params("demo"))
    for key, value in changes.items():
        place, (*folders, last) = raw, key.split("__")
        for word in folders:
            place = place[word]
        place[last] = value
    return yaml.safe_dump(raw, sort_keys=False)


BDATA = {"kind": "bdata", "subjects": {"S1": "a.h5"}}
ALL_AUTO = tuple(f"agents.{name}.l1=auto" for name in ("human-category", "human-dimension", "caption-tfidf"))
USELESS = {
    "l1 of all": (demo(spose__l1=0.01), {"spose.l1": "settings such as agents.human-category.l1 set the sparsity"}),
    "threshold": (demo(spose__pruning="none"), {"spose.threshold": "remove it, or change spose.pruning"}),
    "notify": (demo(notify={"webhook": "https://x.org/h"}), {"notify": "remove it, or add `schedules:`"}),
    "notify, empty": (demo(notify={"webhook": "https://x.org/h"}, schedules={}), {"notify": "no schedules"}),
    "surface": (
        demo(brain__sources=BDATA, brain__surfaces={"S1": {"subject": "a"}, "S2": {"subject": "b"}}),
        {"brain.surfaces.S2": "the subjects are S1"},
    ),
    "two at once": (
        demo(spose__l1=0.01, spose__pruning="none"),
        {"spose.l1": "every agent has its own", "spose.threshold": "keeps all dimensions"},
    ),
    "all agents are auto": (
        override(demo(), ALL_AUTO),
        {f"spose.{key}": f"spose.few.{key}" for key in ("max_epochs", "learning_rate")}
        | {"spose.final_learning_rate": "is a hundredth of spose.few.learning_rate"}
        | {"spose.batch_size": "follows the number of judgments", "spose.schedule": "is cosine"}
        | {f"spose.{key}": "spose.few.cycle_epochs" for key in ("warmup_epochs", "convergence_epochs")},
    ),
    "all agents are auto, at a constant rate": (
        override(demo(), (*ALL_AUTO, "spose.few.cycle_epochs=null")),
        {f"spose.{key}": f"spose.few.{key}" for key in ("max_epochs", "learning_rate")}
        | {"spose.batch_size": "follows the number of judgments", "spose.schedule": "is constant"}
        | {"spose.final_learning_rate": "is spose.few.learning_rate", "spose.warmup_epochs": "is 0"},
    ),
    "initial weights of all agents": (
        demo(
            agents={"a": {"kind": "ratings", "ratings": "category", "l1": "auto"}},
            spose={
                "dimensions": 30,
                "seeds": [0],
                "pruning": "none",
                "init_std": 0.1,
                "few": {"init_stds": [0.01, 0.1]},
            },
        ),
        {"spose.init_std": "is one of spose.few.init_stds"},
    ),
    "initial weights of one agent": (
        demo(agents__r={"kind": "anchored", "l1": "auto", "init_std": 0.2}, spose__few__init_stds=[0.01, 0.1]),
        {"agents.r.init_std": "one of spose.few.init_stds"},
    ),
    "batches of sweeps": (demo(sweeps__cycle_epochs=10), {"sweeps.batch_size": "remove sweeps.cycle_epochs"}),
    "one learning rate": (
        demo(spose__schedule="constant"),
        {"spose.final_learning_rate": "set spose.schedule: cosine"},
    ),
    "no patience": (
        demo(spose__patience=None, spose__min_delta=0.1),
        {"spose.min_delta": "does not stop by the validation loss"},
    ),
}


@pytest.mark.parametrize("case", USELESS)
def test_a_setting_without_effect_is_refused_with_the_one_that_has_it(case: str) -> None:
    text, expected = USELESS[case]
    with pytest.raises(UsageError) as caught:
        parse(text)
    said = str(caught.value)
    assert said.count("has no effect") == len(expected)
    for path, words in expected.items():
        line = said if len(expected) == 1 else next(one for one in said.splitlines() if one.strip().startswith(path))
        assert f"{path} has no effect" in said and words in line and "remove it" in line


def test_settings_of_what_is_switched_off_may_stay() -> None:
    off = ("sweeps.dimensions=[]", "sweeps.judgments=[]", "brain.searchlight.permutations=0", "sources.clips=false")
    assert parse(override(templates.starting_params("demo"), off)).sweeps.dimensions == []


def test_a_run_says_exactly_what_to_remove_and_history_stays_readable(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    repository.init(lake, demo(spose__l1=0.01).replace("  l1: 0.01", "  l1: 0.01  # of an earlier release"))
    for command in (["run"], ["steps"], ["publish"]):
        done = subprocess.run(["affectlake", *command, "--lake", lake], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "params.yaml: spose.l1 has no effect: every agent has its own l1\n" in done.stderr
        assert "to do: remove it" in done.stderr
    listed = subprocess.run(["affectlake", "versions", "--lake", lake], capture_output=True, text=True, check=False)
    assert listed.returncode == 0


def test_no_code_asks_which_kind_an_agent_is() -> None:
    """Agents say what they need (`needs_server`, `is_human`, `modality`), so that a new kind touches few files."""
    files = [file for folder in ("src/affectlake", "pipelines", "flows") for file in (ROOT / folder).rglob("*.py")]
    found = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare) and any(
                isinstance(part, ast.Attribute) and part.attr == "kind" for part in (node.left, *node.comparators)
            ):
                words = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
                found += [f"{file}:{node.lineno}"] if words & set(agents.EVERY_KIND) else []
    assert found == []


def test_agents_say_what_they_need() -> None:
    said = {kind.model_fields["kind"].annotation: (kind.needs_server, kind.is_human) for kind in get_args(agents.Agent)}
    assert {get_args(kind)[0]: needs for kind, needs in said.items()} == {
        "ratings": (False, True),
        "features": (False, False),
        "chat": (True, False),
        "judgments": (False, True),
        "anchored": (False, True),
        "experiment": (False, True),
    }
    collected = {
        get_args(kind.model_fields["kind"].annotation)[0]: kind.collected_by for kind in get_args(agents.Agent)
    }
    assert collected == {
        "ratings": "", "features": "", "chat": "affectlake collect", "judgments": "affectlake import",
        "anchored": "affectlake import", "experiment": "affectlake experiment",
    }  # fmt: skip
    asked = agents.parse_agent("x", ENTRY)
    assert (asked.needs_server, asked.modality) == (True, "captions")
