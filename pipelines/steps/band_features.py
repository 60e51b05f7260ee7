"""The bands of `brain.partition` as features, and the features of captions and clips that count for none of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import SourceError
from affectlake.pipelines.params.brain import PartitionParams
from affectlake.pipelines.step import StepContext, Tables
from affectlake.pipelines.steps.arrays import representative_of
from affectlake.stimuli.nuisance import NUISANCE

Bands = dict[str, NDArray[np.floating]]

WHOLE = "all"
"""Name of what all bands explain together."""

NUISANCE_BAND = "+nuisance"
"""Name of the band of nuisance features, which no band of a study can have."""

_MEDIA = {"motion": "videos of a second or more"}
"""What the tables of nuisance features are made from, if it has another name than the table."""


def bands_of(tables: Tables, wanted: PartitionParams) -> tuple[Bands, dict[str, str]]:
    """Return the embeddings of each band side by side, (n_stimuli, d); and of bands without, why."""
    bands: Bands = {}
    missing = dict[str, str]()
    for name, agents in wanted.bands.items():
        found = []
        for agent in agents:
            fitted = representative_of(tables, agent)
            if fitted is None:
                missing[name] = f"the band {name} has no features: {agent} has no fit with a dimension"
            else:
                found.append(fitted[1])
        if name not in missing:
            bands[name] = np.concatenate(found, axis=1)
    return bands, missing


def nuisance_of(tables: Tables, wanted: PartitionParams, n_stimuli: int, context: StepContext) -> Bands:
    """Return the nuisance features as one band; a stimulus without media has the mean of the others.

    Columns are z-scored and divided by the square root of the number of columns of their feature, so that a feature
    with many columns does not outweigh the others.

    Raises
    ------
    SourceError
        If no stimulus has what a feature is computed from.
    """
    features = []
    for name in wanted.nuisance:
        table, compute = NUISANCE[name]
        media = _MEDIA.get(table, table)
        found = compute(tables[table].collect(), n_stimuli)
        without = np.isnan(found).any(axis=1)
        if without.all():
            raise SourceError(
                f"the nuisance feature {name} cannot be computed",
                wanted=f"{media} of the stimuli",
                found=f"no stimulus has {media}",
                todo=f"remove {name} from brain.partition.nuisance, or add {media} to the sources",
            )
        if without.any():
            context.log(f"{int(without.sum()):,} stimuli have no {media}: their {name} is the mean of the others")
            found[without] = found[~without].mean(axis=0)
        spread = found.std(axis=0)
        scale = np.where(spread > 0, spread, 1.0) * np.sqrt(found.shape[1])
        features.append((found - found.mean(axis=0)) / scale)
    return {NUISANCE_BAND: np.concatenate(features, axis=1)} if features else {}
