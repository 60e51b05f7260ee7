"""Static figures of one fit as PNG bytes, for a model run's record. The report draws its own figures, as SVG."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK, _TEST, _TRAIN = "#30363d", "#1f5f8b", "#b4690e"


def learning_curve_figure(curve: pl.DataFrame) -> bytes:
    """Draw loss and held-out accuracy over the epochs of one fit.

    Parameters
    ----------
    curve : polars.DataFrame
        Rows of ``learning_curves`` of one agent and seed: ``epoch, train_loss, test_loss, test_accuracy``.

    Returns
    -------
    bytes
        A PNG file, 1350 × 540 pixels; the same bytes for the same rows.
    """
    rows = curve.sort("epoch")
    figure = _figure(9.0, 3.6)
    loss, accuracy = figure.subplots(1, 2)
    trained = rows.drop_nulls("train_loss")
    loss.plot(trained["epoch"].to_numpy(), trained["train_loss"].to_numpy(), color=_TRAIN, ls="--", label="training")
    loss.plot(rows["epoch"].to_numpy(), rows["test_loss"].to_numpy(), color=_TEST, label="held out")
    loss.set(ylabel="cross-entropy (nats)", ylim=(0, None))
    loss.legend(frameon=False)
    accuracy.plot(rows["epoch"].to_numpy(), rows["test_accuracy"].to_numpy(), color=_TEST)
    accuracy.axhline(1 / 3, color=_INK, lw=0.8, ls=":")
    accuracy.annotate("chance", (1, 1 / 3), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=_INK)
    accuracy.set(ylabel="held-out accuracy", ylim=(None, 1))
    for axes in (loss, accuracy):
        axes.set_xlabel("epoch")
        axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def embedding_figure(weights: pl.DataFrame) -> bytes:
    """Draw the embedding of one fit: dimensions by stimuli, each stimulus beside those with the same main dimension.

    Parameters
    ----------
    weights : polars.DataFrame
        Rows of ``embeddings`` of one agent and seed, at least one: ``dimension, stimulus_index, weight``.

    Returns
    -------
    bytes
        A PNG file, 1350 × 720 pixels; the same bytes for the same rows.
    """
    columns = weights.sort("dimension", "stimulus_index")
    dimensions = columns["dimension"].unique().sort().to_list()
    matrix = columns["weight"].to_numpy().reshape(len(dimensions), -1)  # (n_dimensions, n_stimuli)
    main = matrix.argmax(axis=0)
    order = np.lexsort((-matrix.max(axis=0), main))
    figure = _figure(9.0, 4.8)
    axes = figure.subplots()
    image = axes.imshow(matrix[:, order], aspect="auto", cmap="magma_r", vmin=0, interpolation="antialiased")
    axes.set(xlabel=f"{matrix.shape[1]:,} stimuli, by their main dimension", ylabel="dimension")
    labelled = range(0, len(dimensions), max(1, len(dimensions) // 10))
    axes.set_yticks(labelled, [str(dimensions[at]) for at in labelled])
    axes.set_xticks([])
    figure.colorbar(image, label="weight", pad=0.01)
    return _png(figure)


def _figure(width_inches: float, height_inches: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    file = BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
