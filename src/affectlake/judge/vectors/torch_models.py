"""What the encoders that run a torch model share: quiet loading, one thread per forward pass, the hash of the weights.

Torch is imported when a function is called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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
