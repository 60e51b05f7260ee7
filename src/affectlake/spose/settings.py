"""The settings of a SPoSE fit. No arithmetic here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from affectlake.validation import UNIQUE, Strict

Pruning = Literal["max-weight", "none"]
"""Which dimensions a fit keeps: a key of `affectlake.spose.pruning.RULES`."""

LARGEST_L1 = 0.06
"""Of a fit to few judgments. Above it weights fall to zero before they have found what they are for: with 20,000
judgments of 2,181 stimuli an embedding at l1 = 0.14 predicts nothing, at 0.014 six in ten."""

_SMALLEST_BATCH, _LARGEST_BATCH, _BATCHES_AN_EPOCH = 512, 8192, 24


class SharedSettings(Strict):
    """What a fit minimises and how, but for the sparsity: the settings that all agents of a study share.

    The objective is the mean cross-entropy of a batch (`affectlake.spose.model`) plus
    ``l1 / n_stimuli * sum(weights)``, with weights of at least 0. Adam is that of Kingma & Ba (2015).

    A `batch_size` that is a multiple of 64 is shuffled fastest; from 3/4 of all stimuli touched a batch
    (``1 - exp(-3 batch_size / n_stimuli)``) Adam steps every row, below it only those touched. At the paper's size the
    loss of rated categories is flat for 40 epochs and then falls again as dimensions change places; it ends at about
    epoch 250.
    """

    dimensions: int = Field(default=30, ge=1, description="How many the fit starts with.")
    batch_size: int = Field(default=1024, ge=1, description="Triplets a step.")
    max_epochs: int = Field(default=250, ge=1, description="At most so many passes over the training triplets.")
    patience: int = Field(
        default=40, ge=1, description="Stop after so many epochs in which the held-out loss did not fall by min_delta."
    )
    min_delta: float = Field(default=1e-5, ge=0, description="Nats by which the held-out loss has to fall.")
    learning_rate: float = Field(default=0.001, gt=0, description="Of Adam.")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="Of Adam: decay of the mean gradient.")
    beta2: float = Field(default=0.999, ge=0.9, lt=1, description="Of Adam: decay of the mean squared gradient.")
    epsilon: float = Field(default=1e-8, gt=0, description="Of Adam.")
    init_mean: float = Field(default=0.1, description="Start weights are drawn from N(init_mean, init_std).")
    init_std: float = Field(default=0.01, ge=0, description="Start weights below 0 are set to 0.")
    pruning: Pruning = Field(
        default="max-weight",
        description="max-weight keeps the dimensions whose largest weight is above the threshold; none keeps all.",
    )
    threshold: float = Field(default=0.1, ge=0, description="Of the pruning.")
    learn_lapses: bool = Field(
        default=False,
        description="Whether some judgments are taken for made by chance, and their share learned; in the published "
        "fits they are not.",
    )


class Settings(SharedSettings):
    """The settings of one fit.

    The published `l1`: 0.004 for rated categories, 0.005 for rated dimensions, 0.0025 for language models.
    """

    l1: float = Field(ge=0, description="Weight of the sparsity term.")


class FewJudgments(Strict):
    """How embeddings are fitted to few judgments, or to judgments that were chosen for what they tell.

    The l1 of a fit to m judgments of n stimuli is ``prior n / m``, so that a prior counts the same however many
    judgments there are, and at most `LARGEST_L1`. Which of the priors suits, the held-out judgments tell
    (`affectlake.spose.proposing.choose_settings`): noisy judgments want a high one, very few a low one. The others are
    as in :class:`Settings`.
    """

    priors: Annotated[tuple[Annotated[float, Field(gt=0)], ...], UNIQUE] = Field(
        default=(0.14, 1.4, 4.0),
        strict=False,
        min_length=1,
        description="Nats that a unit of weight may cost: rates of an exponential prior on each weight.",
        examples=[[0.14, 1.4, 4]],
        json_schema_extra={"uniqueItems": True},
    )
    learning_rate: float = Field(default=0.01, gt=0, description="Of Adam.")
    max_epochs: int = Field(default=500, ge=1, description="At most so many passes over the training triplets.")
    patience: int = Field(
        default=60, ge=1, description="Stop after so many epochs in which the held-out loss did not fall by min_delta."
    )
    min_delta: float = Field(default=1e-5, ge=0, description="Nats by which the held-out loss has to fall.")
    learn_lapses: bool = Field(
        default=True, description="Whether some judgments are taken for made by chance, and their share learned."
    )

    def candidates(self, base: Settings, n_judgments: int, n_stimuli: int) -> list[Settings]:
        """Return `base` with these in place of its own, once for each different l1, and some 24 batches an epoch."""
        batch = min(max(n_judgments // _BATCHES_AN_EPOCH, _SMALLEST_BATCH), _LARGEST_BATCH)
        strengths = sorted({min(prior * n_stimuli / n_judgments, LARGEST_L1) for prior in self.priors})
        return [
            base.replaced(
                l1=l1,
                batch_size=batch // 64 * 64,
                learning_rate=self.learning_rate,
                max_epochs=self.max_epochs,
                patience=self.patience,
                min_delta=self.min_delta,
                learn_lapses=self.learn_lapses,
            )
            for l1 in strengths
        ]
