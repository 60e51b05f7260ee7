"""Which triplets to ask next: those about whose answer the judgments so far say least.

Arrays in, arrays out. Several embeddings are fitted to the judgments at hand, which differ where these leave room. The
*expected information* of a triplet is what its answer is expected to tell about which of them is right: with p_s the
choice probabilities under embedding s,

    I = H(mean_s p_s) - mean_s H(p_s)    (nats, 0 to log 3)

(mutual information of answer and embedding: Houlsby et al. 2011, 'Bayesian active learning by disagreement'). A triplet
that all embeddings find a toss-up tells nothing, so that an agent who answers by chance is not asked the same thing
for ever. Which triplets there are, and who is asked, does not belong here.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import SamplingError
from affectlake.spose import kernels
from affectlake.spose.curve import Epoch
from affectlake.spose.data import TrainingData, training_data
from affectlake.spose.fitting import Fit, fit, fit_seeds
from affectlake.spose.model import check
from affectlake.spose.settings import Settings
from affectlake.spose.state import LANES, aligned_rows


def choose_settings(
    data: TrainingData, candidates: list[Settings], rng: np.random.Generator, workers: int = 1
) -> Settings:
    """Return the settings whose fit has the lowest held-out loss; of one candidate that one, without a fit.

    Parameters
    ----------
    data : TrainingData
    candidates : list of Settings
        One or more, such as `affectlake.spose.settings.FewJudgments.candidates` gives.
    rng : numpy.random.Generator
        Draws the start, the same for all.
    workers : int
        How many are fitted at once.
    """
    if len(candidates) == 1:
        return candidates[0]
    root = int(rng.integers(2**31))
    with ThreadPoolExecutor(workers, thread_name_prefix="candidates") as pool:
        losses = list(pool.map(lambda one: fit(data, one, np.random.default_rng(root)).score.loss, candidates))
    return candidates[int(np.argmin(losses))]


def fit_members(
    train: NDArray[np.int32],
    held_out: NDArray[np.int32],
    n_stimuli: int,
    candidates: list[Settings],
    rng: np.random.Generator,
    n_members: int,
    workers: int = 1,
    on_epoch: Callable[[int, Epoch], None] | None = None,
) -> tuple[list[Fit], Settings]:
    """Fit several embeddings to the same judgments, from different starts.

    Parameters
    ----------
    train, held_out : (m, 3) int32
        Judgments to learn from and to stop by: the two similar stimuli, then the odd one.
    n_stimuli : int
    candidates : list of Settings
        Such as :meth:`~affectlake.spose.settings.FewJudgments.candidates` gives, of which :func:`choose_settings` takes
        one. No dimension is pruned.
    rng : numpy.random.Generator
        Orders the judgments and draws the starts.
    n_members : int
        How many, at least 2.
    workers : int
        How many are fitted at once.
    on_epoch : callable, optional
        Called with the member's number and each row of its learning curve, from the thread of the fit.

    Returns
    -------
    fits : list of Fit
        Unpruned: all of a shape.
    settings : Settings
        What they were fitted with.
    """
    data = training_data(train, held_out, n_stimuli, rng)
    root = int(rng.integers(2**31))
    settings = choose_settings(data, candidates, rng, workers).replaced(pruning="none")
    names = ("proposals",)
    found = fit_seeds(data, settings, root, range(n_members), names=names, workers=workers, on_epoch=on_epoch)
    return list(found.values()), settings


def expected_information(
    members: list[NDArray[np.float32]], triplets: NDArray[np.int32], lapse: float = 0.0
) -> NDArray[np.float32]:
    """Return what the answer to each triplet is expected to tell about which embedding is right: (m,) float32, nats.

    Parameters
    ----------
    members : list of (n_stimuli, d) float32
        Two embeddings or more, all of one shape.
    triplets : (m, 3) int32, m >= 1
        Stimulus indices in any order.
    lapse : float
        Share of judgments that the agent makes by chance, 0 to below 1: such an answer tells nothing.

    Raises
    ------
    ValueError
        If a shape, a dtype or an index is not as above.
    """
    if len(members) < 2 or len({one.shape for one in members}) != 1:
        raise ValueError(f"wanted two embeddings or more of one shape, found {[one.shape for one in members]}")
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
    """Return which `n` triplets to ask: a random part of the `share` that tells most, in the order they had.

    The very first in line tell much the same thing over and over; a random part of the best is nearly as informative
    one by one, and far more so together.

    Parameters
    ----------
    information : (m,) float32
        From :func:`expected_information`.
    n : int
        How many, 0 to m.
    share : float
        Above 0, at most 1. Where that is fewer than `n`, the `n` best are taken.
    rng : numpy.random.Generator

    Raises
    ------
    SamplingError
        `n` is negative or more than m, or `share` is no share.
    """
    if not 0 <= n <= len(information) or not 0 < share <= 1:
        raise SamplingError(
            f"Cannot draw {n:,} of the best {share:g} of {len(information):,} triplets.",
            allowed=f"0 to {len(information):,} triplets, a share above 0 and at most 1",
        )
    n_best = max(n, int(share * len(information)))
    mixed = rng.permutation(len(information))  # so that chance decides among equals
    if n_best < len(information):
        mixed = mixed[np.argpartition(-information[mixed], n_best)[:n_best]]
    return np.sort(rng.choice(mixed, n, replace=False)).astype(np.int64)
