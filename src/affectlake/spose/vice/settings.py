"""Settings of a fit of variational SPoSE. Arithmetic does not belong here."""

from __future__ import annotations

from pydantic import Field

from affectlake.validation import Strict

_BATCHES_A_CYCLE = 1200
_SMALLEST_BATCH, _LARGEST_BATCH = 256, 8192


class ViceSettings(Strict):
    """Settings of a fit.

    The objective is the mean cross-entropy of a batch under one sample of the weights plus (log q - log p) / m of this
    sample, with the posterior q, the prior p = ``spike_share N(0, spike²) + (1 - spike_share) N(0, slab²)`` of each
    weight before negative weights become 0, and m judgments. Defaults of the prior, of `dimensions`, `min_stimuli` and
    `level` are those of the published code; the learning rate falls to a hundredth in cycles, in place of a constant
    rate of 0.001 for at least 500 epochs.
    """

    dimensions: int = Field(default=100, ge=1, description="Number of dimensions at the start of the fit.")
    spike: float = Field(default=0.25, gt=0, description="Standard deviation of the spike of the prior.")
    slab: float = Field(default=1.0, gt=0, description="Standard deviation of the slab of the prior.")
    spike_share: float = Field(default=0.5, gt=0, lt=1, description="Weight of the spike in the prior.")
    min_stimuli: int = Field(
        default=5, ge=0, description="A dimension is kept if it describes more than this number of stimuli."
    )
    level: float = Field(
        default=0.05, gt=0, lt=1, description="False discovery rate at which a weight is above zero (per dimension)."
    )
    learning_rate: float = Field(default=0.04, gt=0, description="Learning rate of Adam in the first epoch of a cycle.")
    cycle_epochs: int = Field(
        default=20, ge=2, description="Epochs of a cycle, in which the learning rate falls to a hundredth."
    )
    max_epochs: int = Field(default=600, ge=1, description="Maximum number of passes over the training judgments.")
    init_mean: float = Field(default=0.1, description="Mean of the normal distribution of the initial means.")
    init_std: float = Field(default=0.1, ge=0, description="Its standard deviation; means below 0 are set to 0.")
    init_sd: float = Field(default=0.05, gt=0, description="Initial standard deviation of each weight's posterior.")

    def batch_size(self, n_judgments: int) -> int:
        """Return the judgments per step: about 1,200 steps in a cycle, 256 to 8,192 judgments, a multiple of 64."""
        wanted = n_judgments * self.cycle_epochs // _BATCHES_A_CYCLE
        return min(max(wanted, _SMALLEST_BATCH), _LARGEST_BATCH) // 64 * 64
