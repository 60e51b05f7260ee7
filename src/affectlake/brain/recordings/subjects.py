"""Recordings of one subject, and their alignment with the study's stimuli.

A source (:mod:`~affectlake.brain.recordings.bdata`, :mod:`~affectlake.brain.recordings.volumes`,
:mod:`~affectlake.brain.recordings.synthetic`) returns a :class:`Recording`: one pattern per presentation. :func:`align`
converts it to one pattern per stimulus and counts everything that does not match. Nothing is imputed: a stimulus that
was not shown has no row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.halves import split_half_r
from affectlake.brain.recordings.labels import StimulusLabels
from affectlake.brain.repeats import explainable_variance
from affectlake.errors import SourceError

_VOXELS = 1024  # standardised at a time: all voxels in float64 would take twice the memory of the patterns


class Recording(NamedTuple):
    """Measurements of one subject.

    Parameters
    ----------
    patterns : float32 (n_samples, n_voxels)
        One pattern per presentation.
    labels : sequence of str
        Label of the stimulus, one per sample.
    runs : int64 (n_samples,) or None
        Run of each sample; None if runs are not known.
    voxels : int32 (n_voxels, 3)
        i, j, k of each voxel.
    mm : float32 (n_voxels, 3)
        Coordinates of each voxel, in mm.
    columns : mapping from str to bool (n_voxels,)
        Membership in named areas, by the names of the source.
    shape : tuple of int, optional
        Numbers of voxels of the grid along i, j and k; None if they are not known.
    others : sequence of str
        Labels of other events, for which there are no patterns.
    notes : sequence of str
        How the recording was read, one line each.
    """

    patterns: NDArray[np.float32]
    labels: Sequence[str]
    runs: NDArray[np.int64] | None
    voxels: NDArray[np.int32]
    mm: NDArray[np.float32]
    columns: Mapping[str, NDArray[np.bool_]]
    shape: tuple[int, int, int] | None = None
    others: Sequence[str] = ()
    notes: Sequence[str] = ()


class Aligned(NamedTuple):
    """One pattern per stimulus that was shown, in increasing order of `stimulus_index`.

    Parameters
    ----------
    stimulus_index : int32 (n,)
    patterns : float32 (n, n_voxels)
        Mean over presentations.
    runs : int64 (n,)
        Run of the first presentation; -1 if runs are not known.
    n_presentations : int32 (n,)
    split_half_r : float64 (n,)
        Agreement of two halves of the presentations (:func:`affectlake.brain.halves.split_half_r`); NaN for a stimulus
        that was presented once.
    explainable : float64 (n_voxels,)
        Share of the variance of each voxel that is explainable (:func:`affectlake.brain.repeats.explainable_variance`);
        NaN without repeated presentations.
    missing : tuple of str
        Stimuli of the study that were not shown to this subject.
    unknown : tuple of str
        Labels that are not stimuli of the study, each once.
    n_bad_voxels : int
        Number of voxels that are constant or have values that are not finite.
    """

    stimulus_index: NDArray[np.int32]
    patterns: NDArray[np.float32]
    runs: NDArray[np.int64]
    n_presentations: NDArray[np.int32]
    split_half_r: NDArray[np.float64]
    explainable: NDArray[np.float64]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    n_bad_voxels: int

    def account(self, subject: str) -> str:
        """Return one line with the counts of what was found and what was not."""
        repeated = int((self.n_presentations > 1).sum())
        halves = self.split_half_r[np.isfinite(self.split_half_r)]
        how = f"averaged; median r of their halves {np.median(halves):.3f}" if len(halves) else "averaged"
        known = self.explainable[np.isfinite(self.explainable)]
        how += f", median explainable variance of a voxel {np.median(known):.3f}" if len(known) else ""
        some = f" ({', '.join(map(repr, self.unknown[:3]))}{', …' * (len(self.unknown) > 3)})" if self.unknown else ""
        return (
            f"{subject}: {len(self.stimulus_index):,} stimuli × {self.patterns.shape[1]:,} voxels; "
            f"{repeated:,} stimuli shown repeatedly ({how}), {len(self.missing):,} not shown, "
            f"{len(self.unknown):,} labels of other stimuli ignored{some}, {self.n_bad_voxels:,} voxels constant or NaN"
        )


def align(recording: Recording, stimulus_ids: Sequence[str]) -> Aligned:
    """Align a recording with the study's stimuli: match labels, average repeated presentations.

    Labels are matched by :class:`affectlake.brain.recordings.labels.StimulusLabels`. A label that does not match is
    counted.

    Raises
    ------
    SourceError
        If the sizes of the recording's arrays do not match, no label is a stimulus of the study, or files of the same
        name in different folders are the same stimulus.
    """
    at = stimuli_of_presentations(recording, stimulus_ids)
    unknown = _unknown(recording, at)
    samples = np.flatnonzero(at >= 0)
    index = at[samples]
    shown, first, place, counts = np.unique(index, return_index=True, return_inverse=True, return_counts=True)
    if len(shown) == len(index):
        patterns, r = recording.patterns[samples[first]], np.full(len(shown), np.nan)
        explainable = np.full(patterns.shape[1], np.nan)
    else:
        stimulus = np.full(len(recording.labels), -1)
        stimulus[samples] = place
        r = split_half_r(recording.patterns, stimulus)
        explainable = explainable_variance(recording.patterns, stimulus)
        patterns = np.zeros((len(shown), recording.patterns.shape[1]), dtype=np.float32)
        for sample, at in zip(samples, place, strict=True):
            patterns[at] += recording.patterns[sample]
        patterns /= counts[:, None].astype(np.float32)
    runs = np.full(len(shown), -1) if recording.runs is None else recording.runs[samples[first]]
    present = set(shown.tolist())
    missing = tuple(name for at, name in enumerate(stimulus_ids) if at not in present)
    return Aligned(
        shown.astype(np.int32), patterns, runs.astype(np.int64), counts.astype(np.int32), r, explainable,
        missing, unknown, int((~usable_voxels(patterns)).sum()),
    )  # fmt: skip


def stimuli_of_presentations(recording: Recording, stimulus_ids: Sequence[str]) -> NDArray[np.int64]:
    """Return the stimulus of each sample of a recording, as its place in `stimulus_ids`; -1 for other labels.

    Raises
    ------
    SourceError
        As in :func:`align`.
    """
    _check(recording)
    stimuli = StimulusLabels(stimulus_ids)
    found = [stimuli.index_of(label) for label in recording.labels]
    _refuse_two_files(recording.labels, found)
    at = np.array([-1 if one is None else one for one in found], dtype=np.int64)
    if not (at >= 0).any():
        raise SourceError(
            "no label of the recording is a stimulus of the study",
            wanted=f"ids such as {', '.join(stimulus_ids[:3])}",
            found=f"labels such as {', '.join(_unknown(recording, at)[:3])}",
            todo="check that the recording belongs to this study",
        )
    return at


def usable_voxels(patterns: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which voxels vary and have only finite values: bool (n_voxels,)."""
    if not len(patterns):
        return np.zeros(patterns.shape[1], dtype=bool)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(patterns).all(axis=0) & (patterns.max(axis=0) > patterns.min(axis=0)))


def z_scored(patterns: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the patterns with mean 0 and standard deviation 1 per voxel; NaN for voxels that are not usable."""
    found = np.empty(patterns.shape, dtype=np.float32)
    if not len(patterns):
        return found
    for first in range(0, patterns.shape[1], _VOXELS):
        block = patterns[:, first : first + _VOXELS]
        mean = block.mean(axis=0, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.where(usable_voxels(block), block.std(axis=0, dtype=np.float64), np.nan)
            found[:, first : first + _VOXELS] = (block - mean) / spread
    return found


class ZScored:
    """Patterns with mean 0 and standard deviation 1 per voxel, computed only for the voxels that are accessed.

    It replaces ``z_scored(patterns)`` if the patterns are memory-mapped. It supports ``len``, ``shape`` and
    ``[rows, voxels]`` with a slice of rows, and a slice or the indices of voxels.

    Parameters
    ----------
    patterns : float32 (n_stimuli, n_voxels)
    """

    ndim = 2

    def __init__(self, patterns: NDArray[np.floating]) -> None:
        self._patterns = patterns
        self.shape = patterns.shape

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, at: tuple[slice, slice | NDArray[np.integer]]) -> NDArray[np.float32]:
        rows, voxels = at
        return z_scored(np.asarray(self._patterns[:, voxels]))[rows]

    def of_stimuli(self, rows: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return all voxels of some stimuli, float32 (n_rows, n_voxels), in Fortran order.

        Voxels are standardised over all stimuli, not over `rows`.
        """
        found = np.empty((self.shape[1], int(rows.sum())), dtype=np.float32)
        for first in range(0, self.shape[1], _VOXELS):
            voxels = slice(first, first + _VOXELS)
            found[voxels] = self[:, voxels][rows].T
        return found.T


def _unknown(recording: Recording, at: NDArray[np.int64]) -> tuple[str, ...]:
    """Return the labels that are not stimuli of the study, each once."""
    others = [label for label, one in zip(recording.labels, at, strict=True) if one < 0]
    return tuple(dict.fromkeys([*others, *recording.others]))


def _refuse_two_files(labels: Sequence[str], found: Sequence[int | None]) -> None:
    """Raise if labels with different folders are the same stimulus: by their names alone, they may be other files."""
    seen: dict[int, str] = {}
    for label, at in zip(labels, found, strict=True):
        if at is not None and _folder(seen.setdefault(at, label)) != _folder(label):
            raise SourceError(
                "two labels of the recording are the same stimulus by their file name, but not by their folder",
                found=f"{seen[at]!r} and {label!r}",
                todo="give the stimuli of the study, or the events, different names",
            )


def _folder(label: str) -> str:
    return label.replace("\\", "/").rpartition("/")[0]


def _check(recording: Recording) -> None:
    n, v = recording.patterns.shape
    sizes = {
        "labels": (len(recording.labels), n),
        "runs": (n if recording.runs is None else len(recording.runs), n),
        "voxels": (len(recording.voxels), v),
        "coordinates in mm": (len(recording.mm), v),
    }
    wrong = {name: found for name, (found, wanted) in sizes.items() if found != wanted}
    if wrong:
        raise SourceError(
            "the arrays of a recording do not fit together", wanted=f"{n:,} samples of {v:,} voxels", found=str(wrong)
        )
