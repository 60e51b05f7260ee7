"""Brain tables as arrays, one subject at a time; patterns are memory-mapped from a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.brain import statistics
from affectlake.brain.encoding.folds import Folds, folds_by_run, nested_folds
from affectlake.brain.recordings import regions
from affectlake.brain.recordings.subjects import Aligned, ZScored, z_scored
from affectlake.errors import UsageError
from affectlake.judge.agents import RatingsAgent
from affectlake.judge.vectors.ratings import families_of, rating_vectors
from affectlake.lake.tables.memmaps import map_lists
from affectlake.pipelines.params.brain import Brain
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import StepContext, Tables
from affectlake.pipelines.steps.arrays import representative, representative_of
from affectlake.rsm import correlation_rsm
from affectlake.seeds import generator


class Method(NamedTuple):
    """A method that compares brains with agents: its name, the table of its maps, and the column of the values."""

    name: str
    table: str
    value: str


METHODS = (Method("encoding", "encoding_maps", "encoding_r"), Method("searchlight", "rsa_maps", "rho"))
NULLS = {"encoding": "encoding_nulls", "searchlight": "rsa_nulls"}
"""Tables of the region scores under relabelled stimuli, by method."""

FEWEST_COMPARED = 4
"""Stimuli of a comparison of similarities, below which there is none."""


@dataclass(frozen=True)
class Subject:
    """One subject: patterns float32 (n, v), their stimuli, runs and the agreement of the halves of repeats (n,; NaN for
    a stimulus that was shown once), and voxels: (v, 3), bool (v,), (v,).

    The patterns may be a read-only memory map of a file, so read only the voxels that are needed.
    """

    name: str
    stimulus_index: NDArray[np.int32]
    runs: NDArray[np.int64] | None
    split_half_r: NDArray[np.float64]
    patterns: NDArray[np.float32]
    voxels: NDArray[np.int32]
    usable: NDArray[np.bool_]
    regions: tuple[str, ...]

    @property
    def z_scored(self) -> ZScored:
        """The patterns with mean 0 and standard deviation 1 per voxel, computed when they are read."""
        return ZScored(self.patterns)

    def inside(self, region: str) -> NDArray[np.bool_]:
        """Return a mask of the voxels in a region; ``all`` stands for all voxels."""
        return np.array([region == "all" or region in text.split() for text in self.regions], dtype=bool)


def subjects_of(tables: Tables, context: StepContext) -> Iterator[Subject]:
    """Yield the subjects of `betas` and `voxels`, sorted by name."""
    names = tables["voxels"].select(pl.col("subject").unique().sort()).collect()["subject"].to_list()
    for name in names:
        voxels = tables["voxels"].filter(pl.col("subject") == name).sort("voxel_index").collect()
        mine = tables["betas"].filter(pl.col("subject") == name).sort("stimulus_index")
        rows = mine.select("stimulus_index", "run", "split_half_r").collect()
        yield Subject(
            name,
            rows["stimulus_index"].to_numpy(),
            None if rows["run"].null_count() else rows["run"].cast(pl.Int64).to_numpy(),
            rows["split_half_r"].fill_null(np.nan).to_numpy(),
            _patterns(mine, context, name, voxels.height),
            voxels.select("voxel_i", "voxel_j", "voxel_k").to_numpy().astype(np.int32),
            voxels["usable"].to_numpy(),
            tuple(voxels["regions"].to_list()),
        )


def _patterns(rows: pl.LazyFrame, context: StepContext, subject: str, n_voxels: int) -> NDArray[np.float32]:
    if "betas" in context.parts:
        return map_lists(context.lake, context.parts["betas"], "pattern", "subject", subject)
    return rows.select("pattern").collect()["pattern"].list.to_array(n_voxels).to_numpy()  # a table in memory


def beta_rows(name: str, found: Aligned, spill: Path) -> pl.DataFrame:
    """Return a subject's rows of `betas`, with the patterns in a file rather than in memory.

    Parameters
    ----------
    name : str
        Name of the subject.
    found : Aligned
        The patterns of the subject.
    spill : Path
        The file, which must exist as long as the rows are used.

    Returns
    -------
    polars.DataFrame
        The rows.
    """
    import pyarrow as pa  # imported late: reading a lake does without it

    n, v = found.patterns.shape
    # lists of equal length over the memory of the array: nothing is copied before it is written
    lists = pa.LargeListArray.from_arrays(pa.array(np.arange(n + 1) * v), pa.array(found.patterns.ravel()))
    table = pa.table(
        {
            "subject": pa.array([name] * n, pa.large_string()),
            "stimulus_index": found.stimulus_index,
            "run": pa.array(found.runs.astype(np.int32), mask=found.runs < 0),
            "n_presentations": found.n_presentations,
            "split_half_r": pa.array(found.split_half_r, mask=np.isnan(found.split_half_r)),
            "pattern": lists,
        }
    )
    with pa.OSFile(str(spill), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return pl.from_arrow(pa.ipc.open_file(pa.memory_map(str(spill))).read_all())  # type: ignore[return-value]


def brain_of(params: Params) -> Brain:
    """Return the section ``brain``."""
    assert params.brain is not None
    return params.brain


def vectors_of(tables: Tables, params: Params, agent: str) -> tuple[int, dict[str, NDArray[np.floating]]]:
    """Return the seed of an agent's representative fit, and its bases, each (n_stimuli, d); no bases without a fit.

    The tables `embeddings` and `fits` must contain the rows of this agent alone.
    """
    chosen = representative(tables)
    if chosen is None:
        return 0, {}
    seed, weights = chosen
    found: dict[str, NDArray[np.floating]] = {"embedding": weights}
    described, n_stimuli = params.agents[agent], tables["stimuli"].select(pl.len()).collect().item()
    if isinstance(described, RatingsAgent):
        families = families_of(tables["families"].collect(), described.ratings, described.scaling, agent)
        found["vectors"] = rating_vectors(tables["ratings"].collect(), families, n_stimuli)
    return seed, found


def common_stimuli(stimuli: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Return the stimuli that all subjects have, sorted: int32 (n,)."""
    return np.array(sorted(set.intersection(*(set(own.tolist()) for own in stimuli))), dtype=np.int32)


def described_stimuli(tables: Tables) -> NDArray[np.int32]:
    """Return the stimuli that every agent describes: int32 (n,)."""
    shared = tables["shared_stimuli"].filter("shared").select("stimulus_index").collect()
    return shared["stimulus_index"].to_numpy()


def shared_stimuli(tables: Tables, subjects: Sequence[Subject]) -> NDArray[np.int32]:
    """Return the stimuli that every agent describes and every subject has, sorted: int32 (n,)."""
    return common_stimuli([described_stimuli(tables), *(one.stimulus_index for one in subjects)])


def agent_rsms(
    tables: Tables, context: StepContext, stimuli: NDArray[np.integer]
) -> dict[str, NDArray[np.float64] | str]:
    """Return the RSM of each agent's embedding over `stimuli`; or why it has none. Agents are sorted by name."""
    from affectlake.brain.searchlight.kernels import MODEL_DECIMALS  # late: with it, kernels are compiled

    found: dict[str, NDArray[np.float64] | str] = {}
    for agent in sorted(context.agents):
        fitted = representative_of(tables, agent)
        if fitted is None:
            found[agent] = f"{agent} has no fit with a dimension"
            continue
        enough = len(stimuli) >= FEWEST_COMPARED
        rsm = correlation_rsm(fitted[1][stimuli].astype(np.float64)) if enough else np.empty((0, 0))
        found[agent] = np.round(rsm, MODEL_DECIMALS)  # equal similarities, as in the searchlight
    return found


def region_rsms(subjects: Sequence[Subject], shared: NDArray[np.int32], region: str) -> NDArray[np.float64]:
    """Return the RSM of each subject's usable voxels in a region: float64 (n_subjects, n, n).

    Voxels are z-scored over the `shared` stimuli. Subjects with fewer than three such voxels are left out, and all with
    fewer than four stimuli.
    """
    found = []
    for one in subjects if len(shared) >= FEWEST_COMPARED else ():
        at = np.ix_(np.isin(one.stimulus_index, shared), one.usable & one.inside(region))
        patterns = z_scored(one.patterns[at])
        if patterns.shape[1] >= 3 and np.isfinite(patterns).all():
            found.append(correlation_rsm(patterns))
    return np.array(found).reshape(len(found), len(shared), len(shared))


def folds_of(subject: Subject, params: Params) -> Folds:
    """Return the folds of a subject's stimuli.

    Raises
    ------
    UsageError
        If there are too few stimuli or runs.
    """
    wanted = brain_of(params).encoding
    try:
        if wanted.by_run and subject.runs is not None:
            return folds_by_run(subject.runs, wanted.outer_folds, wanted.inner_folds)
        rng = generator(params.seed, "brain", "folds", subject.name)
        return nested_folds(len(subject.stimulus_index), wanted.outer_folds, wanted.inner_folds, rng)
    except UsageError as error:
        raise UsageError(
            f"{subject.name}: {error.summary}", wanted=error.wanted, found=error.found, allowed=error.allowed,
            todo="set fewer folds in brain.encoding, or leave the subject out",
        ) from error  # fmt: skip


def null_orders(params: Params, method: str, stimuli: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """Return `count` orders of a subject's stimuli: those of relabelled stimuli, int64 (count, n).

    They are the same for all agents, and for all subjects that have the same stimuli, so that differences between
    agents and means over subjects have null distributions too.
    """
    rng = generator(params.seed, "brain", "null", method)
    size = int(stimuli.max(initial=-1)) + 1
    # stimulus s has key [k, s] whatever the number of stimuli: one row of keys for each stimulus
    keys = rng.random((size, count)).T[:, stimuli]
    return np.argsort(keys, axis=1, kind="stable")


def region_nulls(agent: str, subject: Subject, basis: str, null: NDArray[np.floating]) -> pl.DataFrame:
    """Return the mean of a map's null distribution, float (n_permutations, n_voxels), over each region, as rows."""
    member = regions.from_words(subject.regions)
    names = [*member.keys, "all"]
    inside = np.vstack([member.voxels, np.ones(len(subject.regions), dtype=bool)])
    means = statistics.region_means(null, inside).T.astype(np.float32) if len(null) else np.empty((len(names), 0))
    scores = pl.Series(means.tolist(), dtype=pl.List(pl.Float32))
    n = len(names)
    return pl.DataFrame(
        {"agent": [agent] * n, "subject": [subject.name] * n, "basis": [basis] * n, "region": names,
         "null_scores": scores}
    ).sort("agent", "subject", "basis", "region")  # fmt: skip
