"""The best weights of bands and the best penalty of every voxel, by the validation error of inner folds."""

from __future__ import annotations

import json
import os
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.encoding.band_problem import Problem
from affectlake.brain.encoding.crossvalidation import solver_for, voxel_blocks
from affectlake.brain.encoding.solver import Array, Choice, Solver

_ARRAYS = "error", "candidate", "at", "usable"  # of a checkpoint
_EVERY_S = 10.0  # between two checkpoints
_FEW = 300  # features up to which sums choose penalties faster than predictions, if there are many voxels


class Choices:
    """For each model, outer fold and voxel: the smallest error, its candidate (-1: none), and its penalty.

    Parameters
    ----------
    shape : tuple of int
        Numbers of models, outer folds and voxels.
    checkpoint : Path, optional
        File to which the choices are written, at most every ten seconds, and from which they are read if it has the
        same `identity`. Another file in its place is replaced: its choices are of no use.
    identity : str
        Digest of everything on which the choices depend.

    Attributes
    ----------
    error : float64 (n_models, n_outer, n_voxels)
        Validation error; that of no prediction is 0.
    candidate, at : int32 (n_models, n_outer, n_voxels)
        Number of the candidate, and of its penalty.
    usable : bool (n_voxels,)
        Voxels that vary and are finite.
    n_done : int
        Number of candidates that have been compared.
    """

    def __init__(self, shape: tuple[int, int, int], checkpoint: Path | None = None, identity: str = "") -> None:
        self._path, self._identity, self._written = checkpoint, identity, time.monotonic()
        stored = None if checkpoint is None else _read(checkpoint, identity)
        self.error: Array = np.zeros(shape)
        self.candidate: NDArray[np.int32] = np.full(shape, -1, dtype=np.int32)
        self.at: NDArray[np.int32] = np.zeros(shape, dtype=np.int32)
        self.usable: NDArray[np.bool_] = np.zeros(shape[2], dtype=bool)
        self.n_done = 0
        if stored is not None:
            self.n_done, arrays = stored
            self.error, self.candidate, self.at, self.usable = (arrays[name] for name in _ARRAYS)

    def offer(self, number: int, models: Sequence[int], voxels: NDArray[np.int64], best: Choice) -> None:
        """Keep the penalties of a candidate for the models and voxels that have had none with a smaller error."""
        for model in models:
            fold, voxel = np.nonzero(best.error < self.error[model][:, voxels])
            self.error[model, fold, voxels[voxel]] = best.error[fold, voxel]
            self.candidate[model, fold, voxels[voxel]] = number
            self.at[model, fold, voxels[voxel]] = best.at[fold, voxel]

    def finish(self, number: int, *, last: bool) -> None:
        """Note that a candidate has been compared in all voxels."""
        self.n_done = number + 1
        if self._path is not None and (last or time.monotonic() - self._written > _EVERY_S):
            self._write(self._path)
            self._written = time.monotonic()

    def _write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        header = np.frombuffer(json.dumps({"identity": self._identity, "n_done": self.n_done}).encode(), np.uint8)
        try:
            with aside.open("wb") as file:
                np.savez(
                    file, header=header, error=self.error, candidate=self.candidate, at=self.at, usable=self.usable
                )
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def _read(path: Path, identity: str) -> tuple[int, dict[str, NDArray[Any]]] | None:
    """Return what a checkpoint contains; None if it is not there, is damaged, or has another identity."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            header = json.loads(file["header"].tobytes())
            if header["identity"] != identity:
                return None
            return int(header["n_done"]), {name: file[name] for name in _ARRAYS}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def choose(problem: Problem, checkpoint: Path | None, progress: Callable[[int], None]) -> Choices:
    """Return the best candidate and penalty of every model, outer fold and voxel; the first of equal ones.

    Each candidate is run through all voxels before the next, so that one solver is in memory.

    Parameters
    ----------
    problem : Problem
    checkpoint : Path, optional
        File of the choices so far.
    progress : callable
        Called with the number of candidates that have been compared.
    """
    identity = "" if checkpoint is None else problem.digest()
    chosen = Choices((len(problem.models), problem.n_outer, problem.n_voxels), checkpoint, identity)
    with ThreadPoolExecutor(problem.workers) as pool:
        for number in range(chosen.n_done, len(problem.candidates)):
            candidate = problem.candidates[number]
            factors = problem.factors(candidate)
            kept = factors > 0
            x = problem.x[:, kept] * factors[kept]
            solver = solver_for(x, problem.folds, problem.penalties, standardise=False, few=_FEW)
            work = partial(_best_penalties, problem=problem, solver=solver)
            for at, best in pool.map(work, voxel_blocks(problem.n_voxels)):
                chosen.usable[at] = True
                if best is not None:
                    chosen.offer(number, candidate.models, at, best)
            chosen.finish(number, last=number == len(problem.candidates) - 1)
            progress(chosen.n_done)
    return chosen


def _best_penalties(voxels: slice, problem: Problem, solver: Solver) -> tuple[NDArray[np.int64], Choice | None]:
    """Return the usable voxels of a block, and their best penalties."""
    kept, at = problem.block(voxels)
    return at, solver.choose(kept) if len(at) else None
