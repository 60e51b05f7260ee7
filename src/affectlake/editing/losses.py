"""The losses of the projector (Du et al. 2025, equations 5 to 9), in torch.

`B` is the batch size, and `s` the cosine similarity. What differs from the paper is said in each function.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from affectlake.editing.settings import Directions, Scaling

TEMPERATURE = 0.07
"""The temperature at which learning starts (Radford et al. 2021, section 2.5); the paper does not state one."""

LARGEST_SCALE = 100.0
"""The upper bound of 1 / temperature (Radford et al. 2021, section 2.5); the paper does not state one."""


class Temperature(nn.Module):
    """A learned temperature: the parameter is log(1 / temperature), and 1 / temperature is at most `LARGEST_SCALE`."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / TEMPERATURE)))

    def forward(self) -> Tensor:
        """Return the temperature, from 0.01."""
        return torch.exp(-self.log_scale)

    @torch.no_grad()
    def clip(self) -> None:
        """Bring the parameter back within its bound; call it after each step of the optimiser, as CLIP does."""
        self.log_scale.clamp_(max=math.log(LARGEST_SCALE))


def two_way_infonce(
    predicted: Tensor, target: Tensor, temperature: Tensor | float, directions: Directions = "sum"
) -> Tensor:
    """Return equation 6: the cross-entropy of finding each row's partner, in both directions.

    Parameters
    ----------
    predicted, target : torch.Tensor (B, d)
        Representations of the same B videos, of any length; none may be zero.
    temperature : torch.Tensor or float
        The temperature τ, above 0.
    directions : {'sum', 'mean'}
        ``sum`` is equation 6 as printed: for each pair, the sum of both directions, which is twice the loss of CLIP.
        ``mean`` is CLIP's loss, (predicted → target + target → predicted) / 2. With λ₁ = 0.5 in equation 9, the
        paper's ``sum`` weighs each of the two terms of equation 5 as ``mean`` does with λ₁ = 1.

    Returns
    -------
    torch.Tensor
        A scalar in nats. Chance is 2 log B for ``sum`` and log B for ``mean``.

    Notes
    -----
    Every other video of the batch is a negative, also one with the same embedding or caption: m copies of a video in a
    batch cannot bring their loss below 2 log m (``sum``).
    """
    logits = nn.functional.normalize(predicted, dim=1) @ nn.functional.normalize(target, dim=1).T / temperature
    partner = torch.arange(len(predicted), device=predicted.device)
    forward = nn.functional.cross_entropy(logits, partner)
    backward = nn.functional.cross_entropy(logits.T, partner)
    return (forward + backward) * (1.0 if directions == "sum" else 0.5)


def squared_error(predicted: Tensor, target: Tensor, scaling: Scaling = "elements") -> Tensor:
    """Return the squared error of equations 7 and 8.

    Parameters
    ----------
    predicted, target : torch.Tensor (B, …)
        Of the same shape.
    scaling : {'elements', 'rows'}
        ``elements``: the mean over all elements. ``rows``: the squared norm of each row, as the equations are printed,
        averaged over the batch; it is larger by the number of elements of a row, so that the 59,136 elements of
        equation 8 outweigh the other terms.
    """
    squares = (predicted - target).square()
    return squares.mean() if scaling == "elements" else squares.flatten(1).sum(dim=1).mean()


class Terms(NamedTuple):
    """The terms of equation 9, each a scalar, and their sum `total`. Terms without data are 0."""

    vision: Tensor
    language: Tensor
    joint_error: Tensor
    token_error: Tensor
    total: Tensor


class Targets(NamedTuple):
    """What a batch of videos is to be mapped to; None: there is no such modality.

    Parameters
    ----------
    language : torch.Tensor (B, d)
        Text features, of length 1.
    vision : torch.Tensor (B, d), optional
        Image features in the same space.
    scores : torch.Tensor (B, k), optional
        Token features as scores of principal components (:mod:`affectlake.editing.tokens`).
    """

    language: Tensor
    vision: Tensor | None = None
    scores: Tensor | None = None


def composite(
    joint: Tensor,
    scores: Tensor | None,
    targets: Targets,
    temperature: Tensor | float,
    *,
    contrastive: float = 0.5,
    tokens: float = 1.0,
    directions: Directions = "sum",
    scaling: Scaling = "elements",
    n_token_elements: int = 1,
    unexplained: float = 0.0,
) -> Terms:
    """Return equation 9: L = L_proj1 + λ₁ L_CLIP + λ₂ L_proj2, with L_CLIP of equation 5.

    Parameters
    ----------
    joint : torch.Tensor (B, d)
        The projector's output f_proj.
    scores : torch.Tensor (B, k), optional
        Its token head's output, as scores of principal components.
    targets : Targets
        What it is compared with.
    temperature : torch.Tensor or float
        τ of equation 6.
    contrastive, tokens : float
        λ₁ and λ₂.
    directions, scaling : str
        See :func:`two_way_infonce` and :func:`squared_error`.
    n_token_elements : int
        Number of elements of a video's token features, by which ``elements`` divides the token error.
    unexplained : float
        Mean squared norm of the token features outside the components, which no projector changes; it is added, so
        that the term is that of equation 8 for the whole features.
    """
    zero = joint.new_zeros(())
    language = two_way_infonce(joint, targets.language, temperature, directions)
    vision = zero if targets.vision is None else two_way_infonce(joint, targets.vision, temperature, directions)
    joint_error = squared_error(joint, targets.language, scaling)
    token_error = zero
    if scores is not None and targets.scores is not None:
        token_error = squared_error(scores, targets.scores, "rows") + unexplained
        token_error = token_error / n_token_elements if scaling == "elements" else token_error
    total = joint_error + contrastive * (vision + language) + tokens * token_error
    return Terms(vision, language, joint_error, token_error, total)
