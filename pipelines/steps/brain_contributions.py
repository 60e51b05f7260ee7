"""Step that estimates what bands of features contribute to regions by stacked encoding and three kinds of RSA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.brain.contributions.estimates import Estimates, estimates
from affectlake.brain.contributions.pair_scores import FEWEST_STIMULI
from affectlake.brain.contributions.partial_rsa import (
    FEWEST_FEATURES,
    PartialRSA,
    band_distances,
    squared_distances,
)
from affectlake.brain.contributions.pattern_products import pattern_distances
from affectlake.brain.contributions.quantities import Quantity, Scores, quantities_of
from affectlake.brain.contributions.stacked_encoding import StackedEncoding, encode_stacked, losses
from affectlake.brain.contributions.voxel_encoded_rsa import voxel_encoded_rsa
from affectlake.brain.contributions.weighted_rsa import WeightedRSA
from affectlake.brain.encoding.band_problem import subsets
from affectlake.brain.encoding.folds import Folds
from affectlake.brain.encoding.shares import intervals
from affectlake.brain.recordings import regions
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.band_features import Bands, bands_of, nuisance_of
from affectlake.pipelines.steps.brain_arrays import Subject, brain_of, folds_of, subjects_of
from affectlake.pipelines.steps.partition_rows import mean_over_subjects, with_levels
from affectlake.pipelines.steps.progress import Progress
from affectlake.pipelines.steps.rows import Row, to_table

Floats = NDArray[np.float64]

FEWEST_VOXELS = 3
"""Usable voxels of a region below which its patterns have no correlation distances."""


class NoValueError(Exception):
    """Why a method has no value."""


@step(
    reads=("stimuli", "captions", "frames", "motion", "voxels", "betas", "embeddings/{agents}", "fits/{agents}"),
    writes=("band_contributions", "contribution_stats"),
    params=(
        "seed",
        "brain.encoding.outer_folds",
        "brain.encoding.inner_folds",
        "brain.encoding.by_run",
        "brain.partition.bands",
        "brain.partition.nuisance",
        "brain.contributions",
    ),
    section="brain.contributions",
    version=1,
)
def estimate_contributions(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Estimate what each band contributes to regions, by stacked encoding, voxel-encoded, weighted and partial RSA."""
    brain = brain_of(params)
    assert brain.partition is not None and brain.contributions is not None
    n_stimuli = tables["stimuli"].select(pl.len()).collect().item()
    bands, missing = bands_of(tables, brain.partition)
    nuisance = {} if missing else nuisance_of(tables, brain.partition, n_stimuli, context)
    for line in missing.values():
        context.log(line)
    rows: list[Row] = []
    for subject in subjects_of(tables, context):
        own = _OneSubject(subject, folds_of(subject, params), bands, nuisance, list(brain.partition.bands), context)
        member = regions.from_words(subject.regions)
        names = [*member.keys, "all"]
        inside = np.vstack([member.voxels, np.ones(len(subject.regions), dtype=bool)]) & subject.usable
        progress = Progress(context, subject.name, "regions")
        for at, (region, voxels) in enumerate(zip(names, inside, strict=True)):
            for method in brain.contributions.methods:
                keys: Row = {"subject": subject.name, "region": region, "contribution_method": method,
                             "n_voxels": int(voxels.sum()), "n_stimuli": len(subject.stimulus_index)}  # fmt: skip
                rows += [keys | row for row in _of_method(own, method, voxels, "; ".join(missing.values()))]
            progress(at + 1, len(names))
        whole = [row for row in rows if row["subject"] == subject.name and row["region"] == "all"]
        context.log(f"{subject.name}: {_in_words(whole)}, {int(inside[-1].sum()):,} voxels")
    table = to_table("band_contributions", rows)
    return {"band_contributions": table, "contribution_stats": to_table("contribution_stats", _across_subjects(table))}


def _of_method(own: _OneSubject, method: str, voxels: NDArray[np.bool_], missing: str) -> list[Row]:
    """Return the rows of a region, without the columns that all methods have; without values, why."""
    try:
        if missing:
            raise NoValueError(missing)
        return METHODS[method](own, voxels)
    except NoValueError as why:
        return [{"quantity": quantity, "band": band, "note": str(why)} for quantity, band in own.quantities(method)]


@dataclass
class _OneSubject:
    """One subject with the bands; what several regions or methods need is computed once."""

    subject: Subject
    folds: Folds
    every_band: Bands
    every_nuisance: Bands
    names: list[str]
    context: StepContext
    _last: tuple[bytes, Floats] = (b"", np.empty(0))

    @cached_property
    def bands(self) -> Bands:
        return {name: x[self.subject.stimulus_index] for name, x in self.every_band.items()}

    @cached_property
    def nuisance(self) -> Bands:
        return {name: x[self.subject.stimulus_index] for name, x in self.every_nuisance.items()}

    @cached_property
    def models(self) -> list[tuple[str, ...]]:
        return [tuple(self.names[band] for band in model) for model in subsets(len(self.names))]

    def quantities(self, method: str) -> list[Quantity]:
        """Return the quantities that a method estimates."""
        found = quantities_of(self.models)[0]
        return [one for one in found if one.name != "all"] if method == "partial_rsa" else found

    @cached_property
    def signs(self) -> Floats:
        return quantities_of(self.models)[1]

    @cached_property
    def stacked(self) -> StackedEncoding:
        return encode_stacked(
            self.bands,
            self.subject.z_scored,
            self.folds,
            nuisance=self.nuisance,
            workers=self.context.workers,
            checkpoint=self.context.scratch / f"{self.subject.name}-stacked",
            on_voxels=Progress(self.context, f"{self.subject.name}, encoding", "voxels"),
        )

    @cached_property
    def weighted(self) -> WeightedRSA:
        parts = [*self.bands.values(), *self.nuisance.values()]
        band_of = np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts])
        fixed = tuple(range(len(self.bands), len(parts)))
        models = [(*model, *fixed) for model in subsets(len(self.bands))]
        return WeightedRSA(np.concatenate(parts, axis=1), band_of, models, self.folds.outer)

    @cached_property
    def partial(self) -> PartialRSA:
        few = [name for name, x in self.bands.items() if x.shape[1] < FEWEST_FEATURES]
        if few:
            raise NoValueError(f"{few[0]} has fewer than {FEWEST_FEATURES} dimensions, and so no correlation distances")
        found = {name: band_distances(x) for name, x in self.bands.items()}
        for name, distances in found.items():
            unknown = int(np.isnan(np.diag(distances)).sum())
            if unknown:
                raise NoValueError(
                    f"{unknown} stimuli have equal values on all dimensions of {name}, and so no distances"
                )
        return PartialRSA(found, {name: squared_distances(x) for name, x in self.nuisance.items()})

    def distances(self, voxels: NDArray[np.bool_]) -> Floats:
        """Return the correlation distances of a region's patterns.

        Raises
        ------
        NoValueError
            If there are too few voxels, or a pattern is constant.
        """
        if voxels.sum() < FEWEST_VOXELS:
            raise NoValueError(f"fewer than {FEWEST_VOXELS} voxels of the region can be used")
        key = np.packbits(voxels).tobytes()
        if key != self._last[0]:
            self._last = key, pattern_distances(self.subject.z_scored, voxels)
        if np.isnan(self._last[1]).any():
            raise NoValueError("a stimulus has the same value in all voxels of the region")
        return self._last[1]

    def check_folds(self) -> None:
        """Raise if a fold has too few stimuli for correlations of their pairs."""
        least = int(np.bincount(self.folds.outer).min())
        if least < FEWEST_STIMULI:
            raise NoValueError(f"an outer fold has {least} stimuli; correlations of pairs need {FEWEST_STIMULI}")

    def rows(self, method: str, found: Estimates) -> list[Row]:
        return [
            {"quantity": one.name, "band": one.band, "contribution": found.value[at], "ci_low": found.low[at],
             "ci_high": found.high[at], "p": found.p[at],
             "note": "the other bands determine the band's distances" if np.isnan(found.value[at]) else None}
            for at, one in enumerate(self.quantities(method))
        ]  # fmt: skip

    def of_folds(self, method: str, scores: Scores) -> list[Row]:
        """Return the rows of scores of models that are means over held-out folds."""
        quantities = Scores(self.signs @ scores.value, self.signs @ scores.influence)
        return self.rows(method, estimates(quantities, self.subject.runs, self.folds.outer))


def _stacked_encoding(own: _OneSubject, voxels: NDArray[np.bool_]) -> list[Row]:
    used = voxels & own.stacked.usable
    if not used.any():
        raise NoValueError("no voxel of the region can be used")
    errors = losses(own.stacked, own.subject.z_scored, own.folds, used[None], workers=own.context.workers)
    ends = intervals(errors, own.signs, len(own.folds.inner), own.subject.runs)
    rows = own.rows("stacked_encoding", Estimates(*(part[:, 0] for part in (ends.value, ends.low, ends.high, ends.p))))
    weights = own.stacked.weights[:, -1][..., used].mean(axis=(0, 2), dtype=np.float64)
    return rows + [
        {"quantity": "weight", "band": band, "contribution": weight}
        for band, weight in zip(own.names, weights.tolist(), strict=False)  # those of nuisance features come last
    ]


def _voxel_encoded_rsa(own: _OneSubject, voxels: NDArray[np.bool_]) -> list[Row]:
    own.check_folds()
    own.distances(voxels)  # for its messages
    scores = voxel_encoded_rsa(own.stacked, own.subject.z_scored, own.folds, voxels, workers=own.context.workers)
    return own.of_folds("voxel_encoded_rsa", scores)


def _weighted_rsa(own: _OneSubject, voxels: NDArray[np.bool_]) -> list[Row]:
    own.check_folds()
    return own.of_folds("weighted_rsa", own.weighted.scores(own.distances(voxels)))


def _partial_rsa(own: _OneSubject, voxels: NDArray[np.bool_]) -> list[Row]:
    if len(own.subject.stimulus_index) < FEWEST_STIMULI:
        raise NoValueError(f"correlations of pairs need {FEWEST_STIMULI} stimuli")
    return own.rows("partial_rsa", estimates(own.partial.scores(own.distances(voxels)), own.subject.runs))


METHODS: dict[str, Callable[[_OneSubject, NDArray[np.bool_]], list[Row]]] = {
    "stacked_encoding": _stacked_encoding,
    "voxel_encoded_rsa": _voxel_encoded_rsa,
    "weighted_rsa": _weighted_rsa,
    "partial_rsa": _partial_rsa,
}


def _in_words(rows: list[Row]) -> str:
    """Return what each band adds to the others by each method."""
    return ", ".join(
        f"{row['contribution_method']} {row['band']} {row['contribution']:.4f}"
        for row in rows
        if row["quantity"] == "unique" and row.get("contribution") is not None
    )


def _across_subjects(table: pl.DataFrame) -> list[Row]:
    """Return the mean of each method, quantity, band and region over subjects, with Student's interval and test."""
    rows: list[Row] = []
    for (method, quantity, band), own in table.group_by("contribution_method", "quantity", "band", maintain_order=True):
        if quantity != "weight":
            rows += with_levels([
                {"contribution_method": method, "quantity": quantity, "band": band, "region": region}
                | mean_over_subjects(one["contribution"], "contribution")
                for (region,), one in own.group_by("region", maintain_order=True)
            ])  # fmt: skip
    return rows
