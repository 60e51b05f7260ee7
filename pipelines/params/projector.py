"""The key ``editing.projector`` of ``params.yaml``: how embeddings are mapped to tokens of text."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from affectlake.editing.settings import Directions, Scaling, Schedule, TrainingSettings
from affectlake.validation import Strict


class ProjectorSettings(Strict):
    """The perceptron of the paper and the ridge regression beside it; defaults are the paper's where it states one."""

    kind: Literal["better", "mlp", "ridge"] = Field(
        default="better",
        description="The projector that edits use; better: the one that predicts tokens of stopping videos better.",
    )
    layers: int = Field(default=5, ge=2, description="Number of linear layers of the perceptron.")
    width: int = Field(default=768, ge=1, description="Number of units of each layer but the last.")
    epochs: int = Field(default=600, ge=1, description="Largest number of epochs.")
    warmup_epochs: int = Field(default=50, ge=0, description="Number of epochs in which the learning rate rises.")
    learning_rate: float = Field(default=0.0002, gt=0, description="Largest learning rate of Adam.")
    weight_decay: float = Field(default=0.0, ge=0, description="Decoupled weight decay; 0 in the paper.")
    schedule: Schedule = Field(default="cosine", description="Course of the learning rate after the warm-up.")
    batch_size: int = Field(default=128, ge=2, description="Largest number of videos of a batch.")
    lambda_contrastive: float = Field(default=0.5, ge=0, description="Weight of equation 5, the contrastive loss.")
    lambda_tokens: float = Field(default=1.0, ge=0, description="Weight of equation 8, the error of the tokens.")
    directions: Directions = Field(
        default="sum", description="Equation 6: the sum over both directions, as printed, or their mean, as in CLIP."
    )
    errors: Scaling = Field(
        default="elements", description="Equations 7 and 8: means over elements, or over rows, as printed."
    )
    token_components: int = Field(
        default=512, ge=1, description="Largest number of principal components of the tokens."
    )
    held_out: float = Field(
        default=0.1,
        gt=0,
        lt=0.5,
        description="Share of the videos that stop the training, and of those that are scored, each.",
    )
    patience: int | None = Field(
        default=40,
        ge=1,
        description="Number of epochs without a lower loss on stopping videos after which training ends; null: all "
        "epochs, as in the paper.",
    )

    def training(self) -> TrainingSettings:
        """Return the settings of the training."""
        return TrainingSettings(
            layers=self.layers,
            width=self.width,
            epochs=self.epochs,
            warmup_epochs=self.warmup_epochs,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            batch_size=self.batch_size,
            contrastive=self.lambda_contrastive,
            tokens=self.lambda_tokens,
            directions=self.directions,
            scaling=self.errors,
            patience=self.patience,
        )
