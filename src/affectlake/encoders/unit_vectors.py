"""Vectors scaled to length 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import SourceError


def unit_vectors(vectors: NDArray[np.float64], lost_for: str, todo: str) -> NDArray[np.float32]:
    """Return the rows of `vectors` (n_stimuli, n_features) scaled to length 1.

    Parameters
    ----------
    vectors : float64 (n_stimuli, n_features)
        One vector per stimulus.
    lost_for : str
        Description of what such stimuli have, for the message.
    todo : str
        What the user should do, for the message.

    Raises
    ------
    SourceError
        If rows are zero or not finite.
    """
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    lost = np.flatnonzero(~(np.isfinite(length) & (length > 1e-10)))
    if len(lost):
        raise SourceError(
            f"{len(lost):,} of {len(vectors):,} stimuli have {lost_for}",
            found=f"stimulus_index {', '.join(map(str, lost[:5]))}",
            todo=todo,
        )
    return np.asarray(vectors / length, dtype=np.float32)
