"""What people can be asked: the stimuli as they are shown, the trials, and the settings of the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import UsageError
from affectlake.triplets import MAX_STIMULI, Triplets

Shown = Literal["captions", "images", "videos", "sounds"]
Kind = Literal["practice", "trial", "catch", "repeat"]
Triplet = tuple[int, int, int]

_BITS = 20
_MASK = (1 << _BITS) - 1


class MediaFile(NamedTuple):
    """A file that is shown.

    Attributes
    ----------
    sha256 : str
        Its SHA-256, 64 lower-case hexadecimal digits.
    path : Path
        Where it is.
    size : int
        Its size in bytes.
    type : str
        Its MIME type, such as ``video/mp4``.
    """

    sha256: str
    path: Path
    size: int
    type: str


@dataclass(frozen=True)
class Contents:
    """What is shown of each stimulus.

    Attributes
    ----------
    kind : str
        What is shown.
    stimulus_ids : tuple of str
        The ids of the stimuli, by index.
    captions : tuple of str
        Their captions, also read by screen readers; empty where there is none.
    media : tuple of MediaFile or None
        Their files.
    """

    kind: Shown
    stimulus_ids: tuple[str, ...]
    captions: tuple[str, ...]
    media: tuple[MediaFile | None, ...]

    def __post_init__(self) -> None:
        n = len(self.stimulus_ids)
        if len(self.captions) != n or len(self.media) != n or len(set(self.stimulus_ids)) != n:
            raise UsageError(
                "the contents do not belong to the stimuli",
                wanted=f"{n:,} different ids, and as many captions and files",
                found=f"{len(set(self.stimulus_ids)):,}, {len(self.captions):,} and {len(self.media):,}",
            )


@dataclass(frozen=True)
class Offer:
    """The trials that people can be asked.

    Attributes
    ----------
    trials : int32 (m, 3)
        Canonical: every row has i < j < k, and the rows are in lexicographic order without repetition.
    wanted : int16 (m,)
        Answers that are wanted of each trial in all, by different participants; at least 0.
    answered : int16 (m,)
        Those in published versions that are not in the session store.
    catch : int32 (c, 3)
        Trials with a right answer, the odd one last.
    practice : int32 (p, 3)
        Trials to practise with, the odd one last.

    Raises
    ------
    UsageError
        If the shapes differ, or the trials are not canonical.
    """

    trials: Triplets
    wanted: NDArray[np.int16]
    answered: NDArray[np.int16]
    catch: Triplets = field(default_factory=lambda: np.zeros((0, 3), dtype=np.int32))
    practice: Triplets = field(default_factory=lambda: np.zeros((0, 3), dtype=np.int32))

    def __post_init__(self) -> None:
        m = len(self.trials)
        if self.trials.shape != (m, 3) or self.wanted.shape != (m,) or self.answered.shape != (m,):
            raise UsageError(
                "the offer's arrays do not belong together",
                wanted="trials (m, 3), wanted (m,) and answered (m,)",
                found=f"{self.trials.shape}, {self.wanted.shape} and {self.answered.shape}",
            )
        for name in ("catch", "practice"):
            rows = getattr(self, name)
            if rows.ndim != 2 or rows.shape[1] != 3 or (np.diff(np.sort(rows, axis=1)) == 0).any():
                raise UsageError(f"the {name} trials are not triplets", wanted="rows of three different stimuli")
        if not is_canonical(self.trials):
            raise UsageError(
                "the trials of the offer are not canonical",
                wanted="rows i < j < k in lexicographic order, without repetition",
                todo="sort them, and count repetitions in `wanted`",
            )


def is_canonical(trials: Triplets, rows: int = 1 << 20) -> bool:
    """Return whether the rows of `trials`, int32 (m, 3), are canonical; `rows` of them are looked at at a time."""
    for start in range(0, len(trials), rows):
        key = keys_of(trials[max(0, start - 1) : start + rows])
        i, j, k = trials[start : start + rows].T
        if (i < 0).any() or (i >= j).any() or (j >= k).any() or (np.diff(key) <= 0).any():
            return False
    return not len(trials) or int(trials[:, 2].max()) < MAX_STIMULI


def keys_of(trials: Triplets) -> NDArray[np.int64]:
    """Return one integer per row of `trials`, int32 (m, 3), that does not depend on the number of stimuli.

    Returns
    -------
    int64 (m,)
        ``(i * 2**20 + j) * 2**20 + k``.
    """
    key = trials[:, 0].astype(np.int64)
    for column in (1, 2):
        key <<= _BITS
        key |= trials[:, column]
    return key


def key_of(i: int, j: int, k: int) -> int:
    """Return :func:`keys_of` of one triplet, i < j < k."""
    return (((i << _BITS) | j) << _BITS) | k


def members_of(key: int) -> Triplet:
    """Return the triplet whose key is `key`."""
    return key >> 2 * _BITS, key >> _BITS & _MASK, key & _MASK


@dataclass(frozen=True)
class ServeSettings:
    """What the server needs of an agent's entry.

    Attributes
    ----------
    agent : str
        The agent's name.
    seed : int
        The study's root seed.
    per_participant : int
        Trials of a participant, repeated ones included, practice and catch trials not; at least 1.
    practice : int
        Largest number of practice trials.
    catch_every : int or None
        Each that many trials, one is a catch trial; at least 2.
    break_every : int or None
        Trials between two breaks; at least 1.
    repeats : float
        Share of `per_participant` that is asked a second time, from 0 to 0.5.
    languages : tuple of str
        Languages of the page.
    return_url : str or None
        Where the page leads at the end.
    panel : str or None
        Name of the address parameter with a panel's id.
    time_limit_s : float or None
        Time limit of a trial in seconds.
    cannot_tell : bool
        Whether "cannot tell" is an answer.
    resume_within_h : float
        Hours after the last request within which a participant can continue.
    give_again_after_min : float
        Minutes after which a trial that is not answered is given to somebody else.
    """

    agent: str
    seed: int
    per_participant: int = 200
    practice: int = 5
    catch_every: int | None = 25
    break_every: int | None = 50
    repeats: float = 0.0
    languages: tuple[str, ...] = ("en",)
    return_url: str | None = None
    panel: str | None = None
    time_limit_s: float | None = None
    cannot_tell: bool = False
    resume_within_h: float = 24.0
    give_again_after_min: float = 30.0

    def __post_init__(self) -> None:
        bad = {
            "per_participant": self.per_participant < 1,
            "practice": self.practice < 0,
            "catch_every": self.catch_every is not None and self.catch_every < 2,
            "break_every": self.break_every is not None and self.break_every < 1,
            "repeats": not 0 <= self.repeats <= 0.5,
            "languages": not self.languages,
            "time_limit_s": self.time_limit_s is not None and not self.time_limit_s > 0,
            "resume_within_h": not self.resume_within_h > 0,
            "give_again_after_min": not self.give_again_after_min > 0,
        }
        for name, is_bad in bad.items():
            if is_bad:
                raise UsageError(
                    f"{name} is out of its range",
                    found=str(getattr(self, name)),
                    allowed=_ALLOWED[name],
                    todo=f"change the entry of {self.agent} in params.yaml",
                )


_ALLOWED: Mapping[str, str] = {
    "per_participant": "at least 1",
    "practice": "at least 0",
    "catch_every": "null, or at least 2",
    "break_every": "null, or at least 1",
    "repeats": "0 to 0.5",
    "languages": "one or more languages",
    "time_limit_s": "null, or more than 0",
    "resume_within_h": "more than 0",
    "give_again_after_min": "more than 0",
}
