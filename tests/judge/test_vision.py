"""Feature vectors from frames: real architectures with random weights, saved to folders as their libraries save them.

torchvision and timm are no part of the locked environment (a torchvision must be built for the torch beside it); their
tests are skipped, saying so, where they cannot be imported.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from affectlake.encoders.videomae import load_video_model
from affectlake.encoders.vision import FRAMES_AT_ONCE, frame_vectors, load_vision_model
from affectlake.errors import SourceError, UsageError
from affectlake.judge.agents import VideoMAE, VisionEncoder, parse_agent
from affectlake.judge.vectors.similarity import choose_by_cosine
from affectlake.judge.vectors.text import sentence_transformer

SIDE = 32
TINY = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
LOOKING = TINY | {"image_size": SIDE, "patch_size": 8}


def jpeg(colour: tuple[int, int, int], seed: int = 0) -> bytes:
    """A frame of one colour with a little noise."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(np.array(colour) + rng.normal(0, 12, (48, 64, 3)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()


def vision(library: Any, model: str | Path) -> VisionEncoder:
    """An encoder of frames."""
    return VisionEncoder(name="vision", library=library, model=str(model))


RED, BLUE, GREEN = (200, 40, 30), (30, 40, 200), (40, 190, 60)
VIDEOS = [[jpeg(colour, 10 * at + f) for f in range(3 + at)] for at, colour in enumerate((RED, RED, BLUE, GREEN, BLUE))]


def save(model: Any, folder: Path) -> Path:
    """Save a transformers model with its image processor."""
    from transformers import CLIPImageProcessorPil

    model.save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size).save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    from transformers import CLIPConfig, CLIPModel

    ends = {"vocab_size": 60, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return save(CLIPModel(CLIPConfig(text_config=TINY | ends, vision_config=LOOKING, projection_dim=16)), folder)


def vit_classifier(folder: Path) -> Path:
    from transformers import ViTConfig, ViTForImageClassification

    return save(ViTForImageClassification(ViTConfig(**LOOKING)), folder)


def vit(folder: Path) -> Path:
    from transformers import ViTConfig, ViTModel

    return save(ViTModel(ViTConfig(**LOOKING)), folder)


def resnet(folder: Path) -> Path:
    from transformers import ResNetConfig, ResNetForImageClassification

    sizes = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"}
    return save(ResNetForImageClassification(ResNetConfig(**sizes)), folder)


@pytest.fixture(scope="module", autouse=True)
def _quiet_transformers() -> None:
    """What transformers says while these tests save models belongs to nobody."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture
def seeded() -> None:
    torch.manual_seed(0)


def pixels(frame: bytes) -> torch.Tensor:
    """CLIP's preprocessing by hand: the shorter side to 32 (bicubic), the middle cut out, normalised."""
    with Image.open(io.BytesIO(frame)) as image:
        width, height = image.size
        scale = SIDE / min(width, height)
        small = image.resize((int(width * scale), int(height * scale)), Image.Resampling.BICUBIC)
    left = (small.width - SIDE) // 2
    cut = np.asarray(small.crop((left, 0, left + SIDE, SIDE)), dtype=np.float64) / 255
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    return torch.tensor(((cut - mean) / std).transpose(2, 0, 1), dtype=torch.float32)[None]


def reference(features: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
    """Mean features of VIDEOS, frame by frame, at length 1."""
    with torch.no_grad():
        means = [np.mean([features(pixels(f))[0].numpy() for f in video], axis=0) for video in VIDEOS]
    return np.stack(means) / np.linalg.norm(means, axis=1, keepdims=True)


def vectors(folder: Path, library: Any = "transformers", workers: int = 1) -> np.ndarray:
    model = load_vision_model(vision(library, folder), Path())
    return frame_vectors(VIDEOS, model, workers)


@pytest.mark.usefixtures("seeded")
def test_clip_gives_its_image_embedding(tmp_path: Path) -> None:
    from transformers import CLIPModel

    folder = clip(tmp_path / "clip")
    found = vectors(folder)
    assert (found.dtype, found.shape) == (np.float32, (5, 16))
    model = CLIPModel.from_pretrained(folder).eval()
    expected = reference(lambda x: model.visual_projection(model.vision_model(pixel_values=x).pooler_output))
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.usefixtures("seeded")
def test_a_classifier_s_untrained_pooler_is_not_used(tmp_path: Path) -> None:
    """transformers puts a random pooler on such a model, another at each loading."""
    from transformers import ViTForImageClassification

    folder = vit_classifier(tmp_path / "vit")
    found = vectors(folder)
    model = ViTForImageClassification.from_pretrained(folder).eval()
    expected = reference(lambda x: model.vit(pixel_values=x).last_hidden_state[:, 0])
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert vectors(folder).tobytes() == found.tobytes()


@pytest.mark.usefixtures("seeded")
def test_a_trained_pooler_is_used_and_maps_are_pooled(tmp_path: Path) -> None:
    from transformers import ResNetForImageClassification, ViTModel

    folder = vit(tmp_path / "vit")
    trained = ViTModel.from_pretrained(folder).eval()
    np.testing.assert_allclose(vectors(folder), reference(lambda x: trained(pixel_values=x).pooler_output), atol=2e-5)
    folder = resnet(tmp_path / "resnet")
    model = ResNetForImageClassification.from_pretrained(folder).eval()
    expected = reference(lambda x: model.resnet(pixel_values=x).last_hidden_state.mean(dim=(2, 3)))
    np.testing.assert_allclose(vectors(folder), expected, atol=2e-5)


@pytest.mark.usefixtures("seeded")
def test_like_videos_are_near(tmp_path: Path) -> None:
    """Even random weights tell colours apart: of two of one colour and a third, the third is odd."""
    found = vectors(clip(tmp_path / "clip")).astype(np.float64)
    triplets = np.array([[0, 1, 2], [0, 1, 3], [0, 2, 4], [2, 3, 4]], np.int32)
    assert choose_by_cosine(found, triplets, np.random.default_rng(0)).odd.tolist() == [2, 3, 0, 3]


@pytest.mark.usefixtures("seeded")
def test_same_bytes_for_any_number_of_threads_and_whatever_the_other_videos(tmp_path: Path) -> None:
    model = load_vision_model(vision("transformers", clip(tmp_path / "clip")), Path())
    threads = torch.get_num_threads()
    one, four = frame_vectors(VIDEOS, model), frame_vectors(VIDEOS, model, 4)
    assert one.tobytes() == four.tobytes()
    assert frame_vectors(VIDEOS[2:3], model).tobytes() == one[2:3].tobytes()
    assert torch.get_num_threads() == threads


@pytest.mark.usefixtures("seeded")
def test_a_long_video_is_shown_in_pieces_and_its_mean_is_over_all_frames(tmp_path: Path) -> None:
    model = load_vision_model(vision("transformers", clip(tmp_path / "clip")), Path())
    whole = frame_vectors([[jpeg(RED)] * (FRAMES_AT_ONCE + 1) + [jpeg(BLUE)] * (FRAMES_AT_ONCE + 1)], model)
    np.testing.assert_allclose(whole, frame_vectors([[jpeg(RED), jpeg(BLUE)]], model), atol=1e-5)


@pytest.mark.usefixtures("seeded")
def test_the_hash_says_which_weights_they_are(tmp_path: Path) -> None:
    encoder = vision("transformers", "clip")
    clip(tmp_path / "clip")
    first = load_vision_model(encoder, tmp_path).sha256
    assert load_vision_model(encoder, tmp_path).sha256 == first
    weights = load_file(tmp_path / "clip/model.safetensors")
    weights["visual_projection.weight"][0, 0] += 1e-4
    save_file(weights, tmp_path / "clip/model.safetensors", metadata={"format": "pt"})
    assert load_vision_model(encoder, tmp_path).sha256 != first


def test_videos_without_frames_and_features_without_direction_are_refused(tmp_path: Path) -> None:
    from affectlake.encoders.vision import VisionModel

    blind = VisionModel(lambda _image: torch.zeros(3, 2, 2), lambda x: x.flatten(1), "")
    with pytest.raises(SourceError, match="2 of 3 stimuli have no frames"):
        frame_vectors([[], [jpeg(RED)], []], blind)
    with pytest.raises(SourceError, match=r"1 of 1 stimuli .* zero or not finite"):
        frame_vectors([[jpeg(RED)]], blind)


def refusal(library: Any, model: str | Path) -> str:
    with pytest.raises(UsageError) as error:
        load_vision_model(vision(library, model), Path("/"))
    return str(error.value)


@pytest.mark.usefixtures("seeded")
def test_models_that_cannot_be_used_are_one_message_each(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    assert "cannot be loaded" in refusal("transformers", tmp_path / "none" / "there")
    (tmp_path / "empty").mkdir()
    assert "cannot be loaded" in refusal("transformers", tmp_path / "empty")
    folder = clip(tmp_path / "cut")
    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "layers.1" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    assert "lacks 32 of its weights" in refusal("transformers", folder)
    text = save(BertModel(BertConfig(**TINY, vocab_size=60)), tmp_path / "text")
    assert "is not a model of images" in refusal("transformers", text)


@pytest.mark.parametrize(
    ("library", "missing"), [("torchvision", "torchvision"), ("timm", "torchvision"), ("transformers", "transformers")]
)
def test_a_missing_package_is_named(library: Any, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    told = refusal(library, "any")
    extra = "vision" if library == "transformers" else "torchvision"
    assert f"the {library} package cannot be imported" in told and f"affectlake[{extra}]" in told


@pytest.fixture
def other_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torchvision of another build, which fails when it registers what its compiled part should have brought."""
    (tmp_path / "torchvision").mkdir()
    register = 'import torch\ntorch.library.register_fake("torchvision_of_another_build::nms")(lambda: None)\n'
    (tmp_path / "torchvision" / "__init__.py").write_text(register)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("other_build")
@pytest.mark.parametrize("library", ["torchvision", "timm", "transformers"])
def test_a_torchvision_of_another_build_is_told(library: Any) -> None:
    """It also breaks transformers, which does not need it."""
    told = refusal(library, "resnet18")
    assert "was built for another version of torch" in told
    assert f"https://download.pytorch.org/whl/{torch.__version__.partition('+')[2] or 'cpu'}" in told
    assert ("pip uninstall torchvision" in told) is (library == "transformers")


@pytest.mark.usefixtures("other_build")
def test_a_torchvision_of_another_build_is_told_to_agents_of_clips_and_texts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="built for another version of torch"):
        load_video_model(VideoMAE(name="videomae", model="any"), tmp_path)
    with pytest.raises(UsageError, match="built for another version of torch"):
        sentence_transformer([["a dog"]], "any")


def test_entries_are_read_strictly() -> None:
    encoder = {"name": "vision", "library": "timm", "model": "resnet50.a1_in1k"}
    agent = parse_agent("resnet", {"kind": "features", "encoder": encoder})
    assert (agent.encoder, agent.modality) == (vision("timm", "resnet50.a1_in1k"), "videos")  # type: ignore[union-attr]
    for change, words in (
        ({"library": "timmm"}, "did you mean 'timm'"),
        ({"model": ""}, "encoder.model must be a text"),
        ({"weights": "x"}, r"encoder\.weights is not a known key"),
    ):
        with pytest.raises(UsageError, match=words):
            parse_agent("resnet", {"kind": "features", "encoder": encoder | change})


def imported(library: str) -> Any:
    """The library; the test is skipped where it cannot be imported."""
    try:
        import torchvision

        return pytest.importorskip("timm") if library == "timm" else torchvision
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported beside this torch ({str(error).splitlines()[0]})")


def means(prepare: Any, features: Any) -> np.ndarray:
    rows = []
    with torch.no_grad():
        for video in VIDEOS:
            images = [Image.open(io.BytesIO(frame)) for frame in video]
            rows.append(np.mean([features(prepare(image)[None])[0].numpy() for image in images], axis=0))
    return np.stack(rows) / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_torchvision_from_a_folder(tmp_path: Path, suffix: str) -> None:
    torchvision = imported("torchvision")
    model = torchvision.models.resnet18(weights=None).eval()
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18"}))
    if suffix == ".pth":
        torch.save(model.state_dict(), tmp_path / "resnet18.pth")
    else:
        save_file(model.state_dict(), tmp_path / "model.safetensors")
    found = vectors(tmp_path, "torchvision")
    trunk = torch.nn.Sequential(*list(model.children())[:-1], torch.nn.Flatten())
    expected = means(torchvision.models.ResNet18_Weights.DEFAULT.transforms(), trunk)
    assert found.shape == (5, 512)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet81"}))
    assert "did you mean 'resnet18'" in refusal("torchvision", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet34"}))
    assert "cannot be loaded" in refusal("torchvision", tmp_path)


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("model", ["resnet18", "ResNet18_Weights.IMAGENET1K_V1"])
def test_torchvision_by_name_takes_the_weights_it_has(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torchvision = imported("torchvision")
    made = torchvision.models.resnet18(weights=None).eval()
    place = tmp_path / "hub/checkpoints/resnet18-f37072fd.pth"
    place.parent.mkdir(parents=True)
    torch.save(made.state_dict(), place)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    made.fc = torch.nn.Identity()
    expected = means(torchvision.models.ResNet18_Weights.DEFAULT.transforms(), made)
    found = frame_vectors(VIDEOS, load_vision_model(vision("torchvision", model), tmp_path))
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.usefixtures("seeded")
def test_other_torchvision_heads_and_names(tmp_path: Path) -> None:
    torchvision = imported("torchvision")
    for name, n_features in (("vit_b_16", 768), ("mobilenet_v3_small", 1024)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"architecture": name}))
        save_file(torchvision.models.get_model(name, weights=None).state_dict(), folder / "model.safetensors")
        model = load_vision_model(vision("torchvision", folder), Path())
        assert frame_vectors(VIDEOS[:1], model).shape == (1, n_features)
    assert "no classification model 'resnet52'" in refusal("torchvision", "resnet52")
    (tmp_path / "squeeze").mkdir()
    (tmp_path / "squeeze/config.json").write_text('{"architecture": "squeezenet1_1"}')
    weights = torchvision.models.squeezenet1_1(weights=None).state_dict()
    save_file(weights, tmp_path / "squeeze/model.safetensors")
    assert "does not have a linear layer" in refusal("torchvision", tmp_path / "squeeze")


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_timm_from_a_folder(tmp_path: Path, name: str) -> None:
    timm = imported("timm")
    model = timm.create_model(name, pretrained=False).eval()
    timm.models.save_for_hf(model, tmp_path)
    found = vectors(tmp_path, "timm")
    prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    expected = means(prepare, lambda x: model.forward_head(model.forward_features(x), pre_logits=True))
    assert found.shape == (5, model.num_features)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert "cannot be loaded" in refusal("timm", tmp_path / "none")
