"""Deterministic inversion of a diffusion model (DDIM) by fixed-point iterations, and the way back down.

Takes the network as a callable; imports torch and numpy alone. Latents are float32 on the way up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from affectlake.editing.schedule import Schedule, Step
from affectlake.errors import SourceError

Network = Callable[[Tensor, int], Tensor]
"""Takes latents (n_frames, channels, height, width) and a noise level, and returns the network's prediction."""

Keep = Callable[[Tensor, int], Tensor]
"""Takes latents after a step down and the number of steps that remain, and returns latents."""


@dataclass(frozen=True)
class Inverted:
    """Latents of a clip at each noise level.

    Parameters
    ----------
    path : list of Tensor
        From the clean latents to the noisiest, n_steps + 1 of them, each float32 (n_frames, channels, height, width).
    steps : list of Step
        The steps between them, the least noisy first.
    residual : float
        Largest residual of any step.
    n_calls : int
        Number of evaluations of the network.
    """

    path: list[Tensor]
    steps: list[Step]
    residual: float
    n_calls: int

    @property
    def noisy(self) -> Tensor:
        """The noisiest latents."""
        return self.path[-1]


def steps_up(schedule: Schedule, n_steps: int, depth: float) -> list[Step]:
    """Return the steps that are inverted: the lowest share `depth` of all, the least noisy first."""
    lowest = schedule.steps(n_steps)[::-1]
    return lowest[: max(1, round(depth * n_steps))]


def invert(
    latents: Tensor,
    network: Network,
    schedule: Schedule,
    steps: Sequence[Step],
    iterations: int = 5,
    tolerance: float = 1e-4,
    progress: Callable[[], None] = lambda: None,
) -> Inverted:
    """Find the noisy latents from which the steps down lead to the given latents.

    Parameters
    ----------
    latents : float32 (n_frames, channels, height, width)
        Clean latents, in the scale of the network.
    network : callable
        The network at guidance 1: at larger guidance the iterations may diverge.
    schedule : Schedule
        What the network predicts.
    steps : sequence of Step
        From :func:`steps_up`.
    iterations : int
        Largest number of fixed-point iterations of a step. 0 is plain DDIM inversion, as in the paper, whose noise is
        that of the lower latents; it is not the inverse of the way down.
    tolerance : float
        Iterations of a step end when its residual is below this value.
    progress : callable
        Called after each step.

    Raises
    ------
    SourceError
        If latents are not finite.

    Notes
    -----
    Let x be the latents below a step and y those above. The step down is x = down(y, e(y, t)), so that
    y = up(x, e(y, t)), which is iterated from y = x (Garibi et al. 2024, ReNoise; Pan et al. 2023,
    AIDI). The residual of a step is the change that its last iteration made, ‖up(x, e(y, t)) - y‖ / ‖y‖, the largest
    over frames.
    """
    path, worst, n_calls = [latents.float()], 0.0, 0
    for step in steps:
        below = path[-1]
        above = below
        residual = float("inf")
        for _ in range(iterations + 1):
            noise = schedule.noise(network(above, step.level), above, step)
            found = step.up(below, noise)
            n_calls += 1
            residual = relative_error(found, above)
            above = found
            if residual < tolerance:
                break
        if not bool(torch.isfinite(above).all()):
            raise SourceError(
                "the inversion of a clip did not converge",
                found=f"latents that are not finite at noise level {step.level}",
                todo="reduce editing.inversion.depth or raise editing.inversion.steps",
            )
        worst = max(worst, residual)
        path.append(above)
        progress()
    return Inverted(path, list(steps), worst, n_calls)


def denoise(
    latents: Tensor,
    network: Network,
    schedule: Schedule,
    steps: Sequence[Step],
    keep: Keep = lambda latents, _remaining: latents,
    progress: Callable[[], None] = lambda: None,
) -> Tensor:
    """Return the clean latents at the end of the steps down.

    Parameters
    ----------
    latents : float32 (n_frames, channels, height, width)
        Latents at the upper end of the last of `steps`.
    network : callable
        The network; with guidance, :func:`guided`.
    schedule : Schedule
        What the network predicts.
    steps : sequence of Step
        The steps, the least noisy first, as :func:`invert` took them.
    keep : callable
        Called after each step; :func:`affectlake.editing.masks.keep_outside` makes one.
    progress : callable
        Called after each step.
    """
    for remaining in reversed(range(len(steps))):
        step = steps[remaining]
        noise = schedule.noise(network(latents, step.level).float(), latents, step)
        latents = keep(step.down(latents, noise), remaining)
        progress()
    return latents


def guided(conditioned: Network, unconditioned: Network, guidance: float) -> Network:
    """Return the network with classifier-free guidance, u + w (c - u) (Ho and Salimans 2022); `conditioned` for 1."""
    if guidance == 1:
        return conditioned

    def network(latents: Tensor, level: int) -> Tensor:
        base = unconditioned(latents, level)
        return base + guidance * (conditioned(latents, level) - base)

    return network


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Return ‖found - wanted‖ / ‖wanted‖ of each frame, the largest over frames (first axis)."""
    difference = (found - wanted).flatten(1).double().norm(dim=1)
    return float((difference / wanted.flatten(1).double().norm(dim=1)).max())
