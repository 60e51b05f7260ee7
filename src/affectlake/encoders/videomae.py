"""Feature vectors of stimuli from whole clips: the features of a VideoMAE for frames spread over each video.

:mod:`affectlake.encoders.vision` has the models of single frames. Torch and transformers are imported when a model
is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from affectlake.encoders.settings import VideoMAE
from affectlake.encoders.torch_models import (
    digest,
    first_line,
    one_thread_each,
    quiet,
    refuse_torchvision_of_another_build,
    unit_features,
)
from affectlake.errors import UsageError
from affectlake.extras import install

if TYPE_CHECKING:
    import torch

Clip = NDArray[np.uint8]
"""Frames of one video in their order, RGB, uint8 (n_frames, height, width, 3)."""

MODEL_TYPE = "videomae"
CLASSIFIER = "VideoMAEForVideoClassification"


@dataclass(frozen=True)
class VideoModel:
    """A loaded model of clips with its preprocessing.

    Parameters
    ----------
    prepare : callable
        Takes a clip, uint8 (n_frames, height, width, 3), and returns the model's input, float32
        (1, n_frames, 3, height, width).
    features : callable
        Takes such an input, and returns features (1, n_features).
    n_frames : int
        Number of frames of a clip that the model takes.
    sha256 : str
        Hash of the weights, which identifies the model regardless of its source.
    """

    prepare: Callable[[Clip], torch.Tensor]
    features: Callable[[torch.Tensor], torch.Tensor]
    n_frames: int
    sha256: str


def load_video_model(encoder: VideoMAE, home: Path, device: str = "cpu") -> VideoModel:
    """Load a VideoMAE and its preprocessing.

    Parameters
    ----------
    encoder : VideoMAE
        Its ``model`` is a folder (relative to `home`) or a name that transformers knows, with an image processor.
    home : pathlib.Path
        Folder to which relative folders are relative.
    device : str
        Torch device, ``cpu`` or ``cuda``.

    Returns
    -------
    VideoModel
        The features of a pre-trained model are the mean of the encoder's last hidden states over all patches of all
        frames: a VideoMAE has no class token, and its own classifier averages them. The features of a classifier are
        the input of its last linear layer, as for classifiers of images: this mean after a layer norm, or the first
        patch, if the model's configuration has ``use_mean_pooling: false``.

    Raises
    ------
    UsageError
        If transformers or the model is not available, weights are missing, or the model is not a VideoMAE.
    """
    folder = home / encoder.model
    place = str(folder) if folder.is_dir() else encoder.model
    try:
        with quiet():
            refuse_torchvision_of_another_build()
            model, prepare, features = _load(encoder.model, place)
    except ImportError as error:
        raise UsageError(
            "the transformers package cannot be imported",
            wanted=f"the package, to load {encoder.model!r}",
            found=first_line(error),
            todo=install("vision"),
        ) from error
    except UsageError:
        raise
    except Exception as error:  # transformers raises exceptions of any type; their message is shown
        raise UsageError(
            f"the VideoMAE {encoder.model!r} cannot be loaded",
            wanted="a folder with a model, or the name of one that can be downloaded",
            found=f"{type(error).__name__}: {first_line(error)}",
            todo="correct the encoder's model",
        ) from error
    found = VideoModel(prepare, lambda x: features(x.to(device)), int(model.config.num_frames), digest(model))
    model.to(device).eval()
    _try(found, encoder)
    return found


def _load(model: str, place: str) -> tuple[Any, Callable[[Clip], Any], Callable[[Any], Any]]:
    """Return a VideoMAE, its preprocessing, and what computes its features."""
    from torch import nn
    from transformers import AutoConfig, AutoImageProcessor, VideoMAEForVideoClassification, VideoMAEModel

    config = AutoConfig.from_pretrained(place)
    if config.model_type != MODEL_TYPE:
        raise UsageError(
            f"the transformers model {model!r} is not a VideoMAE",
            found=f"a model of the type {config.model_type}",
            todo="set encoder.name to vision for a model of images, or choose another model",
        )
    # with this backend, pixels do not depend on whether torchvision is installed
    processor = AutoImageProcessor.from_pretrained(place, backend="pil")
    classifies = CLASSIFIER in (config.architectures or ())
    made, report = (VideoMAEForVideoClassification if classifies else VideoMAEModel).from_pretrained(
        place, output_loading_info=True
    )
    missing = sorted(report["missing_keys"])
    if missing:
        raise UsageError(
            f"the VideoMAE {model!r} lacks {len(missing):,} of its weights",
            found=", ".join(missing[:3]),
            todo="choose a folder or model with complete weights",
        )
    if classifies:
        made.classifier = nn.Identity()

    def prepare(clip: Clip) -> Any:
        return processor([list(clip)], return_tensors="pt")["pixel_values"]

    def features(inputs: Any) -> Any:
        found = made(pixel_values=inputs)
        return found.logits if classifies else found.last_hidden_state.mean(dim=1)

    return made, prepare, features


def _try(model: VideoModel, encoder: VideoMAE) -> None:
    """Refuse a model that does not return one vector of features for a clip."""
    blank = np.full((model.n_frames, 256, 256, 3), 120, dtype=np.uint8)
    try:
        with one_thread_each():
            found = f"features of shape {_features(blank, model).shape}"
            return
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        found = f"{type(error).__name__}: {first_line(error)}"
    raise UsageError(
        f"the VideoMAE {encoder.model!r} does not return features for a clip of {model.n_frames} frames",
        wanted="an image processor that makes images of the model's size",
        found=found,
        todo="correct the model's preprocessor_config.json, or choose another model",
    )


def clip_vectors(
    n_stimuli: int,
    clip_of: Callable[[int], Clip],
    model: VideoModel,
    workers: int = 1,
    progress: Callable[[int], None] = lambda _n: None,
) -> NDArray[np.float32]:
    """Return the features of the clip of each stimulus.

    Parameters
    ----------
    n_stimuli : int
        Number of stimuli.
    clip_of : callable
        Takes the index of a stimulus, and returns its clip, uint8 (``model.n_frames``, height, width, 3). It is called
        once for each stimulus, in several threads, so that few clips are in memory at a time.
    model : VideoModel
        The model.
    workers : int
        Number of threads; each processes one clip at a time.
    progress : callable
        Called with the number of clips done so far.

    Returns
    -------
    float32 (n_stimuli, n_features)
        Vectors of length 1. On one machine they are the same bytes for any number of threads; each vector depends only
        on its own clip.

    Raises
    ------
    SourceError
        If the features of a stimulus are zero or not finite.

    Notes
    -----
    Du et al. 2025, 'Deriving behavioral responses from non-generative models': "For each stimulus, we first extracted a
    single feature vector from a pre-trained model".
    """
    return unit_features(range(n_stimuli), lambda index: _features(clip_of(index), model), workers, progress)


def _features(clip: Clip, model: VideoModel) -> NDArray[np.float64]:
    """Return the features of one clip, float64 (n_features,)."""
    import torch

    with torch.inference_mode():
        found = model.features(model.prepare(clip)).float().cpu().numpy()  # (1, n_features)
    return np.asarray(found[0], dtype=np.float64)
