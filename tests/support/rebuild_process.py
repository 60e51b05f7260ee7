"""What a process of tests/test_same_bytes.py does: run every step of a small study and write its tables.

As `affectlake run` does, stages run side by side, as many as there are workers; left out is what does not decide the
bytes of a table: Prefect, DVC, validation, MLflow.
"""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from math import log
from pathlib import Path
from random import Random

import polars as pl
import torch
import yaml

from affectlake.judge.judgments.options import ReadingOptions
from affectlake.judge.requests.answers import Answer, Reply, answered
from affectlake.judge.responses.tables import response_rows
from affectlake.judge.trials.questions import Question
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.contracts import contract
from affectlake.lake.tables.parts import part_files, write_parts
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.importing import new_rows, read_files
from affectlake.pipelines.collection.planning import plan_questions
from affectlake.pipelines.engine.graph import Stage, stages, upstream
from affectlake.pipelines.engine.runner import workers
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import Params, override, parse
from affectlake.pipelines.step import StepContext
from affectlake.pipelines.stored import Stored, as_responses
from tests.judge.test_videomae import videomae
from tests.judge.test_vision import clip
from tests.support.chat import ENTRY

SETTINGS = (
    "sources.n_stimuli=30",
    "triplets.per_dyad=1",
    "triplets.test_fraction=0.3",
    "triplets.prototypes_per_category=1",
    "triplets.thirds_per_pair=2",
    "triplets.noise_ceiling=10",
    "triplets.noise_ceiling_repeats=3",
    "spose.max_epochs=20",
    "triplets.validation_fraction=0.1",
    "spose.dimensions=5",
    "geometry.min_category_size=3",
    "geometry.permutations=5",
    "geometry.resamples=5",
    "geometry.perplexity=5.0",
    "vice={dimensions: 5, max_epochs: 20, cycle_epochs: 10}",
    "attribution={encoder: {library: transformers, model: clip}, penalties: [10, 1000], folds: 3, permutations: 19}",
    "sweeps.dimensions=[2]",
    "sweeps.n_judgments=100",
    "sweeps.judgments=[100, 200]",
    "sweeps.max_epochs=3",
    "brain.sources={kind: synthetic, n_subjects: 2, voxel_mm: 22.0}",
    "brain.partition={bands: {people: [human-category], vision: [sees]}, nuisance: [luminance, motion_energy]}",
    "brain.contributions={}",
    "brain.generalisation={resamples: 100, relabellings: 9}",
    "brain.crossnobis={}",
    "brain.encoding={outer_folds: 3, inner_folds: 2, standardise: true, by_run: true, permutations: 1}",
    "brain.searchlight={n_stimuli: 20, radius_voxels: 1.5, min_voxels: 5, ranks: counted, permutations: 2}",
)
CAPTIONS = {"kind": "features", "encoder": {"name": "tfidf-svd", "n_components": 6}, "l1": 0.008}
SEES = {"kind": "features", "encoder": {"name": "vision", "library": "transformers", "model": "clip"}, "l1": 0.008}
WATCHES = {"kind": "features", "encoder": {"name": "videomae", "model": "videomae"}, "l1": 0.008}
CHATS = ENTRY | {"protocol": "naive-least-similar", "l1": 0.008}
WEIGHS = ENTRY | {"protocol": "forced-choice", "sampling": {}, "orders": 3, "learn_from": "probabilities", "l1": 0.008}
AGENTS = {
    "reads": CAPTIONS,
    "sees": SEES,
    "watches": WATCHES,
    "tiny": CHATS,
    "odds": WEIGHS,
    "people": {"kind": "judgments", "l1": 0.008},
    "raters": {"kind": "anchored", "l1": 0.008},
}

_COLLECTED = frozenset({"tiny", "odds", "people", "raters"})
ANSWERING = Stored(_COLLECTED, _COLLECTED)
"""What the lake holds, as if the answers of the chat agents and of people were there."""

QUESTIONS = ("ingest", "decode", "sample", "choose_easy_trials")
"""Steps that make what agents are asked; they run before the answers are written."""


def study() -> Params:
    """Return the parameters of a study that has every step."""
    raw = yaml.safe_load(override(templates.starting_params("demo"), SETTINGS))
    raw["agents"] = {"human-category": raw["agents"]["human-category"]} | AGENTS
    raw["easy_trials"] = {"n": 20, "ratings": "category"}
    return parse(yaml.safe_dump(raw, sort_keys=False))


def says(question: Question) -> tuple[str, None]:
    """Return an answer by the key of the question, without log-probabilities; one in sixteen names no video."""
    if question.key[0] < 16:
        return "I like all of them.", None
    return f"Video {question.key[1] % 3 + 1} is noticeably different from the other two.", None


def weighs(question: Question) -> tuple[str, str]:
    """Return the most probable number by the key of the question, with the log-probability of each number."""
    shares = [1 + byte for byte in question.key[:3]]
    top = [{"token": str(at), "logprob": log(share / sum(shares))} for at, share in enumerate(shares, start=1)]
    chosen = max(top, key=lambda one: float(str(one["logprob"])))
    return str(chosen["token"]), json.dumps({"content": [chosen | {"top_logprobs": top}]})


def answer(lake: Path, params: Params, agent: str) -> None:
    """Write a chat agent's answers to the easy and the main set."""
    reply = weighs if agent == "odds" else says
    plans = [plan_questions(lake, params, agent, trial_set) for trial_set in ("easy", "main")]
    found: list[Answer] = [
        answered(question, Reply(text, "stop", logprobs, 90, 20, 0, "tiny-llama"), 1, 0.5)
        for plan in plans
        for question in plan.questions()
        for text, logprobs in [reply(question)]
    ]
    rows = as_responses(response_rows(plans[0].agent, found)).with_columns(shard=pl.lit(0, pl.Int32))
    write_parts(rows, contract("responses"), lake / Output("responses", agent).folder)


def judge(lake: Path, params: Params, agent: str) -> None:
    """Write judgments of six people; of "raters", of anchored triplets."""
    ids = read_output(lake, Output("stimuli")).sort("stimulus_index").collect()["stimulus_id"].to_list()
    random, path = Random(1), lake / f"{agent}.csv"
    anchored = agent == "raters"
    lines = ["participant,trial,head,left,right,winner" if anchored else "participant,trial,a,b,c,odd"]
    for trial in range(900):
        shown = random.sample(ids, 3)
        lines.append(f"p{trial % 6},{trial},{','.join(shown)},{random.choice(shown[anchored:])}")
    path.write_text("\n".join(lines))
    rows = as_responses(new_rows(lake, read_files(lake, params, agent, [path], ReadingOptions())))
    rows = rows.with_columns(shard=pl.lit(0, pl.Int32)).sort("request_key")
    write_parts(rows, contract("responses"), lake / Output("responses", agent).folder)


def run(lake: Path, stage: Stage, params: Params) -> None:
    """Run one stage and write its tables."""
    tables: dict[str, list[pl.LazyFrame]] = {}
    parts: dict[str, tuple[Path, ...]] = {}
    for output in stage.reads:
        tables.setdefault(output.table, []).append(read_output(lake, output))
        parts[output.table] = (*parts.get(output.table, ()), *part_files(lake / output.folder))
    scratch = lake / layout.SCRATCH / stage.name
    scratch.mkdir(parents=True)
    context = StepContext(stage.agent, lake, scratch, workers(), lambda _: None, lambda _: None, parts, stage.agents)
    frames = stage.step.function({name: pl.concat(found) for name, found in tables.items()}, params, context)
    for output in stage.writes:
        write_parts(frames[output.table], contract(output.table), lake / output.folder)


def build(lake: Path) -> None:
    """Run every stage of the study, each when the stages before it have ended."""
    params = study()
    graph = stages(params, ANSWERING)
    torch.manual_seed(0)
    clip(lake / "clip")
    videomae(lake / "videomae")
    ended: dict[str, Future[None]] = {}

    def after(stage: Stage, before: list[Future[None]]) -> None:
        for one in before:
            one.result()
        run(lake, stage, params)

    first = {name: stage for name, stage in graph.items() if stage.step.name in QUESTIONS}
    for stage in first.values():
        run(lake, stage, params)
    for agent in ("tiny", "odds"):
        answer(lake, params, agent)
    for agent in ("people", "raters"):
        judge(lake, params, agent)
    with ThreadPoolExecutor(workers()) as pool:
        for name in first:
            ended[name] = pool.submit(lambda: None)
        for name, stage in graph.items():
            if name in first:
                continue
            ended[name] = pool.submit(after, stage, [ended[other] for other in upstream(stage, graph)])
        for one in ended.values():
            one.result()
