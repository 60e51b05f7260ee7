"""Settings of the projector's training. Torch is not imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Schedule = Literal["cosine", "constant"]
Directions = Literal["sum", "mean"]
Scaling = Literal["elements", "rows"]


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of the training of the perceptron; the defaults are the paper's where it states a value.

    Parameters
    ----------
    layers, width : int
        Number of linear layers, and units of those before the last one. Each of them is followed by LayerNorm and GELU.
    epochs, warmup_epochs : int
        Largest number of epochs, and number of epochs in which the learning rate rises linearly from 0.
    learning_rate, weight_decay : float
        Of AdamW; without decay, it is Adam.
    schedule : {'cosine', 'constant'}
        Course of the learning rate after the warm-up: a half cosine to 0, or constant.
    batch_size : int
        Largest number of videos of a batch; batches differ by at most one video.
    contrastive, tokens : float
        λ₁ and λ₂ of equation 9.
    directions, scaling : str
        See :func:`affectlake.editing.losses.two_way_infonce` and :func:`affectlake.editing.losses.squared_error`.
    patience : int, optional
        Number of epochs without a lower loss on the stopping videos after which training ends; the epoch of the lowest
        loss is kept. None: all epochs, and the last one is kept, as in the paper.
    """

    layers: int = 5
    width: int = 768
    epochs: int = 600
    warmup_epochs: int = 50
    learning_rate: float = 2e-4
    weight_decay: float = 0.0
    schedule: Schedule = "cosine"
    batch_size: int = 128
    contrastive: float = 0.5
    tokens: float = 1.0
    directions: Directions = "sum"
    scaling: Scaling = "elements"
    patience: int | None = 40
