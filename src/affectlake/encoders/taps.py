"""The output of a layer within a forward pass, cut from what comes before it: gradients end there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import torch


class Tap:
    """Runs a network so that only the part after a layer is differentiated.

    Its threads do not see each other's outputs. Use it as a context, which removes its hook.

    Parameters
    ----------
    module : torch.nn.Module
        The layer.
    call : int
        Which of the module's calls in one forward pass, from 0.
    """

    def __init__(self, module: Any, call: int = 0) -> None:
        self._call, self._of_thread = call, threading.local()
        self._handle = module.register_forward_hook(self._cut)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.remove()

    def __call__(
        self, forward: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``forward(inputs)`` and the layer's output, of which the former is a differentiable function.

        Parameters
        ----------
        forward : callable
            Runs the network; its weights must not require gradients, otherwise the whole pass is kept.
        inputs : torch.Tensor
            The inputs.
        """
        self._of_thread.n_calls, self._of_thread.output = 0, None
        try:
            with torch.enable_grad():
                found = forward(inputs)
            output = self._of_thread.output
        finally:
            self._of_thread.__dict__.clear()
        if output is None:
            raise RuntimeError("the layer was not called")
        return found, output

    def _cut(self, _module: Any, _inputs: Any, output: Any) -> Any:
        own = self._of_thread.__dict__
        if "n_calls" not in own:  # another thread's pass, or one without this tap
            return None
        own["n_calls"] += 1
        if own["n_calls"] != self._call + 1:
            return None
        first = output[0] if isinstance(output, tuple) else output
        leaf = first.detach().clone().requires_grad_(True)
        own["output"] = leaf
        # a copy goes on, so that operations in place after the layer do not change what was kept
        return (leaf.clone(), *output[1:]) if isinstance(output, tuple) else leaf.clone()
