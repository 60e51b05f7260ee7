"""Similarity matrices of the prototypes of a version, predicted and measured, each computed at the first access."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.geometry.pairs import odd_shares, pair_matrix
from affectlake.pipelines.outputs.per_agent import PerAgent
from affectlake.pipelines.outputs.version_tables import VersionTables
from affectlake.pipelines.params.record import StudyRecord
from affectlake.spose.model import choice_probabilities
from affectlake.stimuli import prototypes

Rsms = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]
"""The prototypes by category, and their predicted and measured similarities."""

_CHOICES = "SELECT i, j, k, odd FROM choices WHERE agent = '{agent}' AND trial_set = 'validation'"
_WEIGHTS = """
    SELECT dimension, stimulus_index, weight FROM embeddings JOIN ({chosen}) USING (agent, seed)
    WHERE agent = '{agent}' ORDER BY stimulus_index, dimension
"""


class PrototypeRsms(PerAgent[Rsms]):
    """The matrices of each agent with an embedding and validation choices, as in the step ``measure``.

    Parameters
    ----------
    tables : VersionTables
        Tables of the version.
    record : StudyRecord
        Its parameters.
    chosen : str
        SQL of ``agent, seed``: the representative fits.
    """

    def __init__(self, tables: VersionTables, record: StudyRecord, chosen: str) -> None:
        super().__init__(tables, chosen)
        self._record, self._chosen = record, chosen

    def _compute(self, agent: str) -> Rsms | None:
        rows = self._tables.rows
        trials = rows(_CHOICES.format(agent=agent))  # a name of an agent is letters, digits, -, _ and .
        weights = rows(_WEIGHTS.format(agent=agent, chosen=self._chosen))
        kinds = self._tables.table("families")
        section = self._record.raw.get("triplets")
        per_category = section.get("prototypes_per_category") if isinstance(section, Mapping) else None
        if not len(trials) or not len(weights) or not len(kinds) or not isinstance(per_category, int):
            return None
        chosen = prototypes(self._tables.table("ratings"), kinds, per_category).astype(np.int64)
        if len(chosen) < 3:
            return None
        fit = weights["weight"].to_numpy().reshape(-1, weights["dimension"].n_unique()).astype(np.float32)
        triplets = trials.select("i", "j", "k").to_numpy().astype(np.int32)
        if triplets.max() >= len(fit):  # of an embedding without all stimuli
            return None
        odd = trials["odd"].to_numpy().astype(np.int32)
        predicted = pair_matrix(triplets, choice_probabilities(fit, triplets), chosen)
        measured = pair_matrix(triplets, odd_shares(triplets, odd), chosen)
        order = self._by_category(chosen)
        return chosen[order], predicted[np.ix_(order, order)], measured[np.ix_(order, order)]

    def _by_category(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        names = dict(self._tables.table("stimuli").select("stimulus_index", "category").iter_rows())
        places = pl.DataFrame({"at": range(len(chosen)), "category": [names.get(one) or "" for one in chosen.tolist()]})
        return places.sort("category", "at")["at"].to_numpy().astype(np.int64)
