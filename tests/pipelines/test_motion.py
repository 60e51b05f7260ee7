"""Motion energy as a step: discs that move sideways, videos without any, and studies that do not ask for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import write_outputs
from affectlake.pipelines.engine.parameters import keys_of
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import Params, override, parse
from affectlake.pipelines.step import OutputTables, StepContext
from affectlake.pipelines.steps import stimuli as stimuli_steps
from affectlake.pipelines.steps.band_features import nuisance_of
from affectlake.pipelines.steps.motion import measure_motion
from affectlake.pipelines.steps.rows import to_table
from affectlake.pipelines.steps.videos import decode
from affectlake.stimuli.clips import render_clip
from affectlake.stimuli.motion_energy import CHANNELS
from tests.stimuli.test_frames import write
from tests.support.brain_worlds import TEXT, context, lazy

ASKED = "brain.partition={bands: {people: [human-category]}, nuisance: [luminance, motion_energy]}"
N = 30
DEMO = override(TEXT, (f"sources.n_stimuli={N}", ASKED))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> OutputTables:
    here, params = context(tmp_path_factory.mktemp("clips")), parse(DEMO)
    study = stimuli_steps.ingest({}, params, here)
    return study | decode(lazy(study), params, here)


@pytest.fixture(scope="module")
def found(world: OutputTables, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    return measure_motion(lazy(world), parse(DEMO), context(tmp_path_factory.mktemp("step")))["motion"]


def test_the_table_keeps_its_contract(world: OutputTables, found: pl.DataFrame, tmp_path: Path) -> None:
    repository.init(tmp_path / "lake", DEMO)
    read = {name: world[name].lazy() for name in ("stimuli", "videos")}
    assert write_outputs(tmp_path / "lake", "motion", {Output("motion"): found}, read) > 0
    assert found.height == N * len(CHANNELS) and found["note"].is_null().all()


def test_discs_that_go_from_side_to_side_move_right_and_left(found: pl.DataFrame) -> None:
    """Up and down have what the upper and lower edge of a disc that passes have: the same in both directions."""
    energy = dict(found.group_by("motion_direction").agg(pl.col("motion_energy").mean()).iter_rows())
    assert min(energy["right"], energy["left"]) > 2 * max(energy["up"], energy["down"])
    assert energy["up"] == pytest.approx(energy["down"], rel=0.01)


def test_one_worker_gives_the_same_rows(world: OutputTables, found: pl.DataFrame, tmp_path: Path) -> None:
    lines: list[str] = []
    alone = replace(context(tmp_path), workers=1, progress=lines.append)
    assert measure_motion(lazy(world), parse(DEMO), alone)["motion"].equals(found)
    assert len(lines) == N and lines[-1] == f"motion energy: {N} of {N} videos, about 0 s left"


def test_a_study_that_does_not_ask_for_it_opens_no_video(world: OutputTables, tmp_path: Path) -> None:
    for nuisance in ("[luminance]", "[]"):
        params = parse(override(DEMO, (f"brain.partition.nuisance={nuisance}",)))
        made = measure_motion(lazy(world), params, context(tmp_path))["motion"]
        assert made.is_empty() and made.schema == to_table("motion", []).schema
    assert not list(tmp_path.iterdir())


def test_bands_and_ratios_do_not_concern_it() -> None:
    def keys(*settings: str) -> set[str]:
        return set(keys_of(measure_motion, "", parse(override(DEMO, settings)), []))

    assert {key for key in keys() if key.startswith("brain")} == {"brain.partition.nuisance"}
    without = keys("brain.partition={bands: {people: [human-category]}}")
    assert without == keys() - {"brain.partition.nuisance"}


def emotion(nuisance: str = "[motion_energy]") -> Params:
    """The study of videos in a folder, with a partition."""
    raw = yaml.safe_load(override(templates.starting_params("emotion"), ("sources.videos=videos",)))
    brain = yaml.safe_load(DEMO)["brain"]
    agent = next(name for name in raw["agents"])
    brain["partition"] = {"bands": {"people": [agent]}, "nuisance": yaml.safe_load(nuisance)}
    return parse(yaml.safe_dump(raw | {"brain": brain}, sort_keys=False))


def of_folder(root: Path, ids: list[str], params: Params) -> tuple[pl.DataFrame, list[str]]:
    lines: list[str] = []
    here = StepContext("", root, root / "scratch", 2, lines.append, lambda _: None)
    stimuli = pl.DataFrame({"stimulus_index": np.arange(len(ids), dtype=np.int32), "stimulus_id": ids})
    tables = {"stimuli": stimuli} | decode({"stimuli": stimuli.lazy()}, params, here)
    return measure_motion(lazy(tables), params, here)["motion"], lines


def test_videos_without_a_motion_energy_are_rows_with_the_reason(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    share = np.array([0.0, 1.0])
    render_clip(videos / "fast.mp4", share, 3.0, 0.2)
    render_clip(videos / "slow.mp4", share[::-1].copy(), 3.0, 0.2)
    render_clip(videos / "short.mp4", share, 0.5, 0.2)
    write(videos / "still.mp4", [90] * 20)
    (videos / "bad.mp4").write_bytes(b"not a video" * 50)
    ids = ["fast.mp4", "slow.mp4", "short.mp4", "still.mp4", "bad.mp4", "none.mp4"]
    motion, lines = of_folder(tmp_path, ids, emotion())
    means = dict(motion.group_by("stimulus_index").agg(pl.col("motion_energy").mean()).iter_rows())
    assert means[0] > 2 * means[1] > 0 and means[3] < 0.01
    notes = dict(motion.filter(pl.col("motion_energy").is_null()).select("stimulus_index", "note").unique().iter_rows())
    assert set(notes) == {2, 4, 5} and notes[2] == "shorter than 1 s" and notes[5] == "no file"
    assert notes[4].startswith("cannot be decoded") and "24 channels of 3 videos, 3 have no motion energy" in lines[-1]
    partition = emotion().brain.partition  # type: ignore[union-attr]
    assert partition is not None
    said: list[str] = []
    (band,) = nuisance_of({"motion": motion.lazy()}, partition, 6, context(tmp_path, lines=said)).values()
    assert band.shape == (6, len(CHANNELS)) and np.allclose(band[[2, 4, 5]], 0, atol=1e-12)
    assert said == ["3 stimuli have no videos of a second or more: their motion_energy is the mean of the others"]


def test_features_with_many_columns_do_not_outweigh_the_others(
    world: OutputTables, found: pl.DataFrame, tmp_path: Path
) -> None:
    partition = parse(DEMO).brain.partition  # type: ignore[union-attr]
    assert partition is not None
    (band,) = nuisance_of(lazy(world | {"motion": found}), partition, N, context(tmp_path)).values()
    assert band.shape == (N, 2 + len(CHANNELS))
    assert (band[:, :2] ** 2).sum() == pytest.approx((band[:, 2:] ** 2).sum())
