"""The gallery of components: a card with labels, strongest stimuli and caption words for each dimension."""

from __future__ import annotations

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup
from numpy.typing import NDArray

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts, first_labels, of_agent, of_fit, rows_of
from affectlake.report.figures.canvas import Drawn
from affectlake.report.figures.markup import element
from affectlake.report.inputs import STRONGEST, ReportInputs
from affectlake.report.number_format import counted, decimal, listed

WORDS, RATINGS, LEAST_LENGTH, LEAST_R = 12, 8, 3, 0.1
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_COMMON = (
    "the and with his her their she him they are was for from into onto out that this there then who while what when "
    "which has have had been being its it's over under down off one two some other another each at as by is in on of "
    "to an or up he not but very all can no them get gets got"
)


def gallery(inputs: ReportInputs, facts: AgentFacts) -> tuple[Markup, Drawn]:
    """List every dimension with its labels, its strongest stimuli and the words that distinguish their captions."""
    weights = of_fit(of_agent(inputs.embeddings, facts.agent), facts.seed)
    if not len(weights):
        raise FigureError("this version has no embedding of this agent")
    top = (
        weights.sort("dimension", "weight", "stimulus_index", descending=[False, True, False])
        .group_by("dimension", maintain_order=True)
        .head(STRONGEST)
        .join(inputs.stimuli.select("stimulus_index", "stimulus_id", "category"), on="stimulus_index", how="left")
    )
    if inputs.stimuli["category"].count():
        top = top.with_columns(pl.col("category").fill_null("no category"))
    captions = _captions(inputs)
    words = characteristic_words(weights, inputs.captions)
    own = rows_of(inputs, facts, "reproducibility", "pearson_r").drop_nulls("value")
    again = dict(own.select("dimension", "value").iter_rows())
    labels, rated = _labels(inputs, facts), label_words(facts)
    pictures = inputs.thumbnails
    cards = [
        _card(
            dimension,
            rows,
            labels.get(dimension, []),
            captions,
            pictures,
            words.get(dimension, []),
            rated.get(dimension, []),
            again.get(dimension),
        )
        for (dimension,), rows in top.group_by("dimension", maintain_order=True)
    ]
    first = [name for _, name in sorted(first_labels(inputs, facts).items())][:3]
    named = (
        f" The first labels are {listed(first)}." if first else " There are no labels, because there are no ratings."
    )
    caption = (
        f"A card for each of {counted(len(cards), 'dimension')}: up to three labels with their correlations with the "
        f"mean ratings, the {STRONGEST} stimuli with the largest weights, ratings that correlate with "
        f"|r| above {LEAST_R} (larger words: larger |r|), and the words of captions whose stimuli have larger "
        f"weights than all stimuli on average (larger words: larger difference).{named}"
    )
    body = element("ol", *cards, class_="gallery", tabindex="0", aria_label="Components")
    return body, Drawn(f"Components of {facts.agent}", caption, top)


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
    rated: list[tuple[str, float]],
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
            element("small", " · ".join(filter(None, (row["stimulus_id"], row["category"], decimal(row["weight"]))))),
        )
        for row in rows.iter_rows(named=True)
    ]
    clouds = [_cloud("labels", rated), _cloud("captions", words)]
    came = [] if again is None else [element("small", f"reproduced with r = {decimal(again)}", class_="again")]
    return element(
        "li",
        element("h4", element("span", str(dimension), class_="no"), *(named or [element("span", "no label")])),
        *came,
        element("ol", *stimuli, class_="strongest"),
        element("div", *filter(None, clouds), class_="clouds"),
        data_d=str(dimension),
        data_r=f"{strongest:.4f}",
        data_again=f"{again if again is not None else -1:.4f}",
        data_name=labels[0]["rating"] if labels else "~",
    )


def _cloud(name: str, words: list[tuple[str, float]]) -> Markup:
    """Return words in alphabetical order, larger for larger sizes from 0 to 1; empty without words."""
    if not words:
        return Markup("")
    each = [element("span", word, class_=f"w{round(9 * size)}") for word, size in sorted(words)]
    return element("p", element("small", name), Markup(" "), Markup(" ").join(each), class_=f"cloud {name}")


def label_words(facts: AgentFacts) -> dict[int, list[tuple[str, float]]]:
    """Return, for each dimension, the `RATINGS` strongest ratings with |r| above `LEAST_R`, with |r| as size.

    Names end in ``-low`` where r is negative.

    Parameters
    ----------
    facts : AgentFacts
        Its correlations may be None.
    """
    found = facts.correlations
    if found is None:
        return {}
    words: dict[int, list[tuple[str, float]]] = {}
    for dimension, r in zip(found.dimensions, found.r, strict=True):
        known = [(abs(float(r[at])), at) for at in range(len(r)) if abs(r[at]) > LEAST_R]
        best = sorted(known, key=lambda one: (-one[0], one[1]))[:RATINGS]
        words[dimension] = [(f"{found.ratings[at]}{'-low' if r[at] < 0 else ''}", size) for size, at in best]
    return words


def _shown(text: str, picture: bytes | None) -> Markup:
    """Return a stimulus's frame, or its caption if it has no frame."""
    if picture is None:
        return element("span", text)
    data = b64encode(picture).decode()
    return Markup('<img src="data:image/{};base64,{}" alt="{}">').format(_kind(picture), data, text)


def _kind(picture: bytes) -> str:
    return "webp" if picture[8:12] == b"WEBP" else "jpeg"


def characteristic_words(weights: pl.DataFrame, captions: pl.DataFrame) -> dict[int, list[tuple[str, float]]]:
    """Return, for each dimension, the words whose stimuli have large weights on it, with a size from 0 to 1.

    A word's score is the mean weight of the stimuli whose captions contain it, minus the mean over all stimuli, in
    standard errors: z = (w̄_word − w̄) / (s_w / √n_word). Words in fewer than `LEAST_LENGTH` stimuli are left out.

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
