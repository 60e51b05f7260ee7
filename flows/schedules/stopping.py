"""Whether a schedule stops: compare the newest embedding of its agent with an earlier one, on the same choices.

The validation choices of the main set are used, from which no embedding has learned; the test choices are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.flows.schedules.accuracy_gain import can_tell, level_of, n_needed, paired, upper_limit
from affectlake.flows.schedules.comparisons import Comparison, Comparisons, terms_of
from affectlake.lake.browsing import embedding_of, table_of
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.known_hashes import whole_files
from affectlake.lake.store.versions import Manifest, Version, list_versions
from affectlake.lake.tables.scanning import scan_published
from affectlake.pipelines.params.schedules import Schedule
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.steps.arrays import judged
from affectlake.spose.model import choice_probabilities
from affectlake.triplets import TRIPLET

_MADE_BY = ("sample", "choose_by_chat@{}", "weigh_choices@{}", "embed@{}", "rank_fits@{}")


class _Fitted(NamedTuple):
    """A version with an embedding of the agent, the choices of that version, and those of the main set by number."""

    version: Version
    choices: pl.LazyFrame
    n_judgments: int


def compare(lake: Path, params: Params, schedule: Schedule, slot: datetime) -> Comparison | str:
    """Compare the newest embedding of a schedule's agent with the one ``stop_when.over`` versions before.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    params : Params
        Its parameters.
    schedule : Schedule
        A schedule with ``stop_when``.
    slot : datetime
        The slot whose answers are in the newest version, UTC.

    Returns
    -------
    Comparison or str
        The comparison, which is recorded; or why there is none.

    Raises
    ------
    AffectlakeError
        If a version cannot be read, or has no embedding of the agent.
    """
    wanted, known, terms = schedule.stop_when, Comparisons(lake), terms_of(params, schedule)
    assert wanted is not None
    made = known.made(schedule.name, terms)
    versions = list(islice(_versions(lake, schedule.agent), wanted.over + 1))
    if len(versions) <= wanted.over:
        n = f"{len(versions)} of {wanted.over + 1} versions in which {schedule.agent} has more answers"
        return f"held-out accuracy is compared later: {n}"
    newest, earlier = versions[0], versions[-1]
    if any(one.n_judgments == newest.n_judgments for one in made):
        return "held-out accuracy is not compared again: no answer was added"
    rows = _validation(lake, newest, earlier)
    if not len(rows):
        return f"held-out accuracy is compared later: {earlier.version.name} has no validation choices"
    right = [_predicted(embedding_of(lake, one.version, schedule.agent), rows) for one in (newest, earlier)]
    counts, level = paired(*right), level_of(1 + sum(not one.n_needed for one in made))
    tells, upper = can_tell(counts, wanted.gain_below, level), upper_limit(counts, level)
    found = Comparison(
        slot=slot,
        newer=newest.version.name,
        earlier=earlier.version.name,
        n_judgments=newest.n_judgments,
        **counts._asdict(),
        gain=counts.gain,
        upper=upper,
        confidence=1 - level,
        n_needed=0 if tells else n_needed(counts, wanted.gain_below, level),
        has_stopped=tells and upper < wanted.gain_below,
        gain_below=wanted.gain_below,
    )
    known.record(schedule.name, terms, found)
    return found


def _versions(lake: Path, agent: str) -> Iterator[_Fitted]:
    """Yield the latest version with an embedding, then earlier ones fitted alike, each with fewer choices."""
    output, last, how = Output("choices", agent), "", None
    n_last: int | None = None
    for version in reversed(list_versions(lake)):
        manifest = None if version.is_lost else Manifest(lake, version.commit)
        if manifest is None or not {output, Output("embeddings", agent)} <= manifest.digests.keys():
            continue
        if how is not None and _conditions(manifest, agent) != how:
            return
        if manifest.digests[output] == last:
            continue
        last, how = manifest.digests[output], _conditions(manifest, agent)
        choices = scan_published(whole_files(manifest, output))
        n = int(choices.filter(pl.col("trial_set") == "main").select(pl.len()).collect().item())
        if n_last is None or n < n_last:
            n_last = n
            yield _Fitted(version, choices, n)


def _conditions(manifest: Manifest, agent: str) -> list[object]:
    """Return the settings and the versions of the steps under which an embedding was fitted."""
    stages = [manifest.stages.get(name.format(agent), {}) for name in _MADE_BY]
    return [(stage.get("cmd"), stage.get("params")) for stage in stages]


def _validation(lake: Path, newest: _Fitted, earlier: _Fitted) -> NDArray[np.int32]:
    """Return the validation choices that are the same in both versions: (m, 3), the odd one out last."""
    keys = ["trial_set", *TRIPLET, "repeat", "odd"]
    both = newest.choices.join(earlier.choices.select(keys), on=keys, how="semi")
    return judged({"choices": both, "triplets": table_of(lake, newest.version, "triplets")}, "validation")


def _predicted(weights: NDArray[np.float32], rows: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return whether the odd one out of each choice is the most probable one; where several are, it is not."""
    odds = choice_probabilities(weights, rows)
    found: NDArray[np.bool_] = odds[:, 2] > odds[:, :2].max(axis=1)
    return found
