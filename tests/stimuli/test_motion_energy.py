"""Motion energy of planted motion: gratings that drift, stand still, reverse and flicker, as arrays and as videos."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from affectlake.stimuli.motion_energy import (
    CHANNELS,
    ENVELOPE_CYCLES,
    N_SAMPLES,
    SAMPLES_PER_S,
    SIDE_PIXELS,
    Channel,
    motion_energies,
)
from affectlake.stimuli.nuisance import motion_energy
from affectlake.stimuli.whole_clips import LONGEST_S, read_luma
from tests.stimuli.test_frames import write

Floats = NDArray[np.float64]
AWAY = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}
OPPOSITE = {"right": "left", "left": "right", "down": "up", "up": "down"}


def drifting(channel: Channel, times_s: Floats, side: int = SIDE_PIXELS, amplitude: float = 50.0) -> Floats:
    """Frames of a grating whose bright bars move by temporal_hz / spatial_cycles sides per second."""
    x, y = np.meshgrid(*[(np.arange(side) + 0.5) / side] * 2)
    right, down = AWAY[channel.motion_direction]
    moved = (x * right + y * down)[None] - (channel.temporal_hz / channel.spatial_cycles * times_s)[:, None, None]
    return 128 + amplitude * np.cos(2 * np.pi * channel.spatial_cycles * moved)


def at(n: int, per_s: float = SAMPLES_PER_S) -> Floats:
    return np.arange(n) / per_s


def energies(luma: Floats) -> dict[Channel, float]:
    return dict(zip(CHANNELS, np.expm1(motion_energies(luma)).tolist(), strict=True))


def test_the_channels_are_all_combinations() -> None:
    assert len(set(CHANNELS)) == len(CHANNELS) == 3 * 2 * 4
    assert {one.motion_direction for one in CHANNELS} == set(AWAY)


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_drifting_grating_has_the_energy_of_its_own_channel(channel: Channel) -> None:
    found = energies(drifting(channel, at(75)))
    assert found[channel] == pytest.approx(50**2, rel=0.02)
    assert found[channel] > 3 * max(energy for other, energy in found.items() if other != channel)
    assert found[channel] > 200 * found[channel._replace(motion_direction=OPPOSITE[channel.motion_direction])]
    across = [other for other in CHANNELS if AWAY[other.motion_direction][0] != AWAY[channel.motion_direction][0]]
    assert max(found[other] for other in across if AWAY[other.motion_direction][0] ** 2
               != AWAY[channel.motion_direction][0] ** 2) < 1e-6  # fmt: skip


def test_energy_is_that_of_explicit_filters_in_space_and_time() -> None:
    """Sine and cosine filters of three dimensions, one by one, on noise; their sums along x and t are zero."""
    luma = np.random.default_rng(1).uniform(0, 255, size=(N_SAMPLES + 1, SIDE_PIXELS, SIDE_PIXELS))
    channel = Channel(2, 4, "left")
    grid = (np.arange(SIDE_PIXELS) + 0.5) / SIDE_PIXELS
    t = (np.arange(N_SAMPLES) - N_SAMPLES // 2) / SAMPLES_PER_S

    def axis(values: Floats, frequency: float) -> NDArray[np.complex128]:
        window = np.exp(-0.5 * (values / (ENVELOPE_CYCLES / abs(frequency))) ** 2)
        window /= window.sum()
        wave = np.exp(2j * np.pi * frequency * values)
        pair = window * wave - window * np.sum(window * wave)
        return pair / abs(np.sum(pair * np.conj(wave)))

    logs = []
    for x, y in [(a, b) for a in (0.125, 0.375, 0.625, 0.875) for b in (0.125, 0.375, 0.625, 0.875)]:
        smooth = np.exp(-0.5 * ((grid - y) / (ENVELOPE_CYCLES / 2)) ** 2)
        filters = np.einsum("t,y,x->tyx", axis(t, 4.0), smooth / smooth.sum(), axis(grid - x, 2.0))
        for start in (0, 1):
            shown = luma[start : start + N_SAMPLES]
            cosine, sine = float((shown * filters.real).sum()), float((shown * filters.imag).sum())
            logs.append(np.log(1 + (2 * cosine) ** 2 + (2 * sine) ** 2))
    assert motion_energies(luma)[CHANNELS.index(channel)] == pytest.approx(np.mean(logs), rel=1e-9)


def test_what_does_not_move_has_no_energy() -> None:
    picture = np.random.default_rng(2).uniform(0, 255, size=(1, SIDE_PIXELS, SIDE_PIXELS))
    assert motion_energies(np.repeat(picture, 40, axis=0)).max() < 1e-12
    fading = 128 + 100 * np.sin(2 * np.pi * 2 * at(40))[:, None, None] + np.zeros((1, SIDE_PIXELS, SIDE_PIXELS))
    assert motion_energies(fading).max() < 1e-12


def test_brightness_changes_nothing_and_contrast_is_squared() -> None:
    channel = Channel(4, 2, "up")
    luma = drifting(channel, at(60), amplitude=20)
    np.testing.assert_allclose(motion_energies(luma + 60), motion_energies(luma), atol=1e-9)
    double = energies(128 + 2 * (luma - 128))
    assert double[channel] == pytest.approx(4 * energies(luma)[channel], rel=1e-3)


def test_speed_selects_the_temporal_frequency() -> None:
    """The same bars, faster and slower; and bars of other widths at the same speed."""
    slow, fast = (energies(drifting(Channel(4, hz, "right"), at(75))) for hz in (2, 4))
    assert slow[Channel(4, 2, "right")] > 5 * slow[Channel(4, 4, "right")]
    assert fast[Channel(4, 4, "right")] > 20 * fast[Channel(4, 2, "right")]
    same = energies(drifting(Channel(8, 4, "right"), at(75)))
    assert same[Channel(8, 4, "right")] > 100 * same[Channel(4, 2, "right")]


def test_a_grating_that_reverses_is_the_same_in_both_directions() -> None:
    right, left = (drifting(Channel(4, 2, way), at(75)) for way in ("right", "left"))
    found = energies((right + left) / 2)
    assert found[Channel(4, 2, "right")] == pytest.approx(found[Channel(4, 2, "left")], rel=1e-6)
    assert found[Channel(4, 2, "right")] == pytest.approx(25**2, rel=0.05)


def test_a_clip_shorter_than_a_filter_has_none() -> None:
    assert np.isnan(motion_energies(np.zeros((N_SAMPLES - 1, SIDE_PIXELS, SIDE_PIXELS)))).all()
    assert (motion_energies(np.zeros((N_SAMPLES, SIDE_PIXELS, SIDE_PIXELS))) == 0).all()


def film(path: Path, channel: Channel, per_s: int, seconds: float = 3.0) -> Path:
    """A video of a drifting grating, twice as wide as high."""
    images = drifting(channel, at(round(seconds * per_s), per_s), side=128).round().astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=per_s)
        stream.width, stream.height, stream.pix_fmt = 256, 128, "yuv420p"
        stream.time_base = Fraction(1, per_s)
        for image in images:
            wide = np.repeat(np.repeat(image, 2, axis=1)[..., None], 3, axis=2)
            container.mux(stream.encode(VideoFrame.from_ndarray(wide, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("per_s", [15, 24, 25, 30, 50, 60])
@pytest.mark.parametrize("channel", [Channel(4, 2, "right"), Channel(8, 4, "up")])
def test_videos_have_the_energy_of_what_they_show_at_any_frame_rate(
    tmp_path: Path, channel: Channel, per_s: int
) -> None:
    film(tmp_path / "grating.mkv", channel, per_s)
    luma = read_luma(tmp_path, "grating", SIDE_PIXELS, SAMPLES_PER_S)
    assert (luma.images.shape, luma.unreadable) == ((45, SIDE_PIXELS, SIDE_PIXELS), "")
    assert luma.images.mean() == pytest.approx(128, abs=1.5)
    found = energies(luma.images.astype(np.float64))
    held = np.sinc(channel.temporal_hz / per_s)  # what displaying frames takes, and images of multiples of 15 give back
    in_time = np.sinc(channel.temporal_hz / SAMPLES_PER_S) * (held if per_s % SAMPLES_PER_S else 1 / held)
    in_space = np.sinc(channel.spatial_cycles / SIDE_PIXELS)
    assert found[channel] == pytest.approx((50 * in_time * in_space) ** 2, rel=0.06)
    assert found[channel] > 50 * found[channel._replace(motion_direction=OPPOSITE[channel.motion_direction])]


def test_samples_are_means_of_what_is_displayed(tmp_path: Path) -> None:
    write(tmp_path / "slow.mp4", [40, 80, 160, 200, 120], per_s=10)
    luma = read_luma(tmp_path, "slow.mp4", 8, 4).images.mean(axis=(1, 2))
    assert luma == pytest.approx([(40 + 80 + 160 / 2) / 2.5, (160 / 2 + 200 + 120) / 2.5], abs=3)
    assert len(read_luma(tmp_path, "slow.mp4", 8, 6).images) == 3
    left = read_luma(tmp_path, "slow.mp4", 8, 5).images.mean(axis=(1, 2))  # half a sample at the end
    assert left == pytest.approx([60, 180, 120], abs=3)


def test_videos_that_cannot_be_measured_have_a_reason(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"not a video" * 50)
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name, reason in (("none.mp4", "no file"), ("../x.mp4", "leads out of"), ("bad.mp4", "cannot be decoded"),
                         ("empty.mp4", "cannot be decoded")):  # fmt: skip
        found = read_luma(tmp_path, name, 8, 4)
        assert reason in found.unreadable and str(tmp_path) not in found.unreadable
        assert found.images.shape == (0, 8, 8)
    with av.open(str(tmp_path / "endless.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 16, 16, "yuv420p", Fraction(1, 10)
        for pts in (0, 20 * LONGEST_S):
            frame = VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
            frame.pts = pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert read_luma(tmp_path, "endless", 8, 15).unreadable == f"longer than {LONGEST_S} s"


def test_the_nuisance_feature_has_a_column_for_each_channel() -> None:
    rows = [(2, *channel, float(at)) for at, channel in enumerate(CHANNELS)]
    rows += [(0, *channel, None) for channel in CHANNELS]
    schema = ["stimulus_index", *Channel._fields, "motion_energy"]
    motion = pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("^.*cycles$|^.*hz$").cast(pl.Int8))
    found = motion_energy(motion.sample(fraction=1.0, shuffle=True, seed=1), 4)
    assert np.array_equal(found[2], np.arange(len(CHANNELS)))
    assert np.isnan(found[[0, 1, 3]]).all()
    assert np.isnan(motion_energy(motion.clear(), 2)).all()
