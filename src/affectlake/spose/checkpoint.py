"""Checkpoints of unfinished fits: arrays and JSON in one .npz file, without pickle.

A checkpoint contains the embedding, Adam's moments, the state of the random generator, the learning curve, the best
weights so far, those of the last check of convergence, the settings, the device, and a digest of the choices. It is
written to a temporary file, flushed to disk and renamed into place, so that after a crash the old checkpoint or the new
one exists.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import CheckpointError
from affectlake.spose.curve import Epoch
from affectlake.spose.settings import Settings
from affectlake.spose.state import Moments

_FORMAT = 2
_MAY_CHANGE = ("max_epochs", "patience", "min_delta")  # they only decide when to stop


class Identity(NamedTuple):
    """What must be equal for a fit to resume from a checkpoint: settings, digest of the choices, kind of device."""

    settings: Settings
    input_sha256: str
    device: str


class Progress(NamedTuple):
    """State of a fit between two epochs.

    Attributes
    ----------
    moments : Moments
    best_weights : (n_stimuli, d) float32
        Weights of the epoch with the lowest validation loss so far.
    anchor : (n_stimuli, d) float32
        Weights of the last check of convergence.
    curve : tuple of Epoch
    rng_state : dict
        ``bit_generator.state`` of the fit's generator.
    """

    moments: Moments
    best_weights: NDArray[np.float32]
    anchor: NDArray[np.float32]
    curve: tuple[Epoch, ...]
    rng_state: dict[str, Any]


def write(path: Path, identity: Identity, progress: Progress) -> None:
    """Write a checkpoint to `path`, replacing an existing one; create the folder if it does not exist."""
    header = {
        "format": _FORMAT,
        "settings": identity.settings.model_dump(),
        "input_sha256": identity.input_sha256,
        "device": identity.device,
        "step": progress.moments.step,
        "curve": [list(row) for row in progress.curve],
        "rng_state": progress.rng_state,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            np.savez(
                file,
                header=np.frombuffer(json.dumps(header).encode(), np.uint8),
                weights=progress.moments.weights,
                first_moment=progress.moments.first_moment,
                second_moment=progress.moments.second_moment,
                best_weights=progress.best_weights,
                anchor=progress.anchor,
            )
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read(path: Path, identity: Identity) -> Progress:
    """Read a checkpoint that :func:`write` wrote.

    `max_epochs`, `patience` and `min_delta` may differ from those of the checkpoint: they decide when to stop, not what
    is computed until then.

    Raises
    ------
    CheckpointError
        If the file is damaged or is not a checkpoint, or if its fit has other settings, choices or another device.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            header = json.loads(file["header"].tobytes())
            if header["format"] != _FORMAT:
                raise ValueError(f"format {header['format']}, not {_FORMAT}")
            arrays = {
                name: file[name] for name in ("weights", "first_moment", "second_moment", "best_weights", "anchor")
            }
        curve = tuple(Epoch(*row) for row in header["curve"])
        found = {**header["settings"], "choices": header["input_sha256"], "device": header["device"]}
        step, rng_state = int(header["step"]), header["rng_state"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"the checkpoint {path} cannot be read",
            wanted="a checkpoint of this fit",
            found=f"{type(error).__name__}: {error}",
            todo=f"delete {path} to restart the fit from the beginning",
        ) from error
    _compare(path, found, identity)
    best, anchor = arrays.pop("best_weights"), arrays.pop("anchor")
    return Progress(Moments(**arrays, step=step), best, anchor, curve, rng_state)


def _compare(path: Path, found: dict[str, Any], identity: Identity) -> None:
    wanted = {**identity.settings.model_dump(), "choices": identity.input_sha256, "device": identity.device}
    others = sorted({*wanted, *found} - {*_MAY_CHANGE})
    names = [name for name in others if found.get(name) != wanted.get(name)]
    if names:
        raise CheckpointError(
            f"the checkpoint {path} belongs to another fit: {', '.join(names)} differ",
            wanted=", ".join(f"{name} = {wanted.get(name)}" for name in names),
            found=", ".join(f"{name} = {found.get(name)}" for name in names),
            allowed=f"only {', '.join(_MAY_CHANGE)} may change",
            todo=f"fit with the checkpoint's settings and choices, or delete {path} to restart",
        )
