"""The orders of the trials of a large study, kept in the lake: to draw seven million takes half a minute.

They depend only on the trials and the seed, so that a file that is missing or damaged is drawn again.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from affectlake.judge.trials.orders import ORDERS, balanced_orders
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import write_whole

FROM = 100_000
"""Number of trials from which the orders are kept."""

MOST_FILES = 12
"""Number of files that are kept, the latest: one for each agent, trial set and repeat."""

_FOLDER = layout.SCRATCH / "orders"
_DIGEST = sha256().digest_size


def stored_orders(
    lake: Path, triplets: NDArray[np.int32], n_stimuli: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return :func:`affectlake.judge.trials.orders.balanced_orders`, from the lake if they were drawn before.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    triplets : int32 (m, 3)
        Stimulus indices of the trials.
    n_stimuli : int
        Size of the catalogue.
    rng : numpy.random.Generator
        Source of one draw. If the orders are stored, nothing is drawn from it.

    Returns
    -------
    uint8 (m,)
        The order code of each trial.
    """
    if len(triplets) < FROM:
        return balanced_orders(triplets, n_stimuli, rng)
    asked = sha256(f"{n_stimuli} {rng.bit_generator.state}".encode())
    asked.update(np.ascontiguousarray(triplets).data)
    path = lake / _FOLDER / asked.hexdigest()
    found = _read(path, len(triplets))
    if found is None:
        found = balanced_orders(triplets, n_stimuli, rng)
        codes = found.tobytes()
        write_whole(path, sha256(codes).digest() + codes)
        _keep_latest(path.parent)
    return found


def _read(path: Path, n: int) -> NDArray[np.uint8] | None:
    """Return the codes in a file; None if it is missing or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, codes = content[:_DIGEST], content[_DIGEST:]
    if len(codes) != n or sha256(codes).digest() != digest:
        return None
    found = np.frombuffer(codes, np.uint8)
    return found if found.max(initial=0) < len(ORDERS) else None


def _keep_latest(folder: Path) -> None:
    files = [path for path in folder.iterdir() if path.is_file()]
    for path in sorted(files, key=lambda one: one.stat().st_mtime_ns)[:-MOST_FILES]:
        path.unlink(missing_ok=True)
