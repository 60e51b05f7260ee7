"""Settings of a SPoSE fit. Arithmetic does not belong here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from affectlake.validation import UNIQUE, Strict

Pruning = Literal["max-weight", "none"]
"""Rule that selects the dimensions of a fit: a key of `affectlake.spose.pruning.RULES`."""

Schedule = Literal["constant", "cosine"]
"""Learning rate by epoch: a key of `affectlake.spose.schedules.SCHEDULES`."""

LARGEST_L1 = 0.06
"""Largest l1 of a fit to few judgments. Above it, weights shrink to zero before they have adapted: with 20,000
judgments of 2,181 stimuli, an embedding with l1 = 0.14 predicts nothing, with 0.014 six in ten judgments."""

_SMALLEST_BATCH, _LARGEST_BATCH = 512, 8192
_BATCHES_AN_EPOCH, _BATCHES_A_CYCLE = 24, 1200
_FALL = 100  # of the learning rate in a cycle

CYCLE_EPOCHS = (
    "Epochs of a cycle in which the learning rate falls to a hundredth; a cycle has about 1,200 batches, and the rate "
    "rises at the start of the first one. null: a constant rate."
)
"""Description of the setting `cycle_epochs`."""


def in_cycles(learning_rate: float, cycle_epochs: int, n_judgments: int) -> dict[str, Any]:
    """Return the settings of a fit whose learning rate falls to a hundredth in cycles of `cycle_epochs` epochs.

    Parameters
    ----------
    learning_rate : float
        That of the first epoch of a cycle.
    cycle_epochs : int
    n_judgments : int
        Number of judgments to learn from; a cycle has about 1,200 batches of 512 to 8,192 of them.
    """
    return {
        "batch_size": _batch_size(n_judgments * cycle_epochs // _BATCHES_A_CYCLE),
        "schedule": "cosine",
        "learning_rate": learning_rate,
        "final_learning_rate": learning_rate / _FALL,
        "convergence_epochs": cycle_epochs,
        "warmup_epochs": cycle_epochs * 4 // 5,
    }


def _batch_size(wanted: int) -> int:
    return min(max(wanted, _SMALLEST_BATCH), _LARGEST_BATCH) // 64 * 64


class SharedSettings(Strict):
    """Settings of a fit that are shared by all agents of a study: all except the weight of the sparsity term.

    The objective is the mean cross-entropy of a batch (`affectlake.spose.model`) plus
    ``l1 / n_stimuli * sum(weights)``, with weights of at least 0. Adam is that of Kingma & Ba (2015).

    Shuffling is fastest if `batch_size` is a multiple of 64. If a batch contains at least 3/4 of the stimuli
    (``1 - exp(-3 batch_size / n_stimuli)``), Adam updates every row, otherwise only the rows in the batch.

    With high learning rates, the first steps of Adam can set all weights of a dimension to zero, from which it never
    returns; a rising rate (`warmup_epochs`) prevents this (`docs/fits.md`).

    A fit ends when it has converged (`affectlake.spose.convergence`), and its weights are those of the last epoch. With
    a cosine schedule, `max_epochs` should be a multiple of `convergence_epochs`. With `patience`, a fit ends earlier
    when the validation loss no longer falls, and its weights are those of the epoch with the lowest one: this
    regularises fits to few judgments. Fits to many judgments overfit little, and their validation loss is flat long
    before the sparsity term has found the dimensions.
    """

    dimensions: int = Field(default=30, ge=1, description="Number of dimensions at the start of the fit.")
    batch_size: int = Field(default=1024, ge=1, description="Triplets per step.")
    max_epochs: int = Field(default=1000, ge=1, description="Maximum number of passes over the training triplets.")
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Epochs without a fall of the validation loss by min_delta before stopping; null: no such stop.",
    )
    min_delta: float = Field(
        default=1e-5, ge=0, description="Smallest fall of the validation loss that counts, in nats."
    )
    convergence_epochs: int = Field(
        default=50, ge=1, description="Epochs between checks of convergence, and of one cycle of a cosine schedule."
    )
    schedule: Schedule = Field(
        default="constant",
        description="constant: one learning rate; cosine: it falls to final_learning_rate and starts again in cycles.",
    )
    learning_rate: float = Field(
        default=0.001, gt=0, description="Learning rate of Adam; of a cosine, that of the first epoch of each cycle."
    )
    final_learning_rate: float = Field(
        default=0.0002, gt=0, description="Learning rate of the last epoch of each cycle of a cosine schedule."
    )
    warmup_epochs: int = Field(
        default=0, ge=0, description="Epochs at the start of a fit in which the learning rate rises; 0: none."
    )
    beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay of Adam's mean gradient.")
    beta2: float = Field(default=0.999, ge=0.9, lt=1, description="Decay of Adam's mean squared gradient.")
    epsilon: float = Field(default=1e-8, gt=0, description="Epsilon of Adam.")
    init_mean: float = Field(default=0.1, description="Mean of the normal distribution of initial weights.")
    init_std: float = Field(default=0.01, ge=0, description="Its standard deviation; weights below 0 are set to 0.")
    pruning: Pruning = Field(
        default="max-weight",
        description="max-weight keeps the dimensions whose largest weight is above the threshold; none keeps all.",
    )
    threshold: float = Field(default=0.1, ge=0, description="Threshold of the pruning rule.")
    learn_lapses: bool = Field(
        default=False,
        description="Whether to learn the share of judgments made by chance; the published fits do not.",
    )


class Settings(SharedSettings):
    """Settings of one fit.

    The published values of `l1`: 0.004 for rated categories, 0.005 for rated dimensions, 0.0025 for language models.
    """

    l1: float = Field(ge=0, description="Weight of the sparsity term.")


class FewJudgments(Strict):
    """Settings of fits to few judgments, or to judgments of informative triplets.

    The l1 of a fit to m judgments of n stimuli is ``prior n / m``, at most `LARGEST_L1`, so that a prior has the same
    relative weight for any number of judgments. The prior is selected by the validation judgments
    (`affectlake.spose.proposing.choose_settings`): noisy judgments require a high prior, very few judgments a low one.
    With `init_stds`, so is the spread of the initial weights: with nearly equal ones, fits to many stimuli with many
    dimensions lose some, and with spread ones, fits to few judgments of each stimulus predict less (`docs/fits.md`).
    The other settings are those of :class:`Settings`.
    """

    priors: Annotated[tuple[Annotated[float, Field(gt=0)], ...], UNIQUE] = Field(
        default=(0.14, 1.4, 4.0),
        strict=False,
        min_length=1,
        description="Candidate rates of an exponential prior on each weight, in nats per unit of weight.",
        examples=[[0.14, 1.4, 4]],
        json_schema_extra={"uniqueItems": True},
    )
    init_stds: Annotated[tuple[Annotated[float, Field(ge=0)], ...], UNIQUE] | None = Field(
        default=None,
        strict=False,
        min_length=1,
        description="Candidate standard deviations of the initial weights, in place of init_std; null: init_std alone.",
        examples=[[0.01, 0.1]],
        json_schema_extra={"uniqueItems": True},
    )
    learning_rate: float = Field(
        default=0.01, gt=0, description="Learning rate of Adam; with cycle_epochs, that of the first epoch of a cycle."
    )
    cycle_epochs: int | None = Field(default=None, ge=2, description=CYCLE_EPOCHS)
    max_epochs: int = Field(default=500, ge=1, description="Maximum number of passes over the training triplets.")
    patience: int = Field(
        default=60,
        ge=1,
        description="Epochs without a fall of the validation loss by min_delta before stopping.",
    )
    min_delta: float = Field(
        default=1e-5, ge=0, description="Smallest fall of the validation loss that counts, in nats."
    )
    learn_lapses: bool = Field(default=True, description="Whether to learn the share of judgments made by chance.")

    def candidates(self, base: Settings, n_judgments: int, n_stimuli: int) -> list[Settings]:
        """Return `base` with these settings, once for each different l1 and initial spread."""
        steps = (
            {
                "batch_size": _batch_size(n_judgments // _BATCHES_AN_EPOCH),
                "schedule": "constant",
                "learning_rate": self.learning_rate,
                "warmup_epochs": 0,
            }
            if self.cycle_epochs is None
            else in_cycles(self.learning_rate, self.cycle_epochs, n_judgments)
        )
        strengths = sorted({min(prior * n_stimuli / n_judgments, LARGEST_L1) for prior in self.priors})
        return [
            base.replaced(
                **steps,
                l1=l1,
                init_std=init_std,
                max_epochs=self.max_epochs,
                patience=self.patience,
                min_delta=self.min_delta,
                learn_lapses=self.learn_lapses,
            )
            for l1 in strengths
            for init_std in self.init_stds or (base.init_std,)
        ]
