"""Vision agents in a lake: the demo's clips through a CLIP and a VideoMAE with random weights, to choices."""

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
from affectlake.pipelines.catalogue import STEPS
from affectlake.pipelines.engine import dvcfile
from affectlake.pipelines.engine.graph import stages
from affectlake.pipelines.engine.runner import run_stage
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.sources import SyntheticSources
from affectlake.pipelines.params.study import load, override, parse
from affectlake.pipelines.step import StepContext
from affectlake.pipelines.stored import NOTHING
from affectlake.seeds import generator
from affectlake.stimuli import make_synthetic
from affectlake.stimuli.clips import render_clips
from tests.judge.test_videomae import frames_of, reference, videomae
from tests.judge.test_vision import clip
from tests.stimuli.test_frames import write
from tests.support.chat_lakes import SETTINGS

MODEL = {"name": "vision", "library": "transformers", "model": "models/clip"}
VIDEO_MODEL = {"name": "videomae", "model": "models/videomae"}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo lake of 30 clips, decoded, with agents that see frames, see clips, and read."""
    root = tmp_path_factory.mktemp("vision") / "lake"
    raw = yaml.safe_load(override(templates.starting_params("demo"), (*SETTINGS, "sources.clips=true")))
    agents = raw["agents"]
    reads = agents["caption-tfidf"] | {"encoder": {"name": "tfidf-svd", "n_components": 10}}
    sees = {"kind": "features", "encoder": MODEL, "l1": 0.004}
    raw["agents"] = {"human-category": agents["human-category"], "caption-tfidf": reads, "clip": sees}
    raw["agents"]["videomae"] = {"kind": "features", "encoder": VIDEO_MODEL, "l1": 0.004}
    repository.init(root, yaml.safe_dump(raw, sort_keys=False))
    torch.manual_seed(0)
    clip(root / "models" / "clip")
    videomae(root / "models" / "videomae")
    dvcfile.write(root)
    for name in ("ingest", "sample", "decode", "encode_frames@clip", "choose_by_features@clip"):
        run(root, name)
    for name in ("encode_clips@videomae", "choose_by_features@videomae"):
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
    assert steps["encode_clips"]["foreach"] == ["videomae"]
    assert steps["choose_by_features"]["foreach"] == ["caption-tfidf", "clip", "videomae"]
    assert "storage/tables/frames" in steps["encode_frames"]["do"]["deps"]
    for name in ("encode", "encode_clips"):
        assert "storage/tables/frames" not in steps[name]["do"]["deps"]


def vectors_of(lake: Path, agent: str) -> np.ndarray:
    features = read_output(lake, Output("features", agent)).sort("stimulus_index").collect()
    return np.stack(features["vector"].to_list())


@pytest.mark.parametrize(("agent", "n_features"), [("clip", 16), ("videomae", 32)])
def test_every_clip_has_a_vector_and_every_trial_a_choice(lake: Path, agent: str, n_features: int) -> None:
    vectors = vectors_of(lake, agent)
    assert vectors.shape == (30, n_features)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    trials = read_output(lake, Output("triplets")).select(pl.col("n_repeats").cast(pl.Int64).sum()).collect().item()
    assert read_output(lake, Output("choices", agent)).select(pl.len()).collect().item() == trials


def test_features_of_clips_are_those_of_the_model_alone(lake: Path, tmp_path: Path) -> None:
    """The clips rendered again, decoded with PyAV, and passed to transformers' own model and processor."""
    ids = read_output(lake, Output("stimuli")).sort("stimulus_index").collect()["stimulus_id"].to_list()
    params = load(lake)
    sources = params.sources
    assert isinstance(sources, SyntheticSources)
    mix = make_synthetic(sources.n_stimuli, generator(params.seed, "synthetic")).mix
    render_clips(tmp_path, ids, mix, generator(params.seed, "clips"))
    expected = reference([frames_of(tmp_path / f"{name}.mp4") for name in ids], lake / "models/videomae")
    np.testing.assert_allclose(vectors_of(lake, "videomae"), expected, atol=2e-5)


@pytest.mark.parametrize("agent", ["clip", "videomae"])
def test_what_is_planted_in_the_clips_is_seen(lake: Path, agent: str) -> None:
    """Colour and motion follow the planted emotions, so even random weights agree with the ratings above chance."""
    keys = ["trial_set", "i", "j", "k", "repeat"]
    own, human = (read_output(lake, Output("choices", name)).select(*keys, "odd") for name in (agent, "human-category"))
    both = own.join(human, on=keys).filter(pl.col("trial_set") == "main").collect()
    agreement = (both["odd"] == both["odd_right"]).mean()
    assert len(both) == 435 and agreement is not None and agreement > 0.42  # type: ignore[operator]


@pytest.mark.parametrize(
    ("stage", "named"),
    [("encode_frames@clip", "transformers models/clip"), ("encode_clips@videomae", "videomae models/videomae")],
)
def test_the_same_videos_give_the_same_bytes_and_the_weights_are_named(lake: Path, stage: str, named: str) -> None:
    (part,) = (lake / "storage/tables/features" / stage.partition("@")[2]).glob("*.parquet")
    before = part.read_bytes()
    said = run(lake, stage)
    assert part.read_bytes() == before
    assert said[0].startswith(f"{named}, weights ")
    if stage.startswith("encode_clips"):
        assert "16 frames of each video; 0 videos have fewer, so that frames are repeated" in said


def test_stimuli_without_frames_are_named(lake: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(lake, tmp_path / "lake", symlinks=True)
    params = yaml.safe_load((copy / "params.yaml").read_text())
    params["sources"]["clips"] = False
    (copy / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    run(copy, "decode")
    for stage in ("encode_frames@clip", "encode_clips@videomae"):
        with pytest.raises(SourceError, match=r"30 of 30 stimuli have no frames(.|\n)*no videos were read"):
            run(copy, stage)


def test_clips_of_a_folder_of_videos_repeat_frames_that_they_lack_and_bad_ones_are_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    videomae(tmp_path / "models" / "videomae")
    (tmp_path / "videos").mkdir()
    ids = ["0001.mp4", "0002.mp4", "0003.mp4"]
    for name, n_frames in zip(ids, (40, 9, 16), strict=True):
        write(tmp_path / "videos" / name, [6 * at for at in range(n_frames)])
    raw = yaml.safe_load(override(templates.starting_params("emotion"), ("sources.videos=videos",)))
    raw["agents"] = {"videomae": {"kind": "features", "encoder": VIDEO_MODEL, "l1": 0.004}}
    params, said = parse(yaml.safe_dump(raw, sort_keys=False)), list[str]()
    context = StepContext("videomae", tmp_path, tmp_path / "scratch", 2, said.append, lambda _: None)
    stimuli = pl.DataFrame({"stimulus_index": np.arange(3, dtype=np.int32), "stimulus_id": ids}).lazy()
    found = STEPS["decode"]({"stimuli": stimuli}, params, context)
    tables = {"stimuli": stimuli, "videos": found["videos"].lazy()}
    made = STEPS["encode_clips"](tables, params, context)["features"]
    expected = reference([frames_of(tmp_path / "videos" / name) for name in ids], tmp_path / "models/videomae")
    np.testing.assert_allclose(np.stack(made["vector"].to_list()), expected, atol=2e-5)
    assert "16 frames of each video; 1 videos have fewer, so that frames are repeated" in said
    (tmp_path / "videos" / "0002.mp4").write_bytes(b"")
    tables["videos"] = STEPS["decode"]({"stimuli": stimuli}, params, context)["videos"].lazy()
    with pytest.raises(SourceError, match=r"1 of 3 stimuli have no frames(.|\n)*0002\.mp4 \(the file is empty\)"):
        STEPS["encode_clips"](tables, params, context)
