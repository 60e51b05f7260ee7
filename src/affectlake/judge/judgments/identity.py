"""What identifies a judgment, so that a file that is imported again, or a longer one, adds only what is new.

A judgment whose participant is named is identified by the participant, the session, the trial, the time, the ids of
the three stimuli in the order shown, and its number among the judgments of one import that agree in all of these.
Others are identified by the name of the file and the row. The answer is not part of it: an answer that differs from
the stored one is a contradiction.
"""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
from numpy.typing import NDArray

FORM = "judgment/1"
_OF_PARTICIPANT = ("participant", "session", "trial", "asked_at")
_SEPARATOR, _ABSENT = "\x1f", "\x00"
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)


def request_keys(frame: pl.DataFrame, ids: list[str]) -> pl.Series:
    """Return the SHA-256 (32 bytes) of what identifies each judgment.

    Parameters
    ----------
    frame : polars.DataFrame
        ``participant``, ``session``, ``trial``, ``asked_at``, ``shown_1`` to ``shown_3`` (indices, in the order of the
        file), ``source_file`` and ``source_row`` of all judgments of one import, in their order.
    ids : list of str
        Id of each stimulus.
    """
    names = pl.Series("id", ids, dtype=pl.String)
    shown = [names.gather(frame[f"shown_{at}"].cast(pl.UInt32)).alias(f"id_{at}") for at in (1, 2, 3)]
    of_participant = [pl.col(name).fill_null(_ABSENT) for name in _OF_PARTICIPANT]
    named = pl.col("participant").is_not_null()
    same = pl.concat_str([*of_participant, "id_1", "id_2", "id_3"], separator=_SEPARATOR)
    place = pl.concat_str([pl.lit("file"), "source_file", pl.col("source_row").cast(pl.String)], separator=_SEPARATOR)
    texts = frame.with_columns(shown).select(
        text=pl.when(named).then(pl.lit("participant" + _SEPARATOR) + same).otherwise(place), named=named
    )
    if texts["named"].any():
        number = pl.int_range(pl.len()).over("text").cast(pl.String)
        texts = texts.with_columns(text=pl.when("named").then(pl.col("text") + _SEPARATOR + number).otherwise("text"))
    start = f"{FORM}{_SEPARATOR}".encode()
    sha = hashlib.sha256
    keys = [sha(start + text.encode()).digest() for text in texts["text"]]
    return pl.Series("request_key", keys, dtype=pl.Binary)


def stimuli_checks(triplets: NDArray[np.int32], ids: list[str]) -> NDArray[np.int64]:
    """Return a number of the ids of the three stimuli of each triplet, with which they are recognised later.

    Parameters
    ----------
    triplets : int32 (m, 3)
        Indices i < j < k, which may be outside the catalogue.
    ids : list of str
        Id of each stimulus.

    Returns
    -------
    int64 (m,)
        The sum modulo 2⁶⁴ of a 64-bit hash of each id, times a constant for its place; 0 for a triplet outside of the
        catalogue.
    """
    digests = [int.from_bytes(hashlib.sha256(one.encode()).digest()[:8], "little") for one in ids]
    hashes = np.array(digests, dtype=np.uint64)
    inside = (triplets < len(ids)).all(axis=1)
    found = np.zeros(len(triplets), dtype=np.uint64)
    for at in range(3):
        found[inside] += hashes[triplets[inside, at]] * _FACTORS[at]
    return found.view(np.int64)
