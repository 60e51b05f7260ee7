"""Videos to frames: the paper's times, what is shown at each, what is planted in the clips, and every kind of wreck."""

from __future__ import annotations

import colorsys
import hashlib
import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest
from av.video.frame import VideoFrame
from PIL import Image

from affectlake.errors import SourceError
from affectlake.lake.tables import factory, parts, rules
from affectlake.lake.tables.contracts import contract
from affectlake.stimuli import make_synthetic
from affectlake.stimuli.clips import FASTEST_PIXELS_PER_S, FRAMES_PER_S, SIDE_PIXELS, SLOWEST_PIXELS_PER_S, render_clip
from affectlake.stimuli.frame_sampling import frame_rate, frame_times
from affectlake.stimuli.frames import decode_video, decode_videos, unused_files


@pytest.mark.parametrize(
    ("duration_s", "rate", "n"),
    [
        *((0.1, 2, 1), (2, 2, 4), (5, 2, 10), (5.01, 1, 6), (15, 1, 15)),
        *((15.1, 0.5, 8), (20, 0.5, 10), (20.1, 0.2, 5), (60, 0.2, 12)),
    ],
)
def test_equation_1(duration_s: float, rate: float, n: int) -> None:
    times = frame_times(duration_s)
    assert (frame_rate(duration_s), len(times), times[0]) == (rate, n, 0.0)
    assert np.allclose(np.diff(times), 1 / rate)
    assert times[-1] < duration_s


def write(path: Path, greys: list[int], per_s: int = 10, side: int = 64) -> Path:
    """A video of plain grey frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=per_s)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, per_s)
        for grey in greys:
            image = np.full((side, side, 3), grey, dtype=np.uint8)
            container.mux(stream.encode(VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def grey(jpeg: bytes) -> float:
    return float(np.asarray(Image.open(io.BytesIO(jpeg)), dtype=float).mean())


def test_each_frame_is_the_one_on_the_screen_at_its_time(tmp_path: Path) -> None:
    greys = [20 + 5 * at for at in range(40)]  # 4 s at 10 frames a second
    write(tmp_path / "a.mp4", greys)
    video = decode_video(tmp_path, "a.mp4")
    assert (video.unreadable, video.duration_s) == ("", pytest.approx(4.0))
    assert [frame.time_s for frame in video.frames] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    assert [grey(frame.jpeg) for frame in video.frames] == pytest.approx([20 + 25 * at for at in range(8)], abs=3)
    assert Image.open(io.BytesIO(video.frames[0].jpeg)).size == (256, 256)


def test_a_name_without_a_suffix_and_other_containers(tmp_path: Path) -> None:
    write(tmp_path / "clip.mkv", [50] * 30)
    assert decode_video(tmp_path, "clip").path == "clip.mkv"
    assert len(decode_video(tmp_path, "clip").frames) == 6


def test_wrecks_are_rows_with_a_reason(tmp_path: Path) -> None:
    folder, outside = tmp_path / "videos", tmp_path / "secret.mp4"
    folder.mkdir()
    write(outside, [9] * 20)
    write(folder / "good.mp4", [90] * 20)
    whole = (folder / "good.mp4").read_bytes()
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "words.mp4").write_text("this is no video")
    (folder / "half.mp4").write_bytes(whole[: len(whole) // 3])
    (folder / "link.mp4").symlink_to(outside)
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16_000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    ids = [f"{name}.mp4" for name in ("good", "empty", "words", "half", "link", "sound", "missing", "../secret")]
    ids += ["/etc/passwd", "a\0b"]
    videos, frames = decode_videos(folder, ids, workers=2)
    assert videos.height == len(ids)
    reasons = dict(zip(ids, videos["unreadable"].to_list(), strict=True))
    assert reasons["good.mp4"] is None
    assert reasons["empty.mp4"] == "the file is empty"
    assert reasons["words.mp4"].startswith("cannot be decoded")
    assert reasons["half.mp4"]
    assert reasons["sound.mp4"] == "no video stream"
    assert reasons["missing.mp4"] == "no file"
    for outsider in ("link.mp4", "../secret.mp4", "/etc/passwd"):
        assert reasons[outsider] == "the path leads out of the folder of videos"
    assert reasons["a\0b"] == "the id is not a file name"
    assert frames["stimulus_index"].unique().to_list() == [0]
    assert not any(str(tmp_path) in reason for reason in reasons.values() if reason)


def test_tables_keep_their_contracts_and_are_the_same_for_any_number_of_threads(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    ids = [f"{at}.mp4" for at in range(6)]
    for at, name in enumerate(ids[:5]):
        write(tmp_path / "v" / name, [40 * at] * (5 + 10 * at))
    one, four = (decode_videos(tmp_path / "v", ids, workers=n) for n in (1, 4))
    assert one.videos.equals(four.videos)
    assert one.frames.equals(four.frames)
    for row in one.frames.iter_rows(named=True):
        assert row["frame_sha256"] == hashlib.sha256(row["jpeg"]).hexdigest()
    counts = one.frames.group_by("stimulus_index").len().sort("stimulus_index")["len"].to_list()
    assert counts == one.videos["n_frames"].to_list()[:5]
    stimuli = factory.tiny_lake(6)["stimuli"].lazy()
    for name, frame in one._asdict().items():
        written = parts.write_parts(frame, contract(name), tmp_path / name)
        assert rules.check(contract(name), written, {"stimuli": stimuli}) == []


def test_a_folder_that_is_not_there_or_has_none_of_them_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"set sources\.videos"):
        decode_videos(tmp_path / "nowhere", ["0001.mp4"])
    write(tmp_path / "other.mp4", [0] * 5)
    with pytest.raises(SourceError, match=r"(?s)none of the 1 videos.*0001\.mp4.*other\.mp4"):
        decode_videos(tmp_path, ["0001.mp4"])
    assert decode_videos(tmp_path, []).videos.height == 0


def test_a_clip_has_the_colour_and_the_speed_that_were_planted(tmp_path: Path) -> None:
    n = 4
    for category in range(n):
        share = np.eye(n)[category]
        render_clip(tmp_path / f"{category}.mp4", share, duration_s=2.0, start=0.0)
        with av.open(str(tmp_path / f"{category}.mp4")) as container:
            images = [frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(video=0)]
        corner = images[0][:10, :10].mean(axis=(0, 1)) / 255
        hue = colorsys.rgb_to_hsv(*corner)[0]
        assert min(abs(hue - category / n), 1 - abs(hue - category / n)) < 0.03
        centres = [_disc(image) for image in images[:5]]
        speed = np.diff(centres).mean() * FRAMES_PER_S
        planted = SLOWEST_PIXELS_PER_S + category / (n - 1) * (FASTEST_PIXELS_PER_S - SLOWEST_PIXELS_PER_S)
        assert speed == pytest.approx(planted, rel=0.1, abs=2)


def _disc(image: np.ndarray) -> float:
    """Where the disc is, in pixels from the left: the bright part of the middle row."""
    bright = image.min(axis=2)[SIDE_PIXELS // 2] > 150
    return float(np.flatnonzero(bright).mean())


def test_clips_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    mix = make_synthetic(30, np.random.default_rng(1)).mix
    for name in ("a.mp4", "b.mp4"):
        render_clip(tmp_path / name, mix[0], 3.0, 0.3)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_the_step_renders_decodes_and_says_what_is_missing(tmp_path: Path) -> None:
    from affectlake.pipelines.params import templates
    from affectlake.pipelines.params.study import override, parse
    from affectlake.pipelines.step import StepContext
    from affectlake.pipelines.steps.videos import decode

    said: list[str] = []
    context = StepContext("", tmp_path, tmp_path / "scratch", 2, said.append, lambda _: None)
    text = override(templates.starting_params("demo"), ("sources.n_stimuli=30",))
    stimuli = {"stimuli": make_synthetic(30, np.random.default_rng(0)).study.stimuli.lazy()}
    frames = decode(stimuli, parse(text), context)
    assert frames["videos"]["unreadable"].null_count() == 30
    assert frames["frames"]["stimulus_index"].n_unique() == 30
    assert "0 cannot be shown" in said[-1]
    assert decode(stimuli, parse(text), context)["frames"].equals(frames["frames"])
    none = decode(stimuli, parse(override(text, ("sources.clips=false",))), context)
    assert (none["videos"].height, none["frames"].height, said[-1]) == (0, 0, "no clips: sources.clips is false")
    assert set(none["videos"].columns) == set(pl.DataFrame(contract("videos").schema.empty_table()).columns)


def test_images_are_one_frame_upright_and_on_white(tmp_path: Path) -> None:
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, :40] = (255, 0, 0)  # red on the left
    turned = Image.fromarray(np.rot90(wide))  # stored lying, with the orientation that turns it upright
    exif = turned.getexif()
    exif[274] = 6  # turn by 90 degrees clockwise
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    Image.fromarray(wide).save(tmp_path / "plain.png")
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("P", (20, 20)).save(tmp_path / "palette.webp")
    videos, frames = decode_videos(tmp_path, ["turned", "plain.png", "clear.png", "palette"], setting="sources.media")
    assert videos["video_path"].to_list() == ["turned.jpg", "plain.png", "clear.png", "palette.webp"]
    assert videos["n_frames"].to_list() == [1] * 4
    assert videos["duration_s"].null_count() == 4
    assert videos["unreadable"].null_count() == 4
    pictures = [np.asarray(Image.open(io.BytesIO(jpeg))).astype(int) for jpeg in frames["jpeg"]]
    assert {picture.shape for picture in pictures} == {(256, 256, 3)}
    for upright in pictures[:2]:
        assert upright[100:150, 20:60, 0].min() > 200 and upright[100:150, 200:240, 0].max() < 60
    assert pictures[2].min() > 250
    expected = Image.open(tmp_path / "plain.png").resize((256, 256), Image.Resampling.BICUBIC)
    assert np.abs(pictures[1] - np.asarray(expected).astype(int))[:, np.r_[0:110, 146:256]].max() < 12  # JPEG


def test_sounds_and_broken_images_have_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF0000WAVE")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (tmp_path / "c.jpg").write_bytes(b"")
    videos, frames = decode_videos(tmp_path, ["a", "b", "c", "d"], setting="sources.media")
    assert videos["unreadable"].to_list() == [
        "a sound has no frames",
        "cannot be decoded: UnidentifiedImageError",
        "the file is empty",
        "no file",
    ]
    assert videos["video_sha256"].null_count() == 1
    assert frames.height == 0


def test_media_of_no_stimulus_are_listed(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for name in ("a.png", "b.mp4", "more/c.wav", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert unused_files(tmp_path, ["a.png"]) == ["b.mp4", "more/c.wav"]
    assert unused_files(tmp_path, ["a.png", "b.mp4", "more/c.wav"]) == []
