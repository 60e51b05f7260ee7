"""What the encoders that run a torch model share: quiet loading, the hash of the weights, and a thread per video.

Torch is imported when a function is called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from affectlake.encoders.unit_vectors import unit_vectors
from affectlake.errors import UsageError

Item = TypeVar("Item")


def refuse_torchvision_of_another_build(*, is_needed: bool = False) -> None:
    """Raise if torchvision is installed and was built for another torch: then transformers cannot be imported either.

    Parameters
    ----------
    is_needed : bool
        Whether the model needs torchvision. Otherwise, it may be uninstalled.

    Raises
    ------
    UsageError
        If torchvision is installed, and cannot be imported.
    """
    if find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401
    except (RuntimeError, OSError) as error:  # the compiled extension cannot be loaded
        import torch

        build = torch.__version__.partition("+")[2] or "cpu"
        index = f"--index-url https://download.pytorch.org/whl/{build}"
        todo = f"pip install --force-reinstall --no-deps torchvision {index}"
        raise UsageError(
            "the torchvision package was built for another version of torch",
            found=f"{first_line(error)}; torch is {torch.__version__}",
            wanted="both built for the CPU, or both for the same version of CUDA",
            todo=todo if is_needed else f"pip uninstall torchvision, which this model does not need; or {todo}",
        ) from error


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let torch use one thread per forward pass, so that results do not depend on the number of cores."""
    import torch

    before, cudnn = torch.get_num_threads(), torch.backends.cudnn.deterministic
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.backends.cudnn.deterministic = cudnn


def unit_features(
    items: Iterable[Item],
    features: Callable[[Item], NDArray[np.float64]],
    workers: int,
    progress: Callable[[int], None],
) -> NDArray[np.float32]:
    """Compute the features of items in several threads, and return them in their order, as vectors of length 1.

    Parameters
    ----------
    items : iterable
        One for each stimulus.
    features : callable
        Takes an item, and returns its features (n_features,).
    workers : int
        Number of threads; each processes one item at a time.
    progress : callable
        Called with the number of items done so far.

    Raises
    ------
    SourceError
        If the features of an item are zero or not finite.
    """
    return unit_vectors(
        features_of(items, features, workers, progress),
        "features that are zero or not finite",
        "choose another model, or exclude those stimuli",
    )


def features_of(
    items: Iterable[Item],
    features: Callable[[Item], NDArray[np.float64]],
    workers: int,
    progress: Callable[[int], None],
) -> NDArray[np.float64]:
    """Return the features of items as :func:`unit_features` does, without scaling them to length 1."""
    found = []
    with one_thread_each(), ThreadPoolExecutor(workers) as pool:
        for vector in pool.map(features, items):
            found.append(vector)
            progress(len(found))
    return np.stack(found)


def digest(model: Any) -> str:
    """Return the SHA-256 of a model's weights, in the order of their names."""
    import torch

    found = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        found.update(name.encode() + str(weight.dtype).encode() + str(tuple(weight.shape)).encode())
        found.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Hide transformers' progress bars and loading reports; what matters in them is checked here."""
    try:
        from transformers.utils import logging
    except ImportError:
        yield
        return
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
