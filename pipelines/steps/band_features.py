"""The bands of `brain.partition` as features, and the features of captions and clips that count for none of them."""

from __future__ import annotations

import time

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
    """Return the nuisance features as one band, each z-scored; a stimulus without media has the mean of the others.

    Raises
    ------
    SourceError
        If no stimulus has what a feature is computed from.
    """
    features = []
    for name in wanted.nuisance:
        table, compute = NUISANCE[name]
        found = compute(tables[table].collect(), n_stimuli)
        without = np.isnan(found).any(axis=1)
        if without.all():
            raise SourceError(
                f"the nuisance feature {name} cannot be computed",
                wanted=f"{table} of the stimuli",
                found=f"no stimulus has {table}",
                todo=f"remove {name} from brain.partition.nuisance, or add {table} to the sources",
            )
        if without.any():
            context.log(f"{int(without.sum()):,} stimuli have no {table}: their {name} is the mean of the others")
            found[without] = found[~without].mean(axis=0)
        spread = found.std(axis=0)
        features.append((found - found.mean(axis=0)) / np.where(spread > 0, spread, 1.0))
    return {NUISANCE_BAND: np.concatenate(features, axis=1)} if features else {}


class Progress:
    """Lines of progress with the time that is left, by the time that units of work took so far.

    Parameters
    ----------
    context : StepContext
    subject : str
        Name of the subject.
    units : str
        What is counted, such as ``candidates``.
    """

    def __init__(self, context: StepContext, subject: str, units: str) -> None:
        self.context, self.subject, self.units = context, subject, units
        self.began, self.first = 0.0, -1

    def __call__(self, done: int, n: int) -> None:
        """Report that some units of all are done; how long the others take is known from the second call on."""
        left = ""
        if self.first < 0:
            self.began, self.first = time.monotonic(), done  # what a checkpoint had, and what compilation delayed
        else:
            per_unit = (time.monotonic() - self.began) / max(done - self.first, 1)
            left = f", about {per_unit * (n - done):,.0f} s left"
        self.context.progress(f"{self.subject}: {done:,} of {n:,} {self.units}{left}")
