"""What is known of one stimulus: captions, frames, ratings, and its place in the embeddings of agents."""

from __future__ import annotations

from io import BytesIO
from typing import NamedTuple

import numpy as np

from affectlake.errors import UsageError, VersionError
from affectlake.ui.opened import OpenVersion, Stimulus
from affectlake.ui.similarity import embedding, matrices

NEIGHBOURS = 8
DIMENSIONS = 8
"""Numbers of nearest stimuli and of largest weights that are shown."""

LISTED = 60
"""Number of stimuli on a page of the list."""

_THUMBNAIL_PIXELS = 220


class Rating(NamedTuple):
    """A rating of a stimulus: its name, its score, and the score's place on the scale, from 0 to 1."""

    rating: str
    score: float
    share: float


class Weight(NamedTuple):
    """The weight of a stimulus on a dimension: its number, its labels, the weight, and its share of the largest one."""

    dimension: int
    labels: str
    weight: float
    share: float


class Neighbour(NamedTuple):
    """A stimulus near another one in an embedding, and the correlation of their weights."""

    stimulus: Stimulus
    r: float


class Place(NamedTuple):
    """The place of a stimulus in an agent's embedding, or why it has none."""

    agent: str
    weights: list[Weight]
    neighbours: list[Neighbour]
    missing: str = ""


def captions_of(opened: OpenVersion, stimulus: Stimulus) -> list[str]:
    """Return the captions of a stimulus."""
    source = opened.select("captions", "stimulus_index", "caption_index", "caption")
    sql = f"SELECT caption FROM ({source}) WHERE stimulus_index = ? ORDER BY caption_index"
    return [text for (text,) in opened.rows(sql, [stimulus.index])]


def ratings_of(opened: OpenVersion, stimulus: Stimulus) -> dict[str, list[Rating]]:
    """Return the ratings of a stimulus by family, highest first."""
    ratings = opened.select("ratings", "stimulus_index", "rating", "family", "score")
    sql = f"""
        WITH every AS ({ratings}),
             scales AS (SELECT family, min(score) AS low, max(score) AS high FROM every GROUP BY 1)
        SELECT family, rating, score, coalesce((score - low) / nullif(high - low, 0), 0)
        FROM every JOIN scales USING (family) WHERE stimulus_index = ? ORDER BY family, score DESC, rating
    """
    found: dict[str, list[Rating]] = {}
    for family, rating, score, share in opened.rows(sql, [stimulus.index]):
        found.setdefault(family, []).append(Rating(rating, score, share))
    return found


def n_frames(opened: OpenVersion, stimulus: Stimulus) -> int:
    """Return the number of frames of a stimulus."""
    source = opened.select("frames", "stimulus_index")
    return int(opened.rows(f"SELECT count(*) FROM ({source}) WHERE stimulus_index = ?", [stimulus.index])[0][0])


def frame(opened: OpenVersion, stimulus: Stimulus, number: int | None = None) -> bytes:
    """Return a frame as JPEG: number `number` from 0, or a thumbnail of the middle one.

    Raises
    ------
    UsageError
        If there is no such frame, or it is not a picture.
    """
    source = opened.select("frames", "stimulus_index", "frame_index", "jpeg")
    wanted = "?" if number is not None else f"(SELECT count(*) // 2 FROM ({source}) WHERE stimulus_index = ?)"
    found = opened.rows(
        f"SELECT jpeg FROM ({source}) WHERE stimulus_index = ? ORDER BY frame_index LIMIT 1 OFFSET {wanted}",
        [stimulus.index, stimulus.index if number is None else number],
    )
    if not found:
        raise UsageError(f"{stimulus.id} has no such frame")
    return _as_jpeg(bytes(found[0][0]), _THUMBNAIL_PIXELS if number is None else None)


def _as_jpeg(content: bytes, most_pixels: int | None) -> bytes:
    """Return a picture again as JPEG, so that nothing else than a picture is sent under that name."""
    from PIL import Image

    try:
        image = Image.open(BytesIO(content), formats=("JPEG", "PNG", "WEBP"))
        if most_pixels:
            image.thumbnail((most_pixels, most_pixels))
        file = BytesIO()
        image.convert("RGB").save(file, "JPEG", quality=80)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError("the frame is not a picture", found=str(error)) from error
    return file.getvalue()


def places_of(opened: OpenVersion, stimulus: Stimulus) -> list[Place]:
    """Return the place of a stimulus in the embedding of every agent that has one."""
    return [_place(opened, stimulus, agent) for agent in opened.embedded]


def _place(opened: OpenVersion, stimulus: Stimulus, agent: str) -> Place:
    try:
        weights = embedding(opened, agent)
    except VersionError as error:
        return Place(agent, [], [], str(error))
    own = weights[stimulus.index]
    labels = opened.once(("labels", agent), lambda: _labels(opened, agent))
    largest = float(weights.max()) or 1.0
    top = [int(at) for at in np.argsort(-own, kind="stable")[:DIMENSIONS] if own[at] > 0]
    shown = [Weight(at + 1, labels.get(at + 1, ""), float(own[at]), float(own[at]) / largest) for at in top]
    try:
        row = matrices(opened, agent)[0].values[stimulus.index].copy()
    except VersionError as error:
        return Place(agent, shown, [], str(error))
    row[stimulus.index] = np.nan
    near = [int(at) for at in np.argsort(-np.nan_to_num(row, nan=-2.0), kind="stable")[:NEIGHBOURS]]
    known = {one.index: one for one in opened.stimuli}
    return Place(agent, shown, [Neighbour(known[at], float(row[at])) for at in near if np.isfinite(row[at])])


def _labels(opened: OpenVersion, agent: str) -> dict[int, str]:
    """Return the labels of the dimensions of an agent's representative fit."""
    labels = opened.select("labels", "agent", "seed", "dimension", "label_rank", "rating")
    fits = opened.select("fits", "agent", "seed", "representative")
    layouts = opened.select("layouts", "agent", "seed")
    sql = f"""
        WITH chosen AS (
            SELECT coalesce((SELECT min(seed) FROM ({fits}) WHERE agent = ? AND representative),
                            (SELECT min(seed) FROM ({layouts}) WHERE agent = ?)) AS seed)
        SELECT dimension, string_agg(rating, ', ' ORDER BY label_rank) FROM ({labels})
        WHERE agent = ? AND seed = (SELECT seed FROM chosen) AND label_rank <= 3 GROUP BY 1
    """
    return dict(opened.rows(sql, [agent] * 3))


class Listed(NamedTuple):
    """A page of the list of stimuli, the index after which the next page begins (None: no more), and their number."""

    stimuli: list[Stimulus]
    after: int | None
    n: int


def listed(opened: OpenVersion, words: str, after: int = -1) -> Listed:
    """Return the stimuli whose id, category or first caption contains `words`, page by page in order of index."""
    wanted = words.casefold().strip()
    found = [one for one in opened.stimuli if wanted in f"{one.id}\n{one.category}\n{one.caption}".casefold()]
    page = [one for one in found if one.index > after][: LISTED + 1]
    return Listed(page[:LISTED], page[LISTED - 1].index if len(page) > LISTED else None, len(found))
