"""Grad-CAM of linear readouts: which positions of a layer's map contribute to the value that is read from a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Grid = Callable[[torch.Tensor], torch.Tensor]
"""Takes a layer's output, and returns it as (n, n_channels, height, width)."""

Passed = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Takes inputs, and returns features (n, n_features) and the output of the layer, of which they are a function."""


def gradient_maps(passed: Passed, grid: Grid, inputs: torch.Tensor, weights: torch.Tensor) -> tuple[Any, Any]:
    """Return the Grad-CAM maps of several readouts for a batch of pictures.

    The readout a_j = w_j · f + b_j of the features f, and the output A of a layer with positions p and channels c, give
    the map Σ_c α_c A_c(p) with α_c the mean over positions of ∂a_j / ∂A_c(p). The maps are neither rectified nor
    scaled, so that those of different readouts and pictures can be compared. If f is the mean of A over its positions,
    the map sums to a_j − b_j.

    Parameters
    ----------
    passed : callable
        Runs the network, such as :class:`affectlake.encoders.taps.Tap` with its forward pass.
    grid : callable
        Takes the layer's output, and returns its positions.
    inputs : torch.Tensor
        Inputs of n pictures. The maps of one do not depend on the others.
    weights : torch.Tensor (n_readouts, n_features)
        The readouts; each map depends on its own alone.

    Returns
    -------
    torch.Tensor (n, n_readouts, height, width)
        The maps.
    torch.Tensor (n, n_features)
        The features.

    Notes
    -----
    Selvaraju et al. 2017, 'Grad-CAM', equations 1 and 2, without their rectification.
    """
    features, output = passed(inputs)
    values = grid(output.detach())
    maps = []
    for one in weights:
        (gradient,) = torch.autograd.grad((features @ one).sum(), output, retain_graph=True)
        channel = grid(gradient).mean(dim=(2, 3), keepdim=True)  # α, (n, n_channels, 1, 1)
        maps.append((channel * values).sum(dim=1))
    return torch.stack(maps, dim=1), features.detach()


def pooled_maps(passed: Passed, grid: Grid, inputs: torch.Tensor, weights: torch.Tensor) -> tuple[Any, Any]:
    """Return the maps of :func:`gradient_maps` of a network whose features are the mean of the map: no gradient needed.

    α_c is then w_jc divided by the number of positions (Zhou et al. 2016, class activation maps).

    Parameters
    ----------
    passed, grid, inputs, weights
        As for :func:`gradient_maps`.
    """
    features, output = passed(inputs)
    values = grid(output.detach())
    n_positions = values.shape[2] * values.shape[3]
    return torch.einsum("nchw,jc->njhw", values, weights) / n_positions, features.detach()
