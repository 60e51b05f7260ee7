"""Random triplets of stimuli, none of them twice: for pairs of stimuli, or uniform over all triplets.

Arrays in, arrays out; canonical triplets are defined in :mod:`affectlake.triplets`.
"""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import SamplingError
from affectlake.triplets import MAX_STIMULI, Indices, Triplets, key_of, pack, unpack

_ROOMY_THIRDS = 36
_ROOMY_RATIO = 8
"""If there are at least this many thirds to choose from, and this many for each one requested, at most three eighths of
all triplets are drawn, and the probability that all thirds of a dyad are taken is below 1e-14: redrawing terminates."""


def sample_dyads(n_stimuli: int, rng: np.random.Generator, per_dyad: int = 3) -> Triplets:
    """Draw `per_dyad` random third stimuli for every dyad (pair of stimuli), no triplet twice.

    The thirds of a dyad are drawn uniformly. If two draws give the same triplet, both are discarded and drawn again,
    until all triplets are different; this treats all stimuli alike. If such a large part of the existing triplets is
    requested that redrawing might not terminate, the thirds are assigned exactly instead (at
    ``n_stimuli == 3 per_dyad + 2`` every triplet is used).

    Parameters
    ----------
    n_stimuli : int
        Number of stimuli.
    rng : numpy.random.Generator
    per_dyad : int, default=3
        Thirds per dyad, at least 1.

    Returns
    -------
    int32 (per_dyad * C(n_stimuli, 2), 3)
        Canonical triplets.

    Raises
    ------
    SamplingError
        If more triplets are requested than exist, or than can be numbered.

    Notes
    -----
    Du et al. 2025, 'Trial sampling strategy': three thirds for each of the C(2180, 2) dyads, 7,125,330 triplets.
    """
    _check_dyads(n_stimuli, per_dyad)
    first, second = (x.astype(np.int32) for x in np.triu_indices(n_stimuli, k=1))
    if n_stimuli - 2 < max(_ROOMY_THIRDS, _ROOMY_RATIO * per_dyad):
        dyads = np.column_stack([first, second])
        return unpack(_assign(dyads, per_dyad, n_stimuli, np.empty(0, np.int64), rng), n_stimuli)
    codes = _draw(np.repeat(first, per_dyad), np.repeat(second, per_dyad), n_stimuli, rng)
    alone = _alone(codes)
    kept, pending = codes[alone], codes[~alone]
    while len(pending):
        codes = _draw(*_dyads_of(pending, n_stimuli), n_stimuli, rng)
        fresh = _alone(codes) & ~_among(codes >> 2, kept >> 2)
        pending = codes[~fresh]
        kept = np.sort(np.concatenate([kept, codes[fresh]]))
    return unpack(kept >> 2, n_stimuli)


def sample_uniform(n_stimuli: int, count: int, rng: np.random.Generator) -> Triplets:
    """Draw `count` different triplets; all sets of that many triplets are equally likely.

    The memory grows with `count`, and not with the number of existing triplets.

    Parameters
    ----------
    n_stimuli : int
        Number of stimuli.
    count : int
        Number of triplets, 0 to C(n_stimuli, 3).
    rng : numpy.random.Generator

    Returns
    -------
    int32 (count, 3)
        Canonical triplets.

    Raises
    ------
    SamplingError
        If there are not that many triplets, or they cannot be numbered.

    Notes
    -----
    Triplets are drawn with replacement, and those drawn before are dropped, until there are enough: the set of the
    first `count` different draws is uniform. Of more than half of all triplets, those that are left out are drawn.
    """
    existing = comb(max(n_stimuli, 0), 3)
    if not 0 <= count <= existing or n_stimuli > MAX_STIMULI:
        raise SamplingError(
            f"cannot draw {count:,} different triplets of {n_stimuli:,} stimuli",
            wanted=f"at most {MAX_STIMULI:,} stimuli, and no more triplets than exist",
            found=f"{existing:,} triplets exist",
            todo="request fewer triplets, or use more stimuli",
        )
    if 2 * count > existing:
        every = np.array([(i, j, k) for i in range(n_stimuli) for j in range(i + 1, n_stimuli)
                          for k in range(j + 1, n_stimuli)], dtype=np.int32).reshape(-1, 3)  # fmt: skip
        kept = ~_among(pack(every, n_stimuli), pack(sample_uniform(n_stimuli, existing - count, rng), n_stimuli))
        return every[kept]
    keys = np.empty(0, dtype=np.int64)
    while len(keys) < count:
        a, b, c = rng.integers(0, n_stimuli, size=(3, count - len(keys)), dtype=np.int32)
        low, high = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
        middle = a + b + c - low - high
        drawn = key_of(low.astype(np.int64), middle, high, n_stimuli)[(low < middle) & (middle < high)]
        keys = np.sort(np.concatenate([keys, drawn]))
        first = np.ones(len(keys), dtype=bool)
        first[1:] = keys[1:] != keys[:-1]
        keys = keys[first]
    return unpack(keys, n_stimuli)


def sample_pairs(
    prototypes: NDArray[np.integer], n_stimuli: int, thirds: int, rng: np.random.Generator, exclude: Triplets
) -> Triplets:
    """Draw `thirds` random third stimuli for every pair of `prototypes`, no triplet twice and none of `exclude`.

    Thirds are drawn from all stimuli, including the other prototypes.

    Parameters
    ----------
    prototypes : int (p,)
        Different stimulus indices, at least two.
    n_stimuli : int
        Number of stimuli.
    thirds : int
        Thirds per pair, at least 1.
    rng : numpy.random.Generator
    exclude : int32 (m, 3)
        Triplets, rows i < j < k, that must not be drawn, such as those from which an embedding learns.

    Returns
    -------
    int32 (thirds * C(p, 2), 3)
        Canonical triplets.

    Raises
    ------
    SamplingError
        If the prototypes are not different stimuli of the catalogue, or there are not that many triplets.

    Notes
    -----
    Du et al. 2025, 'Collecting behavioral responses from MLLMs': 66 prototypes, 100 thirds, 214,500 triplets.
    """
    chosen = np.unique(prototypes).astype(np.int32)
    if thirds < 1:
        raise SamplingError("too few thirds per pair of prototypes", found=str(thirds), allowed="1 or more")
    if len(chosen) < 2 or len(chosen) != len(prototypes) or chosen[0] < 0 or chosen[-1] >= n_stimuli:
        raise SamplingError(
            "the prototypes of the validation triplets are not valid",
            wanted=f"two or more different stimulus indices from 0 to {n_stimuli - 1}",
            found=f"{len(prototypes)} indices, {len(chosen)} of them different",
            todo="give each prototype once, as its row in the stimuli table",
        )
    first, second = np.triu_indices(len(chosen), k=1)
    is_prototype = np.zeros(n_stimuli, dtype=bool)
    is_prototype[chosen] = True
    near = is_prototype[exclude].sum(axis=1) >= 2  # only these can be drawn
    excluded = np.sort(pack(exclude[near], n_stimuli))
    dyads = np.column_stack([chosen[first], chosen[second]])
    return unpack(_assign(dyads, thirds, n_stimuli, excluded, rng), n_stimuli)


def sample_rows(triplets: Triplets, count: int, rng: np.random.Generator) -> Triplets:
    """Return `count` rows, drawn without replacement, in their original order.

    Parameters
    ----------
    triplets : int32 (m, 3)
    count : int
        Number of rows to draw, 0 to m.
    rng : numpy.random.Generator

    Raises
    ------
    SamplingError
        If `count` is negative or greater than m.
    """
    if not 0 <= count <= len(triplets):
        raise SamplingError(
            f"cannot draw {count:,} triplets without replacement from {len(triplets):,}",
            allowed=f"0 to {len(triplets):,}",
            todo="request fewer triplets, or draw them from a larger set",
        )
    return triplets[np.sort(rng.choice(len(triplets), size=count, replace=False))]


def _check_dyads(n_stimuli: int, per_dyad: int) -> None:
    if per_dyad < 1 or n_stimuli > MAX_STIMULI:
        raise SamplingError(
            f"cannot draw {per_dyad} thirds for each dyad of {n_stimuli:,} stimuli",
            allowed=f"at least 1 third, at most {MAX_STIMULI:,} stimuli",
        )
    smallest = 3 * per_dyad + 2
    if n_stimuli < smallest:
        raise SamplingError(
            f"more triplets were requested than exist for {n_stimuli} stimuli",
            wanted=f"{per_dyad * comb(max(n_stimuli, 0), 2):,} different triplets, {per_dyad} for each dyad",
            found=f"{comb(max(n_stimuli, 0), 3):,} triplets exist",
            allowed=f"{smallest} stimuli or more with {per_dyad} thirds for each dyad",
            todo="use more stimuli, or fewer thirds for each dyad",
        )


def _draw(a: Indices, b: Indices, n_stimuli: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a random triplet per dyad a < b, as sorted codes: the key times 4 plus the position of the third."""
    third = rng.integers(0, n_stimuli - 2, size=len(a), dtype=np.int32)
    third += third >= a
    third += third >= b  # uniform over all but a and b
    low, high = np.minimum(a, third), np.maximum(b, third)
    middle = a + b + third - low - high
    codes = key_of(low.astype(np.int64), middle, high, n_stimuli)
    codes <<= 2
    codes += third > a  # position 0, 1 or 2
    codes += third > b
    codes.sort()
    return codes


def _dyads_of(codes: NDArray[np.int64], n_stimuli: int) -> tuple[Indices, Indices]:
    triplets, place = unpack(codes >> 2, n_stimuli), codes & 3
    return np.where(place == 0, triplets[:, 1], triplets[:, 0]), np.where(place == 2, triplets[:, 1], triplets[:, 2])


def _alone(codes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of the sorted codes have a triplet that no other code has."""
    same = (codes[1:] ^ codes[:-1]) < 4
    alone = np.ones(len(codes), dtype=bool)
    alone[1:] &= ~same
    alone[:-1] &= ~same
    return alone


def _among(keys: NDArray[np.int64], ordered: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of `keys` are in `ordered`, which is sorted."""
    if not len(ordered):
        return np.zeros(keys.shape, dtype=bool)
    at = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
    return np.asarray(ordered[at] == keys)


def _assign(
    dyads: Triplets, thirds: int, n_stimuli: int, excluded: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the sorted keys of `thirds` triplets for each dyad, all different, none of `excluded`.

    Each dyad ranks the thirds at random and takes the first ones. If several dyads took the same triplet, it is kept by
    the dyad that ranked it highest, and the others take their next ones. If a dyad has none left, the triplets are
    assigned exactly instead.
    """
    a, b = dyads[:, :1], dyads[:, 1:]
    third = np.arange(n_stimuli, dtype=np.int32)
    low, high = np.minimum(a, third), np.maximum(b, third)
    keys = key_of(low.astype(np.int64), a + b + third - low - high, high, n_stimuli)  # (dyads, n)
    legal = (third != a) & (third != b) & ~_among(keys, excluded)
    rank = np.where(legal, rng.random(keys.shape), np.inf)
    while np.isfinite(rank).sum(axis=1).min() >= thirds:
        taken = np.argpartition(rank, min(thirds, n_stimuli - 1), axis=1)[:, :thirds]
        at = (taken + np.arange(len(dyads))[:, None] * n_stimuli).ravel()
        at = at[np.lexsort([rank.ravel()[at], keys.ravel()[at]])]
        taken_keys = keys.ravel()[at]
        late = at[1:][taken_keys[1:] == taken_keys[:-1]]
        if not len(late):
            return np.asarray(taken_keys)
        rank.ravel()[late] = np.inf
    return _assign_exactly(keys, legal, thirds, rng)


def _assign_exactly(
    keys: NDArray[np.int64], legal: NDArray[np.bool_], thirds: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Assign by maximum flow: source → dyad (`thirds`) → its legal triplets (1 each) → sink (1 each)."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    row, column = np.nonzero(legal)
    wanted, triplet = np.unique(keys[row, column], return_inverse=True)
    n_dyads, n_triplets = len(keys), len(wanted)
    # shuffled node numbers: source, dyads, triplets, sink
    dyad_node = 1 + rng.permutation(n_dyads)
    triplet_node = 1 + n_dyads + rng.permutation(n_triplets)
    sink = 1 + n_dyads + n_triplets
    tail = np.concatenate([np.zeros(n_dyads, int), dyad_node[row], triplet_node])
    head = np.concatenate([dyad_node, triplet_node[triplet], np.full(n_triplets, sink)])
    room = np.concatenate([np.full(n_dyads, thirds), np.ones(len(row) + n_triplets, int)]).astype(np.int32)
    found = maximum_flow(csr_array((room, (tail, head)), shape=(sink + 1, sink + 1)), 0, sink)
    if found.flow_value < n_dyads * thirds:
        raise SamplingError(
            "more triplets were requested than exist",
            wanted=f"{n_dyads * thirds:,} triplets ({thirds:,} different thirds for each of {n_dyads:,} dyads)",
            found=f"at most {found.flow_value:,} can be drawn without repetition or an excluded triplet",
            todo="request fewer thirds, use more stimuli, or exclude fewer triplets",
        )
    to_sink = found.flow[[sink], :].toarray().ravel()[triplet_node]
    return np.asarray(wanted[to_sink != 0])
