"""Trains a published implementation of SPoSE or VICE as it is, and notes how long its epochs take.

    python benchmarks/peers.py FOLDER JUDGMENTS RESULTS EPOCHS

Started by `benchmarks/foreign.py` in a process of its own, so that the other project's modules meet none of ours.
FOLDER is a git checkout of the other project: ViCCo-Group/SPoSE, whose `train.run` is called, or LukasMut/VICE, whose
`main_optimization.run` is called. All settings are the defaults of their command lines, except those that the command
lines require (the weight of SPoSE's sparsity term, `LAMBDA`), the number of threads (one) and the number of processes
that load data (none besides the one that trains), so that processor seconds can be compared.

JUDGMENTS contains `train_90.npy` and `test_10.npy`, the format of both projects. After each epoch, a line is added to
RESULTS/epochs.jsonl, and RESULTS/weights.npy is written: (n_stimuli, d), the kept dimensions first. If their modules
for plots or for type annotations cannot be imported, empty ones take their place.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

LAMBDA = 0.008
"""Weight of the sparsity term in the example of SPoSE's documentation."""

DEFAULT_EPOCHS = {"SPoSE": 500, "VICE": 2000}
"""Epochs of the published command lines; VICE may end after epoch 502, if its number of dimensions is stable."""


def kind_of(folder: Path) -> str:
    """Return "SPoSE" or "VICE", by the files of a checkout."""
    if (folder / "optimization" / "vice.py").exists():
        return "VICE"
    if (folder / "train.py").exists() and (folder / "models" / "model.py").exists():
        return "SPoSE"
    raise SystemExit(f"{folder} is a checkout neither of ViCCo-Group/SPoSE nor of LukasMut/VICE")


class Notes:
    """What is noted of a training: seconds in training and in everything else, and the weights, after each epoch."""

    def __init__(self, results: Path) -> None:
        self._results, self._epoch = results, 0
        self._file = (results / "epochs.jsonl").open("a")
        self.resume()

    def resume(self) -> None:
        """Start the clocks of the next epoch."""
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def epoch(self, weights: NDArray[np.float32], n_dimensions: int, accuracy: float | None = None) -> None:
        """Note an epoch whose training has just ended; the accuracy is the peer's own, if it computed it."""
        self._epoch += 1
        np.save(self._results / "weights.npy", weights.astype(np.float32))
        row = {
            "epoch": self._epoch, "cpu_s": self._cpu_s, "wall_s": self._wall_s, "n_dimensions": n_dimensions,
            "accuracy": accuracy,
        }  # fmt: skip
        print(json.dumps(row), file=self._file, flush=True)

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Leave what happens inside out of the seconds of training."""
        self._cpu_s, self._wall_s = time.process_time() - self._cpu, time.perf_counter() - self._wall
        yield
        self.resume()


def train_spose(judgments: Path, results: Path, epochs: int) -> None:
    train, utils = importlib.import_module("train"), importlib.import_module("utils")
    notes, validate = Notes(results), utils.validation

    def validated(*args: Any, **kwargs: Any) -> Any:
        with notes.outside():  # train.run validates after each epoch
            found = validate(*args, **kwargs)
            weights = kwargs["model"].fc.weight.detach()
            sequence = torch.argsort(-weights.max(dim=1)[0])  # its rule: dimensions with a weight above 0.1
            notes.epoch(weights[sequence].numpy().T, utils.get_nneg_dims(weights), float(found[1]))
        return found

    utils.validation = validated
    train.run(
        task="odd_one_out", rnd_seed=42, modality="behavioral/", results_dir=str(results / "saved"),
        plots_dir=str(results / "plots"), triplets_dir=str(judgments), device=torch.device("cpu"), batch_size=100,
        embed_dim=90, epochs=epochs, window_size=50, sampling_method="normal", lmbda=LAMBDA, lr=0.001, steps=10,
    )  # fmt: skip


def train_vice(judgments: Path, results: Path, epochs: int) -> None:
    main, optimization = importlib.import_module("main_optimization"), importlib.import_module("optimization")
    notes, step = Notes(results), optimization.Trainer.stepping

    def stepped(self: Any, batches: Any) -> Any:
        notes.resume()
        found = step(self, batches)
        with notes.outside():
            signal, _, _ = self.pruning()
            loc = np.maximum(self.detached_params["loc"], 0.0)
            rest = np.setdiff1d(np.arange(loc.shape[1]), signal)
            notes.epoch(loc[:, [*signal, *rest]], len(signal))
        return found

    optimization.Trainer.stepping = stepped
    names = inspect.signature(main.run).parameters
    sys.argv = ["main_optimization.py"]
    asked = {name: value for name, value in vars(main.parseargs()).items() if name in names}
    asked |= {
        "triplets_dir": str(judgments), "results_dir": str(results / "saved"), "plots_dir": str(results / "plots"),
        "epochs": epochs, "num_workers": 0, "device": torch.device("cpu"),
    }  # fmt: skip
    main.run(**asked)


TRAINING: dict[str, Callable[[Path, Path, int], None]] = {"SPoSE": train_spose, "VICE": train_vice}


class _Annotation(type):
    def __getitem__(cls, _shape: object) -> type:
        return cls


def fill_in_modules() -> None:
    """Put an empty module in the place of each module that training does not need and that cannot be imported."""
    tensor = _Annotation("TensorType", (), {})
    for name, content in {"torchtyping": {"TensorType": tensor}, "turtle": {"distance": None}, "seaborn": {}}.items():
        try:
            importlib.import_module(name)
        except ImportError:
            empty = types.ModuleType(name)
            vars(empty).update(content)
            sys.modules[name] = empty


def main() -> None:
    folder, judgments, results = (Path(one).resolve() for one in sys.argv[1:4])
    sys.path[0] = str(folder)
    fill_in_modules()
    torch.set_num_threads(1)
    torch.manual_seed(42)
    np.random.seed(42)  # noqa: NPY002 (the generator that these projects draw from)
    TRAINING[kind_of(folder)](judgments, results, int(sys.argv[4]))


if __name__ == "__main__":
    main()
