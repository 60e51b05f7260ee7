"""Steps of attribution: features of the frames, linear readouts of dimensions from them, and maps over the frames."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.editing.localising import half_area, peak
from affectlake.editing.readout import LEVEL, Readout, read_out
from affectlake.encoders.layers import FeatureLayer, feature_layer
from affectlake.encoders.torch_models import one_thread_each
from affectlake.encoders.vision import FRAMES_AT_ONCE, VisionModel, frame_inputs, frame_means, load_vision_model
from affectlake.pipelines.params.attribution import Attribution
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import EVERY_KIND, OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.arrays import Embedding, representative
from affectlake.pipelines.steps.rows import Row, to_table
from affectlake.process.blas_threads import one_thread
from affectlake.seeds import generator

NO_FRAMES = "no stimulus has frames"
FEW = "too few stimuli have frames: {n}, and {least} are needed for {folds} folds"
CONSTANT = "all stimuli with frames have the same weight"
BY_CHANCE = "not readable from frames: held-out r is not above chance"

LEAST_PER_FOLD = 4
"""Number of stimuli per fold from which readouts are tested."""


class _Map(NamedTuple):
    """A stimulus and a dimension, from 0, that have maps, and why."""

    dimension: int
    stimulus: int
    chosen_by: str


@step(
    reads=("stimuli", "videos", "frames"),
    writes=("frame_features",),
    params=("attribution.encoder",),
    section="attribution",
    gpu=True,
    version=1,
)
def look(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Compute the mean features of the frames of each stimulus, from which dimensions are read."""
    settings = _settings(params)
    frames = _frames(tables)
    if not frames:
        context.log(NO_FRAMES)
        return {"frame_features": to_table("frame_features", [])}
    model = load_vision_model(settings.encoder, context.source_root, params.device)
    context.log(f"{settings.encoder.library} {settings.encoder.model}, weights {model.sha256[:16]}, on {params.device}")
    workers = context.workers if params.device == "cpu" else 1
    means = frame_means(
        list(frames.values()), model, workers, lambda n: context.progress(f"{n:,} of {len(frames):,} stimuli")
    )
    rows: list[Row] = [
        {"stimulus_index": index, "encoder_sha256": model.sha256, "feature_mean": mean.tolist()}
        for index, mean in zip(frames, means, strict=True)
    ]
    return {"frame_features": to_table("frame_features", rows)}


@step(
    reads=("stimuli", "frames", "frame_features", "embeddings/{agent}", "fits/{agent}"),
    writes=("readouts/{agent}", "saliency/{agent}"),
    params=("seed", "attribution"),
    section="attribution",
    kinds=EVERY_KIND,
    gpu=True,
    version=1,
)
def attribute(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Read each dimension from the frames, test this on held-out stimuli, and map what in the frames drives it."""
    settings, fitted = _settings(params), representative(tables)
    nothing = {"readouts": to_table("readouts", []), "saliency": to_table("saliency", [])}
    if fitted is None or not fitted[1].shape[1]:
        context.log("no dimensions")
        return nothing
    seed, embedding = fitted
    seen = tables["frame_features"].sort("stimulus_index").collect()
    indices = seen["stimulus_index"].to_numpy()
    least = settings.folds * LEAST_PER_FOLD
    if len(seen) < least:
        reason = FEW.format(n=len(seen), least=least, folds=settings.folds) if len(seen) else NO_FRAMES
        context.log(reason)
        rows: list[Row] = [
            {"agent": context.agent, "seed": seed, "dimension": at + 1, "readable": False, "n": len(seen),
             "note": reason}
            for at in range(embedding.shape[1])
        ]  # fmt: skip
        return nothing | {"readouts": to_table("readouts", rows)}
    features = np.stack(seen["feature_mean"].to_list()).astype(np.float64)
    with one_thread():
        found = read_out(
            features, embedding[indices], settings.penalties, settings.folds, settings.permutations,
            generator(params.seed, "attribution", context.agent),
            lambda n: context.progress(f"{n:,} of {settings.permutations:,} permutations"),
        )  # fmt: skip
    read = np.flatnonzero(found.is_read)
    context.log(f"{len(read)} of {embedding.shape[1]} dimensions can be read from frames")
    chosen = chosen_maps(embedding, indices, read, settings.stimuli_per_dimension, settings.dimensions_per_stimulus)
    layer, mapped = None, to_table("saliency", [])
    if chosen:
        model = load_vision_model(settings.encoder, context.source_root, params.device)
        layer = feature_layer(model, settings.layer)
        context.log(f"maps of {layer.height} x {layer.width} of the layer {layer.name}")
        mapped = _mapped(tables, params, context, found, chosen, model, layer, seed)
    sha256 = str(seen["encoder_sha256"][0])
    return {"readouts": _readouts(found, context.agent, seed, len(seen), layer, sha256), "saliency": mapped}


def chosen_maps(
    embedding: Embedding, stimuli: NDArray[np.integer], dimensions: NDArray[np.integer], per_dimension: int,
    per_stimulus: int,
) -> list[_Map]:  # fmt: skip
    """Return which stimuli and dimensions have maps, stimulus by stimulus; ties are for the smaller number.

    Parameters
    ----------
    embedding : float32 (n_stimuli, d)
        The weights.
    stimuli : int (n,)
        Stimuli with frames.
    dimensions : int
        Dimensions that can be read, from 0.
    per_dimension, per_stimulus : int
        Number of stimuli of each dimension, and of dimensions of each stimulus, with the largest weights above 0.
    """
    own = embedding[stimuli]
    reasons: dict[tuple[int, int], set[str]] = {}
    readable = {int(one) for one in dimensions}
    for dimension in sorted(readable):
        for at in np.argsort(-own[:, dimension], kind="stable")[:per_dimension]:
            if own[at, dimension] > 0:
                reasons.setdefault((int(stimuli[at]), dimension), set()).add("dimension")
    for at, index in enumerate(stimuli):
        for dimension in np.argsort(-own[at], kind="stable")[:per_stimulus]:
            if own[at, dimension] > 0 and int(dimension) in readable:
                reasons.setdefault((int(index), int(dimension)), set()).add("stimulus")
    return [
        _Map(dimension, stimulus, "both" if len(why) == 2 else next(iter(why)))
        for (stimulus, dimension), why in sorted(reasons.items())
    ]


def _settings(params: Params) -> Attribution:
    assert params.attribution is not None
    return params.attribution


def _frames(tables: Tables, stimuli: Sequence[int] | None = None) -> dict[int, list[bytes]]:
    """Return the JPEG frames of each stimulus that has any, in the order of the catalogue."""
    frames = tables["frames"].select("stimulus_index", "frame_index", "jpeg")
    if stimuli is not None:
        frames = frames.filter(pl.col("stimulus_index").is_in(list(stimuli)))
    rows = frames.sort("stimulus_index", "frame_index").collect()
    grouped = rows.group_by("stimulus_index", maintain_order=True).agg("jpeg")
    return dict(grouped.select("stimulus_index", "jpeg").iter_rows())


def _readouts(found: Readout, agent: str, seed: int, n: int, layer: FeatureLayer | None, sha256: str) -> pl.DataFrame:
    rows: list[Row] = []
    for at, is_read in enumerate(found.is_read):
        constant = bool(np.isnan(found.r[at]))
        note = CONSTANT if constant else None if is_read else f"{BY_CHANCE} (false discovery rate {LEVEL:g})"
        fitted: Row = {} if constant else {
            "readout_penalty": found.penalties[at],
            "readout_intercept": found.intercepts[at],
            "readout_weights": found.weights[at].tolist(),
        }  # fmt: skip
        rows.append({
            "agent": agent, "seed": seed, "dimension": at + 1, "readout_r": found.r[at], "ci_low": found.ci_low[at],
            "ci_high": found.ci_high[at], "p_value": found.p_value[at], "readout_fdr": found.p_fdr[at],
            "readable": bool(is_read), "n": n, "map_layer": layer.name if layer else None, "encoder_sha256": sha256,
            "note": note, **fitted,
        })  # fmt: skip
    return to_table("readouts", rows)


def _mapped(
    tables: Tables, params: Params, context: StepContext, found: Readout, chosen: list[_Map], model: VisionModel,
    layer: FeatureLayer, seed: int,
) -> pl.DataFrame:  # fmt: skip
    """Return the maps of the chosen stimuli and dimensions; one stimulus at a time in each thread."""
    import torch

    from affectlake.editing.saliency import gradient_maps, pooled_maps
    from affectlake.encoders.taps import Tap

    by_stimulus: dict[int, list[_Map]] = {}
    for one in chosen:
        by_stimulus.setdefault(one.stimulus, []).append(one)
    maps_of = pooled_maps if layer.is_pooled else gradient_maps

    def of_stimulus(index: int) -> list[Row]:
        jpegs, own = _frames(tables, [index])[index], by_stimulus[index]
        dimensions = [one.dimension for one in own]
        w, b = found.weights[dimensions], found.intercepts[dimensions]
        rows: list[Row] = []
        for start in range(0, len(jpegs), FRAMES_AT_ONCE):
            inputs = frame_inputs(jpegs[start : start + FRAMES_AT_ONCE], model)
            directions = torch.tensor(w, dtype=torch.float32, device=params.device)
            maps, features = maps_of(lambda x: tap(model.features, x), layer.grid, inputs, directions)
            values = features.cpu().numpy().astype(np.float64) @ w.T + b  # (n_frames, n_dimensions)
            for frame, of_frame in enumerate(maps.cpu().numpy().astype(np.float32)):
                for at, one in enumerate(own):
                    rows.append(_row(of_frame[at], one, start + frame, float(values[frame, at]), context.agent, seed))
        return rows

    rows: list[Row] = []
    workers = context.workers if params.device == "cpu" else 1
    with one_thread_each(), Tap(layer.module, layer.call) as tap, ThreadPoolExecutor(workers) as pool:
        for n, more in enumerate(pool.map(of_stimulus, by_stimulus), 1):
            rows += more
            context.progress(f"maps of {n:,} of {len(by_stimulus):,} stimuli")
    context.log(f"{len(rows):,} maps of {len(by_stimulus):,} stimuli")
    return to_table("saliency", rows)


def _row(values: NDArray[np.float32], one: _Map, frame: int, value: float, agent: str, seed: int) -> Row:
    x, y = peak(values)
    return {
        "agent": agent, "seed": seed, "dimension": one.dimension + 1, "stimulus_index": one.stimulus,
        "frame_index": frame, "chosen_by": one.chosen_by, "frame_value": value, "map_height": values.shape[0],
        "map_width": values.shape[1], "saliency_map": values.ravel().tolist(), "peak_x": x, "peak_y": y,
        "half_area": half_area(values),
    }  # fmt: skip
