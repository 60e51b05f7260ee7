"""Files of edited clips."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from affectlake.editing.clips import MARK, frame_of, jpeg_of, side_by_side, strip, write_mp4
from affectlake.errors import UsageError
from tests.support.browsers import chromium, in_browser

av = pytest.importorskip("av")


@pytest.fixture(scope="module")
def frames():
    made = np.full((6, 48, 64, 3), 90, dtype=np.uint8)
    for at in range(6):
        made[at, 10:30, 5 + 6 * at : 25 + 6 * at] = (220, 30, 30)
    return made


def test_frames_are_jpegs_with_the_mark_in_their_comment(frames):
    jpeg = jpeg_of(frames[2], "dimension 4")
    assert Image.open(io.BytesIO(jpeg)).info["comment"] == f"{MARK}: dimension 4".encode()
    assert np.abs(frame_of(jpeg).astype(int) - frames[2]).mean() < 2
    assert frame_of(jpeg, 32).shape == (32, 32, 3)


def test_a_video_has_the_frames_the_format_of_browsers_and_the_mark(frames, tmp_path):
    write_mp4(tmp_path / "a.mp4", frames, 8, "dimension 4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == 8
        assert container.metadata["comment"] == f"{MARK}: dimension 4"
        found = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    assert found.shape == frames.shape and np.abs(found.astype(int) - frames).mean() < 4


def test_the_same_frames_give_the_same_bytes(frames, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_mp4(tmp_path / name, frames, 8)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_odd_sides_lose_a_row(frames, tmp_path):
    write_mp4(tmp_path / "a.mp4", frames[:, :47], 8)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].height == 46


@in_browser[1]
def test_a_browser_plays_the_video(frames, tmp_path):
    write_mp4(tmp_path / "a.mp4", frames, 8)
    data = base64.b64encode((tmp_path / "a.mp4").read_bytes()).decode()
    with chromium() as browser:
        page = browser.new_page()
        if not page.evaluate("document.createElement('video').canPlayType('video/mp4; codecs=avc1.64000a')"):
            pytest.skip("this Chromium is built without H.264")
        page.set_content(f"<video muted src='data:video/mp4;base64,{data}'></video>")
        page.wait_for_function("document.querySelector('video').readyState >= 2")
        shown = page.evaluate("(v => [v.videoWidth, v.videoHeight, v.duration])(document.querySelector('video'))")
    assert shown == [64, 48, pytest.approx(0.75)]


def test_clips_side_by_side_keep_their_pixels_and_show_the_mark(frames):
    sheet = side_by_side([("original", frames), ("edited", 255 - frames[:4])])
    assert sheet.shape == (4, 48 + 28, 128, 3)
    assert (sheet[:, 14:62, :64] == frames[:4]).all() and (sheet[:, 14:62, 64:] == 255 - frames[:4]).all()
    assert (sheet[0, 62:] < 100).any(), "the mark is drawn"
    with pytest.raises(UsageError, match="same sides"):
        side_by_side([("one", frames), ("other", frames[:, :20])])


def test_a_strip_shows_frames_spread_over_the_clips(frames):
    sheet = frame_of(strip([("original", frames), ("edited", frames)], most=3))
    assert sheet.shape == (2 * 62 + 14, 3 * 64, 3)
    for column, index in enumerate((0, 2, 5)):
        assert np.abs(sheet[14:62, column * 64 : column * 64 + 64].astype(int) - frames[index]).mean() < 4
    assert (sheet[124:] < 100).any()


def test_a_video_without_frames_is_refused(frames, tmp_path):
    with pytest.raises(UsageError, match="at least one frame"):
        write_mp4(tmp_path / "a.mp4", frames[:0], 8)
