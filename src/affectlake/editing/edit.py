"""The edit of one clip: its frames are inverted with the tokens of the embedding, and denoised with edited tokens.

The inversion and the round trip have guidance 1, float32 and the original tokens. The paper edits frame by frame with
plain inversion: ``together: none`` and ``iterations: 0``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affectlake.editing.inversion import Inverted, Network, denoise, guided, invert, relative_error, steps_up
from affectlake.editing.masks import keep_outside, resize_mask
from affectlake.editing.measures import Frames, flicker_ratio, psnr_db
from affectlake.editing.parts import Parts
from affectlake.editing.together import Together, frames_together
from affectlake.errors import UsageError

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class EditSettings:
    """How clips are inverted and denoised.

    Parameters
    ----------
    steps : int
        Steps between the clean image and noise.
    iterations : int
        Largest number of fixed-point iterations of a step up; 0 is plain inversion.
    tolerance : float
        Residual below which a step's iterations end.
    depth : float
        Share of the steps that are inverted, from the clean end; above 0, at most 1.
    guidance : float
        Classifier-free guidance on the way down with edited tokens, at least 1.
    together : {"none", "first", "first-and-previous"}
        Other frames that the self-attention of a frame reads, in both directions.
    dtype : {"float32", "float16", "bfloat16"}
        Precision of the UNet on the way down with edited tokens (autocast); everything else is float32.
    frames_at_once : int
        Frames in one evaluation of the UNet with ``none``, which bounds the memory. Frames that are edited together are
        in one evaluation.
    """

    steps: int = 50
    iterations: int = 5
    tolerance: float = 1e-4
    depth: float = 1.0
    guidance: float = 7.5
    together: Together = "first-and-previous"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    frames_at_once: int = 8


@dataclass(frozen=True)
class InvertedClip:
    """A clip in noise, from which any number of edits start.

    Parameters
    ----------
    frames : uint8 (n_frames, height, width, 3)
        The original.
    tokens : Tensor
        Tokens with which it was inverted, float32 (1, n_positions, width).
    inverted : Inverted
        Its latents at each noise level, and the residual.
    roundtrip_error : float
        ‖latents after the round trip - latents‖ / ‖latents‖, the largest over frames.
    roundtrip_psnr_db : float
        Decoded frames of the round trip against the original.
    codec_psnr_db : float
        Frames that were encoded and decoded, without noise, against the original: the best that an edit can keep.
    """

    frames: Frames
    tokens: Tensor
    inverted: Inverted
    roundtrip_error: float
    roundtrip_psnr_db: float
    codec_psnr_db: float


@dataclass(frozen=True)
class EditedClip:
    """An edited clip and its measures against the original.

    Parameters
    ----------
    frames : uint8 (n_frames, height, width, 3)
        The edit.
    source : InvertedClip
        What it was made from, with the measures of the inversion.
    psnr_inside_db, psnr_outside_db : float or None
        Against the original, inside and outside the mask. Without a mask, all pixels are inside.
    flicker_ratio : float or None
        Change between neighbouring frames, after divided by before.
    """

    frames: Frames
    source: InvertedClip
    psnr_inside_db: float | None
    psnr_outside_db: float | None
    flicker_ratio: float | None


def edit_clip(
    frames: Frames,
    tokens_from: Tensor,
    tokens_to: Tensor,
    parts: Parts,
    settings: EditSettings,
    mask: Mask | None = None,
) -> EditedClip:
    """Edit one clip.

    Parameters
    ----------
    frames : uint8 (n_frames, height, width, 3)
        Its frames; sides are multiples of the autoencoder's factor.
    tokens_from, tokens_to : float (n_positions, width)
        Projected tokens of its embedding, and of the edited one. If they are equal, this is the null edit.
    parts : Parts
        The model.
    settings : EditSettings
        Steps, guidance and frames that are tied.
    mask : bool (n_frames, rows, columns), optional
        Where the edit is made, on any grid; elsewhere the latents of the inverted clip are kept.

    Raises
    ------
    UsageError
        If frames or tokens do not have the shape that the model takes.
    SourceError
        If the inversion does not converge.
    """
    return edit_inverted(invert_clip(frames, tokens_from, parts, settings), tokens_to, parts, settings, mask)


def invert_clip(
    frames: Frames,
    tokens: Tensor,
    parts: Parts,
    settings: EditSettings,
    progress: Callable[[], None] = lambda: None,
) -> InvertedClip:
    """Invert a clip with its own tokens, and measure the round trip; see :func:`edit_clip`."""
    own = _tokens(tokens, parts)
    steps = steps_up(parts.schedule, settings.steps, settings.depth)
    with torch.inference_mode(), frames_together(parts.unet, settings.together):
        latents = encode(frames, parts)
        network = network_of(parts, own, settings)
        found = invert(latents, network, parts.schedule, steps, settings.iterations, settings.tolerance, progress)
        back = denoise(found.noisy, network, parts.schedule, steps, progress=progress)
        codec = psnr_db(frames, decode(latents, parts))
        roundtrip = psnr_db(frames, decode(back, parts))
    assert codec is not None and roundtrip is not None  # a clip has pixels
    return InvertedClip(frames, own, found, relative_error(back, latents), roundtrip, codec)


def edit_inverted(
    source: InvertedClip,
    tokens_to: Tensor,
    parts: Parts,
    settings: EditSettings,
    mask: Mask | None = None,
    progress: Callable[[], None] = lambda: None,
) -> EditedClip:
    """Denoise an inverted clip with edited tokens; see :func:`edit_clip`."""
    wanted, path = _tokens(tokens_to, parts), source.inverted.path
    with torch.inference_mode(), frames_together(parts.unet, settings.together):
        conditioned = network_of(parts, wanted, settings)
        unconditioned = network_of(parts, parts.tokens([""]), settings)
        network = guided(conditioned, unconditioned, settings.guidance)
        with _precision(parts.device, settings.dtype):
            if mask is None:
                found = denoise(path[-1], network, parts.schedule, source.inverted.steps, progress=progress)
            else:
                keep = keep_outside(path, resize_mask(mask, *path[0].shape[2:]))
                found = denoise(path[-1], network, parts.schedule, source.inverted.steps, keep, progress)
        after = decode(found, parts)
    if mask is None:
        inside, outside = psnr_db(source.frames, after), None
    else:
        pixels = resize_mask(resize_mask(mask, *path[0].shape[2:]), *source.frames.shape[1:3])
        inside, outside = (psnr_db(source.frames, after, where) for where in (pixels, ~pixels))
    return EditedClip(after, source, inside, outside, flicker_ratio(source.frames, after))


def network_of(parts: Parts, tokens: Tensor, settings: EditSettings) -> Network:
    """Return the UNet under the same tokens (1, n_positions, width) for each frame."""

    def network(latents: Tensor, level: int) -> Tensor:
        at_once = settings.frames_at_once if settings.together == "none" else len(latents)
        found = [
            parts.unet(some, level, encoder_hidden_states=tokens.expand(len(some), -1, -1)).sample
            for some in torch.split(latents, at_once)
        ]
        return torch.cat(found)

    return network


def encode(frames: Frames, parts: Parts) -> Tensor:
    """Return the latents of frames, float32 (n_frames, channels, height, width): the modes, one frame at a time.

    Raises
    ------
    UsageError
        If a side is not a multiple of the autoencoder's factor.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or not len(frames) or any(s % parts.factor for s in frames.shape[1:3]):
        raise UsageError(
            "the frames do not have a shape that the model takes",
            wanted=f"(n_frames, height, width, 3), sides that are multiples of {parts.factor}",
            found=str(frames.shape),
            todo="correct editing.frames.side",
        )
    pixels = torch.from_numpy(frames).to(parts.device).permute(0, 3, 1, 2).float() / 127.5 - 1
    return torch.cat([parts.vae.encode(one).latent_dist.mode() * parts.scaling for one in torch.split(pixels, 1)])


def decode(latents: Tensor, parts: Parts) -> Frames:
    """Return the frames of latents, uint8 (n_frames, height, width, 3), decoded one at a time."""
    images = torch.cat([parts.vae.decode(one / parts.scaling).sample for one in torch.split(latents, 1)])
    pixels = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).cpu().numpy())


def _tokens(tokens: Tensor, parts: Parts) -> Tensor:
    wanted = (parts.n_positions, parts.width)
    if tuple(tokens.shape) != wanted:
        raise UsageError(
            f"the tokens do not fit the model {parts.name!r}",
            wanted=f"{wanted[0]} positions of {wanted[1]} features",
            found=str(tuple(tokens.shape)),
            todo="fit the projector with this model's text encoder",
        )
    return tokens.to(parts.device, torch.float32)[None]


@contextmanager
def _precision(device: str, dtype: str) -> Iterator[None]:
    if dtype == "float32":
        yield
        return
    with torch.autocast(torch.device(device).type, dtype=getattr(torch, dtype)):
        yield


def n_evaluations(settings: EditSettings, n_edits: int) -> int:
    """Return the largest number of evaluations of the UNet per frame for a clip with a number of edits."""
    n_steps = max(1, round(settings.depth * settings.steps))
    per_edit = 1 if settings.guidance == 1 else 2
    return n_steps * (settings.iterations + 1 + 1 + per_edit * n_edits)
