"""The noise schedule of a diffusion model, and the deterministic move between two of its noise levels (DDIM).

A latent at noise level t is ``sqrt(a_t) x + sqrt(1 - a_t) e`` of a clean latent x and noise e, where a_t is the
cumulative product of ``1 - beta`` (Ho et al. 2020; DDIM: Song et al. 2021, equation 12 with eta 0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Prediction = Literal["epsilon", "v_prediction"]
"""What the network predicts: the noise, or the velocity ``sqrt(a_t) e - sqrt(1 - a_t) x`` (Salimans and Ho 2022)."""


@dataclass(frozen=True)
class Schedule:
    """Noise levels of a model.

    Parameters
    ----------
    alphas : float64 (n_levels,)
        Cumulative products a_t, decreasing, above 0.
    clean : float
        The product at the end of the last step: 1, or ``alphas[0]``.
    prediction : {"epsilon", "v_prediction"}
        What the network predicts.
    spacing : {"leading", "trailing", "linspace"}
        How the levels of a number of steps are chosen.
    offset : int
        Added to the levels of ``leading``.
    """

    alphas: NDArray[np.float64]
    clean: float = 1.0
    prediction: Prediction = "epsilon"
    spacing: str = "leading"
    offset: int = 0

    def steps(self, n_steps: int) -> list[Step]:
        """Return the steps from the noisiest level to the clean image.

        Raises
        ------
        UsageError
            If there are more steps than levels.
        """
        n_levels = len(self.alphas)
        if not 1 <= n_steps <= n_levels:
            raise UsageError(
                "the number of steps must be between 1 and the number of the model's noise levels",
                found=str(n_steps),
                allowed=f"1 to {n_levels}",
            )
        levels = [int(t) for t in self._levels(n_steps)]
        stride = n_levels // n_steps
        return [Step(t, float(self.alphas[t]), self._alpha(t - stride)) for t in levels]

    def _levels(self, n_steps: int) -> NDArray[np.int64]:
        n_levels = len(self.alphas)
        if self.spacing == "linspace":
            return np.linspace(0, n_levels - 1, n_steps).round()[::-1].astype(np.int64)
        if self.spacing == "trailing":
            return np.round(np.arange(n_levels, 0, -n_levels / n_steps)).astype(np.int64) - 1
        levels = np.arange(n_steps)[::-1] * (n_levels // n_steps) + self.offset
        return np.minimum(levels, n_levels - 1).astype(np.int64)

    def _alpha(self, level: int) -> float:
        return float(self.alphas[level]) if level >= 0 else self.clean

    def noise(self, predicted: Tensor, latents: Tensor, step: Step) -> Tensor:
        """Return the noise in `latents` at the upper level of a step, from the network's prediction."""
        if self.prediction == "epsilon":
            return predicted
        noise: Tensor = predicted * step.upper**0.5 + latents * (1 - step.upper) ** 0.5
        return noise


@dataclass(frozen=True)
class Step:
    """A step between two noise levels.

    Parameters
    ----------
    level : int
        The upper level, which is an input of the network.
    upper, lower : float
        a_t of the noisier and of the less noisy end.
    """

    level: int
    upper: float
    lower: float

    def down(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Move latents from the upper to the lower end, given their noise."""
        return _move(latents, noise, self.upper, self.lower)

    def up(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Move latents from the lower to the upper end, given their noise."""
        return _move(latents, noise, self.lower, self.upper)


def _move(latents: Tensor, noise: Tensor, start: float, end: float) -> Tensor:
    clean = (latents - (1 - start) ** 0.5 * noise) / start**0.5
    moved: Tensor = clean * end**0.5 + (1 - end) ** 0.5 * noise
    return moved


def schedule_of(config: Mapping[str, Any], name: str) -> Schedule:
    """Return the schedule that the configuration of a scheduler of diffusers describes.

    Parameters
    ----------
    config : mapping
        ``scheduler_config.json``. Keys of a class other than DDIMScheduler are read as DDIMScheduler reads them;
        samples are never clipped.
    name : str
        The model, for messages.

    Raises
    ------
    UsageError
        If its prediction type, betas or spacing are not supported.
    """
    wanted = {
        "prediction_type": (get_args(Prediction), "epsilon"),
        "beta_schedule": (("linear", "scaled_linear", "squaredcos_cap_v2"), "linear"),
        "timestep_spacing": (("leading", "trailing", "linspace"), "leading"),
        "rescale_betas_zero_snr": ((False,), False),
    }
    found = {key: config.get(key, default) for key, (_, default) in wanted.items()}
    for key, (allowed, _) in wanted.items():
        if found[key] not in allowed:
            raise UsageError(
                f"the scheduler of {name!r} is not supported",
                found=f"{key}: {found[key]}",
                allowed=", ".join(map(str, allowed)),
                todo="choose another model",
            )
    alphas = np.cumprod(1 - _betas(config, str(found["beta_schedule"])))
    return Schedule(
        alphas=alphas.astype(np.float64),
        clean=1.0 if config.get("set_alpha_to_one", True) else float(alphas[0]),
        prediction=found["prediction_type"],
        spacing=str(found["timestep_spacing"]),
        offset=int(config.get("steps_offset", 0)),
    )


def _betas(config: Mapping[str, Any], kind: str) -> NDArray[np.float64]:
    trained = config.get("trained_betas")
    if trained is not None:
        return np.asarray(trained, dtype=np.float64)
    n, start, end = (
        config.get("num_train_timesteps", 1000),
        config.get("beta_start", 1e-4),
        config.get("beta_end", 0.02),
    )
    if kind == "linear":
        return np.linspace(start, end, n)
    if kind == "scaled_linear":
        return np.linspace(start**0.5, end**0.5, n) ** 2
    at: NDArray[np.float64] = np.cos((np.arange(n + 1) / n + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.asarray(np.minimum(1 - at[1:] / at[:-1], 0.999))
