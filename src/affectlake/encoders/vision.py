"""Feature vectors of stimuli from the frames of their videos: the features of a vision model, averaged over frames.

Torch and the library of the model are imported when a model is loaded.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from affectlake.encoders.settings import Library, PictureModel
from affectlake.encoders.torch_models import (
    digest,
    features_of,
    first_line,
    one_thread_each,
    quiet,
    refuse_torchvision_of_another_build,
    unit_features,
)
from affectlake.errors import SourceError, UsageError
from affectlake.extras import install

if TYPE_CHECKING:
    import torch

FRAMES_AT_ONCE = 32
"""Largest number of frames of a video in one forward pass."""

FloatMatrix = NDArray[np.float32]


def _blank() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (256, 256), (120, 120, 120)).save(buffer, format="JPEG")
    return buffer.getvalue()


@dataclass(frozen=True)
class VisionModel:
    """A loaded vision model with its preprocessing.

    Parameters
    ----------
    prepare : callable
        Takes an RGB image, and returns the model's input, float32 (3, height, width).
    features : callable
        Takes inputs (n, 3, height, width), and returns features (n, n_features).
    sha256 : str
        Hash of the weights, which identifies the model regardless of its source.
    network : torch.nn.Module, optional
        The network itself, of which :mod:`affectlake.encoders.layers` chooses a layer.
    """

    prepare: Callable[[Image.Image], torch.Tensor]
    features: Callable[[torch.Tensor], torch.Tensor]
    sha256: str
    network: Any = None


def load_vision_model(encoder: PictureModel, home: Path, device: str = "cpu") -> VisionModel:
    """Load an encoder's model and its preprocessing.

    Parameters
    ----------
    encoder : PictureModel
        Its ``model`` is a folder (relative to `home`) or a name that the library knows:

        - ``torchvision``: a classification model (``resnet50``) or weights (``ResNet50_Weights.IMAGENET1K_V1``), or a
          folder with ``config.json`` (``{"architecture": "resnet50"}``) and one file of weights, ``.safetensors`` or
          ``.pth``. The features are the input of the last linear layer; the preprocessing is that of the weights, or,
          for a folder, that of the architecture's default weights.
        - ``timm``: a model, or a folder that timm saved. The features are the pooled features before the classifier.
        - ``transformers``: a model, or a folder, with an image processor. The features are the image embedding of a
          dual encoder (CLIP, SigLIP); otherwise the pooled output; without a trained pooler, the first token, or the
          mean over the positions of feature maps.
    home : pathlib.Path
        Folder to which relative folders are relative.
    device : str
        Torch device, ``cpu`` or ``cuda``.

    Raises
    ------
    UsageError
        If the package or the model is not available, weights are missing, or the model is not a model of images.
    """
    folder = home / encoder.model
    place = folder if folder.is_dir() else None
    try:
        with quiet():
            refuse_torchvision_of_another_build(is_needed=encoder.library != "transformers")
            model, prepare, features = _LOADERS[encoder.library](encoder.model, place)
    except ImportError as error:
        extra = "vision" if encoder.library == "transformers" else "torchvision"
        raise UsageError(
            f"the {encoder.library} package cannot be imported",
            wanted=f"the package, to load {encoder.model!r}",
            found=first_line(error),
            todo=install(extra),
        ) from error
    except UsageError:
        raise
    except Exception as error:  # these libraries raise exceptions of any type; their message is shown
        raise UsageError(
            f"the {encoder.library} model {encoder.model!r} cannot be loaded",
            wanted="a folder with a model, or the name of one that can be downloaded",
            found=f"{type(error).__name__}: {first_line(error)}",
            todo="correct the encoder's model",
        ) from error
    found = VisionModel(prepare, lambda inputs: features(inputs.to(device)), digest(model), model)
    model.to(device).eval()
    _try(found, encoder)
    return found


def _try(model: VisionModel, encoder: PictureModel) -> None:
    """Refuse a model that does not return one vector of features for a single image."""
    try:
        with one_thread_each():
            features = _mean([_blank()], model)
        found = f"features of shape {features.shape}"
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        features, found = np.empty((0, 0)), f"{type(error).__name__}: {first_line(error)}"
    if features.ndim != 1 or not len(features):
        raise UsageError(
            f"the {encoder.library} model {encoder.model!r} does not return a vector of features for an image",
            wanted="a model of single images, such as a ResNet, a ViT or CLIP",
            found=found,
            todo="correct the encoder's model; a VideoMAE needs encoder: {name: videomae, model: …}",
        )


def frame_vectors(
    frames: Sequence[Sequence[bytes]],
    model: VisionModel,
    workers: int = 1,
    progress: Callable[[int], None] = lambda _n: None,
) -> FloatMatrix:
    """Return the mean features over the frames of each video.

    Parameters
    ----------
    frames : sequence of sequences of bytes
        The JPEG frames of each stimulus, in the order of the catalogue.
    model : VisionModel
        The vision model.
    workers : int
        Number of threads; each processes one video at a time.
    progress : callable
        Called with the number of videos done so far.

    Returns
    -------
    float32 (n_stimuli, n_features)
        Vectors of length 1. On one machine they are the same bytes for any number of threads; each vector depends only
        on its own video.

    Raises
    ------
    SourceError
        If a stimulus has no frames, or its features are zero or not finite.

    Notes
    -----
    Du et al. 2025, 'Deriving behavioral responses from non-generative models': "features from individual video frames
    were temporally averaged".
    """
    _refuse_without(frames)
    return unit_features(frames, lambda some: _mean(some, model), workers, progress)


def frame_means(
    frames: Sequence[Sequence[bytes]],
    model: VisionModel,
    workers: int = 1,
    progress: Callable[[int], None] = lambda _n: None,
) -> FloatMatrix:
    """Return what :func:`frame_vectors` returns before it is scaled to length 1: a linear readout needs this mean.

    A linear function of the mean is the mean of the function over the frames; of a vector of length 1 it is not.

    Parameters
    ----------
    frames, model, workers, progress
        As for :func:`frame_vectors`.

    Returns
    -------
    float32 (n_stimuli, n_features)
        The same bytes for any number of threads.

    Raises
    ------
    SourceError
        If a stimulus has no frames.
    """
    _refuse_without(frames)
    found = features_of(frames, lambda some: _mean(some, model), workers, progress)
    return np.asarray(found, dtype=np.float32)


def frame_inputs(jpegs: Sequence[bytes], model: VisionModel) -> torch.Tensor:
    """Return the inputs of frames, float32 (n_frames, 3, height, width)."""
    import torch

    return torch.stack([model.prepare(_image(jpeg)) for jpeg in jpegs])


def _refuse_without(frames: Sequence[Sequence[bytes]]) -> None:
    without = [index for index, some in enumerate(frames) if not some]
    if without:
        raise SourceError(
            f"{len(without):,} of {len(frames):,} stimuli have no frames",
            found=f"stimulus_index {', '.join(map(str, without[:5]))}",
            todo="provide their videos, exclude them, or remove the vision agents",
        )


def _mean(jpegs: Sequence[bytes], model: VisionModel) -> NDArray[np.float64]:
    """Return the mean features of one video's frames, float64 (n_features,)."""
    import torch

    total: NDArray[np.float64] | float = 0.0
    with torch.inference_mode():
        for start in range(0, len(jpegs), FRAMES_AT_ONCE):
            inputs = frame_inputs(jpegs[start : start + FRAMES_AT_ONCE], model)
            found = model.features(inputs).float().cpu().numpy()  # (n, n_features)
            total = total + found.astype(np.float64).sum(axis=0)
    return np.asarray(total / len(jpegs))


def _image(jpeg: bytes) -> Image.Image:
    with Image.open(io.BytesIO(jpeg)) as image:
        return image.convert("RGB")


Loaded = tuple[Any, Callable[[Image.Image], Any], Callable[[Any], Any]]


def _torchvision(model: str, folder: Path | None) -> Loaded:
    """Return a torchvision model without its last linear layer."""
    import torchvision
    from torch import nn

    every = torchvision.models.list_models(module=torchvision.models)
    if folder is not None:
        name = _architecture(folder)
        _known(name, every)
        made = torchvision.models.get_model(name, weights=None)
        made.load_state_dict(_weights(folder))
        weights = torchvision.models.get_model_weights(name).DEFAULT
    elif "." in model:
        weights = torchvision.models.get_weight(model)
        name = next(one for one in every if torchvision.models.get_model_weights(one) is type(weights))
        made = torchvision.models.get_model(name, weights=weights)
    else:
        _known(model, every)
        weights = torchvision.models.get_model_weights(model).DEFAULT
        made = torchvision.models.get_model(model, weights=weights)
    linear = [name for name, part in made.named_modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise UsageError(f"the torchvision model {model!r} does not have a linear layer", todo="choose another model")
    made.set_submodule(linear[-1], nn.Identity())
    return made, weights.transforms(), made


def _known(name: str, every: list[str]) -> None:
    from affectlake.errors import nearest

    if name not in every:
        raise UsageError(
            f"{name!r} is neither a classification model of torchvision nor a folder",
            allowed=f"{len(every)} names, such as resnet50 or vit_b_16; or a folder",
            todo=nearest(name, every),
        )


def _architecture(folder: Path) -> str:
    found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = found.get("architecture") if isinstance(found, dict) else None
    if not isinstance(name, str):
        raise UsageError(
            f"{folder / 'config.json'} does not have the key architecture",
            wanted='{"architecture": "resnet50"}',
        )
    return name


def _weights(folder: Path) -> Mapping[str, Any]:
    """Return the parameters in a folder's only file of weights; nothing but tensors is loaded."""
    import torch
    from safetensors.torch import load_file

    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.pth")])
    if len(files) != 1:
        raise UsageError(
            f"{folder} does not have exactly one file of weights",
            wanted="one .safetensors or .pth file",
            found=", ".join(file.name for file in files) or "none",
        )
    if files[0].suffix == ".safetensors":
        return dict(load_file(files[0]))
    return dict(torch.load(files[0], map_location="cpu", weights_only=True))


def _timm(model: str, folder: Path | None) -> Loaded:
    """Return a timm model without its classifier."""
    import timm

    name = model if folder is None else f"local-dir:{folder}"
    made = timm.create_model(name, pretrained=True, num_classes=0)
    prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(made), is_training=False)
    return made, prepare, made


def _transformers(model: str, folder: Path | None) -> Loaded:
    """Return a transformers model for images."""
    from transformers import AutoImageProcessor, AutoModel

    name = model if folder is None else str(folder)
    # with this backend, pixels do not depend on whether torchvision is installed
    processor = AutoImageProcessor.from_pretrained(name, backend="pil")
    made, report = AutoModel.from_pretrained(name, output_loading_info=True)
    missing = sorted(report["missing_keys"])
    untrained = [key for key in missing if "pooler" not in key.split(".")]
    if untrained:
        raise UsageError(
            f"the transformers model {model!r} lacks {len(untrained):,} of its weights",
            found=", ".join(untrained[:3]),
            todo="choose a folder or model with complete weights",
        )
    if hasattr(made, "get_image_features"):
        look = made.get_image_features
    elif "pixel_values" in made.main_input_name:
        look = made
    else:
        raise UsageError(f"the transformers model {model!r} is not a model of images", found=type(made).__name__)

    def prepare(image: Image.Image) -> Any:
        return processor(images=[image], return_tensors="pt")["pixel_values"][0]

    def features(inputs: Any) -> Any:
        found = look(pixel_values=inputs)
        pooled = found if not hasattr(found, "keys") else found.get("pooler_output")
        if pooled is not None and not missing:
            return pooled.flatten(1)
        states = found["last_hidden_state"]
        return states[:, 0] if states.dim() == 3 else states.mean(dim=(2, 3))

    return made, prepare, features


_LOADERS: dict[Library, Callable[[str, Path | None], Loaded]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "transformers": _transformers,
}
