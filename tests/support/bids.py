"""A small BIDS data set with fMRIPrep's derivatives, whose patterns are planted, for tests of recordings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2.5, 0, -120], [0, 0, 3, -70], [0, 0, 0, 1]])
MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
SPACE = "MNI152NLin2009cAsym"
SHAPE = (3, 3, 2)
N_VOLUMES, TR_S = 80, 2.0
ONSETS_S = np.arange(8) * 18.0 + 4
DURATION_S = 8.0


def write_image(
    path: Path, values: NDArray[np.generic], tr_s: float = TR_S, unit: str = "sec", affine: NDArray[np.float64] = AFFINE
) -> Path:
    image = nib.Nifti1Image(np.asarray(values, dtype=np.float32), affine)
    if values.ndim > 3:
        image.header.set_zooms((*image.header.get_zooms()[:3], *[tr_s] * (values.ndim - 3)))
    image.header.set_xyzt_units("mm", unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def write_table(path: Path, names: Sequence[str], rows: Sequence[Sequence[object]], encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join("\t".join(map(str, row)) for row in (names, *rows)) + "\n", encoding=encoding)
    return path


@dataclass
class DataSet:
    """Two runs of eight stimuli each, of one participant; files are changed by the tests."""

    root: Path
    subject: str = "01"
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(3))

    @property
    def prep(self) -> Path:
        return self.root / "prep"

    @property
    def raw(self) -> Path:
        return self.root / "raw"

    def stem(self, run: int, task: str = "video") -> str:
        return f"sub-{self.subject}_task-{task}_run-{run}"

    def bold(self, run: int, space: str = SPACE, task: str = "video") -> Path:
        where = f"_space-{space}" if space else ""
        return self.prep / f"sub-{self.subject}" / "func" / f"{self.stem(run, task)}{where}_desc-preproc_bold.nii.gz"

    def confounds(self, run: int) -> Path:
        return self.bold(run).with_name(f"{self.stem(run)}_desc-confounds_timeseries.tsv")

    def events(self, run: int) -> Path:
        return self.raw / f"sub-{self.subject}" / "func" / f"{self.stem(run)}_events.tsv"

    def rows(self, run: int) -> list[list[object]]:
        return [[onset, DURATION_S, f"{8 * (run - 1) + at + 1:04d}.mp4"] for at, onset in enumerate(ONSETS_S)]

    def write(self, space: str = SPACE, motion_scale: float = 4.0) -> NDArray[np.float64]:
        """Write all files; return the planted patterns (16, n_voxels)."""
        planted = self.rng.normal(size=(16, int(np.prod(SHAPE)))) * 3
        times = np.arange(N_VOLUMES) * TR_S
        for run in (1, 2):
            motion = self.rng.normal(size=(N_VOLUMES, 6))
            series = 500 + times[:, None] * 0.3 + motion @ self.rng.normal(size=(6, planted.shape[1])) * motion_scale
            for at, onset in enumerate(ONSETS_S):
                series[(times - 4 >= onset) & (times - 4 < onset + DURATION_S)] += planted[8 * (run - 1) + at]
            series += self.rng.normal(size=series.shape) * 0.05
            image = write_image(self.bold(run, space), series.T.reshape(*SHAPE, N_VOLUMES))
            image.with_name(image.name.replace(".nii.gz", ".json")).write_text(json.dumps({"RepetitionTime": TR_S}))
            mask = image.name.replace("preproc_bold", "brain_mask")
            write_image(image.with_name(mask), np.ones(SHAPE))
            write_table(self.confounds(run), MOTION, np.round(motion, 6).tolist())
            write_table(self.events(run), ("onset", "duration", "trial_type"), self.rows(run))
        write_image(self.root / "mask.nii.gz", np.ones(SHAPE))
        return planted


def agreement(found: NDArray[np.floating], planted: NDArray[np.floating]) -> float:
    """Median over voxels of the correlation of patterns with the planted ones, within a run."""
    return float(np.median([np.corrcoef(found[:, v], planted[:, v])[0, 1] for v in range(planted.shape[1])]))
