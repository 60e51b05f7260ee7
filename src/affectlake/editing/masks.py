"""Masks that confine an edit: latents outside keep the values of the inverted clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affectlake.editing.inversion import Keep
from affectlake.errors import UsageError


def mask_of_map(saliency: NDArray[np.floating], share: float = 0.5) -> NDArray[np.bool_]:
    """Return the smallest set of positions of each map that holds a share of its positive mass.

    Parameters
    ----------
    saliency : float (n_frames, height, width)
        Maps; negative values count as 0.
    share : float
        Above 0, at most 1.

    Returns
    -------
    bool (n_frames, height, width)
        A map without positive values gives an empty mask. Of equal values, the first in reading order are taken.

    Raises
    ------
    UsageError
        If `share` is not in its range.
    """
    if not 0 < share <= 1:
        raise UsageError("the share of a map's mass must be above 0 and at most 1", found=str(share))
    flat = np.maximum(saliency, 0).reshape(len(saliency), -1).astype(np.float64)
    order = np.argsort(-flat, axis=1, kind="stable")
    ordered = np.take_along_axis(flat, order, axis=1)
    before = np.cumsum(ordered, axis=1) - ordered
    inside = (before < share * flat.sum(axis=1, keepdims=True)) & (ordered > 0)
    mask = np.zeros_like(inside)
    np.put_along_axis(mask, order, inside, axis=1)
    return np.asarray(mask.reshape(saliency.shape))


def resize_mask(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """Return masks (n_frames, rows, columns) on a grid of `height` × `width`: a cell is inside if any part of it is."""
    rows, columns = mask.shape[1:]
    by_row = _overlaps(rows, height)  # (height, rows)
    by_column = _overlaps(columns, width)
    return np.asarray(np.einsum("hr,nrc,wc->nhw", by_row, mask.astype(np.int64), by_column) > 0)


def _overlaps(n_from: int, n_to: int) -> NDArray[np.int64]:
    start, end = np.arange(n_to) * n_from, (np.arange(n_to) + 1) * n_from
    own = np.arange(n_from) * n_to
    return ((own < end[:, None]) & (own + n_to > start[:, None])).astype(np.int64)


def keep_outside(path: Sequence[Tensor], mask: NDArray[np.bool_]) -> Keep:
    """Return what keeps the latents outside a mask at the values of the inverted clip.

    Parameters
    ----------
    path : sequence of Tensor
        Latents at each noise level, the clean ones first: ``Inverted.path``.
    mask : bool (n_frames, height, width)
        Where the edit is made, on the grid of the latents.

    Raises
    ------
    UsageError
        If the mask does not have the frames and the grid of the latents.
    """
    n_frames, _, *grid = path[0].shape
    if mask.shape != (n_frames, *grid):
        raise UsageError(
            "the mask does not fit the latents", wanted=str((n_frames, *grid)), found=str(tuple(mask.shape))
        )
    inside = torch.from_numpy(mask).to(path[0].device)[:, None]

    def keep(latents: Tensor, remaining: int) -> Tensor:
        return torch.where(inside, latents, path[remaining])

    return keep
