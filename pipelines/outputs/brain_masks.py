"""Which voxels of a map are shown: those that are significant against the map's null distribution."""

from __future__ import annotations

from typing import Literal, NamedTuple

from affectlake.pipelines.params.record import StudyRecord

Mask = Literal["fdr", "fwe", "tfce", "cluster", "none"]
LEVEL = 0.05


class Threshold(NamedTuple):
    """A mask, the column of its levels, and what remains, for readers."""

    mask: Mask
    column: str
    words: str


THRESHOLDS: dict[str, Threshold] = {
    "fdr": Threshold("fdr", "p_null_fdr", f"false discovery rate below {LEVEL}"),
    "fwe": Threshold("fwe", "p_fwe", f"chance of any false voxel in the map below {LEVEL}"),
    "tfce": Threshold(
        "tfce", "p_tfce", f"chance of any false voxel in the map below {LEVEL}, by threshold-free cluster enhancement"
    ),
    "cluster": Threshold("cluster", "p_cluster", f"chance of any false cluster in the map below {LEVEL}, by mass"),
}
"""The masks by name; ``none`` has no threshold. Levels are those under relabelled stimuli."""


def threshold_of(record: StudyRecord, mask: str = "") -> Threshold | None:
    """Return the threshold of a version's pictures: `mask`, or ``brain.mask`` of its parameters; None for no mask."""
    found = THRESHOLDS.get(mask or record.text("brain.mask") or "fdr")
    forming = record.text("brain.cluster_forming_p") or "0.001"  # the default, which a file need not have
    return (
        found._replace(words=f"{found.words} (formed at p = {forming})") if found and found.mask == "cluster" else found
    )
