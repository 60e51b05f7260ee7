"""The inputs of a report: tables and metadata as plain data. Nothing here reads a file or draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.report.volumes import Volume
from affectlake.report.wording import Wording, wording_of

STRONGEST = 6
"""Number of stimuli shown for each dimension."""


@dataclass(frozen=True)
class VersionFacts:
    """The version of the lake that the report shows.

    Parameters
    ----------
    name : str
        Name of the version, such as ``v3``.
    commit : str
        Its full Git commit.
    created_iso : str
        Time of the commit, ISO 8601.
    author : str
        Author of the commit.
    code_version : str
        Version of affectlake that built the tables.
    message : str
        The commit message.
    """

    name: str
    commit: str
    created_iso: str
    author: str
    code_version: str
    message: str


class RatingFamily(NamedTuple):
    """A family of ratings: its name, its plural on the page, whether it has categories, and its ratings by name."""

    name: str
    plural: str
    are_categories: bool
    ratings: tuple[str, ...]


class DimensionMaps(NamedTuple):
    """Brain maps of single dimensions of an agent: the weights of its encoding models, and their patterns.

    Parameters
    ----------
    dimensions : tuple of int
        The dimensions that are shown: those with the largest total weights over all stimuli.
    n_dimensions : int
        Number of dimensions of the embedding.
    volumes : tuple of Volume
        One for each subject. The keys of its values are the effect, "weights" or "patterns", and the dimension.
    rows : polars.DataFrame
        ``subject, effect, dimension, voxel_index, value, significant``.
    """

    dimensions: tuple[int, ...]
    n_dimensions: int
    volumes: tuple[Volume, ...]
    rows: pl.DataFrame


class GroupMaps(NamedTuple):
    """Means of maps over subjects on one grid.

    Parameters
    ----------
    volume : Volume
        ``(method, agent)``: the mean of the agent's maps, with the voxels that are significant.
    threshold : str
        Which voxels are significant; empty: the volume has no mask.
    n_subjects, n_flips : int
        Number of subjects, and of the flips of their signs by which means are tested.
    """

    volume: Volume
    threshold: str
    n_subjects: int
    n_flips: int


@dataclass(frozen=True)
class BrainInputs:
    """The inputs of the section on the brain.

    Parameters
    ----------
    scores, stats, ceilings : polars.DataFrame
        The tables ``roi_scores``, ``group_stats`` and ``noise_ceilings``.
    regions : tuple of (key, group, name)
        The regions, in the order in which they are shown; group is "cortical" or "subcortical".
    subject : str
        The subject whose maps are drawn.
    maps : polars.DataFrame
        ``agent, method, voxel_index, value`` of that subject; missing values are null.
    volumes : tuple of Volume
        The maps of every subject, `subject` first, with the voxels that are significant.
    thresholds : mapping of str to str
        For each method, which voxels are significant; without an entry, the volumes have no mask.
    reference : str
        The agent with which stars compare the others; empty: there are no stars.
    values : mapping of (subject, method, agent) to float32 (n_voxels,)
        The maps of every subject without a mask, in the order of the voxels; NaN for missing values.
    rating_values : mapping of (subject, method, agent) to float32 (n_voxels,)
        The same for the rating vectors of agents made of ratings, in place of their embeddings.
    dimensions : mapping of str to DimensionMaps
        Maps of dimensions of each agent with encoding models.
    winners : Volume, optional
        For each band of agents, ``("winner", band)``: the share of a cell's voxels of `subject` that the band wins.
    prevalence : polars.DataFrame
        The table ``prevalence``; empty in versions before it.
    group : GroupMaps, optional
        Means of the maps over subjects.
    """

    scores: pl.DataFrame
    stats: pl.DataFrame
    ceilings: pl.DataFrame
    regions: tuple[tuple[str, str, str], ...]
    subject: str
    maps: pl.DataFrame
    volumes: tuple[Volume, ...]
    thresholds: Mapping[str, str] = field(default_factory=dict)
    reference: str = ""
    values: Mapping[tuple[str, str, str], NDArray[np.float32]] = field(default_factory=dict)
    rating_values: Mapping[tuple[str, str, str], NDArray[np.float32]] = field(default_factory=dict)
    dimensions: Mapping[str, DimensionMaps] = field(default_factory=dict)
    winners: Volume | None = None
    prevalence: pl.DataFrame = field(default_factory=pl.DataFrame)
    group: GroupMaps | None = None


@dataclass(frozen=True)
class ReportInputs:
    """All inputs of one report.

    Tables have the columns of :data:`affectlake.report.columns.COLUMNS` and may have others; any of them may be empty.

    Parameters
    ----------
    study : str
        Name of the study.
    synthetic : bool
        Whether the data are synthetic; the page then has a notice at every figure.
    version : VersionFacts
        The version that the tables belong to.
    params : mapping
        ``params.yaml`` as nested dicts, in its order; ``params["agents"]`` maps agent to settings with a ``kind``.
    tables : polars.DataFrame
        ``table, partition, n_rows, n_files, n_bytes, digest`` and optionally others: one row per table and partition of
        the version.
    stimuli, ratings, captions, exclusions, metrics, embeddings, layouts, learning_curves : polars.DataFrame
        The tables of those names.
    representatives : polars.DataFrame
        ``agent, seed``: the representative fit of each agent.
    trial_counts : polars.DataFrame
        ``trial_set, split, n_triplets``.
    choice_counts : polars.DataFrame
        ``agent, protocol, trial_set, position, n_choices, n_tied``; position is 1, 2 or 3 if the odd one is i, j or k,
        and null for anchored triplets.
    analyses : mapping of str to polars.DataFrame
        Tables of the version by name, for :meth:`table`.
    verdicts : mapping of str to str
        What is wrong with the answers of an agent, in words; agents whose answers are usable are not in it.
    thumbnails : mapping of int to bytes
        Small JPEG images of the stimuli with large weights, by ``stimulus_index``; empty if there are no videos.
    map_frames : mapping of (int, int) to bytes
        Frames over which maps are shown, by ``stimulus_index`` and ``frame_index``.
    rsms : mapping of str to (int64 (n,), float64 (n, n), float64 (n, n))
        For each agent, the prototypes and their similarities: predicted by its embedding, and measured in its choices.
    brain : BrainInputs, optional
        None for a study without brains.
    left_out : tuple of str
        What the page cannot show because the version lacks it, one line each; empty under the current contracts.
    unshareable : tuple of str
        What of the version may not be republished, one line each: left out of the tables, unless `for_myself`.
    for_myself : bool
        Whether the tables have it nevertheless; the page then has a notice.
    is_todays : bool
        Whether every table was written under the current contract. A figure that cannot be drawn from tables of other
        contracts, older or newer, is left out with the reason.
    """

    study: str
    synthetic: bool
    version: VersionFacts
    params: Mapping[str, Any]
    tables: pl.DataFrame
    stimuli: pl.DataFrame
    ratings: pl.DataFrame
    captions: pl.DataFrame
    exclusions: pl.DataFrame
    metrics: pl.DataFrame
    embeddings: pl.DataFrame
    layouts: pl.DataFrame
    learning_curves: pl.DataFrame
    representatives: pl.DataFrame
    trial_counts: pl.DataFrame
    choice_counts: pl.DataFrame
    analyses: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    verdicts: Mapping[str, str] = field(default_factory=dict)
    thumbnails: Mapping[int, bytes] = field(default_factory=dict)
    map_frames: Mapping[tuple[int, int], bytes] = field(default_factory=dict)
    rsms: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)
    brain: BrainInputs | None = None
    left_out: tuple[str, ...] = ()
    unshareable: tuple[str, ...] = ()
    for_myself: bool = False
    is_todays: bool = True

    @cached_property
    def wording(self) -> Wording:
        """The words of the study."""
        return wording_of(self.params)

    @cached_property
    def families(self) -> list[RatingFamily]:
        """The families of ratings: the one of categories first, then the others by name."""
        known = self.table("families")
        kinds = {"category": True} if known is None else dict(known.select("family", "are_categories").iter_rows())
        found = [
            RatingFamily(name, self.wording.families.get(name, name), kinds.get(name, False), tuple(names))
            for name, names in self.ratings.group_by("family").agg(pl.col("rating").unique().sort()).iter_rows()
        ]
        return sorted(found, key=lambda one: (not one.are_categories, one.name))

    def table(self, name: str, agent: str = "") -> pl.DataFrame | None:
        """Return a table of the version, or an agent's rows of it; None if the version has no such rows."""
        rows = self.analyses.get(name)
        if rows is None:
            return None
        own = rows.filter(pl.col("agent") == agent) if agent else rows
        return own if len(own) else None
