"""Settings of the encoders of videos, as ``params.yaml`` has them."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from affectlake.validation import Strict, Text

Library = Literal["torchvision", "timm", "transformers"]


class PictureModel(Strict):
    """A vision model of single frames: its library, and its name or folder."""

    library: Library = Field(description="Whose model it is.")
    model: Text = Field(description="Name of the model, or the folder that holds it.")


class VisionEncoder(PictureModel):
    """A vision model of single frames; the features of a video are the mean over its frames."""

    modality: ClassVar[Literal["videos"]] = "videos"

    name: Literal["vision"]


class VideoMAE(Strict):
    """A VideoMAE of the transformers library, a model of clips: frames spread over the video in one forward pass."""

    modality: ClassVar[Literal["clips"]] = "clips"

    name: Literal["videomae"]
    model: Text = Field(description="Name of the model, or the folder that holds it.")
