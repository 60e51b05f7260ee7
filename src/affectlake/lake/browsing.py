"""What a version contains: its tables and columns, the embedding of an agent, and what is known of a stimulus.

Versions of any age are read as they are; a table or column that a version does not have is reported by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import UsageError, VersionError, nearest
from affectlake.lake.store.known_hashes import whole_files
from affectlake.lake.store.versions import Manifest, Version
from affectlake.lake.tables.contracts import contracts
from affectlake.lake.tables.scanning import n_rows_of, scan_published
from affectlake.rsm import correlation_rsm


class TableFacts(NamedTuple):
    """A table of a version: name, number of rows, its partitions (mostly agents), and what a row is."""

    table: str
    n_rows: int
    partitions: str
    grain: str


class ColumnFacts(NamedTuple):
    """A column of a table: name, type, unit, and meaning; unit and meaning are empty if no contract has the column."""

    column: str
    type: str
    unit: str
    meaning: str


class StimulusFacts(NamedTuple):
    """What is known of a stimulus.

    Attributes
    ----------
    stimulus_index : int
        Its row, from 0.
    stimulus_id : str
        Its name.
    category : str or None
        Its category.
    captions : list of str
        Its captions.
    ratings : polars.DataFrame
        ``family, rating, score``, the highest score of each family first.
    """

    stimulus_index: int
    stimulus_id: str
    category: str | None
    captions: list[str]
    ratings: pl.DataFrame


def table_of(root: Path, version: Version, name: str) -> pl.LazyFrame:
    """Return a table of a version; see :meth:`affectlake.lake.open.Lake.table`."""
    manifest = Manifest(root, version.commit)
    tables = manifest.tables()
    if name not in tables:
        raise VersionError(
            f"{version.name} has no table {name!r}", allowed=", ".join(tables), todo=nearest(name, tables)
        )
    return scan_published(whole_files(manifest, *tables[name]))


def tables_of(root: Path, version: Version) -> list[TableFacts]:
    """Return the tables of a version, in alphabetical order."""
    manifest, known, found = Manifest(root, version.commit), contracts(), []
    for name, outputs in manifest.tables().items():
        n_rows = sum(n_rows_of(file.cached) for file in whole_files(manifest, *outputs))
        partitions = ", ".join(output.partition for output in outputs if output.partition)
        found.append(TableFacts(name, n_rows, partitions, known[name].grain if name in known else ""))
    return found


def columns_of(root: Path, version: Version, table: str) -> list[ColumnFacts]:
    """Return the columns of a table of a version, in their order."""
    schema = table_of(root, version, table).collect_schema()
    known = contracts().get(table)
    described = {column.name: column for column in known.columns} if known else {}
    return [
        ColumnFacts(name, str(kind), described[name].unit, described[name].meaning)
        if name in described
        else ColumnFacts(name, str(kind), "", "")
        for name, kind in schema.items()
    ]


def embedding_of(root: Path, version: Version, agent: str, seed: int | None = None) -> NDArray[np.float32]:
    """Return an embedding of an agent.

    Parameters
    ----------
    root : Path
        Root of the lake.
    version : Version
        The version.
    agent : str
        The agent.
    seed : int, optional
        Seed of the fit; by default, the representative fit.

    Returns
    -------
    float32 (n_stimuli, n_dimensions)
        Rows in the order of ``stimulus_index``, dimensions by decreasing sum of weights.

    Raises
    ------
    VersionError
        If the agent has no such embedding in this version.
    """
    every = table_of(root, version, "embeddings")
    own = every.filter(pl.col("agent") == agent)
    seeds = own.select(pl.col("seed").unique().sort()).collect()["seed"].to_list()
    if not seeds:
        agents = every.select(pl.col("agent").unique().sort()).collect()["agent"].to_list()
        raise VersionError(
            f"{agent} has no embedding in {version.name}",
            allowed=", ".join(agents) or "no agent has one",
            todo=nearest(agent, agents) or "its fits may have learned nothing: see `note` of the table fits",
        )
    if seed is None and len(seeds) > 1:
        seed = _representative(root, version, agent)
    wanted = seeds[0] if seed is None else seed
    if wanted not in seeds:
        raise VersionError(
            f"{agent} has no fit with seed {wanted} in {version.name}", allowed=", ".join(map(str, seeds))
        )
    rows = own.filter(pl.col("seed") == wanted).sort("dimension", "stimulus_index").collect()
    return np.ascontiguousarray(rows["weight"].to_numpy().reshape(rows["dimension"].n_unique(), -1).T)


def _representative(root: Path, version: Version, agent: str) -> int:
    """Return the seed of the representative fit; in versions without ``fits``, that of the layout."""
    tables = Manifest(root, version.commit).tables()
    name = "fits" if "fits" in tables else "layouts"
    rows = table_of(root, version, name).filter(pl.col("agent") == agent)
    chosen = rows.filter("representative") if name == "fits" else rows
    return int(chosen.select(pl.col("seed").first()).collect().item())


def rsm_of(root: Path, version: Version, agent: str, seed: int | None = None) -> NDArray[np.float64]:
    """Return Pearson's correlation of the embeddings of every pair of stimuli, (n_stimuli, n_stimuli)."""
    return correlation_rsm(embedding_of(root, version, agent, seed))


def stimulus_of(root: Path, version: Version, stimulus: str | int) -> StimulusFacts:
    """Return what is known of a stimulus, by its id or its index.

    Raises
    ------
    UsageError
        If there is no such stimulus.
    """
    stimuli = table_of(root, version, "stimuli").collect()
    column = "stimulus_index" if isinstance(stimulus, int) else "stimulus_id"
    found = stimuli.filter(pl.col(column) == stimulus)
    if found.is_empty():
        ids = stimuli["stimulus_id"].to_list()
        raise UsageError(
            f"{version.name} has no stimulus {stimulus!r}",
            allowed=f"an id such as {ids[0]!r}, or an index from 0 to {len(ids) - 1}",
            todo=nearest(str(stimulus), ids),
        )
    row = found.row(0, named=True)
    index = int(row["stimulus_index"])
    here, tables = pl.col("stimulus_index") == index, Manifest(root, version.commit).tables()
    captions: list[str] = []
    if "captions" in tables:
        captions = table_of(root, version, "captions").filter(here).collect()["caption"].to_list()
    ratings = pl.DataFrame(schema={"family": pl.String, "rating": pl.String, "score": pl.Float64})
    if "ratings" in tables:
        own = table_of(root, version, "ratings").filter(here).select("family", "rating", "score")
        ratings = own.sort("family", "score", descending=[False, True]).collect()
    return StimulusFacts(index, row["stimulus_id"], row.get("category"), captions, ratings)
