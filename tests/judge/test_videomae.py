"""Features of whole clips: a VideoMAE with random weights, against transformers' own model and processor."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from affectlake.encoders.videomae import clip_vectors, load_video_model
from affectlake.errors import SourceError, UsageError
from affectlake.judge.agents import VideoMAE, parse_agent
from affectlake.stimuli.clips import render_clip
from affectlake.stimuli.frame_sampling import segment_frames
from affectlake.stimuli.whole_clips import read_clip
from tests.judge.test_vision import SIDE, TINY, vit
from tests.stimuli.test_frames import write

N_FRAMES = 16


def config(**changes: Any) -> Any:
    from transformers import VideoMAEConfig

    sizes = TINY | {"image_size": SIDE, "patch_size": 8, "num_frames": N_FRAMES, "tubelet_size": 2}
    decoder = {"decoder_num_attention_heads": 2, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1}
    return VideoMAEConfig(**(sizes | decoder | {"decoder_intermediate_size": 24} | changes))


def videomae(folder: Path, head: str = "VideoMAEForPreTraining", **changes: Any) -> Path:
    """Save a model as the published ones are saved: with the head with which it was trained, and its processor."""
    import transformers

    getattr(transformers, head)(config(**{"use_mean_pooling": False} | changes)).save_pretrained(folder)
    crop = {"height": SIDE, "width": SIDE}
    processor = transformers.VideoMAEImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=crop)
    processor.save_pretrained(folder)
    return folder


def frames_of(path: Path) -> np.ndarray:
    """All frames of a video, by PyAV alone."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def spread(frames: np.ndarray) -> list[np.ndarray]:
    """The frames at the middles of 16 equal segments, as VideoMAE's published code computes them."""
    tick = len(frames) / float(N_FRAMES)
    return [frames[int(tick / 2.0 + tick * at)] for at in range(N_FRAMES)]


def reference(videos: Sequence[np.ndarray], folder: Path) -> np.ndarray:
    """Mean last hidden states, at length 1, of a model that transformers loads and prepares images for."""
    from transformers import VideoMAEImageProcessorPil, VideoMAEModel

    model = VideoMAEModel.from_pretrained(folder).eval()
    processor = VideoMAEImageProcessorPil.from_pretrained(folder)
    rows = []
    with torch.no_grad():
        for frames in videos:
            states = model(**processor(spread(frames), return_tensors="pt")).last_hidden_state
            assert states.shape == (1, (N_FRAMES // 2) * (SIDE // 8) ** 2, TINY["hidden_size"])
            rows.append(states[0].double().numpy().mean(axis=0))
    return np.stack(rows) / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module", autouse=True)
def _quiet_transformers() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """Two clips of the synthetic study with other colours and speeds, and one that is too short."""
    torch.manual_seed(0)
    paths = [tmp_path / f"{name}.mp4" for name in ("slow", "fast", "short")]
    for path, category, duration_s in zip(paths, (0, 3, 1), (4.0, 3.0, 1.0), strict=True):
        render_clip(path, np.eye(4)[category], duration_s, 0.2)
    return paths


def vectors(folder: Path, paths: Sequence[Path], workers: int = 1) -> np.ndarray:
    model = load_video_model(VideoMAE(name="videomae", model=str(folder)), Path("/"))

    def clip_of(index: int) -> np.ndarray:
        return read_clip(paths[index].parent, paths[index].name, model.n_frames).images

    return clip_vectors(len(paths), clip_of, model, workers)


def test_features_are_the_mean_of_the_encoder_s_last_states(tmp_path: Path, clips: list[Path]) -> None:
    folder = videomae(tmp_path / "model")
    found = vectors(folder, clips)
    assert (found.dtype, found.shape) == (np.float32, (3, 32))
    np.testing.assert_allclose(found, reference([frames_of(path) for path in clips], folder), atol=2e-5)
    assert found.tobytes() == vectors(folder, clips, workers=3).tobytes()
    assert found[1:2].tobytes() == vectors(folder, clips[1:2]).tobytes()


def test_the_order_of_the_frames_counts(tmp_path: Path, clips: list[Path]) -> None:
    """A mean over single frames, as of the models of images, would not change."""
    model = load_video_model(VideoMAE(name="videomae", model=str(videomae(tmp_path / "model"))), Path("/"))
    images = read_clip(tmp_path, "fast.mp4", N_FRAMES).images
    there, back = clip_vectors(2, lambda at: images if at == 0 else images[::-1], model)
    assert np.abs(there - back).max() > 1e-3


@pytest.mark.parametrize("mean_pooling", [True, False])
def test_a_classifier_gives_the_input_of_its_last_layer(
    tmp_path: Path, clips: list[Path], *, mean_pooling: bool
) -> None:
    from transformers import VideoMAEForVideoClassification, VideoMAEImageProcessorPil

    folder = videomae(tmp_path / "model", "VideoMAEForVideoClassification", use_mean_pooling=mean_pooling)
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        if "norm" in name:  # a layer norm as it is initialised would hide that it is left out
            weights[name] += 0.3 * torch.randn_like(weights[name])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model = VideoMAEForVideoClassification.from_pretrained(folder).eval()
    seen: list[torch.Tensor] = []
    model.classifier.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0][0]))
    processor = VideoMAEImageProcessorPil.from_pretrained(folder)
    with torch.no_grad():
        for path in clips:
            model(**processor(spread(frames_of(path)), return_tensors="pt"))
    expected = torch.stack(seen).double().numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors(folder, clips), expected, atol=2e-5)


def test_the_processor_file_of_the_published_models_is_read(tmp_path: Path, clips: list[Path]) -> None:
    """With its older keys, and its own size and normalisation."""
    folder = videomae(tmp_path / "model", image_size=48)
    body = {
        "crop_size": {"height": 48, "width": 48}, "do_center_crop": True, "do_normalize": True, "do_rescale": True,
        "do_resize": True, "feature_extractor_type": "VideoMAEFeatureExtractor",
        "image_mean": [0.5, 0.4, 0.3], "image_processor_type": "VideoMAEImageProcessor", "image_std": [0.2, 0.3, 0.4],
        "resample": 2, "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 48},
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(body))
    model = load_video_model(VideoMAE(name="videomae", model=str(folder)), Path("/"))
    plain = np.full((N_FRAMES, 60, 80, 3), 51, np.uint8)
    prepared = model.prepare(plain)
    assert prepared.shape == (1, N_FRAMES, 3, 48, 48)
    expected = (0.2 - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.2, 0.3, 0.4])
    torch.testing.assert_close(prepared[0, :, :, 0, 0], expected.expand(N_FRAMES, 3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("n_frames", [1, 5, 15, 16, 17, 24, 40, 143, 144, 301])
def test_frames_are_the_middles_of_equal_segments(n_frames: int) -> None:
    taken = segment_frames(n_frames, N_FRAMES)
    assert taken == [int(n_frames / 16 / 2.0 + n_frames / 16 * at) for at in range(16)]
    assert taken == sorted(taken) and len(set(taken)) == min(n_frames, 16)
    assert [n_frames - 1 - at for at in reversed(taken)] == pytest.approx(taken, abs=1)  # no end is preferred


def test_a_clip_has_its_frames_in_order_and_repeats_those_that_it_lacks(tmp_path: Path) -> None:
    write(tmp_path / "long.mp4", [5 * at for at in range(40)])
    found = read_clip(tmp_path, "long", 16)  # a name without a suffix
    assert (found.images.shape, found.images.dtype, found.n_decoded) == ((16, 64, 64, 3), np.uint8, 40)
    np.testing.assert_allclose(found.images.mean(axis=(1, 2, 3)), 5 * np.array(segment_frames(40, 16)), atol=4)
    write(tmp_path / "short.mp4", [50, 150])
    found = read_clip(tmp_path, "short.mp4", 16)
    np.testing.assert_allclose(found.images.mean(axis=(1, 2, 3)), [50] * 8 + [150] * 8, atol=4)
    assert found.n_decoded == 2


def test_videos_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"not a video" * 50)
    (tmp_path / "empty.mp4").write_bytes(b"")
    write(tmp_path / "cut.mp4", [100] * 30)
    whole = (tmp_path / "cut.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    for name, reason in (("none.mp4", "no file"), ("../x.mp4", "leads out of"), ("bad.mp4", "cannot be decoded")):
        with pytest.raises(SourceError, match=reason) as error:
            read_clip(tmp_path, name, 16)
        assert f"the video of {name} cannot be read" in str(error.value) and str(tmp_path) not in str(error.value)
    for name in ("empty.mp4", "cut.mp4"):
        with pytest.raises(SourceError, match="cannot be decoded"):
            read_clip(tmp_path, name, 16)


def refusal(model: Path) -> str:
    with pytest.raises(UsageError) as error:
        load_video_model(VideoMAE(name="videomae", model=str(model)), Path("/"))
    return str(error.value)


def test_models_that_cannot_be_used_are_one_message_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    assert "cannot be loaded" in refusal(tmp_path / "none" / "there")
    told = refusal(vit(tmp_path / "vit"))
    assert "is not a VideoMAE" in told and "a model of the type vit" in told and "encoder.name to vision" in told
    folder = videomae(tmp_path / "cut")
    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "encoder.layer.1." not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    assert f"lacks {len(weights) - len(kept)} of its weights" in refusal(folder)
    folder = videomae(tmp_path / "size")
    body = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(body | {"crop_size": {"height": 40, "width": 40}}))
    assert "does not return features for a clip of 16 frames" in refusal(folder)
    monkeypatch.setitem(sys.modules, "transformers", None)
    told = refusal(tmp_path / "cut")
    assert "the transformers package cannot be imported" in told and "affectlake[vision]" in told


def test_the_hash_says_which_weights_they_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder, encoder = videomae(tmp_path / "model"), VideoMAE(name="videomae", model="model")
    first = load_video_model(encoder, tmp_path).sha256
    assert load_video_model(encoder, tmp_path).sha256 == first
    weights = load_file(folder / "model.safetensors")
    weights["videomae.encoder.layer.1.output.dense.weight"][0, 0] += 1e-4
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_video_model(encoder, tmp_path).sha256 != first


def test_entries_are_read_strictly() -> None:
    encoder = {"name": "videomae", "model": "MCG-NJU/videomae-base"}
    agent = parse_agent("videomae", {"kind": "features", "encoder": encoder})
    assert (agent.encoder, agent.modality) == (VideoMAE(**encoder), "clips")  # type: ignore[union-attr]
    for change, words in (({"model": ""}, "encoder.model must be a text"), ({"library": "timm"}, "not a known key")):
        with pytest.raises(UsageError, match=words):
            parse_agent("videomae", {"kind": "features", "encoder": encoder | change})
