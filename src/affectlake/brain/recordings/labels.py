"""Matching of the labels of recordings with the stimuli of a study."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

_EXTENSION = r"\.[A-Za-z][A-Za-z0-9]{0,4}"
_NUMBER = re.compile(rf"(\d+)(?:\.0+)?(?:{_EXTENSION})?")


class StimulusLabels:
    """The stimuli of a study, found by the labels of a recording.

    A label is matched verbatim; or by its file name, if it is a path; or by its name without an extension; or by its
    number, if the whole label is a number, with or without an extension (``12``, ``0012``, ``12.0`` and ``0012.mp4``
    are the same). A number that is part of a name is not used: ``0012_rep2``, ``rest3`` and ``run-2`` do not match
    ``0012.mp4``, ``0003.mp4`` and ``0002.mp4``. Names and numbers that several stimuli have are not used.

    Parameters
    ----------
    stimulus_ids : sequence of str
    """

    def __init__(self, stimulus_ids: Sequence[str]) -> None:
        self._verbatim = {name: at for at, name in enumerate(stimulus_ids)}
        self._stems = _unique([_stem(name) for name in stimulus_ids])
        self._numbers = _unique([number_of(name) for name in stimulus_ids])

    def index_of(self, label: str) -> int | None:
        """Return the position of the stimulus with this label; None if no stimulus has it."""
        if label in self._verbatim:
            return self._verbatim[label]
        name = label.replace("\\", "/").rpartition("/")[2]
        found = self._verbatim.get(name, self._stems.get(_stem(name)))
        return self._numbers.get(number_of(name)) if found is None else found


def number_of(name: str) -> int | None:
    """Return the number that a name is, with or without an extension; None if the name is not a number."""
    found = _NUMBER.fullmatch(name)
    return int(found[1]) if found else None


def _stem(name: str) -> str:
    return re.sub(rf"{_EXTENSION}$", "", name)


def _unique(keys: Sequence[Key]) -> dict[Key, int]:
    """Return the positions of the keys that occur once, without None."""
    counts = Counter(keys)
    return {key: at for at, key in enumerate(keys) if key is not None and counts[key] == 1}
