"""A small demo study with all of its steps, built by the command line once per test run: its first version, and two."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.builds import built_once, copy_of

SETTINGS = (
    "sources.n_stimuli=60",
    "triplets.noise_ceiling=50",
    "triplets.thirds_per_pair=10",
    "agents.caption-tfidf.encoder.n_components=20",
    "spose.max_epochs=150",
    "spose.dimensions=12",
    "spose.seeds=[0, 1, 2]",
    "sweeps.dimensions=[1, 3, 6]",
    "sweeps.judgments=[500, 1500, 4000]",
    "sweeps.n_judgments=3000",
    "sweeps.max_epochs=10",
    "geometry.permutations=20",
    "geometry.resamples=20",
    "geometry.perplexity=10.0",
    "brain.sources={kind: synthetic, n_subjects: 2, voxel_mm: 24.0}",
    "brain.searchlight={n_stimuli: 40, radius_voxels: 1.5, min_voxels: 5, ranks: counted, permutations: 5}",
    "brain.encoding.permutations=5",
    "brain.mask=none",  # few permutations of few voxels find nothing
)
SECOND = ("agents.human-category.l1=0.02", "agents.caption-tfidf.encoder.n_components=5")
"""What the second version has: a sparser agent, and one with fewer text features."""


def affectlake(*arguments: str | Path, ok: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command, and check its exit status and that it printed no traceback."""
    done = subprocess.run(["affectlake", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == ok, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def sets(*assignments: str) -> list[str]:
    """Return the options of a command that change settings."""
    return [word for assignment in assignments for word in ("--set", assignment)]


def one_version() -> Path:
    """Return a lake with v1."""

    def make(lake: Path) -> None:
        affectlake("init", lake, "--study", "demo", *sets(*SETTINGS))
        done = affectlake("run", "--lake", lake)
        assert "published v1" in done.stderr
        assert "held-out accuracy" in done.stdout

    return built_once("demo", make)


def two_versions() -> Path:
    """Return a lake with v1 and v2."""

    def make(lake: Path) -> None:
        copy_of(one_version(), lake)
        affectlake("run", "--lake", lake, "--no-report", *sets(*SECOND))

    return built_once("demo-twice", make)
