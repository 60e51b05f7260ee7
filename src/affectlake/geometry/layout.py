"""Two-dimensional layout of an embedding by t-SNE. Drawing does not belong here."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import AffectlakeError
from affectlake.process.blas_threads import one_thread

ANGLE = 0.7  # Barnes-Hut opening angle: a third faster than 0.5, with the same trustworthiness to three decimals


class Layout(NamedTuple):
    """Position of each stimulus in the layout.

    ``coordinates`` is float32 (n_stimuli, 2), or (0, 2) if there is no layout; ``perplexity`` is the value used;
    ``note`` says what was changed or why there is no layout, and is empty otherwise.
    """

    coordinates: NDArray[np.float32]
    perplexity: float
    note: str


def layout(weights: NDArray[np.floating], seed: int, perplexity: float = 30.0) -> Layout:
    """Lay out the stimuli in two dimensions by t-SNE, in a standard orientation.

    Barnes-Hut t-SNE (van der Maaten 2014, J. Mach. Learn. Res. 15, 3221-3245), initialised with the first two principal
    components and run on one thread, so that the result on one machine is always the same. The layout is centred,
    rotated to its principal axes (the longer one is horizontal) and reflected so that the third moment along each axis
    is positive. Distances between distant points of such a layout have little meaning.

    Parameters
    ----------
    weights : float array (n_stimuli, n_dimensions)
        The embedding.
    seed : int
        ``random_state`` of scikit-learn, 0 to 2**32 − 1.
    perplexity : float, default=30.0
        Approximate number of neighbours of a stimulus, above 0. At most (n_stimuli − 1) / 3 is used.

    Returns
    -------
    Layout
        Without coordinates if there are fewer than four stimuli, or all have the same weights.

    Raises
    ------
    AffectlakeError
        If the weights are not a matrix of finite numbers or the perplexity is not positive.
    """
    if weights.ndim != 2 or not np.isfinite(weights).all():
        raise AffectlakeError("the embedding is not a matrix of finite numbers", found=f"{weights.shape}")
    if not perplexity > 0:
        raise AffectlakeError("the perplexity is not positive", wanted="> 0", found=str(perplexity))
    n = len(weights)
    nowhere = np.empty((0, 2), np.float32)
    if n < 4:
        return Layout(nowhere, perplexity, f"no map: {n} stimuli, at least 4 are needed")
    if np.all(weights == weights[0]):
        return Layout(nowhere, perplexity, "no map: every stimulus has the same weights")

    used = min(perplexity, (n - 1) / 3)
    note = "" if used == perplexity else f"perplexity {used:.3g} instead of {perplexity:g}: there are {n} stimuli"
    return Layout(_oriented(_tsne(weights, seed, used)), used, note)


def _tsne(weights: NDArray[np.floating], seed: int, perplexity: float) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE

    columns = weights if weights.shape[1] > 1 else np.pad(weights, ((0, 0), (0, 1)))  # the initialisation needs two
    model = TSNE(n_components=2, init="pca", perplexity=perplexity, angle=ANGLE, random_state=seed, n_jobs=1)
    with one_thread():  # parallel sums differ in their last bits, which t-SNE amplifies
        return np.asarray(model.fit_transform(columns.astype(np.float64)), np.float64)


def _oriented(points: NDArray[np.float64]) -> NDArray[np.float32]:
    centred = points - points.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)  # increasing eigenvalues
    turned: NDArray[np.float64] = centred @ axes[:, ::-1]
    turned *= np.where((turned**3).sum(axis=0) < 0, -1.0, 1.0)
    return turned.astype(np.float32)
