"""Informative triplets: the expected information of an answer, given the judgments so far.

Arrays in, arrays out. Several embeddings are fitted to the available judgments; they differ where the judgments do not
determine the embedding. With p_s the choice probabilities under embedding s, the *expected information* of a triplet is

    I = H(mean_s p_s) - mean_s H(p_s)    (nats, 0 to log 3),

the mutual information of answer and embedding (Houlsby et al. 2011, 'Bayesian active learning by disagreement'). A
triplet whose three answers are equally likely under all embeddings has no information, so an agent that answers by
chance is not asked the same triplets again and again. Which triplets exist, and who is asked, do not belong here.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import SamplingError
from affectlake.spose.curve import Epoch
from affectlake.spose.data import TrainingData, training_data
from affectlake.spose.fitting import Fit, fit, fit_seeds
from affectlake.spose.model import check
from affectlake.spose.settings import Settings
from affectlake.spose.state import LANES, aligned_rows


def choose_settings(
    data: TrainingData, candidates: list[Settings], rng: np.random.Generator, workers: int = 1
) -> Settings:
    """Return the candidate whose fit has the lowest validation loss; a single candidate is returned without a fit.

    Parameters
    ----------
    data : TrainingData
    candidates : list of Settings
        One or more, for example from `affectlake.spose.settings.FewJudgments.candidates`.
    rng : numpy.random.Generator
        Draws the initial weights, the same for all candidates.
    workers : int, default=1
        Number of fits at a time.
    """
    if len(candidates) == 1:
        return candidates[0]
    return candidates[_best(_fit_all(data, candidates, int(rng.integers(2**31)), workers))]


def _fit_all(data: TrainingData, candidates: list[Settings], root: int, workers: int) -> list[Fit]:
    with ThreadPoolExecutor(workers, thread_name_prefix="candidates") as pool:
        return list(pool.map(lambda one: fit(data, one, np.random.default_rng(root)), candidates))


def _best(fits: list[Fit]) -> int:
    return int(np.argmin([one.score.loss for one in fits]))


def fit_members(
    train: NDArray[np.int32],
    validation: NDArray[np.int32],
    n_stimuli: int,
    candidates: list[Settings],
    rng: np.random.Generator,
    n_members: int,
    workers: int = 1,
    on_epoch: Callable[[int, Epoch], None] | None = None,
) -> tuple[list[Fit], Settings]:
    """Fit several embeddings to the same judgments, from different initial weights.

    Parameters
    ----------
    train, validation : (m, 3) int32
        Judgments for learning and for early stopping: the two similar stimuli, then the odd one.
    n_stimuli : int
    candidates : list of Settings
        For example from :meth:`~affectlake.spose.settings.FewJudgments.candidates`. The one whose fit has the lowest
        validation loss is used, and this fit is the first embedding. No dimension is pruned.
    rng : numpy.random.Generator
        Orders the judgments and draws the initial weights.
    n_members : int
        Number of embeddings, at least 2.
    workers : int, default=1
        Number of fits at a time.
    on_epoch : callable, optional
        Called with the number of the embedding and each row of its learning curve, from the thread of the fit.

    Returns
    -------
    fits : list of Fit
        Not pruned, all of the same shape.
    settings : Settings
        The selected settings.
    """
    data = training_data(train, validation, n_stimuli, rng)
    root = int(rng.integers(2**31))
    tried = _fit_all(data, [one.replaced(pruning="none") for one in candidates], root, workers)
    best = _best(tried)
    settings = candidates[best].replaced(pruning="none")
    others = range(1, n_members)
    found = fit_seeds(data, settings, root, others, names=("proposals",), workers=workers, on_epoch=on_epoch)
    return [tried[best], *found.values()], settings


def expected_information(
    members: list[NDArray[np.float32]], triplets: NDArray[np.int32], lapse: float = 0.0
) -> NDArray[np.float32]:
    """Return the expected information of the answer to each triplet about the embedding: (m,) float32, nats.

    Parameters
    ----------
    members : list of (n_stimuli, d) float32
        At least two embeddings of the same shape.
    triplets : (m, 3) int32, m >= 1
        Stimulus indices in any order.
    lapse : float
        Lapse rate: the share of judgments that the agent makes by chance, from 0 to below 1. Such answers have no
        information.

    Raises
    ------
    ValueError
        If a shape, a dtype or an index is not as above.
    """
    from affectlake.spose import kernels

    if len(members) < 2 or len({one.shape for one in members}) != 1:
        raise ValueError(f"wanted at least two embeddings of one shape, found {[one.shape for one in members]}")
    for one in members:
        check(one, triplets)
    n_stimuli, d = members[0].shape
    rows = aligned_rows(len(members) * n_stimuli, -(-d // LANES) * LANES)
    stacked = rows.reshape(len(members), n_stimuli, -1)
    stacked[:, :, :d] = members
    out = np.empty(len(triplets), np.float32)
    kernels.information(stacked, np.ascontiguousarray(triplets), lapse, out)
    return out


def draw_informative(
    information: NDArray[np.float32], n: int, share: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw `n` triplets at random from the most informative `share`; return their indices in increasing order.

    The most informative triplets are largely redundant with one another. A random part of the best ones is nearly as
    informative per triplet, and much more informative as a set.

    Parameters
    ----------
    information : (m,) float32
        From :func:`expected_information`.
    n : int
        Number of triplets, 0 to m.
    share : float
        Above 0, at most 1. If the share has fewer than `n` triplets, the `n` best are drawn.
    rng : numpy.random.Generator

    Raises
    ------
    SamplingError
        If `n` is negative or greater than m, or `share` is not a proportion.
    """
    if not 0 <= n <= len(information) or not 0 < share <= 1:
        raise SamplingError(
            f"cannot draw {n:,} of the best {share:g} of {len(information):,} triplets",
            allowed=f"0 to {len(information):,} triplets, a share above 0 and at most 1",
        )
    n_best = max(n, int(share * len(information)))
    mixed = rng.permutation(len(information))  # so that ties are broken at random
    if n_best < len(information):
        mixed = mixed[np.argpartition(-information[mixed], n_best)[:n_best]]
    return np.sort(rng.choice(mixed, n, replace=False)).astype(np.int64)
