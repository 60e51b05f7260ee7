"""What a report is made from: tables and facts as plain data. Nothing here reads a file or draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from affectlake.report.volumes import Volume

STRONGEST = 6
"""As many stimuli are shown of each dimension."""


@dataclass(frozen=True)
class VersionFacts:
    """Which version of the lake the report shows.

    Parameters
    ----------
    name : str
        What the lake calls the version.
    commit : str
        Its full Git commit.
    created_iso : str
        When the commit was made, ISO 8601.
    author : str
        Who made it.
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


@dataclass(frozen=True)
class BrainInputs:
    """What the section on the brain shows.

    Parameters
    ----------
    scores, stats, ceilings : polars.DataFrame
        The tables ``roi_scores``, ``group_stats`` and ``noise_ceilings``.
    regions : tuple of (key, group, name)
        In the order in which they are shown; group is "cortical" or "subcortical".
    subject : str
        Whose maps are drawn.
    maps : polars.DataFrame
        ``agent, method, voxel_index, value`` of that subject; value is null where there is none.
    volumes : tuple of Volume
        The maps of every subject, `subject` first.
    """

    scores: pl.DataFrame
    stats: pl.DataFrame
    ceilings: pl.DataFrame
    regions: tuple[tuple[str, str, str], ...]
    subject: str
    maps: pl.DataFrame
    volumes: tuple[Volume, ...]


@dataclass(frozen=True)
class ReportInputs:
    """Everything that one report shows.

    Tables have the columns of :data:`affectlake.report.columns.COLUMNS` and maybe others; any may be without rows.

    Parameters
    ----------
    title, study : str
        Heading of the page and name of the study.
    synthetic : bool
        Whether the data were made by the demo world; the page then says so everywhere.
    version : VersionFacts
        Which version the tables are from.
    params : mapping
        ``params.yaml`` as nested dicts, in its order; ``params["agents"]`` maps agent to settings with a ``kind``.
    tables : polars.DataFrame
        ``table, partition, n_rows, n_files, n_bytes, digest`` and maybe others: one row per table and partition of the
        version.
    stimuli, ratings, captions, exclusions, metrics, embeddings, layouts, learning_curves : polars.DataFrame
        The tables of those names.
    representatives : polars.DataFrame
        ``agent, seed``: the fit that stands for each agent.
    trial_counts : polars.DataFrame
        ``trial_set, split, n_triplets``.
    choice_counts : polars.DataFrame
        ``agent, protocol, trial_set, position, n_choices, n_tied``; position 1, 2 or 3 when the odd one is i, j or k.
    analyses : mapping of str to polars.DataFrame
        Any table of the version by name, for :meth:`table`; one that the version does not have is missing.
    thumbnails : mapping of int to bytes
        A small JPEG of stimuli with large weights, by ``stimulus_index``; empty where there are no videos.
    brain : BrainInputs, optional
        Left out for a study without brains.
    left_out : tuple of str
        What the version does not have of what is shown, one line each; empty for a version of today's contracts.
    is_todays : bool
        Whether every table was written under today's contract. A figure that fails on tables of other contracts, older
        or newer, is left out with the reason.
    """

    title: str
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
    thumbnails: Mapping[int, bytes] = field(default_factory=dict)
    brain: BrainInputs | None = None
    left_out: tuple[str, ...] = ()
    is_todays: bool = True

    def table(self, name: str, agent: str = "") -> pl.DataFrame | None:
        """Return a table of the version, or an agent's rows of it; None when the version has none."""
        rows = self.analyses.get(name)
        if rows is None:
            return None
        own = rows.filter(pl.col("agent") == agent) if agent else rows
        return own if len(own) else None
