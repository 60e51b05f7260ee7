"""The settings of a SPoSE fit and their check. No arithmetic here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

from affectlake.errors import UsageError, nearest
from affectlake.spose.pruning import RULES

LARGEST_L1 = 0.06
"""Of a fit to few judgments. Above it weights fall to zero before they have found what they are for: with 20,000
judgments of 2,181 stimuli an embedding at l1 = 0.14 foretells nothing, at 0.014 six in ten."""

_SMALLEST_BATCH, _LARGEST_BATCH, _BATCHES_AN_EPOCH = 512, 8192, 24


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a fit minimises, and how.

    The objective is the mean cross-entropy of a batch (`affectlake.spose.model`) plus
    ``l1 / n_stimuli * sum(weights)``, with weights of at least 0.

    Attributes
    ----------
    l1 : float
        Weight of the sparsity term, at least 0. The published values: 0.004 for rated categories, 0.005 for rated
        dimensions, 0.0025 for language models.
    dimensions : int
        How many the fit starts with, at least 1.
    batch_size : int
        Triplets a step, at least 1. A multiple of 64 is shuffled fastest; from 3/4 of all stimuli touched a batch
        (``1 - exp(-3 batch_size / n_stimuli)``) Adam steps every row, below it only those touched.
    max_epochs : int
        At most so many passes over the training triplets, at least 1. At the paper's size the loss of rated categories
        is flat for 40 epochs and then falls again as dimensions change places; it ends at about 250.
    patience : int
        Stop after so many epochs in which the held-out loss did not fall by `min_delta`, at least 1.
    min_delta : float
        Nats, at least 0.
    learning_rate, beta1, beta2, epsilon : float
        Of Adam (Kingma & Ba 2015): above 0; 0 <= beta1 < 1; 0.9 <= beta2 < 1; above 0.
    init_mean, init_std : float
        Start weights are drawn from N(init_mean, init_std) and clipped at 0.
    pruning : {"max-weight", "none"}
        Which dimensions the result keeps: a key of `affectlake.spose.pruning.RULES`.
    threshold : float
        The rule's threshold, at least 0.
    learn_lapses : bool
        Whether the fit takes some judgments for made by chance, and learns which share (`affectlake.spose.model`). The
        published fits do not.
    """

    l1: float
    dimensions: int = 30
    batch_size: int = 1024
    max_epochs: int = 250
    patience: int = 40
    min_delta: float = 1e-5
    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    init_mean: float = 0.1
    init_std: float = 0.01
    pruning: str = "max-weight"
    threshold: float = 0.1
    learn_lapses: bool = False

    def __post_init__(self) -> None:
        for name, (kind, allowed, holds) in _LEGAL.items():
            value = getattr(self, name)
            if not _is(value, kind):
                raise _wrong(name, value, allowed, f"the {kind} `{name}`")
            if not holds(value):
                raise _wrong(name, value, allowed, f"a legal `{name}`")

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Settings:
        """Return the settings in a mapping such as a section of ``params.yaml``.

        Raises
        ------
        UsageError
            For a key that is not a setting, a missing one that has no default, a wrong type or an illegal value.
        """
        names = [field.name for field in fields(cls)]
        for key in params:
            if key not in names:
                raise UsageError(
                    f"SPoSE has no setting {key!r}.",
                    found=str(key),
                    allowed=", ".join(names),
                    todo=nearest(str(key), names) or "remove it, or use one of the allowed names",
                )
        for field in fields(cls):
            if field.default is MISSING and field.name not in params:
                raise UsageError(
                    f"The SPoSE setting `{field.name}` is missing.",
                    wanted=f"a value for `{field.name}`",
                    allowed=_LEGAL[field.name][1],
                    todo=f"add `{field.name}`; the paper used l1 = 0.004, 0.005 and 0.0025",
                )
        return cls(**params)


@dataclass(frozen=True, kw_only=True)
class FewJudgments:
    """How embeddings are fitted to few judgments, or to judgments that were chosen for what they tell.

    Attributes
    ----------
    priors : tuple of float
        Nats that a unit of weight may cost, each above 0: rates of an exponential prior on each weight. The l1 of a fit
        to m judgments of n stimuli is ``prior n / m``, so that the prior counts the same however many judgments there
        are, and at most `LARGEST_L1`. Which of them suits, the held-out judgments tell
        (`affectlake.spose.proposing.choose_settings`): noisy judgments want a high one, very few a low one.
    learning_rate, max_epochs, patience, min_delta, learn_lapses
        As in :class:`Settings`.
    """

    priors: tuple[float, ...] = (0.14, 1.4, 4.0)
    learning_rate: float = 0.01
    max_epochs: int = 500
    patience: int = 60
    min_delta: float = 1e-5
    learn_lapses: bool = True

    def candidates(self, base: Settings, n_judgments: int, n_stimuli: int) -> list[Settings]:
        """Return `base` with these in place of its own, once for each different l1, and some 24 batches an epoch."""
        batch = min(max(n_judgments // _BATCHES_AN_EPOCH, _SMALLEST_BATCH), _LARGEST_BATCH)
        strengths = sorted({min(prior * n_stimuli / n_judgments, LARGEST_L1) for prior in self.priors})
        return [
            replace(
                base,
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


def _is(value: object, kind: str) -> bool:
    if kind == "text":
        return isinstance(value, str)
    if isinstance(value, bool) or kind == "flag":
        return isinstance(value, bool) and kind == "flag"
    if kind == "integer":
        return isinstance(value, int)
    return isinstance(value, int | float) and math.isfinite(value)


def _wrong(name: str, value: object, allowed: str, wanted: str) -> UsageError:
    return UsageError(
        f"The SPoSE setting `{name}` cannot be {value!r}.",
        wanted=wanted,
        found=f"{type(value).__name__} {value!r}",
        allowed=allowed,
        todo=f"change `{name}`" + (f"; {hint}" if (hint := nearest(str(value), RULES)) and name == "pruning" else ""),
    )


_COUNT = ("integer", "an integer of at least 1", lambda value: value >= 1)
_AMOUNT = ("number", "a number of at least 0", lambda value: value >= 0)
_POSITIVE = ("number", "a number above 0", lambda value: value > 0)
_SHARE = ("number", "a number from 0 to below 1", lambda value: 0 <= value < 1)
_LEGAL: dict[str, tuple[str, str, Any]] = {
    "l1": _AMOUNT,
    "dimensions": _COUNT,
    "batch_size": _COUNT,
    "max_epochs": _COUNT,
    "patience": _COUNT,
    "min_delta": _AMOUNT,
    "learning_rate": _POSITIVE,
    "beta1": _SHARE,
    "beta2": ("number", "a number from 0.9 to below 1", lambda value: 0.9 <= value < 1),
    "epsilon": _POSITIVE,
    "init_mean": ("number", "a finite number", lambda _: True),
    "init_std": _AMOUNT,
    "pruning": ("text", ", ".join(RULES), lambda value: value in RULES),
    "threshold": _AMOUNT,
    "learn_lapses": ("flag", "true, false", lambda _: True),
}
