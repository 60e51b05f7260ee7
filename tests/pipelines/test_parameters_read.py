"""Every step depends on the keys of ``params.yaml`` that it reads: recorded while all steps run on a tiny study."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml

from affectlake.judge import agents as judges
from affectlake.judge.chat import ChatAgent
from affectlake.judge.requests.answers import Reply, answered
from affectlake.judge.responses.tables import response_rows
from affectlake.judge.trials.plan import make_plan
from affectlake.lake.files.outputs import Output
from affectlake.pipelines.catalogue import STEPS
from affectlake.pipelines.engine.graph import Stage, stages, upstream
from affectlake.pipelines.engine.parameters import keys_of
from affectlake.pipelines.params import brain, sources, study, templates
from affectlake.pipelines.params.attribution import Attribution
from affectlake.pipelines.params.study import Params, override, parse
from affectlake.pipelines.step import StepContext
from affectlake.pipelines.steps.responses import materials, trials_of
from affectlake.pipelines.stored import Stored
from affectlake.spose.settings import FewJudgments, Settings
from tests.judge.test_videomae import videomae
from tests.judge.test_vision import clip
from tests.stimuli.test_emotion import rows_of_captions, rows_of_ratings, write
from tests.stimuli.test_frames import write as write_video
from tests.support.chat import ENTRY
from tests.support.chat_lakes import SETTINGS

TINY = (
    "sources.clips=true",
    "triplets.per_dyad=3",
    "sweeps.dimensions=[2]",
    "sweeps.judgments=[200]",
    "sweeps.n_judgments=200",
    "sweeps.replicates=1",
    "sweeps.max_epochs=1",
    "spose.few.max_epochs=1",
    "geometry.resamples=5",
    "triplets.noise_ceiling_repeats=2",
)
BRAIN = {
    "sources": {"kind": "synthetic", "n_subjects": 2, "voxel_mm": 24.0},
    "encoding": {"outer_folds": 2, "inner_folds": 2, "standardise": True, "by_run": True, "permutations": 1},
    "searchlight": {
        "selection": "ratings",
        "n_stimuli": 20,
        "radius_voxels": 1.5,
        "min_voxels": 5,
        "ranks": "counted",
        "permutations": 2,
    },
    "device": "cpu",
    "reference": "human-category",
    "mask": "fdr",
}
MODEL = {"name": "vision", "library": "transformers", "model": "clip"}

ATTRIBUTION = {
    "encoder": {"library": "transformers", "model": "clip"},
    "layer": None,
    "penalties": [10.0],
    "folds": 3,
    "permutations": 99,
    "stimuli_per_dimension": 2,
    "dimensions_per_stimulus": 1,
}

SECTIONS: Mapping[type, str] = {
    sources.EmotionSources: "sources",
    sources.SyntheticSources: "sources",
    sources.TableSources: "sources",
    study.Triplets: "triplets",
    study.Geometry: "geometry",
    study.Sweeps: "sweeps",
    Settings: "spose",
    FewJudgments: "spose.few",
    judges.RatingsAgent: "agents.{agent}",
    judges.FeaturesAgent: "agents.{agent}",
    ChatAgent: "agents.{agent}",
    Attribution: "attribution",
    brain.Brain: "brain",
    brain.SyntheticBrains: "brain.sources",
    brain.EncodingParams: "brain.encoding",
    brain.SearchlightParams: "brain.searchlight",
}
"""Which section of the file each class holds; its attributes are the section's keys, but for those below."""
ATTRIBUTES: Mapping[tuple[type, str], tuple[str, ...]] = {
    (Params, "seed"): ("seed",),
    (Params, "fit_seeds"): ("spose.seeds",),
    (Params, "device"): ("spose.device",),
    (Params, "auto"): ("agents.{agent}.l1",),
    (Params, "fitted"): ("agents.{agents}.kind",),
    (Settings, "l1"): ("agents.{agent}.l1",),
    (ChatAgent, "asking"): ("agents.{agent}.protocol", "agents.{agent}.modality"),
    (ChatAgent, "family"): ("agents.{agent}.protocol",),
}
PLACES = {name: {"spose.device"} for name in ("encode_frames", "encode_clips", "look", "attribute")}
"""Where a step computes, which changes no more than the last digits: nothing is to be made anew for that."""


class Recorder:
    """Notes the keys of ``params.yaml`` that are read, as attributes of what the file was read as."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read: set[str] = set()
        for kind in (*SECTIONS, Params):
            monkeypatch.setattr(kind, "__getattribute__", self._watched(kind), raising=False)

    def _watched(self, kind: type) -> Any:
        names = getattr(kind, "model_fields", None) or [field.name for field in dataclasses.fields(kind)]
        keys = {name: (f"{SECTIONS[kind]}.{name}",) for name in names} if kind in SECTIONS else {}
        keys |= {name: found for (one, name), found in ATTRIBUTES.items() if one is kind}
        groups = {name for name in keys if kind is brain.Brain and name not in ("device", "reference", "mask")}

        def read(found: object, name: str) -> Any:
            if name in keys and name not in groups:
                self.read.update(keys[name])
            return object.__getattribute__(found, name)

        return read


def tiny_study(folder: Path) -> Params:
    """A study with agents of every kind, one of them fitted as to few judgments, and brains."""
    raw = yaml.safe_load(override(templates.starting_params("demo"), (*SETTINGS, *TINY)))
    agents = raw["agents"]
    raw["brain"] = BRAIN
    raw["attribution"] = ATTRIBUTION
    raw["agents"] = {
        "human-category": agents["human-category"],
        "human-dimension": agents["human-dimension"],
        "caption-tfidf": agents["caption-tfidf"] | {"encoder": {"name": "tfidf-svd", "n_components": 6}, "l1": "auto"},
        "sees": {"kind": "features", "encoder": MODEL, "l1": 0.004},
        "watches": {"kind": "features", "encoder": {"name": "videomae", "model": "videomae"}, "l1": 0.004},
        "tiny": {**ENTRY, "l1": 0.004},
    }
    torch.manual_seed(0)
    clip(folder / "clip")
    videomae(folder / "videomae")
    return parse(yaml.safe_dump(raw, sort_keys=False))


def responses(tables: Mapping[str, pl.LazyFrame], params: Params) -> pl.DataFrame:
    """What the chat agent answered: the second of each three is the odd one."""
    agent = params.agents["tiny"]
    assert isinstance(agent, ChatAgent)
    reply = Reply("Video 2 is noticeably different from the other two.", "stop", None, 1, 1, 0, agent.model)
    rows = []
    for name in tables["triplets"].collect()["trial_set"].unique():
        plan = make_plan(agent, trials_of(tables["triplets"], name), materials(tables, agent), params.seed)
        rows += [answered(question, reply, 1, 0.1) for question in plan.questions()]
    return response_rows(agent, rows).with_columns(shard=pl.lit(0, dtype=pl.Int32))


@dataclasses.dataclass
class Run:
    """A study, its stages, and the keys that each step has read."""

    params: Params
    graph: dict[str, Stage]
    read: dict[str, set[str]]

    def readers(self, key: str) -> set[str]:
        """The steps that read a key, and those that read what these make: all of which a change of it concerns."""
        concerned = {name for name, stage in self.graph.items() if key in self.read[stage.step.name]}
        for name, stage in self.graph.items():  # in the order in which they run
            if concerned & set(upstream(stage, self.graph)):
                concerned.add(name)
        return {self.graph[name].step.name for name in concerned}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("lake")
    params = tiny_study(folder)
    graph = stages(params, Stored(frozenset({"tiny"}), frozenset({"tiny"})))
    made: dict[Output, pl.DataFrame] = {}
    read: dict[str, set[str]] = {step: set() for step in STEPS}
    with pytest.MonkeyPatch.context() as monkeypatch:
        recorder = Recorder(monkeypatch)
        for name, stage in graph.items():
            if Output("responses", "tiny") in stage.reads:
                known = {table: made[Output(table)].lazy() for table in ("stimuli", "captions", "frames", "triplets")}
                made[Output("responses", "tiny")] = responses(known, params)
            tables: dict[str, pl.LazyFrame] = {}
            for output in stage.reads:
                table, rows = output.table, made[output].lazy()
                tables[table] = pl.concat([tables[table], rows]) if table in tables else rows
            scratch = tmp_path_factory.mktemp(name.replace("@", "-"))
            context = StepContext(stage.agent, folder, scratch, 1, lambda _: None, lambda _: None, agents=stage.agents)
            recorder.read.clear()
            frames = stage.step.function(tables, params, context)
            read[stage.step.name] |= recorder.read
            made |= {output: frames[output.table] for output in stage.writes}
    yield Run(params, graph, read)


def leaves(raw: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys of the values of ``params.yaml``; what an agent's encoder or sampling is, is one value."""
    for key, value in raw.items():
        if isinstance(value, Mapping) and key not in ("encoder", "sampling"):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def covered(key: str, by: set[str]) -> bool:
    return any(key == one or key.startswith(f"{one}.") for one in by)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_depends_on_every_key_that_it_reads(run: Run, name: str) -> None:
    declared = {key.replace("{agents}", "{agent}") for key in STEPS[name].params}
    undeclared = {key for key in run.read[name] if not covered(key, declared)}
    assert undeclared == PLACES.get(name, set())


def test_a_key_concerns_the_steps_that_read_it_and_no_others(run: Run) -> None:
    """A step that depends on a key re-runs when it changes: it must read the key, or the tables of a step that does."""
    checked = 0
    for key in leaves(run.params.raw):
        generic = key
        for agent in run.params.agents:
            generic = generic.replace(f"agents.{agent}.", "agents.{agent}.")
        declaring = {
            stage.step.name for stage in run.graph.values()
            if covered(key, set(keys_of(stage.step, stage.agent, run.params, stage.agents)))
        }  # fmt: skip
        if generic.endswith(".kind"):  # what reads a section, or an entry, depends on which of several it is
            continue
        assert declaring <= run.readers(generic), key
        checked += bool(declaring)
    assert checked > 60


def test_a_step_that_reads_a_section_of_several_kinds_depends_on_its_kind(run: Run) -> None:
    for stage in run.graph.values():
        keys = keys_of(stage.step, stage.agent, run.params, stage.agents)
        for section in ("sources", "brain.sources"):
            if any(key.startswith(f"{section}.") for key in run.read[stage.step.name]):
                assert covered(f"{section}.kind", set(keys)), stage.name
        if "agents.{agent}.ratings" in stage.step.params and len(stage.step.kinds) > 1:
            assert f"agents.{stage.agent}.kind" in keys


def test_published_ratings_have_keys_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "ratings.csv", rows_of_ratings())
    write(tmp_path / "captions.csv", rows_of_captions())
    write_video(tmp_path / "0001.mp4", [50] * 20)
    files = ("sources.ratings=ratings.csv", "sources.captions=captions.csv", "sources.exclude=[2]", "sources.videos=.")
    params = parse(override(templates.starting_params("emotion"), files))
    recorder, tables = Recorder(monkeypatch), dict[str, pl.LazyFrame]()
    for name in ("ingest", "decode"):
        recorder.read.clear()
        context = StepContext("", tmp_path, tmp_path, 1, lambda _: None, lambda _: None)
        tables |= {table: rows.lazy() for table, rows in STEPS[name].function(tables, params, context).items()}
        own = {key for key in keys_of(STEPS[name], "", params, []) if key.startswith("sources.")}
        assert own == {key for key in recorder.read if key.startswith("sources.")} | {"sources.kind"}
        if STEPS[name].optional:  # a file without an optional key has one dependency fewer, and no other in its place
            older = yaml.safe_load(override(templates.starting_params("emotion"), files))
            for key in STEPS[name].optional:
                older["sources"].pop(key.rpartition(".")[2], None)
            before = {key for key in keys_of(STEPS[name], "", parse(yaml.safe_dump(older)), []) if "sources" in key}
            assert before == own - set(STEPS[name].optional)


@pytest.mark.parametrize(
    ("key", "steps"),
    [
        ("geometry.perplexity", {"lay_out"}),
        ("geometry.min_category_size", {"measure"}),
        ("geometry.label_gap", {"measure", "describe"}),
        ("geometry.permutations", {"measure", "compare", "align_agents"}),
        ("sweeps.share", {"measure"}),
        ("sweeps.recovered_r", {"sweep"}),
        ("sources.clips", {"decode", "encode_clips"}),
        ("brain.encoding.permutations", {"encode_brains"}),
        ("brain.searchlight.ranks", {"search_brains"}),
        ("agents.human-category.ratings", {"choose_by_ratings", "share_stimuli", "encode_brains", "search_brains"}),
        ("agents.tiny.servers", set()),
        ("agents.tiny.model", {"choose_by_chat"}),
        ("proposals.share", set()),
    ],
)
def test_what_a_key_concerns_is_what_one_expects(run: Run, key: str, steps: set[str]) -> None:
    concerned = {
        stage.step.name for stage in run.graph.values()
        if covered(key, set(keys_of(stage.step, stage.agent, run.params, stage.agents)))
    }  # fmt: skip
    assert concerned == steps
