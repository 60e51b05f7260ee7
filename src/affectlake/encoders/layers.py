"""The layer of a vision model whose maps are drawn: the last one that has positions and on which the features depend.

Torch is imported when a function is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from affectlake.encoders.torch_models import first_line, one_thread_each
from affectlake.encoders.vision import VisionModel
from affectlake.errors import UsageError, nearest

if TYPE_CHECKING:
    import torch

LEAST_TOKENS = 4
"""Number of positions from which a sequence of tokens can be a picture."""


@dataclass(frozen=True)
class FeatureLayer:
    """A layer of a network, and how its output is a grid.

    Parameters
    ----------
    name : str
        Name of the module in the network.
    module : torch.nn.Module
        The module.
    call : int
        Which of its calls in one forward pass, from 0; modules without weights may be called several times.
    height, width : int
        Size of the grid.
    n_before : int
        Number of tokens before those of the picture: the class token and registers; -1 for a map of a CNN.
    is_pooled : bool
        Whether the features are the mean of the map over its positions, so that Grad-CAM is one matrix product.
    """

    name: str
    module: Any
    call: int
    height: int
    width: int
    n_before: int
    is_pooled: bool

    def grid(self, output: torch.Tensor) -> torch.Tensor:
        """Return the layer's output as (n, n_channels, height, width), without class token and registers."""
        if self.n_before < 0:
            return output
        tokens = output[:, self.n_before :]  # (n, height * width, n_channels)
        return tokens.transpose(1, 2).reshape(len(output), -1, self.height, self.width)


class _Call(NamedTuple):
    """The output of one call of a module in a forward pass."""

    name: str
    module: Any
    call: int
    shape: tuple[int, ...]


def feature_layer(model: VisionModel, name: str | None = None) -> FeatureLayer:
    """Return the layer of a model whose maps show what in a picture its features depend on.

    Parameters
    ----------
    model : VisionModel
        A model with its network, of any library. Its weights are frozen: they get no gradients.
    name : str, optional
        Name of a module of the network, as ``network.named_modules()`` has it. By default:

        - of a transformer (ViT, CLIP, SigLIP, DINOv2, Swin): the patch tokens after the first norm of the last block.
          The output of the last block is not used: the features are computed from the class token alone, so that the
          gradient at the patches is zero.
        - of a CNN: the last map before pooling.

    Raises
    ------
    UsageError
        If the module does not exist, its output is not a map or a square of tokens, or the features do not depend on
        it, so that every map would be zero.

    Notes
    -----
    The layers are found by one forward pass of a picture of noise, so that no list of models is needed.
    """
    import torch

    network = model.network.requires_grad_(False)
    inputs = model.prepare(_noise())[None]
    with one_thread_each(), _recorded(network) as calls, torch.no_grad():
        model.features(inputs)
    chosen = _named(calls, network, name) if name is not None else _found(calls, network)
    if chosen is None:
        raise UsageError(
            "no layer of the model has a map of the picture",
            wanted="a CNN with a map before its pooling, or a transformer with patch tokens",
            found=type(network).__name__,
            todo="set attribution.layer to the name of a module whose output has positions, or choose another model",
        )
    shape = chosen.shape
    if len(shape) == 4:
        layer = FeatureLayer(chosen.name, chosen.module, chosen.call, shape[2], shape[3], -1, False)
    else:
        side = isqrt(shape[1])
        layer = FeatureLayer(chosen.name, chosen.module, chosen.call, side, side, shape[1] - side**2, False)
    return _checked(layer, model, inputs)


def _found(calls: list[_Call], network: Any) -> _Call | None:
    """Return the first norm of the last block if tokens come after all maps; otherwise the last map."""
    last_map = max((at for at, one in enumerate(calls) if _is_map(one.shape)), default=-1)
    blocks = {at: block for at, one in enumerate(calls) if (block := _block_of_norm(one, network))}
    last = max(blocks, default=-1)
    if last > last_map:
        return next(calls[at] for at, block in blocks.items() if block == blocks[last])
    return calls[last_map] if last_map >= 0 else None


def _block_of_norm(one: _Call, network: Any) -> str:
    """Return the block that a norm of tokens is in: the innermost part that is an item of a list; empty: none."""
    from torch import nn

    if "norm" not in type(one.module).__name__.lower() or not _is_tokens(one.shape):
        return ""
    parts = one.name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        if isinstance(network.get_submodule(".".join(parts[: end - 1])), (nn.ModuleList, nn.Sequential)):
            return ".".join(parts[:end])
    return ""


def _named(calls: list[_Call], network: Any, name: str) -> _Call:
    known = [one for one, _ in network.named_modules()]
    if name not in known:
        raise UsageError(
            f"the model has no layer {name!r}",
            wanted="the name of a module of the network",
            found=type(network).__name__,
            todo=nearest(name, known) or "leave out attribution.layer",
        )
    own = [one for one in calls if one.name == name]
    if not own or not (_is_map(own[-1].shape) or _is_tokens(own[-1].shape)):
        raise UsageError(
            f"the layer {name!r} has no map of the picture",
            wanted="an output of shape (n, channels, height, width), or (n, tokens, channels)",
            found=str(own[-1].shape) if own else "no output that is a tensor",
            todo="leave out attribution.layer, or name another module",
        )
    return own[-1]


def _is_map(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[2] * shape[3] > 1


def _is_tokens(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] == 1 and shape[1] >= LEAST_TOKENS


@contextmanager
def _recorded(network: Any) -> Iterator[list[_Call]]:
    """Record the shape of the output of every call of a module, in the order in which the calls end."""
    import torch

    calls: list[_Call] = []
    n_calls: dict[str, int] = {}

    def hook_of(name: str) -> Callable[..., None]:
        def record(module: Any, _inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) and output else output
            if isinstance(first, torch.Tensor):
                calls.append(_Call(name, module, n_calls.get(name, 0), tuple(first.shape)))
            n_calls[name] = n_calls.get(name, 0) + 1

        return record

    handles = [module.register_forward_hook(hook_of(name)) for name, module in network.named_modules() if name]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _checked(layer: FeatureLayer, model: VisionModel, inputs: torch.Tensor) -> FeatureLayer:
    """Return the layer, with whether the features are its mean; refuse one on which they do not depend."""
    import torch

    from affectlake.encoders.taps import Tap

    try:
        with one_thread_each(), Tap(layer.module, layer.call) as tap:
            features, output = tap(model.features, inputs)
            grid = layer.grid(output)
            mean = grid.mean(dim=(2, 3))
            is_pooled = mean.shape == features.shape and torch.allclose(mean, features, rtol=1e-4, atol=1e-6)
            direction = torch.linspace(1.0, 2.0, features.shape[1], dtype=features.dtype, device=features.device)
            (gradient,) = torch.autograd.grad((features * direction).sum(), output)
    except RuntimeError as error:
        raise UsageError(
            f"the layer {layer.name!r} has no gradient",
            wanted="a layer from which the features are computed",
            found=first_line(error),
            todo="leave out attribution.layer, or name another module",
        ) from error
    if not bool((layer.grid(gradient) != 0).any()):
        raise UsageError(
            f"the features have no gradient at the positions of the layer {layer.name!r}: every map would be zero",
            wanted="a layer whose positions the features depend on",
            found="features that are computed from the class token alone" if layer.n_before > 0 else "zeros",
            todo="leave out attribution.layer; of a ViT, the first norm of the last block has a gradient",
        )
    return FeatureLayer(layer.name, layer.module, layer.call, layer.height, layer.width, layer.n_before, is_pooled)


def _noise() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    return Image.fromarray(pixels)
