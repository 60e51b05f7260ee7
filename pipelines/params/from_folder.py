"""A ``params.yaml`` for the files of a folder, with a comment for each guess."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from math import comb
from pathlib import Path

from affectlake.pipelines.params.names import NAME, suggestion
from affectlake.stimuli.guessing import GuessedRatings, Guesses

MOST_TRIPLETS = 8_000_000
_ENOUGH_FOR_EASY_TRIALS = 30
LIST = "stimuli.csv"
"""Name of the file of stimuli in the lake, if only media list them."""


def params_from(found: Guesses, lake: Path) -> str:
    """Return the text of a ``params.yaml``.

    Parameters
    ----------
    found : Guesses
        What the files of a folder seem to hold.
    lake : pathlib.Path
        Root of the lake, to which paths are relative.
    """
    lines = [
        *_head(found),
        *_sources(found, lake),
        "",
        *_triplets(len(found.ids), only_people=bool(found.judgments) and not _has_answers(found)),
        "",
        *_agents(found),
        "",
        *_rest(found),
    ]
    return "\n".join(lines) + "\n"


def summary_of(found: Guesses) -> Iterator[str]:
    """Yield what was found and guessed, one line for each."""
    where = found.stimuli.name if found.stimuli else f"the media of {found.media}"
    yield f"{len(found.ids):,} stimuli in {where}" + (f", column {found.id_column!r}" if found.id_column else "")
    if found.category_column:
        yield f"categories in column {found.category_column!r}"
    for one in found.ratings:
        what = f"ratings named in {one.name_column!r}" if one.name_column else f"{len(one.columns)} ratings"
        yield f"{what} in {one.file.name}, scores {one.range[0]:g} to {one.range[1]:g}"
    if found.captions:
        yield f"captions in {found.captions[0].name}, column {found.captions[2]!r}"
    if found.media:
        yield f"{', '.join(f'{n:,} {kind}' for kind, n in found.n_media.items())} in {found.media}"
    for path in found.judgments:
        yield f"{path.name} seems to have triplet judgments: affectlake import people {path} --lake LAKE"
    for path, reason in found.unknown:
        yield f"{path.name} is not used: {reason}"


def write_list(found: Guesses, lake: Path) -> None:
    """Write the file of stimuli of a study whose stimuli only media list."""
    import polars as pl

    pl.DataFrame({"stimulus": list(found.ids)}).write_csv(lake / LIST)


def _quoted(text: object) -> str:
    return json.dumps(str(text), ensure_ascii=False)


def _relative(path: Path, lake: Path) -> str:
    return _quoted(Path(os.path.relpath(path.resolve(), lake.resolve())).as_posix())


def _head(found: Guesses) -> Iterator[str]:
    name = suggestion(found.folder.resolve().name, NAME) or "study"
    yield f"# A study of the files in {found.folder.resolve().name}."
    yield "# Lines marked 'guessed' were guessed from the files: read and correct them. Every key is described in the"
    yield "# editor, by the schema that the first line names."
    yield f"study: {name}"
    yield "seed: 1                     # root seed of every random number"
    yield ""
    yield "wording:                    # words of the report"
    yield '  title: "How do the stimuli differ?"'
    yield '  question: "Which of three stimuli is the odd one out?"'
    yield ""


def _sources(found: Guesses, lake: Path) -> Iterator[str]:
    yield "shareable: true             # false: reports and archives leave out captions, ratings and media"
    yield ""
    yield "sources:"
    yield "  kind: tables              # paths are relative to the lake"
    if found.stimuli is None:
        yield f"  stimuli: {{file: {LIST}, id_column: stimulus}}    # the names of the media"
    else:
        category = f", category_column: {_quoted(found.category_column)}" if found.category_column else ""
        yield (
            f"  stimuli: {{file: {_relative(found.stimuli, lake)}, id_column: {_quoted(found.id_column)}{category}}}"
            f"   # guessed"
        )
    if found.ratings:
        yield "  ratings:"
        families: set[str] = set()
        for one in found.ratings:
            yield from _ratings(one, _family(one, families), lake)
    else:
        yield "  ratings: []               # no ratings were found; they give dimensions their labels"
    if found.captions:
        path, key, column = found.captions
        columns = f"id_column: {_quoted(key)}, caption_column: {_quoted(column)}"
        yield f"  captions: {{file: {_relative(path, lake)}, {columns}}}   # guessed"
    if found.media:
        n = ", ".join(f"{count:,} {kind}" for kind, count in found.n_media.items())
        yield f"  media: {_relative(found.media, lake)}   # {n}"
    for path, reason in found.unknown:
        yield f"  # {path.name} is not used: {reason}"


def _family(one: GuessedRatings, taken: set[str]) -> str:
    name = one.file.stem
    while name in (*taken, "concatenated", one.id_column, one.name_column, one.score_column):
        name += "-ratings"
    taken.add(name)
    return name


def _ratings(one: GuessedRatings, family: str, lake: Path) -> Iterator[str]:
    low, high = one.scale
    yield f"    - file: {_relative(one.file, lake)}"
    yield f"      id_column: {_quoted(one.id_column)}"
    yield f"      family: {_quoted(family)}"
    seen = f"{one.range[0]:g} to {one.range[1]:g}"
    yield f"      scale: [{low:g}, {high:g}]         # guessed: the scores are from {seen}"
    if low == -high:
        yield "      neutral: 0            # guessed: the scale is symmetric"
    else:
        middle = f"{(low + high) / 2:g}"
        yield f"      # neutral: {middle}          # if the scale is bipolar, such as unpleasant to pleasant"
    if one.name_column:
        yield f"      name_column: {_quoted(one.name_column)}     # guessed"
        yield f"      score_column: {_quoted(one.score_column)}   # guessed"
    else:
        yield f"      columns: [{', '.join(map(_quoted, one.columns))}]"
    if one.several:
        yield "      aggregate: mean       # guessed: several rows of a stimulus are several raters"


def _has_answers(found: Guesses) -> bool:
    """Return whether the files give agents that answer any triplet."""
    return bool(found.ratings or found.captions)


def _triplets(n: int, *, only_people: bool) -> Iterator[str]:
    dyads = 3 * comb(n, 2)
    if only_people:
        count, line = 0, "  n: 0                      # the triplets are those that people judged"
    elif n >= 11 and dyads <= MOST_TRIPLETS:
        count, line = dyads, f"  per_dyad: 3               # three triplets for each pair of stimuli: {dyads:,}"
    else:
        count = min(comb(n, 3), MOST_TRIPLETS)
        line = f"  n: {count:<22} # drawn at random from {comb(n, 3):,} triplets"
    test = round(count * 0.1)
    yield "triplets:"
    yield line
    yield "  test_fraction: 0.1        # share that no fit uses, and that scores them once"
    yield "  validation_fraction: 0.05 # share that steers the fits"
    yield "  prototypes_per_category: 2"
    yield f"  thirds_per_pair: {max(1, min(100, n // 8))}"
    yield f"  noise_ceiling: {min(2000, test // 2):<10} # triplets that are asked repeatedly"
    yield "  noise_ceiling_repeats: 20"


def _agents(found: Guesses) -> Iterator[str]:
    yield "agents:                     # l1: sparsity of the embedding; auto: chosen with held-out judgments"
    families: set[str] = set()
    for one in found.ratings:
        family = _family(one, families)
        name = suggestion(f"ratings-{family}", NAME)
        yield f"  {name}: {{kind: ratings, ratings: {_quoted(family)}, l1: auto}}"
    if found.captions:
        yield "  caption-tfidf: {kind: features, encoder: {name: tfidf-svd, n_components: auto}, l1: auto}"
    if found.judgments or not _has_answers(found):
        yield "  people: {kind: judgments, l1: auto}   # answers that people gave: affectlake import people FILE"
    yield "  # Models are added here: docs/collecting.md; people who are asked in a browser: docs/experiments.md"


def _rest(found: Guesses) -> Iterator[str]:
    n = len(found.ids)
    yield "spose:"
    yield f"  dimensions: {max(2, min(30, n // 3))}"
    yield "  pruning: max-weight       # keep the dimensions whose largest weight is above the threshold"
    yield "  threshold: 0.1"
    yield "  seeds: [0, 1]             # one fit for each seed"
    yield "  few: {learning_rate: 0.04, cycle_epochs: 20, init_stds: [0.01, 0.1]}   # docs/fits.md#initial-weights"
    yield ""
    yield "geometry:"
    yield f"  min_category_size: {min(10, max(2, n // 20))}"
    yield "  permutations: 1000"
    yield "  resamples: 1000"
    yield f"  perplexity: {max(2.0, min(30.0, (n - 1) // 3)):.1f}"
    yield "  edge_threshold: 0.2"
    yield "  absolute_edges: false"
    yield "  label_gap: 0.1"
    yield ""
    if found.ratings and n >= _ENOUGH_FOR_EASY_TRIALS:
        yield "easy_trials:                # asked of a chat agent first (docs/collecting.md#easy-trials)"
        yield "  n: 60"
        yield "  ratings: concatenated     # the ratings from which the odd one out of these trials is known"
        yield ""
    yield "sweeps:                     # fits that show where more dimensions or judgments stop helping; []: none"
    yield "  dimensions: []"
    yield "  n_judgments: 100000"
    yield "  judgments: []"
    yield "  replicates: 3"
    yield "  recovered_r: 0.8"
    yield "  share: 0.99"
    yield "  learning_rate: 0.04"
    yield "  max_epochs: 100"
    yield "  patience: 40"
    yield "  min_delta: 0.0001"
