"""The components one by one: labels, strongest stimuli, words of their captions; and rose diagrams of stimuli."""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup
from numpy.typing import NDArray

from affectlake.report.agent_summary import AgentFacts, of_agent, of_fit
from affectlake.report.figures.analyses import rows_of
from affectlake.report.figures.emotion_graph import first_labels
from affectlake.report.figures.svg import Figure, absent, drawing, element, number
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import counted, decimal, listed

TOP, WORDS, LEAST_LENGTH = 6, 14, 3
ROSES, LINE = 6, 14.0
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_COMMON = (
    "the and with his her their she him they are was for from into onto out that this there then who while what when "
    "which has have had been being its it's over under down off one two some other another each at as by is in on of "
    "to an or up he not but very all can no them get gets got"
)


def draw(inputs: ReportInputs, facts: AgentFacts) -> Figure:
    """List every dimension with its labels, its strongest stimuli and their words, or say why there are none."""
    weights = of_fit(of_agent(inputs.embeddings, facts.agent), facts.seed)
    if not len(weights):
        return absent("This version has no embedding of this agent.")
    top = (
        weights.sort("dimension", "weight", "stimulus_index", descending=[False, True, False])
        .group_by("dimension", maintain_order=True)
        .head(TOP)
        .join(inputs.stimuli.select("stimulus_index", "stimulus_id", "category"), on="stimulus_index", how="left")
    )
    captions = _captions(inputs)
    words = characteristic_words(weights, inputs.captions)
    own = rows_of(inputs, facts, "reproducibility", "pearson_r").drop_nulls("value")
    again = dict(own.select("dimension", "value").iter_rows())
    labels = _labels(inputs, facts)
    pictures = inputs.thumbnails
    cards = [
        _card(
            dimension,
            rows,
            labels.get(dimension, []),
            captions,
            pictures,
            words.get(dimension, []),
            again.get(dimension),
        )
        for (dimension,), rows in top.group_by("dimension", maintain_order=True)
    ]
    first = [name for _, name in sorted(first_labels(inputs, facts).items())][:3]
    named = f" The first are named {listed(first)}." if first else " None has a label: there are no ratings."
    caption = (
        f"{counted(len(cards), 'dimension')}, each with up to three labels (correlation with the mean ratings), the "
        f"{TOP} stimuli with the largest weights, and the words that are commoner in the captions of its stimuli than "
        f"in all captions.{named}"
    )
    return Figure(element("ol", *cards, class_="gallery", tabindex="0", aria_label="Components"), caption, rows=top)


def _labels(inputs: ReportInputs, facts: AgentFacts) -> dict[int, list[dict[str, Any]]]:
    rows = inputs.table("labels", facts.agent)
    found: dict[int, list[dict[str, Any]]] = {}
    if rows is not None:
        for row in of_fit(rows, facts.seed).sort("dimension", "label_rank").iter_rows(named=True):
            found.setdefault(row["dimension"], []).append(row)
    return found


def _captions(inputs: ReportInputs) -> dict[int, str]:
    first = inputs.captions.sort("stimulus_index", "caption_index").unique("stimulus_index", keep="first")
    return dict(first.select("stimulus_index", "caption").iter_rows())


def _card(
    dimension: int,
    rows: pl.DataFrame,
    labels: list[dict[str, Any]],
    captions: dict[int, str],
    pictures: Mapping[int, bytes],
    words: list[tuple[str, float]],
    again: float | None,
) -> Markup:
    strongest = abs(labels[0]["r"]) if labels else 0.0
    named = [
        element(
            "span", f"{row['rating']}{'-low' if row['direction'] == 'low' else ''} ", element("b", decimal(row["r"]))
        )
        for row in labels
    ]
    if labels and labels[0]["character"] == "uninterpretable":
        named.append(element("span", "(weak)"))
    stimuli = [
        element(
            "li",
            _shown(captions.get(row["stimulus_index"]) or row["stimulus_id"], pictures.get(row["stimulus_index"])),
            element("small", f"{row['stimulus_id']} · {row['category'] or 'no category'} · {decimal(row['weight'])}"),
        )
        for row in rows.iter_rows(named=True)
    ]
    cloud = [element("span", word, style=f"font-size:{number(0.8 + 0.75 * size)}rem") for word, size in sorted(words)]
    came = [] if again is None else [element("small", f"comes back with r = {decimal(again)}", class_="again")]
    return element(
        "li",
        element("h4", element("span", str(dimension), class_="no"), *(named or [element("span", "no label")])),
        *came,
        element("ol", *stimuli, class_="strongest"),
        *([element("p", Markup(" ").join(cloud), class_="cloud")] if cloud else []),
        data_d=str(dimension),
        data_r=f"{strongest:.4f}",
        data_again=f"{again if again is not None else -1:.4f}",
        data_name=labels[0]["rating"] if labels else "~",
    )


def _shown(text: str, picture: bytes | None) -> Markup:
    """Return a stimulus's frame, or its caption where it has none."""
    if picture is None:
        return element("span", text)
    data = b64encode(picture).decode()
    return Markup('<img src="data:image/jpeg;base64,{}" alt="{}" title="{}">').format(data, text, text)


def characteristic_words(weights: pl.DataFrame, captions: pl.DataFrame) -> dict[int, list[tuple[str, float]]]:
    """Return the words that a dimension's stimuli have more than the others, with a size from 0 to 1.

    A word's score is the mean weight of the stimuli whose captions have it, less the mean over all, in standard errors:
    z = (w̄_word − w̄) / (s_w / √n_word). Words in fewer than `LEAST_LENGTH` stimuli are left out.

    Parameters
    ----------
    weights : polars.DataFrame
        ``dimension, stimulus_index, weight`` of one fit.
    captions : polars.DataFrame
        ``stimulus_index, caption``; may be empty.
    """
    texts = captions.group_by("stimulus_index").agg(pl.col("caption").str.join(" ")).sort("stimulus_index")
    if not len(texts):
        return {}
    common = set(_COMMON.split())
    bags = [set(_WORD.findall(text.lower())) - common for text in texts["caption"]]
    counts = Counter(word for bag in bags for word in bag if len(word) >= LEAST_LENGTH)
    kept = sorted(word for word, n in counts.items() if n >= LEAST_LENGTH)
    if not kept:
        return {}
    column = {word: at for at, word in enumerate(kept)}
    has = np.zeros((len(bags), len(kept)), np.float32)  # (n_captioned, n_words)
    for row, bag in enumerate(bags):
        has[row, [column[word] for word in bag if word in column]] = 1
    own = weights.join(texts.select("stimulus_index"), on="stimulus_index", how="semi").sort(
        "dimension", "stimulus_index"
    )
    found = {}
    for (dimension,), rows in own.group_by("dimension", maintain_order=True):
        found[int(dimension)] = _words(rows["weight"].to_numpy().astype(np.float64), has, kept)
    return found


def _words(weight: NDArray[np.float64], has: NDArray[np.float32], kept: list[str]) -> list[tuple[str, float]]:
    spread = weight.std()
    if spread == 0:
        return []
    n = has.sum(axis=0)
    z = (weight @ has / n - weight.mean()) / (spread / np.sqrt(n))
    best = [at for at in np.argsort(-z, kind="stable")[:WORDS].tolist() if z[at] > 2]
    return [(kept[at], float(z[at] / z[best[0]])) for at in best]


def roses(inputs: ReportInputs, facts: AgentFacts) -> Figure:
    """Draw rose diagrams of a few stimuli: a petal for each dimension, its length the weight."""
    weights = of_fit(of_agent(inputs.embeddings, facts.agent), facts.seed)
    if not len(weights):
        return absent("This version has no embedding of this agent.")
    chosen = _examples(weights, inputs)
    if not chosen:
        return absent("This version has no catalogue of the stimuli of this agent's embedding.")
    names = first_labels(inputs, facts)
    shown = weights.filter(pl.col("stimulus_index").is_in([index for index, _ in chosen]))
    most = float(shown["weight"].to_numpy().max()) or 1.0
    captions = _captions(inputs)
    panels = [
        _rose(title, captions.get(index, ""), shown.filter(pl.col("stimulus_index") == index), most, names)
        for index, title in chosen
    ]
    n = [int((shown.filter(pl.col("stimulus_index") == index)["weight"] > 0.1 * most).sum()) for index, _ in chosen]
    caption = (
        f"Each petal is a dimension, its length the stimulus's weight; the three longest are named. Of these "
        f"{counted(len(chosen), 'stimulus', 'stimuli')} each has {min(n)} to {max(n)} of "
        f"{counted(weights['dimension'].n_unique(), 'dimension')} above a tenth of the scale ({decimal(most)})."
    )
    return Figure(element("div", *panels, class_="panels roses"), caption, rows=shown)


def _examples(weights: pl.DataFrame, inputs: ReportInputs) -> list[tuple[int, str]]:
    """Return the stimulus with the largest total weight of each of the largest categories."""
    total = weights.group_by("stimulus_index").agg(pl.col("weight").sum())
    stimuli = inputs.stimuli.join(total, on="stimulus_index").with_columns(pl.col("category").fill_null("no category"))
    ranked = stimuli.sort("weight", "stimulus_index", descending=[True, False])
    largest = stimuli.group_by("category").len().sort("len", "category", descending=[True, False])["category"][:ROSES]
    return [
        (int(own["stimulus_index"][0]), f"{category}, {own['stimulus_id'][0]}")
        for category in largest
        for own in [ranked.filter(pl.col("category") == category)]
    ]


def _rose(title: str, caption: str, rows: pl.DataFrame, most: float, names: dict[int, str]) -> Markup:
    size, radius = 300.0, 88.0
    centre = size / 2, 168.0
    own = rows.sort("dimension")
    step = 2 * math.pi / max(len(own), 1)
    longest = set(own.sort("weight", descending=True)["dimension"][:3])
    parts = [
        element("text", title, x=0.0, y=15, class_="title"),
        element("circle", cx=centre[0], cy=centre[1], r=radius, class_="ringed"),
    ]
    named: list[tuple[float, str]] = []  # angle and name of the longest petals
    for at, (dimension, weight) in enumerate(own.select("dimension", "weight").iter_rows()):
        reach = radius * min(weight / most, 1.0)
        start, end = at * step - math.pi / 2, (at + 0.86) * step - math.pi / 2
        corners = [(centre[0] + reach * math.cos(a), centre[1] + reach * math.sin(a)) for a in (start, end)]
        path = (
            f"M{number(centre[0])} {number(centre[1])}L{number(corners[0][0])} {number(corners[0][1])}"
            f"A{number(reach)} {number(reach)} 0 0 1 {number(corners[1][0])} {number(corners[1][1])}Z"
        )
        name = names.get(dimension, f"dimension {dimension}")
        told = element("title", f"{dimension}, {name}: {decimal(weight)}")
        if reach > 0.3:
            parts.append(element("path", told, d=path, class_="petal on" if dimension in longest else "petal"))
        if dimension in longest and weight > 0:
            named.append(((start + end) / 2, name))
    parts += _petal_names(centre, radius, named)
    told_of = f"{title}: {caption}" if caption else title
    return drawing(size, 300.0, f"Rose diagram of {told_of}", *parts, class_="chart rose")


def _petal_names(centre: tuple[float, float], radius: float, named: list[tuple[float, str]]) -> list[Markup]:
    """Write names at the rim, each moved up or down, away from the middle, until it covers none before it."""
    placed: list[tuple[float, float, float]] = []  # left, right, y
    parts = []
    for angle, name in named:
        across = math.cos(angle)
        x, y = centre[0] + (radius + 10) * across, centre[1] + (radius + 10) * math.sin(angle)
        anchor = "middle" if abs(across) < 0.3 else "start" if across > 0 else "end"
        room = len(name) * 7.0
        before, after = {"start": (0.0, room), "middle": (room / 2, room / 2), "end": (room, 0.0)}[anchor]
        x = min(max(x, before), 300 - after)
        left, right = x - before, x + after
        beside = [other for start, end, other in placed if left < end and start < right]
        while covered := [other for other in beside if abs(y - other) < LINE - 1e-6]:
            y = max(covered) + LINE if y > centre[1] else min(covered) - LINE
        placed.append((left, right, y))
        parts.append(element("text", name, x=x, y=y + 4, class_="tick", text_anchor=anchor))
    return parts
