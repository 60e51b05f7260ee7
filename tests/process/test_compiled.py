"""Machine code is kept in the user's cache folder, whoever imports the package and whatever can be written to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from tests.support.lakes import ROOT

COMPILE = """
import sys
if "numba-first" in sys.argv:
    import numba
import affectlake
from affectlake.judge.vectors.similarity_kernels import largest
import numba
assert largest(0.1, 0.9, 0.2) == 2
assert numba.config.CACHE_DIR == sys.argv[1], numba.config.CACHE_DIR
print(largest.stats.cache_path)
print(sum(largest.stats.cache_hits.values()))
"""
SUFFIXES = {".nbi", ".nbc"}


def compiled_in(
    source: Path, home: Path, *arguments: str, users: str = "", **variables: str
) -> tuple[Path | None, int]:
    """Compile in a process that finds the package in `source`; return where its code was kept, and the hits."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "XDG_"))}
    env |= {"HOME": str(home), "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    if users:
        env["NUMBA_CACHE_DIR"] = users
    command = [sys.executable, "-c", COMPILE, users, *arguments]
    done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folder, hits = done.stdout.splitlines()
    return None if folder == "None" else Path(folder), int(hits)


def left_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in SUFFIXES]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package in which nothing was compiled."""
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "src/affectlake", folder / "affectlake", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize("order", ["", "numba-first"])
def test_nothing_is_written_beside_the_package(source: Path, tmp_path: Path, order: str) -> None:
    kept, hits = compiled_in(source, tmp_path, order)
    assert kept is not None
    caches = tmp_path / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    assert kept.parent == caches / f"affectlake/numba-{numba.__version__}"
    assert hits == 0
    assert left_in(kept)
    assert not left_in(source)
    assert compiled_in(source, tmp_path, order) == (kept, 1)  # the next process compiles nothing


@pytest.mark.skipif(sys.platform == "darwin", reason="XDG names no folder on macOS")
def test_the_users_folders_are_obeyed(source: Path, tmp_path: Path) -> None:
    kept, _ = compiled_in(source, tmp_path / "home", XDG_CACHE_HOME=str(tmp_path / "caches"))
    assert kept is not None
    assert kept.parent == tmp_path / f"caches/affectlake/numba-{numba.__version__}"
    theirs, _ = compiled_in(source, tmp_path / "home", users=str(tmp_path / "numba"))
    assert theirs is not None
    assert theirs.parent == tmp_path / "numba"
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("users", ["", "/dev/null/numba"])
def test_a_home_that_cannot_be_written_to_is_done_without(source: Path, tmp_path: Path, users: str) -> None:
    nowhere = Path("/dev/null/home")
    kept, _ = compiled_in(source, nowhere, users=users, TMPDIR=str(tmp_path))
    assert kept is not None
    assert kept.parent == tmp_path / f"affectlake-{os.getuid()}/numba-{numba.__version__}"
    assert kept.parent.parent.stat().st_mode & 0o777 == 0o700
    assert compiled_in(source, nowhere, users=users, TMPDIR=str(tmp_path)) == (kept, 1)
    assert not left_in(source)


@pytest.mark.parametrize("planted", ["open to others", "a link"])
def test_a_temporary_folder_that_others_could_have_made_is_not_trusted(
    source: Path, tmp_path: Path, planted: str
) -> None:
    own = tmp_path / f"affectlake-{os.getuid()}"
    if planted == "a link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        own.symlink_to(tmp_path / "theirs")
    else:
        own.mkdir()
        own.chmod(0o777)
    assert compiled_in(source, Path("/dev/null/home"), TMPDIR=str(tmp_path)) == (None, 0)
    assert not left_in(tmp_path)
    assert not left_in(source)


def test_every_compiled_function_is_made_here() -> None:
    """No other module takes Numba's own decorators, which would write beside the source."""
    taken = re.compile(
        r"from numba import .*\b(jit|njit|vectorize|guvectorize|cfunc)\b|numba\.(n?jit|g?u?vectorize)|cache=True"
    )
    found = {
        str(path.relative_to(ROOT))
        for folder in ("src", "flows", "pipelines", "schemas")
        for path in (ROOT / folder).rglob("*.py")
        if taken.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"src/affectlake/process/compiled.py"}


FITS = """
import sys
from hashlib import sha256

import numpy as np
from affectlake.process.environment import compute_on_one_thread

compute_on_one_thread()
from affectlake.spose.data import training_data
from affectlake.spose.fitting import fit
from affectlake.spose.model import score
from affectlake.spose.settings import Settings

rng = np.random.default_rng(0)
rows = np.array([rng.choice(50, 3, replace=False) for _ in range(3000)], np.int32)
for task in ("odd-one-out", "anchored"):
    for dimensions, lapses in ((30, False), (90, False), (30, True)):
        data = training_data(rows[:2500], rows[2500:], 50, np.random.default_rng(1), task)
        settings = Settings(l1=0.004, dimensions=dimensions, learning_rate=0.01, max_epochs=2, learn_lapses=lapses)
        weights = fit(data, settings, np.random.default_rng(2)).weights
        found = score(weights, data.validation, task=task)
        print(task, dimensions, lapses, sha256(weights.tobytes()).hexdigest(), repr(found.loss))
"""
MAPS = """
from hashlib import sha256

import numpy as np
from affectlake.process.environment import compute_on_one_thread

compute_on_one_thread()
from affectlake.brain.searchlight.search import search
from affectlake.brain.searchlight.spheres import make_spheres, sphere_offsets

rng = np.random.default_rng(0)
places = np.argwhere(np.ones((4, 4, 4), bool)).astype(np.int16)
rsms = np.stack([np.corrcoef(rng.normal(size=(40, 6))) for _ in range(2)])
patterns = rng.normal(size=(40, len(places))).astype(np.float32)
for ranks in ("counted", "exact"):
    found = search(patterns, make_spheres(places, sphere_offsets(2)), rsms, min_voxels=5, ranks=ranks)
    print(ranks, sha256(found.rho.tobytes()).hexdigest())
"""


@pytest.mark.parametrize("code", [FITS, MAPS], ids=["fits", "maps"])
def test_the_process_that_compiles_computes_what_later_processes_do(code: str, tmp_path: Path) -> None:
    """On processors with AVX2 alone, fits differed in the last bits before inner kernels were inlined."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    env |= {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    said = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.splitlines())
    assert left_in(tmp_path)
    assert said[0] == said[1] and len(said[0]) > 1
