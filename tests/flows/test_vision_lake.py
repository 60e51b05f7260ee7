"""A vision agent in a lake: the demo's clips through a CLIP with random weights, from frames to choices."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from affectlake.errors import SourceError
from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.engine import dvcfile
from affectlake.pipelines.engine.graph import stages
from affectlake.pipelines.engine.runner import run_stage
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import load, override
from affectlake.pipelines.stored import NOTHING
from tests.judge.test_vision import clip
from tests.support.chat_lakes import SETTINGS

MODEL = {"name": "vision", "library": "transformers", "model": "models/clip"}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo lake of 30 clips, decoded, with an agent that sees and one that reads."""
    root = tmp_path_factory.mktemp("vision") / "lake"
    raw = yaml.safe_load(override(templates.starting_params("demo"), (*SETTINGS, "sources.clips=true")))
    agents = raw["agents"]
    reads = agents["caption-tfidf"] | {"encoder": {"name": "tfidf-svd", "n_components": 10}}
    sees = {"kind": "features", "encoder": MODEL, "l1": 0.004}
    raw["agents"] = {"human-category": agents["human-category"], "caption-tfidf": reads, "clip": sees}
    repository.init(root, yaml.safe_dump(raw, sort_keys=False))
    torch.manual_seed(0)
    clip(root / "models" / "clip")
    dvcfile.write(root)
    for name in ("ingest", "sample", "decode", "encode_frames@clip", "choose_by_features@clip"):
        run(root, name)
    run(root, "choose_by_ratings@human-category")
    return root


def run(root: Path, name: str) -> list[str]:
    """Run one stage and return what it said."""
    said: list[str] = []
    params = load(root)
    run_stage(root, stages(params, NOTHING)[name], params, said.append)
    return said


def test_every_agent_is_encoded_by_the_step_that_looks_at_what_it_sees(lake: Path) -> None:
    steps = yaml.safe_load((lake / "dvc.yaml").read_text())["stages"]
    assert (steps["encode"]["foreach"], steps["encode_frames"]["foreach"]) == (["caption-tfidf"], ["clip"])
    assert steps["choose_by_features"]["foreach"] == ["caption-tfidf", "clip"]
    assert "storage/tables/frames" in steps["encode_frames"]["do"]["deps"]
    assert "storage/tables/frames" not in steps["encode"]["do"]["deps"]


def test_every_clip_has_a_vector_and_every_trial_a_choice(lake: Path) -> None:
    features = read_output(lake, Output("features", "clip")).sort("stimulus_index").collect()
    vectors = np.stack(features["vector"].to_list())
    assert vectors.shape == (30, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    trials = read_output(lake, Output("triplets")).select(pl.col("n_repeats").cast(pl.Int64).sum()).collect().item()
    assert read_output(lake, Output("choices", "clip")).select(pl.len()).collect().item() == trials


def test_what_is_planted_in_the_clips_is_seen(lake: Path) -> None:
    """Colour and motion follow the planted emotions, so even random weights agree with the ratings above chance."""
    keys = ["trial_set", "i", "j", "k", "repeat"]
    own, human = (
        read_output(lake, Output("choices", name)).select(*keys, "odd") for name in ("clip", "human-category")
    )
    both = own.join(human, on=keys).filter(pl.col("trial_set") == "main").collect()
    agreement = (both["odd"] == both["odd_right"]).mean()
    assert len(both) == 435 and agreement is not None and agreement > 0.42  # type: ignore[operator]


def test_the_same_frames_give_the_same_bytes_and_the_weights_are_named(lake: Path) -> None:
    (part,) = (lake / "storage/tables/features/clip").glob("*.parquet")
    before = part.read_bytes()
    said = run(lake, "encode_frames@clip")
    assert part.read_bytes() == before
    assert said[0].startswith("transformers models/clip, weights ")


def test_stimuli_without_frames_are_named(lake: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(lake, tmp_path / "lake", symlinks=True)
    params = yaml.safe_load((copy / "params.yaml").read_text())
    params["sources"]["clips"] = False
    (copy / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    run(copy, "decode")
    with pytest.raises(SourceError, match=r"30 of 30 stimuli have no frames(.|\n)*no videos were read"):
        run(copy, "encode_frames@clip")
