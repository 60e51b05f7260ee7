"""Small experiments to serve: stimuli, media and plans."""

from __future__ import annotations

import hashlib
from itertools import combinations, islice
from pathlib import Path

import numpy as np

from affectlake.experiment.offer import Contents, MediaFile, Offer, ServeSettings

KEY = b"k" * 32


def contents(n: int, folder: Path | None = None) -> Contents:
    """Return `n` stimuli with captions, and with a file each if a folder is given."""
    media: list[MediaFile | None] = [None] * n
    for index in range(n if folder else 0):
        assert folder is not None
        data = np.random.default_rng(index).bytes(1000 + index)
        path = folder / f"{index}.mp4"
        path.write_bytes(data)
        media[index] = MediaFile(hashlib.sha256(data).hexdigest(), path, len(data), "video/mp4")
    ids = tuple(f"s{index:04d}" for index in range(n))
    return Contents("videos" if folder else "captions", ids, tuple(f"caption {one}" for one in ids), tuple(media))


def offer(n: int, m: int, wanted: int = 1, catch: int = 4, practice: int = 3) -> Offer:
    """Return the first `m` triplets of `n` stimuli, each wanted `wanted` times, with catch and practice trials."""
    trials = np.array(list(islice(combinations(range(n), 3), m)), dtype=np.int32).reshape(-1, 3)
    pairs = np.array([[a, a + 1, n - 1 - a] for a in range(max(catch, practice))], dtype=np.int32).reshape(-1, 3)
    full = np.full(len(trials), wanted, dtype=np.int16)
    return Offer(trials, full, np.zeros_like(full), pairs[:catch], pairs[:practice])


def settings(**changes: object) -> ServeSettings:
    """Return settings with some changed."""
    given = {"per_participant": 20, "practice": 2, "catch_every": 5, "break_every": 10} | changes
    return ServeSettings("people", 3, **given)  # type: ignore[arg-type]
