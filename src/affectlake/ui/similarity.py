"""Representational similarity matrices of agents, and their pictures, all in one order of the stimuli.

Predicted: Pearson's correlation of the embeddings of two stimuli. Measured: the share of the judgments of two
prototypes with a third one in which neither is the odd one; its prediction is the same share by the embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import UsageError, VersionError
from affectlake.geometry.pairs import odd_shares, pair_matrix
from affectlake.lake.browsing import embedding_of
from affectlake.rsm import correlation_rsm, pairs, pearson
from affectlake.spose.model import choice_probabilities
from affectlake.ui.opened import OpenVersion

Kind = Literal["predicted", "measured", "expected"]
KINDS: Mapping[Kind, str] = {
    "predicted": "Predicted: correlation of the embeddings of all stimuli",
    "measured": "Measured: share of judgments that keep two prototypes together",
    "expected": "Predicted: the same share by the embedding",
}
Order = Literal["similarity", "category", "index"]
ORDERS: Mapping[Order, str] = {"similarity": "similarity", "category": "category", "index": "index"}

MOST_PIXELS = 900
"""Number of pixels of a picture's side beyond which cells are averaged."""

_MOST_CLUSTERED = 4_000
_FEWEST_PIXELS = 360
_RANGE: Mapping[Kind, tuple[float, float]] = {"predicted": (-1.0, 1.0), "measured": (0.0, 1.0), "expected": (0.0, 1.0)}
_COLOURS: Mapping[Kind, str] = {"predicted": "RdBu_r", "measured": "viridis", "expected": "viridis"}
_PROTOTYPES = "validation"  # the trial set with all triplets of prototypes


class Matrix(NamedTuple):
    """A similarity matrix, its kind, and the stimuli of its rows."""

    kind: Kind
    values: NDArray[np.float64]
    stimuli: NDArray[np.int64]


def embedding(opened: OpenVersion, agent: str) -> NDArray[np.float32]:
    """Return the representative embedding of an agent, (n_stimuli, n_dimensions)."""
    return opened.once(("embedding", agent), lambda: embedding_of(opened.root, opened.version, agent))


def matrices(opened: OpenVersion, agent: str) -> list[Matrix]:
    """Return the similarity matrices of an agent that a version has: one or three.

    Raises
    ------
    VersionError
        If the agent has no embedding, or one of a single dimension.
    """
    return opened.once(("matrices", agent), lambda: _matrices(opened, agent))


def _matrices(opened: OpenVersion, agent: str) -> list[Matrix]:
    weights = embedding(opened, agent)
    if weights.shape[1] < 2:
        raise VersionError(f"the embedding of {agent} in {opened.version.name} has one dimension", wanted="two or more")
    found = [Matrix("predicted", correlation_rsm(weights), np.arange(len(weights)))]
    rows = opened.rows(
        f"SELECT i, j, k, odd FROM ({opened.select('choices', 'agent', 'trial_set', 'i', 'j', 'k', 'odd')}) "
        "WHERE agent = ? AND trial_set = ? ORDER BY ALL",
        [agent, _PROTOTYPES],
    )
    if rows:
        judged = np.array(rows, dtype=np.int32)
        triplets, odd = np.ascontiguousarray(judged[:, :3]), np.ascontiguousarray(judged[:, 3])
        items = prototypes_in(triplets)
        found.append(Matrix("measured", pair_matrix(triplets, odd_shares(triplets, odd), items), items))
        chances = choice_probabilities(weights, triplets)
        found.append(Matrix("expected", pair_matrix(triplets, chances, items), items))
    return found


def prototypes_in(triplets: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the prototypes of a validation set, in increasing order.

    Each of its triplets shows two prototypes and a third stimulus. The prototypes are the fewest of the most frequent
    stimuli of which every triplet has two.
    """
    stimuli, counts = np.unique(triplets, return_counts=True)
    place = np.empty(int(stimuli.max()) + 1, dtype=np.int64)
    place[stimuli[np.lexsort((stimuli, -counts))]] = np.arange(len(stimuli))
    n_needed = int(np.sort(place[triplets], axis=1)[:, 1].max()) + 1  # the second most frequent one of each triplet
    return np.sort(stimuli[place[stimuli] < n_needed]).astype(np.int64)


def agreement(found: list[Matrix]) -> float | None:
    """Return the correlation of measured and predicted similarities of prototypes; None if it is not defined."""
    if len(found) < 3 or len(found[1].stimuli) < 3:
        return None
    measured, expected = pairs(found[1].values), pairs(found[2].values)
    known = np.isfinite(measured) & np.isfinite(expected)
    r = pearson(measured[known], expected[known]) if known.sum() > 2 else float("nan")
    return None if np.isnan(r) else r


def order_of(opened: OpenVersion, order: str) -> NDArray[np.int64]:
    """Return the stimuli in the order of all pictures.

    ``similarity``: leaves of average linkage on the mean of the agents' predicted matrices. ``category``: by category,
    then in that order. ``index``: as in the table of stimuli.
    """
    if order not in get_args(Order):
        raise UsageError(f"there is no order {order!r}", allowed=", ".join(ORDERS))
    n = len(opened.stimuli)
    if order == "index" or n < 3:
        return np.arange(n)
    leaves = opened.once("leaves", lambda: _leaves(opened, n))
    if order == "similarity":
        return leaves
    place = np.empty(n, dtype=np.int64)
    place[leaves] = np.arange(n)
    categories = [one.category or "\uffff" for one in opened.stimuli]
    return np.array(sorted(range(n), key=lambda at: (categories[at], place[at])), dtype=np.int64)


def _leaves(opened: OpenVersion, n: int) -> NDArray[np.int64]:
    from scipy.cluster.hierarchy import average, leaves_list
    from scipy.spatial.distance import squareform

    known = [one.values for agent in opened.embedded if (one := _predicted(opened, agent)) and len(one.stimuli) == n]
    if not known or n > _MOST_CLUSTERED:
        return np.arange(n)
    mean = sum(np.nan_to_num(values) for values in known) / len(known)
    distance = np.clip(1.0 - mean, 0.0, 2.0)
    np.fill_diagonal(distance, 0.0)
    return np.asarray(leaves_list(average(squareform(distance, checks=False))), dtype=np.int64)


def _predicted(opened: OpenVersion, agent: str) -> Matrix | None:
    try:
        return matrices(opened, agent)[0]
    except VersionError:
        return None


def picture(opened: OpenVersion, agent: str, kind: str, order: str) -> bytes:
    """Return a matrix as a PNG picture.

    Raises
    ------
    UsageError
        If the agent does not have such a matrix.
    """
    matrix = next((one for one in matrices(opened, agent) if one.kind == kind), None)
    if matrix is None:
        raise UsageError(f"{agent} has no matrix {kind!r} in {opened.version.name}", allowed=", ".join(KINDS))
    return opened.once(("picture", agent, kind, order), lambda: _drawn(matrix, order_of(opened, order)))


def _drawn(matrix: Matrix, order: NDArray[np.int64]) -> bytes:
    from PIL import Image

    from affectlake.report.figures.canvas import colours

    row_of = {stimulus: row for row, stimulus in enumerate(matrix.stimuli.tolist())}
    rows = np.array([row_of[stimulus] for stimulus in order.tolist() if stimulus in row_of], dtype=np.int64)
    values = matrix.values[np.ix_(rows, rows)]
    step = -(-len(values) // MOST_PIXELS)
    low, high = _RANGE[matrix.kind]
    cells = colours(_COLOURS[matrix.kind])((np.ma.masked_invalid(_averaged(values, step)) - low) / (high - low))
    image = Image.fromarray((cells[..., :3] * 255).round().astype(np.uint8))
    scale = max(1, -(-_FEWEST_PIXELS // len(values)))
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _averaged(values: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    """Return the means of squares of `step` by `step` cells, without the missing ones."""
    if step == 1:
        return values
    starts = np.arange(0, len(values), step)
    known = np.isfinite(values)
    sums, counts = (
        np.add.reduceat(np.add.reduceat(one, starts, axis=0), starts, axis=1)
        for one in (np.where(known, values, 0.0), known.astype(np.float64))
    )
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / counts)
