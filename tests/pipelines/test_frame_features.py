"""The step that computes features from frames: each stimulus has the vector of its own frames, in their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from affectlake.encoders.vision import frame_vectors, load_vision_model
from affectlake.errors import SourceError
from affectlake.pipelines.catalogue import STEPS
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import Params, parse
from affectlake.pipelines.step import StepContext
from tests.judge.test_vision import VIDEOS, resnet, vision

N = len(VIDEOS)
NOT_OPENED = "the file cannot be opened"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return resnet(tmp_path_factory.mktemp("model") / "resnet")


def study(model: Path) -> Params:
    raw = yaml.safe_load(templates.starting_params("demo"))
    entry = {
        "kind": "features",
        "l1": 0.004,
        "encoder": {"name": "vision", "library": "transformers", "model": model.name},
    }
    raw["agents"] = {"human-category": raw["agents"]["human-category"], "seer": entry}
    raw["brain"]["partition"] = None  # its bands are of other agents
    return parse(yaml.safe_dump(raw, sort_keys=False))


def tables(videos: list[list[bytes]], unreadable: dict[int, str] | None = None) -> dict[str, pl.LazyFrame]:
    """The tables of a study, with their rows in no order."""
    frames = [(at, f, jpeg) for at, video in enumerate(videos) for f, jpeg in enumerate(video)]
    types = {"stimulus_index": pl.Int32, "frame_index": pl.Int16, "jpeg": pl.Binary}
    stimuli = {"stimulus_index": np.arange(N, dtype=np.int32), "stimulus_id": [f"clip-{at}" for at in range(N)]}
    reasons = {
        "stimulus_index": stimuli["stimulus_index"],
        "unreadable": [(unreadable or {}).get(at) for at in range(N)],
    }
    found = {
        "stimuli": pl.DataFrame(stimuli),
        "frames": pl.DataFrame(frames, schema=types, orient="row"),
        "videos": pl.DataFrame(reasons, schema_overrides={"unreadable": pl.String}).filter(unreadable is not None),
    }
    return {name: frame.sample(fraction=1.0, shuffle=True, seed=3).lazy() for name, frame in found.items()}


def test_every_stimulus_has_the_vector_of_its_frames(model: Path, tmp_path: Path) -> None:
    said: list[str] = []
    context = StepContext("seer", model.parent, tmp_path, 2, said.append, lambda _: None)
    found = STEPS["encode_frames"](tables(VIDEOS), study(model), context)["features"]
    loaded = load_vision_model(vision("transformers", model), Path())
    expected = frame_vectors(VIDEOS, loaded, 1)
    assert found["stimulus_index"].to_list() == list(range(N))
    assert found["agent"].unique().to_list() == ["seer"]
    assert np.array_equal(np.array(found["vector"].to_list(), dtype=np.float32), expected)
    assert len(np.unique(expected, axis=0)) == N
    alone = frame_vectors([VIDEOS[1][::-1]], loaded, 1)
    assert np.allclose(alone, expected[1], atol=1e-6)  # a mean over frames
    assert loaded.sha256[:16] in said[0] and said[-1] == f"{N} vectors of {expected.shape[1]} features"


def test_stimuli_without_frames_are_named_with_their_reasons(model: Path, tmp_path: Path) -> None:
    context = StepContext("seer", model.parent, tmp_path, 1, lambda _: None, lambda _: None)
    videos = [[] if at in (1, 3) else video for at, video in enumerate(VIDEOS)]
    with pytest.raises(SourceError) as raised:
        STEPS["encode_frames"](tables(videos, {1: NOT_OPENED, 3: "no frame"}), study(model), context)
    assert f"2 of {N} stimuli have no frames" in str(raised.value)
    assert f"clip-1 ({NOT_OPENED}), clip-3 (no frame)" in str(raised.value)
    with pytest.raises(SourceError, match=r"clip-1 \(no videos were read\), clip-3 \(no videos were read\)"):
        STEPS["encode_frames"](tables(videos), study(model), context)
