"""The numbers that stimuli have in the session store, and their indices in the study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affectlake.experiment.offer import key_of
from affectlake.experiment.store_rows import Counted


class StimulusNumbers:
    """The numbers of a study's stimuli.

    Parameters
    ----------
    of_index : sequence of int
        Number of each stimulus in the store.
    """

    def __init__(self, of_index: Sequence[int]) -> None:
        self.of_index = of_index
        self._index = {number: index for index, number in enumerate(of_index)}

    def index(self, number: int) -> int:
        """Return the index of a stimulus; -1 if the study does not have it."""
        return self._index.get(number, -1)

    def key(self, *numbers: int) -> int:
        """Return the key (:func:`affectlake.experiment.offer.key_of`) of three stimuli; -1 if one is unknown."""
        i, j, k = sorted(map(self.index, numbers))
        return key_of(i, j, k) if i >= 0 else -1

    def in_indices(self, counted: Counted) -> Counted:
        """Return `counted` by indices, without trials with stimuli that the study does not have."""
        if not len(counted.trials):
            return counted
        table = np.full(int(counted.trials.max()) + 1, -1, dtype=np.int32)
        for number, index in self._index.items():
            if number < len(table):
                table[number] = index
        trials = np.sort(table[counted.trials], axis=1)
        known = trials[:, 0] >= 0
        return Counted(trials[known], counted.chosen[known], counted.failed[known], counted.open[known])
