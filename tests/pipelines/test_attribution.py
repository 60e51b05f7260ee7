"""The steps of attribution: which dimensions are read, which have maps, and what is said of the others."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from PIL import Image

from affectlake.pipelines.catalogue import STEPS
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import Params, parse
from affectlake.pipelines.step import OutputTables, StepContext
from affectlake.pipelines.steps.attribution import BY_CHANCE, CONSTANT, FEW, NO_FRAMES
from tests.judge.test_vision import resnet

AGENT, N = "human-category", 48
SETTINGS = {"penalties": [10.0, 1000.0], "folds": 4, "permutations": 199, "stimuli_per_dimension": 3,
            "dimensions_per_stimulus": 1}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    torch.manual_seed(0)
    resnet(folder / "resnet")
    return folder


def study() -> Params:
    raw = yaml.safe_load(templates.starting_params("demo"))
    raw["attribution"] = SETTINGS | {"encoder": {"library": "transformers", "model": "resnet"}}
    return parse(yaml.safe_dump(raw, sort_keys=False))


def frame(red: float, seed: int) -> bytes:
    """A noisy picture that is grey, or as red as `red`, 0 to 1."""
    pixels = np.random.default_rng(seed).normal(110, 15, (32, 32, 3)) + 120 * red * np.array([1, -0.7, -0.7])
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()


def world(n_with_frames: int = N) -> dict[str, pl.LazyFrame]:
    """Dimension 1 is how red the frames are, 2 has nothing to do with them, 3 is the same for all."""
    rng = np.random.default_rng(1)
    red, other = rng.random(N), rng.random(N)
    frames = [(at, f, frame(red[at], 10 * at + f)) for at in range(n_with_frames) for f in range(2)]
    types = {"stimulus_index": pl.Int32, "frame_index": pl.Int16, "jpeg": pl.Binary}
    weights = [
        (AGENT, 5, at, dimension, float(value))
        for at in range(N)
        for dimension, value in enumerate((red[at], other[at], 0.5), 1)
    ]
    embeddings = {"agent": pl.String, "seed": pl.Int32, "stimulus_index": pl.Int32, "dimension": pl.Int16,
                  "weight": pl.Float32}  # fmt: skip
    return {
        "stimuli": pl.LazyFrame({"stimulus_index": np.arange(N, dtype=np.int32)}),
        "videos": pl.LazyFrame({"stimulus_index": np.arange(N, dtype=np.int32)}),
        "frames": pl.DataFrame(frames, schema=types, orient="row").sample(fraction=1.0, shuffle=True, seed=3).lazy(),
        "embeddings": pl.DataFrame(weights, schema=embeddings, orient="row").lazy(),
        "fits": pl.LazyFrame({"agent": [AGENT], "seed": [5], "n_dimensions": [3], "representative": [True]}),
    }


def run(home: Path, tables: dict[str, pl.LazyFrame], workers: int = 1) -> tuple[OutputTables, list[str]]:
    """Run both steps; return the tables of all of them, and what they logged."""
    said: list[str] = []
    made: dict[str, Any] = {}
    for name, agent in (("look", ""), ("attribute", AGENT)):
        context = StepContext(agent, home, home, workers, said.append, lambda _: None)
        made |= STEPS[name].function(tables | {key: rows.lazy() for key, rows in made.items()}, study(), context)
    return made, said


@pytest.fixture(scope="module")
def found(home: Path) -> OutputTables:
    return run(home, world())[0]


def test_only_what_the_frames_show_is_read_and_the_others_say_why(found: OutputTables) -> None:
    rows = found["readouts"].sort("dimension")
    assert rows["readable"].to_list() == [True, False, False]
    assert rows["readout_r"][0] > 0.9
    assert rows["note"][0] is None
    assert rows["note"][1].startswith(BY_CHANCE)
    assert rows["note"][2] == CONSTANT
    assert rows["readout_weights"][2] is None
    assert rows["n"].to_list() == [N] * 3


def test_the_strongest_stimuli_of_a_dimension_that_is_read_have_maps_of_every_frame(found: OutputTables) -> None:
    maps = found["saliency"]
    assert set(maps["dimension"]) == {1}
    red = np.random.default_rng(1).random(N)
    strongest = set(maps.filter(pl.col("chosen_by") != "stimulus")["stimulus_index"])
    assert strongest == set(np.argsort(-red)[:3].tolist())
    assert maps.group_by("stimulus_index").len()["len"].unique().to_list() == [2]


def test_the_value_of_a_stimulus_is_the_mean_of_its_frames(found: OutputTables) -> None:
    means = dict(found["frame_features"].select("stimulus_index", "feature_mean").iter_rows())
    readout = found["readouts"].filter(dimension=1).row(0, named=True)
    for (stimulus,), rows in found["saliency"].group_by("stimulus_index"):
        value = np.dot(means[stimulus], readout["readout_weights"]) + readout["readout_intercept"]
        assert rows["frame_value"].mean() == pytest.approx(value, abs=1e-4)


def test_two_workers_write_the_same_rows(home: Path, found: OutputTables) -> None:
    again, _ = run(home, world(), workers=2)
    for name, rows in found.items():
        assert again[name].equals(rows), name


@pytest.mark.parametrize(("n", "reason"), [(0, NO_FRAMES), (7, FEW.format(n=7, least=16, folds=4))])
def test_a_study_with_too_few_frames_has_rows_with_the_reason(home: Path, n: int, reason: str) -> None:
    made, said = run(home, world(n))
    assert made["readouts"]["note"].to_list() == [reason] * 3
    assert not made["readouts"]["readable"].any()
    assert len(made["saliency"]) == 0
    assert reason in said
