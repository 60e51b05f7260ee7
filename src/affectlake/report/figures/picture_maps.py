"""Frames with the maps of what in them drives a dimension, for each agent, and how alike the maps of agents are."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import combinations

import numpy as np
import polars as pl
from markupsafe import Markup
from numpy.typing import NDArray

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts, first_labels, of_agent, of_fit
from affectlake.report.figures.canvas import Drawn
from affectlake.report.figures.markup import element, joined
from affectlake.report.inputs import STRONGEST, ReportInputs
from affectlake.report.number_format import counted, decimal

Maps = NDArray[np.float64]

SIDE_PIXELS = 128
POSITIVE, NEGATIVE = (179, 38, 46), (31, 95, 139)
_OPAQUE = 0.78


def picture_maps(inputs: ReportInputs, agents: Sequence[AgentFacts]) -> tuple[Markup, Drawn]:
    """Show the strongest stimuli of each dimension with the map over them, and its held-out correlation beside it."""
    readouts, saliency = inputs.table("readouts"), inputs.table("saliency")
    if readouts is None:
        raise FigureError("this version has no readouts of dimensions: add the section attribution to params.yaml")
    shown = [one for one in agents if one.agent in set(readouts["agent"])]
    best = best_frames(inputs)
    blocks = [_of_agent(inputs, one, of_agent(readouts, one.agent), of_agent(best, one.agent)) for one in shown]
    alike = [] if saliency is None else agreement(saliency, [one.agent for one in shown])
    body = element("div", joined(blocks), _table(alike), class_="picture-maps")
    rows = readouts.select("agent", "dimension", "readout_r", "ci_low", "ci_high", "readout_fdr", "readable", "note")
    n_read = int(readouts["readable"].sum())
    caption = (
        f"{n_read} of {counted(len(readouts), 'dimension')} can be read from frames: the correlation r of their "
        f"weights with those predicted for held-out stimuli is above chance (false discovery rate 0.05 over the "
        f"dimensions of an agent; nominal 95 % intervals, which contain the truth in 83 to 97 % of "
        f"simulations). For each, the frames of its strongest stimuli from which the "
        f"largest values are read (beside them: the value). Red positions raise the value, blue ones lower it "
        f"(Grad-CAM, neither rectified nor scaled); all frames of a dimension have one colour scale. A map shows what "
        f"the vision model's readout of a dimension depends on, which need not be what the agent looked at."
    )
    return body, Drawn("What in the frames drives dimensions", caption, rows)


def best_frames(inputs: ReportInputs) -> pl.DataFrame:
    """Return the maps to show: of the strongest stimuli of each dimension, each with its frame of largest value.

    Parameters
    ----------
    inputs : ReportInputs
        Inputs; without maps, the result is empty.
    """
    saliency = inputs.table("saliency")
    if saliency is None:
        names = ("agent", "dimension", "stimulus_index", "frame_index", "frame_value", "saliency_map")
        return pl.DataFrame(schema=dict.fromkeys(names, pl.Null))
    keys = ["agent", "seed", "dimension", "stimulus_index"]
    own = saliency.filter(pl.col("chosen_by") != "stimulus").join(inputs.embeddings, on=keys)
    first = own.sort("frame_value", "frame_index", descending=[True, False]).unique(keys, keep="first")
    ranked = first.sort("agent", "dimension", "weight", "stimulus_index", descending=[False, False, True, False])
    return ranked.group_by("agent", "dimension", maintain_order=True).head(STRONGEST)


def agreement(saliency: pl.DataFrame, agents: Sequence[str]) -> list[dict[str, object]]:
    """Return how alike the maps of pairs of agents are: for the same frame, and for frames of other stimuli.

    For each stimulus of both agents, the map of an agent is that of the dimension with the largest value at the first
    frame with maps of both. r is the mean over stimuli of Pearson's r over positions.

    Parameters
    ----------
    saliency : polars.DataFrame
        The table ``saliency``.
    agents : sequence of str
        Names of agents.

    Returns
    -------
    list of dict
        ``agent, other, r, shuffled_r, n`` for each pair with at least two shared stimuli; `shuffled_r` is the mean over
        all pairs of different stimuli, which have in common where maps are large in any picture.
    """
    keys = ["stimulus_index", "frame_index"]
    top = {
        name: of_agent(saliency, name)
        .sort("frame_value", "dimension", descending=[True, False])
        .unique(keys, keep="first")
        for name in agents
    }
    found: list[dict[str, object]] = []
    for one, other in combinations(agents, 2):
        both = top[one].join(top[other], on=keys, suffix="_other").sort(keys).unique("stimulus_index", keep="first")
        both = both.sort("stimulus_index")
        if len(both) < 2:
            continue
        a, b = (_standardised(np.stack(both[column].to_list())) for column in ("saliency_map", "saliency_map_other"))
        r = a @ b.T
        n = len(r)
        shuffled = (r.sum() - np.trace(r)) / (n * (n - 1))
        found.append({"agent": one, "other": other, "r": np.trace(r) / n, "shuffled_r": shuffled, "n": n})
    return found


def _standardised(maps: NDArray[np.floating]) -> Maps:
    centred = np.asarray(maps, np.float64) - maps.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.where(length > 0, length, 1))


def _of_agent(inputs: ReportInputs, facts: AgentFacts, readouts: pl.DataFrame, best: pl.DataFrame) -> Markup:
    labels, ids = first_labels(inputs, facts), dict(inputs.stimuli.select("stimulus_index", "stimulus_id").iter_rows())
    cards, unread = [], []
    for row in of_fit(readouts, facts.seed).sort("dimension").iter_rows(named=True):
        name = f"{row['dimension']} {labels.get(row['dimension'], '')}".strip()
        if not row["readable"]:
            r = "" if row["readout_r"] is None else f" (r = {decimal(row['readout_r'])})"
            unread.append(element("li", f"{name}{r}: {row['note'] or 'not readable from frames'}"))
            continue
        own = best.filter(pl.col("dimension") == row["dimension"])
        interval = f"r = {decimal(row['readout_r'])} [{decimal(row['ci_low'])}, {decimal(row['ci_high'])}]"
        head = element("h5", element("span", name), Markup(" "), element("small", interval))
        cards.append(element("li", head, element("ol", *_frames(own, inputs.map_frames, ids), class_="strongest")))
    parts = [element("h4", facts.agent)]
    parts += (
        [element("ol", *cards, class_="gallery", tabindex="0", aria_label=f"Maps of {facts.agent}")] if cards else []
    )
    parts += [element("ul", *unread, class_="unread")] if unread else []
    return joined(parts)


def _frames(own: pl.DataFrame, frames: Mapping[tuple[int, int], bytes], ids: Mapping[int, str]) -> list[Markup]:
    """Return the frames of one dimension with their maps, in one colour scale."""
    if not len(own):
        return []
    most = max(float(np.abs(np.asarray(values)).max()) for values in own["saliency_map"])
    found = []
    for row in own.iter_rows(named=True):
        text = f"{ids.get(row['stimulus_index'], row['stimulus_index'])} · {decimal(row['frame_value'])}"
        picture = frames.get((row["stimulus_index"], row["frame_index"]))
        if picture is None:
            found.append(element("li", element("small", text)))
            continue
        grid = np.asarray(row["saliency_map"], np.float64).reshape(row["map_height"], row["map_width"])
        data = b64encode(overlaid(picture, grid, most)).decode()
        image = Markup('<img src="data:image/webp;base64,{}" alt="{}">').format(data, f"map over {text}")
        found.append(element("li", image, element("small", text)))
    return found


def overlaid(picture: bytes, values: Maps, most: float) -> bytes:
    """Return a frame with a map over it, as WEBP: grey, red where the map is positive, blue where it is negative.

    Parameters
    ----------
    picture : bytes
        The frame.
    values : float64 (h, w)
        The map.
    most : float
        Size of the map's values at which the colour is full.
    """
    from PIL import Image

    with Image.open(BytesIO(picture)) as image:
        grey = np.asarray(image.convert("L").resize((SIDE_PIXELS, SIDE_PIXELS)), np.float64)[..., None]
    share = Image.fromarray((values / (most or 1)).astype(np.float32)).resize(
        (SIDE_PIXELS, SIDE_PIXELS), Image.Resampling.BILINEAR
    )
    strength = np.clip(np.asarray(share, np.float64), -1, 1)[..., None]
    colour = np.where(strength > 0, POSITIVE, NEGATIVE)
    alpha = _OPAQUE * np.abs(strength)
    mixed = np.clip(grey * (1 - alpha) + colour * alpha, 0, 255).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(mixed).save(file, "WEBP", quality=55, method=6)
    return file.getvalue()


def _table(rows: Sequence[Mapping[str, object]]) -> Markup:
    if not rows:
        return Markup("")
    head = element(
        "tr", *(element("th", text, scope="col") for text in ("Agents", "Same stimulus, r", "Other stimuli, r", "n"))
    )
    body = [
        element(
            "tr",
            element("th", f"{row['agent']} and {row['other']}", scope="row"),
            element("td", decimal(float(str(row["r"]))), class_="num"),
            element("td", decimal(float(str(row["shuffled_r"]))), class_="num"),
            element("td", str(row["n"]), class_="num"),
        )
        for row in rows
    ]
    table = element("table", element("thead", head), element("tbody", *body))
    title = element("h4", "Do agents' strongest dimensions depend on the same places?")
    return joined([title, element("div", table, class_="scroll", role="region", tabindex="0", aria_label="Maps alike")])
