"""Token features of captions in principal components, in which squared errors are those of the whole features.

Equation 8 of Du et al. 2025 maps to all 77 × 768 token features by a matrix of 45 million weights. A squared error does
not change under a rotation, so that the leading principal components give the same loss, up to a constant: the variance
outside the components, which is reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class TokenBasis:
    """Principal components of token features.

    Parameters
    ----------
    mean : float32 (n_positions, width)
        Mean of the token features over the videos from which the components were computed.
    components : float32 (k, n_positions * width)
        Orthonormal rows, in descending order of their variance.
    explained : float
        Share of the variance that the components hold, from 0 to 1; 1 if there is none.
    unexplained : float
        Mean over those videos of the squared norm outside the components.
    """

    mean: FloatArray
    components: FloatArray
    explained: float
    unexplained: float

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of token positions and features of each."""
        return self.mean.shape[0], self.mean.shape[1]

    def scores(self, tokens: NDArray[np.floating]) -> FloatArray:
        """Return the scores (n, k) of token features (n, n_positions, width)."""
        centred = tokens.reshape(len(tokens), -1).astype(np.float64) - self.mean.ravel()
        return (centred @ self.components.T.astype(np.float64)).astype(np.float32)

    def tokens(self, scores: NDArray[np.floating]) -> FloatArray:
        """Return the token features (n, n_positions, width) of scores (n, k)."""
        flat = scores.astype(np.float64) @ self.components.astype(np.float64) + self.mean.ravel()
        return flat.astype(np.float32).reshape(len(scores), *self.shape)


def token_basis(tokens: NDArray[np.floating], n_components: int) -> TokenBasis:
    """Compute the principal components of token features from the Gram matrix of the videos.

    Parameters
    ----------
    tokens : float (n, n_positions, width)
        Token features of the training videos, at least 2. The Gram matrix (n, n) is computed in double precision.
    n_components : int
        Largest number of components; at most n - 1 differ from zero, and those of no variance are left out.

    Returns
    -------
    TokenBasis
        With at least one component.
    """
    n, positions, width = tokens.shape
    mean = tokens.mean(axis=0, dtype=np.float64)
    centred = tokens.reshape(n, -1).astype(np.float64) - mean.ravel()
    values, vectors = np.linalg.eigh(centred @ centred.T)
    values, vectors = values[::-1], vectors[:, ::-1]
    total = float(np.square(centred).sum())
    n_nonzero = int((values > max(total, 1e-30) * 1e-12).sum())
    kept = max(1, min(n_components, n - 1, n_nonzero))
    directions = vectors[:, :kept].T @ centred
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    components = directions / np.where(lengths > 0, lengths, 1)
    strongest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    components = components * np.where(strongest < 0, -1, 1)
    held = float(np.square(centred @ components.T).sum())
    explained = min(1.0, held / total) if total else 1.0
    return TokenBasis(
        mean.astype(np.float32).reshape(positions, width),
        components.astype(np.float32),
        explained,
        max(0.0, total - held) / n,
    )


def position_r2(
    predicted: NDArray[np.floating], actual: NDArray[np.floating], mean: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return R² of each token position over held-out videos.

    Parameters
    ----------
    predicted, actual : float (n, n_positions, width)
        Token features.
    mean : float (n_positions, width)
        Mean token features of the *training* videos, the best prediction without an embedding.

    Returns
    -------
    float64 (n_positions,)
        1 - Σ(actual - predicted)² / Σ(actual - mean)²; negative if the mean predicts better; NaN where the features do
        not vary, as at the token that begins every text.
    """
    wrong = np.square(actual.astype(np.float64) - predicted).sum(axis=(0, 2))
    total = np.square(actual.astype(np.float64) - mean).sum(axis=(0, 2))
    varies = total > 1e-9 * np.maximum(np.square(actual.astype(np.float64)).sum(axis=(0, 2)), 1e-300)
    return np.where(varies, 1 - wrong / np.where(varies, total, 1), np.nan)


def medoid(vectors: NDArray[np.floating]) -> int:
    """Return the row of unit vectors (n, d) nearest their mean; of equals, the first.

    The tokens of a video are those of one caption: a mean over captions would mix words at the same position. The paper
    does not say which of the 20 captions it uses.
    """
    return int(np.argmax(np.round(vectors.astype(np.float64) @ vectors.mean(axis=0, dtype=np.float64), 9)))
