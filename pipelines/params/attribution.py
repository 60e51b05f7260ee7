"""The section ``attribution`` of ``params.yaml``: what in the picture drives a dimension."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from affectlake.encoders.settings import PictureModel
from affectlake.validation import UNIQUE, Strict, Text

Penalty = Annotated[float, Field(ge=0)]


class Attribution(Strict):
    """Maps of what in the frames drives the dimensions of each agent (`docs/attribution.md`)."""

    encoder: PictureModel = Field(
        description="Vision model whose features the dimensions are read from.",
        examples=[{"library": "transformers", "model": "openai/clip-vit-large-patch14"}],
    )
    layer: Text | None = Field(
        default=None,
        description="Name of the module whose maps are shown; null: of a ViT the first norm of the last block, of a "
        "CNN the last map before pooling.",
    )
    penalties: Annotated[tuple[Penalty, ...], UNIQUE] = Field(
        default=(0.1, 1.0, 10.0, 100.0, 1000.0),
        strict=False,
        min_length=1,
        description="Penalties of the ridge regression, one of which is chosen for each dimension; [0]: least squares.",
        json_schema_extra={"uniqueItems": True},
    )
    folds: int = Field(default=5, ge=2, le=20, description="Number of folds of the held-out test, outer and inner.")
    permutations: int = Field(
        default=999, ge=19, description="Number of permutations of the stimuli by which readouts are tested."
    )
    stimuli_per_dimension: int = Field(
        default=6, ge=1, description="Number of stimuli with the largest weights on each dimension that have maps."
    )
    dimensions_per_stimulus: int = Field(
        default=3,
        ge=0,
        description="Number of dimensions with the largest weights of each stimulus that have maps; 0: none.",
    )
