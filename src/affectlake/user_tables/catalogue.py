"""Recognise the stimuli of the catalogue in what files call them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from affectlake.user_tables.table import clean

_TAG = re.compile(r"""<[^>]*\bsrc\s*=\s*["']([^"']+)["']""", re.IGNORECASE)


def _base(text: str) -> str:
    found = _TAG.search(text)
    return (found[1] if found else text).replace("\\", "/").rpartition("/")[2]


def _stem(text: str) -> str:
    return re.sub(r"\.[A-Za-z][A-Za-z0-9]{1,4}$", "", _base(text))


def _unpadded(text: str) -> str:
    return re.sub(r"^0+(?=.)", "", _stem(text))


WAYS: dict[str, Callable[[str], str]] = {
    "": clean,
    "the name of the file in a path": _base,
    "the name of the file without its extension": _stem,
    "the id without leading zeros": _unpadded,
}
"""How a text is compared with ids, in order; both sides are changed in the same way, and one id alone must match."""


class Catalogue:
    """The ids of the stimuli, and what files call them.

    Parameters
    ----------
    ids : sequence of str
        Id of each stimulus, in the order of ``stimulus_index``.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = list(ids)
        self._known: dict[str, int | None] = {}
        self.matched: Counter[str] = Counter()
        self._tables: list[tuple[str, Callable[[str], str], dict[str, int]]] = []
        for said, change in WAYS.items():
            changed = [change(clean(one)) for one in self.ids]
            counts = Counter(changed)
            table = {word: at for at, word in enumerate(changed) if counts[word] == 1}
            self._tables.append((said, change, table))

    def __len__(self) -> int:
        return len(self.ids)

    def index(self, text: str) -> int | None:
        """Return the index of the stimulus that `text` names; None if no stimulus, or several, can be meant."""
        if text not in self._known:
            self._known[text] = self._find(clean(text))
        return self._known[text]

    def knows(self, text: str) -> bool:
        """Return whether `text` names one stimulus, without counting how it was matched."""
        return any(change(clean(text)) in table for _, change, table in self._tables)

    def indices(self, texts: Iterable[str]) -> dict[str, int]:
        """Return the index of each text that names a stimulus."""
        return {text: at for text in texts if (at := self.index(text)) is not None}

    def notes(self) -> list[str]:
        """Return how names that are not ids themselves were matched, and how many different ones."""
        return [f"{n:,} names of stimuli were matched by {said}" for said, n in self.matched.items()]

    def _find(self, text: str) -> int | None:
        for said, change, table in self._tables:
            at = table.get(change(text))
            if at is not None:
                if said:
                    self.matched[said] += 1
                return at
        return None
