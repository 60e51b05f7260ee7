"""Write recording.h5 with bdpy, and recording.json with what bdpy reads in it.

bdpy needs Python 3.11 at most, so the tests read the two files and do not import it. To write them
anew, with bdpy 0.26:

    cd / && python - FOLDER < write_with_bdpy.py

bdpy keeps the path and the text of the program that calls it in the file; read from standard input, it has neither.
"""

import json
import sys
from pathlib import Path

import numpy as np
from bdpy import BData

N, V = 7, 11  # samples, voxels
AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2.5, 0, -120], [0, 0, 3, -70], [0, 0, 0, 1]])

x = np.random.default_rng(6).normal(size=(N, V))
shown = np.arange(1, N + 1)
data = BData()
data.add(x, "VoxelData")
data.add(np.arange(N)[:, None] // 3 + 1, "Run")
data.add(shown[:, None], "stimulus_name")
data.add_vmap("stimulus_name", {int(s): f"{s:04d}.mp4" for s in shown})
ijk = np.stack([np.arange(V), np.arange(V) % 3, np.arange(V) // 4])
for axis, row in zip("ijk", ijk, strict=True):
    data.add_metadata(f"voxel_{axis}", row, "index", where="VoxelData")
mm = AFFINE[:3, :3] @ ijk + AFFINE[:3, 3:]
for axis, row in zip("xyz", mm, strict=True):
    data.add_metadata(f"voxel_{axis}", row, "mm", where="VoxelData")
data.add_metadata("hcp180_r_lh.L_TF_ROI", np.arange(V) < 4, "area", where="VoxelData")
data.add_metadata("thalamus", np.arange(V) == 9, "region", where="VoxelData")
data.add_metadata("something_else", np.arange(V) == 2, "no region of ours", where="VoxelData")

folder = Path(sys.argv[1])
data.save(str(folder / "recording.h5"))
read = BData(str(folder / "recording.h5"))
assert np.array_equal(read.select("VoxelData"), x)
(folder / "recording.json").write_text(
    json.dumps(
        {
            "patterns": read.select("VoxelData").tolist(),
            "labels": read.get_label("stimulus_name"),
            "runs": read.select("Run").ravel().tolist(),
            "thalamus": read.select("thalamus").tolist(),
        },
        indent=1,
    )
    + "\n",
    encoding="utf-8",
)
