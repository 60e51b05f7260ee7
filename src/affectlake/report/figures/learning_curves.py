"""Figures of fits: loss and accuracy by epoch, and the embedding."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import polars as pl

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts, of_agent, of_fit
from affectlake.report.figures.agent_styles import style_of
from affectlake.report.figures.canvas import ACCENT, SOFT, Canvas, Drawn, chance_level, styled
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import counted, decimal, percent

LEVEL = 0.01  # as `affectlake.spose.chance.LEVEL`: the report does not import the fits


def learning_curves(inputs: ReportInputs, facts: AgentFacts, canvas: Canvas) -> Drawn:
    """Draw loss and validation accuracy by epoch for every fit; the representative fit has thick lines."""
    curves = _named(of_agent(inputs.learning_curves, facts.agent).sort("seed", "epoch"))
    if not len(curves):
        raise FigureError("this version has no learning curves of this agent, because no embedding was fitted")
    draw_curves(canvas, curves, facts.seed, facts.n_answers, style_of(inputs, facts.agent).colour)
    return Drawn(f"Loss and validation accuracy of {facts.agent} by epoch", _curves_caption(curves, facts), curves)


def draw_curves(canvas: Canvas, curves: pl.DataFrame, shown: int | None, n_answers: int, colour: str = ACCENT) -> None:
    """Draw the rows of ``learning_curves`` of one agent, with thick lines for the seed `shown`."""
    loss, accuracy = canvas.panels(2, width=10.0, height=3.0, grid="y")
    parts = [
        (loss, "train_loss", SOFT, "--", "training triplets"),
        (loss, "validation_loss", colour, "-", "validation triplets"),
        (accuracy, "validation_accuracy", colour, "-", "validation triplets"),
    ]
    for ax, column, own, dash, name in parts:
        for (seed,), rows in curves.drop_nulls(column).group_by("seed", maintain_order=True):
            mine = seed == shown
            ax.plot(
                rows["epoch"].to_numpy(), rows[column].to_numpy(), dash, color=own, lw=1.8 if mine else 0.7,
                alpha=1, zorder=3 if mine else 2, label=name if mine else None,
            )  # fmt: skip
    loss.set(ylabel="cross-entropy (nats)", ylim=(0, None))
    chance = 1 / n_answers
    lowest = min(float(curves["validation_accuracy"].min() or chance), chance)  # type: ignore[arg-type]
    accuracy.set(ylabel="validation accuracy", ylim=(np.floor(10 * lowest - 0.2) / 10, 1))
    chance_level(accuracy, n_answers)
    if loss.get_legend_handles_labels()[0]:  # empty if no fit represents the agent
        loss.legend()
    for ax in (loss, accuracy):
        ax.set(xlabel="epoch", xlim=(0, max(int(curves["epoch"].max() or 1), 1)))  # type: ignore[arg-type]
        ax.xaxis.get_major_locator().set_params(integer=True)


def _curves_caption(curves: pl.DataFrame, facts: AgentFacts) -> str:
    own = of_fit(curves, facts.seed)
    if not len(own):
        return f"Learning curves of {counted(facts.n_seeds, 'fit')}; no fit represents the agent."
    first, last = own.row(0, named=True), own.row(-1, named=True)
    best = own.row(int(own["validation_loss"].arg_min() or 0), named=True)
    seeds = "" if curves["seed"].n_unique() == 1 else f" (thick lines: seed {facts.seed}, thin lines: the others)"
    what = f"Learning curves of {counted(curves['seed'].n_unique(), 'fit')}{seeds}."
    lapse = best.get("lapse") or 0.0  # the column is missing in versions that are older than it
    by_chance = f" The fit estimates that {percent(lapse)} of the judgments were made by chance." if lapse else ""
    return (
        f"{what} In {counted(last['epoch'] - first['epoch'], 'epoch')} the loss on validation triplets goes "
        f"from {decimal(first['validation_loss'], 3)} to {decimal(last['validation_loss'], 3)} nats and the accuracy "
        f"from {percent(first['validation_accuracy'])} to {percent(last['validation_accuracy'])}. The loss is lowest "
        f"({decimal(best['validation_loss'], 3)}) after epoch {best['epoch']}. The fit ends with "
        f"{counted(last['n_dimensions'], 'dimension')}.{_state(own)}{by_chance}"
    )


def _state(own: pl.DataFrame) -> str:
    """Return what the learning curve of one fit says about convergence and chance; nothing if it is older than that."""
    if "kept" not in own.columns or not own["kept"].any():
        return ""
    level, n_dimensions = own.filter("kept").select("p_chance", "n_dimensions").row(0)
    if not n_dimensions:
        return " No dimension of the fit survived pruning."
    if level is not None and level > LEVEL:
        why = f"no better than chance on the validation triplets (p = {level:.2g}, level {LEVEL:g})"
        return f" The fit has learned nothing: it is {why}, and its dimensions are not published."
    checks = own.drop_nulls("converged")
    if not len(checks):
        return " Whether the fit has converged is not known: it ended before the first check."
    match = decimal(checks["match"][-1], 3)
    if checks["converged"][-1]:
        return f" The fit has converged: its dimensions match those of the check before with r = {match}."
    return (
        f" The fit has not converged: at its last check, after epoch {checks['epoch'][-1]}, the objective or the "
        f"dimensions (match with the check before: r = {match}) still changed."
    )


_OLDER = {"validation_loss": "test_loss", "validation_accuracy": "test_accuracy"}


def _named(curves: pl.DataFrame) -> pl.DataFrame:
    """Return the curves under the names of today: in older versions, the test triplets steered the fits."""
    columns = {new: [name for name in (new, old) if name in curves.columns] for new, old in _OLDER.items()}
    if not all(columns.values()):
        return curves.clear()
    named = curves.with_columns(**{new: pl.coalesce(names) for new, names in columns.items()})
    return named.drop(*_OLDER.values(), strict=False).drop_nulls(list(_OLDER))


def embedding(inputs: ReportInputs, facts: AgentFacts, canvas: Canvas) -> Drawn:
    """Draw the weight of each stimulus on each dimension, with stimuli ordered by their main dimension."""
    weights = of_fit(of_agent(inputs.embeddings, facts.agent), facts.seed)
    if not len(weights):
        raise FigureError("this version has no embedding of this agent")
    draw_embedding(canvas, weights)
    what = f"Weights of {counted(weights['stimulus_index'].n_unique(), 'stimulus', 'stimuli')} on "
    what += f"{counted(facts.n_dimensions, 'dimension')} of {facts.agent}"
    return Drawn(what, f"{what} (seed {facts.seed}); stimuli are ordered by their main dimension.", weights)


def draw_embedding(canvas: Canvas, weights: pl.DataFrame) -> None:
    """Draw the rows of ``embeddings`` of one fit; there must be at least one."""
    columns = weights.sort("dimension", "stimulus_index")
    dimensions = columns["dimension"].unique().sort().to_list()
    matrix = columns["weight"].to_numpy().reshape(len(dimensions), -1)  # (n_dimensions, n_stimuli)
    order = np.lexsort((-matrix.max(axis=0), matrix.argmax(axis=0)))
    (ax,) = canvas.panels(width=9.0, height=4.8)
    image = ax.imshow(matrix[:, order], aspect="auto", cmap="magma_r", vmin=0, interpolation="antialiased")
    ax.set(xlabel=f"{matrix.shape[1]:,} stimuli, ordered by their main dimension", ylabel="dimension", xticks=[])
    labelled = range(0, len(dimensions), max(1, len(dimensions) // 10))
    ax.set_yticks(labelled, [str(dimensions[at]) for at in labelled])
    canvas.figure.colorbar(image, ax=ax, label="weight", pad=0.01)


def embedding_png(weights: pl.DataFrame) -> bytes:
    """Return the figure of one fit's embedding as a PNG file, for the record of a model run.

    Parameters
    ----------
    weights : polars.DataFrame
        Rows of ``embeddings`` of the fit, at least one. The same rows in any order give the same bytes.
    """
    canvas, file = Canvas(), BytesIO()
    with styled():
        draw_embedding(canvas, weights)
    canvas.figure.savefig(file, format="png", dpi=150)
    return file.getvalue()
