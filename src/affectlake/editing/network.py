"""The projector's multilayer perceptron (Du et al. 2025, 'Emotion projector training') and its training, in torch.

The paper says "a five-layer MLP with LayerNorm", Adam, a learning rate of 2e-4, batches of 128 and 600 epochs with 50
of warm-up. It states neither width, activation, place of LayerNorm nor the course of the learning rate, and it has no
videos that stop the training; those are named settings here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from affectlake.editing.losses import Targets, Temperature, Terms, composite
from affectlake.editing.settings import TrainingSettings
from affectlake.encoders.torch_models import one_thread_each


class Network(nn.Module):
    """The perceptron: `layers` linear layers from embedding to joint space, and a linear head to token components.

    Parameters
    ----------
    n_dimensions, n_joint : int
        Numbers of dimensions of the embedding and of the joint space.
    n_components : int
        Number of token components; 0: no head.
    layers, width : int
        See :class:`TrainingSettings`.
    """

    def __init__(self, n_dimensions: int, n_joint: int, n_components: int, layers: int = 5, width: int = 768) -> None:
        super().__init__()
        sizes = [n_dimensions, *[width] * (layers - 1), n_joint]
        parts: list[nn.Module] = []
        for index in range(layers):
            parts.append(_linear(sizes[index], sizes[index + 1]))
            if index < layers - 1:
                parts += [nn.LayerNorm(width), nn.GELU()]
        self.trunk = nn.Sequential(*parts)
        self.head = _linear(n_joint, n_components) if n_components else None

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the joint vectors (n, n_joint) and the token scores (n, k) of embeddings (n, n_dimensions)."""
        joint = self.trunk(embedding)
        return joint, None if self.head is None else self.head(joint)

    @torch.no_grad()
    def start(self, rng: np.random.Generator) -> None:
        """Draw the initial weights: uniform within ±1/√(number of inputs), torch's default for linear layers."""
        for part in self.modules():
            if isinstance(part, nn.Linear):
                bound = 1 / math.sqrt(part.in_features)
                for values in (part.weight, part.bias):
                    values.copy_(torch.from_numpy(rng.uniform(-bound, bound, tuple(values.shape)).astype(np.float32)))


def _linear(n_inputs: int, n_outputs: int) -> nn.Linear:
    """Return a linear layer whose weights are not drawn yet, so that torch's global generator is left alone."""
    made: nn.Linear = nn.utils.skip_init(nn.Linear, n_inputs, n_outputs)  # type: ignore[no-untyped-call]
    return made


class Epoch(NamedTuple):
    """One epoch: mean loss of its batches and its terms, and the loss on the stopping videos, as one batch."""

    epoch: int
    train_loss: float
    held_out_loss: float
    vision: float
    language: float
    joint_error: float
    token_error: float
    temperature: float


class Trained(NamedTuple):
    """A trained network: its weights, the course of the training, and the epoch whose weights are kept."""

    network: Network
    curve: list[Epoch]
    kept_epoch: int
    stopped: Literal["patience", "epochs", "diverged"]


def rate(step: int, per_epoch: int, settings: TrainingSettings) -> float:
    """Return the learning rate of an optimiser step, counted from 0, as a share of ``learning_rate``."""
    warmup, total = settings.warmup_epochs * per_epoch, settings.epochs * per_epoch
    if step < warmup:
        return (step + 1) / warmup
    if settings.schedule == "constant" or total <= warmup:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def train(
    embedding: NDArray[np.floating],
    targets: Targets,
    held_out: tuple[NDArray[np.floating], Targets],
    settings: TrainingSettings,
    rng: np.random.Generator,
    *,
    n_token_elements: int = 1,
    unexplained: float = 0.0,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
) -> Trained:
    """Train the perceptron.

    Parameters
    ----------
    embedding : float (n, n_dimensions)
        Embeddings of the training videos.
    targets : Targets
        Their targets.
    held_out : tuple
        Embeddings and targets of the stopping videos, which steer the training without being learned. They must be
        neither training videos nor those whose scores are reported.
    settings : TrainingSettings
        The settings.
    rng : numpy.random.Generator
        Source of the initial weights and of the order of the videos.
    n_token_elements, unexplained : int, float
        See :func:`affectlake.editing.losses.composite`.
    device : str
        Torch device.
    on_epoch : callable
        Called after each epoch.

    Returns
    -------
    Trained
        On the CPU, the same bytes for any number of threads on one machine: torch uses one.
    """
    with one_thread_each():
        return _train(embedding, targets, held_out, settings, rng, n_token_elements, unexplained, device, on_epoch)


def _train(
    embedding: NDArray[np.floating],
    targets: Targets,
    held_out: tuple[NDArray[np.floating], Targets],
    settings: TrainingSettings,
    rng: np.random.Generator,
    n_token_elements: int,
    unexplained: float,
    device: str,
    on_epoch: Callable[[Epoch], None],
) -> Trained:
    inputs, aims = _tensor(embedding, device), _to(targets, device)
    stop_inputs, stop_aims = _tensor(held_out[0], device), _to(held_out[1], device)
    n_components = 0 if aims.scores is None else aims.scores.shape[1]
    network = Network(inputs.shape[1], aims.language.shape[1], n_components, settings.layers, settings.width)
    network.start(rng)
    network.to(device)
    temperature = Temperature().to(device)
    every = [*network.parameters(), *temperature.parameters()]
    optimiser = torch.optim.AdamW(every, lr=settings.learning_rate, weight_decay=settings.weight_decay)

    def loss(x: Tensor, aim: Targets) -> Terms:
        joint, scores = network(x)
        return composite(
            joint, scores, aim, temperature(), contrastive=settings.contrastive, tokens=settings.tokens,
            directions=settings.directions, scaling=settings.scaling, n_token_elements=n_token_elements,
            unexplained=unexplained,
        )  # fmt: skip

    per_epoch = math.ceil(len(inputs) / settings.batch_size)
    curve: list[Epoch] = []
    kept, kept_epoch, lowest, step = _copy(network), 0, math.inf, 0
    stopped: Literal["patience", "epochs", "diverged"] = "epochs"
    for epoch in range(1, settings.epochs + 1):
        sums = torch.zeros(len(Terms._fields), device=device)
        for rows in np.array_split(rng.permutation(len(inputs)), per_epoch):
            optimiser.param_groups[0]["lr"] = settings.learning_rate * rate(step, per_epoch, settings)
            chosen = torch.from_numpy(rows).to(device)
            terms = loss(inputs[chosen], _rows(aims, chosen))
            optimiser.zero_grad()
            terms.total.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            temperature.clip()
            sums += torch.stack([term.detach() for term in terms])
            step += 1
        vision, language, joint_error, token_error, total = (sums / per_epoch).tolist()
        with torch.no_grad():
            outside = float(loss(stop_inputs, stop_aims).total)
            found = float(temperature())
        curve.append(Epoch(epoch, total, outside, vision, language, joint_error, token_error, found))
        on_epoch(curve[-1])
        if not math.isfinite(outside + total):
            stopped = "diverged"
            break
        if settings.patience is None or outside < lowest:
            kept, kept_epoch, lowest = _copy(network), epoch, outside
        elif epoch - kept_epoch >= settings.patience:
            stopped = "patience"
            break
    network.load_state_dict(kept)
    return Trained(network.cpu().eval(), curve, kept_epoch, stopped)


def _copy(network: Network) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _tensor(values: NDArray[np.floating], device: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(device)


def _to(targets: Targets, device: str) -> Targets:
    return Targets(*(None if one is None else one.to(device) for one in targets))  # type: ignore[arg-type]


def _rows(targets: Targets, rows: Tensor) -> Targets:
    return Targets(*(None if one is None else one[rows] for one in targets))  # type: ignore[arg-type]
