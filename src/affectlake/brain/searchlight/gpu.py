"""The searchlight on a torch device, for a GPU. Requires only torch and NumPy.

Spheres, correlations, bins and ranks are those of the CPU kernels, computed for many spheres at a time: their patterns
are gathered and padded with zeros, which do not change the products; one batched matrix product gives the RSMs, one
scatter the counts, one gather the ranks, and one matrix product the comparison with all models.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from affectlake.brain.searchlight.spheres import Spheres
from affectlake.errors import UsageError

_BINS = 65536
_PAIRS_AT_ONCE = 1 << 26  # pairs of all spheres of a batch: about 1.5 GB of codes and ranks


class TorchSpheres:
    """Comparison of spheres with models on a torch device.

    Parameters
    ----------
    rows : float32 (n_voxels, n_stimuli)
        Patterns, one row per voxel.
    spheres : Spheres
    models : float32 (n_models, n_pairs)
        Centred ranks of length 1, pairs in the order of the lower triangle.
    least : int
        Minimum number of voxels of a sphere.
    exact : bool
        Whether to use exact ranks instead of counted ones.
    device : str
        A torch device.

    Raises
    ------
    UsageError
        If a CUDA device is requested and torch finds none.
    """

    def __init__(
        self,
        rows: NDArray[np.float32],
        spheres: Spheres,
        models: NDArray[np.float32],
        least: int,
        exact: bool,
        device: str,
    ) -> None:
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise UsageError(
                "brain.device is a CUDA device, and torch finds none",
                found=f"torch {torch.__version__}",
                todo="set brain.device to cpu, or install a CUDA build of torch and its driver",
            )
        self._device = torch.device(device)
        self._rows = torch.from_numpy(rows).to(self._device)
        self._grid = torch.from_numpy(spheres.grid).to(self._device).long()
        self._places = torch.from_numpy(spheres.places).to(self._device).long()
        self._offsets = torch.from_numpy(spheres.offsets).to(self._device).long()
        self._models = torch.from_numpy(models).to(self._device)
        self._least, self._exact = least, exact
        n = rows.shape[1]
        i, j = np.tril_indices(n, k=-1)
        self._pairs = torch.from_numpy(i * n + j).to(self._device)
        self._batch = max(1, _PAIRS_AT_ONCE // len(i))

    def run(self, centres: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return Spearman's correlation with every model: float32 (n_models, n_centres); NaN if not defined."""
        with torch.no_grad():
            parts = [self._run(torch.from_numpy(part).to(self._device).long()) for part in self._split(centres)]
            return torch.cat(parts).T.cpu().numpy()

    def _split(self, centres: NDArray[np.int32]) -> list[NDArray[np.int32]]:
        return [centres[first : first + self._batch] for first in range(0, len(centres), self._batch)]

    def _run(self, centres: torch.Tensor) -> torch.Tensor:
        units, defined = self._units(centres)  # (b, n, m)
        similar = torch.bmm(units, units.transpose(1, 2)).flatten(1)[:, self._pairs]  # (b, pairs)
        ranks, norms = self._exact_ranks(similar) if self._exact else self._counted_ranks(similar)
        found = (ranks @ self._models.T) / norms.unsqueeze(1).float()
        found[~(defined & (norms > 0))] = float("nan")
        return found

    def _units(self, centres: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the patterns of spheres (b, n, m), centred and of length 1, and which spheres have an RSM (b,)."""
        i, j, k = (self._places[centres].unsqueeze(1) + self._offsets).unbind(2)
        members = self._grid[i, j, k]  # (b, m), -1 where there is no voxel
        inside = (members >= 0).unsqueeze(2)
        count = inside.sum(1, keepdim=True)
        x = self._rows[members.clamp(min=0)]  # (b, m, n)
        far = torch.full((), float("inf"), device=self._device)
        varies = torch.where(inside, x, -far).amax(1) > torch.where(inside, x, far).amin(1)
        x = x * inside
        x = (x - x.sum(1, keepdim=True) / count.clamp(min=1)) * inside
        norms = x.square().sum(1, keepdim=True).sqrt()
        defined = (count.flatten() >= self._least) & varies.all(1) & (norms > 0).all(2).flatten()
        return (x / norms.clamp(min=torch.finfo(x.dtype).tiny)).transpose(1, 2).contiguous(), defined

    def _counted_ranks(self, similar: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return centred ranks (b, pairs) from 65,536 bins, and their norms (b,)."""
        codes = ((similar + 1.0) * 32767.5).to(torch.int64).clamp_(0, _BINS - 1)
        counts = torch.zeros((len(codes), _BINS), dtype=torch.int32, device=self._device)
        counts.scatter_add_(1, codes, torch.ones((), dtype=torch.int32, device=self._device).expand_as(codes))
        exact = counts.double()
        table = exact.cumsum(1) - 0.5 * (exact + 1.0) - 0.5 * (codes.shape[1] - 1)
        norms = (exact * table.square()).sum(1).sqrt()
        return table.float().gather(1, codes), norms

    @staticmethod
    def _exact_ranks(similar: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return centred ranks (b, pairs), with the mean rank for equal values, and their norms (b,)."""
        ordered = similar.sort(dim=1).values
        below = torch.searchsorted(ordered, similar, right=False)
        up_to = torch.searchsorted(ordered, similar, right=True)
        ranks = 0.5 * (below + up_to - 1).double() - 0.5 * (similar.shape[1] - 1)
        return ranks.float(), ranks.square().sum(1).sqrt()
