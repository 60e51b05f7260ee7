"""Frames as Qwen2-VL's processor takes them: against indices computed by hand, and PyTorch's equal spacing."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest
import torch
from PIL import Image

from affectlake.pipelines.params import sources, templates
from affectlake.pipelines.params.study import override, parse
from affectlake.pipelines.step import StepContext
from affectlake.pipelines.steps import stimuli as stimuli_steps
from affectlake.pipelines.steps import videos as videos_steps
from affectlake.stimuli.frame_sampling import SAMPLINGS, frame_rate, processor_frames
from affectlake.stimuli.frames import decode_video, decode_videos
from tests.stimuli.test_frames import grey, write

BY_HAND = [  # frames of the video, its frames per second, frames asked for per second, and the frames that are taken
    (10, 10, 2, [0, 3, 6, 9]),  # 1 s: 2 frames asked for, at least 4
    (40, 10, 2, [0, 6, 11, 17, 22, 28, 33, 39]),  # 4 s: 8, every 39 / 7
    (25, 10, 2, [0, 8, 16, 24]),  # 2.5 s: 5 frames are 2.5 pairs, rounded to 2
    (35, 10, 2, [0, 5, 10, 15, 19, 24, 29, 34]),  # 3.5 s: 7 frames are 3.5 pairs, rounded to 4
    (150, Fraction(30000, 1001), 2, [0, 17, 33, 50, 66, 83, 99, 116, 132, 149]),
    (5, 10, 2, [0, 1, 3, 4]),
    (3, 10, 2, [0, 2]),  # fewer than 4 frames: the largest even number
    (2, 10, 2, [0, 1]),
    (1, 10, 2, [0]),  # refused by the processor
    (160, 10, 0.5, [0, 23, 45, 68, 91, 114, 136, 159]),  # 16 s at the rate of equation 1
    (140, 10, 1, [0, 11, 21, 32, 43, 53, 64, 75, 86, 96, 107, 118, 128, 139]),  # 14 s
]


def shades(path: Path) -> list[float]:
    """The mean grey of every frame, as it is decoded."""
    with av.open(str(path)) as container:
        return [float(frame.to_ndarray(format="rgb24").mean()) for frame in container.decode(video=0)]


@pytest.mark.parametrize(("n_frames", "per_s", "rate", "taken"), BY_HAND)
def test_indices_computed_by_hand(n_frames: int, per_s: float, rate: float, taken: list[int]) -> None:
    assert processor_frames(n_frames, float(per_s), rate) == taken


def test_long_videos_have_768_frames() -> None:
    taken = processor_frames(12_000, 24.0)
    assert (len(taken), taken[0], taken[-1]) == (768, 0, 11_999)


@pytest.mark.parametrize("per_s", [10, 12.5, 24, 25, 29.97, 30, 60])
def test_frames_are_equally_spaced_as_by_torch(per_s: float) -> None:
    for n_frames in range(2, 1500, 7):
        n = len(processor_frames(n_frames, per_s))
        asked = min(max(2 * n_frames / per_s, 4), n_frames - n_frames % 2)
        assert n % 2 == 0
        assert abs(n - asked) <= 1
        spaced = torch.linspace(0, n_frames - 1, n).round().long().tolist()
        assert processor_frames(n_frames, per_s) == spaced
        assert len(set(spaced)) == n


def test_the_processor_shows_the_last_frame_and_equation_1_does_not(tmp_path: Path) -> None:
    greys = [20 + 5 * at for at in range(40)]  # 4 s at 10 frames a second
    write(tmp_path / "a.mp4", greys)
    taken = [0, 6, 11, 17, 22, 28, 33, 39]
    video = decode_video(tmp_path, "a.mp4", "qwen2-vl")
    assert [frame.time_s for frame in video.frames] == pytest.approx([at / 10 for at in taken])
    decoded = shades(tmp_path / "a.mp4")
    assert decoded == pytest.approx(greys, abs=6)  # the codec's error
    assert [grey(frame.jpeg) for frame in video.frames] == pytest.approx([decoded[at] for at in taken], abs=2)
    assert Image.open(io.BytesIO(video.frames[-1].jpeg)).size == (256, 256)
    plain = decode_video(tmp_path, "a.mp4")
    assert plain == decode_video(tmp_path, "a.mp4", "equation-1")
    assert plain.frames[-1].time_s == 3.5
    assert (plain.duration_s, plain.sha256) == (video.duration_s, video.sha256)


def test_the_processor_at_the_rate_of_equation_1(tmp_path: Path) -> None:
    write(tmp_path / "six.mp4", [at % 200 for at in range(60)])  # 6 s: equation 1 asks for 1 frame a second
    assert frame_rate(6.0) == 1.0
    video = decode_video(tmp_path, "six.mp4", "qwen2-vl-equation-1")
    assert [frame.time_s for frame in video.frames] == pytest.approx([0, 1.2, 2.4, 3.5, 4.7, 5.9])
    assert len(decode_video(tmp_path, "six.mp4", "qwen2-vl").frames) == 12
    (tmp_path / "half.mp4").write_bytes((tmp_path / "six.mp4").read_bytes()[:900])
    (tmp_path / "words.mp4").write_text("not a video")
    assert all(decode_video(tmp_path, name, "qwen2-vl").unreadable for name in ("half.mp4", "words.mp4"))


def test_frames_of_a_variable_rate_are_counted_not_timed(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "odd.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        for at in range(20):
            image = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 + 10 * at, np.uint8), format="rgb24")
            image.pts, image.time_base = at * 5 + 100 * (at >= 10), Fraction(1, 100)  # a pause of 1 s in the middle
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    video = decode_video(tmp_path, "odd.mkv", "qwen2-vl")
    decoded, n = shades(tmp_path / "odd.mkv"), len(video.frames)
    assert len(decoded) == 20
    wanted = [decoded[round(at)] for at in np.linspace(0, 19, n)]
    assert [grey(frame.jpeg) for frame in video.frames] == pytest.approx(wanted, abs=4)
    times = [frame.time_s for frame in video.frames]
    assert times[-1] == pytest.approx(1.95)
    assert np.diff(times).max() > 1


def test_the_setting_reaches_the_tables(tmp_path: Path) -> None:
    assert get_args(get_args(sources.FrameSampling)[0]) == SAMPLINGS
    made = {}
    for sampling in SAMPLINGS:
        changes = ("sources.n_stimuli=30", "sources.clips=true")
        text = override(templates.starting_params("demo"), changes)
        params = parse(text.replace("  clips: true", f"  frame_sampling: {sampling}\n  clips: true"))
        folder = tmp_path / sampling
        folder.mkdir()
        context = StepContext("", tmp_path, folder, 2, lambda _: None, lambda _: None)
        ingested = {name: frame.lazy() for name, frame in stimuli_steps.ingest({}, params, context).items()}
        made[sampling] = videos_steps.decode({"stimuli": ingested["stimuli"]}, params, context)
        ids = ingested["stimuli"].collect().sort("stimulus_index")["stimulus_id"].to_list()
        assert made[sampling]["frames"].equals(decode_videos(folder / "clips", ids, sampling=sampling).frames)
    counts = {name: tables["videos"]["n_frames"] for name, tables in made.items()}
    assert (counts["qwen2-vl"] >= 4).all()
    assert (counts["qwen2-vl"] % 2 == 0).all()
    assert not made["equation-1"]["frames"].equals(made["qwen2-vl"]["frames"])
