"""Frames of a clip that are edited together: self-attention that also reads other frames.

Frame by frame, as in the paper, an edit flickers. Here the keys and values of the first frame, and of the frame before,
are added to each frame's own (as in Text2Video-Zero and Tune-A-Video, which replace them). The network changes, so that
it must be in force on the way up and on the way down.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

Together = Literal["none", "first", "first-and-previous"]
"""Which other frames the self-attention of a frame reads."""


@contextmanager
def frames_together(unet: Any, together: Together) -> Iterator[None]:
    """Let the self-attention of a UNet of diffusers read other frames while the context is open.

    Parameters
    ----------
    unet : diffusers.UNet2DConditionModel
        The first axis of its input is the frames of one clip, in their order.
    together : {"none", "first", "first-and-previous"}
        ``none`` leaves the UNet as it is.
    """
    if together == "none":
        yield
        return
    before = dict(unet.attn_processors)
    own = {name: AcrossFrames(together) if ".attn1." in name else one for name, one in before.items()}
    unet.set_attn_processor(own)
    try:
        yield
    finally:
        unet.set_attn_processor(before)


class AcrossFrames:
    """Attention processor of diffusers: the queries of a frame, keys and values of it and of other frames."""

    def __init__(self, together: Together) -> None:
        self.together = together

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        """Return the attention's output for the tokens (n_frames, n_tokens, width) of a clip's frames."""
        n_frames, n_tokens, _width = hidden_states.shape
        query = attn.to_q(hidden_states)
        key = across(attn.to_k(hidden_states), self.together)
        value = across(attn.to_v(hidden_states), self.together)

        def heads(states: Tensor) -> Tensor:  # (n_frames, n_heads, tokens, width of a head)
            return states.view(n_frames, states.shape[1], attn.heads, -1).transpose(1, 2)

        found = torch.nn.functional.scaled_dot_product_attention(heads(query), heads(key), heads(value))
        joined = found.transpose(1, 2).reshape(n_frames, n_tokens, -1)
        out: Tensor = attn.to_out[1](attn.to_out[0](joined))
        return out


def across(states: Tensor, together: Together) -> Tensor:
    """Return the keys or values that each frame reads: (n_frames, n_tokens × 1, 2 or 3, width).

    Parameters
    ----------
    states : (n_frames, n_tokens, width)
        Keys or values of each frame. The frame before the first is the first.
    together : {"none", "first", "first-and-previous"}
        Own; own and first; own, first and previous.
    """
    if together == "none":
        return states
    parts = [states, states[:1].expand_as(states)]
    if together == "first-and-previous":
        parts.append(torch.cat([states[:1], states[:-1]]))
    return torch.cat(parts, dim=1)
