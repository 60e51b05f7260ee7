"""Figure of the brain maps of an agent's dimensions: a row for each subject, a column for each dimension."""

from __future__ import annotations

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts, first_labels
from affectlake.report.figures.brain_maps import VOXELS, which_voxels
from affectlake.report.figures.canvas import INK, SOFT, Canvas, Drawn
from affectlake.report.inputs import DimensionMaps, ReportInputs
from affectlake.report.number_format import counted, decimal, listed, shortened
from affectlake.report.volumes import Volume

EFFECTS = {"weights": "weights of encoding models", "patterns": "activation patterns"}
MOST_SUBJECTS = 10

_UNIT = "s.d. of the response\nper s.d. of the dimension"
_GREY = (221, 221, 221, 255)
_VIEWS = ((1, 2, "from the right"), (0, 1, "from above"))  # horizontal axis, vertical axis, name
_MEANING = {
    "weights": (
        "A weight is the change of the predicted response with the dimension while the others stay as they are, mean "
        "over folds; the penalty of the ridge regression makes it smaller. Dimensions that correlate share their "
        "weights, so that this is not the activity that accompanies a dimension: activation patterns show that "
        "(Haufe et al. 2014)."
    ),
    "patterns": (
        "A pattern is the covariance of the dimension with the predicted response: the activity that accompanies the "
        "dimension, whichever of the dimensions that correlate with it the voxel follows. Weights show the part of "
        "the dimension itself (Haufe et al. 2014)."
    ),
}


def dimension_weights(inputs: ReportInputs, facts: AgentFacts, canvas: Canvas, voxels: str = "significant") -> Drawn:
    """Draw the weights of the strongest dimensions in the encoding models, a row for each subject.

    The dimensions are those with the largest total weight over all stimuli, whatever their maps (Extended Data Fig. 8
    of Du et al. 2025).
    """
    return _drawn(inputs, facts, canvas, "weights", voxels)


def dimension_patterns(inputs: ReportInputs, facts: AgentFacts, canvas: Canvas, voxels: str = "significant") -> Drawn:
    """Draw the activity that accompanies the strongest dimensions by the encoding models, a row for each subject.

    The dimensions are those of `dimension_weights`; patterns are the covariances of Haufe et al. 2014.
    """
    return _drawn(inputs, facts, canvas, "patterns", voxels)


def _drawn(inputs: ReportInputs, facts: AgentFacts, canvas: Canvas, effect: str, voxels: str) -> Drawn:
    found = inputs.brain.dimensions.get(facts.agent) if inputs.brain else None
    if inputs.brain is None or found is None:
        raise FigureError("this version has no weights of encoding models of this agent")
    volumes = found.volumes[:MOST_SUBJECTS]
    maps = [[_map(one, effect, dimension, voxels) for dimension in found.dimensions] for one in volumes]
    scaled = _sizes(
        [[_map(one, effect, dimension, "significant") for dimension in found.dimensions] for one in volumes]
    )
    if not len(scaled):
        scaled = _sizes([[one.values[effect, str(dimension)] for dimension in found.dimensions] for one in volumes])
    if not len(scaled) or not scaled.max() > 0:
        raise FigureError("no voxel of this version has an encoding model of this agent")
    most = float(np.quantile(scaled, 0.99))  # of the significant voxels in both pictures, to compare their colours
    labels = first_labels(inputs, facts)
    names = [f"{one} {labels.get(one, '')}".strip() for one in found.dimensions]
    _pictures(canvas, volumes, maps, [shortened(name, 24) for name in names], most)
    return Drawn(
        f"Brain maps of dimensions of {facts.agent}, {EFFECTS[effect]}, {VOXELS[voxels]}",
        _caption(inputs, found, names, effect, voxels, most),
        found.rows.filter(effect=effect).drop("effect").rename({"value": effect.removesuffix("s")}),
    )


def _caption(
    inputs: ReportInputs, found: DimensionMaps, names: list[str], effect: str, voxels: str, most: float
) -> str:
    brain = inputs.brain
    assert brain is not None
    n, left = len(found.volumes), len(found.volumes) - MOST_SUBJECTS
    without = f" {counted(left, 'subject')} more are not shown." if left > 0 else ""
    block = found.volumes[0].block
    cells = "" if block == 1 else f" Each cell is the mean of {' × '.join([str(block)] * 3)} voxels."
    return (
        f"{EFFECTS[effect].capitalize()} of dimensions {listed(names)} in {counted(min(n, MOST_SUBJECTS), 'subject')}, "
        f"seen from the right and from above: the value that is farthest from 0 along each line of sight. Of "
        f"{counted(found.n_dimensions, 'dimension')}, these have the largest total weights over all stimuli; the "
        f"choice does not depend on the brain. Red is positive, blue negative; colours are saturated at "
        f"{decimal(most, 3)} s.d. of the response per s.d. of the dimension (99th percentile). "
        f"{which_voxels(brain, 'encoding', voxels)} {_MEANING[effect]}{cells}{without}"
    )


def _map(volume: Volume, effect: str, dimension: int, voxels: str) -> NDArray[np.float32]:
    key = effect, str(dimension)
    return volume.values[key] if voxels == "all" else volume.masked(*key)


def _sizes(maps: list[list[NDArray[np.float32]]]) -> NDArray[np.float32]:
    every = np.concatenate([values for row in maps for values in row])
    return np.asarray(np.abs(every[~np.isnan(every)]))


def _pictures(
    canvas: Canvas, volumes: tuple[Volume, ...], maps: list[list[NDArray[np.float32]]], names: list[str], most: float
) -> None:
    lengths = [max(volume.shape[axis] * volume.cell_mm[axis] for volume in volumes) for axis in range(3)]
    widths = [max(lengths[across], 0.25 * max(lengths)) for across, _, _ in _VIEWS]
    high = max(*(lengths[up] for _, up, _ in _VIEWS), 0.25 * max(lengths))
    wide = sum(widths) * len(names)
    width = min(10.8, 1.6 + 2.2 * len(names))
    inches = (width - 1.6) / wide
    axes = canvas.panels(
        len(maps) * len(names) * len(_VIEWS), columns=len(names) * len(_VIEWS), width=width,
        height=0.7 + len(maps) * (high * inches + 0.1), width_ratios=widths * len(names),
    )  # fmt: skip
    shades = ScalarMappable(Normalize(-most, most), "RdBu_r")
    panels = iter(axes)
    for volume, row in zip(volumes, maps, strict=True):
        for place, (name, values) in enumerate(zip(names, row, strict=True)):
            for at, (across, up, view) in enumerate(_VIEWS):
                ax = next(panels)
                picture = _coloured(*seen(volume, values, across, up), shades)
                size = volume.shape[across] * volume.cell_mm[across], volume.shape[up] * volume.cell_mm[up]
                extent = (0, size[0], 0, size[1])
                ax.imshow(picture, extent=extent)
                ax.set(xticks=[], yticks=[], xlim=_around(size[0], widths[at]), ylim=_around(size[1], high))
                ax.spines[:].set_visible(False)
                if volume is volumes[0]:
                    ax.set_title(f"{name}\n{view}" if not at else view, fontsize=8.5, weight="normal", color=SOFT)
            if not place:
                axes[volumes.index(volume) * len(names) * len(_VIEWS)].set_ylabel(
                    shortened(volume.subject, 14), rotation=0, ha="right", va="center", color=INK
                )
    canvas.figure.colorbar(shades, ax=axes, label=_UNIT, shrink=min(1.0, 1.8 / (len(maps) * high * inches)), pad=0.02,
                           aspect=14, extend="both").outline.set_visible(False)  # fmt: skip


def _coloured(inside: NDArray[np.bool_], picture: NDArray[np.float64], shades: ScalarMappable) -> NDArray[np.uint8]:
    """Return RGBA colours (rows, columns, 4): transparent outside the brain, grey without a value."""
    found = np.array(shades.to_rgba(picture, bytes=True), np.uint8)
    found[np.isnan(picture)] = _GREY
    found[~inside] = 0
    return found


def _around(length: float, frame: float) -> tuple[float, float]:
    """Return the limits of a frame with an image from 0 to `length` in its middle."""
    return (length - frame) / 2, (length + frame) / 2


def seen(
    volume: Volume, values: NDArray[np.float32], across: int, up: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return where a line of sight meets the brain, and the value farthest from 0 along it; NaN without a value.

    Both are arrays (rows from the top, columns from the left).
    """
    shape = volume.shape[up], volume.shape[across]
    where = np.ravel_multi_index((volume.shape[up] - 1 - volume.cells[:, up], volume.cells[:, across]), shape)
    inside = np.zeros(shape, bool)
    inside.flat[where] = True
    picture = np.full(shape, np.nan)
    order = np.argsort(np.nan_to_num(np.abs(values), nan=-1.0), kind="stable")  # the last one is kept
    known = order[~np.isnan(values[order])]
    picture.flat[where[known]] = values[known]
    return inside, picture
